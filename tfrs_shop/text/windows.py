"""Long texts as windows of tokens, in the graph: sentences, and long sentences in pieces."""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from tfrs_shop.text.sentences import SENTENCE_END

# Weight of a window without tokens: counts only in a text that has no other, which then has its vector.
_EMPTY = 1e-9


class Windows(NamedTuple):
    """Windows of a batch of texts, one below the other."""

    tokens: tf.RaggedTensor
    """Wordpiece ids, `[windows, (tokens)]` int32."""
    text_of: tf.Tensor
    """Row of the text that a window is from, ascending, `[windows]` int64."""
    texts: tf.Tensor
    """Number of texts, scalar int64."""

    def average(self, vectors: tf.Tensor) -> tf.Tensor:
        """Average the windows' `vectors` `[windows, width]` over each text, `[texts, width]`."""
        weights = tf.where(self.tokens.row_lengths() > 0, 1.0, _EMPTY)[:, tf.newaxis]
        total = tf.math.unsorted_segment_sum(vectors * weights, self.text_of, self.texts)
        return total / tf.math.unsorted_segment_sum(weights, self.text_of, self.texts)


def graph_sentences(texts: tf.Tensor) -> tf.RaggedTensor:
    """Split cleaned `texts` `[batch]` as `split_sentences` does, `[batch, (sentences)]` string, one at least."""
    lines = tf.strings.regex_replace(tf.strings.strip(texts), SENTENCE_END, "\\1\\2\n")
    return tf.strings.split(tf.strings.strip(lines), sep="\n")


def cut_windows(
    texts: tf.Tensor, tokenize: Callable[[tf.Tensor], tf.RaggedTensor], window: int, max_windows: int
) -> Windows:
    """Cut `texts` `[batch]` string into windows of at most `window` tokens that lie in one sentence.

    Every text has at least one window, if only an empty one, and at most `max_windows`: later ones are dropped.
    """
    sentences = graph_sentences(texts)
    tokens = tokenize(sentences.flat_values)
    lengths = tokens.row_lengths()
    # Ragged ranges: where the windows of each sentence start, as offsets into its tokens; 0 for an empty sentence.
    offsets = tf.ragged.range(tf.zeros_like(lengths), tf.maximum(lengths, 1), window)
    starts = (offsets + tf.cast(tokens.row_starts(), offsets.dtype)[:, tf.newaxis]).flat_values
    cut = tf.RaggedTensor.from_row_starts(tokens.flat_values, starts)
    rows = tf.range(tf.size(starts, out_type=tf.int64))
    kept = sentences.with_values(offsets.with_values(rows)).merge_dims(1, 2)[:, :max_windows]
    return Windows(tf.gather(cut, kept.flat_values), kept.value_rowids(), kept.nrows())
