"""One model's request log on disk: TFRecord files that are whole or, under another name, still being written."""

import contextlib
import os
import socket
import time
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from serving.model_server.records import framed

SUFFIX = ".tfrecord"
PARTIAL = ".partial"


@dataclass(frozen=True)
class Rotation:
    """When a log file is closed and the next one begun: at the first of these limits.

    A file of more than 1,000 records would be no warm-up file, since a server replays at most so many.
    """

    records: int = 1000
    bytes: int = 64 << 20
    seconds: float = 300.0


class LogFile:
    """The file that a model's records go to now; it has its final name only once it is whole.

    Files are ``DIR/MODEL/TIME-HOST-PID-NUMBER.tfrecord``; one that is being written, or was when its process was
    killed, ends in ``.partial`` too.
    """

    def __init__(self, directory: Path, model: str, rotation: Rotation) -> None:
        self._directory = directory / directory_name(model)
        self._rotation = rotation
        self._file: BinaryIO | None = None
        self._path = directory
        self._number = self._records = self._bytes = 0
        self._since = 0.0

    @property
    def due(self) -> float | None:
        """When the open file will be too old, by the monotonic clock; None where no file is open."""
        return None if self._file is None else self._since + self._rotation.seconds

    def append(self, record: bytes) -> None:
        """Write one record, and close the file where it is full."""
        limits, frame = self._rotation, framed(record)
        if self._bytes and self._bytes + len(frame) > limits.bytes:
            self.finish()
        file = self._file or self._open()
        file.write(frame)
        self._records += 1
        self._bytes += len(frame)
        if self._records >= limits.records or self._bytes >= limits.bytes:
            self.finish()

    def flush(self) -> None:
        """Hand what is written to the system, and close the file where it is too old."""
        if self._file is not None:
            self._file.flush()
        if self.due is not None and time.monotonic() >= self.due:
            self.finish()

    def finish(self) -> None:
        """Give the open file its final name; nothing where none is open."""
        file, self._file = self._file, None
        self._records = self._bytes = 0
        if file is None:
            return
        with file:
            file.flush()
            os.fsync(file.fileno())
        self._path.with_name(self._path.name + PARTIAL).rename(self._path)

    def abandon(self) -> None:
        """After a failure: leave the open file as it is, under its partial name, and begin another one next time."""
        file, self._file = self._file, None
        self._records = self._bytes = 0
        if file is not None:
            # What it still holds cannot be written: the caller has just been told so.
            with contextlib.suppress(OSError):
                file.close()

    def _open(self) -> BinaryIO:
        self._directory.mkdir(parents=True, exist_ok=True)
        self._number += 1
        when = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        name = f"{when}-{socket.gethostname()}-{os.getpid()}-{time.time_ns() % 10**9:09d}-{self._number:06d}{SUFFIX}"
        self._path = self._directory / name
        self._file = self._path.with_name(name + PARTIAL).open("xb")
        self._since = time.monotonic()
        return self._file


def directory_name(model: str) -> str:
    """A model's name as the name of a directory, whatever characters it has.

    >>> directory_name("shop"), directory_name("../a b")
    ('shop', '%2E.%2Fa%20b')
    """
    quoted = urllib.parse.quote(model, safe="")
    return "%2E" + quoted[1:] if quoted.startswith(".") else quoted
