"""How far chance alone may move a metric: bootstrap intervals, and a paired test of two runs on the same examples."""

from typing import Any

import numpy as np

RESAMPLES = 1000
FLIPS = 10_000
SEED = 20240229
AT_ONCE = 4_000_000


def bootstrap_means(values: np.ndarray, resamples: int = RESAMPLES, seed: int = SEED) -> np.ndarray:
    """Return ``[resamples, metrics]`` float64, the means of resamples with replacement of the examples.

    Args:
        values: ``[examples, metrics]`` float; an example's metrics stay together.
        resamples: how many.
        seed: of the draw; the same for the same number of examples.
    """
    random = np.random.default_rng(seed)
    examples = len(values)
    columns = np.ascontiguousarray(values.T)
    means = np.empty((resamples, len(columns)))
    step = max(1, AT_ONCE // examples)
    for start in range(0, resamples, step):
        drawn = random.integers(examples, size=(min(step, resamples - start), examples), dtype=np.int32)
        for place, column in enumerate(columns):
            means[start : start + step, place] = column[drawn].mean(1)
    return means


def intervals(values: dict[str, np.ndarray], resamples: int = RESAMPLES, seed: int = SEED) -> dict[str, list[float]]:
    """Return the 95% percentile bootstrap interval of each mean (Efron and Tibshirani, 1993, chapter 13).

    Args:
        values: name to ``[examples]`` float.
        resamples: of the bootstrap.
        seed: of the bootstrap.
    """
    means = bootstrap_means(np.stack(list(values.values()), 1), resamples, seed)
    ends = np.percentile(means, [2.5, 97.5], axis=0)
    return {name: [float(ends[0, i]), float(ends[1, i])] for i, name in enumerate(values)}


def paired_test(
    first: np.ndarray, second: np.ndarray, resamples: int = RESAMPLES, flips: int = FLIPS, seed: int = SEED
) -> dict[str, Any]:
    """Return how a metric of `first` differs from that of `second`, example by example.

    Args:
        first: ``[examples]`` float.
        second: ``[examples]`` float, of the same examples in the same order.
        resamples: of the bootstrap of the difference.
        flips: of the permutation test.
        seed: of both.

    Returns:
        ``difference`` of the means, its 95% bootstrap ``interval``, and ``p_value``: two-sided, of the paired
        permutation test, which turns the sign of each difference by chance (Smucker et al., CIKM 2007); one is added
        to both counts, so that it is never 0 (Phipson and Smyth, 2010).
    """
    difference = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    random = np.random.default_rng(seed)
    # Only where the two differ does a sign matter.
    moved = difference[difference != 0]
    observed = abs(moved.sum())
    tolerance = 1e-9 * max(np.abs(moved).sum(), 1e-300)
    beyond, step = 0, max(1, AT_ONCE // max(len(moved), 1))
    for start in range(0, flips, step):
        signs = random.integers(2, size=(min(step, flips - start), len(moved)), dtype=np.int8)
        sums = 2.0 * (signs @ moved) - moved.sum()
        beyond += int(np.sum(np.abs(sums) >= observed - tolerance))
    return {
        "difference": float(difference.mean()),
        "interval": intervals({"difference": difference}, resamples, seed)["difference"],
        "p_value": (beyond + 1) / (flips + 1),
    }
