"""A run directory: what training leaves behind, and how a trained model is read from it.

``run.json`` says what the run is and whether it is finished; ``config.yaml`` its settings; ``history.jsonl`` one line
an epoch; ``best/`` the weights of the best epoch, and of the best before it; ``resume/`` what a killed training goes on
from; ``search.npz`` and ``behavior.npz`` what is learnt apart from the epochs; ``logs/`` is for TensorBoard.
"""

import dataclasses
import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from tfrs_shop.config import Config
from tfrs_shop.errors import UserError
from tfrs_shop.settings import load_yaml, to_dict

if TYPE_CHECKING:
    from tfrs_shop.dataset import ShopData
    from tfrs_shop.model.behavior_head import BehaviorHead
    from tfrs_shop.model.shop_model import ShopModel

RUN_NAME = "run.json"
RUN_VERSION = 1
SEARCH_NAME, BEHAVIOR_NAME = "search.npz", "behavior.npz"
# What is chosen when training is done, by attribute of the model and of ``run.json``.
MIXTURE = ("likeness_weight", "transition_weight", "habit_weight")
# Settings that may change when a run goes on: the model, the order of its batches and its average stay what they are.
CHANGEABLE = (
    "epochs",
    "learning_rate",
    "warmup_steps",
    "patience",
    "clip_norm",
    "mixed_precision",
    "strategy",
    "log_every",
    "checkpoint_every",
)


@dataclasses.dataclass(frozen=True)
class RunInfo:
    """What ``run.json`` says.

    Attributes:
        data: the data directory.
        vocabularies: name to the sha256 of its file: a model is good only for the vocabularies it was trained on.
        finished: whether training came to its end.
        best_epoch: the epoch, from 1, whose weights are in ``best/``.
        metrics: validation metrics of that epoch.
        seconds: of training, all attempts together.
        transition_weight: of the transition graph in the mixture.
        likeness_weight: of likeness to the history.
        habit_weight: of habits in the mixture.
        bought_again: share of bought validation targets, of those that begin a session, that were bought before.
        vocabulary_sizes: name to its number of values, to tell of a vocabulary that is another.
    """

    data: str
    vocabularies: dict[str, str]
    finished: bool = False
    best_epoch: int = 0
    metrics: dict[str, float] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0
    transition_weight: float = 0.0
    likeness_weight: float = 0.0
    habit_weight: float = 0.0
    bought_again: float = 0.0
    vocabulary_sizes: dict[str, int] = dataclasses.field(default_factory=dict)


def start_run(output: Path, data: "ShopData", config: Config, say: Callable[[str], None]) -> None:
    """Make the run directory `output`, or make sure that training may go on in it.

    Raises:
        UserError: it is finished, of another model or other data, or no run; or it cannot be written.
    """
    if (output / RUN_NAME).exists():
        info = read_run(output)
        if info.finished:
            raise UserError(f"{output}: is a finished run; give another --output, or remove it.")
        check_vocabularies(info, data, output)
        changed = list(changed_settings(load_yaml(Config, output / "config.yaml"), config))
        for name, before, now in changed:
            if name.removeprefix("training.") not in CHANGEABLE:
                raise UserError(
                    f"{output}: was begun with other settings ({name}: {before!r}, and now {now!r}); give another "
                    f"--output. Only these may change when a run goes on: training.{', '.join(CHANGEABLE)}."
                )
        say(f"Going on with {output}.")
        if changed:
            say("Changed settings: " + ", ".join(f"{name} {before} -> {now}" for name, before, now in changed) + ".")
            write_config(output, config)
        return
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"{output}: is not empty and no run; give another --output.")
    sizes = {name: entry["size"] for name, entry in data.manifest.vocabularies.items()}
    try:
        output.mkdir(parents=True, exist_ok=True)
        write_config(output, config)
        write_run(output, RunInfo(str(data.directory.resolve()), vocabulary_hashes(data), vocabulary_sizes=sizes))
    except OSError as error:
        shutil.rmtree(output, ignore_errors=True)
        raise UserError(f"--output {output}: cannot be written ({error.strerror}).") from None


