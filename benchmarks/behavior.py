"""What comes next: ``python -m benchmarks.behavior [--only NAME ...]``.

The behaviour head, trained by ``tfrs-shop train``, beside a Markov chain on the last event and scikit-learn's logistic
regression, on four sets (``benchmarks.behavior_data``): the next event's type and category on taobao_behavior and a
simulated shop, a purchase in the rest of the session on the simulated shop and, given the session's first half, on
jd_micro_behavior; and the rating head beside the mean of user and product means on amazon_reviews_2023. All
read the same histories (``benchmarks.intent``: the same queries), and whatever is chosen is chosen on the validation
split. Writes ``bench-results/behavior.json``.
"""

import argparse
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks import behavior_data
from benchmarks.beauty import ROOT
from benchmarks.steps import run_step

CONFIG = str(ROOT / "benchmarks" / "behavior.yaml")
RESULTS = ROOT / "bench-results"
OURS, MARKOV, REGRESSION = "this model", "Markov chain", "logistic regression"
CHUNK = 1024


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Measure the behaviour head and its peers.")
    parser.add_argument("--config", default=CONFIG, help="settings of tfrs-shop train")
    parser.add_argument("--work", default=str(RESULTS / "behavior"), help="where data and runs are written")
    parser.add_argument("--only", nargs="*", default=list(SETS), choices=list(SETS))
    parser.add_argument("--keep_runs", action="store_true", help="use the runs that are there")
    given = parser.parse_args(arguments)
    work = Path(given.work)
    path = RESULTS / "behavior.json"
    result: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    for name in given.only:
        make, measure, unmeasured = SETS[name]
        data, run = make(work), work / f"run_{name}"
        training = {}
        if not (given.keep_runs and (run / "run.json").exists()):
            shutil.rmtree(run, ignore_errors=True)
            config = without(given.config, unmeasured, work / f"{name}.yaml")
            files = ["--data", str(data), "--output", str(run), "--config", str(config)]
            training = run_step("tfrs_shop.cli", "train", *files)
        result[name] = {"tasks": measure(str(run)), "config": Path(given.config).name, "training": training}
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(result, indent=2) + "\n")
    print("\n" + "\n".join(lines_of(result)))


def without(config: str, heads: tuple[str, ...], path: Path) -> Path:
    """Write the settings of the file `config` to `path`, without the training of `heads`, and return it."""
    settings = yaml.safe_load(Path(config).read_text())
    settings |= {head: {"steps": 0} for head in heads}
    path.write_text(yaml.safe_dump(settings, sort_keys=False))
    return path


def measure_next(run: str) -> dict[str, Any]:
    """Return the metrics by task and method of the next type, the next category, and a purchase in the session."""
    from tfrs_shop.run import load_run

    model, data, _ = load_run(run)
    return measured(model, data, {})


def measure_simulated(run: str) -> dict[str, Any]:
    """Return what `measure_next` does, and the metrics of query intent."""
    from benchmarks.intent import measure_intent
    from tfrs_shop.run import load_run

    model, data, _ = load_run(run)
    return measured(model, data, {}) | {f"query {task}": found for task, found in measure_intent(model, data).items()}


def measure_halves(run: str) -> dict[str, Any]:
    """Return the metrics of a purchase in the rest of the session, given its first half.

    The regression is fitted twice: to every position of the training sessions, as the model is, and to their middles.
    """
    from tfrs_shop.run import load_run

    model, data, _ = load_run(run)
    middles = {split: middle_of_session(data, split) for split in ("validation", "test")}
    return {"purchase": measured(model, data, middles)["purchase"]}


