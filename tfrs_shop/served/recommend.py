"""Recommendations: which products are next, for a stored user or after a history, as they are and filtered."""

from typing import Any

import numpy as np
import tensorflow as tf

from tfrs_shop.served.lookup import named
from tfrs_shop.served.product_filter import Limits, clock
from tfrs_shop.served.question import LISTS, NUMBERS, STRINGS, Requests, Samples
from tfrs_shop.served.shop import Answer, ServedShop
from tfrs_shop.served.tracing import traced

_USER = named(STRINGS, "user_id")
_HISTORY = (named(LISTS, "history_product_id"), named(LISTS, "history_event_type"))
_FILTER = (
    named(LISTS, "exclude_product_id"),
    named(STRINGS, "category"),
    named(NUMBERS, "price_min"),
    named(NUMBERS, "price_max"),
    named(tf.TensorSpec([None], tf.bool), "exclude_seen"),
    named(tf.TensorSpec([None], tf.int64), "now"),
)


class Recommend(tf.Module):
    """What is likely to be next, of what is on sale at the time of the request."""

    answers_for_ever = False

    def __init__(self, shop: ServedShop):
        super().__init__(name="recommend")
        self.shop = shop

    def signatures(self) -> dict[str, Any]:
        """Return the signatures ``recommend``, which is the default, and ``recommend_for_history``."""
        recommend = traced(self.recommend, _USER)
        for_history = traced(self.recommend_for_history, *_HISTORY)
        return {"serving_default": recommend, "recommend": recommend, "recommend_for_history": for_history}

    def requests(self, samples: Samples) -> Requests:
        """Yield requests for each user alone, for all together, and after a history."""
        for user in samples.users:
            yield "serving_default", {"user_id": tf.constant([user])}
        yield "serving_default", {"user_id": tf.constant(samples.users)}
        yield "recommend_for_history", samples.history

    def recommend(self, user_id: tf.Tensor) -> Answer:
        """Answer for stored users ``[batch]`` string; an unknown one gets what is popular, scored by share.

        Returns:
            ``product_id``, ``title`` ``[batch, k]`` string and ``score`` ``[batch, k]`` float32, best first: the
            chance that the product is the next one.
        """
        rows, user = self.shop.stored(user_id)
        limits = self.shop.filter.no_limits(tf.shape(user)[0], self.shop.own_of_user(user))
        return self.shop.answer(*self.shop.next_products(rows, limits))

    def recommend_for_history(self, history_product_id: tf.Tensor, history_event_type: tf.Tensor) -> Answer:
        """Answer for fresh histories ``[batch, events]`` string, oldest first, padded with ""; nothing stored is read.

        An event of an unknown product is passed over; an event type that training did not know is read
        as the most frequent one, but never as a purchase.
        """
        rows, products, kinds = self.shop.fresh(history_product_id, history_event_type)
        own = self.shop.own_of_history(products, kinds)
        limits = self.shop.filter.no_limits(tf.shape(products)[0], own)
        return self.shop.answer(*self.shop.next_products(rows, limits))


class RecommendFiltered(tf.Module):
    """What is likely to be next, of what a request allows; the request says what time it is."""

    answers_for_ever = True

    def __init__(self, shop: ServedShop):
        super().__init__(name="recommend_filtered")
        self.shop = shop

    def signatures(self) -> dict[str, Any]:
        """Return the signatures ``recommend_filtered`` and ``recommend_for_history_filtered``."""
        return {
            "recommend_filtered": traced(self.recommend_filtered, _USER, *_FILTER),
            "recommend_for_history_filtered": traced(self.recommend_for_history_filtered, *_HISTORY, *_FILTER),
        }

    def requests(self, samples: Samples) -> Requests:
        """Yield requests without limits, and for one category: few products are in it, so that all are scanned."""
        nothing = {
            "exclude_product_id": tf.constant([[b""]]),
            "category": tf.constant([b""]),
            "price_min": tf.constant([np.nan], tf.float32),
            "price_max": tf.constant([np.nan], tf.float32),
            "exclude_seen": tf.constant([False]),
            "now": tf.constant([samples.now], tf.int64),
        }
        for limits in (nothing, {**nothing, "category": tf.constant([samples.category])}):
            yield "recommend_filtered", {"user_id": tf.constant(samples.users[:1]), **limits}
            yield "recommend_for_history_filtered", {**samples.history, **limits}

    def recommend_filtered(
        self,
        user_id: tf.Tensor,
        exclude_product_id: tf.Tensor,
        category: tf.Tensor,
        price_min: tf.Tensor,
        price_max: tf.Tensor,
        exclude_seen: tf.Tensor,
        now: tf.Tensor,
    ) -> Answer:
        """Answer as `recommend` does, with what a request asks for.

        Args:
            user_id: ``[batch]`` string.
            exclude_product_id: ``[batch, products]`` string, padded with "".
            category: ``[batch]`` string, a category path or the start of one, "Makeup > Face"; "": any.
            price_min, price_max: ``[batch]`` float32, both inclusive; NaN or negative: no bound. A product without a
                price is in no range.
            exclude_seen: ``[batch]`` bool, leave out all products of the user's events, not only bought ones.
            now: ``[batch]`` int64, milliseconds since 1970, of which a product must be on sale; 0: now.
        """
        rows, user = self.shop.stored(user_id)
        seen = self.shop.users.seen.rows(user)
        limits = self._limits(self.shop.own_of_user(user), exclude_product_id, category, price_min, price_max, now)
        return self.shop.answer(*self.shop.next_products(rows, _and_excluded(limits, seen, exclude_seen)))

    def recommend_for_history_filtered(
        self,
        history_product_id: tf.Tensor,
        history_event_type: tf.Tensor,
        exclude_product_id: tf.Tensor,
        category: tf.Tensor,
        price_min: tf.Tensor,
        price_max: tf.Tensor,
        exclude_seen: tf.Tensor,
        now: tf.Tensor,
    ) -> Answer:
        """Answer as `recommend_for_history` does, with the filter of `recommend_filtered`."""
        rows, products, kinds = self.shop.fresh(history_product_id, history_event_type)
        own = self.shop.own_of_history(products, kinds)
        limits = self._limits(own, exclude_product_id, category, price_min, price_max, now)
        return self.shop.answer(*self.shop.next_products(rows, _and_excluded(limits, products, exclude_seen)))

    def _limits(
        self,
        own: tf.Tensor,
        exclude_product_id: tf.Tensor,
        category: tf.Tensor,
        price_min: tf.Tensor,
        price_max: tf.Tensor,
        now: tf.Tensor,
    ) -> Limits:
        return Limits(
            excluded=tf.concat([own, self.shop.products_of(exclude_product_id)], 1),
            category=self.shop.filter.category_of(category),
            price_min=price_min,
            price_max=price_max,
            now=tf.where(now > 0, now, clock()),
        )


def _and_excluded(limits: Limits, products: tf.Tensor, wanted: tf.Tensor) -> Limits:
    """Return `limits` that exclude ``products`` ``[batch, products]`` too, in the rows where ``wanted`` ``[batch]``."""
    return limits._replace(excluded=tf.concat([limits.excluded, tf.where(wanted[:, None], products, 0)], 1))
