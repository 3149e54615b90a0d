"""Evaluation: every product ranked for every held-out target, nothing sampled, ties broken against the model."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfrs_shop.dataset import ShopData
from tfrs_shop.errors import UserError
from tfrs_shop.model.shop_model import ShopModel, ranks_of
from tfrs_shop.transitions import mix

TRANSITION_WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
CUTOFFS = (1, 5, 10, 20, 100)


def evaluate(
    model: ShopModel, data: ShopData, split: str, exclude_seen: bool, say: Callable[[str], None]
) -> dict[str, Any]:
    """Return the metrics of `model` on `split`, with the protocol that they were made by.

    Raises:
        UserError: the split has no examples.
    """
    if split not in data.manifest.counts["examples"]:
        raise UserError(f"--split {split}: is none of train, validation, test.")
    if not data.manifest.counts["examples"][split]:
        raise UserError(f"{data.directory}: has no {split} examples.")
    started = time.monotonic()
    ranks = target_ranks(model, data, split, exclude_seen)
    seconds = time.monotonic() - started
    say(f"Ranked {data.catalogue.size:,} products for {len(ranks):,} targets in {seconds:.1f} s.")
    return {
        **ranking_metrics(ranks),
        "examples": len(ranks),
        "products": data.catalogue.size,
        "split": split,
        "split_rule": data.manifest.split["rule"],
        "transition_weight": model.transition_weight,
        "protocol": "exclude-seen" if exclude_seen else "all",
        "seconds": round(seconds, 2),
    }


def choose_transition_weight(model: ShopModel, data: ShopData, say: Callable[[str], None]) -> float:
    """Return the weight of the transition graph with the best NDCG@10 on the validation split, the smallest of equals.

    The configured weight is returned where there is one, and 0 where there is no validation example or no edge.
    """
    if model.config.transitions.weight is not None:
        return model.config.transitions.weight
    if not data.manifest.counts["examples"]["validation"] or not len(data.transitions.neighbor):
        return 0.0
    vectors = model.product_vectors()

    @tf.function(reduce_retracing=True)
    def ranks(rows: dict[str, tf.Tensor]) -> tf.Tensor:
        log_chance, follows = model.parts_of_scores(vectors, rows)
        return tf.stack([ranks_of(mix(log_chance, follows, weight), rows) for weight in TRANSITION_WEIGHTS], 1)

    batches = data.evaluation_batches("validation", model.config.towers.max_history)
    found = np.concatenate([ranks(rows).numpy() for rows in batches])
    reached = [ranking_metrics(found[:, place])["ndcg@10"] for place in range(len(TRANSITION_WEIGHTS))]
    best = int(np.argmax(reached))
    say(
        f"Transition graph: weight {TRANSITION_WEIGHTS[best]} is best on validation, "
        f"ndcg@10 {reached[best]:.4f} (the model alone {reached[0]:.4f})."
    )
    return TRANSITION_WEIGHTS[best]


def target_ranks(model: ShopModel, data: ShopData, split: str, exclude_seen: bool) -> np.ndarray:
    """Return ``[examples]`` int64: how many products stand before each target, equal scores included."""
    vectors = model.product_vectors()

    @tf.function(reduce_retracing=True)
    def ranks(rows: dict[str, tf.Tensor]) -> tf.Tensor:
        return model.target_ranks(vectors, rows, exclude_seen)

    batches = data.evaluation_batches(split, model.config.towers.max_history)
    return np.concatenate([ranks(rows).numpy() for rows in batches]).astype(np.int64)


def ranking_metrics(ranks: np.ndarray) -> dict[str, float]:
    """Return metrics of rankings with one relevant product each.

    Args:
        ranks: ``[examples]`` products before the relevant one.

    Returns:
        ``recall@k``, ``precision@k``, ``f1@k``, ``ndcg@k``, ``mrr@k`` and ``map@k`` (equal with one relevant product)
        for each cutoff; ``accuracy`` (the target is first) and ``mrr``.
    """
    metrics: dict[str, float] = {"accuracy": float(np.mean(ranks == 0)), "mrr": float(np.mean(1.0 / (ranks + 1)))}
    for cutoff in CUTOFFS:
        found = ranks < cutoff
        recall = float(np.mean(found))
        precision = recall / cutoff
        reciprocal = float(np.mean(found / (ranks + 1.0)))
        metrics[f"recall@{cutoff}"] = recall
        metrics[f"precision@{cutoff}"] = precision
        metrics[f"f1@{cutoff}"] = 2 * precision * recall / (precision + recall) if recall else 0.0
        metrics[f"ndcg@{cutoff}"] = float(np.mean(found / np.log2(ranks + 2.0)))
        metrics[f"mrr@{cutoff}"] = reciprocal
        metrics[f"map@{cutoff}"] = reciprocal
    return metrics


def write_json(path: str | Path, result: dict[str, Any]) -> None:
    """Write `result` as a JSON file, whole or not at all.

    Raises:
        UserError: it cannot be written there.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"--json {path}: cannot be written ({error.strerror}).") from None
