"""Habits: products that a user comes back to, counted by the pipeline, mixed with the chances of the next product.

Inside a session hardly anything comes twice, so habits count only where a new session begins; see
``pipelines/habits.py``. Of products that a user comes back to as often, the one that others buy is likelier.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

# The power of a product's training events that its weight is multiplied by; chosen on the last but one baskets of
# Online Retail.
POPULARITY = 0.25


class Usual(NamedTuple):
    """What users are used to.

    Attributes:
        product: ``[batch, some]`` int32, each once; 0 for none.
        share: ``[batch, some]`` float32, of all that the user is used to; each row sums to 1, or to 0 where nothing is
            known, or no session begins.
    """

    product: tf.Tensor
    share: tf.Tensor

    def of(self, products: tf.Tensor) -> tf.Tensor:
        """Return the shares of ``products`` ``[batch, products]``, 0 of what is none."""
        same = (products[:, :, None] == self.product[:, None, :]) & (products > 0)[:, :, None]
        return tf.reduce_sum(tf.where(same, self.share[:, None, :], 0.0), 2)

    def of_all(self, products: int) -> tf.Tensor:
        """Return ``[batch, products + 1]`` float32: the shares of the whole catalogue."""
        rows = tf.broadcast_to(tf.range(tf.shape(self.product)[0])[:, None], tf.shape(self.product))
        shape = tf.stack([tf.shape(self.product)[0], products + 1])
        return tf.scatter_nd(tf.stack([rows, self.product], 2), self.share, shape)

    def mixed(self, log_chance: tf.Tensor, share: tf.Tensor, weight: float) -> tf.Tensor:
        """Return log((1 - weight) * chance + weight * share), and `log_chance` itself in rows without habits.

        Args:
            log_chance: ``[batch, products]``, of the model and the transition graph.
            share: ``[batch, products]``, of `of` or `of_all`.
            weight: of habits, from 0 to 1.
        """
        known = tf.reduce_sum(self.share, 1, keepdims=True) > 0.0
        mixture = tf.math.log((1.0 - weight) * tf.exp(log_chance) + weight * share + 1e-30)
        return tf.where(known, mixture, log_chance)


def usual_of(rows: dict[str, tf.Tensor]) -> Usual:
    """Return the habits in `rows` of ``ShopData.evaluation_batches`` or of stored users."""
    return Usual(rows["usual_product"], rows["usual_share"])


def prior(train_count: np.ndarray) -> np.ndarray:
    """Return ``[products + 1]`` float32: what the weight of a habit is multiplied by, given the training events."""
    return ((1.0 + train_count) ** POPULARITY).astype(np.float32)


def usual(products: tf.Tensor, weights: tf.Tensor, prior: tf.Tensor) -> Usual:
    """Return what users are used to.

    Args:
        products: ``[batch, some]`` int32; 0, an unknown one or none, has no share.
        weights: ``[batch, some]`` float32.
        prior: ``[products + 1]`` float32, of `prior`.
    """
    known = tf.where(products > 0, weights * tf.gather(prior, products), 0.0)
    return Usual(products, tf.math.divide_no_nan(known, tf.reduce_sum(known, 1, keepdims=True)))
