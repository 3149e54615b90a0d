"""The intent head: for the words of a query, the category and the purpose it is likely to be for."""

import numpy as np
import tensorflow as tf
import tf_keras

from tfrs_shop.intent_examples import PURPOSES, Intent

BUCKETS = 1 << 15
WIDTH, UNITS = 48, 64
MOST_CHARACTERS, MOST_PIECES = 200, 160
DROPOUT = 0.3
# Share of the pieces of a text that a training step does not show: queries leave out words.
HIDDEN_PIECES = 0.2
DRAWN = 256


def query_pieces(query: tf.Tensor) -> tf.Tensor:
    """Return ``[batch, pieces]`` int32: hashed words and letter triples of queries, right-padded with 0.

    The triples make up for slips and endings. Only what is letter or digit counts, of the first 200 characters.

    Args:
        query: ``[batch]`` string, any bytes.
    """
    text = tf.strings.unicode_transcode(query, "UTF-8", "UTF-8", errors="replace")
    text = tf.strings.lower(tf.strings.substr(text, 0, MOST_CHARACTERS, "UTF8_CHAR"), encoding="utf-8")
    words = tf.strings.split(tf.strings.strip(tf.strings.regex_replace(text, r"[^\pL\pN\pM]+", " ")))
    framed = tf.strings.join(["<", words.flat_values, ">"])
    triples = tf.strings.ngrams(tf.strings.unicode_split(framed, "UTF-8"), 3, separator="")
    triples = tf.RaggedTensor.from_row_splits(triples, words.row_splits).merge_dims(1, 2)
    pieces = tf.concat([words.with_flat_values(framed), triples], 1)
    hashed = tf.strings.to_hash_bucket_fast(pieces.flat_values, BUCKETS - 1) + 1
    padded = pieces.with_flat_values(tf.cast(hashed, tf.int32)).to_tensor(0)
    return padded[:, :MOST_PIECES]


class IntentHead(tf_keras.layers.Layer):
    """A hidden layer over the mean of the embeddings of a query's pieces (fastText, Joulin et al., EACL 2017).

    It learns from queries that are drawn at random, once `learn_from` has said which.

    Args:
        categories: number of categories.
    """

    def __init__(self, categories: int, **kwargs: object):
        super().__init__(autocast=False, dtype="float32", **kwargs)
        self.embedding = self.add_weight("pieces", [BUCKETS, WIDTH], tf.float32, "uniform")
        self.hidden = tf_keras.layers.Dense(UNITS, tf.nn.gelu, name="hidden", dtype="float32")
        self.dropout = tf_keras.layers.Dropout(DROPOUT, dtype="float32")
        self.category = tf_keras.layers.Dense(categories, name="category", dtype="float32")
        self.purpose = tf_keras.layers.Dense(len(PURPOSES), name="purpose", dtype="float32")
        # Saved with the weights: a bundle must know whether there is anything to say, and has no log to look at.
        self.seen = tf.Variable(tf.zeros([1 + len(PURPOSES)]), trainable=False, name="seen")
        self.examples = 0
        self.build_weights()

    def build_weights(self) -> None:
        """Make the weights, by asking about one query."""
        self(tf.zeros([1, 1], tf.int32))

    @property
    def knows(self) -> tuple[bool, bool]:
        """Whether it was trained at all, and whether it was trained on purposes."""
        seen = self.seen.numpy()
        return bool(seen[0] > 0), bool(seen[1:].sum() > 0)

    def learn_from(self, intents: list[Intent]) -> None:
        """Take `intents` as what `loss` draws from."""
        self.examples = len(intents)
        if not intents:
            return
        self.pieces = query_pieces(tf.constant([intent.query for intent in intents]))
        self.categories = tf.constant([intent.category for intent in intents], tf.int32)
        self.purposes = tf.constant([intent.purpose for intent in intents], tf.int32)
        counts = np.bincount([intent.purpose + 1 for intent in intents], minlength=1 + len(PURPOSES))
        self.seen.assign(np.array([len(intents), *counts[1:]], np.float32))
        self.with_purposes = bool(counts[1:].sum())

    def call(self, pieces: tf.Tensor, training: bool | None = None) -> tuple[tf.Tensor, tf.Tensor]:
        """Return logits of the categories ``[batch, categories]``, from vocabulary index 1, and of the purposes.

        Args:
            pieces: ``[batch, pieces]`` int32 of `query_pieces`.
            training: whether dropout is on and some pieces are hidden.
        """
        shown = tf.cast(pieces > 0, tf.float32)
        if training:
            shown *= tf.cast(tf.random.uniform(tf.shape(pieces)) >= HIDDEN_PIECES, tf.float32)
        # The root of their number, and not their number: a query of one rare word says as much as a long one.
        total = tf.einsum("qp,qpw->qw", shown, tf.gather(self.embedding, pieces))
        state = total * tf.math.rsqrt(tf.maximum(tf.reduce_sum(shown, 1, keepdims=True), 1.0))
        state = self.dropout(self.hidden(self.dropout(state * WIDTH**0.5, training=training)), training=training)
        return self.category(state), self.purpose(state)

    def loss(self, training: bool) -> tf.Tensor:
        """Return the mean cross-entropy of category and purpose of queries that are drawn at random."""
        drawn = tf.random.uniform([DRAWN], maxval=self.examples, dtype=tf.int32)
        category, purpose = self(tf.gather(self.pieces, drawn), training=training)
        entropy = tf.nn.sparse_softmax_cross_entropy_with_logits
        total = tf.reduce_mean(entropy(tf.gather(self.categories, drawn) - 1, category))
        if self.with_purposes:
            total += tf.reduce_mean(entropy(tf.maximum(tf.gather(self.purposes, drawn), 0), purpose))
        return total
