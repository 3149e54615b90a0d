"""The sections of the report, of one run or of two side by side: each from what was measured to markup."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfrs_shop.catalogue import BUCKETED, POPULARITY
from tfrs_shop.config import Config
from tfrs_shop.dataset import ShopData
from tfrs_shop.diversity_evaluation import Pools
from tfrs_shop.evaluation_pass import Ranked
from tfrs_shop.metrics.ranking import CUTOFFS, per_example
from tfrs_shop.metrics.uncertainty import intervals
from tfrs_shop.model.shop_model import ShopModel
from tfrs_shop.report_charts import interval_bar, line_chart
from tfrs_shop.report_page import Chart, Words, cards, number, paragraph, section, table, text
from tfrs_shop.run import RunInfo, changed_settings
from tfrs_shop.settings import load_yaml

SLICE_NAMES = {"head_products": "target in the head", "tail_products": "target in the tail"}
COLD_NAMES = {"new_users": "new users", "unseen_products": "target unseen in training"}
# Training events of a target: from, to.
POPULARITIES = ((0, 0), (1, 4), (5, 9), (10, 19), (20, 49), (50, None))
TAIL_SHARES = (0.0, 0.01, 0.02, 0.05, *(round(0.1 * step, 1) for step in range(1, 11)))
# What the curves of diversity are drawn of.
DIVERSITY_EXAMPLES = 2000
DIVERSITY_METHODS = ("mmr", "dpp", "category_quota")
DIVERSITY_STRENGTHS = (0.2, 0.4, 0.5, 0.6, 0.8)


@dataclasses.dataclass(frozen=True)
class Side:
    """A run on the page.

    Attributes:
        name: what it is called there.
        path: its directory.
        info: what its ``run.json`` says.
        model: of it.
        ranked: what the model made of each example.
        result: of ``tfrs_shop.evaluation.measured``.
        weights: numbers that were trained.
    """

    name: str
    path: Path
    info: RunInfo
    model: ShopModel
    ranked: Ranked
    result: dict[str, Any]
    weights: int


Sides = Sequence[Side]


def heads(sides: Sides, *kinds: str) -> list[str]:
    """Return the names of columns: each kind, and of two runs each kind of each run."""
    return [f"{kind}, {side.name}" if len(sides) > 1 else kind for kind in kinds for side in sides]


def compared_section(sides: Sides, tests: dict[str, dict[str, Any]]) -> str:
    """Return how the first run does against the second: paired tests, and the settings that differ.

    Args:
        sides: two.
        tests: metric to the result of ``tfrs_shop.metrics.uncertainty.paired_test``, and ``other``.
    """
    first, second = sides
    rows = (
        (
            name,
            first.result[name],
            of["other"],
            f"{of['difference']:+.4f}",
            " to ".join(f"{end:+.4f}" for end in of["interval"]),
            f"{of['p_value']:.4f}",
        )
        for name, of in tests.items()
    )
    head = ("metric", first.name, second.name, "difference", "95% interval", "p-value")
    changed = [
        (name, Words(value), Words(other))
        for name, other, value in changed_settings(
            *(load_yaml(Config, side.path / "config.yaml") for side in (second, first))
        )
    ]
    return section(
        f"{first.name} against {second.name}",
        paragraph(
            f"{_verdict(first.name, second.name, tests)} Each example is ranked by both; the p-value is that of a "
            "paired permutation test."
        ),
        table(head, rows),
        "<br/>",
        table(("setting", first.name, second.name), changed)
        if changed
        else paragraph("The settings of the two are the same."),
    )


def ranking_section(sides: Sides) -> str:
    """Return the metrics of the targets' ranks, with how far chance may move them."""
    result = sides[0].result
    seen = "taken out of the ranking" if result["protocol"] == "exclude-seen" else "left in the ranking"
    weights = " and ".join(f"{side.result['transition_weight']:g}" for side in sides)
    protocol = paragraph(
        f"All {result['products']:,} products ranked for each of {result['examples']:,} held-out events "
        f"(split rule: {result['split_rule']}); products already seen are {seen}; equal scores count against the "
        f"model. Weight of the transition graph: {weights}."
    )
    most = {"Recall@10": "recall@10", "NDCG@10": "ndcg@10", "MRR": "mrr"}
    first = cards(
        {
            head: side.result[key]
            for shown, key in most.items()
            for head, side in zip(heads(sides, shown), sides, strict=True)
        }
    )
    ends = [end for side in sides for _, end in side.result["intervals"].values()]
    ranges = table(
        ["metric", *heads(sides, "value", "95% interval"), ""],
        (
            (
                name,
                *(side.result[name] for side in sides),
                *("{:.4f} to {:.4f}".format(*side.result["intervals"][name]) for side in sides),
                _bars([(side.result[name], *side.result["intervals"][name]) for side in sides], max(ends)),
            )
            for name in result["intervals"]
        ),
    )
    kinds = ("recall", "ndcg", "mrr") if len(sides) > 1 else ("recall", "precision", "f1", "ndcg", "mrr")
    metrics = table(
        ["at", *heads(sides, *kinds)],
        ((str(k), *(side.result[f"{kind}@{k}"] for kind in kinds for side in sides)) for k in CUTOFFS),
        "ranks",
    )
    return section("Ranking", protocol, first, "<br/>", ranges, "<br/>", metrics, *map(_ties, sides[:1]))


