"""TFRecord files, read and written without a TensorFlow session."""

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

import google_crc32c

from serving.model_server.status import Code, ServingError


def read_records(path: Path) -> Iterator[bytes]:
    """Yield the records of a TFRecord file; raise DATA_LOSS where one is torn or damaged."""
    with path.open("rb") as file:
        offset = 0
        while head := file.read(12):
            if len(head) < 12 or _masked(head[:8]) != head[8:]:
                raise _damaged(path, offset)
            (length,) = struct.unpack("<Q", head[:8])
            if length > path.stat().st_size - offset:
                raise _damaged(path, offset)
            body = file.read(length + 4)
            if len(body) < length + 4 or _masked(body[:-4]) != body[-4:]:
                raise _damaged(path, offset)
            yield body[:-4]
            offset += 16 + length


def write_records(path: Path, records: Iterable[bytes]) -> None:
    """Write a TFRecord file."""
    with path.open("wb") as file:
        for record in records:
            file.write(framed(record))


def framed(record: bytes) -> bytes:
    """A record as it stands in a TFRecord file."""
    length = struct.pack("<Q", len(record))
    return length + _masked(length) + record + _masked(record)


def _masked(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _damaged(path: Path, offset: int) -> ServingError:
    return ServingError(Code.DATA_LOSS, f"corrupted record at {offset} of {path.name}")
