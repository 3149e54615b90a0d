"""Edges between products, counted and not trained: of the transition graph and of the complement graph.

A score is the sum, over the newest events of a history, of the weight of the edge that leads to the product, divided by
the root of all weight that leads to it, and faded with the age of the event (arXiv 2605.07125). Mixed with the model's
own distribution the transition graph follows events that training has not seen.
"""

import dataclasses
import functools
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfrs_shop.table_rows import table_rows


@dataclasses.dataclass(frozen=True)
class Edges:
    """The edges of all products, flat: product i's are at ``starts[i]:starts[i + 1]``.

    Attributes:
        starts: ``[products + 2]`` int64; product 0 is padding and has none.
        neighbor: ``[edges]`` int32 product indices.
        weight: ``[edges]`` float32, divided by the root of the neighbour's incoming weight, or of both ends'.
    """

    starts: np.ndarray
    neighbor: np.ndarray
    weight: np.ndarray


def build_edges(rows: list[dict], indices: dict[bytes, int], products: int, both_ends: bool = False) -> Edges:
    """Return the edges of parsed ``transitions/`` or ``complements/`` records, in any order.

    Args:
        rows: feature name to value; products that `indices` lacks are passed over.
        indices: product id to index, from 1.
        products: how many there are.
        both_ends: divide weights by the root of the other end's weight as well, as a cosine does.
    """
    rows = [row for row in rows if row["product_id"] in indices]
    incoming = np.ones(products + 1)
    for row in rows:
        incoming[indices[row["product_id"]]] = max(row["in_weight"], 1)
    by_product = {indices[row["product_id"]]: row for row in rows}
    lengths = np.zeros(products + 1, np.int64)
    neighbors, weights = [], []
    for product in sorted(by_product):
        row = by_product[product]
        places = np.array([indices.get(value, 0) for value in row["neighbor_product_id"]], np.int32)
        weight = np.asarray(row["neighbor_weight"], np.float64)[places > 0]
        places = places[places > 0]
        lengths[product] = len(places)
        neighbors.append(places)
        weights.append(weight / np.sqrt(incoming[places] * (incoming[product] if both_ends else 1.0)))
    flat = np.concatenate(neighbors) if neighbors else np.zeros(0, np.int32)
    return Edges(
        starts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        neighbor=flat.astype(np.int32),
        weight=(np.concatenate(weights) if weights else np.zeros(0)).astype(np.float32),
    )


class Followed(NamedTuple):
    """The edges that leave the events of histories, flat: row by row, in the order of the events.

    A neighbour that several events lead to is there several times.

    Attributes:
        splits: ``[batch + 1]`` int64: row i's edges are at ``splits[i]:splits[i + 1]``.
        row: ``[edges]`` int32, the row of each.
        neighbor: ``[edges]`` int32 products.
        weight: ``[edges]`` float32, faded.
    """

    splits: tf.Tensor
    row: tf.Tensor
    neighbor: tf.Tensor
    weight: tf.Tensor

    def padded(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the neighbours and the weights, ``[batch, most]``, padded with 0 on the right."""
        by_row = functools.partial(tf.RaggedTensor.from_row_splits, row_splits=self.splits, validate=False)
        return by_row(self.neighbor).to_tensor(0), by_row(self.weight).to_tensor(0.0)


def sums_at(wanted: tf.Tensor, keys: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Return ``[batch, wanted]`` float32: of each wanted key the sum of its values, 0 where there is none.

    By sorting, which takes less than comparing each wanted key with each of the others.

    Args:
        wanted: ``[batch, wanted]`` int32.
        keys: ``[batch, some]`` int32, in any order, as often as they like.
        values: ``[batch, some]`` float32.
    """
    # One more, as a row without any cannot be searched.
    keys, values = tf.pad(keys, [[0, 0], [0, 1]]), tf.pad(values, [[0, 0], [0, 1]])
    order = tf.argsort(keys)
    keys = tf.gather(keys, order, batch_dims=1)
    # In float64: what is small beside the sum of all must not be lost.
    values = tf.cast(tf.gather(values, order, batch_dims=1), tf.float64)
    so_far = tf.pad(tf.cumsum(values, axis=1), [[0, 0], [1, 0]])
    first, end = (tf.searchsorted(keys, wanted, side=side) for side in ("left", "right"))
    return tf.cast(tf.gather(so_far, end, batch_dims=1) - tf.gather(so_far, first, batch_dims=1), tf.float32)


class EdgeScorer(tf.Module):
    """Scores products by the edges that leave the newest events of a history.

    Args:
        transitions: the edges.
        events: how many of the newest events are followed; 0: all.
        decay: what an event counts beside the next newer one.
    """

    def __init__(self, transitions: Edges, events: int, decay: float):
        super().__init__(name="transitions")
        self.events, self.decay = events, decay
        # A variable may not be empty, and a gather must have something to point at.
        self.starts = tf.Variable(transitions.starts, trainable=False)
        self.neighbor = tf.Variable(np.append(transitions.neighbor, np.int32(0)), trainable=False)
        self.weight = tf.Variable(np.append(transitions.weight, np.float32(0)), trainable=False)

    def edges(self, history: tf.Tensor) -> Followed:
        """Return the edges that leave ``history`` ``[batch, events]`` int32, left-padded with 0, oldest first."""
        newest = tf.cast(history[:, -self.events :], tf.int64)
        batch, width = tf.unstack(tf.shape(newest, tf.int64))
        fading = tf.pow(self.decay, tf.cast(tf.range(width)[::-1], tf.float32))
        flat = tf.reshape(newest, [-1])
        places = tf.ragged.range(table_rows(self.starts, flat), table_rows(self.starts, flat + 1))
        splits = places.row_splits
        event = tf.searchsorted(splits, tf.range(splits[-1]), side="right", out_type=tf.int64) - 1
        return Followed(
            splits=tf.gather(splits, width * tf.range(batch + 1)),
            row=tf.cast(event // width, tf.int32),
            neighbor=table_rows(self.neighbor, places.values),
            weight=table_rows(self.weight, places.values) * tf.gather(fading, event % width),
        )

    def scores(self, history: tf.Tensor, products: int) -> tf.Tensor:
        """Return ``[batch, products + 1]`` float32, each row summing to 1, or to 0 where no edge leaves the history."""
        dense = self.sums(history, products)
        return tf.math.divide_no_nan(dense, tf.reduce_sum(dense, 1, keepdims=True))

    def sums(self, history: tf.Tensor, products: int) -> tf.Tensor:
        """Return ``[batch, products + 1]`` float32: the faded weights of the edges that lead to each product."""
        found = self.edges(history)
        places = tf.stack([found.row, found.neighbor], 1)
        shape = tf.stack([tf.shape(history)[0], products + 1])
        return tf.scatter_nd(places, found.weight, shape)


def mix(log_chance: tf.Tensor, follows: tf.Tensor, weight: float) -> tf.Tensor:
    """Return log((1 - weight) * model + weight * graph), the score that products are ordered by.

    Args:
        log_chance: the model's log-softmax, any shape.
        follows: the graph's scores, of the same shape, each row summing to 1 or 0.
        weight: of the graph, from 0 to 1.
    """
    return tf.math.log((1.0 - weight) * tf.exp(log_chance) + weight * follows + 1e-30)