def changed_settings(before: Config, now: Config) -> Iterator[tuple[str, Any, Any]]:
    """Yield the settings that differ: the full name, what it was, what it is."""
    yield from _changed(to_dict(before), to_dict(now))


def _changed(before: dict[str, Any], now: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    for name, value in now.items():
        if isinstance(value, dict):
            yield from _changed(before[name], value, f"{prefix}{name}.")
        elif value != before[name]:
            yield f"{prefix}{name}", before[name], value


def write_run(directory: Path, info: RunInfo) -> None:
    """Write ``run.json``, whole or not at all."""
    temporary = directory / f".{RUN_NAME}.{os.getpid()}"
    temporary.write_text(json.dumps({"version": RUN_VERSION, **dataclasses.asdict(info)}, indent=2) + "\n")
    temporary.replace(directory / RUN_NAME)


def read_run(directory: str | Path) -> RunInfo:
    """Read ``run.json``.

    Raises:
        UserError: `directory` is no run, or of another version.
    """
    path = Path(directory) / RUN_NAME
    if not path.exists():
        raise UserError(f"{directory}: is no run directory; make one with 'tfrs-shop train --output {directory}'.")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        version = data.pop("version")
        if version != RUN_VERSION:
            raise UserError(
                f"{path}: version {version!r}, but this tfrs_shop reads version {RUN_VERSION}; train again."
            )
        return RunInfo(**data)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: is broken ({error}); train again.") from None


def vocabulary_hashes(data: "ShopData") -> dict[str, str]:
    """Return vocabulary name to the sha256 of its file."""
    return {
        name: hashlib.sha256((data.directory / entry["file"]).read_bytes()).hexdigest()
        for name, entry in data.manifest.vocabularies.items()
    }


def check_vocabularies(info: RunInfo, data: "ShopData", run: str | Path) -> None:
    """Raise ``UserError`` naming the first vocabulary of `data` that is not the one the run was trained on.

    It says which features read it, and how the two differ: in size, and from which value on, where the vocabulary of
    the training can still be read.
    """
    found = vocabulary_hashes(data)
    for name in sorted({*info.vocabularies, *found}):
        if info.vocabularies.get(name) != found.get(name):
            specs = [feature for features in data.manifest.features.values() for feature in features]
            readers = sorted({feature.name for feature in specs if feature.vocabulary == name})
            raise UserError(
                f"{run}: was trained on another vocabulary of '{name}' (feature {' and '.join(readers) or name}) than "
                f"{data.directory} has: {_difference(info, data, name)}. Train a new run on this data, or give the "
                "data it was trained on (--data)."
            )


def _difference(info: RunInfo, data: "ShopData", name: str) -> str:
    if name not in data.values:
        return "this data has none of that name"
    if name not in info.vocabularies:
        return "the run has none of that name"
    now, before = data.values[name], info.vocabulary_sizes.get(name, len(data.values[name]))
    sizes = "" if len(now) == before else f"{before:,} values then, {len(now):,} now"
    path = Path(info.data) / "vocabularies" / f"{name}.txt"
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != info.vocabularies[name]:
        return sizes or f"{before:,} values in both, but not the same ones or in another order"
    then = path.read_bytes().splitlines()
    place = next((i for i, (old, new) in enumerate(zip(then, now, strict=False)) if old != new), min(before, len(now)))
    old, new = (repr(values[place].decode()) if place < len(values) else "none" for values in (then, now))
    return f"{sizes}{', ' if sizes else ''}value {place + 1} was {old} and is {new}"


def write_config(directory: Path, config: Config) -> None:
    """Write the settings of a run as ``config.yaml``."""
    (directory / "config.yaml").write_text(yaml.safe_dump(to_dict(config), sort_keys=False))


def load_run(directory: str | Path, data_directory: str | Path | None = None) -> "tuple[ShopModel, ShopData, RunInfo]":
    """Return the trained model of a finished run, and its data.

    Args:
        directory: the run.
        data_directory: where its data is now, if it was moved.

    Raises:
        UserError: the run is not finished, or its data is missing or not the same.
    """
    from tfrs_shop.dataset import open_data
    from tfrs_shop.model.search_tower import SearchWeights
    from tfrs_shop.model.shop_model import ShopModel

    directory = Path(directory)
    info = read_run(directory)
    if not info.finished:
        raise UserError(f"{directory}: training did not finish; go on with 'tfrs-shop train' and the same --output.")
    data = open_data(data_directory or info.data)
    check_vocabularies(info, data, directory)
    model = ShopModel(data, load_yaml(Config, directory / "config.yaml"))
    build(model, data)
    restore_best(model, directory, info.best_epoch)
    if model.behavior_head is not None:
        restore_behavior(model.behavior_head, directory / BEHAVIOR_NAME)
    for name in MIXTURE:
        setattr(model, name, getattr(info, name))
    model.search = SearchWeights.load(directory / SEARCH_NAME)
    return model, data, info


def restore_best(model: "ShopModel", directory: Path, epoch: int) -> None:
    """Give `model` the weights of the epoch `epoch`, the best, of the run `directory`.

    Raises:
        UserError: there are none, or they are of another model.
    """
    import tensorflow as tf

    path = directory / "best" / f"ckpt-{epoch}"
    if not path.with_suffix(".index").exists():
        raise UserError(f"{path}: the weights of the best epoch are missing; train again.")
    try:
        tf.train.Checkpoint(model=model).restore(str(path)).assert_existing_objects_matched().expect_partial()
    except (AssertionError, ValueError, tf.errors.OpError) as error:
        reason = str(error).split("\n", 1)[0]
        raise UserError(f"{path}: does not fit this model ({reason}); train again.") from None


def restore_behavior(head: "BehaviorHead", path: Path) -> None:
    """Give `head` the weights in the file `path` of a run; an untrained run has none.

    Raises:
        UserError: they are of another model, or the file is damaged.
    """
    if not path.exists():
        return
    try:
        with np.load(path) as found:
            head.set_weights([found[name] for name in found.files])
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: does not fit this model ({error}); train again.") from None


def build(model: "ShopModel", data: "ShopData") -> None:
    """Make the model's weights, by asking it about one row."""
    import tensorflow as tf

    row = zero_row(model, data)
    model.compute_loss(row, training=False)
    if model.behavior_head is not None:
        model.behavior(row, tf.zeros([1, model.config.towers.max_history, model.config.towers.width]))
    # Where it is not trained it still is a part of the bundle.
    pair = tf.zeros([1, model.config.towers.width])
    model.ranking_head(pair, pair)
    # Keras' own flag: BackupAndRestore restores only what is built.
    model.built = True


def zero_row(model: "ShopModel", data: "ShopData") -> dict[str, Any]:
    """Return a batch of one made-up row, of the shapes that ``ShopData.training_windows`` gives."""
    import tensorflow as tf

    length = model.config.towers.max_history
    ones = tf.ones([1, length], tf.int32)
    # A shop without events has no event type.
    kinds = min(1, len(data.values["event_type"])) * ones
    return {
        "history_product": ones,
        "history_event_type": kinds,
        "history_query": 0 * ones,
        "history_timestamp": -tf.ones([1, length], tf.int64),
        "history_rating": tf.ones([1, length]),
        "history_purchase_follows": -tf.ones([1, length], tf.int64),
        "label": ones,
        "label_event_type": kinds,
        "label_rating": tf.ones([1, length]),
        "profile": tf.zeros([1, max(1, len(data.profile))], tf.int32),
    }
