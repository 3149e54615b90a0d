"""Softmax losses over a target and some other products, for catalogues too big to score every product in a step.

The sum over all products that a softmax divides by is estimated: the target counts once, mined products count once
each, and every drawn product stands for as many as it was expected to be drawn too rarely (the logQ correction, Bengio
and Senécal 2008; Yi et al., RecSys 2019). The target is in the sum for sure and is therefore not corrected
(Khrylchenko et al., RecSys 2025).
"""

import numpy as np
import tensorflow as tf

# Products that are searched for hard negatives in a step; of a larger catalogue that many are drawn.
MINED_POOL = 16_384
HIDDEN = -1e9


def softmax_loss(
    queries: tf.Tensor,
    positives: tf.Tensor,
    negatives: tf.Tensor,
    *,
    temperature: float,
    expected: tf.Tensor | None = None,
    hidden: tf.Tensor | None = None,
    bonus: tf.Tensor | None = None,
    more: tf.Tensor | None = None,
) -> tf.Tensor:
    """Return ``[queries]`` float32: minus the log of each target's share in the softmax.

    Args:
        queries: ``[queries, width]`` float32.
        positives: ``[queries, width]`` float32, the vector of each query's target.
        negatives: ``[negatives, width]`` float32, the same for all queries.
        temperature: divides the scores.
        expected: ``[negatives]`` float32, how often each was expected to be drawn; None: no correction.
        hidden: ``[queries, negatives]`` bool, those that are no negatives of a query.
        bonus: ``[queries]`` float32, added to the target's score before it is divided.
        more: ``[queries, some]`` float32 scores, divided already, of negatives that are a query's own.
    """
    own = tf.reduce_sum(queries * positives, 1, keepdims=True)
    own = (own if bonus is None else own + bonus[:, None]) / temperature
    others = tf.matmul(queries, negatives, transpose_b=True) / temperature
    if expected is not None:
        others -= tf.math.log(expected)
    if hidden is not None:
        others = tf.where(hidden, HIDDEN, others)
    logits = tf.concat([own, others] if more is None else [own, others, more], 1)
    return tf.nn.sparse_softmax_cross_entropy_with_logits(tf.zeros_like(logits[:, 0], tf.int32), logits)


class NegativeSampler:
    """Draws products with replacement, each by its probability.

    Args:
        probability: ``[products + 1]``, sums to 1; 0 for row 0, "no product".
    """

    def __init__(self, probability: np.ndarray):
        self._probability = tf.constant(probability, tf.float32)
        # In float64: float32 could not tell apart the rare products of a large catalogue.
        self._up_to = tf.constant(np.cumsum(probability, dtype=np.float64)[1:], tf.float64)

    def draw(self, count: int) -> tf.Tensor:
        """Return ``[count]`` int32 product indices."""
        places = tf.searchsorted(self._up_to, tf.random.uniform([count], dtype=tf.float64), side="right")
        return 1 + tf.minimum(places, tf.size(self._up_to) - 1)

    def expected(self, products: tf.Tensor, count: tf.Tensor | int) -> tf.Tensor:
        """Return ``[products]`` float32: how often each would be drawn, on average, among `count`."""
        return tf.gather(self._probability, products) * tf.cast(count, tf.float32)


def mined(queries: tf.Tensor, vectors: tf.Tensor, count: int) -> tf.Tensor:
    """Return ``[found]`` int32: the distinct products that are among the `count` nearest of any query.

    Args:
        queries: ``[queries, width]`` float32.
        vectors: ``[products + 1, width]`` float32; no gradient flows to them.
        count: products for each query, at most those that are searched (`MINED_POOL`).
    """
    products = vectors.shape[0] - 1
    pool = tf.range(1, products + 1)
    if products > MINED_POOL:
        pool = tf.random.uniform([MINED_POOL], 1, products + 1, tf.int32)
    scores = tf.matmul(tf.stop_gradient(queries), tf.gather(vectors, pool), transpose_b=True)
    _, nearest = tf.math.top_k(scores, min(count, pool.shape[0]), sorted=False)
    return tf.unique(tf.reshape(tf.gather(pool, nearest), [-1]))[0]


def following(label: tf.Tensor) -> tf.Tensor:
    """Return ``[positions, history]`` int32: of each labelled position its label and those that come after it.

    Args:
        label: ``[batch, history]`` int32, 0 where there is none.
    """
    length = tf.shape(label)[1]
    later = tf.linalg.band_part(tf.ones([length, length], tf.int32), 0, -1)
    return tf.boolean_mask(label[:, None] * later, label > 0)


def contains(lists: tf.Tensor, products: tf.Tensor, size: int) -> tf.Tensor:
    """Return ``[lists, products]`` bool: whether a list holds a product.

    Args:
        lists: ``[lists, length]`` int32, 0 padded.
        products: ``[products]`` int32, distinct, none of them 0.
        size: the largest product index plus 1.
    """
    count = tf.size(products)
    # What is not asked for goes to a last column, which is cut off.
    column_of = tf.tensor_scatter_nd_update(tf.fill([size], count), products[:, None], tf.range(count))
    column = tf.gather(column_of, lists)
    row = tf.broadcast_to(tf.range(tf.shape(lists)[0])[:, None], tf.shape(column))
    places = tf.reshape(tf.stack([row, column], 2), [-1, 2])
    found = tf.scatter_nd(places, tf.ones_like(places[:, 0]), tf.stack([tf.shape(lists)[0], count + 1]))
    return found[:, :-1] > 0
