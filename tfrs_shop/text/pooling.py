"""From one vector per token to one per text."""

from typing import Literal, get_args

import tensorflow as tf

from tfrs_shop.errors import UserError, suggest

Pooling = Literal["mean", "cls", "concat"]


def check_pooling(pooling: str) -> None:
    """Raise UserError unless `pooling` is known."""
    if pooling not in get_args(Pooling):
        raise UserError(
            f"pooling must be one of mean, cls, concat, not {pooling!r}.{suggest(pooling, get_args(Pooling))}"
        )


def pool(sequence_output: tf.Tensor, mask: tf.Tensor, pooling: str) -> tf.Tensor:
    """Pool `sequence_output` `[batch, length, width]` over the tokens of `mask` `[batch, length]` int32.

    Returns `[batch, width]`, for "concat" (mean, then [CLS]) `[batch, 2 * width]`. "cls" is the last layer's vector of
    [CLS] itself, not `pooled_output`: the dense layer behind that is trained for another task, or not at all.
    """
    if pooling == "cls":
        return sequence_output[:, 0]
    weights = tf.cast(mask, sequence_output.dtype)[:, :, tf.newaxis]
    mean = tf.reduce_sum(sequence_output * weights, axis=1) / tf.reduce_sum(weights, axis=1)
    return mean if pooling == "mean" else tf.concat([mean, sequence_output[:, 0]], axis=1)
