"""Accuracy against diversity of each method: ``python -m benchmarks.diversity RUN [--data DIR]``.

For every example of the validation split (or a sample of them) the 200 best products are found, seen products taken
out, and of them each method chooses ten, at several strengths. The largest strength that loses at most 3% of NDCG@10
on validation is then measured on the test split. Prints tables, and writes ``bench-results/diversity.json`` and a page
with the charts beside it. ``--latency`` measures instead what a list (k = 10 of 200 candidates), reasons, and an
explanation take on top of a request for recommendations, one user at a time, in turns.
"""

import argparse
import functools
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tfrs_shop.dataset import ShopData
from tfrs_shop.diversity_evaluation import SEED, K, Pools
from tfrs_shop.index import build_index
from tfrs_shop.model.shop_model import ShopModel
from tfrs_shop.report_charts import line_chart
from tfrs_shop.report_page import STYLE
from tfrs_shop.run import load_run
from tfrs_shop.served.diversity import METHODS
from tfrs_shop.served.explain import Explain
from tfrs_shop.served.recommend import Recommend
from tfrs_shop.served.recommend_diverse import RecommendDiverse
from tfrs_shop.served.recommend_explained import RecommendExplained
from tfrs_shop.served.shop import ServedShop, Serving

import tensorflow as tf  # isort: skip

STRENGTHS = (0.2, 0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.8)
LOSS, GAIN = 0.03, 0.25


def chosen(curve: list[dict[str, float]], plain: dict[str, float]) -> dict[str, float]:
    """Return the point of `curve` with the largest strength up to which no more than LOSS of NDCG@10 is lost."""
    kept = plain
    for point in curve:
        if point["ndcg@10"] < (1 - LOSS) * plain["ndcg@10"]:
            break
        kept = point
    return kept


def relative(point: dict[str, float], plain: dict[str, float]) -> dict[str, float]:
    return {name: point[name] / plain[name] - 1.0 if plain[name] else 0.0 for name in point if name != "strength"}


def show(title: str, rows: dict[str, dict[str, float]], plain: dict[str, float]) -> None:
    print(f"\n{title}\n{'method':16}{'strength':>9}{'NDCG@10':>16}{'by category':>18}{'by embedding':>18}")
    for name, row in {"recommend": plain, **rows}.items():
        change = relative(row, plain)
        figures = "".join(
            f"{row[key]:{width}.4f} ({change[key]:+6.1%})"
            for key, width in (("ndcg@10", 7), ("category", 9), ("embedding", 9))
        )
        print(f"{name:16}{row['strength']:9.2f}{figures}")


def page(curves: dict[str, list[dict[str, float]]], plain: dict[str, float], text: str) -> str:
    """Return an HTML page with one chart for each kind of diversity."""
    colours = ("var(--one)", "var(--two)", "#2f8f5b", "#8a4fbf", "#b03a5b")
    style = "".join(
        f".series{i} {{ fill: none; stroke-width: 1.8; stroke: {colour}; }} .dot{i} {{ fill: {colour}; }} "
        f".key{i}::before {{ color: {colour}; }}\n"
        for i, colour in enumerate(colours, 1)
    )
    charts = "".join(
        line_chart(
            {
                name: [(100 * relative(point, plain)[kind], point["ndcg@10"]) for point in [plain, *curve]]
                for name, curve in curves.items()
            },
            title=f"NDCG@10 against diversity by {kind}",
            x_label=f"diversity by {kind}, % above recommend",
        )
        for kind in ("category", "embedding")
    )
    return f'<!doctype html><meta charset="utf-8"><style>{STYLE}{style}</style><h1>Diversity</h1><p>{text}</p>{charts}'


