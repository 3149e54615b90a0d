"""What a page shows beside answers: facts of products, what is remembered of a user, and some users to begin with."""

from typing import Any

import numpy as np
import tensorflow as tf

from tfrs_shop.dataset import ShopData
from tfrs_shop.served.lookup import named
from tfrs_shop.served.question import STRINGS, Requests, Samples
from tfrs_shop.served.random_numbers import uniform
from tfrs_shop.served.shop import Answer, ServedShop
from tfrs_shop.served.tracing import traced
from tfrs_shop.served.user_profile import NO_PRICE
from tfrs_shop.table_rows import table_rows

# Users of an answer, and users that are ever named: a page needs a few, and nobody shall read the shop's whole list.
EXAMPLES, NAMED = 12, 100


class Facts(tf.Module):
    """What the shop knows by heart; nothing here goes through the model.

    The questions about users are left out where the bundle has none.

    Args:
        shop: whose products and users they are.
        data: of the shop.
    """

    answers_for_ever = True

    def __init__(self, shop: ServedShop, data: ShopData):
        super().__init__(name="facts")
        self.shop = shop
        seen = np.diff(shop.users.seen.starts.numpy())[1:]
        self.examples = int(min(NAMED, (seen > 0).sum()))
        most = np.argsort(-seen, kind="stable")[: self.examples]
        ids = data.users().get("user_id", [])
        self.example_ids = tf.constant([ids[place] for place in most], tf.string)
        self.example_seen = tf.constant(seen[most], tf.int32)

    def signatures(self) -> dict[str, Any]:
        """Return the signatures ``product_details``, ``user_history`` and ``example_users``."""
        of_users = {
            "user_history": (self.user_history, named(STRINGS, "user_id")),
            "example_users": (self.example_users, named(tf.TensorSpec([None], tf.int64), "seed")),
        }
        asked = {"product_details": (self.product_details, named(STRINGS, "product_id"))}
        asked |= of_users if self.examples else {}
        return {name: traced(function, spec) for name, (function, spec) in asked.items()}

    def requests(self, samples: Samples) -> Requests:
        """Yield a request for some products, one for users, and one for examples."""
        yield "product_details", {"product_id": tf.constant(samples.products)}
        if self.examples:
            yield "user_history", {"user_id": tf.constant(samples.users)}
            yield "example_users", {"seed": tf.constant([1], tf.int64)}

    def product_details(self, product_id: tf.Tensor) -> Answer:
        """Tell of products ``[batch]`` string what the catalogue says.

        Returns:
            ``title``, ``category`` (the whole path) and ``brand`` ``[batch]`` string, "" where there is none or the
            product is unknown; ``price`` ``[batch]`` float32, -1 where none is known.
        """
        shop, product = self.shop, self.shop.products_of(product_id)
        price = table_rows(shop.filter.price, product)
        return {
            "title": tf.gather(shop.titles, product),
            "category": tf.gather(shop.categories.names, tf.gather(shop.categories.number, product)),
            "brand": tf.gather(shop.brands.names, tf.gather(shop.brands.number, product)),
            # JSON has no NaN.
            "price": tf.where(tf.math.is_finite(price), price, NO_PRICE),
        }

    def user_history(self, user_id: tf.Tensor) -> Answer:
        """Tell the events of stored users ``[batch]`` string that the model reads.

        Returns:
            ``product_id``, ``event_type`` and ``title`` ``[batch, length]`` string, oldest first, "" before the first
            of a shorter history and for an unknown user. A search has product id "" and its query as the title.
            Product ids and event types may be sent back as a history.
        """
        rows, _ = self.shop.stored(user_id)
        products, queries = rows["history_product"], rows["history_query"]
        names = tf.concat([[""], self.shop.event_type_names], 0)
        return {
            "product_id": tf.gather(self.shop.product_ids, products),
            "event_type": tf.gather(names, rows["history_event_type"]),
            "title": self.shop.event_titles(products, queries),
        }

    def example_users(self, seed: tf.Tensor) -> Answer:
        """Draw some of the users who met the most products, by ``seed`` ``[batch]`` int64.

        Returns:
            ``user_id`` ``[batch, 12]`` string, fewer where there are fewer users, and ``product_count`` int32, how many
            products each has met.
        """
        drawn = tf.math.top_k(uniform(seed, self.examples), min(EXAMPLES, self.examples)).indices
        return {"user_id": tf.gather(self.example_ids, drawn), "product_count": tf.gather(self.example_seen, drawn)}
