"""Random walks over the transition graph from a history's products, in graph, the same for the same seed."""

import numpy as np
import tensorflow as tf

from tfrs_shop.edges import EdgeScorer
from tfrs_shop.served.lookup import is_in
from tfrs_shop.table_rows import table_rows

WALKS, STEPS = 32, 3


class RandomWalk(tf.Module):
    """Walks of a few steps along edges, each drawn by its weight; two steps away is what no edge leads to at once.

    A walk starts at one of the newest products of the history, drawn by how much its age lets it count.

    Args:
        transitions: whose edges, and whose newest events and fading of them, the walks take.
    """

    def __init__(self, transitions: EdgeScorer):
        super().__init__(name="random_walk")
        self.transitions = transitions
        total = np.concatenate([[0.0], np.cumsum(transitions.weight.numpy(), dtype=np.float64)])
        self.total = tf.Variable(total, trainable=False)

    def visited(self, history: tf.Tensor, uniform: tf.Tensor) -> tf.Tensor:
        """Return the products ``[rows, WALKS * STEPS]`` int32 that walks come by, 0 for none or one of the history.

        Args:
            history: ``[rows, events]`` int32 products, oldest first, left-padded with 0.
            uniform: ``[rows, WALKS, STEPS + 1]`` float32 random numbers, at least 0 and below 1.
        """
        newest = history[:, -self.transitions.events :]
        age = tf.cast(tf.range(tf.shape(newest)[1])[::-1], tf.float32)
        counts = tf.cumsum(tf.where(newest > 0, tf.pow(self.transitions.decay, age), 0.0), axis=1)
        drawn = tf.searchsorted(counts, uniform[:, :, 0] * counts[:, -1:], side="right")
        at = tf.gather(newest, tf.minimum(drawn, tf.shape(newest)[1] - 1), batch_dims=1)
        found = []
        for step in range(1, STEPS + 1):
            at = self._next(at, uniform[:, :, step])
            found.append(at)
        products = tf.concat(found, 1)
        return tf.where(is_in(products, history), 0, products)

    def _next(self, products: tf.Tensor, uniform: tf.Tensor) -> tf.Tensor:
        """Return of each of ``products`` a neighbour, drawn by the edges' weights; 0 where no edge leaves."""
        first, last = table_rows(self.transitions.starts, products), table_rows(self.transitions.starts, products + 1)
        below, above = table_rows(self.total, first), table_rows(self.total, last)
        wanted = below + tf.cast(uniform, tf.float64) * (above - below)
        edge = tf.searchsorted(self.total, tf.reshape(wanted, [-1]), side="right", out_type=tf.int64) - 1
        edge = tf.clip_by_value(tf.reshape(edge, tf.shape(products)), first, tf.maximum(last - 1, first))
        return tf.where(last > first, table_rows(self.transitions.neighbor, edge), 0)
