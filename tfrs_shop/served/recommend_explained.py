"""Recommendations with a reason: "because you viewed X", for every product of the answer.

X is the product, or the search, of the history without which the chance of the answer's product would fall the most.
Each event is really left out, and the query tower reads the rest: that answers for all products at once, where the
integrated gradients of ``tfrs_shop.served.explain`` would take a pass for each. It is a signature of its own, as
TensorFlow Serving answers all outputs of a signature to everybody, and `recommend` must not pay for what few ask for.
"""

from typing import Any

import tensorflow as tf

from tfrs_shop.served.explain import PER_USER, after_the_towers, read_rows
from tfrs_shop.served.lookup import named
from tfrs_shop.served.product_filter import Limits
from tfrs_shop.served.question import LISTS, STRINGS, Requests, Samples
from tfrs_shop.served.shop import Answer, ServedShop
from tfrs_shop.served.tracing import Plain, traced
from tfrs_shop.table_rows import table_rows


class RecommendExplained(tf.Module):
    """What is likely to be next, and because of what in the history."""

    answers_for_ever = False

    def __init__(self, shop: ServedShop):
        super().__init__(name="recommend_explained")
        self.shop, self.once = shop, Plain(tf.function(self._answer, autograph=False))

    def signatures(self) -> dict[str, Any]:
        """Return the signatures ``recommend_explained`` and ``recommend_for_history_explained``."""
        history = named(LISTS, "history_product_id"), named(LISTS, "history_event_type")
        return {
            "recommend_explained": traced(self.recommend_explained, named(STRINGS, "user_id")),
            "recommend_for_history_explained": traced(self.recommend_for_history_explained, *history),
        }

    def requests(self, samples: Samples) -> Requests:
        """Yield a request for one user, and one for a history."""
        yield "recommend_explained", {"user_id": tf.constant(samples.users[:1])}
        yield "recommend_for_history_explained", samples.history

    def recommend_explained(self, user_id: tf.Tensor) -> Answer:
        """Answer as `Recommend.recommend` does, with reasons.

        Returns:
            As `Recommend.recommend`, and ``because_product_id``, ``because_title`` ``[batch, k]`` string: what the
            product is recommended for; it is the product itself where the user comes back to it. A reason that is a
            search has the product id "" and its query as the title; both are "" where nothing in the history speaks for
            the product, as for an unknown user.
        """
        rows, user = self.shop.stored(user_id)
        limits = self.shop.filter.no_limits(tf.shape(user)[0], self.shop.own_of_user(user))
        return self.once.value(read_rows(rows), limits)

    def recommend_for_history_explained(self, history_product_id: tf.Tensor, history_event_type: tf.Tensor) -> Answer:
        """Answer as `Recommend.recommend_for_history` does, with the reasons of `recommend_explained`."""
        rows, products, kinds = self.shop.fresh(history_product_id, history_event_type)
        limits = self.shop.filter.no_limits(tf.shape(products)[0], self.shop.own_of_history(products, kinds))
        return self.once.value(read_rows(rows), limits)

    def _answer(self, rows: dict[str, tf.Tensor], limits: Limits) -> Answer:
        shop = self.shop
        scores, products = shop.next_products(rows, limits)
        adds, habits = self._added(rows, products)
        history, kinds = rows["history_product"], rows["history_event_type"]
        # A product that is there several times is one reason.
        same = (history[:, :, None] == history[:, None]) & (history > 0)[:, None]
        same |= tf.eye(tf.shape(history)[1], dtype=tf.bool)
        adds = tf.matmul(adds, tf.cast(same, tf.float32))
        adds = tf.where((kinds > 0)[:, None], adds, 0.0)
        place = tf.argmax(adds, 2, tf.int32)
        shown = (tf.reduce_max(adds, 2) > 0.0) & (products > 0)
        because, searched = (
            tf.where(shown, tf.gather(rows[name], place, batch_dims=1), 0)
            for name in ("history_product", "history_query")
        )
        because = tf.where(habits > tf.maximum(tf.reduce_max(adds, 2), 0.0), products, because)
        return {
            **shop.answer(scores, products),
            "because_product_id": tf.gather(shop.product_ids, because),
            "because_title": shop.event_titles(because, searched),
        }

    def _added(self, rows: dict[str, tf.Tensor], products: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return how much of the log of each product's chance an event adds, ``[batch, k, events]``, and habits do."""
        shop = self.shop
        vectors, length = table_rows(shop.vectors, products), tf.shape(rows["history_product"])[1]
        query = shop.query(rows)
        scores = tf.einsum("bd,bkd->bk", query, vectors) / shop.retrieval.temperature
        rest = tf.reshape(shop.query(without_each(rows)), [-1, length, tf.shape(query)[1]])
        adds = scores[:, :, None] - tf.einsum("bld,bkd->bkl", rest, vectors) / shop.retrieval.temperature
        after = after_the_towers(shop, rows, products, scores)
        return adds + after.by_event, after.habits


def without_each(rows: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Return rows ``[batch * events, ...]``: each row as often as it has places, each time without one of them.

    What is left is left-padded again, as if the event had never been. `rows` are those of ``read_rows``.

    >>> rows = {"history_product": tf.constant([[4, 5, 6]]), "profile": tf.constant([[1]])}
    >>> without_each(rows)["history_product"].numpy().tolist()
    [[0, 5, 6], [0, 4, 6], [0, 4, 5]]
    """
    length = tf.shape(rows["history_product"])[1]
    place = tf.range(length)
    before = tf.where(place[None] <= place[:, None], place[None] - 1, place[None])

    def left_out(name: str, values: tf.Tensor) -> tf.Tensor:
        if name in PER_USER:
            return tf.repeat(values, length, 0)
        moved = tf.gather(values, tf.maximum(before, 0), axis=1)
        pad = tf.constant(-1 if name == "history_timestamp" else 0, values.dtype)
        return tf.reshape(tf.where(before[None] >= 0, moved, pad), [-1, length])

    return {name: left_out(name, values) for name, values in rows.items()}
