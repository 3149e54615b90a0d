"""The query tower: a user's history, read by a causal transformer, as one vector at every position."""

import tensorflow as tf
import tf_keras

from tfrs_shop.config import TowerConfig
from tfrs_shop.model.layers import centred, embedding, small

# Times between two events are told apart up to doubling, from a second to 34 years; bucket 0 is an unknown time.
RECENCY_BUCKETS = 32
# Share of training histories whose times are not shown: a request may come without any.
HIDDEN_TIMES = 0.2
# What the text of an event counts in the behaviour text beside that of the next newer one.
TEXT_DECAY = 0.8


class QueryTower(tf_keras.layers.Layer):
    """Reads a left-padded history of events and gives the query vector after each.

    An event is the product tower's own vector (a search: the adapted text vector of its query) plus an embedding of
    its type and of its place counted from the newest. Each position sees itself and what came before it (Kang and
    McAuley, ICDM 2018), so all positions of a history can be trained at once. How much an event counts at a position
    depends also on the time that had passed since (as in HSTU, Zhai et al., ICML 2024), which no padding or missing
    time disturbs: where no time is known all events are moved alike.

    The behaviour text is the texts of the events, newest first; a long text's vector is the mean over its parts, so
    it is the mean of vectors that are known already, newer ones counting more.

    Args:
        config: sizes, dropout, and which parts are used.
        event_types: number of event types.
        text_mean: ``[text width]`` mean text vector of the catalogue; empty where there is no text.
        queries: number of search queries; without any there is nothing to read them with.
        profile_sizes: number of codes of each profile attribute, 0 for "unknown" included.
    """

    def __init__(
        self,
        config: TowerConfig,
        event_types: int,
        text_mean: list[float],
        queries: int,
        profile_sizes: list[int],
        **kwargs: object,
    ):
        # Text vectors are centred in float32, whatever the tower computes in.
        super().__init__(autocast=False, **kwargs)
        self.config = config
        self.scale = config.width**0.5
        self.position = embedding(config.max_history, config.width, "position")
        self.event_type = embedding(event_types + 1, config.width, "event_type")
        self.text_mean = tf.constant(text_mean, tf.float32)
        reads_queries = queries > 0 and len(text_mean) > 0
        self.query_adapter = tf_keras.layers.Dense(config.width, name="query_adapter") if reads_queries else None
        self.behavior_text = None
        if config.behavior_text and text_mean:
            self.behavior_text = tf_keras.layers.Dense(config.width, kernel_initializer=small(), name="behavior_text")
        sizes = profile_sizes if config.profile else []
        self.profile = [embedding(size, config.width, f"profile{place}") for place, size in enumerate(sizes)]
        self.input_dropout = tf_keras.layers.Dropout(config.dropout)
        self.text_dropout = tf_keras.layers.Dropout(config.text_dropout)
        self.blocks = [TransformerBlock(config, name=f"block{place}") for place in range(config.layers)]
        self.norm = tf_keras.layers.LayerNormalization(epsilon=1e-6, name="norm")

    def call(self, inputs: dict[str, tf.Tensor], training: bool | None = None, last: bool = False) -> tf.Tensor:
        """Return ``[batch, history, width]`` float32: the query vector after each event.

        Args:
            inputs: ``product_vectors`` ``[batch, history, width]``, ``event_type`` ``[batch, history]`` int32 with
                0 for padding, ``query_vectors`` ``[batch, history, text width]`` of searches, ``profile``
                ``[batch, attributes]`` int32; may be left out: ``text_vectors`` ``[batch, history, text width]`` of
                what each event was about, zeros where there is none, and ``timestamp`` ``[batch, history]`` int64
                milliseconds, -1 where it is not known.
            training: whether dropout is on.
            last: return that after the last event only, ``[batch, 1, width]``, for about half of the work.
        """
        text = None
        if self.behavior_text is not None and "text_vectors" in inputs:
            text = centred(inputs["text_vectors"], self.text_mean)
        events, profile = self.event_vectors(inputs), self.profile_vector(inputs["profile"])
        return self.read(inputs, events, profile, text, training, last)

    def event_vectors(self, inputs: dict[str, tf.Tensor]) -> tf.Tensor:
        """Return ``[batch, history, width]``: what each event was, wherever in the history it is."""
        events = tf.cast(inputs["product_vectors"], self.compute_dtype) * self.scale
        if self.query_adapter is not None:
            vectors = inputs["query_vectors"]
            searched = tf.cast(tf.reduce_any(vectors != 0.0, 2, keepdims=True), self.compute_dtype)
            events += self.query_adapter(tf.cast(vectors, self.compute_dtype)) * searched * self.scale
        return events + self.event_type(inputs["event_type"])

    def profile_vector(self, profile: tf.Tensor) -> tf.Tensor:
        """Return ``[batch, width]``, the sum of the embeddings of ``profile`` ``[batch, attributes]`` int32."""
        width = self.config.width
        total = tf.zeros([tf.shape(profile)[0], width], self.compute_dtype)
        for place, table in enumerate(self.profile):
            total += table(profile[:, place])
        return total

    def read(
        self,
        inputs: dict[str, tf.Tensor],
        events: tf.Tensor,
        profile: tf.Tensor,
        text: tf.Tensor | None,
        training: bool | None = None,
        last: bool = False,
    ) -> tf.Tensor:
        """Return what `call` does, given what it makes of its inputs.

        Args:
            inputs: ``event_type`` and, if known, ``timestamp``.
            events: ``[batch, history, width]``, of `event_vectors`.
            profile: ``[batch, width]``, of `profile_vector`.
            text: ``[batch, history, text width]`` float32, centred; None: no behaviour text is read.
            training, last: as of `call`.
        """
        kinds = inputs["event_type"]
        events += self.position(tf.range(tf.shape(kinds)[1])[::-1])[None] + profile[:, None]
        events = self.input_dropout(events, training=training)
        mask = kinds > 0
        events *= tf.cast(mask, self.compute_dtype)[..., None]
        recency = self._recency(inputs, training)
        for block in self.blocks:
            # The other positions are read by the next block.
            events = block(events, mask, recency, training=training, last=last and block is self.blocks[-1])
        if last:  # Without blocks all positions are still there.
            events = events[:, -1:]
        if text is not None and self.behavior_text is not None:
            mean = tf.cast(behavior_vectors(text, last), self.compute_dtype)
            events += self.behavior_text(self.text_dropout(mean, training=training))
        return tf.cast(self.norm(events), tf.float32)

    def _recency(self, inputs: dict[str, tf.Tensor], training: bool | None) -> tf.Tensor | None:
        if not self.config.recency or "timestamp" not in inputs:
            return None
        buckets = recency_buckets(inputs["timestamp"])
        if training:
            shown = tf.random.uniform([tf.shape(buckets)[0], 1, 1]) >= HIDDEN_TIMES
            buckets *= tf.cast(shown, buckets.dtype)
        return buckets


