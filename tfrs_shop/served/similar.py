"""Similar products: the nearest to one, of what is on sale at the time of the request."""

from typing import Any

import tensorflow as tf

from tfrs_shop.served.lookup import named
from tfrs_shop.served.question import STRINGS, Requests, Samples
from tfrs_shop.served.shop import Answer, ServedShop
from tfrs_shop.served.tracing import traced
from tfrs_shop.table_rows import table_rows


class Similar(tf.Module):
    """Which products are most like one."""

    answers_for_ever = False

    def __init__(self, shop: ServedShop):
        super().__init__(name="similar")
        self.shop = shop

    def signatures(self) -> dict[str, Any]:
        """Return the signature ``similar``."""
        return {"similar": traced(self.similar, named(STRINGS, "product_id"))}

    def requests(self, samples: Samples) -> Requests:
        """Yield a request for one product."""
        yield "similar", {"product_id": tf.constant(samples.products[:1])}

    def similar(self, product_id: tf.Tensor) -> Answer:
        """Answer with the products nearest to ``product_id`` ``[batch]``; an unknown one gets what is popular."""
        product = self.shop.products_of(product_id)
        query = tf.math.l2_normalize(table_rows(self.shop.vectors, product), 1)
        limits = self.shop.filter.no_limits(tf.shape(product)[0], product[:, None])
        return self.shop.answer(*self.shop.retrieval.similar(query, product > 0, limits))
