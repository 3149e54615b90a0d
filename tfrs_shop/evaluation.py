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
from tfrs_shop.model.shop_model import ShopModel

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
        "protocol": "exclude-seen" if exclude_seen else "all",
        "seconds": round(seconds, 2),
    }


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
