"""Training: a data directory in, a run directory out, by Keras' own ``fit``; a killed training goes on."""

import dataclasses
import math
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from tfrs_shop.averaging import AveragedWeights
from tfrs_shop.behavior_training import train_behavior
from tfrs_shop.callbacks import (
    Backup,
    KeepBest,
    Progress,
    as_text,
    best_epoch,
    patience_is_out,
    read_history,
    write_history,
)
from tfrs_shop.config import Config, TrainingConfig
from tfrs_shop.dataset import ShopData, open_data, untuned
from tfrs_shop.errors import UserError
from tfrs_shop.finite import StopWhenNotFinite, not_finite
from tfrs_shop.intent_training import keep_intent, train_intent
from tfrs_shop.mixture import bought_again, choose_mixture
from tfrs_shop.model.shop_model import ShopModel
from tfrs_shop.model.text_tuning import RenewTexts, TwoRatesAdam
from tfrs_shop.run import (
    BEHAVIOR_NAME,
    MIXTURE,
    SEARCH_NAME,
    RunInfo,
    build,
    read_run,
    restore_best,
    start_run,
    write_run,
)
from tfrs_shop.search_training import train_search
from tfrs_shop.workers import any_worker, is_chief, make_strategy, sharded_by_row

Say = Callable[[str], None]
SHUFFLE_BUFFER = 200_000
RESUME = "resume"


def train(data_directory: str | Path, output: str | Path, config: Config, say: Say = print) -> RunInfo:
    """Train a model, and return what ``run.json`` says of it.

    A run that was killed goes on from its last checkpoint when it is called again with the same `output`. With
    ``training.strategy: multi_worker`` each worker calls it, and the chief writes the run.

    Args:
        data_directory: made by the preprocessing job.
        output: the run directory; new, or of a run that did not finish.
        config: the settings.
        say: takes one line of progress.

    Raises:
        UserError: the data cannot be used, `output` is a finished run or one of another model, the loss is not finite
            any more, or another worker is lost.
    """
    output = Path(output)
    strategy = make_strategy(config.training)
    chief = is_chief(strategy)
    say = say if chief else _silent
    data = open_data(data_directory)
    has_examples = data.manifest.counts["examples"]["train"] > 0
    if not has_examples and "lexicon" not in data.manifest.files:
        raise UserError(f"{data_directory}: has no training examples; preprocess it with --events.")
    info = _start(output, data, config, strategy, say)
    tf_keras.utils.set_random_seed(config.training.seed)
    with _precision(config.training), _lost_workers(config.training, output):
        if has_examples:
            model = _fit(output, data, config, info, strategy, say)
        else:
            model = _untrained(output, data, config, say)
        if chief:
            _finish(output, model, data, info, say)
        # The others stay until then: a worker that leaves takes the chief with it.
        any_worker(strategy, False)
    return read_run(output)


