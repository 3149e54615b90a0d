"""What training does beside its steps: keep the best epoch, save where it is, say how far it has come."""

import json
import math
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf
import tf_keras

from tfrs_shop.averaging import averaged

Say = Callable[[str], None]
WATCHED = "val_ndcg@10"
# An epoch that a kill made us train again may be worse the second time; then the best before it is needed.
KEPT = 2


class KeepBest(tf_keras.callbacks.Callback):
    """Keeps the weights of the best epoch, logs each epoch, and stops after `patience` epochs without a better one.

    What it needs to know of earlier epochs it reads from ``history.jsonl``, so that a resumed training stops when an
    unbroken one would. Of several workers only the chief writes into the run.

    Args:
        output: the run directory.
        patience: epochs without a better one after which training stops.
        say: takes one line of progress.
        seconds: of training so far.
        chief: whether this process writes.
    """

    def __init__(self, output: Path, patience: int, say: Say, seconds: float, chief: bool = True):
        super().__init__()
        self.output, self.patience, self.say, self.chief = output, patience, say, chief
        self.seconds_before, self.started = seconds, time.monotonic()
        self.history = read_history(output)

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Make the place of the checkpoints; every worker must save, as it takes all to read some variables."""
        self.directory = self.output / "best" if self.chief else Path(tempfile.mkdtemp())
        checkpoint = tf.train.Checkpoint(model=self.model)
        self.manager = tf.train.CheckpointManager(checkpoint, str(self.directory), max_to_keep=KEPT)

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Remove what a worker that is not the chief had to save."""
        if not self.chief:
            shutil.rmtree(self.directory, ignore_errors=True)

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Forget epochs that are trained again."""
        self.history = [entry for entry in self.history if entry["epoch"] <= epoch]

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Log, save if best, stop if hopeless."""
        metrics = {name: float(value) for name, value in (logs or {}).items()}
        seconds = self.seconds_before + time.monotonic() - self.started
        self.history.append({"epoch": epoch + 1, "seconds": round(seconds, 1), "metrics": metrics})
        best = best_epoch(self.history)
        if best["epoch"] == epoch + 1:
            with averaged(self.model.optimizer, self.model.trainable_variables):
                self.manager.save(checkpoint_number=epoch + 1)
        if self.chief:
            write_history(self.output, self.history)
        shown = {name: value for name, value in metrics.items() if name in ("loss", WATCHED, "val_recall@10")}
        self.say(f"Epoch {epoch + 1}: {as_text(shown)}{' (best)' if best['epoch'] == epoch + 1 else ''}")
        if patience_is_out(self.history, self.patience):
            self.say(f"No better {WATCHED} for {self.patience} epochs: stopping.")
            self.model.stop_training = True


class Backup(tf_keras.callbacks.BackupAndRestore):
    """Saves the state of training every `every` steps (0: never) and after each epoch; a new process goes on from it.

    Args:
        directory: where to.
        every: steps between two saves within an epoch.
        check: called with the epoch and the step before a save; raises where the state is not worth saving.
    """

    def __init__(self, directory: Path, every: int, check: Callable[[int, int], None]):
        # A number even for "never": told "epoch", Keras would take a save within an epoch for one after it.
        super().__init__(str(directory), save_freq=every or sys.maxsize, delete_checkpoint=False)
        self.check = check

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Save, whatever the number of steps."""
        self._backup(epoch, self.params["steps"] - 1)

    def _backup(self, epoch: int, batch: int = 0) -> None:
        self.check(epoch, batch)
        super()._backup(epoch, batch)


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


def write_history(output: Path, history: list[dict[str, Any]]) -> None:
    """Write ``history.jsonl``, whole or not at all."""
    temporary = output / ".history.jsonl"
    temporary.write_text("".join(json.dumps(entry) + "\n" for entry in history))
    temporary.replace(output / "history.jsonl")


def best_epoch(history: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the epoch with the best watched metric, the first of equals; the last where nothing was validated."""
    if not any(WATCHED in entry["metrics"] for entry in history):
        return history[-1]
    return max(history, key=lambda entry: entry["metrics"].get(WATCHED, -math.inf))


def patience_is_out(history: list[dict[str, Any]], patience: int) -> bool:
    """Return whether the last `patience` epochs were no better than the best before them."""
    return bool(history) and history[-1]["epoch"] - best_epoch(history)["epoch"] >= patience


def as_text(metrics: dict[str, float]) -> str:
    """Return `metrics` for people, on one line."""
    return ", ".join(f"{name.removeprefix('val_')} {value:.4f}" for name, value in metrics.items())
