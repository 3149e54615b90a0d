"""A loss that is no number any more: stop at once, and say which batch did it and why."""

import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tf_keras

from tfrs_shop.config import Config
from tfrs_shop.dataset import ShopData
from tfrs_shop.errors import UserError

SHOWN_IDS = 5


class StopWhenNotFinite(tf_keras.callbacks.Callback):
    """Raises what `explain` makes of the epoch, the step (both from 0) and the loss, once the loss is NaN or infinite.

    Put before the callback that saves the state of training, so that no such state is saved.
    """

    def __init__(self, explain: Callable[[int, int, float], UserError]):
        super().__init__()
        self.explain = explain

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Remember the epoch."""
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Look at the mean loss of the epoch, which one such batch spoils."""
        loss = (logs or {}).get("loss", 0.0)
        if not math.isfinite(loss):
            raise self.explain(self.epoch, batch, loss)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Look at the weights before another callback keeps them."""
        self.check_weights(epoch, self.params["steps"] - 1)

    def check_weights(self, epoch: int, batch: int) -> None:
        """Raise if a weight is not finite: the loss of the next batch would not be."""
        sums = [tf.reduce_sum(tf.cast(weight, tf.float32)) for weight in self.model.trainable_variables]
        if not math.isfinite(float(tf.add_n(sums))):
            raise self.explain(epoch, batch, math.nan)


def not_finite(data: ShopData, config: Config, rows: dict[str, tf.Tensor], where: str, going_on: str) -> UserError:
    """Return the error that tells of a loss that is not finite.

    Args:
        data: what is trained on.
        config: the settings.
        rows: the batch, as of ``ShopData.training_windows``.
        where: the run, the loss, the epoch and the step, as the beginning of a sentence.
        going_on: a sentence that says what is kept.
    """
    found = np.unique(rows["label"].numpy())
    ids = [_text(data.values["product_id"][place - 1]) for place in found[found > 0].tolist()]
    shown = ", ".join(ids[:SHOWN_IDS]) + (", …" if len(ids) > SHOWN_IDS else "")
    batch = f"the batch asked for {len(ids):,} products ({shown})"
    return UserError(f"{where}; {batch}. Likely cause: {likely_cause(data, config, rows)} {going_on}")


def likely_cause(data: ShopData, config: Config, rows: dict[str, tf.Tensor]) -> str:
    """Return one sentence: the first feature that holds a number that is not finite; else the settings."""
    again = "mend it and run 'tfrs-shop preprocess' again into a new run."
    for name, kind, vectors in (
        ("product_id", "product", data.catalogue.text_vector),
        ("query", "query", data.query_vectors),
    ):
        bad = np.flatnonzero(~np.isfinite(vectors).all(1))
        if len(bad):
            value = _text(data.values[name][bad[0] - 1])
            return f"the feature text_vector of {kind} {value!r} is not finite ({len(bad):,} such); {again}"
    # A rating that is missing is NaN, so only infinity tells.
    infinite = np.isinf(rows["label_rating"].numpy())
    if infinite.any():
        value = _text(data.values["product_id"][int(rows["label"].numpy()[infinite][0]) - 1])
        return f"the feature target_rating of an event with product {value!r} is infinite; {again}"
    if not math.isfinite(data.manifest.statistics.get("event_rating", {}).get("mean", 0.0)):
        return f"the mean of the feature target_rating is not finite; {again}"
    return (
        f"training.learning_rate {config.training.learning_rate:g} is too high, as the data is finite; "
        "lower it, or raise training.warmup_steps."
    )


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")
