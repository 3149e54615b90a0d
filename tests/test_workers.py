"""Several devices and workers: the same training as on one, each row read once, one writer, and a lost worker."""

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from conftest import quiet
from model_support import towers_only

from tfrs_shop.callbacks import read_history
from tfrs_shop.config import RankingConfig, TrainingConfig
from tfrs_shop.errors import UserError
from tfrs_shop.run import load_run, read_run
from tfrs_shop.settings import to_dict
from tfrs_shop.training import steps_done, train
from tfrs_shop.workers import make_strategy

ROOT = Path(__file__).parents[1]
TWO_DEVICES = """
import tfrs_shop, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from tfrs_shop.cli import main
main()
"""
COUNT_ROWS = """
import sys, tfrs_shop, tensorflow as tf
from tfrs_shop.config import TrainingConfig
from tfrs_shop.dataset import open_data
from tfrs_shop.training import training_batches
from tfrs_shop.workers import make_strategy, sharded_by_row
settings = TrainingConfig(batch_size=16, strategy="multi_worker")
strategy = make_strategy(settings)
data = open_data(sys.argv[1])
def own(rows):
    return strategy.experimental_local_results(rows)[0].numpy()
# 120 examples in batches of 50 are not a whole number of batches, nor of shares.
for rows in strategy.experimental_distribute_dataset(
    sharded_by_row(data.evaluation_batches("validation", 10, 50).map(lambda rows: {"user_id": rows["user_id"]}))
):
    print("validation", *(user.decode() for user in own(rows["user_id"])))
numbers = training_batches(tf.data.Dataset.range(64), settings, 64).take(4)
for rows in strategy.experimental_distribute_dataset(sharded_by_row(numbers)):
    print("training", *own(rows))
"""


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def start_workers(arguments: list[str], folder: Path) -> list[subprocess.Popen]:
    """Start two workers; what worker i prints goes to FOLDER/outI, and its errors to FOLDER/errI."""
    workers = [f"127.0.0.1:{port}" for port in free_ports(2)]
    folder.mkdir(exist_ok=True)
    started = []
    for index in range(2):
        cluster = json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}})
        environment = {**os.environ, "TF_CONFIG": cluster, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
        with (folder / f"out{index}").open("w") as out, (folder / f"err{index}").open("w") as err:
            started.append(
                subprocess.Popen([sys.executable, *arguments], env=environment, cwd=ROOT, stdout=out, stderr=err)
            )
    return started


@pytest.fixture(scope="module")
def plain_config(small_config):
    """No dropout, whose draws would be others on each replica; no ranking head: the mean rating loss of a replica is
    over its own few rated labels, and a mean of such means is another number than the mean of all.
    """
    return dataclasses.replace(
        towers_only(small_config),
        towers=dataclasses.replace(small_config.towers, dropout=0.0, text_dropout=0.0, id_dropout=0.0),
        ranking=RankingConfig(weight=0.0),
        training=dataclasses.replace(small_config.training, average=0.9, checkpoint_every=7),
    )


@pytest.fixture(scope="module")
def on_one_device(shop, plain_config, tmp_path_factory):
    output = tmp_path_factory.mktemp("one") / "run"
    train(shop.data, output, plain_config, quiet)
    return read_history(output)


def train_command(shop, config, strategy: str, folder: Path, epochs: int = 3) -> list[str]:
    """Return the arguments of ``tfrs-shop train`` into FOLDER/run."""
    training = dataclasses.replace(config.training, strategy=strategy, epochs=epochs, patience=epochs)
    path = folder / f"{strategy}.yaml"
    path.write_text(yaml.safe_dump(to_dict(dataclasses.replace(config, training=training))))
    return ["train", "--data", str(shop.data), "--config", str(path), "--output", str(folder / "run")]


def assert_trained_like(run: Path, expected: list[dict]) -> None:
    """The same losses, and validation metrics that are those of the weights that were kept, over all examples."""
    history = read_history(run)
    for ours, theirs in zip(history, expected, strict=True):
        assert ours["metrics"]["loss"] == pytest.approx(theirs["metrics"]["loss"], rel=0.01)
        assert ours["metrics"]["val_ndcg@10"] == pytest.approx(theirs["metrics"]["val_ndcg@10"], abs=0.02)
    model, data, info = load_run(run)
    model.compile()
    result = model.evaluate(data.evaluation_batches("validation", 10, 50), verbose=0, return_dict=True)
    for name in ("recall@10", "ndcg@10"):
        assert result[name] == pytest.approx(info.metrics[f"val_{name}"], abs=1e-4)
    files = ["best", "config.yaml", "history.jsonl", "logs", "run.json"]
    assert sorted(path.name for path in run.iterdir()) == files


@pytest.mark.slow
def test_two_devices_train_like_one(shop, plain_config, on_one_device, tmp_path) -> None:
    command = [sys.executable, "-c", TWO_DEVICES, *train_command(shop, plain_config, "mirrored", tmp_path)]
    subprocess.run(command, check=True, cwd=ROOT, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""}, capture_output=True)
    assert_trained_like(tmp_path / "run", on_one_device)


