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
# The inverse of the strength of the squares of the weights of phrases, as scikit-learn's ``C``; and how much faster
# than the others these weights move.
PHRASE_C, PHRASE_SCALE = 0.15, 10.0
# The chance, to begin with, that what is opened has nothing to do with the query.
ASIDE = 0.2


def query_pieces(query: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the hashed pieces and the hashed phrases of queries, each ``[batch, n]`` int32, right-padded with 0.

    Pieces are words and their letter triples, which make up for slips and endings. Phrases are words and pairs of
    neighbours. Only what is letter or digit counts, of the first 200 characters.

    Args:
        query: ``[batch]`` string, any bytes.
    """
    text = tf.strings.unicode_transcode(query, "UTF-8", "UTF-8", errors="replace")
    text = tf.strings.lower(tf.strings.substr(text, 0, MOST_CHARACTERS, "UTF8_CHAR"), encoding="utf-8")
    words = tf.strings.split(tf.strings.strip(tf.strings.regex_replace(text, r"[^\pL\pN\pM]+", " ")))
    framed = tf.strings.join(["<", words.flat_values, ">"])
    triples = tf.strings.ngrams(tf.strings.unicode_split(framed, "UTF-8"), 3, separator="")
    triples = tf.RaggedTensor.from_row_splits(triples, words.row_splits).merge_dims(1, 2)
    words = words.with_flat_values(framed)
    return _hashed(tf.concat([words, triples], 1)), _hashed(tf.strings.ngrams(words, (1, 2)))


def _hashed(pieces: tf.RaggedTensor) -> tf.Tensor:
    hashed = tf.strings.to_hash_bucket_fast(pieces.flat_values, BUCKETS - 1) + 1
    return pieces.with_flat_values(tf.cast(hashed, tf.int32)).to_tensor(0)[:, :MOST_PIECES]


class IntentHead(tf_keras.layers.Layer):
    """The category by a hidden layer over embeddings of a query's pieces, the purpose by a linear one over its phrases.

    What is opened after a query may have nothing to do with it. So the chance of a category is a mixture of what the
    query says (fastText, Joulin et al., EACL 2017) and of what is usual in the shop, with a share that the query
    decides too: without it the layers learn by heart which query went astray, and are sure of themselves where they
    should not be. It learns from queries that are drawn at random, once `learn_from` has said which.

    Args:
        categories: number of categories.
    """

    def __init__(self, categories: int, **kwargs: object):
        super().__init__(autocast=False, dtype="float32", **kwargs)
        self.embedding = self.add_weight("pieces", [BUCKETS, WIDTH], tf.float32, "uniform")
        self.hidden = tf_keras.layers.Dense(UNITS, tf.nn.gelu, name="hidden", dtype="float32")
        self.dropout = tf_keras.layers.Dropout(DROPOUT, dtype="float32")
        self.category = tf_keras.layers.Dense(categories, name="category", dtype="float32")
        aside = tf_keras.initializers.Constant(float(np.log(ASIDE / (1.0 - ASIDE))))
        self.aside = tf_keras.layers.Dense(1, name="aside", bias_initializer=aside, dtype="float32")
        self.phrases = self.add_weight("phrases", [BUCKETS, len(PURPOSES)], tf.float32, "zeros")
        self.purpose = self.add_weight("purpose", [len(PURPOSES)], tf.float32, "zeros")
        # Saved with the weights: a bundle must know whether there is anything to say, and has no log to look at.
        self.seen = tf.Variable(tf.zeros([1 + len(PURPOSES)]), trainable=False, name="seen")
        self.usual = tf.Variable(tf.fill([categories], 1.0 / categories), trainable=False, name="usual")
        self.examples = 0
        self.build_weights()

    def build_weights(self) -> None:
        """Make the weights, by asking about one query."""
        self(tf.zeros([1, 1], tf.int32), tf.zeros([1, 1], tf.int32))

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
        self.queries = query_pieces(tf.constant([intent.query for intent in intents]))
        self.categories = tf.constant([intent.category - 1 for intent in intents], tf.int32)
        self.purposes = tf.constant([max(intent.purpose, 0) for intent in intents], tf.int32)
        counts = np.bincount([intent.purpose + 1 for intent in intents], minlength=1 + len(PURPOSES))
        self.seen.assign(np.array([len(intents), *counts[1:]], np.float32))
        self.with_purposes = bool(counts[1:].sum())
        times = np.bincount(self.categories.numpy(), minlength=self.usual.shape[0]) + 1.0
        self.usual.assign((times / times.sum()).astype(np.float32))

    def call(self, pieces: tf.Tensor, phrases: tf.Tensor, training: bool | None = None) -> tuple[tf.Tensor, tf.Tensor]:
        """Return log-chances of the categories ``[batch, categories]``, from vocabulary index 1, and of the purposes.

        Args:
            pieces, phrases: ``[batch, n]`` int32 of `query_pieces`.
            training: whether dropout is on and some pieces are hidden.
        """
        shown = tf.cast(pieces > 0, tf.float32)
        if training:
            shown *= tf.cast(tf.random.uniform(tf.shape(pieces)) >= HIDDEN_PIECES, tf.float32)
        # The root of their number, and not their number: a query of one rare word says as much as a long one.
        total = tf.einsum("qp,qpw->qw", shown, tf.gather(self.embedding, pieces))
        state = total * tf.math.rsqrt(tf.maximum(tf.reduce_sum(shown, 1, keepdims=True), 1.0))
        state = self.dropout(self.hidden(self.dropout(state * WIDTH**0.5, training=training)), training=training)
        aside = self.aside(state)
        said = tf.math.log_sigmoid(-aside) + tf.nn.log_softmax(self.category(state))
        category = tf.reduce_logsumexp(tf.stack([said, tf.math.log_sigmoid(aside) + tf.math.log(self.usual)]), 0)
        worth = tf.einsum("qp,qpc->qc", tf.cast(phrases > 0, tf.float32), tf.gather(self.phrases, phrases))
        return category, tf.nn.log_softmax(self.purpose + PHRASE_SCALE * worth)

    def loss(self, training: bool) -> tf.Tensor:
        """Return the mean cross-entropy of category and purpose of queries that are drawn at random.

        The purpose's weights of phrases are held small by their squares, as in a logistic regression.
        """
        drawn = tf.random.uniform([DRAWN], maxval=self.examples, dtype=tf.int32)
        category, purpose = self(*(tf.gather(part, drawn) for part in self.queries), training=training)
        total = -tf.reduce_mean(tf.gather(category, tf.gather(self.categories, drawn), batch_dims=1))
        if self.with_purposes:
            total -= tf.reduce_mean(tf.gather(purpose, tf.gather(self.purposes, drawn), batch_dims=1))
            total += tf.nn.l2_loss(PHRASE_SCALE * self.phrases) / (PHRASE_C * self.examples)
        return total
