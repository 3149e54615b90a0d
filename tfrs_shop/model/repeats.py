"""Repeats: how much likelier, or less likely, a product is to come again after it was in the history."""

import tensorflow as tf
import tf_keras


class RepeatBias(tf_keras.layers.Layer):
    """A learned score for products of the history, by how long ago and in which behaviour each was last met.

    Two towers cannot tell a product that was seen from one that is like it: their scores are close. Yet in one shop
    hardly anything is bought twice (reviews), and in another most of what comes next was looked at before. One number
    for each age (in events) and one for each behaviour, added to the score, learn either. It is repeat-explore
    modelling (RepeatNet, Ren et al., AAAI 2019) as a bias that an index can apply after its search.

    Args:
        history: the longest history, in events.
        event_types: number of event types.
    """

    def __init__(self, history: int, event_types: int, **kwargs: object):
        super().__init__(autocast=False, dtype="float32", **kwargs)
        self.by_age = self.add_weight("by_age", [history], tf.float32, "zeros")
        self.by_event_type = self.add_weight("by_event_type", [event_types + 1], tf.float32, "zeros")

    def call(self, history: tf.Tensor, kinds: tf.Tensor) -> tf.Tensor:
        """Return ``[batch, events, events]`` float32: after the i-th event, what is added for the product of the j-th.

        It is 0 where that event is not the `latest` of its product.

        Args:
            history: ``[batch, events]`` int32 products, oldest first, 0 for none.
            kinds: ``[batch, events]`` int32 event types.
        """
        place = tf.range(tf.shape(history)[1])
        age = tf.maximum(place[:, None] - place[None], 0)
        bias = tf.gather(self.by_age, age)[None] + tf.gather(self.by_event_type, kinds)[:, None]
        return tf.where(latest(history), bias, 0.0)


def latest(history: tf.Tensor) -> tf.Tensor:
    """Return ``[batch, events, events]`` bool: after the i-th event, whether the j-th is the latest of its product.

    It is not where j comes after i, where the j-th event has no product, and where its product comes again up to i.

    Args:
        history: ``[batch, events]`` int32 products, oldest first, 0 for none.
    """
    length = tf.shape(history)[1]
    place = tf.range(length)
    later = place[:, None] < place[None]
    again = tf.where((history[:, :, None] == history[:, None]) & later[None], place[None, None], length)
    next_time = tf.reduce_min(again, 2)
    return ~later[None] & (history > 0)[:, None] & (next_time[:, None] > place[None, :, None])


def added_at(products: tf.Tensor, values: tf.Tensor, scores: tf.Tensor) -> tf.Tensor:
    """Return `scores` with `values` added to those of `products`, row by row.

    Args:
        products: ``[rows, some]`` int32 columns; a column that is there several times is added to several times.
        values: ``[rows, some]`` float32.
        scores: ``[rows, columns]`` float32.
    """
    rows = tf.broadcast_to(tf.range(tf.shape(products)[0])[:, None], tf.shape(products))
    return tf.tensor_scatter_nd_add(scores, tf.stack([rows, products], 2), values)


def without_repeats(products: tf.Tensor, bias: tf.Tensor, follows: tf.Tensor) -> tf.Tensor:
    """Return the transition graph's scores with what hardly comes again lowered as the model lowers it.

    The graph counts what follows a product in all histories, and does not know that a product was seen in this one.

    Args:
        products: ``[rows, some]`` int32 columns.
        bias: ``[rows, some]`` float32, added to the model's logits; where it is positive nothing is changed here.
        follows: ``[rows, columns]`` float32, each row summing to 1 or 0; so do those of the answer.
    """
    kept = tf.exp(tf.minimum(bias, 0.0))
    taken = tf.gather(follows, products, batch_dims=1) * (kept - 1.0)
    lowered = tf.maximum(added_at(products, taken, follows), 0.0)
    return tf.math.divide_no_nan(lowered, tf.reduce_sum(lowered, 1, keepdims=True))
