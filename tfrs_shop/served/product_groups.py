"""What products have in common by name: categories and brands, in graph."""

import numpy as np
import tensorflow as tf


class ProductGroups(tf.Module):
    """The group of each product, as a number and as a name.

    Args:
        names: ``[products + 1]`` bytes, b"" where a product is in no group.
    """

    def __init__(self, names: np.ndarray):
        super().__init__(name="groups")
        # Group 0 is none, whether or not there are products without one.
        distinct, number = np.unique(np.concatenate([[b""], names.astype(object)]), return_inverse=True)
        self.number = tf.Variable(number[1:], trainable=False, dtype=tf.int32)
        self.names = tf.Variable(distinct.tolist(), trainable=False, dtype=tf.string)
