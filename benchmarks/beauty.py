"""The whole path on Amazon Beauty, or on any shop's files, beside the baselines: ``python -m benchmarks.beauty``.

    python -m benchmarks.beauty --config fast --seeds 17 18 19 --ablation
    python -m benchmarks.beauty --name other --events other/events.csv.gz --products other/products.jsonl.gz

Beauty lies beside the checkout (``../shared/data/amazon_beauty``, or TFRS_SHOP_DATA). Each step is a process of its
own. What each took and reached goes into ``bench-results/NAME[-CONFIG].json``, from which ``python -m
benchmarks.tables`` makes the README's tables; the files of the steps stay in ``bench-results/NAME[-CONFIG]/``.
"""

import argparse
import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.ranks import PROTOCOLS, SHOWN, compared, load_ranks, shown_metrics
from benchmarks.steps import run_step
from tfrs_shop.config import BehaviorConfig, Config, SearchConfig, load_config
from tfrs_shop.settings import to_dict

ROOT = Path(__file__).parents[1]
SHARED = Path(os.environ.get("TFRS_SHOP_DATA", ROOT.parent / "shared" / "data"))
RESULTS = ROOT / "bench-results"
BASELINES = ("popularity", "item_knn", "transition_graph", "tutorial_two_tower", "sasrec")
# The same settings but for these; every row is trained with the first seed, without the heads, which change none of
# its figures. Likeness is no part of the training: it is left out of the first seed's own run.
ABLATION: dict[str, dict[str, dict[str, Any]]] = {
    "ids_only": {
        "towers": {"text": False, "words": False, "behavior_text": False, "attributes": False, "id_dropout": 0.0},
        "likeness": {"weight": 0.0},
    },
    "no_text": {"towers": {"text": False, "words": False, "behavior_text": False}, "likeness": {"weight": 0.0}},
    "no_words": {"towers": {"words": False}},
    "no_likeness": {"likeness": {"weight": 0.0}},
    "no_repeats": {"towers": {"repeats": False}},
    "no_attributes": {"towers": {"attributes": False}},
    "no_ids": {"towers": {"ids": False}},
    "no_averaging": {"training": {"average": 0.0}},
}
NO_HEADS: dict[str, dict[str, Any]] = {"behavior": {"steps": 0}, "intent": {"steps": 0}, "search": {"steps": 0}}
CLI = "tfrs_shop.cli"


@dataclasses.dataclass(frozen=True)
class Bench:
    """One benchmark: where it works, what it trains, and whether its steps are processes of their own."""

    work: Path
    data: Path
    config: Config
    in_process: bool = False
    epochs: int | None = None

    def step(self, module: str, *arguments: str | Path) -> dict[str, float]:
        """Run a step and return what it took."""
        return run_step(module, *map(str, arguments), in_process=self.in_process)

    def train(self, name: str, changes: dict[str, dict[str, Any]]) -> dict[str, Any]:
        """Train with `changes` to the settings and return what it took and reached; its run is ``runs/NAME``."""
        settings = to_dict(self.config)
        for section, values in changes.items():
            settings[section] |= values
        file, run = self.work / "configs" / f"{name}.yaml", self.work / "runs" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(yaml.safe_dump(settings, sort_keys=False))
        took = self.step(CLI, "train", "--data", self.data, "--output", run, "--config", file)
        self.step("benchmarks.ranks", "--run", run, "--output", self.work / "ranks" / name)
        info = json.loads((run / "run.json").read_text())
        return {
            "train": took,
            "transition_weight": info["transition_weight"],
            "validation": info["metrics"],
            **self.metrics(name),
        }

    def without_likeness(self, run: str, name: str) -> dict[str, Any]:
        """Return what a run reaches without likeness."""
        ranks = self.work / "ranks" / name
        took = self.step(
            "benchmarks.ranks", "--run", self.work / "runs" / run, "--output", ranks, "--likeness_weight", "0"
        )
        return {"ranks": took, **self.metrics(name)}

    def metrics(self, name: str) -> dict[str, Any]:
        """Return what is shown of the kept ranks of a run, with the graph and without."""
        return {kind: shown_metrics(self.ranks(f"{name}/{kind}")) for kind in ("mixed", "alone")}

    def baseline(self, name: str) -> dict[str, Any]:
        """Run a baseline and return what it took and reached."""
        epochs = ("--epochs", str(self.epochs)) if self.epochs else ()
        folder = self.work / "ranks"
        took = self.step("benchmarks.baselines", self.data, "--only", name, "--output", folder, *epochs)
        return {**json.loads((folder / f"{name}.json").read_text()), "step": took}

    def ranks(self, name: str) -> dict[str, np.ndarray]:
        """Return the kept ranks of a baseline, or of ``RUN/mixed`` or ``RUN/alone``."""
        return load_ranks(self.work / "ranks" / f"{name}.npz")