def slices_section(sides: Sides) -> str:
    """Return the metrics of parts of the examples, by the user's history and by the target's popularity."""
    whole = {**sides[0].result, "interval": sides[0].result["intervals"]["ndcg@10"]}
    names = [name for name in whole["slices"] if name not in COLD_NAMES]
    rows = [("all", [{**side.result, "interval": side.result["intervals"]["ndcg@10"]} for side in sides])]
    rows += [
        (SLICE_NAMES.get(name, name.replace("_", " ")), [side.result["slices"][name] for side in sides])
        for name in names
    ]
    note = (
        "A history's length is the number of earlier events with a product. The head is the fewest most popular "
        "products that hold 20% of the training events. Whiskers: 95% interval of NDCG@10."
    )
    return section("By slice", paragraph(note), _parts(sides, rows))


def cold_section(sides: Sides, data: ShopData) -> str:
    """Return what new users get, what becomes of new products, and the metrics by a target's training events."""
    counts = data.catalogue.train_count
    rows = [(shown, [side.result["slices"][name] for side in sides]) for name, shown in COLD_NAMES.items()]
    for least, most in POPULARITIES[1:]:
        events = f"{least}-{most}" if most else f"{least}+"
        rows.append(
            (f"target with {events} training events", [_popularity(side, counts, least, most) for side in sides])
        )
    new = float(np.mean(counts[1:] == 0))
    shown = " and ".join(f"{_share_of_new(side.ranked.lists[:, :10], counts):.1%}" for side in sides)
    note = (
        f"{new:.1%} of the products have no training event, and {shown} of what is recommended (lists of 10). "
        "A new user has no training example; the history before the target is still read."
    )
    return section("Cold start", paragraph(note), _parts(sides, rows))


def lists_section(sides: Sides) -> str:
    """Return coverage, diversity, novelty and concentration of the recommended lists."""
    result = sides[0].result
    meanings = {
        "coverage@10": "share of the catalogue in any list of 10",
        "coverage@100": "share of the catalogue in any list of 100",
        "diversity_category@10": "pairs of different categories",
        "diversity_top_category@10": "pairs of different top categories",
        "diversity_embedding@10": f"mean 1 - cosine of {result['diversity_embedding_of']}",
        "novelty@10": "bits: -log2 of the share of training events",
        "gini@10": "0: all products equally often; 1: always the same",
        "debiased_recall@10": "recall, each target weighed by 1 / its popularity",
    }
    rows = (
        (name.replace("_", " "), *(side.result.get(name, "none") for side in sides), Words(meaning))
        for name, meaning in meanings.items()
        if name in result
    )
    return section("Coverage, diversity, popularity", table(["metric", *heads(sides, "value"), ""], rows))


