"""Evaluation of the behaviour head: for each example of a split, what it says of what came next."""

from typing import Any

import numpy as np
import tensorflow as tf

from tfrs_shop.dataset import ShopData
from tfrs_shop.metrics.choices import choice_metrics, judged, yes_no_metrics
from tfrs_shop.model.shop_model import ShopModel


def behavior_metrics(model: ShopModel, data: ShopData, split: str) -> dict[str, Any]:
    """Return the metrics of each task, by its name: ``event_type``, ``category``, ``purchase``.

    A task that cannot be learnt of `data`, or of which the split tells nothing, is left out; all of them are where the
    head was not trained.
    """
    found = behavior_predictions(model, data, split)
    metrics: dict[str, Any] = {
        name: choice_metrics(found[name]) for name in ("event_type", "category") if len(found.get(name, {}))
    }
    if "purchase" in found:
        known = found["purchase"]["happened"] >= 0
        if known.any():
            happened, chance = found["purchase"]["happened"][known] > 0, found["purchase"]["chance"][known]
            metrics["purchase"] = yes_no_metrics(happened, chance)
    return metrics


def behavior_predictions(model: ShopModel, data: ShopData, split: str) -> dict[str, dict[str, np.ndarray]]:
    """Return, by task, what the head says of each example of `split`.

    Returns:
        ``event_type`` and ``category`` as of `judged`; ``category`` of the examples whose target has one;
        ``purchase``: ``chance`` ``[examples]`` and ``happened`` ``[examples]``, 1, 0, or -1 where it is not known.
    """
    head = model.behavior_head
    if head is None:
        return {}
    vectors = model.product_vectors()
    tasks = head.tasks

    @tf.function(autograph=False, reduce_retracing=True)
    def answers(rows: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        said, history = last_behavior(model, vectors, rows)
        return {
            "event_type": tf.nn.softmax(said.event_type),
            "category": head.category_chances(said, history),
            "purchase": tf.sigmoid(said.purchase),
        }

    parts: dict[str, list[dict[str, np.ndarray]]] = {name: [] for name in ("event_type", "category", "purchase")}
    for rows in data.evaluation_batches(split, model.config.towers.max_history):
        asked = {name: value for name, value in rows.items() if name not in ("user_id", "seen_product")}
        said = {name: value.numpy() for name, value in answers(asked).items()}
        label = tasks.leaf[rows["label"].numpy()]
        if tasks.event_type:
            parts["event_type"].append(judged(said["event_type"], rows["label_event_type"].numpy() - 1))
        if tasks.category and label.any():
            parts["category"].append(judged(said["category"][label > 0][:, 1:], label[label > 0] - 1))
        if tasks.purchase:
            follows = rows["history_purchase_follows"][:, -1].numpy()
            parts["purchase"].append({"chance": said["purchase"].astype(np.float64), "happened": follows})
    return {
        task: {name: np.concatenate([part[name] for part in found]) for name in found[0]}
        for task, found in parts.items()
        if found
    }


def last_behavior(model: ShopModel, vectors: tf.Tensor, rows: dict[str, tf.Tensor]) -> tuple[Any, tf.Tensor]:
    """Return what the head says after the last event of each row, and the categories of the history."""
    history = rows["history_product"]
    known = tf.cast(history > 0, tf.float32)[..., None]
    queries = model.query_vectors(rows, tf.gather(vectors, history) * known)
    return model.behavior(rows, queries).last(), tf.gather(model.leaf_category, history)