def bench(
    given: Bench, result: dict[str, Any], seeds: list[int], ablation: list[str], index: str, save: Callable[[], None]
) -> None:
    """Train and evaluate the model and the baselines, and put everything into `result`, saved part by part.

    What `result` holds already is not measured again.
    """
    result |= {"config": to_dict(given.config), "seeds": result.get("seeds", {})}
    manifest = json.loads((given.data / "dataset.json").read_text())
    result["data"] = {name: manifest["counts"][name] for name in ("users", "products", "examples")}
    for seed in (seed for seed in seeds if str(seed) not in result["seeds"]):
        result["seeds"][str(seed)] = given.train(f"seed{seed}", {"training": {"seed": seed}})
        save()
    result["mean"] = {kind: _mean([found[kind] for found in result["seeds"].values()]) for kind in ("mixed", "alone")}
    save()
    first = f"seed{seeds[0]}"
    if "compared" not in result:
        _compare(given, result, seeds, index)
        save()
    result.setdefault("ablation", {})
    for name in (name for name in ablation if name not in result["ablation"]):
        changes = ABLATION[name]
        if set(changes) == {"likeness"}:
            row = given.without_likeness(first, name)
        else:
            training = {"seed": seeds[0], **changes.get("training", {})}
            row = given.train(name, {**NO_HEADS, **changes, "training": training})
        tests = {
            kind: compared(given.ranks(f"{first}/{kind}"), given.ranks(f"{name}/{kind}")) for kind in ("mixed", "alone")
        }
        result["ablation"][name] = {**row, "compared": tests}
        save()


def _compare(given: Bench, result: dict[str, Any], seeds: list[int], index: str) -> None:
    """Evaluate and export the first seed's run, run the baselines, and test the one against the others."""
    first = f"seed{seeds[0]}"
    run = given.work / "runs" / first
    result["steps"]["train"] = result["seeds"][str(seeds[0])]["train"]
    for protocol, flags in zip(PROTOCOLS, ([], ["--exclude-seen"]), strict=True):
        file = given.work / f"metrics-{protocol}.json"
        took = given.step(CLI, "evaluate", "--run", run, "--split", "test", *flags, "--json", file)
        result["steps"][f"evaluate, {protocol}"] = took
        result[f"evaluate, {protocol}"] = json.loads(file.read_text())
    models = given.work / "models" / "shop"
    result["steps"]["export"] = given.step(CLI, "export", "--run", run, "--output", models, "--index", index)
    result["index"] = json.loads((models / "1" / "assets.extra" / "bundle.json").read_text())["index"]
    result["baselines"] = {name: given.baseline(name) for name in BASELINES}
    result["compared"] = {name: compared(given.ranks(f"{first}/mixed"), given.ranks(name)) for name in BASELINES}
    result["compared"]["alone"] = compared(given.ranks(f"{first}/mixed"), given.ranks(f"{first}/alone"))


def _mean(metrics: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    return {
        protocol: {name: float(np.mean([found[protocol][name] for found in metrics])) for name in SHOWN}
        for protocol in PROTOCOLS
    }


def show_tests(result: dict[str, Any]) -> None:
    """Print how the model differs from each baseline."""
    for name, found in result["compared"].items():
        for protocol in PROTOCOLS:
            test = found[protocol]["ndcg@10"]
            low, high = test["interval"]
            print(
                f"against {name}, {protocol}: NDCG@10 {test['difference']:+.4f} ({low:+.4f} to {high:+.4f}), "
                f"p {test['p_value']:.4f}"
            )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Measure the model and the baselines on a shop's files.")
    beauty = SHARED / "amazon_beauty"
    parser.add_argument("--name", default="beauty", help="of the result")
    parser.add_argument("--events", default=str(beauty / "events.csv.gz"))
    parser.add_argument("--products", default=str(beauty / "products.jsonl.gz"))
    parser.add_argument("--data", type=Path, help="a data directory, in the place of these")
    parser.add_argument("--config", default="", help="settings of tfrs-shop train")
    parser.add_argument("--seeds", type=int, nargs="+", default=[], help="of training; the config's own if not given")
    parser.add_argument(
        "--ablation",
        nargs="*",
        choices=list(ABLATION),
        help="also train without these parts; without each, if none is named",
    )
    parser.add_argument("--index", default="scann", help="of the exported bundle")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--quick", action="store_true", help="a smoke run: two epochs, all in one process")
    parser.add_argument("--continue", action="store_true", dest="go_on", help="keep what was measured, add the rest")
    given = parser.parse_args(arguments)
    if given.data is None and not Path(given.events).exists():
        print(f"{given.name}: left out, {given.events} is not there")
        return
    name = given.name + (f"-{Path(given.config).stem}" if given.config else "")
    work, file = given.output / name, given.output / f"{name}.json"
    result: dict[str, Any] = {"name": name, "steps": {}}
    if given.go_on and file.exists():
        result = json.loads(file.read_text())
    else:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
    if given.data is None and not (work / "data").exists():
        paths = ["--events", given.events, "--products", given.products, "--output", str(work / "data")]
        result["steps"]["preprocess"] = run_step(CLI, "preprocess", *paths, in_process=given.quick)
    config = load_config(given.config)
    if given.quick:
        # The passes after the towers' change none of the figures.
        rest = {"behavior": BehaviorConfig(steps=0), "search": SearchConfig(steps=0)}
        config = dataclasses.replace(config, training=dataclasses.replace(config.training, epochs=2), **rest)
    parts = list(ABLATION) if given.ablation == [] else given.ablation or []
    setting = Bench(work, given.data or work / "data", config, given.quick, 2 if given.quick else None)

    def save() -> None:
        file.write_text(json.dumps(result, indent=2) + "\n")

    bench(setting, result, given.seeds or [config.training.seed], parts, given.index, save)
    show_tests(result)


if __name__ == "__main__":
    main()
