"""The index: the nearest product vectors of a query vector, exactly or approximately."""

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

from tfrs_shop.errors import UserError

IndexKind = Literal["scann", "brute_force"]
INDEX_KINDS: tuple[IndexKind, ...] = ("scann", "brute_force")
RECALL_WANTED = 0.995
RECALL_AT = 10
SAMPLE = 512
# Fewer products than this make partitions that hold next to nothing.
SMALLEST_FOR_SCANN = 64


def build_index(
    kind: str, vectors: np.ndarray, queries: np.ndarray, most: int
) -> tuple[tfrs.layers.factorized_top_k.TopK, float]:
    """Return an index over product vectors, and its recall@10 against exact search on `queries`.

    ScaNN searches more and more of its partitions until the recall is 0.995, so that a small or an odd catalogue is
    served as well as a large one.

    Args:
        kind: ``scann`` or ``brute_force``.
        vectors: ``[products, width]`` float32; an answer names row i as i + 1.
        queries: ``[queries, width]`` float32, of the kind that will be asked.
        most: the largest number of neighbours that will be asked for.

    Raises:
        UserError: the kind is unknown, or there are too few products for it.
    """
    if kind not in INDEX_KINDS:
        raise UserError(f"--index {kind}: is none of {', '.join(INDEX_KINDS)}.")
    identifiers = tf.range(1, len(vectors) + 1, dtype=tf.int32)
    exact = tfrs.layers.factorized_top_k.BruteForce(k=most, name="brute_force")
    exact.index(tf.constant(vectors), identifiers)
    if kind == "brute_force":
        return exact, 1.0
    if len(vectors) < SMALLEST_FOR_SCANN:
        raise UserError(
            f"--index scann: {len(vectors)} products are too few for its partitions (at least {SMALLEST_FOR_SCANN}); "
            "use --index brute_force."
        )
    asked = tf.constant(queries[:SAMPLE])
    wanted = exact(asked, k=min(RECALL_AT, most))[1].numpy()
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
        with _without_native_notes():
            layer.index(tf.constant(vectors), identifiers)
        recall = recall_of(layer(asked, k=min(RECALL_AT, most))[1].numpy(), wanted)
        if recall >= RECALL_WANTED or searched == leaves:
            return layer, recall
        searched = min(leaves, 2 * searched)


def recall_of(found: np.ndarray, wanted: np.ndarray) -> float:
    """Return the share of the ids in `wanted` ``[queries, k]`` that are in `found` ``[queries, k]``."""
    return float(np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found.tolist(), wanted.tolist(), strict=True)]))


@contextmanager
def _without_native_notes() -> Iterator[None]:
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