def diversity_section(sides: Sides, data: ShopData, split: str) -> str:
    """Return what diverse lists cost and gain, by method and strength, and whether chances are what they say.

    Args:
        sides: whose models choose.
        data: the split's.
        split: its name.
    """
    charts, sizes = "", set()
    chances: dict[str, list[tuple[float, float]]] = {}
    for side in sides:
        pools = Pools(side.model, data, split, DIVERSITY_EXAMPLES)
        sizes.add(pools.size)
        plain = pools.measured("recommend", 0.0)
        curves = {
            method: [plain, *(pools.measured(method, strength) for strength in DIVERSITY_STRENGTHS)]
            for method in DIVERSITY_METHODS
        }
        of = f" of {side.name}" if len(sides) > 1 else ""
        charts += line_chart(
            {name: [(point["embedding"], point["ndcg@10"]) for point in curve] for name, curve in curves.items()},
            title=f"NDCG@10 against diversity{of}, strengths 0 to {DIVERSITY_STRENGTHS[-1]:g}",
            x_label="mean 1 - cosine within a list",
        )
        chances[side.name] = _chances(pools)
    largest = max((max(point) for points in chances.values() for point in points), default=1.0)
    charts += line_chart(
        chances,
        title="Share of the recommended that came, by the chance they were given",
        x_label="chance",
        ends=(0.0, largest),
    )
    note = (
        f"Lists of 10 from the 200 best, seen products out, {max(sizes):,} examples. Up and to the right is better; "
        "docs/diversity.md says what the methods do. In the last chart each dot is a tenth of all that is recommended."
    )
    return section("Diverse lists", paragraph(note), f'<div class="columns">{charts}</div>')


def calibration_section(sides: Sides) -> str:
    """Return what the ranking heads are worth; nothing where none was trained."""
    trained = [side for side in sides if side.result["ranking"]]
    if not trained:
        return ""
    names = {"auc": "AUC", "log_loss": "log loss", "calibration_error": "calibration error", "rmse": "RMSE of ratings"}
    of = {side.name: side.result["ranking"] for side in trained}
    chart = line_chart(
        {name: [(entry["chance"], entry["happened"]) for entry in found["reliability"]] for name, found in of.items()},
        title="Share that happened, by predicted chance",
        x_label="predicted chance",
        ends=(0.0, 1.0),
    )
    first = trained[0].result["ranking"]
    if len(trained) == 1:
        figures = cards({shown: first[name] for name, shown in names.items() if name in first})
    else:
        rows = (
            (shown, *(found.get(name, "none") for found in of.values()))
            for name, shown in names.items()
            if any(name in found for found in of.values())
        )
        figures = table(["metric", *of], rows)
    bins = "".join(
        table(
            (f"predicted, {name}" if len(of) > 1 else "predicted", "happened", "pairs"),
            ((f"{bin_['chance']:.3f}", f"{bin_['happened']:.3f}", bin_["pairs"]) for bin_ in found["reliability"]),
        )
        for name, found in of.items()
    )
    return section(
        "Ranking head",
        paragraph("Each target and one product drawn by popularity. On the dashed line, chances are what they say."),
        figures,
        f'<br/><div class="columns">{chart}{bins}</div>',
    )


def behavior_section(sides: Sides) -> str:
    """Return what the behaviour heads are worth, by task; nothing where none was trained."""
    tasks = list(dict.fromkeys(task for side in sides for task in side.result.get("behavior", {})))
    if not tasks:
        return ""
    names = {"auc": "AUC", "log_loss": "log loss", "ece": "calibration error", "accuracy": "accuracy"}
    rows = (
        (f"{task.replace('_', ' ')}: {shown}", *(found.get(name, "none") for found in of))
        for task in tasks
        for of in [[side.result.get("behavior", {}).get(task, {}) for side in sides]]
        for name, shown in names.items()
        if any(name in found for found in of)
    )
    return section(
        "Behaviour",
        paragraph("What follows the history: the event's type, its category, a purchase within the session."),
        table(["task and metric", *heads(sides, "value")], rows),
    )


