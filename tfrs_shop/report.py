"""The report of a run: one HTML page that needs nothing else, to be read, sent and kept."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfrs_shop.dataset import ShopData
from tfrs_shop.errors import UserError
from tfrs_shop.evaluation import evaluate, load_compared
from tfrs_shop.evaluation_pass import best_products
from tfrs_shop.metrics.ranking import CUTOFFS
from tfrs_shop.model.shop_model import ShopModel
from tfrs_shop.report_charts import interval_bar, line_chart
from tfrs_shop.report_page import Chart, Words, cards, page, paragraph, section, table, text
from tfrs_shop.run import RunInfo, load_run

EXAMPLE_USERS = 5
SHOWN_EVENTS = 8
SHOWN_PRODUCTS = 10
HIT = ' class="hit"'
SLICE_NAMES = {"new_users": "new users", "unseen_products": "target unseen in training"}
SLICE_NAMES |= {"head_products": "target in the head", "tail_products": "target in the tail"}


def report(
    run: str | Path,
    output: str | Path,
    split: str,
    exclude_seen: bool,
    say: Callable[[str], None],
    *,
    data_directory: str | Path | None = None,
    compare: str | Path | None = None,
) -> None:
    """Evaluate the run `run` on `split` and write the page `output`, whole or not at all.

    Args:
        run: a finished run.
        output: the HTML file.
        split: validation or test.
        exclude_seen: take the products of the user's earlier events out of the ranking.
        say: takes one line of progress.
        data_directory: where the run's data is now, if it was moved.
        compare: another run on the same data.

    Raises:
        UserError: a run cannot be used, or the page cannot be written.
    """
    run, output = Path(run), Path(output)
    if output.is_dir():
        raise UserError(f"--output {output}: is a directory; name the HTML file to write.")
    model, data, info = load_run(run, data_directory)
    other = load_compared(compare, data) if compare else None
    result = evaluate(model, data, split, exclude_seen, say, other=other)
    examples = list(example_users(model, data, split, exclude_seen))
    html = page(
        f"Report of {run.resolve().name}: {split} split",
        *result_sections(result, str(compare)),
        training_section(run, info),
        section("Example recommendations", paragraph("Users taken evenly from the split's first batch."), *examples),
        data_section(data),
        section("Settings of the run", f"<pre>{text((run / 'config.yaml').read_text(encoding='utf-8'))}</pre>"),
    )
    temporary = output.with_name(f".{output.name}.partial")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(html, encoding="utf-8")
        temporary.replace(output)
    except OSError as error:
        raise UserError(f"--output {output}: cannot be written ({error.strerror}).") from None
    say(f"Wrote {output} ({len(html) / 1024:.0f} KiB).")


def result_sections(result: dict[str, Any], compared_with: str) -> list[str]:
    """Return what `result` of ``evaluate`` says: metrics, comparison, slices, lists, calibration.

    Args:
        result: flat keys and parts.
        compared_with: the other run, where there is one.
    """
    seen = "taken out of the ranking" if result["protocol"] == "exclude-seen" else "left in the ranking"
    protocol = paragraph(
        f"All {result['products']:,} products ranked for each of {result['examples']:,} held-out events "
        f"(split rule: {result['split_rule']}); products already seen are {seen}; equal scores count against the "
        f"model. Weight of the transition graph: {result['transition_weight']}."
    )
    first = cards({"Recall@10": result["recall@10"], "NDCG@10": result["ndcg@10"], "MRR": result["mrr"]})
    largest = max(ends[1] for ends in result["intervals"].values())
    ranges = table(
        ("metric", "value", "95% interval", ""),
        (
            (name, result[name], f"{low:.4f} to {high:.4f}", Chart(interval_bar(result[name], low, high, largest)))
            for name, (low, high) in result["intervals"].items()
        ),
    )
    kinds = ("recall", "precision", "f1", "ndcg", "mrr")  # MAP is equal to MRR
    metrics = table(("at", *kinds), ((str(k), *(result[f"{kind}@{k}"] for kind in kinds)) for k in CUTOFFS), "ranks")
    return [
        section("Ranking", protocol, first, "<br/>", ranges, "<br/>", metrics),
        compared_section(result.get("compared", {}), compared_with),
        slices_section(result["slices"], result),
        lists_section(result),
        calibration_section(result["ranking"]),
    ]


def compared_section(compared: dict[str, Any], other: str) -> str:
    """Return the paired test against the run `other`; nothing where there is none."""
    if not compared:
        return ""
    rows = (
        (name, of["other"], f"{of['difference']:+.4f}", _signed(of["interval"]), f"{of['p_value']:.4f}")
        for name, of in compared.items()
    )
    note = "Difference of this run from the other on the same examples, and the p-value of a paired permutation test."
    return section(
        f"Against {other}",
        paragraph(note),
        table(("metric", "other run", "difference", "95% interval", "p-value"), rows),
    )


def slices_section(slices: dict[str, dict[str, Any]], result: dict[str, Any]) -> str:
    """Return the metrics by slice; a slice without examples is named, without metrics."""
    whole = {"examples": result["examples"], **{name: result[name] for name in ("recall@10", "ndcg@10", "mrr")}}
    entries = {"all": whole, **slices}
    largest = max(entry.get("ndcg@10", 0.0) for entry in entries.values())
    names = {name: SLICE_NAMES.get(name, name.replace("_", " ")) for name in entries}
    rows = []
    for name, entry in entries.items():
        values = [entry.get(metric, "none") for metric in ("recall@10", "ndcg@10", "mrr")]
        bar = Chart(interval_bar(entry.get("ndcg@10", 0.0), 0.0, 0.0, largest))
        rows.append((names[name], entry["examples"], *values, bar))
    note = (
        "A history's length is the number of earlier events with a product. The head is the fewest most popular "
        "products that hold 20% of the training events."
    )
    return section("By slice", paragraph(note), table(("slice", "examples", "recall@10", "ndcg@10", "mrr", ""), rows))


def lists_section(result: dict[str, Any]) -> str:
    """Return coverage, diversity, novelty and concentration of the recommended lists."""
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
        (name.replace("_", " "), result[name], Words(meaning)) for name, meaning in meanings.items() if name in result
    )
    return section("Coverage, diversity, popularity", table(("metric", "value", ""), rows))


def calibration_section(ranking: dict[str, Any]) -> str:
    """Return what the ranking head is worth; nothing where it was not trained."""
    if not ranking:
        return ""
    names = {"auc": "AUC", "log_loss": "log loss", "calibration_error": "calibration error", "rmse": "RMSE of ratings"}
    points = [(entry["chance"], entry["happened"]) for entry in ranking["reliability"]]
    chart = line_chart(
        {"pairs": points}, title="Share that happened, by predicted chance", x_label="predicted chance", ends=(0.0, 1.0)
    )
    rows = ((f"{of['chance']:.3f}", f"{of['happened']:.3f}", of["pairs"]) for of in ranking["reliability"])
    return section(
        "Ranking head",
        paragraph("Each target and one product drawn by popularity. On the dashed line, chances are what they say."),
        cards({shown: ranking[name] for name, shown in names.items() if name in ranking}),
        f'<br/><div class="columns">{chart}{table(("predicted", "happened", "pairs"), rows)}</div>',
    )


def training_section(run: Path, info: RunInfo) -> str:
    """Return the course of training by epoch, from ``history.jsonl``."""
    path = run / "history.jsonl"
    history = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []

    def course(name: str) -> list[tuple[float, float]]:
        return [(entry["epoch"], entry["metrics"][name]) for entry in history if name in entry["metrics"]]

    best = float(info.best_epoch)
    reached = {"recall@10": course("val_recall@10"), "ndcg@10": course("val_ndcg@10")}
    charts = line_chart({"loss": course("loss")}, title="Training loss", x_label="epoch", marked=best) + line_chart(
        {name: points for name, points in reached.items() if points},
        title="Validation, the model alone",
        x_label="epoch",
        marked=best,
    )
    note = f"{len(history)} epochs in {info.seconds / 60:.1f} minutes; the dashed line is the epoch that was kept."
    return section("Training", paragraph(note), f'<div class="columns">{charts}</div>')


def data_section(data: ShopData) -> str:
    """Return what the model was trained and measured on."""
    manifest = data.manifest
    counts = manifest.counts
    encoder = f"{manifest.text['encoder']}, {manifest.text['width']} wide" if manifest.text else "none"
    rows = [("directory", str(data.directory)), ("split rule", manifest.split["rule"])]
    rows += [("order", manifest.order_by), ("text encoder", encoder)]
    events = sorted(counts["event_types"].items(), key=lambda entry: -entry[1])
    return section(
        "Data",
        cards({"users": counts["users"], "products": counts["products"], **_examples(counts["examples"])}),
        f'<br/><div class="columns">{table(("", ""), rows)}{table(("event type", "events"), events)}</div>',
    )


def example_users(model: ShopModel, data: ShopData, split: str, exclude_seen: bool) -> Iterator[str]:
    """Yield a few users of `split`: what they did, newest first, and what they are recommended."""
    rows = next(iter(data.evaluation_batches(split, model.config.towers.max_history)))
    chosen = np.unique(np.linspace(0, len(rows["label"]) - 1, EXAMPLE_USERS).astype(int))
    rows = {name: tf.gather(value, chosen) for name, value in rows.items()}
    scores = model.final_scores(model.product_vectors(), rows).numpy()
    found = {name: value.numpy() for name, value in rows.items()}
    seen = found["seen_product"] if exclude_seen else None
    lists = best_products(scores, seen, min(SHOWN_PRODUCTS, data.catalogue.size))
    for place, products in enumerate(lists):
        target = found["label"][place]
        shown = "".join(
            f"<li{HIT if product == target else ''}>{_title(data, product)}</li>" for product in products[products > 0]
        )
        past = "".join(f"<li>{line}</li>" for line in _past(data, found, place)) or "<li>nothing</li>"
        yield (
            f'<div class="user"><h3>User {text(found["user_id"][place])}</h3><div class="columns">'
            f"<div>What they did, newest first<ul>{past}</ul>"
            f"What they took next<ul><li>{_title(data, target)}</li></ul></div>"
            f"<div>Recommended<ol>{shown}</ol></div></div></div>"
        )


def _past(data: ShopData, rows: dict[str, np.ndarray], place: int) -> Iterator[str]:
    events = zip(
        *(rows[name][place][::-1] for name in ("history_event_type", "history_product", "history_query")), strict=True
    )
    for kind, product, query in list(events)[:SHOWN_EVENTS]:
        if not kind:
            return
        what = _title(data, product) if product else text(data.values["query"][query - 1] if query else "")
        yield f'<span class="dim">{text(data.values["event_type"][kind - 1])}</span> {what}'


def _signed(ends: list[float]) -> str:
    return " to ".join(f"{end:+.4f}" for end in ends)


def _title(data: ShopData, product: int) -> str:
    return text(data.catalogue.title[product] or data.catalogue.product_id[product])


def _examples(examples: dict[str, int]) -> dict[str, int]:
    return {f"{split} examples": count for split, count in examples.items()}
