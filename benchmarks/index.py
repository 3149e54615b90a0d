"""Exact, ScaNN's and the partitioned index on 500,000 vectors: ``python -m benchmarks.index``.

Prints a table and writes ``bench-results/index.json``. Time per query is the median over single queries, each inside
a ``tf.function``, as a server asks; the indexes take turns, so that other work on the machine meets all alike. ScaNN's
and the partitioned index are compared at equal recall@100: ScaNN searches the fewest leaves of a short list that reach
0.95 on other queries, and the partitioned index the fewest blocks that reach on those what ScaNN does.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tfrs_shop.index import recall_of, without_native_notes
from tfrs_shop.partitioned_index import STORAGES, PartitionedIndex

import tensorflow as tf  # isort: skip
import tensorflow_recommenders as tfrs  # isort: skip

WIDTH, K, QUERIES, RECALL = 64, 100, 300, 0.95
LEAVES, REORDERED, LEAVES_SEARCHED = 1000, 400, (30, 40, 55, 75, 100)


def shop_vectors(count: int, seed: int) -> np.ndarray:
    """Return unit vectors ``[count, WIDTH]``, smooth functions of 12 hidden traits, with noise: no tidy clusters."""
    random = np.random.default_rng(seed)
    into = random.normal(size=(12, 256)) / 12**0.5
    out = random.normal(size=(256, WIDTH)) / 16
    traits = random.normal(size=(count, 12))
    rows = np.tanh(1.5 * traits @ into) @ out + 0.05 * random.normal(size=(count, WIDTH))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--products", type=int, default=500_000)
    parser.add_argument("--output", type=Path, default=Path("bench-results/index.json"))
    arguments = parser.parse_args()
    rows = shop_vectors(arguments.products + 2 * QUERIES, seed=0)
    vectors, tuning, asked = np.split(rows, [arguments.products, arguments.products + QUERIES])
    identifiers = tf.range(1, len(vectors) + 1, dtype=tf.int32)

    exact = tfrs.layers.factorized_top_k.BruteForce(k=K)
    exact.index(tf.constant(vectors), identifiers)
    wanted = np.concatenate([exact(tf.constant(asked[i : i + 50]))[1].numpy() for i in range(0, QUERIES, 50)])
    to_tune = np.concatenate([exact(tf.constant(tuning[i : i + 50]))[1].numpy() for i in range(0, QUERIES, 50)])
    found: dict[str, dict[str, Any]] = {"brute_force": {"search": exact, "built": 0.0, "searched": "all"}}
    found["scann"] = _scann(vectors, identifiers, tuning, to_tune)
    for storage in STORAGES:
        started = time.perf_counter()
        index = PartitionedIndex(vectors, storage=storage)
        built = time.perf_counter() - started
        # As good as ScaNN is, on the same queries.
        index.tune(tuning, to_tune, found["scann"]["recall"])
        name = "partitioned" if storage == "float32" else f"partitioned_{storage}"
        searched = f"{index.probes} of {index.rows.shape[0]} blocks of {index.block}"
        found[name] = {"search": _asking(index), "built": built, "searched": searched}
    results = _measured(found, asked, wanted)
    ratios = {
        "brute_force / partitioned": results["brute_force"]["ms"] / results["partitioned"]["ms"],
        "partitioned / scann": results["partitioned"]["ms"] / results["scann"]["ms"],
    }
    print(f"{len(vectors):,} x {WIDTH} vectors, top {K}, {QUERIES} single queries")
    print(f"{'index':24}{'ms/query':>10}{'recall@10':>11}{'recall@100':>12}{'built in s':>12}  searched")
    for name, row in results.items():
        figures = f"{row['ms']:10.2f}{row['recall@10']:11.4f}{row['recall@100']:12.4f}{row['built_s']:12.1f}"
        print(f"{name:24}{figures}  {row['searched']}")
    for name, ratio in ratios.items():
        print(f"{name}: {ratio:.2f}")
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(
        json.dumps({"products": len(vectors), "width": WIDTH, "k": K, "indexes": results, "ratios": ratios}, indent=2)
    )


def _asking(index: PartitionedIndex) -> Callable[[tf.Tensor], Any]:
    return lambda queries: index(queries, K)


def _scann(vectors: np.ndarray, identifiers: tf.Tensor, tuning: np.ndarray, wanted: np.ndarray) -> dict[str, Any]:
    for searched in LEAVES_SEARCHED:
        layer = tfrs.layers.factorized_top_k.ScaNN(
            k=K,
            num_leaves=LEAVES,
            num_leaves_to_search=searched,
            num_reordering_candidates=REORDERED,
            parallelize_batch_searches=False,
        )
        started = time.perf_counter()
        with without_native_notes():
            layer.index(tf.constant(vectors), identifiers)
        built = time.perf_counter() - started
        recall = recall_of(layer(tf.constant(tuning))[1].numpy(), wanted)
        if recall >= RECALL:
            break
    said = f"{searched} of {LEAVES} leaves, {REORDERED} reordered"
    return {"search": layer, "built": built, "searched": said, "recall": recall}


def _measured(found: dict[str, dict[str, Any]], asked: np.ndarray, wanted: np.ndarray) -> dict[str, dict[str, Any]]:
    """Return for each index its figures; `found` has for each what to call, and how long it took to build."""
    queries = [tf.constant(query[None]) for query in asked]
    functions = {name: tf.function(entry["search"]) for name, entry in found.items()}
    times: dict[str, list[float]] = {name: [] for name in found}
    answers: dict[str, list[np.ndarray]] = {name: [] for name in found}
    for function in functions.values():
        for query in queries[:5]:
            function(query)
    for start in range(0, len(queries), 20):
        for name, function in functions.items():
            for query in queries[start : start + 20]:
                started = time.perf_counter()
                ids = function(query)[1]
                times[name].append(time.perf_counter() - started)
                answers[name].append(ids.numpy()[0])
    return {
        name: {
            "ms": 1000 * float(np.median(times[name])),
            "recall@10": recall_of(np.stack(answers[name])[:, :10], wanted[:, :10]),
            "recall@100": recall_of(np.stack(answers[name]), wanted),
            "built_s": entry["built"],
            "searched": entry["searched"],
        }
        for name, entry in found.items()
    }


if __name__ == "__main__":
    main()