@pytest.mark.slow
def test_two_workers_train_like_one_device_and_the_chief_alone_writes_and_speaks(
    shop, plain_config, on_one_device, tmp_path
) -> None:
    command = ["-m", "tfrs_shop.cli", *train_command(shop, plain_config, "multi_worker", tmp_path)]
    workers = start_workers(command, tmp_path)
    assert [worker.wait(timeout=600) for worker in workers] == [0, 0]
    assert_trained_like(tmp_path / "run", on_one_device)
    assert "Wrote" in (tmp_path / "out0").read_text()
    assert (tmp_path / "out1").read_text() == ""


@pytest.mark.slow
def test_a_killed_worker_ends_the_others_and_the_run_goes_on(shop, plain_config, tmp_path) -> None:
    command = ["-m", "tfrs_shop.cli", *train_command(shop, plain_config, "multi_worker", tmp_path, epochs=5)]
    chief, other = start_workers(command, tmp_path / "first")
    while len(read_history(tmp_path / "run")) < 2:
        time.sleep(0.05)
        assert chief.poll() is None
    os.kill(other.pid, signal.SIGKILL)
    assert chief.wait(timeout=300) != 0
    other.wait()
    done = steps_done(tmp_path / "run")
    assert done >= 2 * 22 - 7
    assert not read_run(tmp_path / "run").finished
    workers = start_workers(command, tmp_path / "second")
    assert [worker.wait(timeout=600) for worker in workers] == [0, 0]
    assert (tmp_path / "second" / "out0").read_text().startswith("Going on with")
    assert [entry["epoch"] for entry in read_history(tmp_path / "run")] == list(range(1, 6))
    assert read_run(tmp_path / "run").metrics["val_recall@10"] > 0.4


@pytest.mark.slow
def test_no_example_is_lost_or_read_by_two_workers(shop, tmp_path) -> None:
    workers = start_workers(["-c", COUNT_ROWS, str(shop.data)], tmp_path)
    assert [worker.wait(timeout=300) for worker in workers] == [0, 0]
    lines = [line.split() for index in range(2) for line in (tmp_path / f"out{index}").read_text().splitlines()]
    users = [value for kind, *values in lines if kind == "validation" for value in values]
    assert len(users) == len(set(users)) == 120
    numbers = [int(value) for kind, *values in lines if kind == "training" for value in values]
    assert sorted(numbers) == list(range(64))
    assert {len(values) for kind, *values in lines if kind == "training"} == {8}


@pytest.mark.parametrize(
    "text", ["", "{", '{"cluster": {}}', '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}']
)
def test_several_workers_need_a_usable_tf_config(monkeypatch, text: str) -> None:
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(UserError, match="strategy multi_worker needs the environment variable TF_CONFIG"):
        make_strategy(TrainingConfig(strategy="multi_worker"))
