"""What comes next: ``python -m benchmarks.behavior [--only NAME ...]``.

The behaviour head, trained by ``tfrs-shop train``, beside a Markov chain on the last event and scikit-learn's logistic
regression, on four sets (``benchmarks.behavior_data``): the next event's type and category on taobao_behavior and a
simulated shop, a purchase in the rest of the session on the simulated shop and, given the session's first half, on
jd_micro_behavior; and the rating head beside the mean of user and product means on amazon_reviews_2023. All read the
same histories, and whatever is chosen is chosen on the validation split. Query intent has ``benchmarks.intent``. Writes
``bench-results/behavior.json``.
"""

import argparse
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import behavior_data
from benchmarks.beauty import ROOT
from benchmarks.steps import run_step
from tfrs_shop.metrics.choices import choice_metrics, judged, yes_no_metrics
from tfrs_shop.metrics.pairs import SMALLEST
from tfrs_shop.metrics.uncertainty import paired_test

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
        make, measure = SETS[name]
        data, run = make(work), work / f"run_{name}"
        training = {}
        if not (given.keep_runs and (run / "run.json").exists()):
            shutil.rmtree(run, ignore_errors=True)
            files = ["--data", str(data), "--output", str(run), "--config", given.config]
            training = run_step("tfrs_shop.cli", "train", *files)
        result[name] = {"tasks": measure(str(run)), "config": Path(given.config).name, "training": training}
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(result, indent=2) + "\n")
    print("\n" + "\n".join(lines_of(result)))


def measure_next(run: str) -> dict[str, Any]:
    """Return the metrics by task and method of the next type, the next category, and a purchase in the session."""
    from tfrs_shop.run import load_run

    model, data, _ = load_run(run)
    return measured(model, data, {})


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
        result["event_type"] = compared(
            {
                OURS: ours["event_type"],
                MARKOV: judged(markov.chances(test.kinds[:, -1]), truth),
                REGRESSION: judged(regression.chances(rows["test"]), truth),
            }
        )
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
        result["category"] = compared(
            {
                OURS: ours["category"],
                MARKOV: in_parts(some, lambda part: markov.chances(part.categories[:, -1])),
                REGRESSION: in_parts(some, both.chances),
            }
        )

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
    result["purchase"] = yes_no_compared(happened, found)
    return result


def in_parts(moments: Any, chances: Callable[[Any], np.ndarray]) -> dict[str, np.ndarray]:
    """Return what is `judged` of the next category, some moments at a time: there are thousands of categories."""
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
    expected = {OURS: found.predicted_rating.astype(np.float64), "overall mean": np.full(len(truth), overall)}
    for name, shrinkage in (("plain", 0.0), ("shrunken", SHRINKAGE)):
        of_user = means(((user, value - overall) for user, _, value in earlier), shrinkage)
        of_product = means(((product, value - overall) for _, product, value in earlier), shrinkage)
        user = np.array([overall + of_user.get(value, 0.0) for value in found.user_id])
        product = np.array([overall + of_product.get(value, 0.0) for value in products])
        expected |= {
            f"user mean, {name}": user,
            f"product mean, {name}": product,
            f"mean of user and product means, {name}": (user + product) / 2,
        }
    squares = {name: np.square(np.clip(values, 1.0, 5.0) - truth) for name, values in expected.items()}
    return {
        "rating": {
            name: {"rmse": float(np.sqrt(values.mean())), "examples": len(truth)} | paired(squares[OURS], values)
            for name, values in squares.items()
        }
    }


def paired(ours: np.ndarray, theirs: np.ndarray) -> dict[str, Any]:
    """Return how the mean loss of this model differs from a peer's, example by example; nothing of itself."""
    if theirs is ours:
        return {}
    found = paired_test(ours, theirs)
    return {"ours_less_theirs": found["difference"], "interval": found["interval"], "p_value": found["p_value"]}


def compared(found: dict[str, dict[str, np.ndarray]]) -> dict[str, Any]:
    """Return the metrics of each method's `judged` examples, and how its log loss differs from the first's."""
    losses = {name: -np.log(np.maximum(part["chance"], SMALLEST)) for name, part in found.items()}
    ours = next(iter(losses.values()))
    return {name: choice_metrics(part) | paired(ours, losses[name]) for name, part in found.items()}


def yes_no_compared(happened: np.ndarray, found: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return the metrics of each method's chances, and how its log loss differs from the first's."""
    losses = {
        name: -np.log(np.maximum(np.where(happened, chance, 1.0 - chance), SMALLEST)) for name, chance in found.items()
    }
    ours = next(iter(losses.values()))
    return {name: yes_no_metrics(happened, chance) | paired(ours, losses[name]) for name, chance in found.items()}


def means(pairs: Iterator[tuple[bytes, float]], shrinkage: float) -> dict[bytes, float]:
    """Return the mean of each key's values, with `shrinkage` zeros counted in."""
    totals: dict[bytes, list[float]] = {}
    for key, value in pairs:
        totals.setdefault(key, []).append(value)
    return {key: sum(values) / (len(values) + shrinkage) for key, values in totals.items()}


def lines_of(result: dict[str, Any]) -> Iterator[str]:
    """Yield the table of `result` in Markdown."""
    yield "| data | task | method | AUC | log loss | ECE | accuracy | RMSE | examples | this model less it, 95% |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    for name, part in result.items():
        for task, methods in part["tasks"].items():
            for method, metrics in methods.items():
                shown = [
                    f"{metrics[key]:.4f}" if key in metrics else ""
                    for key in ("auc", "log_loss", "ece", "accuracy", "rmse")
                ]
                low, high = metrics.get("interval", (0.0, 0.0))
                less = f"{metrics['ours_less_theirs']:.4f} ({low:.4f} to {high:.4f})" if "interval" in metrics else ""
                yield f"| {name} | {task} | {method} | {' | '.join(shown)} | {metrics.get('examples', '')} | {less} |"


SETS: dict[str, tuple[Callable[[Path], Path], Callable[[str], dict[str, Any]]]] = {
    "taobao": (behavior_data.taobao, measure_next),
    "jd": (behavior_data.jd, measure_halves),
    "simulated": (behavior_data.simulated, measure_next),
    "reviews": (behavior_data.reviews, measure_ratings),
}

if __name__ == "__main__":
    main()
