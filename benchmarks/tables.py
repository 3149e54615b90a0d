"""The README's tables in Markdown, from what the benchmarks wrote: ``python -m benchmarks.tables [FILE ...]``."""

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.ranks import PROTOCOLS

RESULTS = Path(__file__).parents[1] / "bench-results"
NAMES = {
    "popularity": "popularity",
    "item_knn": "item-kNN",
    "transition_graph": "transition graph, untrained",
    "tutorial_two_tower": "TFRS tutorial's two-tower",
    "sasrec": "SASRec with full softmax, run here",
    "ids_only": "ids only",
    "no_text": "without text",
    "no_words": "without words",
    "no_likeness": "without likeness",
    "no_repeats": "without repeats",
    "no_attributes": "without attributes",
    "no_ids": "without ids",
    "no_averaging": "without averaged weights",
    "alone": "the model without the graph",
}
# Recall@10 and NDCG@10 on Amazon Beauty as published: source, all products, seen products excluded.
PUBLISHED = (
    ("WEARec, its checkpoint / its paper (AAAI 2026)", "0.0924 / 0.0452", "0.1041 / 0.0614"),
    ("BSARec, its paper (AAAI 2024)", "-", "0.1008 / 0.0611"),
    ("eSASRec, its paper (RecSys 2025)", "-", "0.0928 / 0.0523"),
    ("SASRec with full softmax: RecBole / the BSARec line", "0.0821 / 0.0405", "0.0897 / 0.0539"),
    ("ActionPiece, its paper", "0.0775 / 0.0424", "-"),
    ("TIGER, its paper (NeurIPS 2023)", "0.0648 / 0.0384", "-"),
)


def table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Return a Markdown table."""
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def pair(metrics: dict[str, float]) -> str:
    """Return Recall@10 / NDCG@10."""
    return f"{metrics['recall@10']:.4f} / {metrics['ndcg@10']:.4f}"


def both(found: dict[str, dict[str, float]]) -> tuple[str, str]:
    """Return the pairs of the two protocols."""
    return pair(found["all"]), pair(found["exclude-seen"])


def main_table(result: dict[str, Any]) -> str:
    """Return baselines, model and, for Beauty, what is published."""
    rows = [(NAMES[name], *both(found)) for name, found in result["baselines"].items()]
    seeds = result["seeds"]
    for kind, said in (("alone", "model, without the graph"), ("mixed", "**model, with the graph**")):
        for seed, found in seeds.items():
            rows.append((f"{said}, seed {seed}", *both(found[kind])))
        if len(seeds) > 1:
            rows.append((f"{said}, mean of {len(seeds)} seeds", *both(result["mean"][kind])))
    if result["name"].startswith("beauty"):
        rows += [(f"published: {source}", *figures) for source, *figures in PUBLISHED]  # type: ignore[misc]
    return table(("model, Recall@10 / NDCG@10", "all products", "seen products excluded"), rows)


def tests_table(compared: dict[str, Any]) -> str:
    """Return the paired tests of NDCG@10: difference, 95% interval, p."""
    rows = []
    for name, found in compared.items():
        cells = []
        for protocol in PROTOCOLS:
            test = found[protocol]["ndcg@10"]
            low, high = test["interval"]
            cells.append(f"{test['difference']:+.4f} ({low:+.4f} to {high:+.4f}), p {test['p_value']:.4f}")
        rows.append((NAMES[name], *cells))
    return table(("NDCG@10 more than", "all products", "seen products excluded"), rows)


def ablation_table(result: dict[str, Any]) -> str:
    """Return what the model is without each part, and how much higher NDCG@10 is with it."""
    whole = next(iter(result["seeds"].values()))
    rows = []
    for kind, said in (("alone", "without the graph"), ("mixed", "with the graph")):
        rows.append((f"the model, {said}", *both(whole[kind]), "-"))
        for name, found in result["ablation"].items():
            gains = [whole[kind][p]["ndcg@10"] / max(found[kind][p]["ndcg@10"], 1e-9) - 1 for p in PROTOCOLS]
            rows.append((f"{NAMES[name]}, {said}", *both(found[kind]), " / ".join(f"{gain:+.1%}" for gain in gains)))
    return table(("ablation", "all products", "seen products excluded", "NDCG@10 of the model is higher by"), rows)


def steps_table(result: dict[str, Any]) -> str:
    """Return seconds and memory of each step and of each baseline."""
    taken = {**result["steps"], **{NAMES[name]: found["step"] for name, found in result["baselines"].items()}}
    rows = [
        (name, f"{took['seconds']:.0f}", f"{took.get('cpu_seconds', 0):.0f}", f"{took.get('peak_gb', 0):.2f}")
        for name, took in taken.items()
    ]
    return table(("step", "seconds", "CPU seconds", "peak memory, GB"), rows)


def speed_table(result: dict[str, Any]) -> str:
    """Return the speeds beside the tutorial's."""
    units = ("second", "CPU second")
    rows = [(name, *(f"{result[f'per {unit}'][name]:,.0f}" for unit in units)) for name in result["per second"]]
    for name in result["ratios by second"]:
        rows.append((f"ratio, {name}", *(f"{result[f'ratios by {unit}'][name]:.1f}" for unit in units)))
    for name, found in result["quality"].items():
        recall = f"{found['all']['recall@10']:.4f}"
        rows.append((f"Recall@10 of the {name} after {result['epochs']} epochs", recall, ""))
    return table(("plain two-tower, examples or users", "a second", "a CPU second"), rows)


def tables_of(result: dict[str, Any]) -> str:
    """Return all tables of one result file; nothing for a file of another kind."""
    if "per second" in result:
        return speed_table(result)
    if "baselines" not in result:
        return ""
    parts = [f"## {result['name']}", main_table(result), tests_table(result["compared"]), steps_table(result)]
    if result.get("ablation"):
        parts.append(ablation_table(result))
    return "\n\n".join(parts)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Print the tables of benchmark results.")
    parser.add_argument("files", type=Path, nargs="*", help="all of bench-results/*.json if not given")
    given = parser.parse_args(arguments)
    for file in given.files or sorted(RESULTS.glob("*.json")):
        print(tables_of(json.loads(file.read_text())), end="\n\n")


if __name__ == "__main__":
    main()
