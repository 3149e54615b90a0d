"""BERT preprocessing in tensorflow_text with the TF-Hub text API, equal to BERT's own tokeniser.

tensorflow_text's own `lower_case=True` case-folds by NFKC, which changes full-width letters, trade marks, fractions
and the sharp s; BERT does not. So text is normalised here, and FastBertTokenizer gets it with lower-casing off.
"""

from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf
import tensorflow_text as tf_text

# BERT takes a word of more than 100 letters for unknown. tensorflow_text counts bytes, and 34 Thai letters are more
# than 100; so it gets room, and long words of ASCII are made unknown here. What still differs from BERT are words
# of 101 letters and more in other scripts: up to 400 bytes they are read.
_LONGEST_WORD = 100
_TOO_LONG = f"[0-9a-z]{{{_LONGEST_WORD + 1},}}"  # RE2 runs out of memory on this with a class of Unicode letters
_NO_WORDPIECE = "\ue000"  # a private character: none is left when this is put in, and no vocabulary has it


class BertPreprocessor(tf.Module):
    """Text to the input dict of a BERT encoder, to be saved and loaded as a TF-Hub preprocessor.

    `__call__(texts)` packs to `sequence_length` tokens. For other lengths and for several segments,
    `tokenize(texts)` gives ragged ids, and `bert_pack_inputs([ids, ...], seq_length=n)` the dict.
    """

    def __init__(self, vocabulary: Sequence[str], sequence_length: int = 128) -> None:
        """Take the wordpieces of an uncased model in the order of their ids, as in BERT's `vocab.txt`."""
        super().__init__(name="bert_preprocessor")
        self.sequence_length = sequence_length
        pieces = list(vocabulary)
        self._start, self._end, self._pad = (pieces.index(name) for name in ("[CLS]", "[SEP]", "[PAD]"))
        self._tokenizer = tf_text.FastBertTokenizer(
            pieces, token_out_type=tf.int32, support_detokenization=False, max_bytes_per_word=4 * _LONGEST_WORD
        )

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.string)])
    def __call__(self, texts: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return `input_word_ids`, `input_mask` and `input_type_ids`, `[batch, sequence_length]` int32."""
        return self._pack([self._tokenize(texts)], self.sequence_length)

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.string)])
    def tokenize(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Return the wordpiece ids of `texts` `[batch]`, `[batch, (tokens)]` int32, without [CLS] and [SEP]."""
        return self._tokenize(texts)

    @tf.function(autograph=False)
    def bert_pack_inputs(self, segments: list[tf.RaggedTensor], seq_length: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return the input dict `[batch, seq_length]` of one or more `segments` `[batch, (tokens)]` int32.

        `[batch, (words), (tokens)]` is taken too, as `tokenize` of the official preprocessors returns it.
        """
        return self._pack(segments, seq_length)

    def export(self, path: Path) -> None:
        """Save to the directory `path` for `hub.load`, `hub.KerasLayer` and `tf.saved_model.load`."""
        for dimensions in (2, 3):
            ids = tf.RaggedTensorSpec([None] * dimensions, tf.int32)
            for segments in (1, 2):
                self.bert_pack_inputs.get_concrete_function([ids] * segments, seq_length=tf.TensorSpec([], tf.int32))
        tf.saved_model.save(self, str(path))

    def _tokenize(self, texts: tf.Tensor) -> tf.RaggedTensor:
        return self._tokenizer.tokenize(_uncased(texts))

    def _pack(self, segments: list[tf.RaggedTensor], seq_length: tf.Tensor | int) -> dict[str, tf.Tensor]:
        segments = [ids.merge_dims(1, -1) if ids.ragged_rank > 1 else ids for ids in segments]
        room = seq_length - len(segments) - 1
        # For one segment a slice says the same as the trimmer, without its op.
        trimmed = [segments[0][:, :room]] if len(segments) == 1 else tf_text.RoundRobinTrimmer(room).trim(segments)
        combined, types = tf_text.combine_segments(trimmed, self._start, self._end)
        word_ids, mask = tf_text.pad_model_inputs(combined, seq_length, self._pad)
        type_ids, _ = tf_text.pad_model_inputs(types, seq_length)
        inputs = {"input_word_ids": word_ids, "input_mask": mask, "input_type_ids": type_ids}
        return {name: tf.cast(values, tf.int32) for name, values in inputs.items()}


def _uncased(texts: tf.Tensor) -> tf.Tensor:
    """Clean, strip accents and lower-case as BERT's BasicTokenizer does, `[batch]` string to `[batch]` string."""
    texts = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")
    texts = tf.strings.regex_replace(texts, r"[\t\n\r]", " ")
    texts = tf.strings.regex_replace(texts, r"[\p{Cc}\p{Cf}\p{Co}\x{FFFD}]", "")
    texts = tf_text.normalize_utf8(texts, "NFD")
    texts = tf.strings.regex_replace(texts, r"\p{Mn}", "")
    # Lower-casing a whole string knows the final sigma; BERT lower-cases letter by letter.
    texts = tf.strings.regex_replace(texts, "Σ", "σ")
    texts = tf.strings.lower(texts, encoding="utf-8")
    return tf.strings.regex_replace(texts, _TOO_LONG, _NO_WORDPIECE)
