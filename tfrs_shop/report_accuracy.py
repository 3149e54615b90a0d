"""Sections of the report: how well targets are ranked, of all examples, of slices of them, and against another run."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfrs_shop.config import Config
from tfrs_shop.dataset import ShopData
from tfrs_shop.metrics.ranking import CUTOFFS, per_example
from tfrs_shop.metrics.uncertainty import intervals
from tfrs_shop.report_page import Words, cards, paragraph, section, table
from tfrs_shop.report_side import Side, Sides, bars, heads
from tfrs_shop.run import MIXTURE, changed_settings
from tfrs_shop.settings import load_yaml

SLICE_NAMES = {"head_products": "target in the head", "tail_products": "target in the tail"}
COLD_NAMES = {"new_users": "new users", "unseen_products": "target unseen in training"}
# Training events of a target: from, to.
POPULARITIES = ((0, 0), (1, 4), (5, 9), (10, 19), (20, 49), (50, None))


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
    weights = " and ".join(", ".join(f"{side.result[name]:g}" for name in MIXTURE) for side in sides)
    protocol = paragraph(
        f"All {result['products']:,} products ranked for each of {result['examples']:,} held-out events "
        f"(split rule: {result['split_rule']}); products already seen are {seen}; equal scores count against the "
        f"model. Weights of likeness, the transition graph and habits: {weights}."
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
                bars([(side.result[name], *side.result["intervals"][name]) for side in sides], max(ends)),
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
                bars([(part.get("ndcg@10", 0.0), *part.get("interval", (0.0, 0.0))) for part in parts], largest),
            )
            for name, parts in rows
        ),
    )


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
