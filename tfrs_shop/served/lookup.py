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

    def rows(self, index: tf.Tensor) -> tf.Tensor:
        """Return the rows at ``index`` ``[batch]`` int64, ``[batch, most]``, padded with 0 on the right."""
        first, last = self._ends(index)
        places = first + tf.range(tf.maximum(tf.reduce_max(last - first), 0))
        return self._at(places, places < last, 0)

    def newest(self, index: tf.Tensor, length: int, default: float) -> tf.Tensor:
        """Return the last `length` numbers of the rows at ``index`` ``[batch]`` int64, ``[batch, length]``.

        They are padded with `default` on the left.
        """
        first, last = self._ends(index)
        places = last - tf.range(length, 0, -1, tf.int64)
        return self._at(places, places >= first, default)

    def flat(self, index: tf.Tensor) -> tf.Tensor:
        """Return the numbers of the rows at ``index`` ``[batch]`` int64, one row after the other."""
        first, last = self._ends(index)
        return tf.gather(self.values, tf.ragged.range(first[:, 0], last[:, 0]).values)

    def _ends(self, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.gather(self.starts, index)[:, None], tf.gather(self.starts, index + 1)[:, None]

    def _at(self, places: tf.Tensor, inside: tf.Tensor, default: float) -> tf.Tensor:
        found = tf.gather(self.values, tf.where(inside, places, 0))
        return tf.where(inside, found, tf.constant(default, found.dtype))


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
