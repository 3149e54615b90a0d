"""Writing gzip files whose bytes depend on their text alone."""

import contextlib
import gzip
import io
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def gzip_text(path: Path) -> Iterator[io.TextIOWrapper]:
    """Open a gzip file for text; no name and no time go into its head, so equal text gives equal bytes."""
    with (
        path.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed,
        io.TextIOWrapper(packed, encoding="utf-8", newline="") as stream,
    ):
        yield stream
