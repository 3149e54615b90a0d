"""Recommendations that are not all of a kind, by a method that the request names."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfrs_shop.served.diversity import (
    METHODS,
    category_quota,
    dpp,
    explore_sample,
    explore_walk,
    mmr,
    nearest,
)
from tfrs_shop.served.lookup import named
from tfrs_shop.served.product_filter import Limits
from tfrs_shop.served.question import LISTS, NUMBERS, STRINGS, Requests, Samples
from tfrs_shop.served.random_numbers import uniform, uniform_of_products
from tfrs_shop.served.random_walk import STEPS, WALKS, RandomWalk
from tfrs_shop.served.shop import Answer, ServedShop
from tfrs_shop.served.tracing import Plain, traced
from tfrs_shop.table_rows import table_rows

# Candidates that a list is made of; at least k.
POOL = 200
_USER = named(STRINGS, "user_id")
_HISTORY = (named(LISTS, "history_product_id"), named(LISTS, "history_event_type"))
_HOW = (
    named(STRINGS, "method"),
    named(NUMBERS, "strength"),
    named(tf.TensorSpec([None], tf.int64), "seed"),
)


class RecommendDiverse(tf.Module):
    """What is likely to be next, and of many kinds: the best candidates, of which a list is chosen as a whole."""

    answers_for_ever = False

    def __init__(self, shop: ServedShop):
        super().__init__(name="recommend_diverse")
        self.shop, self.once = shop, Plain(tf.function(self._places, autograph=False))
        retrieval = shop.retrieval
        self.pool = min(retrieval.most, max(POOL, retrieval.k))
        self.walk = RandomWalk(retrieval.transitions)

    def signatures(self) -> dict[str, Any]:
        """Return the signatures ``recommend_diverse`` and ``recommend_for_history_diverse``."""
        return {
            "recommend_diverse": traced(self.recommend_diverse, _USER, *_HOW),
            "recommend_for_history_diverse": traced(self.recommend_for_history_diverse, *_HISTORY, *_HOW),
        }

    def requests(self, samples: Samples) -> Requests:
        """Yield a request for one user by each method, and one after a history."""
        for method in METHODS:
            how = {
                "method": tf.constant([method]),
                "strength": tf.constant([0.5]),
                "seed": tf.constant([1], tf.int64),
            }
            yield "recommend_diverse", {"user_id": tf.constant(samples.users[:1]), **how}
        yield "recommend_for_history_diverse", {**samples.history, **how}

    def recommend_diverse(self, user_id: tf.Tensor, method: tf.Tensor, strength: tf.Tensor, seed: tf.Tensor) -> Answer:
        """Answer as `Recommend.recommend` does, with a list that is not all of a kind.

        Args:
            user_id: ``[batch]`` string.
            method: ``[batch]`` string, one of ``tfrs_shop.served.diversity.METHODS``.
            strength: ``[batch]`` float32, from 0, which answers as `Recommend.recommend` does, to 1.
            seed: ``[batch]`` int64, of the methods that draw: the same seed draws the same list.

        Returns:
            As `Recommend.recommend`; ``score`` is still each product's own chance, and need not fall.

        Raises:
            tf.errors.InvalidArgumentError: a method is unknown, or a strength is no number from 0 to 1.
        """
        rows, user = self.shop.stored(user_id)
        limits = self.shop.filter.no_limits(tf.shape(user)[0], self.shop.own_of_user(user))
        return self._answer(rows, limits, method, strength, seed)

    def recommend_for_history_diverse(
        self,
        history_product_id: tf.Tensor,
        history_event_type: tf.Tensor,
        method: tf.Tensor,
        strength: tf.Tensor,
        seed: tf.Tensor,
    ) -> Answer:
        """Answer as `Recommend.recommend_for_history` does, with the list of `recommend_diverse`."""
        rows, products, kinds = self.shop.fresh(history_product_id, history_event_type)
        limits = self.shop.filter.no_limits(tf.shape(products)[0], self.shop.own_of_history(products, kinds))
        return self._answer(rows, limits, method, strength, seed)

    def _answer(
        self, rows: dict[str, tf.Tensor], limits: Limits, method: tf.Tensor, strength: tf.Tensor, seed: tf.Tensor
    ) -> Answer:
        with tf.control_dependencies(checks(method, strength)):
            strength = tf.identity(strength)
        walks = (method == "explore_walk") & (strength > 0.0)
        history = rows["history_product"]

        def walked() -> tf.Tensor:
            numbers = uniform(seed, WALKS * (STEPS + 1))
            visited = self.walk.visited(history, tf.reshape(numbers, [-1, WALKS, STEPS + 1]))
            return tf.where(walks[:, None], visited, 0)

        # A row without a walk has no more candidates than `recommend` has.
        none = tf.zeros([tf.shape(history)[0], 0], tf.int32)
        visited = tf.cond(tf.reduce_any(walks), walked, lambda: none)
        scores, products = self.shop.next_products(rows, limits, count=self.pool, besides=visited)
        places = self.once.value(scores, products, history, visited, method, strength, seed)
        found, place = places >= 0, tf.maximum(places, 0)
        return self.shop.answer(
            tf.where(found, tf.gather(scores, place, batch_dims=1), 0.0),
            tf.where(found, tf.gather(products, place, batch_dims=1), 0),
        )

    def _places(
        self,
        scores: tf.Tensor,
        products: tf.Tensor,
        history: tf.Tensor,
        visited: tf.Tensor,
        method: tf.Tensor,
        strength: tf.Tensor,
        seed: tf.Tensor,
    ) -> tf.Tensor:
        """Return the places ``[batch, k]`` in ``products`` ``[batch, pool]``, each row by its own method."""
        k, shop = self.shop.retrieval.k, self.shop
        left = products > 0

        def of_texts(rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            vectors, past = self._likeness(tf.gather(products, rows)), tf.gather(history, rows)
            near = nearest(vectors, self._likeness(past), past > 0)
            return near, tf.matmul(vectors, vectors, transpose_b=True)

        def by_mmr(rows: tf.Tensor, strength: tf.Tensor, left: tf.Tensor) -> tf.Tensor:
            return mmr(tf.gather(scores, rows), *of_texts(rows), left, strength, k)

        def by_dpp(rows: tf.Tensor, strength: tf.Tensor, left: tf.Tensor) -> tf.Tensor:
            return dpp(tf.gather(scores, rows), *of_texts(rows), left, strength, k)

        def by_quota(rows: tf.Tensor, strength: tf.Tensor, left: tf.Tensor) -> tf.Tensor:
            return category_quota(tf.gather(shop.categories.number, tf.gather(products, rows)), left, strength, k)

        def by_walk(rows: tf.Tensor, strength: tf.Tensor, left: tf.Tensor) -> tf.Tensor:
            same = tf.gather(products, rows)[:, :, None] == tf.gather(visited, rows)[:, None]
            visits = tf.reduce_sum(tf.cast(same, tf.float32), 2)
            return explore_walk(tf.gather(scores, rows), visits, left, strength, k)

        def by_sample(rows: tf.Tensor, strength: tf.Tensor, left: tf.Tensor) -> tf.Tensor:
            ids, newest = shop.product_ids, tf.gather(history, rows)[:, -1]
            pool = tf.gather(ids, tf.gather(products, rows))
            numbers = uniform_of_products(tf.gather(seed, rows), tf.gather(ids, newest), pool)
            return explore_sample(tf.gather(scores, rows), numbers, left, strength, k)

        places = tf.zeros([tf.shape(products)[0], k], tf.int32)
        for name, by in zip(METHODS, (by_mmr, by_dpp, by_quota, by_walk, by_sample), strict=True):
            places = self._of_rows(tf.where(method == name)[:, 0], by, strength, left, places)
        return places

    def _of_rows(
        self,
        rows: tf.Tensor,
        by: Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor],
        strength: tf.Tensor,
        left: tf.Tensor,
        places: tf.Tensor,
    ) -> tf.Tensor:
        """Return `places` with those of ``rows``, if there are any, as `by` says."""

        def updated() -> tf.Tensor:
            own = by(rows, tf.gather(strength, rows), tf.gather(left, rows))
            return tf.tensor_scatter_nd_update(places, rows[:, None], own)

        return tf.cond(tf.size(rows) > 0, updated, lambda: places)

    def _likeness(self, products: tf.Tensor) -> tf.Tensor:
        """Return unit vectors ``[rows, pool, width]`` by which products are alike: of their texts, where there are any.

        Product vectors are alike where the same users are interested, which is what a list is relevant for. A product
        without a text is like the average one.
        """
        texts = self.shop.product_parts.features["text_vector"]
        if not texts.shape[1]:
            return tf.math.l2_normalize(table_rows(self.shop.vectors, products), 2)
        own = tf.gather(texts, products)
        squares = tf.reduce_sum(tf.square(own), 2, keepdims=True)
        average = tf.math.l2_normalize(self.shop.layers.query_tower.text_mean)
        return tf.where(squares > 0.0, own * tf.math.rsqrt(tf.maximum(squares, 1e-12)), average)


def checks(method: tf.Tensor, strength: tf.Tensor) -> list[tf.Operation]:
    """Return operations that refuse an unknown method, and a strength that is no number from 0 to 1."""
    known = tf.reduce_any(method[:, None] == tf.constant(METHODS)[None], 1)
    # NaN is in no range.
    in_range = (strength >= 0.0) & (strength <= 1.0)
    return [
        tf.debugging.Assert(
            tf.reduce_all(known), [f"method: is none of {', '.join(METHODS)}; it is", tf.boolean_mask(method, ~known)]
        ),
        tf.debugging.Assert(
            tf.reduce_all(in_range), ["strength: must be from 0 to 1; it is", tf.boolean_mask(strength, ~in_range)]
        ),
    ]
