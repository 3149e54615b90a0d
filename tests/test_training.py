"""Training: run directories, resume after a kill, early stopping, wrong input."""

import dataclasses
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
import yaml
from model_support import towers_only

from tfrs_shop.callbacks import KeepBest, best_epoch, read_history
from tfrs_shop.config import Config, RankingConfig, TrainingConfig
from tfrs_shop.dataset import open_data
from tfrs_shop.errors import UserError
from tfrs_shop.finite import likely_cause
from tfrs_shop.run import load_run, read_run
from tfrs_shop.settings import to_dict
from tfrs_shop.training import WarmupCosine, steps_done, train, training_batches


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


class StoppedError(Exception):
    """Ends training in the middle, as a kill does: nothing is tidied up."""


@pytest.fixture(scope="module")
def exact_config(small_config):
    """Settings without chance in the step, so that two runs can be compared closely."""
    return dataclasses.replace(
        towers_only(small_config),
        towers=dataclasses.replace(small_config.towers, dropout=0.0, text_dropout=0.0, id_dropout=0.0),
        ranking=RankingConfig(weight=0.0),
        training=dataclasses.replace(small_config.training, log_every=1, checkpoint_every=4, average=0.9),
    )


@pytest.fixture(scope="module")
def stopped(shop, exact_config, tmp_path_factory):
    """A run that was stopped in step 10 of its second epoch of 22 steps, that is in its step 32."""
    output = tmp_path_factory.mktemp("stopped") / "run"

    def say(line: str) -> None:
        if line.startswith("  epoch 2/3, step 10/22"):
            raise StoppedError

    with pytest.raises(StoppedError):
        train(shop.data, output, exact_config, say)
    return output


def test_a_stopped_training_loses_no_step_beyond_the_last_checkpoint(stopped) -> None:
    assert steps_done(stopped) == 28
    assert len(read_history(stopped)) == 1
    assert not read_run(stopped).finished


def test_a_stopped_training_goes_on_with_the_batches_that_an_unbroken_one_would_take(
    shop, exact_config, stopped, tmp_path
) -> None:
    shutil.copytree(stopped, tmp_path / "stopped")
    lines: list[str] = []
    resumed = train(shop.data, tmp_path / "stopped", exact_config, lines.append)
    assert lines[0] == f"Going on with {tmp_path / 'stopped'}."
    unbroken = train(shop.data, tmp_path / "unbroken", exact_config, quiet)
    ours, theirs = read_history(tmp_path / "stopped"), read_history(tmp_path / "unbroken")
    assert [entry["epoch"] for entry in ours] == [1, 2, 3]
    # The second epoch's mean loss is of the steps after the stop alone; all else is as if there had been none.
    assert ours[2]["metrics"]["loss"] == pytest.approx(theirs[2]["metrics"]["loss"], rel=1e-3)
    for epoch in (1, 2):
        for name in ("val_ndcg@10", "val_recall@10"):
            assert ours[epoch]["metrics"][name] == pytest.approx(theirs[epoch]["metrics"][name], abs=0.01)
    assert resumed.best_epoch == unbroken.best_epoch
    # What is kept is the moving average, so it came through the stop as well.
    pairs = [load_run(tmp_path / name)[0].trainable_variables for name in ("stopped", "unbroken")]
    for one, other in zip(*pairs, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=0.01)
    assert not (tmp_path / "stopped" / "resume").exists()


