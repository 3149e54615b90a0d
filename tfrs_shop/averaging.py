"""Averaged weights: the optimizer's moving average in the place of the weights, for as long as they are looked at."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import tensorflow as tf
import tf_keras


class AveragedWeights(tf_keras.callbacks.Callback):
    """Validates the moving average of the weights (Polyak and Juditsky, 1992) instead of the last step's.

    The average is the optimizer's own (``use_ema=True``), so it is part of its checkpoint. Without one nothing happens.
    """

    def on_test_begin(self, logs: dict[str, float] | None = None) -> None:
        """Put the average in place."""
        swap(self.model.optimizer, self.model.trainable_variables)

    def on_test_end(self, logs: dict[str, float] | None = None) -> None:
        """Put the weights back."""
        swap(self.model.optimizer, self.model.trainable_variables)


@contextmanager
def averaged(optimizer: tf_keras.optimizers.Optimizer, weights: Sequence[tf.Variable]) -> Iterator[None]:
    """Put their average in the place of `weights`, which `optimizer` trains, while the block runs."""
    swap(optimizer, weights)
    try:
        yield
    finally:
        swap(optimizer, weights)


def swap(optimizer: tf_keras.optimizers.Optimizer, weights: Sequence[tf.Variable]) -> None:
    """Exchange `weights` with their moving average, where `optimizer` keeps one."""
    if not getattr(optimizer, "use_ema", False) or not hasattr(optimizer, "_model_variables_moving_average"):
        return
    # Keras has no public name for the averages beside one that overwrites the weights for good.
    averages, places = optimizer._model_variables_moving_average, optimizer._index_dict
    for variable in weights:
        # A weight that no loss has reached yet has no average.
        place = places.get(optimizer._var_key(variable))
        if place is not None:
            kept = variable.read_value()
            variable.assign(averages[place])
            averages[place].assign(kept)
