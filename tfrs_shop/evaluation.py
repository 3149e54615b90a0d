"""Evaluation: every product ranked for every held-out target, nothing sampled, ties broken against the model."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfrs_shop.behavior_evaluation import behavior_metrics
from tfrs_shop.catalogue import Catalogue
from tfrs_shop.dataset import ShopData
from tfrs_shop.errors import UserError
from tfrs_shop.evaluation_pass import Ranked, rank_split, training_users
from tfrs_shop.manifest import load_manifest
from tfrs_shop.metrics.lists import coverage, gini, group_diversity, leaf_category, novelty, vector_diversity
from tfrs_shop.metrics.pairs import ranking_head_metrics
from tfrs_shop.metrics.ranking import CUTOFFS, per_example, ranking_metrics
from tfrs_shop.metrics.slices import debiased_recall, slice_metrics
from tfrs_shop.metrics.uncertainty import intervals, paired_test
from tfrs_shop.model.shop_model import ShopModel
from tfrs_shop.output import write_result
from tfrs_shop.run import load_run, read_run

__all__ = ["CUTOFFS", "evaluate", "ranking_metrics", "target_ranks", "write_json"]

TIES_SHOWN = ("tied", "drawn_from_training", "recall@10", "ndcg@10", "mrr")
COMPARED = ("recall@10", "ndcg@10")


def evaluate(
    model: ShopModel,
    data: ShopData,
    split: str,
    exclude_seen: bool,
    say: Callable[[str], None],
    *,
    other: ShopModel | None = None,
) -> dict[str, Any]:
    """Return the metrics of `model` on `split`, with the protocol that they were made by.

    Args:
        model: trained.
        data: which it was trained on.
        split: train, validation or test.
        exclude_seen: take the products of the user's earlier events out of the ranking.
        say: takes one line of progress.
        other: a model on the same data to test against.

    Returns:
        Flat keys (``recall@10``, ...), and by parts ``intervals``, ``slices``, ``ranking``, ``behavior`` (of what can
        be learnt), where clock times tie ``ties_shuffled``, and with `other` ``compared``; see ``docs/evaluation.md``.

    Raises:
        UserError: the split has no examples.
    """
    ranked, result = measured(model, data, split, exclude_seen, say)
    if other is not None:
        result["compared"] = compare(ranked, rank_split(other, data, split, exclude_seen, say))
    return result


def measured(
    model: ShopModel, data: ShopData, split: str, exclude_seen: bool, say: Callable[[str], None]
) -> tuple[Ranked, dict[str, Any]]:
    """Return what `model` made of each example of `split`, and the metrics of it, as `evaluate` does."""
    started = time.monotonic()
    ranked = rank_split(model, data, split, exclude_seen, say)
    seconds = time.monotonic() - started
    say(f"Ranked {data.catalogue.size:,} products for {len(ranked.ranks):,} targets in {seconds:.1f} s.")
    result = {
        **ranking_metrics(ranked.ranks),
        "debiased_recall@10": debiased_recall(ranked.ranks, ranked.label, data.catalogue.train_count),
        **list_metrics(ranked.lists, data.catalogue, model),
        "examples": len(ranked.ranks),
        "products": data.catalogue.size,
        "split": split,
        "split_rule": data.manifest.split["rule"],
        "transition_weight": model.transition_weight,
        "likeness_weight": model.likeness_weight,
        "habit_weight": model.habit_weight,
        "protocol": "exclude-seen" if exclude_seen else "all",
        "seconds": round(seconds, 2),
        **part_metrics(ranked, data),
    }
    behavior = behavior_metrics(model, data, split)
    if behavior:
        result["behavior"] = behavior
    shuffled = ties_shuffled(model, data, split, exclude_seen, ranked.ranks)
    if shuffled:
        result["ties_shuffled"] = shuffled
    return ranked, result


def list_metrics(lists: np.ndarray, catalogue: Catalogue, model: ShopModel) -> dict[str, Any]:
    """Return coverage, diversity, novelty and Gini of the recommended ``lists`` ``[examples, k]``.

    What the catalogue gives no ground for (diversity by category, without categories) is left out. Diversity by
    embedding is of the text vectors, or, where the data has none, of the product vectors of `model`.
    """
    first = lists[:, :10]
    with_text = catalogue.text_vector.shape[1] > 0
    vectors = catalogue.text_vector if with_text else model.product_vectors().numpy().astype(np.float32)
    metrics = {
        "coverage@10": coverage(first, catalogue.size),
        "coverage@100": coverage(lists, catalogue.size),
        "diversity_category@10": group_diversity(first, leaf_category(catalogue.category)),
        "diversity_top_category@10": group_diversity(first, catalogue.category[:, 0]),
        "diversity_embedding@10": vector_diversity(first, vectors),
        "diversity_embedding_of": "text vectors" if with_text else "product vectors",
        "novelty@10": novelty(first, catalogue.train_count),
        "gini@10": gini(first, catalogue.size),
    }
    return {name: value for name, value in metrics.items() if value is not None}


def part_metrics(ranked: Ranked, data: ShopData) -> dict[str, Any]:
    """Return ``intervals``, ``slices`` and ``ranking``; the last is empty where the ranking head was not trained."""
    known = training_users(data)
    new_user = np.array([user not in known for user in ranked.user_id.tolist()], bool)
    train_count = data.catalogue.train_count
    judged = len(ranked.chosen) > 0
    return {
        "intervals": intervals(per_example(ranked.ranks)),
        "slices": slice_metrics(ranked.ranks, ranked.history_length, new_user, ranked.label, train_count),
        "ranking": ranking_head_metrics(ranked.chosen, ranked.sampled, ranked.rating, ranked.predicted_rating)
        if judged
        else {},
    }


def ties_shuffled(
    model: ShopModel, data: ShopData, split: str, exclude_seen: bool, ranks: np.ndarray
) -> dict[str, Any]:
    """Return the metrics of the target's rank where the target is drawn among the events of its clock time.

    Args:
        model, data, split, exclude_seen: as of `evaluate`.
        ranks: ``[examples]`` of the targets as they stand in the data.

    Returns:
        ``examples``, ``tied`` (those with a choice), ``drawn_from_training`` (targets that the model was trained on)
        and the keys of `ranking_metrics`; nothing where events have no clock times or none of a target is tied.
    """
    if data.manifest.order_by != "timestamp":
        return {}
    vectors = model.product_vectors()

    @tf.function(autograph=False, reduce_retracing=True)
    def ranked(rows: dict[str, tf.Tensor]) -> tf.Tensor:
        return model.target_ranks(vectors, rows, exclude_seen)

    found, start, tied, from_training = ranks.copy(), 0, 0, 0
    # By leave-one-out all but a user's last one or two targets were trained on; by time, equals are on one side.
    held_out = {"test": 2, "validation": 1}.get(split, 0) if data.manifest.split["rule"] == "leave_one_out" else None
    for rows in data.evaluation_batches(split, model.config.towers.max_history, shuffle_ties=True):
        places = np.flatnonzero(rows["tied"])
        if len(places):
            found[start + places] = ranked({name: tf.gather(value, places) for name, value in rows.items()}).numpy()
        start, tied = start + len(rows["tied"]), tied + len(places)
        if held_out is not None:
            from_training += int(np.sum(rows["drawn_back"].numpy() >= held_out))
    if not tied:
        return {}
    return {"examples": start, "tied": tied, "drawn_from_training": from_training, **ranking_metrics(found)}


def load_compared(directory: str | Path, data: ShopData) -> ShopModel:
    """Return the model of the run `directory`, to be tested against another on `data`.

    Raises:
        UserError: it is no finished run, or it was not trained on the same data and split.
    """
    own = Path(read_run(directory).data)
    if own.is_dir() and own.resolve() != data.directory.resolve():
        manifest = load_manifest(own)
        if (manifest.split, manifest.counts["examples"]) != (data.manifest.split, data.manifest.counts["examples"]):
            raise UserError(
                f"--compare {directory}: was trained on {own}, which is split otherwise than {data.directory}; "
                "only runs on the same data can be compared."
            )
    model, _, _ = load_run(directory, data.directory)
    return model


def compare(ranked: Ranked, other: Ranked) -> dict[str, dict[str, Any]]:
    """Return, for Recall@10 and NDCG@10, ``other``'s value, our ``difference``, its ``interval`` and ``p_value``."""
    ours, theirs = per_example(ranked.ranks), per_example(other.ranks)
    return {name: {"other": float(theirs[name].mean()), **paired_test(ours[name], theirs[name])} for name in COMPARED}


