"""The query tower: a user's history, read by a causal transformer, as one vector at every position."""

import tensorflow as tf
import tf_keras

from tfrs_shop.config import TowerConfig
from tfrs_shop.model.layers import embedding


class QueryTower(tf_keras.layers.Layer):
    """Reads a left-padded history of events and gives the query vector after each.

    An event is the product tower's own vector (a search: the adapted text vector of its query) plus an embedding of
    its type and of its place counted from the newest. Each position sees itself and what came before it (Kang and
    McAuley, ICDM 2018), so all positions of a history can be trained at once.

    Args:
        config: sizes and dropout.
        event_types: number of event types.
        text_width: length of a query's text vector; 0 where queries have none.
        profile_sizes: number of values of each profile attribute.
    """

    def __init__(
        self, config: TowerConfig, event_types: int, text_width: int, profile_sizes: list[int], **kwargs: object
    ):
        super().__init__(**kwargs)
        self.config = config
        self.scale = config.width**0.5
        self.position = embedding(config.max_history, config.width, "position")
        self.event_type = embedding(event_types + 1, config.width, "event_type")
        self.query_adapter = tf_keras.layers.Dense(config.width, name="query_adapter") if text_width else None
        self.profile = [
            embedding(size + 1, config.width, f"profile{place}") for place, size in enumerate(profile_sizes)
        ]
        self.input_dropout = tf_keras.layers.Dropout(config.dropout)
        self.blocks = [TransformerBlock(config, name=f"block{place}") for place in range(config.layers)]
        self.norm = tf_keras.layers.LayerNormalization(epsilon=1e-6, name="norm")

    def call(self, inputs: dict[str, tf.Tensor], training: bool | None = None) -> tf.Tensor:
        """Return ``[batch, history, width]`` float32: the query vector after each event.

        Args:
            inputs: ``product_vectors`` ``[batch, history, width]``, ``event_type`` ``[batch, history]`` int32 with
                0 for padding, ``query_vectors`` ``[batch, history, text width]`` and ``profile``
                ``[batch, attributes]`` int32.
            training: whether dropout is on.
        """
        kinds = inputs["event_type"]
        length = tf.shape(kinds)[1]
        events = tf.cast(inputs["product_vectors"], self.compute_dtype) * self.scale
        if self.query_adapter is not None:
            vectors = inputs["query_vectors"]
            searched = tf.cast(tf.reduce_any(vectors != 0.0, 2, keepdims=True), self.compute_dtype)
            events += self.query_adapter(tf.cast(vectors, self.compute_dtype)) * searched * self.scale
        events += self.event_type(kinds)
        events += self.position(tf.range(length)[::-1])[None]
        for place, table in enumerate(self.profile):
            events += table(inputs["profile"][:, place])[:, None]
        events = self.input_dropout(events, training=training)
        mask = kinds > 0
        events *= tf.cast(mask, self.compute_dtype)[..., None]
        for block in self.blocks:
            events = block(events, mask, training=training)
        return tf.cast(self.norm(events), tf.float32)


class TransformerBlock(tf_keras.layers.Layer):
    """Pre-LayerNorm causal attention and a feed-forward layer of twice the width, each with a residual."""

    def __init__(self, config: TowerConfig, **kwargs: object):
        super().__init__(**kwargs)
        width = config.width
        self.heads, self.head_width = config.heads, width // config.heads
        self.attention_norm = tf_keras.layers.LayerNormalization(epsilon=1e-6, name="attention_norm")
        self.qkv = tf_keras.layers.Dense(3 * width, name="qkv")
        self.attention_output = tf_keras.layers.Dense(width, name="attention_output")
        self.feed_norm = tf_keras.layers.LayerNormalization(epsilon=1e-6, name="feed_norm")
        self.feed_hidden = tf_keras.layers.Dense(2 * width, activation=tf.nn.gelu, name="feed_hidden")
        self.feed_output = tf_keras.layers.Dense(width, name="feed_output")
        self.dropout = tf_keras.layers.Dropout(config.dropout)

    def call(self, events: tf.Tensor, mask: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Return ``[batch, history, width]``, given the same and ``mask`` ``[batch, history]`` (true: an event)."""
        attended = self._attend(self.attention_norm(events), mask, training)
        events += self.dropout(self.attention_output(attended), training=training)
        fed = self.feed_output(self.dropout(self.feed_hidden(self.feed_norm(events)), training=training))
        return events + self.dropout(fed, training=training)

    def _attend(self, events: tf.Tensor, mask: tf.Tensor, training: bool | None) -> tf.Tensor:
        batch, length = tf.shape(events)[0], tf.shape(events)[1]
        qkv = tf.reshape(self.qkv(events), [batch, length, 3, self.heads, self.head_width])
        query, key, value = tf.unstack(tf.transpose(qkv, [2, 0, 3, 1, 4]))
        scores = tf.matmul(query, key, transpose_b=True) / self.head_width**0.5
        seen = tf.linalg.band_part(tf.ones([length, length], tf.bool), -1, 0)
        allowed = seen[None, None] & mask[:, None, None, :]
        # A padded position sees nothing: a large negative number instead of infinity keeps its softmax finite.
        scores = tf.where(allowed, tf.cast(scores, tf.float32), -1e9)
        weights = self.dropout(tf.cast(tf.nn.softmax(scores), events.dtype), training=training)
        attended = tf.transpose(tf.matmul(weights, value), [0, 2, 1, 3])
        return tf.reshape(attended, [batch, length, self.heads * self.head_width])
