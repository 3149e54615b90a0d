"""The users that a bundle knows: their histories, what they bought and saw, and their attributes, in graph."""

from collections.abc import Iterator
from itertools import compress
from typing import Any

import numpy as np
import tensorflow as tf

from tfrs_shop.dataset import ShopData
from tfrs_shop.habits import prior, usual
from tfrs_shop.schema import BOUGHT
from tfrs_shop.served.lookup import LineTable, Lists

EVENT_COLUMNS = ("product_id", "event_type", "query", "timestamp", "rating")


class StoredUsers(tf.Module):
    """Finds a user's history by the user's id. Number 0 is an unknown user, of whom nothing is known.

    Args:
        data: whose users they are.
        length: the most events of a history that the query tower reads.
        user_ids: the file of their ids in the order of ``data.users()``, one a line.
        habits: whether their habits are read.
    """

    def __init__(self, data: ShopData, length: int, user_ids: str, habits: bool):
        super().__init__(name="users")
        self.length = length
        self.table = LineTable(user_ids)
        users = data.users()
        rows = list(_user_rows(users, data))
        self.known = len(rows)
        self.longest_bought, self.longest_seen = (
            max([0, *(len(row[name]) for row in rows)]) for name in ("bought", "seen")
        )

        def lists(name: str, most: int = 0, dtype: type[np.generic] = np.int32) -> Lists:
            return Lists([[], *(row[name][-most:] for row in rows)], dtype)

        self.products, self.types, self.queries = (lists(name, length) for name in ("products", "types", "queries"))
        self.times, self.ratings = lists("times", length, np.int64), lists("ratings", length, np.float32)
        self.bought, self.seen = lists("bought"), lists("seen")
        self.habits = habits
        if habits:
            self.habit_prior = tf.constant(prior(data.catalogue.train_count))
            self.usual_products, self.usual_weights = lists("usual_products"), lists("usual_weights", dtype=np.float32)
        self.attributes = max(1, len(data.profile))
        profiles = data.profile_codes(users) if rows else tf.zeros([0, self.attributes], tf.int32)
        self.profiles = tf.Variable(tf.pad(profiles, [[1, 0], [0, 0]]), trainable=False)

    def lookup(self, user_id: tf.Tensor) -> tf.Tensor:
        """Return the numbers ``[batch]`` int64 of users ``[batch]`` string."""
        # The file of a shop without users has one blank line, which is no user: an empty one would be refused.
        return tf.minimum(self.table.lookup(user_id), self.known)

    def rows(self, user: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return what the model reads of users ``[batch]``, as ``ShopData.evaluation_batches`` gives it.

        What is stored was another session: a user who comes back begins one, and habits count.
        """
        rows = {
            "history_product": self.products.newest(user, self.length, 0),
            "history_event_type": self.types.newest(user, self.length, 0),
            "history_query": self.queries.newest(user, self.length, 0),
            "history_timestamp": self.times.newest(user, self.length, -1),
            "history_rating": self.ratings.newest(user, self.length, float("nan")),
            "profile": tf.gather(self.profiles, user),
        }
        if self.habits:
            found = usual(self.usual_products.rows(user), self.usual_weights.rows(user), self.habit_prior)
            rows |= {"usual_product": found.product, "usual_share": found.share}
        return rows


def bought_types(data: ShopData) -> list[int]:
    """Return the indices of the event types after which a product is the user's already."""
    return [index for index, value in enumerate(data.values["event_type"], 1) if value.decode() in BOUGHT]


def _user_rows(users: dict[str, Any], data: ShopData) -> Iterator[dict[str, list[Any]]]:
    """Yield each user's history, oldest first, and the distinct products bought and seen, newest first."""
    products, kinds, queries = (
        {value: place for place, value in enumerate(data.values[name], 1)}
        for name in ("product_id", "event_type", "query")
    )
    bought = {kind.encode() for kind in BOUGHT}
    # A data directory of an older version knows no habits.
    nothing: list[list[Any]] = [[]] * len(users.get("user_id", []))
    usual_products, usual_weights = (users.get(name, nothing) for name in ("usual_product_id", "usual_weight"))
    for place in range(len(users.get("user_id", []))):
        events = zip(*(users[f"history_{name}"][place] for name in EVENT_COLUMNS), strict=True)
        # As in a request: an event of a product that is gone is passed over, an unknown type read as the most frequent.
        history = [
            (products.get(product, 0), kinds.get(kind, 1), queries.get(query, 0), time, rating, kind in bought)
            for product, kind, query, time, rating in events
            if product in products or not product
        ]
        seen = [event[0] for event in reversed(history) if event[0]]
        known = [value in products for value in usual_products[place]]
        older = [products[value] for value in reversed(users["older_product_id"][place]) if value in products]
        yield {
            "products": [event[0] for event in history],
            "types": [event[1] for event in history],
            "queries": [event[2] for event in history],
            "times": [event[3] for event in history],
            "ratings": [event[4] for event in history],
            "bought": list(dict.fromkeys(event[0] for event in reversed(history) if event[0] and event[5])),
            "seen": list(dict.fromkeys(seen + older)),
            "usual_products": [products[value] for value in compress(usual_products[place], known)],
            "usual_weights": list(compress(usual_weights[place], known)),
        }
