"""What a product's vector is made of: its id, its text, its category, ..., each as a vector of its own; in graph."""

import numpy as np
import tensorflow as tf

from tfrs_shop.catalogue import POPULARITY
from tfrs_shop.dataset import ShopData
from tfrs_shop.model.shop_model import ShopModel

CHUNK = 4096


class ProductParts(tf.Module):
    """The product tower, for a few products, up to the point where its parts become one vector.

    Args:
        model: whose product tower it is.
        data: the catalogue.
        text_vectors: those of the products, where a bundle has them already.
    """

    def __init__(self, model: ShopModel, data: ShopData, text_vectors: tf.Variable | None):
        super().__init__(name="product_parts")
        features = data.catalogue.features()
        if model.text is not None:
            features["text_vector"] = model.text.vectors.numpy()
        shared = {} if text_vectors is None else {"text_vector": text_vectors}
        self.features = shared | {
            name: tf.Variable(value, trainable=False) for name, value in features.items() if name not in shared
        }
        # Its weights and not the layer: saving a Keras layer means tracing it once more.
        self.weights = list(model.product_tower.variables)
        self._parts, self._fused = model.product_tower.parts, model.product_tower.fused
        self.normalize = model.config.towers.normalize
        names = self._parts(self._features(tf.constant([0])), training=False)
        self.names = ["popularity" if name == POPULARITY else name for name in names]
        self.mean = tf.Variable(self._mean(data.catalogue.size), trainable=False)

    def of(self, products: tf.Tensor) -> tf.Tensor:
        """Return ``[rows, parts, width]`` float32 for ``products`` ``[rows]`` int32, in the order of ``names``."""
        parts = self._parts(self._features(products), training=False)
        return tf.stack([tf.cast(part, tf.float32) for part in parts.values()], 1)

    def vectors(self, parts: tf.Tensor) -> tf.Tensor:
        """Return the product vectors ``[rows, width]`` of ``parts`` ``[rows, parts, width]``."""
        vectors = self._fused(tf.unstack(parts, len(self.names), 1))
        return tf.math.l2_normalize(vectors, 1) if self.normalize else vectors

    def _features(self, products: tf.Tensor) -> dict[str, tf.Tensor]:
        return {name: tf.gather(table, products) for name, table in self.features.items()}

    def _mean(self, size: int) -> np.ndarray:
        """Return ``[parts, width]``: the average product."""
        chunks = (range(start, min(start + CHUNK, size + 1)) for start in range(1, size + 1, CHUNK))
        total = sum(tf.reduce_sum(self.of(tf.constant(list(chunk))), 0).numpy() for chunk in chunks)
        return np.asarray(total / size, np.float32)
