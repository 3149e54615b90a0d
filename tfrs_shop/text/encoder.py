"""`TextEncoder`: text in, vectors out, as a Keras layer around two TF-Hub models."""

import re
from collections.abc import Mapping
from typing import Any, Literal

import tensorflow as tf
import tensorflow_hub as hub
import tensorflow_text  # noqa: F401  (registers the preprocessor's ops)
import tf_keras

from tfrs_shop.errors import UserError
from tfrs_shop.text.batch import encode_texts
from tfrs_shop.text.minilm import EncoderHandles, default_encoder
from tfrs_shop.text.pooling import check_pooling, pool
from tfrs_shop.text.windows import Windows, cut_windows

__all__ = ["EncoderHandles", "TextEncoder", "encode_texts"]

# "transformer/layer_3/...", "bert/encoder/layer_3/...", "layer.3." in the variable names of the hub's BERT models.
_LAYER_NUMBER = re.compile(r"layer[_./](\d+)[./]")


class TextEncoder(tf_keras.layers.Layer):
    """Encode texts with a BERT from TF-Hub, frozen or partly or wholly trainable.

    Frozen (`trainable_layers=0`) suits catalogues that change faster than models are trained; encode such texts once
    with `encode_texts` where you can. A few layers (1 or 2) adapt the model to the shop's words at less
    cost than all. Layers that the pooling does not use (the pooler) stay frozen always.

    Texts should have passed `clean_text`. An empty text gives the vector of ``[CLS] [SEP]``.

    Args:
        handles: preprocessor and encoder in the TF-Hub text API; all-MiniLM-L6-v2 by default.
        pooling: "mean" over the tokens, "cls" for the last layer's [CLS], or "concat" of both (twice as wide).
        trainable_layers: 0, or the number of transformer layers, counted from the last, or "all".
        sequence_length: tokens at once, [CLS] and [SEP] included, at most the encoder's positions (512 as a rule).
            Without `long_text` the rest is cut off.
        long_text: cut texts into sentences, and those into windows of `sequence_length`; average the windows' vectors.
        max_windows: windows of a long text that are read.
        name: name of the layer.
    """

    def __init__(
        self,
        handles: EncoderHandles | Mapping[str, str] | None = None,
        *,
        pooling: str = "mean",
        trainable_layers: int | Literal["all"] = 0,
        sequence_length: int = 32,
        long_text: bool = False,
        max_windows: int = 16,
        name: str = "text_encoder",
    ) -> None:
        super().__init__(name=name, dtype="float32")
        check_pooling(pooling)
        if sequence_length < 3:
            raise UserError(f"sequence_length must be at least 3 ([CLS], a token, [SEP]), not {sequence_length}")
        if max_windows < 1:
            raise UserError(f"max_windows must be at least 1, not {max_windows}")
        self.handles = EncoderHandles(**handles) if isinstance(handles, Mapping) else handles or default_encoder()
        self.pooling = pooling
        self.trainable_layers = trainable_layers
        self.sequence_length = sequence_length
        self.long_text = long_text
        self.max_windows = max_windows
        self.preprocessor = hub.KerasLayer(self.handles.preprocessor, name="preprocessor")
        self.encoder = hub.KerasLayer(self.handles.encoder, trainable=trainable_layers != 0, name="encoder")
        self._adapted = _adapted_names([v.name for v in self.encoder.variables], trainable_layers)
        # Traced, not run: under a distribution strategy variables may not be read here.
        ids = {
            name: tf.TensorSpec([None, None], tf.int32) for name in ("input_word_ids", "input_mask", "input_type_ids")
        }
        with tf.init_scope():
            self._width = int(
                tf.function(self._encode_ids, autograph=False).get_concrete_function(ids).output_shapes[1]
            )

    @property
    def width(self) -> int:
        """Width of the vectors."""
        return self._width

    @property
    def trainable_weights(self) -> list[tf.Variable]:
        """The encoder's variables that training moves."""
        return [v for v in self.encoder.variables if v.name in self._adapted] if self.trainable else []

    @property
    def non_trainable_weights(self) -> list[tf.Variable]:
        """The encoder's other variables."""
        return [v for v in self.encoder.variables if not (self.trainable and v.name in self._adapted)]

    def call(self, texts: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Encode `texts` `[batch]` string as `[batch, width]` float32; `training` is for the dropout."""
        if not self.long_text:
            return self._encode_ids(self._pack(self._tokenize(texts)), training)
        windows: Windows = cut_windows(texts, self._tokenize, self.sequence_length - 2, self.max_windows)
        vectors = self._encode_ids(self._pack(windows.tokens), training)
        return windows.average(vectors)

    def word_vectors(self, texts: tf.Tensor, sequence_length: int) -> tuple[tf.RaggedTensor, tf.RaggedTensor]:
        """Return the words of `texts` `[batch]` string, and what each adds to its text's vector.

        A mean over tokens is the sum of what each token adds. What [CLS] and [SEP] add is spread evenly over the words.
        A word that is cut off, or in which the tokenizer finds no token, adds nothing.

        Args:
            texts: `[batch]` string.
            sequence_length: tokens that are read, [CLS] and [SEP] included.

        Returns:
            `[batch, (words)]` string, the text cut at its blanks; `[batch, (words), width]` float32, which sum to the
            text's vector wherever a text has tokens.

        Raises:
            UserError: the pooling is not "mean", or texts are read in windows.
        """
        if self.pooling != "mean" or self.long_text:
            raise UserError('what a word adds is known of pooling "mean" without long_text alone.')
        words = tf.strings.split(texts)
        # Wordpieces never cross a blank, so a text's tokens are its words' tokens, one after the other.
        pieces = words.with_values(self._tokenize(words.values))
        tokens = pieces.merge_dims(1, 2)
        tokens = tokens[:, : sequence_length - 2]
        inputs = self._pack(tokens)
        outputs = self.encoder(inputs, training=False)["sequence_output"]
        mask = tf.cast(inputs["input_mask"], tf.float32)[..., None]
        count = tf.reduce_sum(mask, 1, keepdims=True)
        adds = outputs * mask / count
        read = tf.minimum(tokens.row_lengths(), tf.shape(adds, tf.int64)[1] - 2)
        of_tokens = tf.RaggedTensor.from_tensor(adds[:, 1:], lengths=read)
        both = tf.reduce_sum(adds, 1) - tf.reduce_sum(of_tokens, 1)
        even = both / tf.cast(tf.maximum(read, 1), tf.float32)[:, None]
        flat = of_tokens.values + tf.gather(even, of_tokens.value_rowids())
        # The number of the word of each token that was read, over the whole batch.
        word = pieces.with_values(
            pieces.values.with_values(tf.cast(pieces.values.value_rowids(), tf.int32))
        ).merge_dims(1, 2)
        word = tf.ragged.boolean_mask(word, tf.ragged.range(word.row_lengths()) < read[:, None]).values
        summed = tf.math.unsorted_segment_sum(flat, word, tf.size(words.values))
        return words, words.with_values(summed)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, for Keras."""
        return {
            "handles": {"preprocessor": self.handles.preprocessor, "encoder": self.handles.encoder},
            "pooling": self.pooling,
            "trainable_layers": self.trainable_layers,
            "sequence_length": self.sequence_length,
            "long_text": self.long_text,
            "max_windows": self.max_windows,
            "name": self.name,
        }

    def _tokenize(self, texts: tf.Tensor) -> tf.RaggedTensor:
        tokens = self.preprocessor.resolved_object.tokenize(texts)
        return tokens.merge_dims(1, -1) if tokens.ragged_rank > 1 else tokens  # official ones keep a dimension of words

    def _pack(self, tokens: tf.RaggedTensor) -> dict[str, tf.Tensor]:
        # Only as long as the longest text of the batch: queries have 5 tokens, not `sequence_length`.
        longest = tf.reduce_max(tf.concat([tokens.row_lengths(), [1]], axis=0))
        length = tf.minimum(tf.cast(longest, tf.int32) + 2, self.sequence_length)
        return self.preprocessor.resolved_object.bert_pack_inputs([tokens], seq_length=length)

    def _encode_ids(self, inputs: dict[str, tf.Tensor], training: bool | None = None) -> tf.Tensor:
        outputs = self.encoder(inputs, training=training)
        return pool(outputs["sequence_output"], inputs["input_mask"], self.pooling)


def _adapted_names(names: list[str], trainable_layers: int | Literal["all"]) -> frozenset[str]:
    """Return the names of the variables that training may move."""
    useful = [name for name in names if "pooler" not in name]
    if trainable_layers == "all":
        return frozenset(useful)
    number_of = {name: int(match[1]) for name in useful if (match := _LAYER_NUMBER.search(name))}
    count = max(number_of.values(), default=-1) + 1
    if not isinstance(trainable_layers, int) or not 0 <= trainable_layers <= count:
        raise UserError(
            f"trainable_layers must be 'all' or between 0 and {count}, the number of transformer layers found in "
            f"the encoder, not {trainable_layers!r}"
        )
    return frozenset(name for name, number in number_of.items() if number >= count - trainable_layers)
