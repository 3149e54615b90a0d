"""Metrics of the ranking head: the chance of a behaviour for a pair of user and product, and the rating."""

from typing import Any

import numpy as np

BINS = 10
SMALLEST = 1e-7


def auc(happened: np.ndarray, score: np.ndarray) -> float:
    """Return the chance that a pair that happened has a higher score than one that did not; a tie counts half.

    The Mann-Whitney statistic (Hanley and McNeil, 1982). NaN where all pairs are of one kind.

    Args:
        happened: ``[pairs]`` bool.
        score: ``[pairs]`` float.
    """
    _, place, count = np.unique(score, return_inverse=True, return_counts=True)
    middle = (np.cumsum(count) - (count - 1) / 2)[place]
    positive = int(np.sum(happened))
    negative = len(happened) - positive
    if not positive or not negative:
        return float("nan")
    return float((middle[happened].sum() - positive * (positive + 1) / 2) / (positive * negative))


def log_loss(happened: np.ndarray, chance: np.ndarray) -> float:
    """Return the mean of -log of the chance given to what happened, in nats.

    Args:
        happened: ``[pairs]`` bool.
        chance: ``[pairs]`` float from 0 to 1.
    """
    clipped = np.clip(chance.astype(np.float64), SMALLEST, 1.0 - SMALLEST)
    return float(-np.mean(np.where(happened, np.log(clipped), np.log1p(-clipped))))


def reliability(happened: np.ndarray, chance: np.ndarray) -> list[dict[str, float]]:
    """Return, for each of ten equal bins of the chance that holds a pair, what was said and what happened.

    Args:
        happened: ``[pairs]`` bool.
        chance: ``[pairs]`` float from 0 to 1.

    Returns:
        Dicts of ``chance`` (mean), ``happened`` (share) and ``pairs``, of rising chance.
    """
    place = np.minimum((chance * BINS).astype(np.int64), BINS - 1)
    return [
        {
            "chance": float(chance[place == b].mean()),
            "happened": float(happened[place == b].mean()),
            "pairs": int(np.sum(place == b)),
        }
        for b in range(BINS)
        if np.any(place == b)
    ]


def calibration_error(bins: list[dict[str, float]]) -> float:
    """Return the expected calibration error: mean distance of said and happened (Naeini et al., AAAI 2015).

    Args:
        bins: of `reliability`; each weighs as much as it holds pairs.
    """
    pairs = sum(entry["pairs"] for entry in bins)
    return float(sum(entry["pairs"] * abs(entry["chance"] - entry["happened"]) for entry in bins) / pairs)


def rmse(rating: np.ndarray, predicted: np.ndarray) -> float:
    """Return the root of the mean squared error of ``predicted`` ``[pairs]`` against ``rating`` ``[pairs]``."""
    return float(np.sqrt(np.mean(np.square(rating.astype(np.float64) - predicted))))


def ranking_head_metrics(
    chosen: np.ndarray, sampled: np.ndarray, rating: np.ndarray, predicted: np.ndarray
) -> dict[str, Any]:
    """Return what the ranking head is worth; keys that cannot be computed are left out.

    Args:
        chosen: ``[examples]`` float logits of the behaviour that happened, for the product that it happened to.
        sampled: ``[examples]`` float logits of the same behaviour for another product.
        rating: ``[examples]`` float, NaN where there is none.
        predicted: ``[examples]`` float ratings.
    """
    logit = np.concatenate([chosen, sampled]).astype(np.float64)
    happened = np.arange(len(logit)) < len(chosen)
    chance = np.exp(-np.logaddexp(0.0, -logit))
    bins = reliability(happened, chance)
    metrics: dict[str, Any] = {
        "auc": auc(happened, logit),
        "log_loss": log_loss(happened, chance),
        "calibration_error": calibration_error(bins),
        "pairs": len(logit),
        "reliability": bins,
    }
    rated = ~np.isnan(rating)
    if rated.any():
        metrics |= {"rmse": rmse(rating[rated], predicted[rated]), "ratings": int(rated.sum())}
    return metrics


def sampled_negatives(label: np.ndarray, train_count: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return ``[examples]`` int32: for each target another product, drawn by its share of the training events.

    That is how the head was trained (another position's product), so its chances can be held to account. A product
    without training events counts as half an event.

    Args:
        label: ``[examples]`` the targets, from 1.
        train_count: ``[products + 1]`` training events of each product; at least two products.
        random: of the draw.
    """
    weight = np.maximum(train_count.astype(np.float64), 0.5)
    weight[0] = 0.0
    ends = np.cumsum(weight)
    # The target's own stretch of the line is jumped over.
    drawn = random.random(len(label)) * (ends[-1] - weight[label])
    drawn = np.where(drawn >= ends[label - 1], drawn + weight[label], drawn)
    found = np.searchsorted(ends, drawn, side="right")
    last = np.where(label == len(weight) - 1, len(weight) - 2, len(weight) - 1)
    return np.minimum(found, last).astype(np.int32)
