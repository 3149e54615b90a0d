"""Products that nobody has touched yet, on Amazon Beauty: ``python -m benchmarks.cold_start [--config FILE]``.

A tenth of the products, drawn by a seed, is held out: no event of theirs is in the training or the validation split,
nor in any history. What stays of them is the catalogue row, and the test event of the users whose last product one
of them was. For those users the held-out products are ranked among themselves, and among all products.

They have no events to be popular by, so "popularity in category" has to take it from what is known of them. Three
readings are measured, and the bar is set against the best of them:

- *favourite category*: the products of the user's most frequent deepest category come first, then those of the second
  most frequent, and so on; inside a category by the training events of their brand;
- *category shares*: a category is drawn as often as it is in the history, then one of its products by the training
  events of the brand; the mean of the chances by every level of the category path;
- *category shares, equal brands*: the same, all products of a category being equally likely.

``categories and brands of the history`` is no popularity but a content baseline: shown beside them, for honesty.
Ties count against whoever made them. Needs the data set beside the checkout (``../shared/data/amazon_beauty``, or
TFRS_SHOP_DATA). Writes ``bench-results/cold_start.json``.
"""

import argparse
import csv
import gzip
import json
import random
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.beauty import ROOT, SHARED
from benchmarks.steps import run_step
from tfrs_shop.metrics.uncertainty import intervals

WORK = ROOT / "bench-results" / "cold_start"
SHARE, SEED = 0.1, 17
FEWEST_EVENTS = 3  # of a user with a test event, as pipelines/examples.py splits


def main(config: str = "") -> None:
    raw = SHARED / "amazon_beauty"
    if not raw.is_dir():
        print(f"cold_start: left out, {raw} is not there")
        return
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    products = str(raw / "products.jsonl.gz")
    held_out = draw_products(read_products(Path(products)), SHARE, SEED)
    events = WORK / "events.csv.gz"
    dropped = write_events(raw / "events.csv.gz", events, held_out)
    data, run = str(WORK / "data"), str(WORK / "run")
    settings = ["--config", config] if config else []
    run_step("tfrs_shop.cli", "preprocess", "--events", str(events), "--products", products, "--output", data)
    train = run_step("tfrs_shop.cli", "train", "--data", data, "--output", run, *settings)
    result = {**measure(run, held_out), "dropped_test_events": dropped, "config": config, "training": train}
    (WORK.parent / "cold_start.json").write_text(json.dumps(result, indent=2) + "\n")
    show(result)


def read_products(path: Path) -> list[str]:
    """Return the product ids of a catalogue in JSON lines, gzip, in its order."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line)["product_id"] for line in lines]


def draw_products(products: list[str], share: float, seed: int) -> set[str]:
    """Return a `share` of the product ids, the same for a `seed`."""
    return set(random.Random(seed).sample(sorted(products), round(share * len(products))))


def write_events(source: Path, target: Path, held_out: set[str]) -> int:
    """Copy a gzipped event table without the events of `held_out` products, but for test events.

    A user's last event is the test event, whatever product it is of. It has to go too where it is of a held-out
    product and so few others are left that the split would make it a training event.

    Returns:
        The test events of held-out products that went.
    """
    with gzip.open(source, "rt", encoding="utf-8", newline="") as lines:
        reader = csv.DictReader(lines)
        fields = list(reader.fieldnames or [])
        users: dict[str, list[dict[str, str]]] = {}
        for row in reader:
            users.setdefault(row["user_id"], []).append(row)
    dropped = 0
    with gzip.open(target, "wt", encoding="utf-8", newline="") as lines:
        writer = csv.DictWriter(lines, fields, lineterminator="\n")
        writer.writeheader()
        for rows in users.values():
            rows.sort(key=lambda row: int(row["position"]))
            kept = [row for row in rows[:-1] if row["product_id"] not in held_out]
            cold = rows[-1]["product_id"] in held_out
            lost = cold and len(kept) + 1 < FEWEST_EVENTS
            dropped += lost
            writer.writerows(kept if lost else [*kept, rows[-1]])
    return dropped


def measure(run: str, held_out: set[str]) -> dict[str, Any]:
    """Return Recall@10 and its intervals of the model of the directory `run` and of the baselines."""
    import tensorflow as tf

    from tfrs_shop.evaluation import ranking_metrics
    from tfrs_shop.run import load_run

    model, data, _ = load_run(run)
    ids = data.catalogue.product_id
    cold = np.array([value.decode() in held_out for value in ids[1:]]).nonzero()[0].astype(np.int32) + 1
    events = int(data.catalogue.train_count[cold].sum())
    if events:
        raise SystemExit(f"cold_start: {events} training events of held-out products")
    vectors = model.product_vectors()

    @tf.function(reduce_retracing=True)
    def answers(rows: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.gather(model.final_scores(vectors, rows), cold, axis=1), model.target_ranks(vectors, rows)

    scorers = baselines(data.catalogue, cold)
    among: dict[str, list[np.ndarray]] = {name: [] for name in ("this model", *scorers)}
    everywhere, examples, others = [], 0, []
    for rows in data.evaluation_batches("test", model.config.towers.max_history):
        asked = np.isin(rows["label"].numpy(), cold)
        examples += len(asked)
        found, ranks = answers(rows)
        everywhere.append(ranks.numpy()[asked])
        others.append(ranks.numpy()[~asked])
        target = np.searchsorted(cold, rows["label"].numpy()[asked])
        among["this model"].append(ranks_among(found.numpy()[asked], target))
        seen = rows["seen_product"].numpy()[asked]
        for name, scorer in scorers.items():
            among[name].append(ranks_among(np.stack([scorer(history[history > 0]) for history in seen]), target))
    hits = {name: (np.concatenate(ranks) < 10).astype(np.float64) for name, ranks in among.items()}
    spread = intervals(hits)
    return {
        "products": len(cold),
        "catalogue": data.catalogue.size,
        "examples": len(hits["this model"]),
        "test_examples": examples,
        "among_held_out": {
            name: {"recall@10": float(hit.mean()), "interval": spread[name]} for name, hit in hits.items()
        },
        "among_all": {
            "held-out targets": ranking_metrics(np.concatenate(everywhere)),
            "other targets": ranking_metrics(np.concatenate(others)),
        },
    }


def ranks_among(scores: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return ``[examples]``: how many columns of ``scores`` are at least the target's, itself not counted."""
    own = np.take_along_axis(scores, target[:, None], 1)
    counted: np.ndarray = (scores >= own).sum(1) - 1
    return counted


