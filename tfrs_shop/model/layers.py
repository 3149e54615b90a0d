"""Small pieces that both towers use."""

import tensorflow as tf
import tf_keras

EMBEDDING_DEVIATION = 0.02


def embedding(size: int, width: int, name: str, dtype: str | None = None) -> tf_keras.layers.Embedding:
    """Return an embedding of `size` rows that start small, so that a sum of several starts small too."""
    return tf_keras.layers.Embedding(
        size, width, tf_keras.initializers.TruncatedNormal(stddev=EMBEDDING_DEVIATION), name=name, dtype=dtype
    )


def present(index: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Return 1.0 where `index` is not padding, with a last dimension of 1 to multiply embeddings with."""
    return tf.cast(index > 0, dtype)[..., None]


def small() -> tf_keras.initializers.Initializer:
    """Return what a text part starts with: as small as the embeddings, or it would drown what they have to learn."""
    return tf_keras.initializers.TruncatedNormal(stddev=0.005)


def centred(vectors: tf.Tensor, mean: tf.Tensor) -> tf.Tensor:
    """Return text vectors of unit variance, less what all of a catalogue have in common; zeros stay zeros.

    Args:
        vectors: ``[..., text width]`` float32.
        mean: ``[text width]`` float32, the mean of the catalogue's unit vectors.
    """
    known = tf.cast(tf.reduce_any(vectors != 0.0, -1, keepdims=True), tf.float32)
    unit = tf.math.l2_normalize((tf.math.l2_normalize(vectors, -1) - mean) * known, -1)
    return unit * tf.cast(tf.shape(mean)[0], tf.float32) ** 0.5