def latency(model: ShopModel, data: ShopData) -> dict[str, dict[str, float]]:
    """Return the median milliseconds of a request of each kind, in process, by the signatures that a bundle has.

    The time of all cores together is given beside the time that passed: other work does not count in it.
    """
    vectors, users = model.product_vectors().numpy(), data.users()["user_id"]
    with tempfile.TemporaryDirectory() as folder:
        paths = {"products": Path(folder) / "products", "users": Path(folder) / "users"}
        paths["products"].write_bytes(b"\n".join(data.values["product_id"]) + b"\n")
        paths["users"].write_bytes(b"\n".join(users) + b"\n")
        shop = ServedShop(model, data, vectors, Serving(K, "bought"), {name: str(path) for name, path in paths.items()})
        shop.retrieval.index, _ = build_index("brute_force", vectors[1:], vectors[1:513], shop.retrieval.most)
        questions = Recommend(shop), RecommendDiverse(shop), RecommendExplained(shop), Explain(shop)
        signatures = {name: graph for question in questions for name, graph in question.signatures().items()}
        asked: dict[str, Callable[..., Any]] = {"recommend": signatures["recommend"]}
        seed, half = tf.constant([SEED], tf.int64), tf.constant([0.5])
        for name in METHODS:
            how = {"method": tf.constant([name]), "strength": half, "seed": seed}
            asked[name] = functools.partial(signatures["recommend_diverse"], **how)
        asked["recommend_explained"] = signatures["recommend_explained"]
        asked["explain"] = functools.partial(
            signatures["explain"], product_id=tf.constant(data.values["product_id"][:1])
        )
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in asked}
        for place in np.linspace(0, len(users) - 1, 210).astype(int):
            user = tf.constant([users[place]])
            for name, ask in asked.items():
                started, worked = time.perf_counter(), time.process_time()
                ask(user_id=user)
                times[name].append((time.perf_counter() - started, time.process_time() - worked))
    medians = {name: 1000 * np.median(values[10:], axis=0) for name, values in times.items()}
    found = {name: {"ms": float(passed), "ms of all cores": float(cores)} for name, (passed, cores) in medians.items()}
    for name, row in found.items():
        shown = (f"{value:8.2f} {unit} ({value - found['recommend'][unit]:+.2f})" for unit, value in row.items())
        print(f"{name:20}{'  '.join(shown)}")
    return found


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--examples", type=int, default=0, help="of each split, about so many; 0: all")
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--output", type=Path, default=Path("bench-results/diversity.json"))
    parser.add_argument("--latency", action="store_true", help="measure the time of requests instead")
    given = parser.parse_args(arguments)
    model, data, _ = load_run(given.run, given.data)
    if given.latency:
        latency(model, data)
        return
    result: dict[str, Any] = {"data": str(data.directory), "loss": LOSS, "gain": GAIN}
    started = time.monotonic()
    pools = Pools(model, data, "validation", given.examples)
    plain = pools.measured("recommend", 0.0)
    print(
        f"{pools.size:,} validation examples, seen products out; found in {time.monotonic() - started:.0f} s",
        flush=True,
    )
    curves: dict[str, list[dict[str, float]]] = {}
    for name in given.methods:
        curves[name] = [pools.measured(name, strength) for strength in STRENGTHS]
        show(f"{name}, validation", {f"{name} {point['strength']}": point for point in curves[name]}, plain)
        print(flush=True)
    picked = {name: chosen(curve, plain) for name, curve in curves.items()}
    show(f"Validation: the largest strength that loses at most {LOSS:.0%}", picked, plain)
    result["validation"] = {"recommend": plain, "curves": curves, "chosen": picked}
    del pools
    pools = Pools(model, data, "test", given.examples)
    plain_test = pools.measured("recommend", 0.0)
    tested = {name: pools.measured(name, point["strength"]) for name, point in picked.items()}
    show(f"Test, {pools.size:,} examples: the same strengths", tested, plain_test)
    result["test"] = {"recommend": plain_test, "chosen": tested}
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(json.dumps(result, indent=2) + "\n")
    text = f"{data.directory.name}, validation; each line is a method at strengths 0 to 1."
    given.output.with_suffix(".html").write_text(page(curves, plain, text))
    print(f"\nWrote {given.output} and {given.output.with_suffix('.html')}.")


if __name__ == "__main__":
    main()
