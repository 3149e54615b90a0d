"""Metrics of chances over several classes, of which one happened: what a behaviour head is worth."""

from typing import Any

import numpy as np

from tfrs_shop.metrics.pairs import SMALLEST, auc, calibration_error, log_loss, reliability

FEW_CLASSES = 50


def judged(chances: np.ndarray, happened: np.ndarray) -> dict[str, np.ndarray]:
    """Return what `choice_metrics` needs of each example, so that no chance of all the others has to be kept.

    Args:
        chances: ``[examples, classes]`` float, each row summing to 1.
        happened: ``[examples]`` int, the class that did.

    Returns:
        ``[examples]`` each: ``chance`` of what happened; ``ahead``, the share of the other classes that have a lower
        chance, a tie counting half; ``top``, the largest chance; ``hit``, whether that was it; ``hit5``, whether it was
        among the five largest; and ``chances`` themselves where there are at most 50 classes.
    """
    own = np.take_along_axis(chances, happened[:, None], 1)
    lower, equal = (chances < own).sum(1), (chances == own).sum(1) - 1
    higher = chances.shape[1] - 1 - lower - equal
    found = {
        "chance": own[:, 0].astype(np.float64),
        "ahead": (lower + equal / 2) / max(chances.shape[1] - 1, 1),
        "top": chances.max(1).astype(np.float64),
        # Of equals none is taken for granted.
        "hit": (higher == 0) & (equal == 0),
        "hit5": higher + equal < 5,
        "happened": happened,
    }
    return {**found, "chances": chances} if chances.shape[1] <= FEW_CLASSES else found


def choice_metrics(found: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return the metrics of `judged` examples.

    Returns:
        ``auc`` (of few classes: each class against the rest, their mean, over classes that happened; of many: of each
        example, the chance that what happened is put before another class), ``log_loss`` in nats, ``ece`` (of the
        likeliest class: Guo et al., ICML 2017), ``accuracy``, ``hit@5`` and ``examples``.
    """
    bins = reliability(found["hit"], found["top"])
    area = float(np.mean(found["ahead"]))
    if "chances" in found:
        each = [auc(found["happened"] == kind, column) for kind, column in enumerate(found["chances"].T)]
        known = [value for value in each if not np.isnan(value)]
        area = float(np.mean(known)) if known else float("nan")
    return {
        "auc": area,
        "log_loss": float(-np.mean(np.log(np.maximum(found["chance"], SMALLEST)))),
        "ece": calibration_error(bins),
        "accuracy": float(np.mean(found["hit"])),
        "hit@5": float(np.mean(found["hit5"])),
        "examples": len(found["chance"]),
    }


def yes_no_metrics(happened: np.ndarray, chance: np.ndarray) -> dict[str, Any]:
    """Return ``auc``, ``log_loss``, ``ece`` and ``examples`` of the chance of one thing that may happen.

    Args:
        happened: ``[examples]`` bool.
        chance: ``[examples]`` float.
    """
    return {
        "auc": auc(happened, chance),
        "log_loss": log_loss(happened, chance),
        "ece": calibration_error(reliability(happened, chance)),
        "share": float(np.mean(happened)),
        "examples": len(happened),
    }
