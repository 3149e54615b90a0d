"""What the tests of the model share: small settings and a few training rows."""

import tensorflow as tf

from tfrs_shop.config import TowerConfig

SMALL = TowerConfig(width=16, layers=2, heads=2, max_history=6, dropout=0.0, text_dropout=0.0, id_dropout=0.0)


def some_rows(data, length: int = 6, count: int = 8) -> dict[str, tf.Tensor]:
    return next(iter(data.training_windows(length).batch(count)))