def middle_of_session(data: Any, split: str) -> np.ndarray:
    """Return ``[examples]`` bool: whether an example has seen half of its user's only session."""
    from tfrs_shop.dataset import read_records

    users, seen = [], []
    for batch in read_records(data.directory, data.manifest, split).as_numpy_iterator():
        users += batch["user_id"].tolist()
        seen += [
            len(shown) + int(offset)
            for shown, offset in zip(batch["history_product_id"], batch["history_offset"], strict=True)
        ]
    length: dict[bytes, int] = {}
    for user, events in zip(users, seen, strict=True):
        # The last example has seen all but one event.
        length[user] = max(length.get(user, 0), events + 1)
    return np.array([events == length[user] // 2 for user, events in zip(users, seen, strict=True)])


def measured(model: Any, data: Any, chosen: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return task, method, metrics on the test split.

    Args:
        model, data: of a run.
        chosen: split to the examples that count, all if it is not there.
    """
    from benchmarks import behavior_peers as peers
    from tfrs_shop.behavior_evaluation import behavior_predictions
    from tfrs_shop.metrics.choices import choice_metrics, judged, yes_no_metrics

    length, leaf = model.config.towers.max_history, model.behavior_head.tasks.leaf
    kinds, categories = len(data.values["event_type"]), len(data.values["category"])
    whole = data.training_windows(length).batch(CHUNK).as_numpy_iterator()
    fit = peers.training_moments(whole, leaf)
    held = {}
    for split in ("validation", "test"):
        found = peers.evaluation_moments(data.evaluation_batches(split, length).as_numpy_iterator(), leaf)
        held[split] = found.where(chosen.get(split, np.ones(len(found.next_kind), bool)))
    check, test = held["validation"], held["test"]
    rows = {name: peers.features(part, kinds) for name, part in (("fit", fit), ("check", check), ("test", test))}
    ours = behavior_predictions(model, data, "test")
    mine = chosen.get("test", np.ones(len(ours["purchase"]["chance"]), bool))
    result: dict[str, Any] = {}

    if not chosen:
        asked = fit.next_kind > 0
        wanted, truth, known = fit.next_kind[asked] - 1, test.next_kind - 1, check.next_kind - 1
        last = fit.kinds[asked][:, -1], check.kinds[:, -1]
        markov = peers.Markov(last[0], wanted, last[1], known, kinds + 1, kinds)
        regression = peers.Regression(rows["fit"][asked], wanted, rows["check"], known, kinds)
        result["event_type"] = {
            OURS: choice_metrics(ours["event_type"]),
            MARKOV: choice_metrics(judged(markov.chances(test.kinds[:, -1]), truth)),
            REGRESSION: choice_metrics(judged(regression.chances(rows["test"]), truth)),
        }
        asked, known = fit.next_category > 0, check.next_category > 0
        some = test.where(test.next_category > 0)
        last = fit.categories[asked][:, -1], check.categories[known][:, -1]
        wanted, truth = fit.next_category[asked], check.next_category[known]
        markov = peers.Markov(last[0], wanted, last[1], truth, categories + 1, categories + 1)
        case = peers.CategoryRegression.case
        regression = peers.Regression(
            rows["fit"][asked], case(fit.where(asked)), rows["check"][known], case(check.where(known)), 3
        )
        both = peers.CategoryRegression(regression, markov, kinds)
        result["category"] = {
            OURS: choice_metrics(ours["category"]),
            MARKOV: choice_metrics(in_parts(some, lambda part: markov.chances(part.categories[:, -1]))),
            REGRESSION: choice_metrics(in_parts(some, both.chances)),
        }

    asked, known, there = fit.follows >= 0, check.follows >= 0, test.follows >= 0
    wanted, truth, happened = fit.follows[asked], check.follows[known], test.follows[there] > 0
    last = fit.kinds[asked][:, -1], check.kinds[known][:, -1]
    markov = peers.Markov(last[0], wanted, last[1], truth, kinds + 1, 2)
    regression = peers.Regression(rows["fit"][asked], wanted, rows["check"][known], truth, 2)
    found = {
        OURS: ours["purchase"]["chance"][mine][there],
        MARKOV: markov.chances(test.kinds[there][:, -1])[:, 1].astype(np.float64),
        REGRESSION: regression.chances(rows["test"][there])[:, 1],
    }
    if chosen:
        middles = peers.middles(data.training_windows(240).batch(CHUNK).as_numpy_iterator(), leaf, length)
        of_middles = peers.features(middles, kinds)
        regression = peers.Regression(of_middles, middles.follows, rows["check"][known], truth, 2)
        found[f"{REGRESSION}, fitted to middles"] = regression.chances(rows["test"][there])[:, 1]
    result["purchase"] = {name: yes_no_metrics(happened, chance) for name, chance in found.items()}
    return result


def in_parts(moments: Any, chances: Callable[[Any], np.ndarray]) -> dict[str, np.ndarray]:
    """Return what is `judged` of the next category, some moments at a time: there are thousands of categories."""
    from tfrs_shop.metrics.choices import judged

    parts = []
    for start in range(0, len(moments.next_kind), CHUNK):
        rows = np.arange(len(moments.next_kind))
        part = moments.where((rows >= start) & (rows < start + CHUNK))
        parts.append(judged(chances(part)[:, 1:], part.next_category - 1))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def measure_ratings(run: str) -> dict[str, Any]:
    """Return the RMSE of each user's last rating: of the model, and of means of the earlier ratings."""
    from benchmarks.ratings import SHRINKAGE
    from tfrs_shop.dataset import read_records
    from tfrs_shop.evaluation_pass import rank_split
    from tfrs_shop.metrics.pairs import rmse
    from tfrs_shop.run import load_run

    model, data, _ = load_run(run)
    found = rank_split(model, data, "test", exclude_seen=False)
    truth = found.rating.astype(np.float64)
    earlier: list[tuple[bytes, bytes, float]] = []
    for batch in read_records(data.directory, data.manifest, "test").as_numpy_iterator():
        rows = zip(batch["user_id"], batch["history_product_id"], batch["history_rating"], strict=True)
        earlier += [(user, product, value) for user, *lists in rows for product, value in zip(*lists, strict=True)]
    overall = float(np.mean([value for *_, value in earlier]))
    products = data.catalogue.product_id[found.label]
    errors = {}
    for name, shrinkage in (("plain", 0.0), ("shrunken", SHRINKAGE)):
        of_user = means(((user, value - overall) for user, _, value in earlier), shrinkage)
        of_product = means(((product, value - overall) for _, product, value in earlier), shrinkage)
        expected = [
            overall + (of_user.get(user, 0.0) + of_product.get(product, 0.0)) / 2
            for user, product in zip(found.user_id, products, strict=True)
        ]
        errors[f"mean of user and product means, {name}"] = rmse(truth, np.clip(expected, 1.0, 5.0))
    errors["overall mean"] = rmse(truth, np.full(len(truth), overall))
    ours = rmse(truth, np.clip(found.predicted_rating.astype(np.float64), 1.0, 5.0))
    return {"rating": {OURS: {"rmse": ours}, **{name: {"rmse": value} for name, value in errors.items()}}}


def means(pairs: Iterator[tuple[bytes, float]], shrinkage: float) -> dict[bytes, float]:
    """Return the mean of each key's values, with `shrinkage` zeros counted in."""
    totals: dict[bytes, list[float]] = {}
    for key, value in pairs:
        totals.setdefault(key, []).append(value)
    return {key: sum(values) / (len(values) + shrinkage) for key, values in totals.items()}


def lines_of(result: dict[str, Any]) -> Iterator[str]:
    """Yield the table of `result` in Markdown."""
    yield "| data | task | method | AUC | log loss | ECE | accuracy | RMSE | examples |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    for name, part in result.items():
        for task, methods in part["tasks"].items():
            for method, metrics in methods.items():
                shown = [
                    f"{metrics[key]:.4f}" if key in metrics else ""
                    for key in ("auc", "log_loss", "ece", "accuracy", "rmse")
                ]
                yield f"| {name} | {task} | {method} | {' | '.join(shown)} | {metrics.get('examples', '')} |"


# Of each set how its data is made, what is measured, and the heads of which nothing is.
SETS: dict[str, tuple[Callable[[Path], Path], Callable[[str], dict[str, Any]], tuple[str, ...]]] = {
    "taobao": (behavior_data.taobao, measure_next, ("intent",)),
    "jd": (behavior_data.jd, measure_halves, ("intent",)),
    "simulated": (behavior_data.simulated, measure_simulated, ()),
    "reviews": (behavior_data.reviews, measure_ratings, ("intent", "behavior")),
}

if __name__ == "__main__":
    main()
