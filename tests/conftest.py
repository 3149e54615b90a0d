"""One small simulated shop for all tests: preprocessed, trained and exported once a session."""

import dataclasses
import os
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tfrs_shop  # noqa: F401

SHARED = Path(os.environ.get("TFRS_SHOP_DATA", Path(__file__).parents[2] / "shared" / "data"))


def quiet(line: str) -> None:
    """Take a line of progress and drop it."""


def shared_data(name: str) -> Path:
    """Return the directory of a real data set, or skip the test, saying so."""
    path = SHARED / name
    if not path.is_dir():
        pytest.skip(f"real data set {name} is not at {SHARED} (set TFRS_SHOP_DATA)")
    return path


@dataclasses.dataclass(frozen=True)
class Shop:
    """The paths of the small shop."""

    raw: Path
    data: Path


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A simulated shop of 120 users and 200 products, preprocessed without text vectors."""
    from pipelines.preprocess import run
    from tfrs_shop.sources.simulator import simulate_shop

    base = tmp_path_factory.mktemp("shop")
    simulate_shop(base / "raw", users=120, products=200, days=30, seed=3)
    raw = base / "raw"
    files = [
        "--events",
        f"{raw}/events.csv.gz",
        "--products",
        f"{raw}/products.jsonl.gz",
        "--users",
        f"{raw}/users.csv.gz",
    ]
    run([*files, "--output", str(base / "data"), "--text_encoder", "none", "--shards", "2"], quiet)
    return Shop(raw, base / "data")


@pytest.fixture(scope="session")
def small_config():
    """Settings that train in seconds."""
    from tfrs_shop.config import Config, TowerConfig, TrainingConfig

    return Config(
        towers=TowerConfig(width=32, layers=1, max_history=10, dropout=0.1),
        training=TrainingConfig(epochs=3, batch_size=16, warmup_steps=10, log_every=1000, learning_rate=3e-3),
    )


@pytest.fixture(scope="session")
def run(shop: Shop, small_config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on the small shop."""
    from tfrs_shop.training import train

    output = tmp_path_factory.mktemp("runs") / "run"
    train(shop.data, output, small_config, quiet)
    return output


@pytest.fixture(scope="session")
def trained(run: Path):
    """The trained model of the small shop, and its data."""
    from tfrs_shop.run import load_run

    model, data, _ = load_run(run)
    return model, data


@pytest.fixture(scope="session")
def bundle(trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported version of the small shop, exact index, 5 products an answer."""
    from tfrs_shop.export import Serving, export

    model, data = trained
    return export(model, data, tmp_path_factory.mktemp("models") / "shop", "brute_force", Serving(5, "bought"), quiet)