def training_section(sides: Sides) -> str:
    """Return the course of training by epoch, from each run's ``history.jsonl``."""
    histories = {side.name: _history(side.path) for side in sides}

    def course(metric: str) -> dict[str, list[tuple[float, float]]]:
        found = {
            name: [(entry["epoch"], entry["metrics"][metric]) for entry in history if metric in entry["metrics"]]
            for name, history in histories.items()
        }
        return {name: points for name, points in found.items() if points}

    best = float(sides[0].info.best_epoch) if len(sides) == 1 else None
    charts = line_chart(course("loss"), title="Training loss", x_label="epoch", marked=best)
    for metric, shown in (("val_recall@10", "Recall@10"), ("val_ndcg@10", "NDCG@10")):
        charts += line_chart(
            course(metric), title=f"{shown} on validation, the model alone", x_label="epoch", marked=best
        )
    kept = " and ".join(f"{side.info.best_epoch}" for side in sides)
    note = f"The epoch that was kept: {kept}{', the dashed line' if best else ''}."
    return section("Training", paragraph(note), f'<div class="columns">{charts}</div>')


def cost_section(sides: Sides) -> str:
    """Return what the runs took: time, size, and the time of a ranking."""
    rows: dict[str, list[Any]] = {
        "minutes of training": [side.info.seconds / 60 for side in sides],
        "epochs": [len(_history(side.path)) for side in sides],
        "seconds of an epoch": [side.info.seconds / max(len(_history(side.path)), 1) for side in sides],
        "trained numbers": [side.weights for side in sides],
        "MB of weights": [_megabytes(side.path, side.info.best_epoch) for side in sides],
        "seconds to rank the split": [side.result["seconds"] for side in sides],
        "targets ranked in a second": [
            round(side.result["examples"] / max(side.result["seconds"], 0.01)) for side in sides
        ],
    }
    shown = (
        (name, *(f"{value:,.1f}" if isinstance(value, float) else value for value in values))
        for name, values in rows.items()
    )
    note = "Training's times are of the machine that trained, the ranking's of the one that wrote this page."
    return section("Cost", paragraph(note), table(["what", *heads(sides, "value")], shown))


def settings_section(side: Side) -> str:
    """Return the settings of a run, folded away."""
    settings = text((side.path / "config.yaml").read_text(encoding="utf-8"))
    return section(
        f"Settings of {side.name}", f"<details><summary>config.yaml</summary><pre>{settings}</pre></details>"
    )


def data_section(data: ShopData, history_length: np.ndarray) -> str:
    """Return what the model was trained and measured on.

    Args:
        data: the shop's.
        history_length: ``[examples]``, earlier events of the split's examples.
    """
    manifest, catalogue = data.manifest, data.catalogue
    counts = manifest.counts
    encoder = f"{manifest.text['encoder']}, {manifest.text['width']} wide" if manifest.text else "none"
    middle, long = np.percentile(history_length, [50, 90])
    rows = [("directory", str(data.directory)), ("split rule", manifest.split["rule"])]
    rows += [("order", manifest.order_by), ("text encoder", encoder)]
    rows += [("rows rejected", number(counts.get("rows_rejected", 0)))]
    rows += [("events of a history, median", f"{middle:,.0f}"), ("one in ten has at least", f"{long:,.0f}")]
    events = sorted(counts["event_types"].items(), key=lambda entry: -entry[1])
    filled = {
        "title": catalogue.title != b"",
        "description": catalogue.description != b"",
        "category": catalogue.category_name != b"",
        "brand": catalogue.brand_name != b"",
        **{name.replace("_", " "): catalogue.buckets[:, place] > 0 for place, name in enumerate(BUCKETED)},
    }
    filled["training events"] = filled.pop(POPULARITY.replace("_", " "))
    shares = {name: float(np.mean(known[1:])) for name, known in filled.items()}
    fields = table(
        ("of a product", "known", ""),
        ((name, f"{share:.1%}", _bars([(share, 0.0, 0.0)], 1.0)) for name, share in shares.items()),
    )
    tail = line_chart(
        {"events": _tail(catalogue.train_count[1:])},
        title="Share of the training events that the most popular products hold",
        x_label="share of the products",
        ends=(0.0, 1.0),
    )
    return section(
        "Data",
        cards({"users": counts["users"], "products": counts["products"], **_examples(counts["examples"])}),
        f'<br/><div class="columns">{table(("", ""), rows)}{table(("event type", "events"), events)}</div>',
        f'<br/><div class="columns">{fields}{tail}</div>',
    )


