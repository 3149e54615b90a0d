"""The source inside a bundle: what it was made from, kept so that it can be made again for another catalogue.

``assets.extra/source/data`` is a data directory without examples: products with their text vectors, users, queries,
transition graph, vocabularies and statistics. ``assets.extra/source/model`` holds the settings, the weights, and
which products the id embedding knows.
"""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfrs_shop.config import Config
from tfrs_shop.dataset import ShopData, open_data
from tfrs_shop.errors import UserError
from tfrs_shop.manifest import MANIFEST_NAME, SPLITS
from tfrs_shop.model.search_tower import SearchWeights
from tfrs_shop.model.shop_model import ShopModel
from tfrs_shop.run import MIXTURE, SEARCH_NAME, build, write_config
from tfrs_shop.settings import load_yaml

SOURCE = "source"
NOT_KEPT = (*SPLITS, "rejected")


def write_source(extra: Path, model: ShopModel, data: ShopData) -> None:
    """Write the source of `model` and `data` into ``assets.extra``."""
    kept = {folder: files for folder, files in data.manifest.files.items() if folder not in NOT_KEPT}
    for folder, files in kept.items():
        (extra / SOURCE / "data" / folder).mkdir(parents=True)
        for entry in files:
            shutil.copyfile(data.directory / folder / entry["name"], extra / SOURCE / "data" / folder / entry["name"])
    counts = {**data.manifest.counts, "examples": dict.fromkeys(SPLITS, 0)}
    manifest = dataclasses.replace(data.manifest, files=kept, counts=counts)
    (extra / SOURCE / "data" / MANIFEST_NAME).write_text(manifest.to_json(), encoding="utf-8")

    directory = extra / SOURCE / "model"
    directory.mkdir()
    write_config(directory, model.config)
    if model.search is not None:
        model.search.save(directory / SEARCH_NAME)
    _checkpoint(model).write(str(directory / "weights"))
    catalogue = data.catalogue
    ids = np.full(catalogue.embeddings + 1, b"", object)
    ids[catalogue.embedding] = catalogue.product_id
    about = {
        **{name: getattr(model, name) for name in MIXTURE},
        "text_mean": catalogue.text_mean,
        # By row of the id embedding, from 1; "" for a product that is no longer in the catalogue.
        "product_ids": [value.decode("utf-8") for value in ids[1:]],
    }
    (directory / "model.json").write_text(json.dumps(about) + "\n", encoding="utf-8")


def data_directory(bundle: Path) -> Path:
    """Return the data directory inside `bundle`.

    Raises:
        UserError: the bundle carries no source.
    """
    path = bundle / "assets.extra" / SOURCE / "data"
    if not path.is_dir():
        raise UserError(f"--bundle {bundle}: was exported by an older tfrs-shop, without its source; export it again.")
    return path


def load_source(bundle: Path, directory: Path) -> tuple[ShopModel, ShopData]:
    """Return the model of `bundle`, and the data `directory` as that model sees it.

    Products that the model was not trained on have no id embedding; brands and categories that it does not know are
    unknown.

    Raises:
        UserError: the source inside the bundle is damaged, or does not fit this version of the code.
    """
    source = bundle / "assets.extra" / SOURCE / "model"
    data = open_data(directory)
    try:
        about = json.loads((source / "model.json").read_text(encoding="utf-8"))
        rows = {value.encode("utf-8"): row for row, value in enumerate(about["product_ids"], 1) if value}
        catalogue = dataclasses.replace(
            data.catalogue,
            embedding=np.array([rows.get(value, 0) for value in data.catalogue.product_id], np.int32),
            embeddings=len(about["product_ids"]),
            text_mean=about["text_mean"],
        )
        data = dataclasses.replace(data, catalogue=catalogue)
        model = ShopModel(data, load_yaml(Config, source / "config.yaml"))
        for name in MIXTURE:
            # A bundle of an older version does not have all.
            setattr(model, name, about.get(name, 0.0))
        model.search = SearchWeights.load(source / SEARCH_NAME)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{source}: is damaged ({error}); export the bundle again.") from None
    build(model, data)
    try:
        _checkpoint(model).read(str(source / "weights")).assert_existing_objects_matched()
    except (AssertionError, ValueError, tf.errors.OpError) as error:
        reason = str(error).split("\n", 1)[0]
        raise UserError(
            f"{source / 'weights'}: does not fit this version of tfrs-shop ({reason}); train and export again."
        ) from None
    if model.text is not None:
        model.text.renew()
    return model, data


def _checkpoint(model: ShopModel) -> tf.train.Checkpoint:
    names = ("product_tower", "query_tower", "ranking_head", "rating_head", "repeats", "behavior_head", "intent_head")
    parts = {name: part for name in names if (part := getattr(model, name, None)) is not None}
    if model.text is not None:
        # Its vectors are those of one catalogue, and are made again for another.
        parts["text"] = tf.train.Checkpoint(encoder=model.text.encoder)
    return tf.train.Checkpoint(**parts)
