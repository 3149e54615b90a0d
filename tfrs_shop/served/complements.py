"""Complements: what goes with some products, such as those of a basket, of what is on sale now."""

from typing import Any

import tensorflow as tf

from tfrs_shop.edges import Edges, EdgeScorer
from tfrs_shop.served.lookup import named
from tfrs_shop.served.question import LISTS, Requests, Samples
from tfrs_shop.served.shop import Answer, ServedShop
from tfrs_shop.served.tracing import traced

# Candidates beyond k, for what is not on sale.
RESERVE = 100


class Complements(tf.Module):
    """What is bought together with some products.

    Args:
        shop: whose products they are.
        edges: of ``tfrs_shop.complements.complement_edges``.
    """

    answers_for_ever = False

    def __init__(self, shop: ServedShop, edges: Edges):
        super().__init__(name="complements")
        self.shop = shop
        self.graph = EdgeScorer(edges, events=0, decay=1.0)
        self.most = min(shop.retrieval.products, shop.retrieval.k + RESERVE)

    def signatures(self) -> dict[str, Any]:
        """Return the signature ``complements``."""
        return {"complements": traced(self.complements, named(LISTS, "product_id"))}

    def requests(self, samples: Samples) -> Requests:
        """Yield a request for one product and for a basket."""
        yield "complements", {"product_id": tf.constant([samples.products[:1]])}
        yield "complements", {"product_id": tf.constant([samples.products])}

    def complements(self, product_id: tf.Tensor) -> Answer:
        """Answer with what goes best with all of ``product_id`` ``[batch, products]``, padded with "".

        The score is the sum of the weights of the given products' edges; unknown products are passed over. Nothing is
        answered that goes with none of them.
        """
        given = self.shop.products_of(product_id)
        scores = self.graph.sums(given, self.shop.retrieval.products)
        values, products = tf.math.top_k(scores, self.most)
        limits = self.shop.filter.no_limits(tf.shape(given)[0], given)
        allowed = self.shop.filter.allowed(limits, products) & (values > 0.0)
        best, order = tf.math.top_k(tf.where(allowed, values, 0.0), self.shop.retrieval.k)
        found = tf.where(best > 0.0, tf.gather(products, order, batch_dims=1), 0)
        return self.shop.answer(best, found)
