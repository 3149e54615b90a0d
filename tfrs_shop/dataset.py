"""Reading a data directory: the catalogue, and examples as batches of dense tensors.

Records are parsed a batch at a time, ids looked up once in static tables, and the result cached, so that from the
second epoch on nothing but shuffling and batching is left to do.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import tfrs_shop  # noqa: F401  (before TensorFlow: it asks for Keras 2)

import tensorflow as tf  # isort: skip

from tfrs_shop.catalogue import Catalogue, bucket_edges, build_catalogue
from tfrs_shop.edges import Edges, build_edges
from tfrs_shop.errors import UserError
from tfrs_shop.features import Feature, parsing_spec
from tfrs_shop.habits import prior, usual
from tfrs_shop.lexicon import Lexicon, build_lexicon
from tfrs_shop.manifest import Manifest, load_manifest
from tfrs_shop.schema import is_target_type
from tfrs_shop.ties import shuffled_ties

PARSE_BATCH = 1024


@dataclasses.dataclass(frozen=True)
class ShopData:
    """A data directory, opened.

    Attributes:
        directory: where it is.
        manifest: what it says.
        catalogue: its products.
        values: vocabulary name to its values; index i + 1 is the i-th value, index 0 "none or unknown".
        query_vectors: ``[queries + 1, text width]`` float32, the text vectors of search queries, row 0 zeros.
    """

    directory: Path
    manifest: Manifest
    catalogue: Catalogue
    values: dict[str, list[bytes]]
    query_vectors: np.ndarray

    @functools.cached_property
    def transitions(self) -> Edges:
        """The transition graph of the training events; without edges where the directory has none."""
        return build_edges(self._edges_of("transitions"), self._product_places, self.catalogue.size)

    @functools.cached_property
    def complements(self) -> Edges:
        """What was bought together in the training events; without edges where the directory has none."""
        edges = self._edges_of("complements")
        return build_edges(edges, self._product_places, self.catalogue.size, both_ends=True)

    @functools.cached_property
    def lexicon(self) -> Lexicon | None:
        """The inverted index of the products' words; None where the directory was written without one."""
        if "lexicon" not in self.manifest.files:
            return None
        indices = {value: place for place, value in enumerate(self.values["product_id"], 1)}
        return build_lexicon(_rows(self.directory, self.manifest, "lexicon"), indices)

    @functools.cached_property
    def tables(self) -> dict[str, tf.lookup.StaticHashTable]:
        """Vocabulary name to its lookup table; they live as long as the data that uses them."""
        return {name: lookup_table(values) for name, values in self.values.items()}

    def training_windows(self, length: int) -> tf.data.Dataset:
        """Return single rows of the training split, ids looked up, histories left-padded to `length`, cached.

        A history longer than `length` becomes several rows; each position has a label, the product that followed, if
        the event that followed can be a target at all (a return cannot).

        Returns:
            A dataset of dicts: ``history_product``, ``history_event_type``, ``history_query``, ``label`` and
            ``label_event_type`` are ``[length]`` int32, 0 padded; ``history_rating`` and ``label_rating`` are
            ``[length]`` float32, NaN where there is none; ``history_timestamp`` is ``[length]`` int64 milliseconds, -1
            where it is not known; ``history_purchase_follows`` is ``[length]`` int64, whether a purchase comes after
            the event in its session, -1 where it is not known; ``profile`` is ``[attributes]`` int32 (one column of
            zeros where users have none).
        """
        tables = self.tables  # made here, and not inside the traced function

        @tf.autograph.experimental.do_not_convert
        def rows(batch: dict[str, Any]) -> dict[str, tf.Tensor]:
            return _training_rows(batch, tables, self.profile_codes(batch), length, self.target_types)

        parsed = read_records(self.directory, self.manifest, "train")
        return parsed.map(rows, num_parallel_calls=tf.data.AUTOTUNE).unbatch().cache()

    def evaluation_batches(
        self, split: str, length: int, batch_size: int = 256, shuffle_ties: bool = False
    ) -> tf.data.Dataset:
        """Return batches of the examples of `split`: what was known before the target, and the target.

        With `shuffle_ties` the target is drawn among the events of its clock time, and ``tied`` and ``drawn_back`` of
        ``tfrs_shop.ties.shuffled_ties`` are added.

        Returns:
            A dataset of dicts: ``history_product``, ``history_event_type`` and ``history_query`` are
            ``[batch, length]`` int32, the newest events, left-padded with 0; ``history_timestamp`` is
            ``[batch, length]`` int64 milliseconds, -1 where it is not known; ``history_rating`` is
            ``[batch, length]`` float32, NaN where there is none; ``history_purchase_follows`` is as of
            `training_windows`, ``[batch, length]``; ``seen_product`` is
            ``[batch, seen]`` int32, all products of the user's events, right-padded with 0; ``usual_product`` int32 and
            ``usual_share`` float32, ``[batch, some]``, are as of ``tfrs_shop.habits.Usual``; ``label``,
            ``label_event_type`` ``[batch]`` int32 and ``label_rating`` ``[batch]`` float32 are of the target;
            ``profile`` is ``[batch, attributes]`` int32; ``user_id`` ``[batch]`` string.
        """
        tables, target_types, habit_prior = self.tables, self.target_types, prior(self.catalogue.train_count)

        @tf.autograph.experimental.do_not_convert
        def rows(batch: dict[str, Any]) -> dict[str, tf.Tensor]:
            if not shuffle_ties:
                return _evaluation_rows(batch, tables, self.profile_codes(batch), length, habit_prior)
            kinds = tables["event_type"].lookup(batch["history_event_type"])
            batch = shuffled_ties(batch, tf.gather(tf.constant(target_types), kinds))
            found = _evaluation_rows(batch, tables, self.profile_codes(batch), length, habit_prior)
            # A drawn target was an event before the target, and may be among the habits.
            share = tf.where(batch["tied"][:, None], 0.0, found["usual_share"])
            return {**found, "usual_share": share, "tied": batch["tied"], "drawn_back": batch["drawn_back"]}

        parsed = read_records(self.directory, self.manifest, split, batch_size)
        return parsed.map(rows, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)

    def training_ratings(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the products ``[events]`` int32 and the ratings ``[events]`` float32 of the rated training events."""
        found = [(np.zeros(0, np.int32), np.zeros(0, np.float32))]
        for batch in read_records(self.directory, self.manifest, "train"):
            history, target = _looked_up_history(batch, self.tables), _looked_up_target(batch, self.tables)
            products = np.concatenate([history["history_product"].flat_values, target["label"]])
            ratings = np.concatenate([batch["history_rating"].flat_values, target["label_rating"]])
            known = ~np.isnan(ratings)
            found.append((products[known], ratings[known]))
        columns = list(zip(*found, strict=True))
        return np.concatenate(columns[0]), np.concatenate(columns[1])

    @functools.cached_property
    def target_types(self) -> np.ndarray:
        """``[event types + 1]`` bool: whether an event of this type can be a target; padding cannot."""
        chosen = self.manifest.source.get("target_events", [])
        return np.array([False, *(is_target_type(value.decode(), chosen) for value in self.values["event_type"])])

    @functools.cached_property
    def profile(self) -> list[Feature]:
        """The user attributes: texts that have a vocabulary, and numbers."""
        return [feature for feature in self.manifest.features["examples"] if feature.name.startswith("profile_")]

    @functools.cached_property
    def profile_sizes(self) -> list[int]:
        """The number of codes of each user attribute, 0 for "unknown" included."""
        return [
            len(self.values[feature.vocabulary]) + 1 if feature.vocabulary else len(self._buckets(feature)) + 2
            for feature in self.profile
        ]

    def profile_codes(self, columns: Mapping[str, Any]) -> tf.Tensor:
        """Return ``[users, attributes]`` int32, 0 where an attribute is missing; one column of 0 where there is none.

        Args:
            columns: ``user_id`` and the attributes, by the names of their features, ``[users]`` each.
        """
        codes = []
        for feature in self.profile:
            column = columns[feature.name]
            if feature.vocabulary:
                codes.append(tf.cast(self.tables[feature.vocabulary].lookup(tf.convert_to_tensor(column)), tf.int32))
            else:
                number = tf.cast(column, tf.float64)
                bucket = 1 + tf.searchsorted(tf.constant(self._buckets(feature), tf.float64), number)
                codes.append(tf.where(tf.math.is_nan(number), 0, bucket))
        # tf.data's unbatch crashes on a tensor of no columns.
        return tf.stack(codes or [tf.zeros([tf.shape(columns["user_id"])[0]], tf.int32)], 1)

    @functools.cached_property
    def _product_places(self) -> dict[bytes, int]:
        return {value: place for place, value in enumerate(self.values["product_id"], 1)}

    def _edges_of(self, folder: str) -> list[dict[str, Any]]:
        # A directory or a bundle of an older version has no such folder, or does not say what is in it.
        known = folder in self.manifest.files and folder in self.manifest.features
        return list(_rows(self.directory, self.manifest, folder)) if known else []

    def _buckets(self, feature: Feature) -> np.ndarray:
        return bucket_edges(self.manifest, feature.name)

    def users(self) -> dict[str, Any]:
        """Return all of ``users/``: feature name to a list of values, sorted by user id."""
        columns: dict[str, list[Any]] = {}
        for batch in read_records(self.directory, self.manifest, "users").as_numpy_iterator():
            for name, value in batch.items():
                columns.setdefault(name, []).extend(value.to_list() if hasattr(value, "to_list") else list(value))
        order = sorted(range(len(columns.get("user_id", []))), key=columns["user_id"].__getitem__) if columns else []
        return {name: [column[place] for place in order] for name, column in columns.items()}


def open_data(directory: str | Path) -> ShopData:
    """Open the data directory `directory`.

    Raises:
        UserError: it is missing, unfinished, of another version, or damaged.
    """
    directory = Path(directory)
    manifest = load_manifest(directory)
    values = {name: _lines(directory / entry["file"], entry["size"]) for name, entry in manifest.vocabularies.items()}
    indices = {name: {value: i for i, value in enumerate(found, 1)} for name, found in values.items()}
    products = list(_rows(directory, manifest, "products"))
    if not products:
        raise UserError(f"{directory}: holds no products.")
    width = manifest.text.get("width", 0)
    query_vectors = np.zeros((len(values["query"]) + 1, width), np.float32)
    if width:
        for row in _rows(directory, manifest, "queries"):
            query_vectors[indices["query"].get(row["query"], 0)] = row["text_vector"]
        query_vectors[0] = 0
    return ShopData(directory, manifest, build_catalogue(products, manifest, indices), values, query_vectors)


def read_records(directory: Path, manifest: Manifest, folder: str, batch_size: int = PARSE_BATCH) -> tf.data.Dataset:
    """Return the records of `folder` in parsed batches: dense scalars, ragged lists; in a fixed order."""
    kind = "examples" if folder in ("train", "validation", "test") else folder
    spec = parsing_spec(manifest.features[kind])
    paths = [str(directory / folder / entry["name"]) for entry in manifest.files[folder]]
    records = tf.data.Dataset.from_tensor_slices(paths).interleave(
        tf.data.TFRecordDataset, cycle_length=4, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    )
    parse = records.batch(batch_size).map(
        tf.autograph.experimental.do_not_convert(lambda serialized: tf.io.parse_example(serialized, spec)),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    return untuned(parse.prefetch(tf.data.AUTOTUNE))


def untuned(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Return `dataset` without the thread that tunes its parallelism and buffers, which are right as they begin.

    When a pass ends TensorFlow 2.20 waits for that thread, which sleeps 10 ms, 20, 40 and so on up to a minute: a pass
    of six seconds took ten.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def lookup_table(values: list[bytes]) -> tf.lookup.StaticHashTable:
    """Return a table from value to its index, which starts at 1; 0 for what it does not hold."""
    # TensorFlow refuses an empty table; "" is never a value.
    keys = tf.constant([b"", *values], tf.string)
    indices = tf.range(len(values) + 1, dtype=tf.int64)
    return tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, indices), 0)


def left_padded(ragged: tf.RaggedTensor, length: Any, default: Any) -> tf.Tensor:
    """Return the last `length` values of each row as ``[batch, length]``, padded with `default` on the left."""
    # Ragged tensors' own slices are many more operations: to trace, to load, and to run in each request.
    first, last = ragged.row_splits[:-1, None], ragged.row_splits[1:, None]
    places = last - tf.range(tf.cast(length, last.dtype), 0, -1)
    values = tf.concat([tf.constant([default], ragged.dtype), ragged.values], 0)
    return tf.gather(values, tf.where(places >= first, places + 1, 0))


def _training_rows(
    batch: dict[str, Any],
    tables: dict[str, tf.lookup.StaticHashTable],
    profile: tf.Tensor,
    length: int,
    target_types: np.ndarray,
) -> dict[str, tf.Tensor]:
    history = _looked_up_history(batch, tables)
    target = _looked_up_target(batch, tables)
    # A whole number of windows: the newest is full, the oldest is padded.
    longest = tf.cast(history["history_product"].bounding_shape()[1], tf.int32)
    windows = tf.maximum((longest + length - 1) // length, 1)
    padded = {name: left_padded(values, windows * length, 0) for name, values in history.items()}
    times = left_padded(batch["history_timestamp"], windows * length, -1)
    ratings = left_padded(batch["history_rating"], windows * length, float("nan"))

    def next_of(values: tf.Tensor, last: tf.Tensor) -> tf.Tensor:
        return tf.concat([values[:, 1:], last[:, None]], 1)

    rows = {
        **padded,
        "history_timestamp": times,
        "history_rating": ratings,
        "history_purchase_follows": _purchase_follows(batch, windows * length),
        "label": next_of(padded["history_product"], target["label"]),
        "label_event_type": next_of(padded["history_event_type"], target["label_event_type"]),
        "label_rating": next_of(ratings, target["label_rating"]),
    }
    rows = {name: tf.reshape(value, [-1, length]) for name, value in rows.items()}
    rows["profile"] = tf.repeat(profile, windows, axis=0)
    # A label counts only where an event came before it, and where it is of an event that can be a target.
    counts = (rows["history_event_type"] > 0) & tf.gather(tf.constant(target_types), rows["label_event_type"])
    rows["label"] = tf.where(counts, rows["label"], 0)
    keep = tf.reduce_any(rows["label"] > 0, 1)
    return {name: tf.boolean_mask(value, keep) for name, value in rows.items()}


def _evaluation_rows(
    batch: dict[str, Any],
    tables: dict[str, tf.lookup.StaticHashTable],
    profile: tf.Tensor,
    length: int,
    habit_prior: np.ndarray,
) -> dict[str, tf.Tensor]:
    history = _looked_up_history(batch, tables)
    older = tf.cast(tables["product_id"].lookup(batch["older_product_id"]), tf.int32)
    return {
        **{name: left_padded(values, length, 0) for name, values in history.items()},
        "history_timestamp": left_padded(batch["history_timestamp"], length, -1),
        "history_rating": left_padded(batch["history_rating"], length, float("nan")),
        "history_purchase_follows": _purchase_follows(batch, length),
        **_looked_up_target(batch, tables),
        "seen_product": tf.concat([history["history_product"], older], 1).to_tensor(0),
        **_usual(batch, tables, habit_prior),
        "profile": profile,
        "user_id": batch["user_id"],
    }


def _usual(batch: dict[str, Any], tables: dict[str, Any], habit_prior: np.ndarray) -> dict[str, tf.Tensor]:
    """Return what users are used to; examples hold it where their target begins a session."""
    if "usual_product_id" not in batch:  # of an older data directory
        none = tf.zeros([tf.shape(batch["user_id"])[0], 0])
        return {"usual_product": tf.cast(none, tf.int32), "usual_share": none}
    products = tables["product_id"].lookup(batch["usual_product_id"].to_tensor(""))
    found = usual(tf.cast(products, tf.int32), batch["usual_weight"].to_tensor(0.0), tf.constant(habit_prior))
    return {"usual_product": found.product, "usual_share": found.share}


def _purchase_follows(batch: dict[str, Any], length: Any) -> tf.Tensor:
    # An older data directory does not have it.
    follows = batch.get("history_purchase_follows", -tf.ones_like(batch["history_timestamp"]))
    return left_padded(follows, length, -1)


def _looked_up_history(batch: dict[str, Any], tables: dict[str, Any]) -> dict[str, tf.RaggedTensor]:
    return {
        "history_product": tf.cast(tables["product_id"].lookup(batch["history_product_id"]), tf.int32),
        "history_event_type": tf.cast(tables["event_type"].lookup(batch["history_event_type"]), tf.int32),
        "history_query": tf.cast(tables["query"].lookup(batch["history_query"]), tf.int32),
    }


def _looked_up_target(batch: dict[str, Any], tables: dict[str, Any]) -> dict[str, tf.Tensor]:
    return {
        "label": tf.cast(tables["product_id"].lookup(batch["target_product_id"]), tf.int32),
        "label_event_type": tf.cast(tables["event_type"].lookup(batch["target_event_type"]), tf.int32),
        "label_rating": batch["target_rating"],
    }


def _rows(directory: Path, manifest: Manifest, folder: str) -> Iterator[dict[str, Any]]:
    try:
        for batch in read_records(directory, manifest, folder).as_numpy_iterator():
            lists = {name: value.to_list() if hasattr(value, "to_list") else value for name, value in batch.items()}
            names = list(lists)
            for values in zip(*lists.values(), strict=True):
                yield dict(zip(names, values, strict=True))
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
        reason = str(error.message).split("\n", 1)[0]
        raise UserError(
            f"{directory / folder}: a record cannot be read ({reason}); run 'tfrs-shop preprocess' again."
        ) from None


def _lines(path: Path, size: int) -> list[bytes]:
    values = path.read_bytes().split(b"\n")[:size] if size else []
    if len(values) != size:
        raise UserError(
            f"{path}: has {len(values)} values where the manifest says {size}; run 'tfrs-shop preprocess' again."
        )
    return values
