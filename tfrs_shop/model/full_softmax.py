"""The full softmax loss: every product is a negative of every query."""

from collections.abc import Callable

import tensorflow as tf

from tfrs_shop.model.repeats import added_at


def full_softmax_loss(
    queries: tf.Tensor,
    vectors: tf.Tensor,
    targets: tf.Tensor,
    *,
    temperature: float,
    history: tf.Tensor | None = None,
    bias: tf.Tensor | None = None,
    label_smoothing: float = 0.0,
) -> tf.Tensor:
    """Return ``[queries]`` float32: minus the log of each target's share in the softmax over all products.

    Args:
        queries: ``[queries, width]`` float32.
        vectors: ``[products, width]`` float32.
        targets: ``[queries]`` int32 rows of `vectors`.
        temperature: divides the scores.
        history: ``[queries, events]`` int32 rows of `vectors` whose scores get `bias`; a row out of range gets none.
        bias: ``[queries, events]`` float32; of equal products in a row all but one have bias 0.
        label_smoothing: share of the label that is spread evenly over all products.
    """
    own = tf.reduce_sum(queries * tf.gather(vectors, targets), 1)
    if history is None or bias is None:
        history, bias = tf.zeros([tf.shape(queries)[0], 1], tf.int32), tf.zeros([tf.shape(queries)[0], 1])
    known = (history >= 0) & (history < tf.shape(vectors)[0])
    history, bias = tf.where(known, history, 0), tf.where(known, bias, 0.0)
    own += tf.reduce_sum(tf.where(history == targets[:, None], bias, 0.0), 1)
    total = _log_sum_exp(queries, vectors, history, bias, temperature)
    loss = total - own / temperature
    if label_smoothing:
        mean = tf.linalg.matvec(queries, tf.reduce_mean(vectors, 0))
        mean += tf.reduce_sum(bias, 1) / tf.cast(tf.shape(vectors)[0], tf.float32)
        loss += label_smoothing * (own - mean) / temperature
    return loss


def _log_sum_exp(
    queries: tf.Tensor, vectors: tf.Tensor, history: tf.Tensor, bias: tf.Tensor, temperature: float
) -> tf.Tensor:
    """Return ``[queries]``: the log of the sum of all exponentiated scores.

    With a gradient of its own: the exponentials are kept, so that neither the scores nor a one-hot label of their
    size are made again; that halves the time of the loss.
    """

    @tf.custom_gradient
    def log_sum_exp(queries: tf.Tensor, vectors: tf.Tensor, bias: tf.Tensor) -> tuple[tf.Tensor, Callable]:
        logits = added_at(history, bias / temperature, tf.matmul(queries / temperature, vectors, transpose_b=True))
        top = tf.reduce_max(logits, 1, keepdims=True)
        exponential = tf.exp(logits - top)
        total = tf.reduce_sum(exponential, 1, keepdims=True)

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            share = exponential * (upstream[:, None] / total / temperature)
            to_queries = tf.matmul(share, vectors)
            to_vectors = tf.matmul(share, queries, transpose_a=True)
            return to_queries, to_vectors, tf.gather(share, history, batch_dims=1)

        return (top + tf.math.log(total))[:, 0], gradient

    found: tf.Tensor = log_sum_exp(queries, vectors, bias)
    return found