def shown(result: dict[str, Any]) -> Iterator[str]:
    """Yield `result` as lines for people: one a number, one a slice."""
    for name, value in result.items():
        if not isinstance(value, dict):
            yield f"{name}: {_shown(value)}"
        elif name == "ties_shuffled":
            row = {key: number for key, number in value.items() if key in TIES_SHOWN}
            yield f"{name}: " + ", ".join(f"{key} {_shown(number)}" for key, number in row.items())
        elif value:
            yield f"{name}:"
            for part, numbers in value.items():
                if isinstance(numbers, dict):
                    yield f"  {part}: " + ", ".join(f"{key} {_shown(number)}" for key, number in numbers.items())
                elif part != "reliability":
                    yield f"  {part}: {_shown(numbers)}"


def target_ranks(model: ShopModel, data: ShopData, split: str, exclude_seen: bool) -> np.ndarray:
    """Return ``[examples]`` int64: how many products stand before each target, equal scores included."""
    vectors = model.product_vectors()

    @tf.function(autograph=False, reduce_retracing=True)
    def ranks(rows: dict[str, tf.Tensor]) -> tf.Tensor:
        return model.target_ranks(vectors, rows, exclude_seen)

    batches = data.evaluation_batches(split, model.config.towers.max_history)
    return np.concatenate([ranks(rows).numpy() for rows in batches]).astype(np.int64)


def write_json(path: str | Path, result: dict[str, Any]) -> None:
    """Write `result` as a JSON file, whole or not at all.

    Raises:
        UserError: it cannot be written there.
    """
    write_result(Path(path), result)


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return " to ".join(_shown(entry) for entry in value)
    return f"{value:.4f}" if isinstance(value, float) else str(value)
