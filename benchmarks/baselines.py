"""What the model is measured against, on the same split and evaluation: ``python -m benchmarks.baselines DATA``.

Popularity; item-kNN (cosine over the users of products); the untrained transition graph (arXiv 2605.07125).
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tfrs_shop.dataset import ShopData, open_data
from tfrs_shop.evaluation import ranking_metrics
from tfrs_shop.model.shop_model import ranks_of

import tensorflow as tf  # isort: skip

LENGTH = 50
Scorer = Callable[[dict[str, tf.Tensor]], tf.Tensor]


def popularity(data: ShopData) -> Scorer:
    """Every user is shown what most training events are of; the first of equals has the smaller index."""
    counts = data.catalogue.train_count - np.arange(data.catalogue.size + 1) * 1e-9
    return lambda rows: tf.tile(tf.constant(counts, tf.float64)[None], [tf.shape(rows["label"])[0], 1])


def item_knn(data: ShopData, neighbors: int = 100) -> Scorer:
    """Sum of the cosines between the sets of users of a product and of each product of the history."""
    from scipy.sparse import coo_matrix

    users, products = [], []
    for place, row in enumerate(data.training_windows(LENGTH).as_numpy_iterator()):
        # A window stands for its user; the few users with more than one are several here.
        found = set(row["history_product"].tolist()) | set(row["label"].tolist())
        users += [place] * len(found)
        products += found
    seen = coo_matrix((np.ones(len(users)), (users, products)), (max(users) + 1, data.catalogue.size + 1)).tocsc()
    seen[:, 0] = 0
    norms = np.sqrt(np.maximum(np.asarray(seen.sum(0)).ravel(), 1.0))
    similar = (seen.T @ seen).toarray() / norms[:, None] / norms[None, :]
    np.fill_diagonal(similar, 0.0)
    cut = np.partition(similar, -neighbors, axis=1)[:, -neighbors][:, None]
    similar = tf.constant(np.where(similar >= cut, similar, 0.0), tf.float32)
    return lambda rows: tf.reduce_sum(tf.gather(similar, rows["history_product"]), 1)


def transition_graph(data: ShopData) -> Scorer:
    """The untrained graph alone."""
    from tfrs_shop.transitions import TransitionScorer

    scorer = TransitionScorer(data.transitions, 5, 0.7)
    return lambda rows: scorer.scores(rows["history_product"], data.catalogue.size)


def evaluate(data: ShopData, scorer: Scorer) -> dict[str, Any]:
    """Return Recall@10 and NDCG@10 on the test split, with and without seen products."""
    ranks: dict[bool, list[np.ndarray]] = {False: [], True: []}
    for rows in data.evaluation_batches("test", LENGTH, 64):
        scores = scorer(rows)
        for exclude, found in ranks.items():
            found.append(ranks_of(scores, rows, exclude).numpy())
    result = {}
    for exclude, name in ((False, "all"), (True, "exclude-seen")):
        metrics = ranking_metrics(np.concatenate(ranks[exclude]))
        result[name] = {key: metrics[key] for key in ("recall@10", "ndcg@10")}
    return result


BASELINES: dict[str, Callable[[ShopData], Scorer]] = {
    "popularity": popularity,
    "item-kNN": item_knn,
    "transition graph, untrained": transition_graph,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the baselines on a data directory.")
    parser.add_argument("data", type=Path)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    data = open_data(given.data)
    results = {}
    for name, make in BASELINES.items():
        started = time.monotonic()
        results[name] = {**evaluate(data, make(data)), "seconds": round(time.monotonic() - started, 1)}
        shown = ", ".join(
            f"{protocol} {results[name][protocol]['recall@10']:.4f} / {results[name][protocol]['ndcg@10']:.4f}"
            for protocol in ("all", "exclude-seen")
        )
        print(f"{name}: Recall@10 / NDCG@10 {shown}, {results[name]['seconds']} s", flush=True)
    if given.json:
        given.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
