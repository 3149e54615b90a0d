"""The readable profile: what a user's newest events are about, in names, prices and shares."""

from typing import Any

import numpy as np
import tensorflow as tf

from tfrs_shop.served.lookup import named
from tfrs_shop.served.product_groups import ProductGroups
from tfrs_shop.served.question import LISTS, STRINGS, Requests, Samples
from tfrs_shop.served.shop import Answer, ServedShop
from tfrs_shop.served.tracing import Plain, traced
from tfrs_shop.table_rows import table_rows

# Categories and brands that are named.
MOST = 5
# What an event counts beside the next newer one.
DECAY = 0.9
# The price band holds four fifths of the events' weight.
LOW, MEDIAN, HIGH = 0.1, 0.5, 0.9
NO_PRICE = -1.0


class UserProfile(tf.Module):
    """What is known of a user, for people: nothing here goes through the model.

    Args:
        shop: whose histories are read.
    """

    answers_for_ever = True

    def __init__(self, shop: ServedShop):
        super().__init__(name="user_profile")
        self.shop, self.once = shop, Plain(tf.function(self._profile, autograph=False))

    def signatures(self) -> dict[str, Any]:
        """Return the signatures ``user_profile`` and ``user_profile_for_history``."""
        history = named(LISTS, "history_product_id"), named(LISTS, "history_event_type")
        return {
            "user_profile": traced(self.user_profile, named(STRINGS, "user_id")),
            "user_profile_for_history": traced(self.user_profile_for_history, *history),
        }

    def requests(self, samples: Samples) -> Requests:
        """Yield a request for each of the users together, and one for a history."""
        yield "user_profile", {"user_id": tf.constant(samples.users)}
        yield "user_profile_for_history", samples.history

    def user_profile(self, user_id: tf.Tensor) -> Answer:
        """Return the profile of stored users ``[batch]`` string, from the events that the model reads.

        Returns:
            ``category``, ``brand`` ``[batch, 5]`` string, the heaviest first, "" for no more, and ``category_weight``,
            ``brand_weight`` float32, their shares of all events with one, newer events counting more;
            ``event_type`` ``[batch, types]`` string, ``event_count`` int32 and ``event_weight`` float32; ``price_low``,
            ``price_median``, ``price_high`` ``[batch]`` float32, between which four fifths of the weight are, -1 where
            no price is known; and ``summary`` ``[batch]`` string, all of it in words, "" where nothing is known.
        """
        rows = self.shop.stored(user_id)[0]
        return self.once.value(rows["history_product"], rows["history_event_type"])

    def user_profile_for_history(self, history_product_id: tf.Tensor, history_event_type: tf.Tensor) -> Answer:
        """Return the profile after fresh histories ``[batch, events]`` string; nothing stored is read."""
        rows = self.shop.fresh(history_product_id, history_event_type)[0]
        return self.once.value(rows["history_product"], rows["history_event_type"])

    def _profile(self, products: tf.Tensor, kinds: tf.Tensor) -> Answer:
        age = tf.cast(tf.range(tf.shape(kinds)[1])[::-1], tf.float32)
        weight = tf.where(kinds > 0, DECAY**age, 0.0)
        category, category_weight = heaviest(self.shop.categories, products, weight)
        brand, brand_weight = heaviest(self.shop.brands, products, weight)
        low, median, high = price_band(table_rows(self.shop.filter.price, products), weight)
        types = self.shop.event_type_names
        of_type = tf.cast(kinds[:, :, None] == tf.range(1, tf.size(types) + 1), tf.float32)
        count = tf.cast(tf.reduce_sum(of_type, 1), tf.int32)
        by_type = tf.reduce_sum(of_type * weight[..., None], 1)
        answer = {
            "category": category,
            "category_weight": category_weight,
            "brand": brand,
            "brand_weight": brand_weight,
            "event_type": tf.tile(types[None], [tf.shape(kinds)[0], 1]),
            "event_count": count,
            "event_weight": tf.math.divide_no_nan(by_type, tf.reduce_sum(by_type, 1, keepdims=True)),
            "price_low": low,
            "price_median": median,
            "price_high": high,
        }
        return {**answer, "summary": summary(answer)}


