"""The product tower: what is known of a product, as one vector."""

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras

from tfrs_shop.catalogue import BUCKETED, POPULARITY
from tfrs_shop.config import TowerConfig
from tfrs_shop.model.layers import EMBEDDING_DEVIATION, centred, embedding, present, small

LEAST_PRODUCTS = 3


class ProductTower(tf_keras.layers.Layer):
    """Sums an id embedding, an adapted text vector, and embeddings of brand, category path and numbers.

    The sum is what measured best on Amazon Beauty; a product without an id embedding (a new one) or without text
    still gets the rest. Text vectors are centred on the catalogue's mean, since sentence encoders leave a large
    common part, and scaled to unit variance.

    Args:
        config: sizes, dropout, and which parts are used.
        products: number of products, without the padding row.
        words: ``[words + 1]`` number of products that have each word, the padding's first; a word of few products tells
            no two of them to be alike, and is left out.
        categories: number of category prefixes.
        brands: number of brands.
        bucket_sizes: number of buckets of each product number, 0 for "missing" included.
        text_mean: ``[text width]`` mean text vector of the catalogue; empty where there is no text.
        dense_words: look words up as XLA can, which cannot take sparse tensors; it needs the memory of all of them.
    """

    def __init__(
        self,
        config: TowerConfig,
        products: int,
        words: np.ndarray,
        categories: int,
        brands: int,
        bucket_sizes: list[int],
        text_mean: list[float],
        dense_words: bool = False,
        **kwargs: object,
    ):
        # Text vectors are centred in float32, whatever the tower computes in.
        super().__init__(autocast=False, **kwargs)
        self.config, self.dense_words = config, dense_words
        self.products, self.text_width = products, len(text_mean)
        uses_text = config.text and self.text_width > 0
        if config.ids:
            self.id_embedding = embedding(products + 1, config.width, "id")
        if uses_text:
            self.text_mean = tf.constant(text_mean, tf.float32)
            self.text_dropout = tf_keras.layers.Dropout(config.text_dropout)
            self.text_hidden = tf_keras.layers.Dense(2 * config.width, activation=tf.nn.gelu, name="text_hidden")
            self.text_output = tf_keras.layers.Dense(config.width, kernel_initializer=small(), name="text_output")
        if config.attributes:
            self.category_embedding = embedding(categories + 1, config.width, "category")
            self.brand_embedding = embedding(brands + 1, config.width, "brand")
            self.bucket_embeddings = [
                embedding(size, config.width, f"bucket{i}") for i, size in enumerate(bucket_sizes)
            ]
        if config.words:
            self.words = self.add_weight("words", [len(words), config.width], tf.float32, "zeros")
            # Saved with the weights: another catalogue has other counts, and an untrained word must stay out.
            self.shared_words = tf.Variable(words >= LEAST_PRODUCTS, trainable=False, name="shared_words")
        self.uses_text = uses_text
        if config.fusion == "cross":
            self.cross = tfrs.layers.feature_interaction.Cross(projection_dim=config.width, name="cross")
            self.cross_output = tf_keras.layers.Dense(config.width, kernel_initializer=small(), name="cross_output")

    def call(self, inputs: dict[str, tf.Tensor], training: bool | None = None) -> tf.Tensor:
        """Return ``[products, width]`` float32 vectors.

        Args:
            inputs: ``index`` ``[products]`` int32 (0: no id embedding), ``text_vector`` ``[products, text width]``,
                ``words`` ``[products, most]`` int32, ``category`` ``[products, depth]`` int32,
                ``brand`` ``[products]`` int32, ``buckets`` ``[products, numbers]`` int32.
            training: whether dropout is on.
        """
        parts = self.parts(inputs, training)
        if not parts:
            return tf.zeros([tf.shape(inputs["index"])[0], self.config.width])
        return self.fused(list(parts.values()))

    def parts(self, inputs: dict[str, tf.Tensor], training: bool | None = None) -> dict[str, tf.Tensor]:
        """Return the parts of the vectors, each ``[products, width]``, by what they are made of.

        Its arguments are those of `call`.
        """
        index = inputs["index"]
        # Without an id a product is new: it has no popularity either.
        aged = present(index, self.compute_dtype)
        if training and self.config.id_dropout:
            aged *= tf.cast(tf.random.uniform([tf.shape(index)[0], 1]) >= self.config.id_dropout, aged.dtype)
        parts: dict[str, tf.Tensor] = {}
        if self.config.ids:
            parts["id"] = self.id_embedding(index) * aged
        if self.uses_text:
            text = tf.cast(centred(inputs["text_vector"], self.text_mean), self.compute_dtype)
            parts["text"] = self.text_output(self.text_hidden(self.text_dropout(text, training=training)))
        if self.config.words:
            parts["words"] = tf.cast(self._words(inputs["words"]), self.compute_dtype)
        if self.config.attributes:
            category, brand = inputs["category"], inputs["brand"]
            prefixes = self.category_embedding(category) * present(category, self.compute_dtype)
            parts["category"] = tf.reduce_sum(prefixes, 1)
            parts["brand"] = self.brand_embedding(brand) * present(brand, self.compute_dtype)
            for place, table in enumerate(self.bucket_embeddings):
                bucket = inputs["buckets"][:, place]
                known = present(bucket, self.compute_dtype)
                if BUCKETED[place] == POPULARITY:
                    known *= aged
                parts[BUCKETED[place]] = table(bucket) * known
        return parts

    def fused(self, parts: list[tf.Tensor]) -> tf.Tensor:
        """Return ``[products, width]`` float32: the vectors that `parts` make, in the order in which they come."""
        total = tf.add_n(parts)
        if self.config.fusion == "cross":
            # In units of what the parts start with, or their products would be too small to learn from.
            total += self.cross_output(self.cross(tf.concat(parts, 1) / EMBEDDING_DEVIATION))
        return tf.cast(total, tf.float32)

    def _words(self, words: tf.Tensor) -> tf.Tensor:
        """Return ``[products, width]``: the sum of the words' vectors, divided by the root of their number."""
        if self.dense_words:
            shared = tf.cast(tf.gather(self.shared_words, words), tf.float32)[..., None]
            count = tf.maximum(tf.reduce_sum(shared, 1), 1.0)
            vectors = tf.cast(tf.gather(self.words, words), tf.float32)
            return tf.reduce_sum(vectors * shared, 1) * tf.math.rsqrt(count)
        present_at = tf.where(tf.gather(self.shared_words, words))
        shape = tf.shape(words, tf.int64)
        sparse = tf.SparseTensor(present_at, tf.gather_nd(words, present_at), shape)
        found = tf.nn.safe_embedding_lookup_sparse(self.words, sparse, combiner="sqrtn")
        return tf.ensure_shape(found, [None, self.config.width])