def _fit(
    output: Path, data: ShopData, config: Config, info: RunInfo, strategy: tf.distribute.Strategy, say: Say
) -> ShopModel:
    settings, chief = config.training, is_chief(strategy)
    windows = data.training_windows(config.towers.max_history)
    rows = _count(windows)
    steps = max(1, rows // settings.batch_size)
    say(f"{rows:,} training windows of up to {config.towers.max_history} events; {steps:,} steps an epoch.")
    intent = train_intent(data, config.intent.steps, say)
    with strategy.scope():
        model = ShopModel(data, config)
        build(model, data)
        if model.intent_head is not None:
            keep_intent(model.intent_head, intent)
        products, ratings = data.training_ratings()
        model.rating_head.count(data.catalogue.embedding[products], ratings)
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
    # A metric is already of all replicas; Keras would add up what each worker says it is.
    model.distribute_reduction_method = "first"
    keeper = KeepBest(output, settings.patience, say, info.seconds, chief)
    if patience_is_out(keeper.history, settings.patience) or len(keeper.history) >= settings.epochs:
        return model

    def explain(epoch: int, step: int, loss: float) -> UserError:
        batch = next(iter(training_batches(windows, settings, rows, epoch * steps + step)))
        kept, beyond = divmod(steps_done(output), steps)
        last = f"epoch {kept + 1}, step {beyond}" if beyond else f"the end of epoch {kept}"
        going_on = "No checkpoint was due yet: the same command with other settings begins anew."
        if kept or beyond:
            going_on = f"The checkpoint of {last} is kept: the same command with other settings goes on from it."
        where = f"{output}: the loss is {loss} at epoch {epoch + 1}, step {step + 1}"
        return not_finite(data, config, batch, where, going_on)

    guard = StopWhenNotFinite(explain)
    model.fit(
        sharded_by_row(training_batches(windows, settings, rows, steps_done(output))),
        epochs=settings.epochs,
        steps_per_epoch=steps,
        validation_data=validation_batches(data, config),
        verbose=0,
        callbacks=[
            guard,
            AveragedWeights(),
            *([RenewTexts()] if model.text is not None else []),
            Progress(steps, settings.epochs, settings.log_every, say),
            keeper,
            *([tf_keras.callbacks.TensorBoard(str(output / "logs"), update_freq=settings.log_every)] if chief else []),
            # Last, so that what it saves is what the others have seen.
            Backup(output / RESUME, settings.checkpoint_every, guard.check_weights),
        ],
    )
    return model


def _untrained(output: Path, data: ShopData, config: Config, say: Say) -> ShopModel:
    """Return a model as it is before training, kept as the best epoch: number 0."""
    say("No training examples: nothing is learnt of users; search, and what is similar, work from the products' texts.")
    model = ShopModel(data, config)
    build(model, data)
    if model.intent_head is not None:
        keep_intent(model.intent_head, train_intent(data, config.intent.steps, say))
    manager = tf.train.CheckpointManager(tf.train.Checkpoint(model=model), str(output / "best"), max_to_keep=1)
    manager.save(checkpoint_number=0)
    write_history(output, [{"epoch": 0, "seconds": 0.0, "metrics": {}}])
    return model


def _finish(output: Path, model: ShopModel, data: ShopData, info: RunInfo, say: Say) -> None:
    history = read_history(output)
    best = best_epoch(history)
    restore_best(model, output, best["epoch"])
    choose_mixture(model, data, say)
    finished = dataclasses.replace(
        info,
        finished=True,
        best_epoch=best["epoch"],
        metrics=best["metrics"],
        seconds=history[-1]["seconds"],
        **{name: getattr(model, name) for name in MIXTURE},
        bought_again=bought_again(data),
    )
    behavior = train_behavior(model, data, say)
    if behavior:
        np.savez(output / BEHAVIOR_NAME, *behavior)
    search = train_search(data, model.config, say)
    if search is not None:
        search.save(output / SEARCH_NAME)
    write_run(output, finished)
    shutil.rmtree(output / RESUME, ignore_errors=True)
    say(f"Best epoch {finished.best_epoch}: {as_text(finished.metrics)}. Wrote {output} in {finished.seconds:.0f} s.")


def training_batches(windows: tf.data.Dataset, settings: TrainingConfig, rows: int, start: int = 0) -> tf.data.Dataset:
    """Return shuffled batches of `windows` without end; another order each pass, the same for a seed.

    Args:
        windows: single rows.
        settings: batch size and seed.
        rows: how many there are.
        start: batches to leave out at the beginning; what follows is the same as without.
    """
    size = min(rows, settings.batch_size)
    first, skipped = divmod(start * size, rows)

    def one_pass(number: tf.Tensor) -> tf.data.Dataset:
        return windows.shuffle(min(rows, SHUFFLE_BUFFER), seed=settings.seed + number, reshuffle_each_iteration=False)

    endless = tf.data.Dataset.range(first, sys.maxsize).flat_map(one_pass)
    return untuned(endless.skip(skipped).batch(size, drop_remainder=True).prefetch(tf.data.AUTOTUNE))


def validation_batches(data: ShopData, config: Config) -> tf.data.Dataset | None:
    """Return batches of the validation split, or None where it has no example."""
    if not data.manifest.counts["examples"]["validation"]:
        return None
    batches = data.evaluation_batches("validation", config.towers.max_history)
    # Validation needs none of them, XLA has no strings, and tf.data's unbatch crashes on a tensor of no columns.
    unused = ("user_id", "seen_product", "usual_product", "usual_share")
    needed = batches.map(
        tf.autograph.experimental.do_not_convert(
            lambda rows: {name: value for name, value in rows.items() if name not in unused}
        )
    )
    return sharded_by_row(needed)


def steps_done(output: Path) -> int:
    """Return the steps that the last checkpoint in `output` has behind it, 0 without one."""
    path = tf.train.latest_checkpoint(output / RESUME / "chief")
    return int(tf.train.load_variable(path, "train_counter/.ATTRIBUTES/VARIABLE_VALUE")) if path else 0


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


def _start(output: Path, data: ShopData, config: Config, strategy: tf.distribute.Strategy, say: Say) -> RunInfo:
    refusal = None
    if is_chief(strategy):
        try:
            start_run(output, data, config, say)
        except UserError as error:
            refusal = error
    if any_worker(strategy, refusal is not None):
        raise refusal or UserError(f"{output}: the chief (worker 0) refused it; its own message says why.")
    history = read_history(output)
    return dataclasses.replace(read_run(output), seconds=history[-1]["seconds"] if history else 0.0)


@contextmanager
def _precision(settings: TrainingConfig) -> Iterator[None]:
    before = tf_keras.mixed_precision.global_policy()
    tf_keras.mixed_precision.set_global_policy("mixed_bfloat16" if settings.mixed_precision else "float32")
    try:
        yield
    finally:
        tf_keras.mixed_precision.set_global_policy(before)


@contextmanager
def _lost_workers(settings: TrainingConfig, output: Path) -> Iterator[None]:
    try:
        yield
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.DeadlineExceededError) as error:
        if settings.strategy != "multi_worker":
            raise
        raise UserError(
            f"{output}: another worker is lost ({type(error).__name__}); "
            "start all workers again with the same command, and they go on from the last checkpoint."
        ) from None


def _silent(line: str) -> None:
    """Take a line of progress and drop it."""


def _count(windows: tf.data.Dataset) -> int:
    return int(windows.reduce(tf.constant(0, tf.int64), lambda count, _: count + 1))
