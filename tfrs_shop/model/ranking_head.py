"""The ranking head: for a query vector and a product vector, the chance of each behaviour and the rating."""

import tensorflow as tf
import tf_keras

from tfrs_shop.config import RankingConfig


class RankingHead(tf_keras.layers.Layer):
    """A hidden layer over query, product, and their product, then one output for each behaviour and one rating.

    Args:
        config: its size.
        event_types: number of behaviours that it tells apart.
        rating_mean: mean rating of the training events; the head learns the difference.
    """

    def __init__(self, config: RankingConfig, event_types: int, rating_mean: float, **kwargs: object):
        # Keras casts the first input of a call only.
        super().__init__(autocast=False, **kwargs)
        self.rating_mean = rating_mean
        self.hidden = tf_keras.layers.Dense(config.units, activation=tf.nn.gelu, name="hidden")
        self.behavior = tf_keras.layers.Dense(event_types, name="behavior", dtype="float32")
        self.rating = tf_keras.layers.Dense(1, name="rating", dtype="float32")

    def call(self, query: tf.Tensor, product: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return logits ``[pairs, event_types]`` and ratings ``[pairs]`` for ``[pairs, width]`` vectors."""
        query, product = tf.cast(query, self.compute_dtype), tf.cast(product, self.compute_dtype)
        hidden = self.hidden(tf.concat([query, product, query * product], -1))
        return self.behavior(hidden), self.rating_mean + self.rating(hidden)[:, 0]
