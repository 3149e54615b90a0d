"""What the model is measured against, on the same split and evaluation: ``python -m benchmarks.baselines DATA``.

Popularity; item-kNN (cosine over the users of products); the untrained transition graph (arXiv 2605.07125); the two
towers of TFRS' tutorial; SASRec. Each one's ranks are kept, so that any model can be tested against it.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.ranks import PROTOCOLS, Scorer, rank_targets, save_ranks, shown_metrics
from benchmarks.sasrec import Settings, sasrec
from benchmarks.tutorial_two_tower import tutorial_two_tower
from tfrs_shop.dataset import ShopData, open_data

import tensorflow as tf  # isort: skip

LENGTH = 50
ROWS = 1024


def popularity(data: ShopData, epochs: int | None) -> Scorer:
    """Every user is shown what most training events are of; the first of equals has the smaller index."""
    counts = data.catalogue.train_count - np.arange(data.catalogue.size + 1) * 1e-9
    return lambda rows: tf.tile(tf.constant(counts, tf.float64)[None], [tf.shape(rows["label"])[0], 1])


def item_knn(data: ShopData, epochs: int | None, neighbors: int = 100) -> Scorer:
    """Sum of the cosines between the sets of users of a product and of each product of the history."""
    from scipy.sparse import coo_matrix

    users, products = [], []
    for place, row in enumerate(data.training_windows(LENGTH).as_numpy_iterator()):
        # A window stands for its user; the few users with more than one are several here.
        found = set(row["history_product"].tolist()) | set(row["label"].tolist())
        users += [place] * len(found)
        products += found
    size = data.catalogue.size + 1
    seen = coo_matrix((np.ones(len(users), np.float32), (users, products)), (max(users) + 1, size)).tocsc()
    seen[:, 0] = 0
    norms = np.sqrt(np.maximum(np.asarray(seen.sum(0)).ravel(), 1.0)).astype(np.float32)
    kept = min(neighbors, size)
    near, cosine = np.zeros((size, kept), np.int32), np.zeros((size, kept), np.float32)
    for start in range(0, size, ROWS):
        some = slice(start, min(start + ROWS, size))
        similar = (seen[:, some].T @ seen).toarray() / norms[some, None] / norms
        similar[np.arange(len(similar)), np.arange(some.start, some.stop)] = 0.0
        near[some] = np.argpartition(similar, -kept, 1)[:, -kept:]
        cosine[some] = np.take_along_axis(similar, near[some], 1)

    @tf.function(reduce_retracing=True)
    def scorer(rows: dict[str, tf.Tensor]) -> tf.Tensor:
        history = rows["history_product"]
        found = tf.reshape(tf.gather(near, history), [tf.shape(history)[0], -1])
        row = tf.broadcast_to(tf.range(tf.shape(found)[0])[:, None], tf.shape(found))
        places = tf.reshape(tf.stack([row, found], 2), [-1, 2])
        weights = tf.reshape(tf.gather(cosine, history), [-1])
        return tf.scatter_nd(places, weights, [tf.shape(found)[0], size])

    return scorer


def transition_graph(data: ShopData, epochs: int | None) -> Scorer:
    """The untrained graph alone."""
    from tfrs_shop.edges import EdgeScorer

    scorer = EdgeScorer(data.transitions, 5, 0.7)
    return lambda rows: scorer.scores(rows["history_product"], data.catalogue.size)


BASELINES: dict[str, Callable[[ShopData, int | None], Scorer]] = {
    "popularity": popularity,
    "item_knn": item_knn,
    "transition_graph": transition_graph,
    "tutorial_two_tower": lambda data, epochs: tutorial_two_tower(data, **({"epochs": epochs} if epochs else {})),
    "sasrec": lambda data, epochs: sasrec(data, Settings(**({"epochs": epochs} if epochs else {}))),
}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Measure baselines on a data directory.")
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", nargs="+", choices=list(BASELINES), default=list(BASELINES), metavar="NAME")
    parser.add_argument("--output", type=Path, default=Path("bench-results/baselines"), help="for NAME.json, NAME.npz")
    parser.add_argument("--epochs", type=int, help="at most so many, of those that are trained")
    given = parser.parse_args(arguments)
    data = open_data(given.data)
    for name in given.only:
        started = time.monotonic()
        scorer = BASELINES[name](data, given.epochs)
        trained = time.monotonic() - started
        ranks = rank_targets(data, scorer, LENGTH)
        save_ranks(given.output / f"{name}.npz", ranks)
        result = {**shown_metrics(ranks), "training_seconds": round(trained, 1)}
        (given.output / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")
        shown = ", ".join(
            f"{protocol} {result[protocol]['recall@10']:.4f} / {result[protocol]['ndcg@10']:.4f}"
            for protocol in PROTOCOLS
        )
        print(f"{name}: Recall@10 / NDCG@10 {shown}; made in {trained:.1f} s", flush=True)


if __name__ == "__main__":
    main()
