"""What a behaviour head reads of a history: each event with what went before it, and traces of them all. Causal."""

from typing import NamedTuple

import tensorflow as tf
import tf_keras

from tfrs_shop.model.layers import embedding, present

EVENT_WIDTH, CATEGORY_WIDTH = 24, 24
# What an event counts in a trace beside the next newer one.
DECAYS = (0.6, 0.85, 0.97)
# Newest events that are read one by one.
NEWEST = 3
AGE_BUCKETS = 10
GAP_BUCKETS = 32
# The last bucket of less than half an hour (2,047 seconds).
SESSION_GAP = 12
# Log of the seconds of an hour, so that the length of a session is of the size of the other numbers.
LONG = 8.0
# Share of training histories whose times are not shown: a request comes without any.
HIDDEN_TIMES = 0.3


class Met(NamedTuple):
    """The last time, before each event, that something of the event was met.

    Attributes:
        age: ``[batch, history]`` int32 events since; 0: never.
        kind: ``[batch, history]`` int32 event type then; 0: never.
    """

    age: tf.Tensor
    kind: tf.Tensor


class Events(NamedTuple):
    """What is read of a history, ``[batch, history, ...]`` float32 each.

    Attributes:
        events: each event by itself.
        plain: at each position, numbers that a linear model can use.
        behavior: at each position, those and embeddings of all but the categories.
        topic: at each position, embeddings of the categories.
    """

    events: tf.Tensor
    plain: tf.Tensor
    behavior: tf.Tensor
    topic: tf.Tensor


class BehaviorEvents(tf_keras.layers.Layer):
    """Reads a left-padded history into a vector at every position, of what was known there.

    An event is its type, its category, the time since the event before, and when and in which type its product and its
    category were last met. A position sees its newest events one by one, all of them as traces that fade at several
    rates, and how often each type happened: in all, to the product at hand, in its category, and since the last half
    hour without events; how many events there are, of how many products and categories, and since when. That is more
    than a logistic regression would be given, and embeddings.

    Args:
        event_types: number of event types.
        categories: number of categories.
    """

    def __init__(self, event_types: int, categories: int, **kwargs: object):
        super().__init__(autocast=False, dtype="float32", **kwargs)
        self.event_types = event_types
        self.tables = {
            name: embedding(size, EVENT_WIDTH, name, "float32")
            for name, size in (
                ("event_type", event_types + 1),
                ("product_met_kind", event_types + 1),
                ("product_met_age", AGE_BUCKETS),
                ("category_met_kind", event_types + 1),
                ("category_met_age", AGE_BUCKETS),
                ("gap", GAP_BUCKETS),
            )
        }
        self.category = embedding(categories + 1, CATEGORY_WIDTH, "category", "float32")

    def call(self, rows: dict[str, tf.Tensor], training: bool | None = None) -> "Events":
        """Return what is read.

        Args:
            rows: ``history_product``, ``history_event_type``, ``history_category`` ``[batch, history]`` int32, and
                ``history_timestamp`` ``[batch, history]`` int64 milliseconds, -1 where it is not known.
            training: whether the times of some histories are hidden.
        """
        kinds, products, categories = (rows[f"history_{name}"] for name in ("event_type", "product", "category"))
        product, category = last_met(products, kinds), last_met(categories, kinds)
        codes = {
            "event_type": kinds,
            "product_met_kind": product.kind,
            "product_met_age": _age_buckets(product.age),
            "category_met_kind": category.kind,
            "category_met_age": _age_buckets(category.age),
            "gap": self._gaps(rows, training),
        }
        # Embeddings start small; a head that reads them wants units.
        about = tf.add_n([self.tables[name](code) for name, code in codes.items()]) / 0.02 * present(kinds, tf.float32)
        topic = self.category(categories) * present(categories, tf.float32) / 0.02
        happened = tf.one_hot(kinds - 1, self.event_types)
        alike = [_equal(products), _equal(categories), _equal(session_numbers(codes["gap"]))]
        counts = [tf.cumsum(happened, 1), *(tf.matmul(so_far, happened) for so_far in alike)]
        new = [(products > 0) & (product.age == 0), (categories > 0) & (category.age == 0)]
        different = [tf.cumsum(tf.cast(first, tf.float32)[..., None], 1) for first in new]
        events, in_session = (tf.reduce_sum(count, 2, keepdims=True) for count in (counts[0], counts[3]))
        exact = [
            *(_earlier(happened, age) for age in range(NEWEST)),
            *(_earlier(tf.one_hot(codes["gap"], GAP_BUCKETS), age) for age in range(2)),
            *(tf.one_hot(codes[f"{name}_met_age"], AGE_BUCKETS) for name in ("product", "category")),
            *(tf.math.log1p(count) for count in (*counts, *different, events, in_session)),
            *(tf.math.divide_no_nan(count, events) for count in (counts[0], *different)),
            *(faded(happened, decay) for decay in DECAYS),
            lasted(rows["history_timestamp"], codes["gap"])[..., None] / LONG,
        ]
        plain = tf.concat(exact, 2)
        return Events(tf.concat([about, topic], 2), plain, tf.concat([_read(about), plain], 2), _read(topic))

    def _gaps(self, rows: dict[str, tf.Tensor], training: bool | None) -> tf.Tensor:
        buckets = gap_buckets(rows["history_timestamp"])
        if training:
            shown = tf.random.uniform([tf.shape(buckets)[0], 1]) >= HIDDEN_TIMES
            buckets *= tf.cast(shown, tf.int32)
        return buckets


