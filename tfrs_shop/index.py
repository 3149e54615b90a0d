"""The index: the nearest product vectors of a query vector, exactly or approximately."""

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

from tfrs_shop.errors import UserError
from tfrs_shop.partitioned_index import PartitionedIndex, Storage

IndexKind = Literal["scann", "brute_force", "partitioned", "partitioned_bfloat16", "partitioned_int8"]
INDEX_KINDS: tuple[IndexKind, ...] = (
    "scann",
    "brute_force",
    "partitioned",
    "partitioned_bfloat16",
    "partitioned_int8",
)
_STORAGES: dict[str, Storage] = {
    "partitioned": "float32",
    "partitioned_bfloat16": "bfloat16",
    "partitioned_int8": "int8",
}
RECALL_WANTED = 0.995
RECALL_AT = 10
SAMPLE = 512
# Fewer products than this make partitions that hold next to nothing.
SMALLEST_FOR_SCANN = 64


def build_index(kind: str, vectors: np.ndarray, queries: np.ndarray, most: int) -> tuple[Any, float]:
    """Return an index over product vectors, and its recall@10 against exact search on `queries`.

    The index is called with queries ``[batch, width]`` float32 and ``k`` of at most `most`, and returns scores
    ``[batch, k]`` float32, best first, and ids ``[batch, k]`` int32.

    ScaNN and the partitioned index search as many of their partitions as a recall of 0.995 takes, so that a small or
    an odd catalogue is served as well as a large one. What the smaller storages lose is not made good: it is measured.

    Args:
        kind: ``scann``; ``brute_force``; or, in operations that stock TensorFlow Serving has, ``partitioned``,
            ``partitioned_bfloat16`` or ``partitioned_int8``.
        vectors: ``[products, width]`` float32; an answer names row i as i + 1.
        queries: ``[queries, width]`` float32, of the kind that will be asked.
        most: the largest number of neighbours that will be asked for.

    Raises:
        UserError: the kind is unknown, or there are too few products for it.
    """
    if kind not in INDEX_KINDS:
        raise UserError(f"--index {kind}: is none of {', '.join(INDEX_KINDS)}.")
    exact = tfrs.layers.factorized_top_k.BruteForce(k=most, name="brute_force")
    exact.index(tf.constant(vectors), _identifiers(vectors))
    if kind == "brute_force":
        return exact, 1.0
    asked = tf.constant(queries[:SAMPLE])
    wanted = exact(asked, k=min(RECALL_AT, most))[1].numpy()
    if kind == "scann":
        return _scann(vectors, asked, wanted, most)
    index = PartitionedIndex(vectors, storage=_STORAGES[kind])
    index.tune(queries[:SAMPLE], wanted, RECALL_WANTED)
    return index, recall_of(index(asked, k=wanted.shape[1])[1].numpy(), wanted)


def _scann(
    vectors: np.ndarray, asked: tf.Tensor, wanted: np.ndarray, most: int
) -> tuple[tfrs.layers.factorized_top_k.TopK, float]:
    if len(vectors) < SMALLEST_FOR_SCANN:
        raise UserError(
            f"--index scann: {len(vectors)} products are too few for its partitions (at least {SMALLEST_FOR_SCANN}); "
            "use --index brute_force."
        )
    leaves = max(2, round(len(vectors) ** 0.5))
    searched = max(1, leaves // 8)
    while True:
        layer = tfrs.layers.factorized_top_k.ScaNN(
            k=most,
            num_leaves=leaves,
            num_leaves_to_search=searched,
            num_reordering_candidates=min(len(vectors), max(4 * most, 200)),
            parallelize_batch_searches=False,
            name="scann",
        )
        with without_native_notes():
            layer.index(tf.constant(vectors), _identifiers(vectors))
        recall = recall_of(layer(asked, k=wanted.shape[1])[1].numpy(), wanted)
        if recall >= RECALL_WANTED or searched == leaves:
            return layer, recall
        searched = min(leaves, 2 * searched)


def _identifiers(vectors: np.ndarray) -> tf.Tensor:
    return tf.range(1, len(vectors) + 1, dtype=tf.int32)


def recall_of(found: np.ndarray, wanted: np.ndarray) -> float:
    """Return the share of the ids in `wanted` ``[queries, k]`` that are in `found` ``[queries, k]``."""
    return float(np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found.tolist(), wanted.tolist(), strict=True)]))


@contextmanager
def without_native_notes() -> Iterator[None]:
    """Drop the informational lines that ScaNN's C++ writes to stderr whatever its log level; pass on all others."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            caught.seek(0)
            for line in caught.read().splitlines():
                if line and not re.match(rb"[IW]\d{4} |WARNING: All log messages before absl", line):
                    os.write(2, line + b"\n")
