"""Training: run directories, resume after a kill, early stopping, wrong input."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import yaml

from tfrs_shop.callbacks import KeepBest, best_epoch, read_history
from tfrs_shop.config import Config, TrainingConfig
from tfrs_shop.errors import UserError
from tfrs_shop.run import load_run, read_run
from tfrs_shop.settings import to_dict
from tfrs_shop.training import WarmupCosine, train


def quiet(line: str) -> None:
    pass


def test_a_finished_run_says_what_it_is(run) -> None:
    info = read_run(run)
    assert info.finished
    history = read_history(run)
    assert [entry["epoch"] for entry in history] == [1, 2, 3]
    assert info.metrics == history[info.best_epoch - 1]["metrics"]
    assert info.metrics["val_ndcg@10"] == max(entry["metrics"]["val_ndcg@10"] for entry in history)
    assert any((run / "logs").rglob("events.out.tfevents.*"))


def test_the_weights_of_the_best_epoch_are_what_is_loaded(run, trained) -> None:
    model, data = trained
    batches = data.evaluation_batches("validation", model.config.towers.max_history)
    model.compile()
    result = model.evaluate(batches, verbose=0, return_dict=True)
    assert result["ndcg@10"] == pytest.approx(read_run(run).metrics["val_ndcg@10"], abs=1e-4)


def test_the_same_seed_trains_the_same_model(shop, small_config, run, tmp_path) -> None:
    once = train(shop.data, tmp_path / "again", small_config, quiet)
    assert once.metrics["loss"] == pytest.approx(read_run(run).metrics["loss"], rel=1e-3)


def test_a_finished_run_is_not_overwritten(shop, small_config, run) -> None:
    with pytest.raises(UserError, match="is a finished run"):
        train(shop.data, run, small_config, quiet)


def test_a_run_with_other_settings_is_not_gone_on_with(shop, small_config, run, tmp_path) -> None:
    unfinished = tmp_path / "run"
    unfinished.mkdir()
    (unfinished / "run.json").write_text(
        (run / "run.json").read_text().replace('"finished": true', '"finished": false')
    )
    (unfinished / "config.yaml").write_text(yaml.safe_dump(to_dict(Config())))
    with pytest.raises(UserError, match="begun with other settings"):
        train(shop.data, unfinished, small_config, quiet)


def test_an_unfinished_run_is_not_loaded(run, tmp_path) -> None:
    unfinished = tmp_path / "run"
    unfinished.mkdir()
    (unfinished / "run.json").write_text(
        (run / "run.json").read_text().replace('"finished": true', '"finished": false')
    )
    with pytest.raises(UserError, match="training did not finish"):
        load_run(unfinished)


def test_another_vocabulary_is_named(run, shop, tmp_path) -> None:
    changed = tmp_path / "run"
    changed.mkdir()
    info = json.loads((run / "run.json").read_text())
    info["vocabularies"]["brand"] = "0" * 64
    (changed / "run.json").write_text(json.dumps(info))
    (changed / "config.yaml").write_text((run / "config.yaml").read_text())
    with pytest.raises(UserError, match="another vocabulary of 'brand'"):
        load_run(changed)


def test_what_is_no_run_is_said(tmp_path) -> None:
    with pytest.raises(UserError, match="is no run directory"):
        load_run(tmp_path)


def test_a_foreign_directory_is_not_written_into(shop, small_config, tmp_path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(UserError, match="is not empty and no run"):
        train(shop.data, tmp_path, small_config, quiet)


def test_patience_counts_epochs_of_an_earlier_attempt(tmp_path) -> None:
    class Model:
        stop_training = False

    entries = [{"epoch": i + 1, "seconds": 1.0, "metrics": {"val_ndcg@10": v}} for i, v in enumerate([0.3, 0.2])]
    (tmp_path / "history.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    keeper = KeepBest(tmp_path, patience=2, say=quiet, seconds=0.0)
    keeper.model = Model()
    keeper.on_epoch_begin(2)
    keeper.on_epoch_end(2, {"val_ndcg@10": 0.1})
    assert keeper.model.stop_training


def test_the_best_epoch_is_the_first_of_equals() -> None:
    history = [{"epoch": e, "metrics": {"val_ndcg@10": v}} for e, v in ((1, 0.1), (2, 0.3), (3, 0.3))]
    assert best_epoch(history)["epoch"] == 2


def test_the_learning_rate_rises_then_falls_to_five_percent() -> None:
    schedule = WarmupCosine(1.0, 10, 110)
    assert float(schedule(5)) == pytest.approx(0.5)
    assert float(schedule(10)) == pytest.approx(1.0)
    assert float(schedule(60)) == pytest.approx(0.525)
    assert float(schedule(110)) == pytest.approx(0.05)


@pytest.mark.slow
def test_a_killed_training_goes_on_and_ends_like_an_unbroken_one(shop, small_config, tmp_path) -> None:
    config = dataclasses.replace(
        small_config, training=dataclasses.replace(small_config.training, epochs=6, checkpoint_every=5, patience=6)
    )
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(to_dict(config)))
    command = [sys.executable, "-m", "tfrs_shop.cli", "train", "--data", str(shop.data), "--config"]
    command += [str(tmp_path / "config.yaml"), "--output", str(tmp_path / "killed")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(read_history(tmp_path / "killed")) < 2:
        time.sleep(0.05)
        assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with pytest.raises(UserError, match="training did not finish"):
        load_run(tmp_path / "killed")
    lines: list[str] = []
    resumed = train(shop.data, tmp_path / "killed", config, lines.append)
    assert lines[0].startswith("Going on with")
    assert [entry["epoch"] for entry in read_history(tmp_path / "killed")] == [1, 2, 3, 4, 5, 6]
    unbroken = train(shop.data, tmp_path / "unbroken", config, quiet)
    assert resumed.metrics["val_ndcg@10"] == pytest.approx(unbroken.metrics["val_ndcg@10"], abs=0.05)


def test_training_settings_are_checked_where_they_are_given() -> None:
    with pytest.raises(ValueError, match="epochs must be at least 1"):
        TrainingConfig(epochs=0)
