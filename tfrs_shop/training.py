"""Training: a data directory in, a run directory out, by Keras' own ``fit``; a killed training goes on."""

import dataclasses
import json
import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf
import tf_keras

from tfrs_shop.averaging import AveragedWeights, averaged
from tfrs_shop.config import Config, TrainingConfig
from tfrs_shop.dataset import ShopData, open_data
from tfrs_shop.errors import UserError
from tfrs_shop.evaluation import choose_transition_weight
from tfrs_shop.model.shop_model import ShopModel
from tfrs_shop.model.text_tuning import RenewTexts, TwoRatesAdam
from tfrs_shop.run import (
    RUN_NAME,
    RunInfo,
    build,
    check_vocabularies,
    read_run,
    restore_best,
    vocabulary_hashes,
    write_config,
    write_run,
)
from tfrs_shop.settings import load_yaml, to_dict

Say = Callable[[str], None]
WATCHED = "val_ndcg@10"
SHUFFLE_BUFFER = 200_000


def train(data_directory: str | Path, output: str | Path, config: Config, say: Say = print) -> RunInfo:
    """Train a model, and return what ``run.json`` says of it.

    A run that was killed goes on from its last checkpoint when it is called again with the same arguments.

    Args:
        data_directory: made by the preprocessing job.
        output: the run directory; new, or of a run that did not finish.
        config: the settings.
        say: takes one line of progress.

    Raises:
        UserError: the data cannot be used, or `output` is a finished run or one with other settings.
    """
    output = Path(output)
    data = open_data(data_directory)
    if not data.manifest.counts["examples"]["train"]:
        raise UserError(f"{data_directory}: has no training examples; preprocess it with --events.")
    info = _start(output, data, config, say)
    settings = config.training
    tf_keras.utils.set_random_seed(settings.seed)
    tf_keras.mixed_precision.set_global_policy("mixed_bfloat16" if settings.mixed_precision else "float32")
    windows = data.training_windows(config.towers.max_history)
    rows = _count(windows)
    steps = max(1, rows // settings.batch_size)
    say(f"{rows:,} training windows of up to {config.towers.max_history} events; {steps:,} steps an epoch.")
    with _strategy(settings).scope():
        model = ShopModel(data, config)
        build(model, data)
        schedule = WarmupCosine(settings.learning_rate, settings.warmup_steps, steps * settings.epochs)
        slow = model.text.trainable_weights if model.text is not None else []
        model.compile(
            TwoRatesAdam(
                slow,
                config.text.learning_rate / settings.learning_rate,
                learning_rate=schedule,
                global_clipnorm=settings.clip_norm,
                use_ema=settings.average > 0,
                ema_momentum=settings.average,
            ),
            jit_compile=settings.xla,
        )
    keeper = KeepBest(output, settings.patience, say, info.seconds)
    model.fit(
        training_batches(windows, settings, rows),
        epochs=settings.epochs,
        steps_per_epoch=steps,
        validation_data=validation_batches(data, config),
        verbose=0,
        callbacks=[
            tf_keras.callbacks.BackupAndRestore(
                str(output / "resume"), save_freq=settings.checkpoint_every or "epoch", delete_checkpoint=True
            ),
            AveragedWeights(),
            *([RenewTexts()] if model.text is not None else []),
            Progress(steps, settings.epochs, settings.log_every, say),
            keeper,
            tf_keras.callbacks.TensorBoard(str(output / "logs"), update_freq=settings.log_every),
        ],
    )
    finished = keeper.finished(info)
    restore_best(model, output)
    weight = choose_transition_weight(model, data, say)
    finished = dataclasses.replace(finished, transition_weight=weight)
    write_run(output, finished)
    say(f"Best epoch {finished.best_epoch}: {_shown(finished.metrics)}. Wrote {output} in {finished.seconds:.0f} s.")
    return finished


def training_batches(windows: tf.data.Dataset, settings: TrainingConfig, rows: int) -> tf.data.Dataset:
    """Return shuffled batches of `windows` without end; another order each epoch, the same for a seed."""
    shuffled = windows.shuffle(min(rows, SHUFFLE_BUFFER), seed=settings.seed, reshuffle_each_iteration=True)
    whole = rows >= settings.batch_size
    batches = shuffled.repeat().batch(min(rows, settings.batch_size), drop_remainder=whole)
    return batches.prefetch(tf.data.AUTOTUNE)


def validation_batches(data: ShopData, config: Config) -> tf.data.Dataset | None:
    """Return batches of the validation split, or None where it has no example."""
    if not data.manifest.counts["examples"]["validation"]:
        return None
    return data.evaluation_batches("validation", config.towers.max_history)


class WarmupCosine(tf_keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that rises linearly over `warmup` steps and falls with a cosine to 5% at `total` steps."""

    def __init__(self, peak: float, warmup: int, total: int):
        self.peak, self.warmup, self.total = peak, warmup, total

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Return the learning rate of `step`."""
        place = tf.cast(step, tf.float32)
        rising = place / max(1, self.warmup)
        share = tf.clip_by_value((place - self.warmup) / max(1, self.total - self.warmup), 0.0, 1.0)
        falling = 0.05 + 0.95 * 0.5 * (1.0 + tf.cos(math.pi * share))
        return self.peak * tf.minimum(tf.minimum(rising, 1.0), falling)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {"peak": self.peak, "warmup": self.warmup, "total": self.total}


class KeepBest(tf_keras.callbacks.Callback):
    """Keeps the weights of the best epoch, logs each epoch, and stops after `patience` epochs without a better one.

    What it needs to know of earlier epochs it reads from ``history.jsonl``, so that a resumed training stops when an
    unbroken one would.
    """

    def __init__(self, output: Path, patience: int, say: Say, seconds: float):
        super().__init__()
        self.output, self.patience, self.say = output, patience, say
        self.seconds_before, self.started = seconds, time.monotonic()
        self.history = read_history(output)

    def set_model(self, model: tf_keras.Model) -> None:
        """Remember the model, as Keras asks."""
        super().set_model(model)
        checkpoint = tf.train.Checkpoint(model=model)
        self.manager = tf.train.CheckpointManager(checkpoint, str(self.output / "best"), max_to_keep=1)

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Forget epochs that are trained again, and stop where patience had run out."""
        self.history = [entry for entry in self.history if entry["epoch"] <= epoch]

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Log, save if best, stop if hopeless."""
        metrics = {name: float(value) for name, value in (logs or {}).items()}
        seconds = self.seconds_before + time.monotonic() - self.started
        self.history.append({"epoch": epoch + 1, "seconds": round(seconds, 1), "metrics": metrics})
        best = best_epoch(self.history)
        if best["epoch"] == epoch + 1:
            with averaged(self.model):
                self.manager.save(checkpoint_number=epoch + 1)
        lines = "".join(json.dumps(entry) + "\n" for entry in self.history)
        temporary = self.output / ".history.jsonl"
        temporary.write_text(lines)
        temporary.replace(self.output / "history.jsonl")
        shown = {name: value for name, value in metrics.items() if name in ("loss", WATCHED, "val_recall@10")}
        self.say(f"Epoch {epoch + 1}: {_shown(shown)}{' (best)' if best['epoch'] == epoch + 1 else ''}")
        if epoch + 1 - best["epoch"] >= self.patience:
            self.say(f"No better {WATCHED} for {self.patience} epochs: stopping.")
            self.model.stop_training = True

    def finished(self, info: RunInfo) -> RunInfo:
        """Return what ``run.json`` says at the end."""
        best = best_epoch(self.history)
        return RunInfo(
            data=info.data,
            vocabularies=info.vocabularies,
            finished=True,
            best_epoch=best["epoch"],
            metrics=best["metrics"],
            seconds=self.history[-1]["seconds"],
        )


class Progress(tf_keras.callbacks.Callback):
    """Says every `every` steps where training is and how long the rest may take."""

    def __init__(self, steps: int, epochs: int, every: int, say: Say):
        super().__init__()
        self.steps, self.epochs, self.every, self.say = steps, epochs, every, say
        self.first: int | None = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Remember where the epoch began."""
        self.epoch, self.started = epoch, time.monotonic()
        self.first = None

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Say a line now and then."""
        if self.first is None:
            self.first = batch
        done = batch - self.first
        if (batch + 1) % self.every or not done:
            return
        a_step = (time.monotonic() - self.started) / (done + 1)
        left = a_step * (self.steps - batch - 1 + self.steps * (self.epochs - self.epoch - 1))
        self.say(
            f"  epoch {self.epoch + 1}/{self.epochs}, step {batch + 1}/{self.steps}, "
            f"loss {(logs or {}).get('loss', math.nan):.4f}, at most {left / 60:.1f} min left"
        )


def read_history(output: Path) -> list[dict[str, Any]]:
    """Return the epochs that ``history.jsonl`` of the run `output` holds."""
    path = output / "history.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def best_epoch(history: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the epoch with the best watched metric, the first of equals; the last where nothing was validated."""
    if not any(WATCHED in entry["metrics"] for entry in history):
        return history[-1]
    return max(history, key=lambda entry: entry["metrics"].get(WATCHED, -math.inf))


def _start(output: Path, data: ShopData, config: Config, say: Say) -> RunInfo:
    if (output / RUN_NAME).exists():
        info = read_run(output)
        if info.finished:
            raise UserError(f"{output}: is a finished run; give another --output, or remove it.")
        check_vocabularies(info, data, output)
        if to_dict(load_yaml(Config, output / "config.yaml")) != to_dict(config):
            raise UserError(f"{output}: was begun with other settings (see config.yaml); give another --output.")
        history = read_history(output)
        say(f"Going on with {output} after {len(history)} epochs.")
        return RunInfo(info.data, info.vocabularies, seconds=history[-1]["seconds"] if history else 0.0)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"{output}: is not empty and no run; give another --output.")
    info = RunInfo(str(data.directory.resolve()), vocabulary_hashes(data))
    try:
        output.mkdir(parents=True, exist_ok=True)
        write_config(output, config)
        write_run(output, info)
    except OSError as error:
        shutil.rmtree(output, ignore_errors=True)
        raise UserError(f"--output {output}: cannot be written ({error.strerror}).") from None
    return info


def _strategy(settings: TrainingConfig) -> tf.distribute.Strategy:
    if settings.strategy == "mirrored":
        return tf.distribute.MirroredStrategy()
    if settings.strategy == "multi_worker":
        return tf.distribute.MultiWorkerMirroredStrategy()
    return tf.distribute.get_strategy()


def _count(windows: tf.data.Dataset) -> int:
    return int(windows.reduce(tf.constant(0, tf.int64), lambda count, _: count + 1))


def _shown(metrics: dict[str, float]) -> str:
    return ", ".join(f"{name.removeprefix('val_')} {value:.4f}" for name, value in metrics.items())
