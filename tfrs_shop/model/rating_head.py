"""The rating head: what a user will rate a product, out of what they rated before."""

import numpy as np
import tensorflow as tf
import tf_keras

from tfrs_shop.config import RankingConfig
from tfrs_shop.model.layers import present

LIKENESS_WIDTH = 16
DROPOUT = 0.2


class RatingHead(tf_keras.layers.Layer):
    """Mean rating, plus what the product is rated above it, plus what the user is used to rate above that.

    What a product is rated is counted, a mean of its training ratings that is shrunken the more the fewer there are;
    what its vector and a bias of its own say comes on top. In training the rating that is asked for is taken out of
    the count, or the head would learn to trust it more than it can be trusted.

    The last part is a mean of the user's own past differences, each weighted by how recent it is and how like the
    product that it is asked for (more if it is that product), and shrunken towards 0 the fewer there are. It is a
    neighbourhood model on top of baselines (Koren, KDD 2008, sections 2.1 and 3) with learned instead of counted
    likeness. There are no user weights: a new user, and a rating a second old, are served like any other. A past event
    without rating (NaN) counts nothing; without any, the product's own rating remains.

    Args:
        config: its size.
        products: number of products, without the padding row; each has a bias.
        history: the longest history, in events.
        rating_mean: mean rating of the training events.
    """

    def __init__(self, config: RankingConfig, products: int, history: int, rating_mean: float, **kwargs: object):
        # Ratings and their differences stay in float32, whatever the layers compute in.
        super().__init__(autocast=False, **kwargs)
        self.rating_mean = rating_mean
        self.counted = tf.Variable(tf.zeros([products + 1, 2]), trainable=False, name="counted")
        self.product_shrinkage = tf.Variable(tf.math.log(5.0), name="product_shrinkage")
        self.bias = tf_keras.layers.Embedding(products + 1, 1, "zeros", name="bias")
        self.hidden = tf_keras.layers.Dense(config.units, activation=tf.nn.gelu, name="hidden")
        self.content = tf_keras.layers.Dense(1, kernel_initializer="zeros", name="content")
        small = tf_keras.initializers.TruncatedNormal(stddev=0.03)
        self.likeness = tf_keras.layers.Dense(LIKENESS_WIDTH, kernel_initializer=small, name="likeness")
        self.dropout = tf_keras.layers.Dropout(DROPOUT)
        newest_first = tf.range(1.0, history + 1.0)
        self.recency = tf.Variable(-0.3 * tf.math.log(newest_first), name="recency")
        self.same = tf.Variable(1.0, name="same")
        self.shrinkage = tf.Variable(tf.math.log(4.0), name="shrinkage")

    def count(self, index: np.ndarray, rating: np.ndarray) -> None:
        """Count what the training events' ratings say of each product.

        Args:
            index: ``[events]`` int of products, as in `call`; 0 does not count.
            rating: ``[events]`` float; NaN, where there is none, does not count.
        """
        known = (index > 0) & ~np.isnan(rating)
        size = self.counted.shape[0]
        sums = np.bincount(index[known], rating[known] - self.rating_mean, size)
        self.counted.assign(np.stack([sums, np.bincount(index[known], minlength=size)], 1))

    def call(
        self,
        product: dict[str, tf.Tensor],
        past: dict[str, tf.Tensor],
        each_position: bool = False,
        training: bool = False,
    ) -> tf.Tensor:
        """Return the expected ratings ``[batch, asked]`` float32.

        Args:
            product: what is asked for: ``index`` ``[batch, asked]`` int32 (0: nothing of its own is known), ``vector``
                ``[batch, asked, width]`` float32, and where it is a training event ``rating`` ``[batch, asked]``
                float32, which is then not counted; NaN where there is none.
            past: the history, oldest first: ``index`` ``[batch, history]``, ``vector`` ``[batch, history, width]``
                and ``rating`` ``[batch, history]`` float32, NaN where there is none.
            each_position: the i-th product is asked for after the i-th event, and does not see what came later.
            training: whether dropout is on.
        """
        scale = tf.cast(tf.shape(past["vector"])[2], tf.float32) ** 0.5
        asked_vector = self.dropout(product["vector"] * scale, training=training)
        past_vector = self.dropout(past["vector"] * scale, training=training)
        rated = ~tf.math.is_nan(past["rating"])
        own = self._above_mean(product["index"], asked_vector, product.get("rating"))
        difference = past["rating"] - self.rating_mean - self._above_mean(past["index"], past_vector)
        difference = tf.where(rated, difference, 0.0)
        alike = tf.matmul(self.likeness(asked_vector), self.likeness(past_vector), transpose_b=True)
        length = tf.shape(past["rating"])[1]
        after = tf.range(length)[:, None] if each_position else tf.fill([1, 1], length - 1)
        age = after - tf.range(length)[None]
        counts = rated[:, None] & (age >= 0)[None]
        same = (product["index"][:, :, None] == past["index"][:, None]) & (past["index"] > 0)[:, None]
        logits = tf.cast(alike, tf.float32) + tf.gather(self.recency, tf.maximum(age, 0))[None]
        logits += self.same * tf.cast(same, tf.float32)
        # The cap keeps one very like product from overflowing.
        weight = tf.where(counts, tf.exp(tf.minimum(logits, 8.0)), 0.0)
        total = tf.reduce_sum(weight, 2) + tf.exp(self.shrinkage)
        return self.rating_mean + own + tf.linalg.matvec(weight, difference) / total

    def _above_mean(self, index: tf.Tensor, vector: tf.Tensor, rating: tf.Tensor | None = None) -> tf.Tensor:
        counted = tf.gather(self.counted, index)
        if rating is not None:
            # Of a product that was not counted there is nothing to take out.
            known = ~tf.math.is_nan(rating) & (index > 0) & (counted[..., 1] > 0.0)
            own = tf.stack(
                [tf.where(known, rating, self.rating_mean) - self.rating_mean, tf.cast(known, tf.float32)], -1
            )
            counted -= own
        mean = counted[..., 0] / (counted[..., 1] + tf.exp(self.product_shrinkage))
        learned = self.bias(index) * present(index, self.compute_dtype) + self.content(self.hidden(vector))
        return mean + tf.cast(learned[..., 0], tf.float32)
