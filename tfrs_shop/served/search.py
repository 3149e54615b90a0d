"""Search: the products that fit a query, by words and by meaning; after a history in the order that it suggests."""

from typing import Any

import tensorflow as tf

from tfrs_shop.served.lexicon import QueryTerms
from tfrs_shop.served.lookup import named
from tfrs_shop.served.product_filter import clock
from tfrs_shop.served.question import LISTS, STRINGS, Requests, Samples
from tfrs_shop.served.retrieval import MOST_BIAS, added
from tfrs_shop.served.shop import Answer, ServedShop
from tfrs_shop.served.text_search import TextSearch
from tfrs_shop.served.tracing import Plain, traced
from tfrs_shop.table_rows import table_rows

# Products that a history may put into another order, and what one standard deviation of the model's opinion adds, or
# one unit of the log odds that a product of the history comes again.
REORDERED = 100
HISTORY_WEIGHT = 0.15


class Search(tf.Module):
    """Which products, of those on sale at the time of the request, a query asks for.

    Args:
        shop: the shop.
        text: its text search.
    """

    answers_for_ever = False

    def __init__(self, shop: ServedShop, text: TextSearch):
        super().__init__(name="search")
        self.shop, self.text = shop, text
        self.most = min(shop.retrieval.products, max(shop.retrieval.k, REORDERED))
        self.once = Plain(tf.function(self._searched, autograph=False))

    def signatures(self) -> dict[str, Any]:
        """Return the signatures ``search`` and ``search_for_history``."""
        query = named(STRINGS, "query")
        history = named(LISTS, "history_product_id"), named(LISTS, "history_event_type")
        return {
            "search": traced(self.search, query),
            "search_for_history": traced(self.search_for_history, query, *history),
        }

    def requests(self, samples: Samples) -> Requests:
        """Yield requests for a short query, one without words, and one after a history."""
        query = samples.query
        yield "search", {"query": tf.constant([query])}
        yield "search", {"query": tf.constant([query, b""])}
        yield "search_for_history", {"query": tf.constant([query]), **samples.history}

    def search(self, query: tf.Tensor) -> Answer:
        """Answer queries ``[batch]`` string, best first; where a query has no words nothing is answered.

        Returns:
            ``product_id``, ``title`` ``[batch, k]`` string and ``score`` ``[batch, k]`` float32: how well the product's
            words and meaning fit, to be compared within one answer only.
        """
        return self.with_terms(query)[0]

    def with_terms(self, query: tf.Tensor) -> tuple[Answer, QueryTerms]:
        """Return the answer of `search`, and what the catalogue knows of the words of the queries."""
        scores, products, terms = self.once.value(query)
        k = self.shop.retrieval.k
        return self.shop.answer(scores[:, :k], products[:, :k]), terms

    def search_for_history(
        self, query: tf.Tensor, history_product_id: tf.Tensor, history_event_type: tf.Tensor
    ) -> Answer:
        """Answer queries ``[batch]`` string as `search` does, in the order that a history suggests.

        Text relevance comes first: the best products for the query are put in order by their score, the model's opinion
        of them after the history ``[batch, events]`` (oldest first, padded with ""), and how much they are to the taste
        that it shows. Products of the history itself come later, or earlier, as the shop's events say that they come
        again. Without a known product in the history the answer is that of `search`.
        """
        shop = self.shop
        rows, _, _ = shop.fresh(history_product_id, history_event_type)
        scores, products, _ = self.once.value(query)
        logits = tf.einsum("bd,bnd->bn", shop.query(rows), table_rows(shop.vectors, products))
        found = tf.cast(products > 0, tf.float32)
        count = tf.maximum(tf.reduce_sum(found, 1, keepdims=True), 1.0)
        centred = (logits - tf.reduce_sum(logits * found, 1, keepdims=True) / count) * found
        deviation = tf.sqrt(tf.reduce_sum(tf.square(centred), 1, keepdims=True) / count)
        known = tf.cast(rows["history_event_type"][:, -1:] > 0, tf.float32)
        opinion = known * tf.math.divide_no_nan(centred, deviation) + self._again(rows, products)
        scores += HISTORY_WEIGHT * opinion + self.text.taste(products, rows["history_product"])
        scores, order = tf.math.top_k(tf.where(products > 0, scores, -1e9), shop.retrieval.k)
        products = tf.gather(products, order, batch_dims=1)
        return shop.answer(tf.where(products > 0, scores, 0.0), products)

    def _again(self, rows: dict[str, tf.Tensor], products: tf.Tensor) -> tf.Tensor:
        """Return ``[batch, products]`` float32: what the model has learnt to add to the products of the history."""
        layer, history = self.shop.layers.repeats, rows["history_product"]
        if layer is None:
            return tf.zeros_like(products, tf.float32)
        bias = layer(history, rows["history_event_type"])[:, -1] / self.shop.retrieval.temperature
        return added(products, history, tf.minimum(bias, MOST_BIAS))

    @tf.function(autograph=False, input_signature=[STRINGS])
    def ranking(self, query: tf.Tensor) -> tf.Tensor:
        """Return all products ``[batch, products]`` int32 in the order of `search`, 0 where there are no more.

        Those that are not on sale now are in it: what is measured must not change with the clock.
        """
        everything = tf.ones([1, self.shop.retrieval.products + 1], tf.bool)
        # Product 0 is none.
        everything &= tf.range(self.shop.retrieval.products + 1)[None] > 0
        return self.text.best(query, self.text.terms(query), everything, self.shop.retrieval.products)[1]

    def _searched(self, query: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, QueryTerms]:
        """Return scores and products ``[batch, most]``, best first, 0 and 0 for "no more", and the queries' terms."""
        terms = self.text.terms(query)
        everything = tf.range(self.shop.retrieval.products + 1)[None]
        on_sale = self.shop.filter.on_sale(clock()[None], everything)
        return *self.text.best(query, terms, on_sale, self.most), terms
