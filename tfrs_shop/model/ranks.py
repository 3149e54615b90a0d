"""Where targets stand in a ranking of all products."""

import tensorflow as tf


def ranks_of(scores: tf.Tensor, rows: dict[str, tf.Tensor], exclude_seen: bool = False) -> tf.Tensor:
    """Return ``[batch]`` int32: how many products stand before the target of each row; ties stand before it.

    Args:
        scores: ``[batch, products + 1]``; those of product 0, "none", do not count.
        rows: with ``label`` ``[batch]`` and ``seen_product`` ``[batch, seen]``.
        exclude_seen: take the seen products out of the ranking first; a target that was seen is still asked for.
    """
    target = rows["label"]
    own = tf.gather(scores, target, batch_dims=1)[:, None]
    # Neither product 0 nor the target itself.
    not_counted = 1 + tf.cast(scores[:, 0] >= own[:, 0], tf.int32)
    ahead = tf.reduce_sum(tf.cast(scores >= own, tf.int32), 1) - not_counted
    # A score that is no number is behind all.
    ahead = tf.where(tf.math.is_nan(own[:, 0]), tf.shape(scores)[1] - 2, ahead)
    if not exclude_seen:
        return ahead
    # Each seen product that stands before the target is taken off once, however often it was seen.
    seen = tf.sort(rows["seen_product"], 1)
    again = tf.pad(seen[:, 1:] == seen[:, :-1], [[0, 0], [1, 0]])
    counted = (tf.gather(scores, seen, batch_dims=1) >= own) & ~again & (seen > 0) & (seen != target[:, None])
    return ahead - tf.math.count_nonzero(counted, 1, dtype=tf.int32)
