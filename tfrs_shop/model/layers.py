"""Small pieces that both towers use."""

import tensorflow as tf
import tf_keras


def embedding(size: int, width: int, name: str) -> tf_keras.layers.Embedding:
    """Return an embedding of `size` rows that start small, so that a sum of several starts small too."""
    return tf_keras.layers.Embedding(size, width, tf_keras.initializers.TruncatedNormal(stddev=0.02), name=name)


def present(index: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Return 1.0 where `index` is not padding, with a last dimension of 1 to multiply embeddings with."""
    return tf.cast(index > 0, dtype)[..., None]
