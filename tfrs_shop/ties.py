"""Events of one clock time have no order of their own: the target drawn at random among those it is tied with.

Where clock times are whole days, what a user did on the last day is known, but not in which order; the order of the
file, by which examples are made, may then be by product id, or by anything else that a model could read.
"""

from typing import Any

import tensorflow as tf

SEED = 20240229
_HISTORY = ("product_id", "event_type", "timestamp", "rating")


def shuffled_ties(batch: dict[str, Any], can_be_target: tf.RaggedTensor, seed: int = SEED) -> dict[str, Any]:
    """Return `batch` with the events that are tied with the target in a random order, the last of them the target.

    Tied are the events of the history with the clock time of the target. Those that cannot be a target come first
    among them. The draw is by user, place and `seed`, and so the same whatever the batches or the files are. Events
    that are older than what the record's history holds take no part.

    Args:
        batch: of parsed examples, see ``tfrs_shop.features.EXAMPLE_FEATURES``.
        can_be_target: ``[batch, (history)]`` bool, of each event of the history.
        seed: of the draw.

    Returns:
        A copy with other ``history_*`` and ``target_*``, and two more: ``tied`` ``[batch]`` bool, whether there was
        a choice, and ``drawn_back`` ``[batch]`` int64, how many possible targets stood after the drawn one.
    """

    def extended(history: tf.RaggedTensor, target: tf.Tensor) -> tf.RaggedTensor:
        return tf.concat([history, target[:, None]], 1)

    columns = {name: extended(batch[f"history_{name}"], batch[f"target_{name}"]) for name in _HISTORY}
    columns["query"] = extended(batch["history_query"], tf.zeros_like(batch["user_id"]))
    eligible = extended(can_be_target, tf.ones_like(batch["target_timestamp"], tf.bool))
    row, place = eligible.value_rowids(), tf.ragged.range(eligible.row_lengths()).flat_values
    splits = eligible.row_splits
    time = columns["timestamp"].flat_values
    tied = (time == tf.gather(batch["target_timestamp"], row)) & (time >= 0)
    chosen = tied & eligible.flat_values
    # Whole numbers keep the order; a possible target gets a random place after the rest of its row.
    length = tf.cast(tf.shape(time)[0], tf.int64)
    text = tf.strings.join([tf.gather(batch["user_id"], row), tf.strings.as_string(place)], " ")
    bucket = tf.strings.to_hash_bucket_strong(text, 2**40, key=[seed, seed])
    draw = tf.cast(bucket, tf.float64) / 2.0**40 * tf.cast(length, tf.float64)
    within = tf.where(chosen, draw, tf.cast(place, tf.float64)) / tf.cast(length, tf.float64)
    stage = tf.cast(tied, tf.float64) + tf.cast(chosen, tf.float64)
    order = tf.argsort(tf.cast(row, tf.float64) * 4.0 + stage + within, stable=True)
    last = splits[1:] - 1
    changed: dict[str, Any] = dict(batch)
    for name, column in columns.items():
        moved = tf.gather(column.flat_values, order)
        changed[f"history_{name}"] = tf.RaggedTensor.from_row_splits(moved, splits)[:, :-1]
        if name != "query":
            changed[f"target_{name}"] = tf.gather(moved, last)
    possible = tf.cumsum(tf.cast(eligible.flat_values, tf.int64))
    drawn = tf.gather(order, last)
    changed["drawn_back"] = tf.gather(possible, last) - tf.gather(possible, drawn)
    changed["tied"] = tf.math.unsorted_segment_sum(tf.cast(chosen, tf.int64), row, tf.shape(last)[0]) > 1
    return changed
