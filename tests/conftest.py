"""One small simulated shop for all tests: preprocessed, trained and exported once a session, whoever needs it first."""

import collections
import contextlib
import dataclasses
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tfrs_shop  # noqa: F401  (before TensorFlow)

from bundle_support import only_questions  # isort: skip

SHARED = Path(os.environ.get("TFRS_SHOP_DATA", Path(__file__).parents[2] / "shared" / "data"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the files with slow tests first, those with most of them in front: no worker begins one as the last."""
    slow = collections.Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


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
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that the workers of a session have in common."""
    own = tmp_path_factory.getbasetemp()
    path = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "shared"
    path.mkdir(exist_ok=True)
    return path


@contextlib.contextmanager
def first_alone(directory: Path) -> Iterator[bool]:
    """Enter with True for whoever makes `directory`, and with False, when it is made, for all others."""
    with directory.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield not directory.exists()


@pytest.fixture(scope="session")
def shop(shared: Path) -> Shop:
    """A simulated shop of 120 users and 200 products, preprocessed without text vectors."""
    from pipelines.preprocess import run
    from tfrs_shop.sources.simulator import simulate_shop

    raw, data = shared / "raw", shared / "data"
    files = [
        "--events",
        f"{raw}/events.csv.gz",
        "--products",
        f"{raw}/products.jsonl.gz",
        "--users",
        f"{raw}/users.csv.gz",
    ]
    with first_alone(data) as first:
        if first:
            simulate_shop(raw, users=120, products=200, days=30, seed=3)
            run([*files, "--output", str(data), "--text_encoder", "none", "--shards", "2"], quiet)
    return Shop(raw, data)


@pytest.fixture(scope="session")
def small_config():
    """Settings that train in seconds."""
    from tfrs_shop.config import Config, TowerConfig, TrainingConfig

    return Config(
        towers=TowerConfig(width=32, layers=1, max_history=10, dropout=0.1),
        training=TrainingConfig(epochs=3, batch_size=16, warmup_steps=10, log_every=1000, learning_rate=3e-3),
    )


@pytest.fixture(scope="session")
def run(shop: Shop, small_config, shared: Path) -> Path:
    """A finished run on the small shop."""
    from tfrs_shop.training import train

    output = shared / "run"
    with first_alone(output) as first:
        if first:
            train(shop.data, output, small_config, quiet)
    return output


@pytest.fixture(scope="session")
def trained(run: Path):
    """The trained model of the small shop, and its data."""
    from tfrs_shop.run import load_run

    model, data, _ = load_run(run)
    return model, data


@pytest.fixture(scope="session")
def bundle(trained, shared: Path) -> Path:
    """An exported version of the small shop, exact index, 5 products an answer."""
    from tfrs_shop.export import Serving, export

    model, data = trained
    models = shared / "models" / "shop"
    models.parent.mkdir(exist_ok=True)
    with first_alone(models) as first:
        if first:
            export(model, data, models, "brute_force", Serving(5, "bought"), quiet)
    return models / "1"


@pytest.fixture(scope="session")
def signatures(bundle: Path):
    """The signatures of `bundle` by name, and under ``keep`` what must live as long as they are called."""
    import tensorflow as tf
    import tensorflow_text  # noqa: F401  (registers the ops of a search)

    loaded = tf.saved_model.load(str(bundle))
    return {**loaded.signatures, "keep": loaded}


@pytest.fixture
def few_questions() -> Iterator[None]:
    """Exports of the test can be asked for recommendations and what is similar alone."""
    with only_questions("recommend", "similar"):
        yield


@pytest.fixture(scope="session")
def worded_data(tmp_path_factory: pytest.TempPathFactory):
    """A simulated shop of 60 users and 80 products with the text vectors of a BERT of two layers, eight wide."""
    import gzip
    import json

    import tensorflow as tf
    import tf_keras

    from pipelines.preprocess import run
    from tfrs_shop.dataset import open_data
    from tfrs_shop.sources.simulator import simulate_shop
    from tfrs_shop.text.bert import BertConfig, BertEncoder
    from tfrs_shop.text.preprocessor import BertPreprocessor
    from tfrs_shop.text.tokenize import words

    base = tmp_path_factory.mktemp("tuned")
    simulate_shop(base / "raw", users=60, products=80, days=30, seed=3)
    with gzip.open(base / "raw" / "products.jsonl.gz", "rt") as lines:
        texts = [" ".join(map(str, json.loads(line).values())) for line in lines]
    vocabulary = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        ".",
        ">",
        *sorted({word for text in texts for word in words(text)}),
    ]
    tf_keras.utils.set_random_seed(1)
    sizes = BertConfig(
        len(vocabulary), width=8, layers=2, heads=2, feed_forward_width=16, max_positions=64, dropout=0.0
    )
    encoder = BertEncoder(sizes)
    for variable in encoder.weights:  # the usual 0.02 would make all vectors alike
        variable.assign_add(tf.random.normal(variable.shape, stddev=0.3))
    encoder.export(base / "encoder")
    BertPreprocessor(vocabulary).export(base / "preprocessor")
    files = ["--events", f"{base}/raw/events.csv.gz", "--products", f"{base}/raw/products.jsonl.gz"]
    encoding = ["--text_encoder", f"{base}/encoder", "--text_preprocessor", f"{base}/preprocessor"]
    run([*files, *encoding, "--output", str(base / "data"), "--shards", "1"], quiet)
    return open_data(base / "data")
