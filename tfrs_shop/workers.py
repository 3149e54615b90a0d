"""Training on several devices or machines (``tf.distribute``): who takes part, and who may write."""

import json
import os

import tensorflow as tf

from tfrs_shop.config import TrainingConfig
from tfrs_shop.errors import UserError


def make_strategy(settings: TrainingConfig) -> tf.distribute.Strategy:
    """Return the strategy that `settings` name.

    ``multi_worker`` waits here for all workers, and must come before anything else that TensorFlow does.

    Raises:
        UserError: TF_CONFIG is needed and not usable, or the replicas cannot share a batch equally.
    """
    if settings.strategy == "multi_worker":
        _check_tf_config()
        strategy: tf.distribute.Strategy = tf.distribute.MultiWorkerMirroredStrategy()
    elif settings.strategy == "mirrored":
        strategy = tf.distribute.MirroredStrategy()
    else:
        strategy = tf.distribute.get_strategy()
    replicas = strategy.num_replicas_in_sync
    if settings.batch_size % replicas:
        raise UserError(
            f"training: batch_size {settings.batch_size} cannot be shared by {replicas} replicas; "
            f"make it a multiple of {replicas}."
        )
    return strategy


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Return whether this process is the one that writes the run directory."""
    return bool(strategy.extended.should_checkpoint)


def any_worker(strategy: tf.distribute.Strategy, here: bool) -> bool:
    """Return whether `here` is true on any worker, after all of them have come to this place."""

    @tf.function(autograph=False)
    def total() -> tf.Tensor:
        return strategy.reduce("SUM", strategy.run(lambda: tf.constant(float(here))), axis=None)

    return bool(total() > 0)


def sharded_by_row(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Return `dataset`, of which each worker is to read all and take its share of every batch.

    Shares by file would be of unequal size, and another order than on one device.
    """
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return dataset.with_options(options)


def _check_tf_config() -> None:
    text = os.environ.get("TF_CONFIG", "")
    wanted = '{"cluster": {"worker": ["host1:port", "host2:port"]}, "task": {"type": "worker", "index": 0}}'
    try:
        found = json.loads(text)
        workers = found["cluster"]["worker"]
        if found["task"]["type"] == "worker" and 0 <= found["task"]["index"] < len(workers):
            return
    except (ValueError, KeyError, TypeError):
        pass
    raise UserError(
        f"training: strategy multi_worker needs the environment variable TF_CONFIG on each worker, such as {wanted}, "
        f"and found {text!r}; see docs/training.md."
    )
