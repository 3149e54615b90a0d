"""The package against the TFRS tutorial's code, in one process, taking turns: ``python -m benchmarks.speed DATA``.

The plain two-tower of each: ids only, 64 wide, in-batch softmax over some 8,192 examples a step, the same training
events. The package's reads a history where the tutorial's looks up a user id, and its optimizer, input and evaluation
are what ``tfrs-shop train`` and ``tfrs-shop evaluate`` use. An example is an event with its target: one that the
softmax is asked about. The tutorial's training is timed as it is printed, where each step also ranks all products
(``compute_metrics`` at its default), and without that. CPU seconds are told beside seconds: on a machine that does
other work, only their ratios hold. Writes ``bench-results/speed.json``.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tfrs_shop.config import Config, RankingConfig, RetrievalConfig, TowerConfig, TrainingConfig
from tfrs_shop.dataset import ShopData, open_data, untuned
from tfrs_shop.evaluation import evaluate
from tfrs_shop.evaluation_pass import SplitRanker
from tfrs_shop.metrics.ranking import ranking_metrics
from tfrs_shop.model.shop_model import ShopModel
from tfrs_shop.training import training_batches

import tensorflow as tf  # isort: skip
import tf_keras  # isort: skip

from benchmarks.ranks import rank_targets, shown_metrics
from benchmarks.tutorial_two_tower import BATCH, SEED, WIDTH, TwoTower, pair_batches, scorer_of, training_pairs

EPOCHS = 12
TURNS = 3
STEPS = 6
TEST_BATCH = 4096
CONFIG = Config(
    towers=TowerConfig(
        width=WIDTH,
        layers=0,
        dropout=0.2,
        id_dropout=0.0,
        max_history=20,
        text=False,
        words=False,
        attributes=False,
        recency=False,
        behavior_text=False,
        profile=False,
        repeats=False,
    ),
    retrieval=RetrievalConfig(loss="in_batch", logq=False, remove_accidental_hits=False, hard_negatives=0),
    ranking=RankingConfig(weight=0.0),
    training=TrainingConfig(learning_rate=3e-3, seed=SEED),
)


def own_model(data: ShopData) -> tuple[ShopModel, tf.data.Dataset, int, int]:
    """Return the package's plain model, its training batches, the examples of an epoch, and its steps."""
    windows = data.training_windows(CONFIG.towers.max_history)
    labels = [int(np.sum(row["label"] > 0)) for row in windows.as_numpy_iterator()]
    settings = TrainingConfig(batch_size=max(1, round(BATCH / np.mean(labels))), seed=SEED)
    batches = training_batches(windows, settings, len(labels))
    model = ShopModel(data, CONFIG)
    model.compile(tf_keras.optimizers.Adam(CONFIG.training.learning_rate))
    return model, batches, sum(labels), max(1, len(labels) // settings.batch_size)


def speeds_of(number: float, function: Callable[[], Any]) -> tuple[float, float]:
    """Return how many of the `number` that `function` works off it does in a second, and in a CPU second."""
    started, cpu = time.perf_counter(), time.process_time()
    function()
    return number / (time.perf_counter() - started), number / (time.process_time() - cpu)


def measure(data: ShopData, epochs: int = EPOCHS, turns: int = TURNS, say: Callable[[str], None] = print) -> dict:
    """Return the median speeds over `turns`, their ratios, and the quality of both after `epochs` of training."""
    tf_keras.utils.set_random_seed(SEED)
    ours, batches, examples, steps = own_model(data)
    pairs, test = training_pairs(data), _test_pairs(data)
    pairs_batches = pair_batches(pairs)
    users, products = sorted(set(pairs["user_id"].tolist())), data.values["product_id"]
    theirs, as_printed = (TwoTower(users, products, metrics_in_training=ranked) for ranked in (False, True))
    for model in (theirs, as_printed):
        model.compile(tf_keras.optimizers.Adagrad(0.1))
    # A few steps of the tutorial: they take seconds, and are all alike. Ours: an epoch, with its shuffle.
    # The tutorial's passes end as ours do: what TensorFlow waits for after one would count fully for so few steps.
    some, one = untuned(pairs_batches.take(STEPS).cache()), untuned(pairs_batches.take(1).cache())
    in_some, in_one = (sum(len(batch["user_id"]) for batch in part) for part in (some, one))
    asked = {name: values[: 2 * TEST_BATCH] for name, values in test.items()}
    asked_batches = untuned(tf.data.Dataset.from_tensor_slices(asked).batch(TEST_BATCH).cache())
    targets = len(test["user_id"])
    # Compiled once, as Keras compiles the tutorial's evaluation once.
    ranker = SplitRanker(ours, data, "test", exclude_seen=False)
    timed: dict[str, tuple[float, Callable[[], Any]]] = {
        "train, package": (examples, lambda: ours.fit(batches, steps_per_epoch=steps, verbose=0)),
        "train, tutorial without metrics": (in_some, lambda: theirs.fit(some, verbose=0)),
        "train, tutorial as printed": (in_one, lambda: as_printed.fit(one, verbose=0)),
        "evaluate, package": (targets, lambda: ranking_metrics(ranker.rank().ranks)),
        "evaluate, package, all parts": (targets, lambda: evaluate(ours, data, "test", False, lambda line: None)),
        "evaluate, tutorial": (len(asked["user_id"]), lambda: theirs.evaluate(asked_batches, verbose=0)),
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in timed}
    for turn in range(turns + 1):
        for name, (number, function) in timed.items():
            speeds = speeds_of(number, function)
            if turn:  # the first compiles
                found[name].append(speeds)
                say(f"turn {turn}: {name}: {speeds[0]:,.0f} a second, {speeds[1]:,.0f} a CPU second")
    result: dict[str, Any] = {}
    for place, unit in enumerate(("second", "CPU second")):
        speed = {name: float(np.median([speeds[place] for speeds in turns])) for name, turns in found.items()}
        result[f"per {unit}"] = speed
        result[f"ratios by {unit}"] = {
            f"{ours} / {theirs}": speed[ours] / speed[theirs]
            for ours, theirs in (
                ("train, package", "train, tutorial as printed"),
                ("train, package", "train, tutorial without metrics"),
                ("evaluate, package", "evaluate, tutorial"),
                ("evaluate, package, all parts", "evaluate, tutorial"),
            )
        }
    ours.fit(batches, steps_per_epoch=steps, epochs=epochs, verbose=0)
    theirs.fit(pairs_batches, epochs=epochs, verbose=0)
    result["epochs"] = epochs
    vectors = ours.product_vectors()
    own = tf.function(lambda rows: ours.scores(vectors, rows), reduce_retracing=True)
    result["quality"] = {
        "package": shown_metrics(rank_targets(data, own, CONFIG.towers.max_history)),
        "tutorial": shown_metrics(rank_targets(data, scorer_of(theirs, data), 1)),
    }
    return result


def _test_pairs(data: ShopData) -> dict[str, np.ndarray]:
    users, products = [], []
    for rows in data.evaluation_batches("test", 1):
        users += rows["user_id"].numpy().tolist()
        products += [data.values["product_id"][label - 1] for label in rows["label"].numpy()]
    return {"user_id": np.array(users), "product_id": np.array(products)}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Time the package against the TFRS tutorial's code.")
    parser.add_argument("data", type=Path)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument("--output", type=Path, default=Path("bench-results/speed.json"))
    given = parser.parse_args(arguments)
    result = measure(open_data(given.data), given.epochs, given.turns)
    for unit in ("second", "CPU second"):
        for name, value in result[f"ratios by {unit}"].items():
            print(f"{name}, by {unit}: {value:.1f}")
    for name, metrics in result["quality"].items():
        print(f"{name}, {result['epochs']} epochs: Recall@10 {metrics['all']['recall@10']:.4f}")
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
