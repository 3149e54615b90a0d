"""The ranking head: for a query and a product vector, the chance of each behaviour; and how tasks are weighed."""

import tensorflow as tf
import tf_keras

from tfrs_shop.config import RankingConfig

SMALLEST_LOG_VARIANCE = -4.0


class RankingHead(tf_keras.layers.Layer):
    """A hidden layer over query, product, and their product, then one output for each behaviour.

    Args:
        config: its size.
        event_types: number of behaviours that it tells apart.
    """

    def __init__(self, config: RankingConfig, event_types: int, **kwargs: object):
        # Keras casts the first input of a call only.
        super().__init__(autocast=False, **kwargs)
        self.hidden = tf_keras.layers.Dense(config.units, activation=tf.nn.gelu, name="hidden")
        self.behavior = tf_keras.layers.Dense(event_types, name="behavior", dtype="float32")

    def call(self, query: tf.Tensor, product: tf.Tensor) -> tf.Tensor:
        """Return logits ``[pairs, event_types]`` float32 for ``[pairs, width]`` vectors."""
        query, product = tf.cast(query, self.compute_dtype), tf.cast(product, self.compute_dtype)
        return self.behavior(self.hidden(tf.concat([query, product, query * product], -1)))


class TaskWeights(tf_keras.layers.Layer):
    """Adds up the losses of several tasks, each by a fixed weight or by its learned uncertainty.

    A task without a fixed weight counts exp(-s) L + s / 2, with a log variance s of its own to learn (Kendall et al.,
    CVPR 2018, section 3.3): the noisier a task, the less it weighs. s has a floor, since the loss of a task that is
    no task (a behaviour that never happens) goes to 0.

    Args:
        fixed: the weight of each task, None where it is learned.
    """

    def __init__(self, fixed: list[float | None], **kwargs: object):
        super().__init__(dtype="float32", **kwargs)
        self.learned = tf.constant([weight is None for weight in fixed])
        self.fixed = tf.constant([weight or 0.0 for weight in fixed], tf.float32)
        self.log_variance = tf.Variable(tf.zeros([len(fixed)]), name="log_variance")

    def call(self, losses: tf.Tensor) -> tf.Tensor:
        """Return the scalar sum of ``losses`` ``[tasks]`` float32; a loss of 0 (nothing to learn) adds nothing."""
        variance = tf.maximum(self.log_variance, SMALLEST_LOG_VARIANCE)
        by_uncertainty = tf.where(losses > 0.0, tf.exp(-variance) * losses + variance / 2.0, 0.0)
        return tf.reduce_sum(tf.where(self.learned, by_uncertainty, self.fixed * losses))