def baselines(catalogue: Any, cold: np.ndarray) -> dict[str, Any]:
    """Return baseline name to a function from a history ``[events]`` to scores of the held-out products ``[cold]``."""
    category, brand, count = catalogue.category, catalogue.brand, catalogue.train_count
    depth = (category > 0).sum(1)
    deepest = np.take_along_axis(category, np.maximum(depth - 1, 0)[:, None], 1)[:, 0]
    of_brand = np.bincount(brand, count, brand.max() + 1)
    of_brand[0] = 0.0
    popular = of_brand[brand[cold]]
    shade = popular / (popular.max() + 1.0)

    def favourite(history: np.ndarray) -> np.ndarray:
        times = np.bincount(deepest[history], minlength=category.max() + 1)
        times[0] = 0
        return times[deepest[cold]] + shade

    def shares(history: np.ndarray, weight: np.ndarray) -> np.ndarray:
        total = np.zeros(len(cold))
        for level in range(category.shape[1]):
            kinds = category[cold, level]
            size = np.bincount(kinds, weight, category.max() + 1)
            times = np.bincount(category[history, level], minlength=category.max() + 1)
            times[0] = 0
            total += times[kinds] / max(len(history), 1) * weight / size[kinds]
        return total / category.shape[1]

    def by_content(history: np.ndarray) -> np.ndarray:
        of_user = np.bincount(brand[history], minlength=len(of_brand))
        of_user[0] = 0
        return of_user[brand[cold]] + shares(history, popular + 1.0)

    return {
        "favourite category": favourite,
        "category shares": lambda history: shares(history, popular + 1.0),
        "category shares, equal brands": lambda history: shares(history, np.ones(len(cold))),
        CONTENT: by_content,
    }


CONTENT = "categories and brands of the history"


def lines_of(result: dict[str, Any]) -> Iterator[str]:
    """Yield the table of `result` in Markdown."""
    among = result["among_held_out"]
    best = max(values["recall@10"] for name, values in among.items() if name not in ("this model", CONTENT))
    yield f"| {result['products']:,} held-out products, {result['examples']:,} test events | Recall@10 | 95% |"
    yield "| --- | --- | --- |"
    for name, values in among.items():
        low, high = values["interval"]
        yield f"| {name} | {values['recall@10']:.4f} | {low:.4f} to {high:.4f} |"
    yield f"| this model / best popularity in category | {among['this model']['recall@10'] / best:.2f} | |"
    yield f"| random order | {10 / result['products']:.4f} | |"
    for name, values in result["among_all"].items():
        yield f"| this model, {name} among all {result['catalogue']:,} products | {values['recall@10']:.4f} | |"


def show(result: dict[str, Any]) -> None:
    lines: Iterable[str] = lines_of(result)
    print("\n" + "\n".join(lines))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Measure recommendations of products without events.")
    parser.add_argument("--config", default="", help="settings of tfrs-shop train")
    main(parser.parse_args().config)
