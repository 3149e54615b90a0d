"""Lists that are not all of a kind: which of a pool of candidates are shown, and in which order; in graph.

Each function takes candidates ``[rows, pool]``, best first, and gives the places ``[rows, k]`` int32 in them of the
products to show, -1 where none is left. ``strength`` ``[rows]`` float32 is from 0, the candidates' own order, to 1,
where as little of it is left as the method allows. A row's answer depends on nothing but the row.

MMR, DPP and the quota pick one product after the other. Which ten are shown makes a list diverse, not their order: so
each ten that are picked come best first, and the first ten of a list of twenty are still the list of ten.
"""

from collections.abc import Callable

import tensorflow as tf

METHODS = ("mmr", "dpp", "category_quota", "explore_walk", "explore_sample")
# A chance of so much is worth as much as a cosine of 1, at a strength of a half: about there 3% of NDCG@10 are lost by
# `mmr` on Amazon Beauty's validation split (python -m benchmarks.diversity).
UNIT = 1 / 60
# By how much, at strength 1, the logarithm of a chance rises with a cosine to the history: the model's chances of the
# candidates that come up are too even. Chosen with the benchmark, as UNIT.
NEAR = 5.0
# What a product of no chance counts as: its logarithm must be finite.
SMALLEST_CHANCE = 1e-12
# What is new of a product that the shown ones span: its logarithm must be finite.
SMALLEST_NOVELTY = 1e-6
# Products that are picked before they are put in order.
PAGE = 10
_OUT = -1e30

State = tuple[tf.Tensor, ...]


def mmr(
    chance: tf.Tensor, near: tf.Tensor, likeness: tf.Tensor, left: tf.Tensor, strength: tf.Tensor, k: int
) -> tf.Tensor:
    """Pick by maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998), by the mean likeness.

    The next product has the largest discount * `worth` - strength * mean cosine to those picked before. Discounted as
    NDCG discounts the place: this is what a list may lose in hits. The mean, and not the largest as in the paper, is
    what a list's diversity is the mean of. To exchange products of the finished list while that helps changes nothing:
    on Amazon Beauty the objective rises by less than a ten-thousandth.

    Args:
        chance: ``[rows, pool]`` float32.
        near: ``[rows, pool]`` float32, the largest cosine to a product of the history; all the same: there is none.
        likeness: ``[rows, pool, pool]`` float32, the cosines of the candidates, 0 of what is like nothing.
        left: ``[rows, pool]`` bool, whether there is a candidate.
        strength: ``[rows]`` float32.
        k: how many to pick.
    """
    own = worth(chance, near, left, strength)

    # Divided by the discount, which is the same for all candidates of a step.
    picked = tf.range(k, dtype=tf.float32)
    discount = tf.math.log(2.0) / tf.math.log(picked + 2.0)
    price = strength[None, :, None] / (discount * tf.maximum(picked, 1.0))[:, None, None]

    def gain(number: tf.Tensor, total: tf.Tensor) -> tf.Tensor:
        return own - tf.gather(price, number) * total

    def shown(number: tf.Tensor, place: tf.Tensor, total: tf.Tensor) -> State:
        return (total + tf.gather(likeness, place, batch_dims=1),)

    return _greedily(k, left, (tf.zeros_like(chance),), gain, shown)


