"""What the tests of the model share: small settings and a few training rows."""

import dataclasses

import tensorflow as tf

from tfrs_shop.config import BehaviorConfig, Config, IntentConfig, SearchConfig, TowerConfig

SMALL = TowerConfig(width=16, layers=2, heads=2, max_history=6, dropout=0.0, text_dropout=0.0, id_dropout=0.0)


def towers_only(config: Config) -> Config:
    """Return `config` without the passes of training that come before and after the towers', which take a minute."""
    return dataclasses.replace(
        config, behavior=BehaviorConfig(steps=0), intent=IntentConfig(steps=0), search=SearchConfig(steps=0)
    )


def some_rows(data, length: int = 6, count: int = 8) -> dict[str, tf.Tensor]:
    return next(iter(data.training_windows(length).batch(count)))
