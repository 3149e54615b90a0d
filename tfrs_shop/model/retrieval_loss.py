"""The retrieval loss: what the query after each event is to find, and among which other products."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfrs_shop.config import RetrievalConfig
from tfrs_shop.model.full_softmax import full_softmax_loss
from tfrs_shop.model.in_batch import in_batch_loss
from tfrs_shop.model.negatives import HIDDEN, NegativeSampler, contains, following, mined, softmax_loss


class Past(NamedTuple):
    """What came before each labelled position.

    Attributes:
        products: ``[positions, history]`` int32.
        bias: ``[positions, history]`` float32, see `RepeatBias`.
        latest: ``[positions, history]`` bool, whether an event is the latest of its product.
        scores: ``[positions, history]`` float32, with the bias, before they are divided by the temperature.
    """

    products: tf.Tensor
    bias: tf.Tensor
    latest: tf.Tensor
    scores: tf.Tensor


class Positions(NamedTuple):
    """The labelled positions of a batch.

    Attributes:
        queries: ``[positions, width]`` float32.
        targets: ``[positions]`` int32, the rows of their labels among the vectors that are given.
        label: ``[batch, history]`` int32, the labels of all positions, 0 where there is none.
        past: what came before, where repeats are learned.
    """

    queries: tf.Tensor
    targets: tf.Tensor
    label: tf.Tensor
    past: Past | None


class RetrievalLoss(tf.Module):
    """Mean softmax cross-entropy of the labelled positions: full, in-batch or sampled, with mined hard negatives.

    A product without training events is no negative: no event ever could have been of it, so all would push it down.

    Args:
        config: the settings.
        train_count: ``[products + 1]`` training events of each product. Products are in the order of their number, so
            those that have any come first.
        full: whether all products are negatives; else those of the batch, or drawn ones.
        temperature: divides the scores.
        width: of the vectors.
    """

    def __init__(self, config: RetrievalConfig, train_count: np.ndarray, full: bool, temperature: float, width: int):
        super().__init__(name="retrieval_loss")
        self.config, self.full, self.temperature = config, full, temperature
        self.in_batch = not full and config.loss in ("auto", "in_batch")
        self.products = len(train_count) - 1
        self.asked = int(np.count_nonzero(train_count)) or self.products
        counts = train_count.astype(np.float64)
        if not counts.any():
            counts[1:] = 1.0
        even = np.minimum(counts, 1.0)
        self.popularity = NegativeSampler(counts / counts.sum())
        self.sampler = self.popularity if config.sampling == "popularity" else NegativeSampler(even / even.sum())
        if config.hard_negatives and not full:
            # Each replica keeps its own: no step waits for another.
            shared = {
                "trainable": False,
                "synchronization": tf.VariableSynchronization.ON_READ,
                "aggregation": tf.VariableAggregation.ONLY_FIRST_REPLICA,
            }
            self.mining_step = tf.Variable(0, name="mining_step", **shared)
            self.mining_vectors = tf.Variable(tf.zeros([self.products + 1, width]), name="mining_vectors", **shared)

    def __call__(
        self,
        positions: Positions,
        vectors: tf.Tensor,
        vectors_of: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]],
        all_vectors: Callable[[], tf.Tensor],
    ) -> tf.Tensor:
        """Return the scalar mean loss.

        Args:
            positions: what is asked.
            vectors: ``[rows, width]``, of all products where all are negatives.
            vectors_of: from products to vectors and the row of each product in them.
            all_vectors: makes the vectors of all products, without dropout, to be mined in.
        """
        count = tf.cast(tf.maximum(tf.shape(positions.queries)[0], 1), tf.float32)
        if self.full:
            return tf.reduce_sum(self._full(positions, vectors)) / count
        positives = tf.gather(vectors, positions.targets)
        asked = tf.boolean_mask(positions.label, positions.label > 0)
        if self.in_batch and not self.config.hard_negatives and positions.past is None:
            total = in_batch_loss(
                positions.queries,
                positives,
                asked,
                temperature=self.temperature,
                expected=self.popularity.expected(asked, tf.size(asked) - 1) if self.config.logq else None,
                remove_accidental_hits=self.config.remove_accidental_hits,
            )
            return total / count
        return tf.reduce_sum(self._sampled(positions, positives, asked, vectors_of, all_vectors)) / count

    def _full(self, positions: Positions, vectors: tf.Tensor) -> tf.Tensor:
        past = positions.past
        return full_softmax_loss(
            positions.queries,
            vectors[1 : self.asked + 1],
            positions.targets - 1,
            temperature=self.temperature,
            history=None if past is None else past.products - 1,
            bias=None if past is None else past.bias,
            label_smoothing=self.config.label_smoothing,
        )

    def _sampled(
        self,
        positions: Positions,
        positives: tf.Tensor,
        asked: tf.Tensor,
        vectors_of: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]],
        all_vectors: Callable[[], tf.Tensor],
    ) -> tf.Tensor:
        queries, label, past = positions.queries, positions.label, positions.past
        if self.in_batch:
            # Every other position's target is a draw.
            products, negatives = asked, positives
            expected = self.popularity.expected(asked, tf.size(asked) - 1)
            hidden = tf.eye(tf.size(asked), dtype=tf.bool)
        else:
            products = self.sampler.draw(self.config.negatives)
            distinct, place = vectors_of(products)
            negatives = tf.gather(distinct, place)
            expected = self.sampler.expected(products, self.config.negatives)
            hidden = tf.zeros([tf.size(asked), self.config.negatives], tf.bool)
        if self.config.remove_accidental_hits:
            hidden |= asked[:, None] == products[None]
        if self.config.hard_negatives:
            hard = mined(queries, self._renewed(all_vectors)[: self.asked + 1], self.config.hard_negatives)
            # A mined product is there for sure: where it was drawn as well it is passed over.
            hidden |= tf.gather(tf.scatter_nd(hard[:, None], tf.ones_like(hard), [self.products + 1]), products) > 0
            products = tf.concat([products, hard], 0)
            negatives = tf.concat([negatives, vectors_of(hard)[0]], 0)
            expected = tf.concat([expected, tf.ones_like(hard, tf.float32)], 0)
            hidden = tf.concat([hidden, contains(following(label), hard, self.products + 1)], 1)
        bonus = more = None
        if past is not None:
            # What is in the history is scored apart, with its bias, and is therefore no drawn or mined negative.
            is_target = past.products == asked[:, None]
            bonus = tf.reduce_sum(tf.where(is_target, past.bias, 0.0), 1)
            more = tf.where(past.latest & ~is_target, past.scores / self.temperature, HIDDEN)
            distinct, place = tf.unique(products)
            lists = tf.where(past.latest, past.products, 0)
            hidden |= tf.gather(contains(lists, distinct, self.products + 1), place, axis=1)
        return softmax_loss(
            queries,
            positives,
            negatives,
            temperature=self.temperature,
            expected=expected if self.config.logq else None,
            hidden=hidden,
            bonus=bonus,
            more=more,
        )

    def _renewed(self, all_vectors: Callable[[], tf.Tensor]) -> tf.Tensor:
        """Return ``[products + 1, width]``: the product vectors as they were when they were last renewed."""
        vectors = tf.cond(
            self.mining_step % self.config.mined_every == 0,
            lambda: self.mining_vectors.assign(tf.stop_gradient(all_vectors())),
            lambda: self.mining_vectors.read_value(),
        )
        self.mining_step.assign_add(1)
        return vectors
