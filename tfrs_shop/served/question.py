"""What every question has: its signatures, and requests that a client might send."""

import dataclasses
from collections.abc import Iterator
from typing import Any, Protocol

import tensorflow as tf

Inputs = dict[str, tf.Tensor]
Requests = Iterator[tuple[str, Inputs]]

# Inputs of a signature: strings a row, lists of strings a row, numbers a row.
STRINGS = tf.TensorSpec([None], tf.string)
LISTS = tf.TensorSpec([None, None], tf.string)
NUMBERS = tf.TensorSpec([None], tf.float32)


@dataclasses.dataclass(frozen=True)
class Samples:
    """What sample requests are made of.

    Attributes:
        users: a few known user ids and an unknown one.
        products: a few product ids.
        category: a category path; b"" where products have none.
        query: the title of a product.
        now: milliseconds since 1970 at which all products are on sale.
    """

    users: list[bytes]
    products: list[bytes]
    category: bytes
    query: bytes
    now: int

    @property
    def history(self) -> Inputs:
        """A history of views of the products."""
        kinds = [b"view"] * len(self.products)
        return {"history_product_id": tf.constant([self.products]), "history_event_type": tf.constant([kinds])}


class Question(Protocol):
    """One thing that a bundle is asked, in one or more signatures; a ``tf.Module`` over a ``ServedShop``.

    Attributes:
        answers_for_ever: whether an answer stays what it is while products come on sale and go.
    """

    answers_for_ever: bool

    def signatures(self) -> dict[str, Any]:
        """Return signature name to concrete function."""

    def requests(self, samples: Samples) -> Requests:
        """Yield ``(signature, inputs)``, at least one of each signature: for warm-up, and golden with their answers."""