def dpp(
    chance: tf.Tensor, near: tf.Tensor, likeness: tf.Tensor, left: tf.Tensor, strength: tf.Tensor, k: int
) -> tf.Tensor:
    """Pick the likeliest set of a determinantal point process greedily (Chen et al., NeurIPS 2018).

    The list maximizes the sum of `worth` + strength * log det of the matrix of its cosines: each next product adds the
    most. What it adds to the determinant is the squared length of the part of its vector that those shown do not span,
    which is kept up to date as in algorithm 1 of the paper.

    Args:
        chance, near, likeness, left, strength, k: as of `mmr`.
    """
    own = worth(chance, near, left, strength)
    columns = tf.eye(k)

    def gain(number: tf.Tensor, new: tf.Tensor, spanned: tf.Tensor) -> tf.Tensor:
        # Before the first nothing is shown: all are equally new, and not by rounding more or less.
        new = tf.where(number > 0, tf.maximum(new, SMALLEST_NOVELTY), 1.0)
        return own + strength[:, None] * tf.math.log(new)

    def shown(number: tf.Tensor, place: tf.Tensor, new: tf.Tensor, spanned: tf.Tensor) -> State:
        cosines, rows = (tf.gather(table, place, batch_dims=1) for table in (likeness, spanned))
        length = tf.gather(new, place, batch_dims=1)[:, None]
        # What is but rounding is no direction.
        scale = tf.where(length > SMALLEST_NOVELTY, tf.math.rsqrt(length), 0.0)
        # A matrix this narrow takes longer to set up a product for than to multiply.
        part = scale * (cosines - tf.reduce_sum(spanned * rows[:, None], 2))
        return new - tf.square(part), spanned + part[..., None] * tf.gather(columns, number)

    # The squared length of what is new of each candidate, and its coordinates along what was shown.
    state = tf.linalg.diag_part(likeness), tf.zeros([*tf.unstack(tf.shape(chance)), k])
    return _greedily(k, left, state, gain, shown)


def worth(chance: tf.Tensor, near: tf.Tensor, left: tf.Tensor, strength: tf.Tensor) -> tf.Tensor:
    """Return ``[rows, pool]``: (1 - strength) * chance / UNIT * e^(strength * NEAR * (near - its mean)).

    Chances, and not their logarithms, are what a list may lose in hits. Deep among the candidates those are hit more
    often than their chance says that are like something in the history, and the others less often: where the
    list has to take from there, it takes from those. The more it has to, the more this counts: strength 0 leaves
    the chances as they are.

    Args:
        chance, near, left, strength: as of `mmr`.
    """
    known = tf.cast(left, tf.float32)
    mean = tf.math.divide_no_nan(tf.reduce_sum(near * known, 1), tf.reduce_sum(known, 1))
    rise = tf.exp(NEAR * strength[:, None] * (near - mean[:, None]))
    return (1.0 - strength)[:, None] * chance / UNIT * rise


def nearest(vectors: tf.Tensor, history: tf.Tensor, known: tf.Tensor) -> tf.Tensor:
    """Return ``[rows, pool]`` float32, the largest cosine of each candidate to a product of the history, -1 for none.

    Args:
        vectors: ``[rows, pool, width]`` float32, unit length.
        history: ``[rows, events, width]`` float32, unit length.
        known: ``[rows, events]`` bool, whether there is an event with a product.
    """
    cosines = tf.matmul(vectors, history, transpose_b=True)
    return tf.reduce_max(tf.where(known[:, None], cosines, -1.0), 2)


