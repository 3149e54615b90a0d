"""Random numbers that a request's seed alone decides, in graph: the same question draws the same answer."""

import tensorflow as tf

# Of `uniform_of_products`; a float32 holds each exactly.
_STEPS = 2**24


def uniform(seed: tf.Tensor, numbers: int) -> tf.Tensor:
    """Return ``[rows, numbers]`` float32 random numbers, at least 0 and below 1, of ``seed`` ``[rows]`` int64.

    A row's depend on its seed alone: on no other row, and on no earlier request.
    """

    def of_row(own: tf.Tensor) -> tf.Tensor:
        return tf.random.stateless_uniform([numbers], tf.stack([own, tf.zeros_like(own)]), alg="philox")

    return tf.map_fn(of_row, seed, fn_output_signature=tf.TensorSpec([numbers], tf.float32))


def uniform_of_products(seed: tf.Tensor, newest: tf.Tensor, product_id: tf.Tensor) -> tf.Tensor:
    """Return a random number for each product, ``[rows, products]`` float32, at least 0 and below 1.

    It is the product's and not its place's: candidates that nearly tie, which another machine may rank the other way
    round, keep theirs, and so does a product in the next version of the catalogue.

    Args:
        seed: ``[rows]`` int64.
        newest: ``[rows]`` string, id of the history's newest product, so that two shoppers with one seed differ.
        product_id: ``[rows, products]`` string.
    """
    asked = tf.strings.join([tf.strings.as_string(seed), newest], "\n")
    words = tf.strings.join([tf.broadcast_to(asked[:, None], tf.shape(product_id)), product_id], "\n")
    # SipHash, whose buckets are even whatever the ids look like; the key is no secret.
    return tf.cast(tf.strings.to_hash_bucket_strong(words, _STEPS, [17, 29]), tf.float32) / _STEPS
