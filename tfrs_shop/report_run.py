"""Sections of the report: what a run was made of and took: its data, training, cost and settings."""

from pathlib import Path
from typing import Any

import numpy as np

from tfrs_shop.callbacks import read_history
from tfrs_shop.catalogue import BUCKETED, POPULARITY
from tfrs_shop.dataset import ShopData
from tfrs_shop.report_charts import line_chart
from tfrs_shop.report_page import cards, number, paragraph, section, table, text
from tfrs_shop.report_side import Side, Sides, bars, heads

TAIL_SHARES = (0.0, 0.01, 0.02, 0.05, *(round(0.1 * step, 1) for step in range(1, 11)))


def data_section(data: ShopData, history_length: np.ndarray) -> str:
    """Return what the model was trained and measured on.

    Args:
        data: the shop's.
        history_length: ``[examples]``, earlier events of the split's examples.
    """
    manifest, catalogue = data.manifest, data.catalogue
    counts = manifest.counts
    encoder = f"{manifest.text['encoder']}, {manifest.text['width']} wide" if manifest.text else "none"
    examples = {f"{split} examples": count for split, count in counts["examples"].items()}
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
        ((name, f"{share:.1%}", bars([(share, 0.0, 0.0)], 1.0)) for name, share in shares.items()),
    )
    tail = line_chart(
        {"events": _tail(catalogue.train_count[1:])},
        title="Share of the training events that the most popular products hold",
        x_label="share of the products",
        ends=(0.0, 1.0),
    )
    return section(
        "Data",
        cards({"users": counts["users"], "products": counts["products"], **examples}),
        f'<br/><div class="columns">{table(("", ""), rows, "facts")}{table(("event type", "events"), events)}</div>',
        f'<br/><div class="columns">{fields}{tail}</div>',
    )


def training_section(sides: Sides) -> str:
    """Return the course of training by epoch, from each run's ``history.jsonl``."""
    histories = {side.name: read_history(side.path) for side in sides}

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
        "epochs": [len(read_history(side.path)) for side in sides],
        "seconds of an epoch": [side.info.seconds / max(len(read_history(side.path)), 1) for side in sides],
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


def _tail(counts: np.ndarray) -> list[tuple[float, float]]:
    """Return, for shares of the products, the most popular first, the share of all events that they hold."""
    held = np.concatenate([[0], np.cumsum(np.sort(counts)[::-1])])
    return [(share, float(held[round(share * len(counts))] / max(held[-1], 1))) for share in TAIL_SHARES]


def _megabytes(run: Path, epoch: int) -> float:
    return sum(path.stat().st_size for path in (run / "best").glob(f"ckpt-{epoch}.*")) / 1e6