def recency_buckets(timestamp: tf.Tensor) -> tf.Tensor:
    """Return ``[batch, history, history]`` int32: how long before the first event the second was, as a bucket.

    0: one of the times is not known; 1: less than a second; each further one up to twice as long.

    Args:
        timestamp: ``[batch, history]`` int64 milliseconds, -1 where it is not known.
    """
    known = timestamp >= 0
    passed = timestamp[:, :, None] - timestamp[:, None, :]
    # Whole numbers: a logarithm at a power of two rounds differently where a graph is optimized.
    most = tf.constant([1000 * (2**doublings - 1) for doublings in range(RECENCY_BUCKETS - 2)], tf.int64)
    buckets = 1 + tf.reshape(tf.searchsorted(most, tf.reshape(passed, [-1])), tf.shape(passed))
    return tf.where(known[:, :, None] & known[:, None, :], buckets, 0)


def behavior_vectors(texts: tf.Tensor, last: bool = False) -> tf.Tensor:
    """Return ``[batch, history, width]``: at each position the mean text vector so far, newer texts counting more.

    Args:
        texts: ``[batch, history, width]`` float32, zeros where an event has no text.
        last: return that at the last position only, ``[batch, 1, width]``.
    """
    place = tf.range(tf.shape(texts)[1])
    at = place[-1:] if last else place
    age = tf.cast(at[:, None] - place[None], tf.float32)
    counts = tf.where(age >= 0.0, TEXT_DECAY**age, 0.0)
    known = tf.cast(tf.reduce_any(texts != 0.0, 2, keepdims=True), tf.float32)
    return tf.math.divide_no_nan(tf.matmul(counts[None], texts), tf.matmul(counts[None], known))


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
        if config.recency:
            self.recency = self.add_weight("recency", [RECENCY_BUCKETS, config.heads], initializer="zeros")

    def call(
        self,
        events: tf.Tensor,
        mask: tf.Tensor,
        recency: tf.Tensor | None = None,
        training: bool | None = None,
        last: bool = False,
    ) -> tf.Tensor:
        """Return ``[batch, history, width]``, given the same, which are events, and how long ago.

        Args:
            events: ``[batch, history, width]``.
            mask: ``[batch, history]`` bool, whether there is an event.
            recency: ``[batch, history, history]`` int32, of `recency_buckets`.
            training: whether dropout is on.
            last: return the last position only, ``[batch, 1, width]``.
        """
        attended = self._attend(self.attention_norm(events), mask, recency, training, last)
        if last:
            events = events[:, -1:]
        events += self.dropout(self.attention_output(attended), training=training)
        fed = self.feed_output(self.dropout(self.feed_hidden(self.feed_norm(events)), training=training))
        return events + self.dropout(fed, training=training)

    def _attend(
        self, events: tf.Tensor, mask: tf.Tensor, recency: tf.Tensor | None, training: bool | None, last: bool
    ) -> tf.Tensor:
        batch, length = tf.shape(events)[0], tf.shape(events)[1]
        qkv = tf.reshape(self.qkv(events), [batch, length, 3, self.heads, self.head_width])
        query, key, value = tf.unstack(tf.transpose(qkv, [2, 0, 3, 1, 4]))
        allowed = mask[:, None, None, :]
        if last:
            query = query[:, :, -1:]
        else:
            allowed &= tf.linalg.band_part(tf.ones([length, length], tf.bool), -1, 0)[None, None]
        # A padded position sees nothing: a large negative number instead of infinity keeps its softmax finite.
        scores = tf.cast(tf.matmul(query, key, transpose_b=True) / self.head_width**0.5, tf.float32)
        if recency is not None:
            buckets = recency[:, -1:] if last else recency
            scores += tf.transpose(tf.gather(tf.cast(self.recency, tf.float32), buckets), [0, 3, 1, 2])
        scores = tf.where(allowed, scores, -1e9)
        weights = self.dropout(tf.cast(tf.nn.softmax(scores), events.dtype), training=training)
        attended = tf.transpose(tf.matmul(weights, value), [0, 2, 1, 3])
        return tf.reshape(attended, [batch, -1, self.heads * self.head_width])
