"""What goes with a basket, on Online Retail: ``python -m benchmarks.complements``.

The last basket of each user with two or more is held out: half of it, drawn by a seed, is given, and the rest is to be
found among all products. Everything before it is preprocessed as a user would, and ``complements`` is asked as a bundle
asks it. Beside it: how often each product was bought together with the given ones, from the same baskets. Recall@10 is
what was found, of at most ten. Needs the data set beside the checkout (``../shared/data/online_retail``, or
TFRS_SHOP_DATA). Writes ``bench-results/complements.json``.
"""

import csv
import gzip
import json
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import permutations
from pathlib import Path

import numpy as np

from benchmarks.beauty import RESULTS, SHARED
from benchmarks.steps import run_step
from tfrs_shop.complements import complement_edges
from tfrs_shop.dataset import open_data
from tfrs_shop.edges import EdgeScorer
from tfrs_shop.metrics.uncertainty import paired_test

import tensorflow as tf  # isort: skip

WORK = RESULTS / "complements"
SEED, TOP = 17, 10
BATCH = 256
# (user, invoice) to the distinct products, in order.
Baskets = dict[tuple[str, str], list[str]]


def read_baskets(path: Path) -> tuple[Baskets, Baskets]:
    """Return the baskets that are known, and the last one of each user with two or more."""
    baskets: Baskets = {}
    with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row["event_type"] == "purchase"]
    for row in sorted(rows, key=lambda row: (row["user_id"], int(row["position"]))):
        basket = baskets.setdefault((row["user_id"], row["session_id"]), [])
        if row["product_id"] not in basket:
            basket.append(row["product_id"])
    counts = Counter(user for user, _ in baskets)
    last = {user: invoice for user, invoice in baskets}  # noqa: C416  (the last one of each user stays)
    held_out = {key: basket for key, basket in baskets.items() if counts[key[0]] > 1 and last[key[0]] == key[1]}
    return {key: basket for key, basket in baskets.items() if key not in held_out}, held_out


def write_known(path: Path, output: Path, held_out: Baskets) -> None:
    """Write the events of `path` without those of held-out baskets."""
    with (
        gzip.open(path, "rt", encoding="utf-8", newline="") as lines,
        gzip.open(output, "wt", encoding="utf-8", newline="") as kept,
    ):
        rows = csv.DictReader(lines)
        writer = csv.DictWriter(kept, rows.fieldnames or [])
        writer.writeheader()
        writer.writerows(row for row in rows if (row["user_id"], row["session_id"]) not in held_out)


def halves(held_out: Baskets) -> list[tuple[list[str], list[str]]]:
    """Return the given and the asked half of each basket of two or more products."""
    drawn = random.Random(SEED)
    cases = []
    for basket in (basket for basket in held_out.values() if len(basket) > 1):
        mixed = drawn.sample(basket, len(basket))
        cases.append((mixed[: len(basket) // 2], mixed[len(basket) // 2 :]))
    return cases


def bought_together(baskets: Iterable[list[str]]) -> Callable[[list[list[str]]], list[list[str]]]:
    """Return the peer: the products that were most often in one basket with the given ones."""
    counts: dict[str, Counter[str]] = {}
    for basket in baskets:
        for one, other in permutations(basket, 2):
            counts.setdefault(one, Counter())[other] += 1

    def answer(batch: list[list[str]]) -> list[list[str]]:
        found = []
        for given in batch:
            total: Counter[str] = Counter()
            for product in given:
                total.update(counts.get(product, {}))
            for product in given:
                total.pop(product, None)
            found.append([product for product, _ in total.most_common(TOP)])
        return found

    return answer


def own_answers(directory: Path) -> Callable[[list[list[str]]], list[list[str]]]:
    """Return the package: the edges of the data directory, summed as ``complements`` sums them."""
    data = open_data(directory)
    products = data.catalogue.size
    # Without a trained model no product is like another: what was never bought goes with nothing.
    edges = complement_edges(data, np.zeros([products + 1, 1], np.float32))
    scorer = EdgeScorer(edges, events=0, decay=1.0)
    ids = [value.decode() for value in data.catalogue.product_id]
    places = {value: place for place, value in enumerate(ids) if place}

    def answer(batch: list[list[str]]) -> list[list[str]]:
        numbers = [[places[product] for product in given if product in places] for given in batch]
        given = tf.ragged.constant(numbers, tf.int32).to_tensor(0)
        scores = scorer.sums(given, products).numpy()
        np.put_along_axis(scores, given.numpy(), 0.0, 1)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :TOP]
        return [[ids[place] for place in row if scores[number, place] > 0] for number, row in enumerate(best.tolist())]

    return answer


def recalls(
    answer: Callable[[list[list[str]]], list[list[str]]], cases: list[tuple[list[str], list[str]]]
) -> np.ndarray:
    """Return Recall@10 of each case."""
    found: list[float] = []
    for first in range(0, len(cases), BATCH):
        part = cases[first : first + BATCH]
        for products, (_, asked) in zip(answer([given for given, _ in part]), part, strict=True):
            found.append(len(set(products) & set(asked)) / min(TOP, len(asked)))
    return np.array(found)


def without_last_baskets(work: Path) -> tuple[Baskets, Baskets, list[str]]:
    """Make the directory `work` anew, and write Online Retail's events without each user's last basket into it.

    Returns:
        The baskets that are known, those that are held out, and what ``preprocess`` is given to read.
    """
    raw = SHARED / "online_retail"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    known, held_out = read_baskets(raw / "events.csv.gz")
    write_known(raw / "events.csv.gz", work / "events.csv.gz", held_out)
    return known, held_out, ["--events", str(work / "events.csv.gz"), "--products", str(raw / "products.jsonl.gz")]


def main() -> None:
    if not (SHARED / "online_retail").is_dir():
        print(f"complements: left out, {SHARED / 'online_retail'} is not there")
        return
    known, held_out, files = without_last_baskets(WORK)
    # Nothing more is held out: the test is what was left out above.
    later = ["--split", "time", "--validation_from", "2100-01-01", "--test_from", "2100-01-01"]
    took = run_step(
        "tfrs_shop.cli", "preprocess", *files, "--output", str(WORK / "data"), "--text_encoder", "none", *later
    )
    cases = halves(held_out)
    own, peer = recalls(own_answers(WORK / "data"), cases), recalls(bought_together(known.values()), cases)
    result = {
        "baskets": len(cases),
        "preprocess": took,
        "recall@10": {"complements": float(own.mean()), "bought together": float(peer.mean())},
        "hit@10": {"complements": float((own > 0).mean()), "bought together": float((peer > 0).mean())},
        "higher by": float(own.mean() / peer.mean() - 1),
        "test": paired_test(own, peer),
    }
    (RESULTS / "complements.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
