"""Ranking: candidates that the request names, in the order in which a user would want them."""

from typing import Any

import tensorflow as tf

from tfrs_shop.served.lookup import named
from tfrs_shop.served.product_filter import clock
from tfrs_shop.served.question import LISTS, STRINGS, Requests, Samples
from tfrs_shop.served.shop import Answer, ServedShop
from tfrs_shop.served.tracing import traced
from tfrs_shop.table_rows import table_rows


class Rank(tf.Module):
    """In which order a user would want some products."""

    answers_for_ever = False

    def __init__(self, shop: ServedShop):
        super().__init__(name="rank")
        self.shop = shop

    def signatures(self) -> dict[str, Any]:
        """Return the signature ``rank``."""
        return {"rank": traced(self.rank, named(STRINGS, "user_id"), named(LISTS, "candidate_product_id"))}

    def requests(self, samples: Samples) -> Requests:
        """Yield a request for one user."""
        candidates = tf.constant([samples.products])
        yield "rank", {"user_id": tf.constant(samples.users[:1]), "candidate_product_id": candidates}

    def rank(self, user_id: tf.Tensor, candidate_product_id: tf.Tensor) -> Answer:
        """Put candidates ``[batch, candidates]`` in the order of the chance that the user does anything with them.

        Unknown or empty candidates come last, with score 0; those that are not on sale too, and with "" as their id.
        Where the shop has ratings, ``rating`` ``[batch, candidates]`` float32 is the one the user is expected to give.
        """
        shop = self.shop
        products = shop.products_of(candidate_product_id)
        on_sale = shop.filter.on_sale(clock()[None], products)
        rows, _ = shop.stored(user_id)
        query = shop.query(rows)
        shape = tf.shape(products)
        queries = tf.repeat(query, shape[1], axis=0)
        logits = shop.layers.ranking_head(
            queries, tf.reshape(table_rows(shop.vectors, products), [shape[0] * shape[1], -1])
        )
        chance = tf.reshape(tf.reduce_max(tf.sigmoid(logits), 1), shape)
        scores, order = tf.math.top_k(tf.where(on_sale, chance, 0.0), k=shape[1])
        candidates = tf.where((products > 0) & ~on_sale, "", candidate_product_id)
        answer = {
            "product_id": tf.gather(candidates, order, batch_dims=1),
            "score": scores,
            "title": tf.gather(shop.titles, tf.gather(tf.where(on_sale, products, 0), order, batch_dims=1)),
        }
        if shop.layers.rating_head is not None:
            answer["rating"] = tf.gather(shop.ratings(rows, products), order, batch_dims=1)
        return answer
