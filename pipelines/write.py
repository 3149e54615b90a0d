"""Writing: records into TFRecord files, vocabularies into text files, and what the job learned into one JSON file.

A fact is ``(name, value)``: something that the manifest is made of, such as a count, a statistic, or a file written.
"""

import contextlib
import heapq
import json
import struct
import uuid
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

import apache_beam as beam
import google_crc32c
from apache_beam.io.filesystems import FileSystems

from tfrs_shop.features import Feature, serialize

PARTS = "_parts"
FACTS = "facts.jsonl"

Fact = tuple[str, Any]


class WriteRecords(beam.PTransform):
    """Writes rows as TFRecords of ``tf.train.Example`` into ``directory/folder/``; returns facts about the files.

    Takes a dict of folder to ``(features, rows)``. Which of a folder's files a row is in depends on its first
    feature, the id, alone; so it is the same on every engine. A file without rows is written too.
    """

    def __init__(self, directory: str, shards: int, features: dict[str, tuple[Feature, ...]]):
        super().__init__()
        self.directory = directory
        self.shards = shards
        self.features = features

    def expand(self, pcolls: Any) -> Any:
        """Serialize, group by file, and write."""
        pipeline = next(iter(pcolls.values())).pipeline
        files = [((folder, shard), b"") for folder in pcolls for shard in range(self.shards)]
        serialized = [
            rows | f"Serialize_{folder}" >> beam.ParDo(_Serialize(folder, self.features[folder], self.shards))
            for folder, rows in pcolls.items()
        ]
        serialized.append(
            pipeline | "Files" >> beam.Create(files, reshuffle=False).with_output_types(tuple[tuple[str, int], bytes])
        )
        return (
            serialized
            | "AllRecords" >> beam.Flatten()
            | "ByFile" >> beam.GroupByKey()
            | "WriteFiles" >> beam.ParDo(_WriteRecordFile(self.directory, self.shards))
        )


@beam.typehints.with_output_types(tuple[tuple[str, int], bytes])
class _Serialize(beam.DoFn):
    def __init__(self, folder: str, features: tuple[Feature, ...], shards: int):
        self.folder = folder
        self.features = features
        self.shards = shards

    def process(self, element: dict[str, Any]) -> Iterator[tuple[tuple[str, int], bytes]]:
        shard = zlib.crc32(element[self.features[0].name].encode("utf-8")) % self.shards
        yield (self.folder, shard), serialize(self.features, element)


@beam.typehints.with_output_types(tuple[str, Any])
class _WriteRecordFile(beam.DoFn):
    def __init__(self, directory: str, shards: int):
        self.directory = directory
        self.shards = shards

    def process(self, element: tuple[tuple[str, int], Iterable[bytes]]) -> Iterator[Fact]:
        (folder, shard), records = element
        name = f"{folder}-{shard:05d}-of-{self.shards:05d}.tfrecord"
        count = size = 0
        with whole_file(self.directory, f"{folder}/{name}") as stream:
            for record in records:
                if record:  # an empty one only says that the file is wanted
                    framed = framed_record(record)
                    stream.write(framed)
                    count, size = count + 1, size + len(framed)
        yield "file", (folder, {"name": name, "bytes": size, "records": count})


def framed_record(record: bytes) -> bytes:
    """Return `record` as a TFRecord file holds it: length, its checksum, the bytes, their checksum."""
    length = struct.pack("<Q", len(record))
    return b"".join((length, _masked_crc(length), record, _masked_crc(record)))


def _masked_crc(data: bytes) -> bytes:
    # tensorflow/core/lib/hash/crc32c.h: rotated, and a constant added, as a checksum of a checksum is a weak one.
    crc = google_crc32c.value(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


@beam.typehints.with_output_types(tuple[str, Any])
class WriteVocabulary(beam.DoFn):
    """Writes the values of one vocabulary, most frequent first, equals in the order of their code points.

    Takes ``(name, [(value, count), ...])``; yields facts.

    Args:
        directory: the data directory.
        largest: how many values are kept; all of ``product_id``, as every product must have its number.
    """

    def __init__(self, directory: str, largest: int):
        self.directory = directory
        self.largest = largest

    def process(self, element: tuple[str, Iterable[tuple[str, int]]]) -> Iterator[Fact]:
        """Write one vocabulary."""
        name, counted = element

        def order(pair: tuple[str, int]) -> tuple[int, str]:
            return -pair[1], pair[0]

        ranked = sorted(counted, key=order) if name == "product_id" else heapq.nsmallest(self.largest, counted, order)
        ranked = [pair for pair in ranked if pair[0]]
        content = "".join(f"{value}\n" for value, _ in ranked).encode("utf-8")
        with whole_file(self.directory, f"vocabularies/{name}.txt") as stream:
            stream.write(content)
        yield "vocabulary", (name, {"file": f"vocabularies/{name}.txt", "size": len(ranked)})
        yield "file", ("vocabularies", {"name": f"{name}.txt", "bytes": len(content), "records": len(ranked)})


class WriteJson(beam.PTransform):
    """Writes elements as JSON lines into one file."""

    def __init__(self, path: str):
        super().__init__()
        self.path = path

    def expand(self, pcoll: Any) -> Any:
        """Serialize and write."""
        return (
            pcoll
            | "ToJson" >> beam.Map(lambda element: json.dumps(element, ensure_ascii=False, sort_keys=True))
            | "Write" >> beam.io.WriteToText(self.path, num_shards=1, shard_name_template="")
        )


@contextlib.contextmanager
def whole_file(directory: str, name: str) -> Iterator[BinaryIO]:
    """Yield a stream for ``directory/name`` that is there, whole, only at the end; an engine may try a file twice."""
    attempt = f"{directory}/{PARTS}/{uuid.uuid4().hex}"
    with FileSystems.create(attempt) as stream:
        yield stream
    FileSystems.rename([attempt], [f"{directory}/{name}"])


def read_facts(directory: str) -> list[Fact]:
    """Return the facts that the job wrote."""
    with FileSystems.open(f"{directory}/{PARTS}/{FACTS}") as stream:
        # Not splitlines, which also splits at the line ends of other alphabets, and JSON leaves them as they are.
        return [tuple(json.loads(line)) for line in stream.read().decode("utf-8").split("\n") if line]
