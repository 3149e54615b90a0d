"""Ranks of each test target, kept as a file, so that any two models can be tested against each other.

A file holds, for each example in the split's order, its user and the rank of its target under both protocols.
``python -m benchmarks.ranks --run RUN --output DIR`` writes those of a finished run: ``mixed.npz`` with the transition
graph as the run has it, ``alone.npz`` without. With ``--likeness_weight`` likeness has this weight, and the graph's is
chosen anew: the towers are trained without either.
"""

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tfrs_shop.metrics.ranking import per_example, ranking_metrics
from tfrs_shop.metrics.uncertainty import paired_test

PROTOCOLS = ("all", "exclude-seen")
SHOWN = ("recall@10", "ndcg@10")
# From a batch of ShopData.evaluation_batches to [batch, products + 1] scores; product 0 is none.
Scorer = Callable[[dict[str, Any]], Any]
Ranks = dict[str, np.ndarray]


def rank_targets(data: Any, scorer: Scorer, length: int, split: str = "test") -> Ranks:
    """Return ``user_id`` and, by protocol, how many products stand before each target; ties stand before it.

    Args:
        data: an opened data directory (``ShopData``).
        scorer: gives scores of all products.
        length: of the histories that it is given, the newest events.
        split: whose examples.
    """
    from tfrs_shop.model.ranks import ranks_of

    found: dict[str, list[np.ndarray]] = {"user_id": [], **{protocol: [] for protocol in PROTOCOLS}}
    for rows in data.evaluation_batches(split, length):
        scores = scorer(rows)
        found["user_id"].append(rows["user_id"].numpy().astype("S"))
        for protocol in PROTOCOLS:
            found[protocol].append(ranks_of(scores, rows, protocol == "exclude-seen").numpy().astype(np.int64))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def save_ranks(path: Path, ranks: Ranks) -> None:
    """Write `ranks` as a compressed NumPy file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **ranks)  # type: ignore[arg-type]


def load_ranks(path: Path) -> Ranks:
    """Read what ``save_ranks`` wrote."""
    with np.load(path) as file:
        return dict(file)


def shown_metrics(ranks: Ranks) -> dict[str, dict[str, float]]:
    """Return Recall@10 and NDCG@10 by protocol."""
    metrics = {protocol: ranking_metrics(ranks[protocol]) for protocol in PROTOCOLS}
    return {protocol: {name: found[name] for name in SHOWN} for protocol, found in metrics.items()}


def compared(ours: Ranks, theirs: Ranks) -> dict[str, dict[str, Any]]:
    """Return, by protocol and metric, the paired test of two models on the same examples.

    Raises:
        ValueError: they are not ranks of the same examples.
    """
    if not np.array_equal(ours["user_id"], theirs["user_id"]):
        raise ValueError("the two files hold ranks of different examples")
    result: dict[str, dict[str, Any]] = {}
    for protocol in PROTOCOLS:
        first, second = per_example(ours[protocol]), per_example(theirs[protocol])
        result[protocol] = {name: paired_test(first[name], second[name]) for name in SHOWN}
    return result


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Keep the ranks of a run's test targets.")
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--likeness_weight", type=float, help="instead of the run's")
    given = parser.parse_args(arguments)
    from tfrs_shop.mixture import choose_mixture
    from tfrs_shop.run import load_run

    import tensorflow as tf  # isort: skip

    model, data, _ = load_run(given.run)
    if given.likeness_weight is not None:
        likeness = dataclasses.replace(model.config.likeness, weight=given.likeness_weight)
        model.config = dataclasses.replace(model.config, likeness=likeness)
        choose_mixture(model, data, print)
    vectors = model.product_vectors()
    for name, weight in (("mixed", model.transition_weight), ("alone", 0.0)):
        model.transition_weight = weight
        # Traced anew for each weight.
        scorer = tf.function(lambda rows: model.final_scores(vectors, rows), reduce_retracing=True)
        save_ranks(given.output / f"{name}.npz", rank_targets(data, scorer, model.config.towers.max_history))


if __name__ == "__main__":
    main()
