"""The in-batch softmax loss, in blocks: the 67 million scores of a batch of 8,192 are never all in memory."""

from collections.abc import Callable

import tensorflow as tf

from tfrs_shop.model.negatives import HIDDEN

# Rows of scores that are in memory at a time: with 8,192 columns they stay in a processor's cache.
BLOCK = 256


def in_batch_loss(
    queries: tf.Tensor,
    positives: tf.Tensor,
    products: tf.Tensor,
    *,
    temperature: float,
    expected: tf.Tensor | None = None,
    remove_accidental_hits: bool = True,
    block: int = BLOCK,
) -> tf.Tensor:
    """Return, as a scalar, the sum over the batch of minus the log of each target's share in the softmax.

    Each query is to find its own target among those of all others. The gradient is computed along with the loss, block
    by block, as the scores are; the memory is that of ``block * batch`` scores.

    Args:
        queries: ``[batch, width]`` float32.
        positives: ``[batch, width]`` float32, the vector of each query's target.
        products: ``[batch]`` int32, the targets.
        temperature: divides the scores.
        expected: ``[batch]`` float32, how often each target was to be expected in the batch: its score as another's
            negative is lowered by the log of it (Yi et al., RecSys 2019), as its own target's is not (Khrylchenko et
            al., RecSys 2025); None: no correction.
        remove_accidental_hits: the same product as a query's target, where another query asks for it, is no negative.
        block: rows of scores at a time.
    """
    lowered = None if expected is None else tf.math.log(expected)

    @tf.custom_gradient
    def loss_of(queries: tf.Tensor, positives: tf.Tensor) -> tuple[tf.Tensor, Callable]:
        count = tf.shape(queries)[0]
        scaled = positives / temperature

        def of_block(
            start: tf.Tensor, total: tf.Tensor, to_queries: tf.TensorArray, to_positives: tf.Tensor
        ) -> tuple[tf.Tensor, tf.Tensor, tf.TensorArray, tf.Tensor]:
            place = tf.range(start, tf.minimum(start + block, count))
            some = queries[start : start + block]
            logits = tf.matmul(some, scaled, transpose_b=True)
            if lowered is not None or remove_accidental_hits:
                itself = tf.stack([place - start, place], 1)
                own = tf.gather_nd(logits, itself)
                if lowered is not None:
                    logits -= lowered
                if remove_accidental_hits:
                    logits = tf.where(products[start : start + block, None] == products, HIDDEN, logits)
                logits = tf.tensor_scatter_nd_update(logits, itself, own)
            loss, slope = tf.raw_ops.SparseSoftmaxCrossEntropyWithLogits(features=logits, labels=place)
            return (
                start + block,
                total + tf.reduce_sum(loss),
                to_queries.write(1 + start // block, tf.matmul(slope, scaled)),
                to_positives + tf.matmul(slope, some, transpose_a=True),
            )

        blocks = tf.TensorArray(
            tf.float32, 1 - (-count // block), infer_shape=False, element_shape=[None, queries.shape[1]]
        )
        # Without any element, as of a batch without labels, there is nothing to concatenate.
        blocks = blocks.write(0, queries[:0])
        # One block at a time: the next would push this one out of the cache.
        _, total, to_queries, to_positives = tf.while_loop(
            lambda start, *_: start < count,
            of_block,
            (tf.constant(0), tf.zeros([]), blocks, tf.zeros_like(positives)),
            parallel_iterations=1,
        )
        found = to_queries.concat(), to_positives / temperature

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return upstream * found[0], upstream * found[1]

        return total, gradient

    return loss_of(queries, positives)
