"""``make bench``: every benchmark that this machine has the data for, one after the other.

``--quick`` runs the code of all that a small simulated shop allows, in one process: a smoke run whose figures mean
nothing.
"""

import argparse
import tempfile
from pathlib import Path

from benchmarks.steps import run_step

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench-results"


def full() -> None:
    """Run all, each in a process of its own."""
    run_step("benchmarks.text_encoder")
    run_step("benchmarks.index")
    run_step("benchmarks.beauty", "--seeds", "17", "18", "19", "--ablation")
    run_step("benchmarks.cold_start")
    run_step("benchmarks.complements")
    run_step("benchmarks.next_basket")
    run_step("benchmarks.ratings")
    run_step("benchmarks.behavior")
    run_step("benchmarks.intent")
    run_step("benchmarks.search")
    data = RESULTS / "beauty" / "data"
    if data.is_dir():
        run_step("benchmarks.speed", str(data))
        run_step("benchmarks.resume", str(data))
    run_step("benchmarks.tables")


def quick(data: Path, output: Path) -> None:
    """Run all but the indexes and the text encoder, with few epochs, on the data directory `data`."""
    here = ["--data", str(data), "--output", str(output), "--index", "brute_force"]
    run_step("benchmarks.beauty", *here, "--quick", "--name", "quick", "--ablation", "no_likeness", in_process=True)
    file = str(output / "speed.json")
    run_step("benchmarks.speed", str(data), "--epochs", "1", "--turns", "1", "--output", file, in_process=True)
    run_step("benchmarks.tables", str(output / "quick.json"), file, in_process=True)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Run all benchmarks.")
    parser.add_argument("--quick", action="store_true", help="a smoke run on a small simulated shop")
    given = parser.parse_args(arguments)
    if not given.quick:
        full()
        return
    with tempfile.TemporaryDirectory() as folder:
        raw, data = Path(folder) / "raw", Path(folder) / "data"
        run_step("tfrs_shop.cli", "data", "simulate", "--output", str(raw), "--users", "120", "--products", "200")
        files = ["--events", f"{raw}/events.csv.gz", "--products", f"{raw}/products.jsonl.gz", "--output", str(data)]
        run_step("tfrs_shop.cli", "preprocess", *files, "--text_encoder", "none")
        quick(data, RESULTS / "quick")


if __name__ == "__main__":
    main()
