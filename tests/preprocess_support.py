"""Helpers of the preprocessing tests: run a job, read what it wrote."""

import collections
import csv
import gzip
import json

import tfrs_shop  # noqa: F401  (before TensorFlow)

import tensorflow as tf  # isort: skip

from pipelines.preprocess import run
from tfrs_shop.features import parsing_spec
from tfrs_shop.manifest import load_manifest


def preprocess(output, *flags):
    """Run a job without text encoder; return the manifest, read back, and the lines that it said."""
    said = []
    run(["--output", str(output), "--text_encoder", "none", "--shards", "2", *map(str, flags)], said.append)
    return load_manifest(output), said


def records(output, folder):
    """Return the rows of a folder: feature name to a value or a list, in no particular order."""
    manifest = load_manifest(output)
    spec = parsing_spec(manifest.features["examples" if folder in ("train", "validation", "test") else folder])
    serialized = list(tf.data.TFRecordDataset(files(output, folder)).as_numpy_iterator())
    if not serialized:
        return []
    columns = {name: _plain(column) for name, column in tf.io.parse_example(serialized, spec).items()}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def serialized_records(output, folder):
    """Return how often each serialized record is in a folder."""
    return collections.Counter(tf.data.TFRecordDataset(files(output, folder)).as_numpy_iterator())


def files(output, folder):
    """Return the paths of a folder's files."""
    return [str(path) for path in sorted((output / folder).glob("*.tfrecord"))]


def _plain(column):
    found = column.to_list() if isinstance(column, tf.RaggedTensor) else column.numpy().tolist()
    return [_text(value) for value in found]


def _text(value):
    if isinstance(value, list):
        return [_text(item) for item in value]
    return value.decode("utf-8") if isinstance(value, bytes) else value


def rejected(output):
    """Return the rejected rows as (table, row, field, reason), sorted."""
    path = output / "rejected" / "rejected.jsonl" if output.is_dir() else output
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    return sorted((row["table"], row["row"], row["field"], row["reason"]) for row in rows)


def write_csv(path, rows):
    """Write dicts as CSV, with the columns of the first; gzip by the name."""
    with (gzip.open if path.name.endswith(".gz") else open)(path, "wt", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_jsonl(path, rows):
    """Write dicts as JSON lines; gzip by the name."""
    with (gzip.open if path.name.endswith(".gz") else open)(path, "wt", encoding="utf-8") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)
    return path


def read_csv(path, most=None):
    """Return the first rows of a gzipped CSV file as dicts."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as stream:
        return [row for row, _ in zip(csv.DictReader(stream), range(most or 10**9), strict=False)]


def read_jsonl(path):
    """Return the rows of a gzipped JSON lines file."""
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]