def heaviest(groups: ProductGroups, products: tf.Tensor, weight: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the names ``[rows, most]`` of the heaviest groups of ``products``, "" for no more, and their shares.

    Args:
        groups: of the products.
        products: ``[rows, events]`` int32.
        weight: ``[rows, events]`` float32.
    """
    number = tf.gather(groups.number, products)
    weight = tf.where(number > 0, weight, 0.0)
    same = number[:, :, None] == number[:, None]
    total = tf.reduce_sum(tf.where(same, weight[:, None], 0.0), 2)
    # Each group once: where it comes last, which is the newest event.
    events = tf.shape(number)[1]
    later = tf.linalg.band_part(same, 0, -1) & ~tf.eye(events, dtype=tf.bool)
    total = tf.where(tf.reduce_any(later, 2), 0.0, total)
    # A history may be shorter than what is shown of it.
    best, places = tf.math.top_k(tf.pad(total, [[0, 0], [0, MOST]]), MOST)
    number = tf.pad(number, [[0, 0], [0, MOST]])
    shown = tf.where(best > 0.0, tf.gather(number, places, batch_dims=1), 0)
    return tf.gather(groups.names, shown), tf.math.divide_no_nan(best, tf.reduce_sum(weight, 1, keepdims=True))


def price_band(price: tf.Tensor, weight: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Return the prices ``[rows]`` below which a tenth, a half and nine tenths of the weight are; -1: none is known.

    Args:
        price: ``[rows, events]`` float32, NaN where it is not known.
        weight: ``[rows, events]`` float32.
    """
    known = tf.math.is_finite(price) & (weight > 0.0)
    order = tf.argsort(tf.where(known, price, np.float32(np.inf)), 1)
    price = tf.gather(price, order, batch_dims=1)
    passed = tf.cumsum(tf.gather(tf.where(known, weight, 0.0), order, batch_dims=1), 1)
    total = passed[:, -1:]

    def at(share: float) -> tf.Tensor:
        place = tf.argmax(passed >= share * total, 1, tf.int32)
        return tf.where(total[:, 0] > 0.0, tf.gather(price, place, batch_dims=1), NO_PRICE)

    return at(LOW), at(MEDIAN), at(HIGH)


def summary(profile: Answer) -> tf.Tensor:
    """Return ``[batch]`` string: the numbers of a profile as a sentence, "" where nothing is known.

    "categories: Face 62%, Hair 38%; brands: Lia 100%; prices 5.99 to 23.00, in the middle 12.50; events: view 12".
    """
    low, median, high = (
        tf.strings.as_string(profile[f"price_{name}"], precision=2) for name in ("low", "median", "high")
    )
    prices = tf.strings.join(["prices ", low, " to ", high, ", in the middle ", median])
    count = profile["event_count"]
    parts = [
        _listed("categories: ", profile["category"], _percent(profile["category_weight"]), profile["category"] != ""),
        _listed("brands: ", profile["brand"], _percent(profile["brand_weight"]), profile["brand"] != ""),
        tf.where(profile["price_median"] == NO_PRICE, "", prices),
        _listed("events: ", profile["event_type"], tf.strings.as_string(count), count > 0),
    ]
    texts = tf.stack(parts, 1)
    filled = tf.where(texts != "", tf.strings.join([texts, "; "]), "")
    joined = tf.strings.reduce_join(filled, 1)
    return tf.strings.regex_replace(joined, "; $", "")


def _percent(share: tf.Tensor) -> tf.Tensor:
    return tf.strings.join([tf.strings.as_string(tf.cast(tf.round(100.0 * share), tf.int32)), "%"])


def _listed(title: str, names: tf.Tensor, numbers: tf.Tensor, shown: tf.Tensor) -> tf.Tensor:
    """Return ``[batch]`` string: ``title`` and the shown of "name number" ``[batch, some]``, or "" if none is."""
    entries = tf.where(shown, tf.strings.join([names, " ", numbers, ", "]), "")
    joined = tf.strings.regex_replace(tf.strings.reduce_join(entries, 1), ", $", "")
    return tf.where(joined != "", tf.strings.join([title, joined]), "")
