"""Likeness: how like a product's text is to that of something in the history, added to the scores.

A query is one vector, and a shopper has several interests at once: what is near to one of them can be far from where
they meet (multi-interest models such as MIND, Li et al., CIKM 2019, have several vectors for that). The largest cosine
to one of the newest events' products needs no training, and works for what nobody has bought yet.
"""

import numpy as np
import tensorflow as tf

from tfrs_shop.table_rows import table_rows

# Events with a product whose texts are looked at, the newest.
EVENTS = 8
# Numbers of a text's vector that are kept: the directions in which the catalogue's texts differ most.
WIDTH = 64


def likeness_vectors(text_vectors: np.ndarray) -> np.ndarray:
    """Return ``[products + 1, at most WIDTH]`` float32, unit length; row 0 is zeros, and so is a product without text.

    Args:
        text_vectors: ``[products + 1, width]``, padding row first; no columns where the catalogue has none.
    """
    texts = text_vectors.astype(np.float64)
    known = np.any(texts != 0.0, axis=1)
    if not known.any():
        return np.zeros((len(texts), 0), np.float32)
    centred = np.where(known[:, None], texts - texts[known].mean(0), 0.0)
    # Of the covariance, which is small however many products there are; the largest are last.
    directions = np.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, :WIDTH]
    kept = centred @ directions
    return (kept / np.maximum(np.linalg.norm(kept, axis=1, keepdims=True), 1e-9)).astype(np.float32)


class Likeness(tf.Module):
    """Says how like products are to a history.

    Args:
        vectors: of `likeness_vectors`.
    """

    def __init__(self, vectors: np.ndarray):
        super().__init__(name="likeness")
        self.vectors = tf.Variable(vectors, trainable=False, name="likeness_vectors")

    def each(self, products: tf.Tensor, history: tf.Tensor) -> tf.Tensor:
        """Return ``[batch, products, events]`` float32: the cosines to the newest EVENTS events; 0 of no product.

        Args:
            products: ``[batch, products]`` int32.
            history: ``[batch, events]`` int32, oldest first, left-padded with 0.
        """
        return tf.einsum("bpd,bed->bpe", table_rows(self.vectors, products), self._newest(history))

    def of(self, products: tf.Tensor, history: tf.Tensor) -> tf.Tensor:
        """Return ``[batch, products]`` float32: the largest of `each`, 0 at least."""
        return tf.maximum(tf.reduce_max(self.each(products, history), 2), 0.0)

    def of_all(self, history: tf.Tensor, some: tf.Variable | None = None) -> tf.Tensor:
        """Return ``[batch, rows]`` float32, as `of` does, of ``some`` of the vectors ``[rows, width]``, or of all."""
        vectors = tf.convert_to_tensor(self.vectors if some is None else some)
        newest = self._newest(history)
        found = tf.zeros([tf.shape(history)[0], tf.shape(vectors)[0]])
        # One event after the other: all at once would be the catalogue's size times that of the history.
        for place in range(EVENTS):
            found = tf.maximum(found, tf.matmul(newest[:, place], vectors, transpose_b=True))
        return found

    def _newest(self, history: tf.Tensor) -> tf.Tensor:
        """Return ``[batch, EVENTS, width]``: the vectors of the newest products; zeros for none."""
        newest = tf.pad(history, [[0, 0], [EVENTS, 0]])[:, -EVENTS:]
        return table_rows(self.vectors, newest)
