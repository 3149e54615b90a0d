"""Tables and lists that a bundle looks things up in, in graph."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf


class Lists(tf.Module):
    """Rows of numbers of any length, kept flat.

    Args:
        rows: numbers that fit into `dtype`.
        dtype: of the numbers.
    """

    def __init__(self, rows: Sequence[Sequence[float]], dtype: type[np.generic] = np.int32):
        super().__init__()
        lengths = np.array([len(row) for row in rows], np.int64)
        # A variable may not be empty, and a gather must have something to point at.
        flat = np.concatenate([np.asarray(row, dtype) for row in rows]) if lengths.sum() else np.zeros(1, dtype)
        self.values = tf.Variable(flat, trainable=False)
        self.starts = tf.Variable(np.concatenate([[0], np.cumsum(lengths)]), trainable=False, dtype=tf.int64)

    def rows(self, index: tf.Tensor) -> tf.RaggedTensor:
        """Return the rows at ``index`` ``[batch]`` int64 as a ragged tensor."""
        first, last = tf.gather(self.starts, index), tf.gather(self.starts, index + 1)
        return tf.gather(self.values, tf.ragged.range(first, last))


class LineTable(tf.Module):
    """From a line of a text file to its number, from 1, so that 0 is free for what is not there.

    Args:
        path: of the file, which becomes an asset of the bundle.
    """

    def __init__(self, path: str):
        super().__init__()
        initializer = tf.lookup.TextFileInitializer(
            path, tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
        )
        self.table = tf.lookup.StaticHashTable(initializer, -1)

    def lookup(self, keys: tf.Tensor) -> tf.Tensor:
        """Return ``[...]`` int64 for strings of the same shape."""
        return self.table.lookup(keys) + 1


def is_in(values: tf.Tensor, members: tf.Tensor) -> tf.Tensor:
    """Say of ``values`` ``[batch, values]`` whether ``members`` ``[batch, members]`` of the same row has them."""
    # One member more, so that there is one at all; it is no value.
    ordered = tf.sort(tf.pad(members, [[0, 0], [0, 1]], constant_values=members.dtype.max), axis=1)
    places = tf.minimum(tf.searchsorted(ordered, values), tf.shape(ordered)[1] - 1)
    return tf.gather(ordered, places, batch_dims=1) == values


def named(spec: tf.TensorSpec, name: str) -> Any:
    """Return `spec` with the name that the input has in the signature."""
    return tf.TensorSpec(spec.shape, spec.dtype, name)