def _parts(sides: Sides, rows: Sequence[tuple[str, list[dict[str, Any]]]]) -> str:
    """Return a table of parts of the examples: the name of each, and its metrics of each side."""
    largest = max((part["interval"][1] for _, parts in rows for part in parts if "interval" in part), default=1.0)
    return table(
        ["part", "examples", *heads(sides, "recall@10", "ndcg@10", "mrr"), ""],
        (
            (
                name,
                parts[0]["examples"],
                *(part.get(metric, "none") for metric in ("recall@10", "ndcg@10", "mrr") for part in parts),
                _bars([(part.get("ndcg@10", 0.0), *part.get("interval", (0.0, 0.0))) for part in parts], largest),
            )
            for name, parts in rows
        ),
    )


def _bars(values: Sequence[tuple[float, float, float]], largest: float) -> Chart:
    """Return a bar for each side: the value, and the ends of its whisker."""
    return Chart("".join(interval_bar(*value, largest, place) for place, value in enumerate(values, 1)))


def _popularity(side: Side, train_count: np.ndarray, least: int, most: int | None) -> dict[str, Any]:
    """Return the metrics of the examples whose target has `least` to `most` training events."""
    events = train_count[side.ranked.label]
    these = (events >= least) & (events <= (np.inf if most is None else most))
    if not these.any():
        return {"examples": 0}
    values = {name: value[these] for name, value in per_example(side.ranked.ranks).items()}
    return {
        "examples": int(these.sum()),
        **{name: float(value.mean()) for name, value in values.items()},
        "interval": intervals({"ndcg@10": values["ndcg@10"]})["ndcg@10"],
    }


def _chances(pools: Pools) -> list[tuple[float, float]]:
    """Return the mean chance and the share that came of each tenth of the recommended products, by rising chance."""
    chance = pools.columns["chance"][:, : pools.k]
    came = (pools.columns["product"][:, : pools.k] == pools.columns["label"][:, None])[chance >= 0.0]
    order = np.argsort(chance[chance >= 0.0], kind="stable")
    tenths = np.array_split(order, min(10, len(order)))
    return [(float(chance[chance >= 0.0][these].mean()), float(came[these].mean())) for these in tenths]


def _share_of_new(lists: np.ndarray, train_count: np.ndarray) -> float:
    shown = lists[lists > 0]
    return float(np.mean(train_count[shown] == 0)) if len(shown) else 0.0


def _ties(side: Side) -> str:
    """Return the metrics where the target is drawn among the events of its clock time; nothing where none is tied."""
    tied = side.result.get("ties_shuffled")
    if not tied:
        return ""
    figures = ", ".join(f"{name} {tied[name]:.4f}" for name in ("recall@10", "ndcg@10", "mrr"))
    return paragraph(
        f"{tied['tied']:,} of {tied['examples']:,} targets have the clock time of events before them. With the target "
        f"drawn among those: {figures}."
    )


def _verdict(first: str, second: str, tests: dict[str, dict[str, Any]]) -> str:
    of = tests["ndcg@10"]
    if of["interval"][0] <= 0.0 <= of["interval"][1]:
        return f"The two differ by no more in NDCG@10 than the choice of users may make ({of['difference']:+.4f})."
    better, worse = (first, second) if of["difference"] > 0 else (second, first)
    return f"{better} is better than {worse} by {abs(of['difference']):.4f} of NDCG@10."


def _tail(counts: np.ndarray) -> list[tuple[float, float]]:
    """Return, for shares of the products, the most popular first, the share of all events that they hold."""
    held = np.concatenate([[0], np.cumsum(np.sort(counts)[::-1])])
    return [(share, float(held[round(share * len(counts))] / max(held[-1], 1))) for share in TAIL_SHARES]


def _history(run: Path) -> list[dict[str, Any]]:
    path = run / "history.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def _megabytes(run: Path, epoch: int) -> float:
    return sum(path.stat().st_size for path in (run / "best").glob(f"ckpt-{epoch}.*")) / 1e6


def _examples(examples: dict[str, int]) -> dict[str, int]:
    return {f"{split} examples": count for split, count in examples.items()}