def category_quota(category: tf.Tensor, left: tf.Tensor, strength: tf.Tensor, k: int) -> tf.Tensor:
    """Pick the best product of which the list has not too much yet.

    At every place at most the share 1 - strength of the list so far, rounded up, and at least one product, is of one
    category. Where no candidate is left that keeps this, those of the least shown categories are next.

    Args:
        category: ``[rows, pool]`` int32; products without one, 0, are of one category.
        left, strength, k: as of `mmr`.
    """
    pool = tf.shape(category)[1]
    by_place = -tf.cast(tf.range(pool), tf.float32)[None]
    share = (1.0 - strength)[None, :, None] * tf.range(1.0, k + 1.0)[:, None, None]
    # Not one more for rounding.
    most = tf.maximum(tf.math.ceil(share - 1e-4), 1.0)

    def gain(number: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
        over = tf.where(count + 1.0 > tf.gather(most, number), count, 0.0)
        return by_place - over * tf.cast(pool, tf.float32)

    def shown(number: tf.Tensor, place: tf.Tensor, count: tf.Tensor) -> State:
        return (count + tf.cast(category == tf.gather(category, place, batch_dims=1)[:, None], tf.float32),)

    return _greedily(k, left, (tf.zeros(tf.shape(category)),), gain, shown)


def explore_sample(chance: tf.Tensor, uniform: tf.Tensor, left: tf.Tensor, strength: tf.Tensor, k: int) -> tf.Tensor:
    """Draw a list by Plackett-Luce: one product after the other, by chance ^ (1 / strength) of those that are left.

    All at once: the k largest of log chance + strength * Gumbel noise are such a draw (Kool et al., ICML 2019).

    Args:
        chance, left, strength, k: as of `mmr`.
        uniform: ``[rows, pool]`` float32 random numbers, at least 0 and below 1.
    """
    gumbel = -tf.math.log(-tf.math.log(tf.clip_by_value(uniform, 1e-7, 1.0 - 1e-7)))
    return _largest(tf.math.log(tf.maximum(chance, SMALLEST_CHANCE)) + strength[:, None] * gumbel, left, k)


def explore_walk(chance: tf.Tensor, visits: tf.Tensor, left: tf.Tensor, strength: tf.Tensor, k: int) -> tf.Tensor:
    """Order by (1 - strength) * share of the chances + strength * share of the visits of a random walk.

    Args:
        chance: ``[rows, pool]`` float32.
        visits: ``[rows, pool]`` float32, how often the walk came by.
        left, strength, k: as of `mmr`.
    """

    def share(values: tf.Tensor) -> tf.Tensor:
        values = tf.where(left, values, 0.0)
        return tf.math.divide_no_nan(values, tf.reduce_sum(values, 1, keepdims=True))

    return _largest((1.0 - strength)[:, None] * share(chance) + strength[:, None] * share(visits), left, k)


def _largest(values: tf.Tensor, left: tf.Tensor, k: int) -> tf.Tensor:
    best, places = tf.math.top_k(tf.where(left, values, _OUT), k)
    return tf.where(best > _OUT, places, -1)


def _greedily(
    k: int,
    left: tf.Tensor,
    state: State,
    gain: Callable[..., tf.Tensor],
    shown: Callable[..., State],
) -> tf.Tensor:
    """Return the places ``[rows, k]`` that are picked one after the other, the first of equals, each PAGE in order.

    Args:
        k: how many.
        left: ``[rows, pool]`` bool.
        state: what is known of the list so far.
        gain: from the number of products shown and the state to ``[rows, pool]`` float32.
        shown: from the number of products shown, the place ``[rows]`` that was picked and the state to the next state.
    """
    candidates = tf.range(tf.shape(left)[1])[None]

    def step(number: tf.Tensor, places: tf.TensorArray, left: tf.Tensor, *state: tf.Tensor) -> tuple[tf.Tensor, ...]:
        place = tf.argmax(tf.where(left, gain(number, *state), _OUT), 1, tf.int32)
        still_left = left & (candidates != place[:, None])
        return number + 1, places.write(number, place), still_left, *shown(number, place, *state)

    array = tf.TensorArray(tf.int32, k, element_shape=[None])
    places = tf.while_loop(lambda number, *_: number < k, step, (tf.constant(0), array, left, *state))[1].stack()
    found = tf.range(k)[None] < tf.reduce_sum(tf.cast(left, tf.int32), 1, keepdims=True)
    return _best_first(tf.where(found, tf.transpose(places), -1), k)


def _best_first(places: tf.Tensor, k: int) -> tf.Tensor:
    """Return ``places`` ``[rows, k]`` with each PAGE of them in order, and -1 at the end."""
    last = places.dtype.max
    pages = tf.pad(tf.where(places < 0, last, places), [[0, 0], [0, -k % PAGE]], constant_values=last)
    ordered = tf.sort(tf.reshape(pages, [-1, PAGE]), 1)
    ordered = tf.reshape(ordered, [-1, k + -k % PAGE])[:, :k]
    return tf.where(ordered == last, -1, ordered)
