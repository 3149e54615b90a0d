"""Records and the manifest: what the one feature spec writes it reads, and a damaged directory is told."""

import json
import math
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tfrs_shop  # noqa: F401  (before TensorFlow)

import tensorflow as tf  # isort: skip

from pipelines.write import framed_record
from tfrs_shop.errors import UserError
from tfrs_shop.features import Feature, from_json, parsing_spec, serialize, to_json
from tfrs_shop.manifest import load_manifest

SPEC = (
    Feature("id", "string"),
    Feature("words", "string", 0),
    Feature("time", "int64"),
    Feature("times", "int64", 0),
    Feature("price", "float32"),
    Feature("prices", "float32", 0),
    Feature("vector", "float32", 2),
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
TIME = st.none() | st.integers(-(2**53), 2**53)
PRICE = st.none() | st.floats(width=32, allow_nan=False, allow_infinity=False)
ROW = st.fixed_dictionaries(
    {
        "id": TEXT,
        "words": st.lists(TEXT, max_size=3),
        "time": TIME,
        "times": st.lists(TIME, max_size=3),
        "price": PRICE,
        "prices": st.lists(PRICE, max_size=3),
        "vector": st.lists(st.floats(width=32, allow_nan=False), min_size=2, max_size=2),
    }
)


def with_missing(value, missing):
    return [missing if item is None else item for item in value] if isinstance(value, list) else value


@settings(max_examples=40, deadline=None)
@given(st.lists(ROW, min_size=1, max_size=3))
def test_rows_come_back_from_the_spec_that_wrote_them(rows):
    parsed = tf.io.parse_example([serialize(SPEC, row) for row in rows], parsing_spec(SPEC))
    for number, row in enumerate(rows):
        assert parsed["id"][number].numpy().decode() == row["id"]
        assert [word.decode() for word in parsed["words"][number].numpy().tolist()] == row["words"]
        assert parsed["time"][number].numpy() == (-1 if row["time"] is None else row["time"])
        assert parsed["times"][number].numpy().tolist() == with_missing(row["times"], -1)
        price = math.nan if row["price"] is None else row["price"]
        np.testing.assert_array_equal(parsed["price"][number], np.float32(price))
        np.testing.assert_array_equal(parsed["prices"][number], np.float32(with_missing(row["prices"], math.nan)))
        np.testing.assert_array_equal(parsed["vector"][number], np.float32(row["vector"]))


@settings(max_examples=40, deadline=None)
@given(ROW)
def test_a_record_is_byte_for_byte_what_tensorflow_writes(row):
    feature = {
        "id": tf.train.Feature(bytes_list=tf.train.BytesList(value=[row["id"].encode()])),
        "words": tf.train.Feature(bytes_list=tf.train.BytesList(value=[word.encode() for word in row["words"]])),
        "time": tf.train.Feature(int64_list=tf.train.Int64List(value=[-1 if row["time"] is None else row["time"]])),
        "times": tf.train.Feature(int64_list=tf.train.Int64List(value=with_missing(row["times"], -1))),
        "price": tf.train.Feature(
            float_list=tf.train.FloatList(value=[math.nan if row["price"] is None else row["price"]])
        ),
        "prices": tf.train.Feature(float_list=tf.train.FloatList(value=with_missing(row["prices"], math.nan))),
        "vector": tf.train.Feature(float_list=tf.train.FloatList(value=row["vector"])),
    }
    example = tf.train.Example(features=tf.train.Features(feature=feature))
    assert serialize(SPEC, row) == example.SerializeToString(deterministic=True)


def test_a_vector_of_another_length_than_the_spec_says_is_an_error():
    with pytest.raises(ValueError, match="vector: 3 values where the spec says 2"):
        serialize((Feature("vector", "float32", 2),), {"vector": [1.0, 2.0, 3.0]})


@settings(max_examples=20, deadline=None)
@given(st.lists(st.binary(min_size=1), max_size=4))
def test_tensorflow_reads_the_framed_records(tmp_path_factory, records):
    path = tmp_path_factory.mktemp("records") / "a.tfrecord"
    path.write_bytes(b"".join(map(framed_record, records)))
    assert list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator()) == records


def test_a_spec_comes_back_from_the_manifest():
    assert from_json(json.loads(json.dumps(to_json(SPEC)))) == SPEC


# --- damaged directories ---


@pytest.fixture
def data(shop, tmp_path):
    return shutil.copytree(shop.data, tmp_path / "data")


def refusal(directory):
    with pytest.raises(UserError) as caught:
        load_manifest(directory)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(str(directory), "DIR")


def test_a_whole_directory_is_read_by_its_manifest_alone(data):
    manifest = load_manifest(data)
    for folder, entries in manifest.files.items():
        for entry in entries:
            assert (data / folder / entry["name"]).stat().st_size == entry["bytes"]
        if folder != "vocabularies":
            found = sum(1 for e in entries for _ in tf.data.TFRecordDataset(str(data / folder / e["name"])))
            assert found == sum(entry["records"] for entry in entries)
    for name, entry in manifest.vocabularies.items():
        assert len((data / entry["file"]).read_text().splitlines()) == entry["size"], name


def test_a_directory_that_is_missing_or_has_no_manifest_is_told(data):
    assert refusal(data.parent / "none") == "DIR: no such directory; make one with 'tfrs-shop preprocess --output DIR'."
    (data / "dataset.json").unlink()
    assert refusal(data).startswith("DIR: has no dataset.json, so it is no finished data directory;")


def test_a_truncated_record_file_is_told(data):
    file = next((data / "train").glob("*.tfrecord"))
    whole = file.stat().st_size
    file.write_bytes(file.read_bytes()[:-7])
    assert refusal(data) == (
        f"DIR/train/{file.name}: has {whole - 7:,} bytes where the manifest says {whole:,}: it is cut off or changed; "
        "run 'tfrs-shop preprocess' again."
    )
    file.unlink()
    assert refusal(data).startswith(f"DIR/train/{file.name}: is missing, though the manifest lists it;")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda found: found.update(version=2), "manifest version 2, but this tfrs_shop reads version 1;"),
        (lambda found: found.pop("version"), "is not a manifest"),
        (lambda found: found.pop("counts"), "is not a manifest"),
        (lambda found: found.update(features={"users": [{"nmae": 1}]}), "is not a manifest"),
        (lambda found: found.update(features=3), "is not a manifest"),
        (lambda found: found.update(files={"train": [{"name": "x"}]}), "is not a manifest"),
        (lambda found: found.update(format="other"), "is not a manifest"),
    ],
)
def test_a_manifest_of_another_version_or_form_is_told(data, change, message):
    path = data / "dataset.json"
    found = json.loads(path.read_text())
    change(found)
    path.write_text(json.dumps(found))
    assert refusal(data).startswith(f"DIR/dataset.json: {message}")


@pytest.mark.parametrize("content", ["", "{", "[]", "3", b"\xff"])
def test_a_manifest_that_is_no_json_object_is_told(data, content):
    (data / "dataset.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert refusal(data).startswith("DIR/dataset.json: is not a manifest")
