"""bfloat16 and XLA by configuration: each trains, validates and exports like float32."""

import dataclasses
import math

import pytest
import tf_keras
from conftest import quiet
from model_support import towers_only

from tfrs_shop.callbacks import read_history
from tfrs_shop.export import Serving, export
from tfrs_shop.run import load_run
from tfrs_shop.training import train


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings", [{"mixed_precision": True}, {"xla": True}, {"mixed_precision": True, "xla": True}], ids=str
)
def test_it_trains_like_float32_and_is_exported(shop, small_config, run, tmp_path, settings: dict, request) -> None:
    config = dataclasses.replace(small_config, training=dataclasses.replace(small_config.training, **settings))
    if "xla" in settings:
        # What the other heads and the questions make of bfloat16 is told by the run and the export without XLA.
        request.getfixturevalue("few_questions")
        config = towers_only(config)
    info = train(shop.data, tmp_path / "run", config, quiet)
    for ours, theirs in zip(read_history(tmp_path / "run"), read_history(run), strict=True):
        assert math.isfinite(ours["metrics"]["loss"])
        assert ours["metrics"]["loss"] == pytest.approx(theirs["metrics"]["loss"], rel=0.05)
    assert info.metrics["val_recall@10"] > 0.3
    assert tf_keras.mixed_precision.global_policy().name == "float32"
    model, data, _ = load_run(tmp_path / "run")
    assert export(model, data, tmp_path / "shop", "brute_force", Serving(5, "bought"), quiet).is_dir()