def lasted(timestamp: tf.Tensor, gaps: tf.Tensor) -> tf.Tensor:
    """Return ``[batch, history]`` float32: log of the seconds since the session began; 0 where that is not known.

    Args:
        timestamp: ``[batch, history]`` int64 milliseconds, -1 where it is not known.
        gaps: ``[batch, history]`` int32 of `gap_buckets`; where it is 0, not known, a session begins.
    """
    begins = tf.where((gaps == 0) | (gaps > SESSION_GAP), timestamp, -1)
    place = tf.range(tf.shape(gaps)[1])
    begun = tf.reduce_max(tf.where(place[:, None] >= place[None], begins[:, None], -1), 2)
    seconds = tf.cast(tf.maximum(timestamp - begun, 0), tf.float32) / 1000.0
    return tf.where(gaps > 0, tf.math.log1p(seconds), 0.0)


def last_met(values: tf.Tensor, kinds: tf.Tensor) -> Met:
    """Return when the value of each event was last met before it.

    Args:
        values: ``[batch, history]`` int32, 0 for none.
        kinds: ``[batch, history]`` int32 event types.
    """
    place = tf.range(tf.shape(values)[1])
    same = (values[:, :, None] == values[:, None]) & (values > 0)[:, :, None] & (place[:, None] > place[None])[None]
    last = tf.reduce_max(tf.where(same, place[None, None] + 1, 0), 2)
    age = tf.where(last > 0, place[None] + 1 - last, 0)
    return Met(age, tf.where(last > 0, tf.gather(kinds, tf.maximum(last - 1, 0), batch_dims=1), 0))


def gap_buckets(timestamp: tf.Tensor) -> tf.Tensor:
    """Return ``[batch, history]`` int32: the time since the event before, in doublings of a second; 0 not known.

    Args:
        timestamp: ``[batch, history]`` int64 milliseconds, -1 where it is not known.
    """
    before = tf.pad(timestamp[:, :-1], [[0, 0], [1, 0]], constant_values=-1)
    most = tf.constant([1000 * (2**doublings - 1) for doublings in range(GAP_BUCKETS - 2)], tf.int64)
    passed = tf.reshape(timestamp - before, [-1])
    buckets = 1 + tf.reshape(tf.searchsorted(most, passed), tf.shape(timestamp))
    return tf.where((timestamp >= 0) & (before >= 0), buckets, 0)


def _read(events: tf.Tensor) -> tf.Tensor:
    """Return, at each position, the newest events one by one, and all of them as traces."""
    newest = [_earlier(events, age) for age in range(NEWEST)]
    return tf.concat([*newest, *(faded(events, decay) for decay in DECAYS)], 2)


def _earlier(values: tf.Tensor, age: int) -> tf.Tensor:
    """Return, at each position of ``values`` ``[batch, history, width]``, those of `age` events before."""
    return tf.pad(values, [[0, 0], [age, 0], [0, 0]])[:, : tf.shape(values)[1]]


def session_numbers(gaps: tf.Tensor) -> tf.Tensor:
    """Return ``[batch, history]`` int32 from 1: one more after each half hour without events, as far as is known.

    Args:
        gaps: ``[batch, history]`` int32 of `gap_buckets`.
    """
    return 1 + tf.cumsum(tf.cast(gaps > SESSION_GAP, tf.int32), 1)


def _equal(values: tf.Tensor) -> tf.Tensor:
    """Return ``[batch, history, history]`` float32: whether the second event has the first's value and is not later."""
    same = (values[:, :, None] == values[:, None]) & (values > 0)[:, None]
    return tf.linalg.band_part(tf.cast(same, tf.float32), -1, 0)


def faded(events: tf.Tensor, decay: float) -> tf.Tensor:
    """Return, at each position of ``events`` ``[batch, history, width]``, their mean so far, older ones fading."""
    place = tf.range(tf.shape(events)[1])
    age = tf.cast(place[:, None] - place[None], tf.float32)
    counts = tf.where(age >= 0.0, decay**age, 0.0) * (1.0 - decay)
    return tf.einsum("ij,bjw->biw", counts, events)


def _age_buckets(age: tf.Tensor) -> tf.Tensor:
    """0 stays; 1; 2; 3-4; 5-8; ..."""
    edges = tf.constant([0, 1, 2, 4, 8, 16, 32, 64, 128], tf.int32)
    return tf.reshape(tf.searchsorted(edges, tf.reshape(age, [-1])), tf.shape(age))
