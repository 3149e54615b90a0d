"""Fast encoding of many texts with a frozen encoder, for pipelines and indexes.

Distinct texts only; batches of texts of one token length, so that nothing is padded; bfloat16 matrix products where
the CPU has them (2.3 ms of CPU for a title of 31 tokens, where float32 takes 3.6). XLA is no faster on a CPU, and it
compiles for every length.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_hub as hub
import tensorflow_text  # noqa: F401  (registers the preprocessor's ops)

from tfrs_shop.errors import UserError
from tfrs_shop.text.bert import load_exported
from tfrs_shop.text.minilm import EncoderHandles, default_encoder
from tfrs_shop.text.pooling import check_pooling, pool

Progress = Callable[[int, int], None]
_TOKENISED_AT_ONCE = 4096


def encode_texts(
    texts: Sequence[str],
    handles: EncoderHandles | None = None,
    *,
    sequence_length: int = 128,
    batch_size: int = 64,
    pooling: str = "mean",
    precision: str = "auto",
    progress: Progress | None = None,
) -> np.ndarray:
    """Return the vectors of `texts`, `[len(texts), width]` float32, in their order.

    A vector depends on its text alone, not on the texts beside it (to 1e-5; on the CPUs tried, bit for bit).

    Args:
        texts: any texts; equal ones are encoded once.
        handles: a TF-Hub preprocessor and encoder; all-MiniLM-L6-v2 by default.
        sequence_length: tokens of a text that are read, [CLS] and [SEP] included; the rest is cut off.
        batch_size: texts at once. Memory grows with it, speed hardly above 64.
        pooling: "mean", "cls" or "concat" as in `TextEncoder`.
        precision: "float32"; "bfloat16" for the matrix products, which costs a cosine of 0.00003; "auto" takes
            bfloat16 where the CPU computes in it. Encoders that this package did not build are always float32.
        progress: called as `progress(done, total)` after every batch, counting distinct texts.
    """
    check_pooling(pooling)
    if sequence_length < 3:
        raise UserError(f"sequence_length must be at least 3 ([CLS], a token, [SEP]), not {sequence_length}")
    if batch_size < 1:
        raise UserError(f"batch_size must be at least 1, not {batch_size}")
    encoder = _load(handles or default_encoder(), pooling, _product_dtype(precision))
    row_of = {text: row for row, text in enumerate(dict.fromkeys(texts))}
    vectors = encoder.encode(list(row_of), sequence_length, batch_size, progress or (lambda done, total: None))
    return vectors[[row_of[text] for text in texts]]


class _FrozenEncoder:
    """Preprocessor, encoder and pooling as one graph for any batch shape."""

    def __init__(self, handles: EncoderHandles, pooling: str, product_dtype: str) -> None:
        self._preprocessor = hub.load(handles.preprocessor)
        encoder = load_exported(Path(hub.resolve(handles.encoder)), product_dtype)
        if encoder is None:
            encoder = hub.KerasLayer(handles.encoder, trainable=False)

        @tf.function(
            autograph=False, input_signature=[tf.RaggedTensorSpec([None, None], tf.int32), tf.TensorSpec([], tf.int32)]
        )
        def vectors_of(tokens: tf.RaggedTensor, length: tf.Tensor) -> tf.Tensor:
            inputs = self._preprocessor.bert_pack_inputs([tokens], seq_length=length)
            return pool(encoder(inputs, training=False)["sequence_output"], inputs["input_mask"], pooling)

        self._vectors_of = vectors_of

    def encode(self, texts: list[str], sequence_length: int, batch_size: int, progress: Progress) -> np.ndarray:
        """Encode distinct `texts`, `[len(texts), width]` float32."""
        tokens = self._tokenise(texts)
        lengths = np.minimum(np.diff(tokens.row_splits.numpy()) + 2, sequence_length)
        batches = _batches_of_one_length(lengths, batch_size)
        vectors, done = None, 0
        for rows in batches:
            encoded = self._vectors_of(tf.gather(tokens, rows), tf.constant(lengths[rows[0]], tf.int32)).numpy()
            if vectors is None:
                vectors = np.empty([len(texts), encoded.shape[1]], np.float32)
            vectors[rows] = encoded
            done += len(rows)
            progress(done, len(texts))
        return self._no_vectors() if vectors is None else vectors

    def _tokenise(self, texts: list[str]) -> tf.RaggedTensor:
        # Half a surrogate pair is no text, and must not stop a pipeline.
        encoded = [text.encode("utf-8", "ignore") for text in texts]
        chunks = [encoded[start : start + _TOKENISED_AT_ONCE] for start in range(0, len(texts), _TOKENISED_AT_ONCE)]
        ragged = [self._preprocessor.tokenize(tf.constant(chunk, tf.string)) for chunk in chunks or [[]]]
        # Official preprocessors keep a dimension of words.
        return tf.concat([ids.merge_dims(1, -1) if ids.ragged_rank > 1 else ids for ids in ragged], axis=0)

    def _no_vectors(self) -> np.ndarray:
        width = self.encode([""], 3, 1, lambda done, total: None).shape[1]
        return np.zeros([0, width], np.float32)


def _batches_of_one_length(lengths: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Return the rows of `lengths` in batches of equal length, longest first: memory runs out at once or never."""
    order = np.argsort(-lengths, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(lengths[order])) + 1) if len(order) else []
    return [group[start : start + batch_size] for group in groups for start in range(0, len(group), batch_size)]


@lru_cache(maxsize=2)
def _load(handles: EncoderHandles, pooling: str, product_dtype: str) -> _FrozenEncoder:
    return _FrozenEncoder(handles, pooling, product_dtype)


def _product_dtype(precision: str) -> str:
    if precision not in ("auto", "float32", "bfloat16"):
        raise UserError(f"precision must be one of auto, float32, bfloat16, not {precision!r}")
    if precision != "auto":
        return precision
    return "bfloat16" if _cpu_multiplies_bfloat16() and not tf.config.list_physical_devices("GPU") else "float32"


@lru_cache(maxsize=1)
def _cpu_multiplies_bfloat16() -> bool:
    """Whether the CPU has instructions for bfloat16 products; without them TensorFlow emulates, slowly."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
