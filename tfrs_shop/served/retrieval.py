"""From query vectors to the best products that may be answered, in graph.

The index finds candidates, the transition graph and the user's habits add their own, and what a request does not allow
is left out. Where fewer than k of the candidates are allowed, all products are scored instead: never fewer than k
answers while there are k to be given.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfrs_shop.dataset import ShopData
from tfrs_shop.edges import EdgeScorer, mix, sums_at
from tfrs_shop.habits import Usual
from tfrs_shop.model.repeats import added_at, without_repeats
from tfrs_shop.model.shop_model import ShopModel
from tfrs_shop.served.lookup import is_in
from tfrs_shop.served.product_filter import Limits, ProductFilter
from tfrs_shop.table_rows import table_rows

# The index is asked for so many more than k: for what will be left out.
LEAST_RESERVE, MOST_RESERVE = 200, 500
# Products whose scores are summed to turn a score into a chance; a larger catalogue is sampled.
CHANCE_SAMPLE = 4096
# Of what is added for a repeat, in units of the softmax: more than makes it nearly certain.
MOST_BIAS = 30.0
_OUT = float(np.finfo(np.float32).min)


class Scored(NamedTuple):
    """The nearest products, and what makes chances of logits.

    Attributes:
        found: ``[batch, most]`` int32, the nearest products.
        logits: ``[batch, most]`` float32 of them, without what is added for repeats.
        bias: ``[batch, events]`` float32, what is added to the logits of the history's products.
        log_total: ``[batch, 1]`` float32, the log of the sum of all products' exponentiated logits.
    """

    found: tf.Tensor
    logits: tf.Tensor
    bias: tf.Tensor
    log_total: tf.Tensor


class Retrieval(tf.Module):
    """Answers with products and scores ``[batch, k]``, best first; product 0 with score 0 where there is no more.

    Args:
        model: whose temperature and mixture count.
        data: the products, their popularity, and the transition graph.
        vectors: ``[products + 1, width]`` of the whole catalogue, padding row first.
        k: products of an answer; no more than there are.
        reserve: products of a typical request that will be left out.
    """

    def __init__(self, model: ShopModel, data: ShopData, vectors: np.ndarray, k: int, reserve: int):
        super().__init__(name="retrieval")
        size = data.catalogue.size
        self.k = min(k, size)
        self.most = min(size, self.k + int(np.clip(reserve, LEAST_RESERVE, MOST_RESERVE)))
        self.temperature = model.temperature
        self.transition_weight, self.habit_weight = model.transition_weight, model.habit_weight
        self.likeness_weight = model.likeness_weight
        self.likeness = model.likeness if self.likeness_weight else None
        self.index: Any = None
        self.filter = ProductFilter(data.catalogue)
        self.vectors = tf.Variable(vectors, trainable=False, name="vectors")
        settings = model.config.transitions
        self.transitions = EdgeScorer(data.transitions, settings.events, settings.decay)
        self.products = size
        # All products, up to a number that is scored in no time; of more a sample stands for the rest. Its vectors are
        # kept: to gather them takes longer than to score them.
        self.sample_vectors = self.sample_likeness = None
        if size > CHANCE_SAMPLE:
            sample = _spread_sample(size, CHANCE_SAMPLE)
            self.sample_vectors = tf.Variable(vectors[sample], trainable=False, name="sample_vectors")
            if self.likeness is not None:
                alike = self.likeness.vectors.numpy()[sample]
                self.sample_likeness = tf.Variable(alike, trainable=False, name="sample_likeness")
        counts = data.catalogue.train_count.astype(np.float64)
        popular = np.argsort(-counts[1:], kind="stable") + 1
        self.share = tf.Variable(counts / max(counts.sum(), 1.0), trainable=False, dtype=tf.float32)
        self.popular = tf.constant(popular[: self.most], tf.int32)

    def next_products(
        self,
        query: tf.Tensor,
        history: tf.Tensor,
        repeats: tf.Tensor | None,
        known: tf.Tensor,
        limits: Limits,
        *,
        usual: Usual | None = None,
        count: int | None = None,
        besides: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the chances of the likeliest allowed products to be the next, and the products, best first.

        Args:
            query: ``[batch, width]``.
            history: ``[batch, events]`` int32 products, oldest first, left-padded with 0.
            repeats: ``[batch, events]`` float32, what is added to the scores of the history's products; None: nothing.
            known: ``[batch]`` bool; where nothing is known of the user, what is popular is answered, by share.
            limits: what may be answered.
            usual: what the users come back to, where that has a weight.
            count: return so many instead of k, of which those after the k-th may be missing; at most k + 200.
            besides: ``[batch, some]`` int32 products, 0 padded; the allowed ones are returned before all others.
        """
        near = self.scored(query, history, repeats)
        scores, found = self._candidates(query, history, near, usual, besides)

        def of_all(rows: tf.Tensor) -> tf.Tensor:
            some, added = tf.gather(history, rows), tf.gather(near.bias, rows)
            logits = tf.matmul(tf.gather(query, rows), self.vectors, transpose_b=True) / self.temperature
            if self.likeness is not None:
                logits += self.likeness_weight * self.likeness.of_all(some)
            log_chance = added_at(some, added, logits) - tf.gather(near.log_total, rows)
            if self.transition_weight:
                follows = without_repeats(some, added, self.transitions.scores(some, self.products))
                log_chance = mix(log_chance, follows, self.transition_weight)
            if usual is not None:
                habits = Usual(tf.gather(usual.product, rows), tf.gather(usual.share, rows))
                log_chance = habits.mixed(log_chance, habits.of_all(self.products), self.habit_weight)
            return tf.exp(log_chance)

        return self._best(scores, found, known, limits, of_all, count or self.k, besides)

    def scored(self, query: tf.Tensor, history: tf.Tensor, repeats: tf.Tensor | None) -> Scored:
        """Return the nearest products and what makes chances of scores, for the arguments of `next_products`."""
        found = self._nearest(query)[1]
        by_vector = self._by_vector(query, found)
        logits = self._with_likeness(by_vector, found, history)
        bias = tf.zeros_like(history, tf.float32)
        if repeats is not None:
            bias = tf.minimum(repeats / self.temperature, MOST_BIAS)
        log_total = self._log_total(query, by_vector, logits, history)
        if repeats is not None:
            # The sum was made without what is added for the history's products.
            own = self._logits(query, history, history)
            more = tf.exp(tf.minimum(own - log_total, 0.0)) * tf.math.expm1(bias)
            log_total += tf.math.log(tf.maximum(1.0 + tf.reduce_sum(more, 1, keepdims=True), 1e-6))
        return Scored(found, logits, bias, log_total)

    def similar(self, query: tf.Tensor, known: tf.Tensor, limits: Limits) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the allowed products with the largest inner products with ``query`` ``[batch, width]``."""

        def of_all(rows: tf.Tensor) -> tf.Tensor:
            return tf.matmul(tf.gather(query, rows), self.vectors, transpose_b=True)

        return self._best(*self._nearest(query), known, limits, of_all, self.k)

    def _best(
        self,
        scores: tf.Tensor,
        found: tf.Tensor,
        known: tf.Tensor,
        limits: Limits,
        of_all: Callable[[tf.Tensor], tf.Tensor],
        count: int,
        besides: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the `count` best allowed candidates, ``besides`` first; in rows with fewer than k, of all products.

        Each row is treated alone, so that an answer does not depend on the rows beside it.
        """
        more = tf.shape(found)[1] - self.most
        found = tf.where(known[:, None], found, tf.pad(self.popular, [[0, more]]))
        scores = tf.where(known[:, None], scores, table_rows(self.share, found))
        allowed = self.filter.allowed(limits, found)
        scores = tf.where(allowed, scores, _OUT)
        # A chance is no more than 1.
        wanted = scores if besides is None else scores + tf.where(is_in(found, besides) & allowed, 2.0, 0.0)
        order = tf.math.top_k(wanted, count)[1]
        best = tf.gather(scores, order, batch_dims=1)
        products = tf.gather(found, order, batch_dims=1)
        short = tf.reduce_sum(tf.cast(allowed, tf.int32), 1) < self.k
        rows = tf.cast(tf.where(short)[:, 0], tf.int32)

        def exact(row: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            alone = row[None]
            everything = tf.where(tf.gather(known, alone)[:, None], of_all(alone), self.share[None])
            allowed = self.filter.allowed_of_all(limits.rows(alone))
            values, indices = tf.math.top_k(tf.where(allowed, everything, _OUT), count)
            return values[0], indices[0]

        # One after the other: the scores of all products for all such rows may not fit into memory.
        spec = (tf.TensorSpec([count], tf.float32), tf.TensorSpec([count], tf.int32))
        values, indices = tf.map_fn(exact, rows, parallel_iterations=2, fn_output_signature=spec)
        best = tf.tensor_scatter_nd_update(best, rows[:, None], values)
        products = tf.tensor_scatter_nd_update(products, rows[:, None], indices)
        answered = best > _OUT
        return tf.where(answered, best, 0.0), tf.where(answered, products, 0)

    def _candidates(
        self,
        query: tf.Tensor,
        history: tf.Tensor,
        near: Scored,
        usual: Usual | None,
        besides: tf.Tensor | None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the chances of the nearest products, the history's, what is usual or follows, and ``besides``.

        The products are returned with them. Each is one candidate, however many ways lead to it; 0 fills up.
        """
        ways = history
        if self.transition_weight:
            neighbor, weight = self.transitions.edges(history).padded()
            ways = tf.concat([history, neighbor], 1)
        if usual is not None:
            ways = tf.concat([ways, usual.product], 1)
        if besides is not None:
            ways = tf.concat([ways, besides], 1)
        place = tf.range(tf.shape(ways)[1])
        earlier = tf.reduce_any((ways[:, :, None] == ways[:, None, :]) & (place[:, None] > place), 2)
        again = earlier | tf.reduce_any(ways[:, :, None] == near.found[:, None, :], 2)
        ways = tf.where(again, 0, ways)
        products = tf.concat([near.found, ways], 1)
        logits = tf.concat([near.logits, self._logits(query, ways, history)], 1)
        log_chance = logits + added(products, history, near.bias) - near.log_total
        if self.transition_weight:
            # The graph lowers what hardly comes again as the model does.
            weight *= tf.exp(tf.minimum(added(neighbor, history, near.bias), 0.0))
            total = tf.reduce_sum(weight, 1, keepdims=True)
            follows = tf.math.divide_no_nan(sums_at(products, neighbor, weight), total)
            log_chance = mix(log_chance, follows, self.transition_weight)
        if usual is not None:
            log_chance = usual.mixed(log_chance, usual.of(products), self.habit_weight)
        return tf.exp(log_chance), products

    def _logits(self, query: tf.Tensor, products: tf.Tensor, history: tf.Tensor) -> tf.Tensor:
        """Return ``[batch, products]`` float32: logits without what is for repeats."""
        return self._with_likeness(self._by_vector(query, products), products, history)

    def _by_vector(self, query: tf.Tensor, products: tf.Tensor) -> tf.Tensor:
        return tf.linalg.matvec(table_rows(self.vectors, products), query) / self.temperature

    def _with_likeness(self, by_vector: tf.Tensor, products: tf.Tensor, history: tf.Tensor) -> tf.Tensor:
        if self.likeness is None:
            return by_vector
        return by_vector + self.likeness_weight * self.likeness.of(products, history)

    def _log_total(self, query: tf.Tensor, by_vector: tf.Tensor, logits: tf.Tensor, history: tf.Tensor) -> tf.Tensor:
        """Return ``[batch, 1]``: the log of the sum of all products' exponentiated scores.

        The nearest products are summed, and for the others, which the index does not score, the sample stands.
        ``by_vector`` and ``logits`` are the nearest's.
        """
        vectors = self.vectors if self.sample_vectors is None else self.sample_vectors
        others = tf.matmul(query, vectors, transpose_b=True) / self.temperature
        # The product at the edge must not be counted twice where two ways to multiply round differently.
        is_near = others >= tf.reduce_min(by_vector, 1, keepdims=True) - 1e-4
        if self.likeness is not None:
            others += self.likeness_weight * self.likeness.of_all(history, self.sample_likeness)
        if self.sample_vectors is None:
            others, is_near = others[:, 1:], is_near[:, 1:]
        count = tf.reduce_sum(tf.cast(~is_near, tf.float32), 1, keepdims=True)
        rest = tf.reduce_logsumexp(tf.where(is_near, -1e9, others), 1, keepdims=True)
        rest += tf.math.log(tf.maximum(float(self.products - self.most), 1e-9) / tf.maximum(count, 1.0))
        return tf.reduce_logsumexp(tf.concat([logits, rest], 1), 1, keepdims=True)

    def _nearest(self, queries: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        scores, found = self.index(queries, k=self.most)
        # ScaNN's op does not say what shape its answer has.
        return tf.ensure_shape(scores, [None, self.most]), tf.ensure_shape(found, [None, self.most])


def _spread_sample(products: int, most: int) -> np.ndarray:
    """Return `most` product indices, or all: evenly spread, and as indices are by popularity so is their popularity."""
    return np.unique(np.linspace(1, products, min(products, most)).round().astype(np.int32))


def added(products: tf.Tensor, history: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """Return of ``products`` ``[batch, some]`` what ``bias`` ``[batch, events]`` adds for those of the history."""
    same = (products[:, :, None] == history[:, None, :]) & (history > 0)[:, None, :]
    return tf.reduce_sum(tf.where(same, bias[:, None, :], 0.0), 2)
