"""Reading a data directory: windows of training, batches of evaluation, damaged directories."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from tfrs_shop.dataset import _training_rows, left_padded, lookup_table, open_data
from tfrs_shop.errors import UserError
from tfrs_shop.features import profile_feature

TABLES = {
    "product_id": [b"A", b"B", b"C", b"D", b"E"],
    "event_type": [b"view", b"purchase"],
    "query": [b"red shoe"],
}


def batch_of(history: list[list[str]], target: list[str]) -> dict:
    count = len(history)
    return {
        "history_product_id": tf.ragged.constant(history, dtype=tf.string, ragged_rank=1),
        "history_event_type": tf.ragged.constant(
            [["view"] * len(row) for row in history], dtype=tf.string, ragged_rank=1
        ),
        "history_query": tf.ragged.constant([[""] * len(row) for row in history], dtype=tf.string, ragged_rank=1),
        "history_timestamp": tf.ragged.constant(
            [[1000 * place for place in range(len(row))] for row in history], dtype=tf.int64, ragged_rank=1
        ),
        "history_rating": tf.ragged.constant(
            [[float("nan")] * len(row) for row in history], dtype=tf.float32, ragged_rank=1
        ),
        "target_product_id": tf.constant(target),
        "target_event_type": tf.constant(["purchase"] * count),
        "target_rating": tf.constant([5.0] * count),
        "user_id": tf.constant(["u"] * count),
    }


def training_rows(history: list[list[str]], target: list[str], length: int) -> dict[str, np.ndarray]:
    tables = {name: lookup_table(values) for name, values in TABLES.items()}
    profile = tf.zeros([len(target), 1], tf.int32)
    rows = _training_rows(batch_of(history, target), tables, profile, length, np.array([False, True, True]))
    return {name: value.numpy() for name, value in rows.items()}


def test_each_position_of_a_window_asks_for_the_product_that_followed() -> None:
    rows = training_rows([["A", "B", "C"]], ["D"], 4)
    assert rows["history_product"].tolist() == [[0, 1, 2, 3]]
    assert rows["label"].tolist() == [[0, 2, 3, 4]]
    assert rows["label_event_type"].tolist() == [[1, 1, 1, 2]]
    assert rows["label_rating"][0, -1] == 5.0


def test_a_history_longer_than_the_window_becomes_several_windows_and_loses_no_label() -> None:
    rows = training_rows([["A", "B", "C", "D", "E"]], ["A"], 2)
    assert rows["history_product"].tolist() == [[0, 1], [2, 3], [4, 5]]
    assert rows["label"].tolist() == [[0, 2], [3, 4], [5, 1]]


def test_the_time_of_an_event_stays_beside_it_and_padding_has_none() -> None:
    rows = training_rows([["A", "B", "C", "D", "E"]], ["A"], 3)
    assert rows["history_product"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert rows["history_timestamp"].tolist() == [[-1, 0, 1000], [2000, 3000, 4000]]


def test_windows_without_a_label_are_left_out() -> None:
    rows = training_rows([["A"], ["A", "B", "C"]], ["B", "D"], 2)
    assert rows["history_product"].tolist() == [[0, 1], [0, 1], [2, 3]]


def test_a_user_whose_first_event_is_the_target_teaches_nothing_about_sequences() -> None:
    assert len(training_rows([[]], ["B"], 3)["label"]) == 0


def test_an_unknown_product_has_index_0() -> None:
    rows = training_rows([["A", "nonsense"]], ["C"], 2)
    assert rows["history_product"].tolist() == [[1, 0]]


def test_left_padded_keeps_the_newest_values() -> None:
    ragged = tf.ragged.constant([[1, 2, 3], [], [4]], dtype=tf.int32)
    assert left_padded(ragged, 2, 0).numpy().tolist() == [[2, 3], [0, 0], [0, 4]]
    assert left_padded(ragged, 4, 9).numpy().tolist() == [[9, 1, 2, 3], [9, 9, 9, 9], [9, 9, 9, 4]]


def test_an_empty_vocabulary_knows_nothing() -> None:
    assert lookup_table([]).lookup(tf.constant(["", "x"])).numpy().tolist() == [0, 0]


def test_all_splits_hold_as_many_examples_as_the_manifest_says(shop) -> None:
    data = open_data(shop.data)
    for split in ("validation", "test"):
        found = sum(len(rows["label"]) for rows in data.evaluation_batches(split, 10, 32))
        assert found == data.manifest.counts["examples"][split]


def test_an_event_that_can_be_no_target_is_history_but_no_label() -> None:
    batch = batch_of([["A", "B", "C"]], ["D"])
    batch["history_event_type"] = tf.ragged.constant([["view", "purchase", "view"]], dtype=tf.string)
    tables = {name: lookup_table(values) for name, values in TABLES.items()}
    rows = _training_rows(batch, tables, tf.zeros([1, 1], tf.int32), 3, np.array([False, True, False]))
    assert rows["history_product"].numpy().tolist() == [[1, 2, 3]]
    assert rows["label"].numpy().tolist() == [[0, 3, 0]]


def test_training_labels_are_the_target_events_that_something_came_before(shop) -> None:
    data = open_data(shop.data)
    labels = sum(int(np.count_nonzero(row["label"])) for row in data.training_windows(10).as_numpy_iterator())
    counted = int(data.catalogue.train_count.sum())
    # A user's very first event has nothing before it; it is a search or a target, so at most one a user is lost.
    assert counted - data.manifest.counts["users"] <= labels <= counted


def test_the_catalogue_has_every_product_once_and_a_padding_row(shop) -> None:
    data = open_data(shop.data)
    assert data.catalogue.size == 200
    assert sorted(data.catalogue.product_id[1:].tolist()) == sorted(data.values["product_id"])
    assert data.catalogue.product_id[0] == b""
    assert not data.catalogue.category[0].any()


def test_a_user_attribute_that_is_a_number_is_read_as_a_bucket(shop) -> None:
    data = open_data(shop.data)
    statistics = data.manifest.statistics | {"profile_age": {"quantiles": [20.0, 30.0, 30.0, 40.0]}}
    features = data.manifest.features | {
        "examples": (profile_feature("age", numeric=True), profile_feature("city", numeric=False))
    }
    manifest = dataclasses.replace(data.manifest, statistics=statistics, features=features)
    data = dataclasses.replace(data, manifest=manifest, values=data.values | {"profile_city": [b"Oslo", b"Rome"]})
    assert data.profile_sizes == [5, 3]
    ages = np.array([20.0, np.nan, 25.0, 41.0], np.float32)
    columns = {"user_id": [b"u"] * 4, "profile_age": ages, "profile_city": [b"Rome", b"", b"Oslo", b"Paris"]}
    assert data.profile_codes(columns).numpy().tolist() == [[1, 2], [0, 0], [2, 1], [4, 0]]


def test_a_truncated_record_file_is_one_sentence(shop, tmp_path) -> None:
    copy = tmp_path / "data"
    shutil.copytree(shop.data, copy)
    victim = next((copy / "products").glob("*.tfrecord"))
    victim.write_bytes(victim.read_bytes()[:-7])
    with pytest.raises(UserError, match="cut off or changed"):
        open_data(copy)


def test_a_damaged_record_of_the_right_size_is_one_sentence(shop, tmp_path) -> None:
    copy = tmp_path / "data"
    shutil.copytree(shop.data, copy)
    victim = max((copy / "products").glob("*.tfrecord"), key=lambda path: path.stat().st_size)
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 0xFF
    victim.write_bytes(bytes(content))
    with pytest.raises(UserError, match=r"products: a record cannot be read"):
        open_data(copy)


def test_a_manifest_of_another_version_is_refused(shop, tmp_path) -> None:
    copy = tmp_path / "data"
    shutil.copytree(shop.data, copy)
    manifest = json.loads((copy / "dataset.json").read_text())
    (copy / "dataset.json").write_text(json.dumps({**manifest, "version": 99}))
    with pytest.raises(UserError, match="manifest version 99"):
        open_data(copy)


@pytest.mark.parametrize(
    ("name", "message"), [("nothing", "no such directory"), ("empty", "no finished data directory")]
)
def test_what_is_no_data_directory_is_said(tmp_path, name: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=message):
        open_data(tmp_path / name)