def test_a_loss_that_is_not_finite_is_told_of_and_the_run_goes_on_with_other_settings(
    shop, exact_config, stopped, tmp_path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(stopped, run)
    wild = dataclasses.replace(
        exact_config, training=dataclasses.replace(exact_config.training, learning_rate=1e30, clip_norm=1e30)
    )
    with pytest.raises(UserError) as caught:
        train(shop.data, run, wild, quiet)
    message = str(caught.value)
    assert re.search(r"the loss is (nan|inf) at epoch 2, step [78]; the batch asked for \d+ products \(P\d+", message)
    assert "Likely cause: training.learning_rate 1e+30 is too high, as the data is finite" in message
    assert "The checkpoint of epoch 2, step 6 is kept" in message
    assert steps_done(run) == 28
    mended = dataclasses.replace(exact_config, training=dataclasses.replace(exact_config.training, epochs=2))
    lines: list[str] = []
    assert math.isfinite(train(shop.data, run, mended, lines.append).metrics["loss"])
    assert "training.learning_rate 1e+30 -> 0.003" in lines[1]
    assert read_run(run).finished


def test_a_training_killed_after_its_last_epoch_only_finishes(shop, exact_config, stopped, tmp_path) -> None:
    run = tmp_path / "run"
    shutil.copytree(stopped, run)
    over = dataclasses.replace(exact_config, training=dataclasses.replace(exact_config.training, epochs=1))
    assert train(shop.data, run, over, quiet).best_epoch == 1
    assert len(read_history(run)) == 1


@pytest.mark.parametrize("seed", [0, 17])
@pytest.mark.parametrize("start", [3, 7, 25])
def test_batches_from_a_later_start_are_those_that_follow_there(start: int, seed: int) -> None:
    settings = TrainingConfig(batch_size=4, seed=seed)
    windows = tf.data.Dataset.range(14)
    whole = list(training_batches(windows, settings, 14).take(30).as_numpy_iterator())
    later = list(training_batches(windows, settings, 14, start).take(30 - start).as_numpy_iterator())
    assert np.array_equal(np.stack(whole[start:]), np.stack(later))
    passes = np.concatenate(whole)[: 14 * 8].reshape(8, 14)
    assert (np.sort(passes, 1) == np.arange(14)).all()
    assert len({tuple(order) for order in passes.tolist()}) == 8


def test_the_feature_that_is_not_finite_is_named(shop, small_config) -> None:
    data = open_data(shop.data)
    rows = next(iter(data.training_windows(10).batch(4)))
    assert likely_cause(data, small_config, rows).startswith("training.learning_rate 0.003 is too high")
    vectors = np.zeros((data.catalogue.size + 1, 3), np.float32)
    vectors[7, 1] = np.nan
    broken = dataclasses.replace(data, catalogue=dataclasses.replace(data.catalogue, text_vector=vectors))
    product = data.values["product_id"][6].decode()
    assert f"the feature text_vector of product '{product}' is not finite" in likely_cause(broken, small_config, rows)
    infinite = {**rows, "label_rating": tf.where(rows["label"] > 0, np.inf, rows["label_rating"])}
    assert "the feature target_rating of an event with product" in likely_cause(data, small_config, infinite)


def test_how_a_vocabulary_differs_is_told(shop, run, tmp_path) -> None:
    other = tmp_path / "data"
    shutil.copytree(shop.data, other)
    path = other / "vocabularies" / "brand.txt"
    values = path.read_text().splitlines()
    path.write_text("\n".join([values[0], values[1].swapcase(), *values[2:]]) + "\n")
    with pytest.raises(UserError) as caught:
        load_run(run, other)
    assert "another vocabulary of 'brand' (feature brand)" in str(caught.value)
    assert f"value 2 was '{values[1]}' and is '{values[1].swapcase()}'" in str(caught.value)
    path.write_text("\n".join(values[:-1]) + "\n")
    manifest = json.loads((other / "dataset.json").read_text())
    manifest["vocabularies"]["brand"]["size"] -= 1
    for entry in manifest["files"]["vocabularies"]:
        entry["bytes"] = (other / "vocabularies" / entry["name"]).stat().st_size
    (other / "dataset.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError) as caught:
        load_run(run, other)
    sizes = f"{len(values)} values then, {len(values) - 1} now"
    assert f"{sizes}, value {len(values)} was '{values[-1]}' and is none" in str(caught.value)


@pytest.mark.slow
def test_a_killed_training_goes_on_and_ends_like_an_unbroken_one(shop, small_config, tmp_path) -> None:
    training = dataclasses.replace(small_config.training, epochs=6, checkpoint_every=5, patience=6)
    config = dataclasses.replace(towers_only(small_config), training=training)
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
