"""Reading: files of CSV, JSON lines or Parquet (gzip too) become raw rows, each with its file and row number.

A file is read by one worker from its start to its end, since neither a quoted line break nor gzip can be entered
in the middle, and since a rejected row must be named by its number. Give a large log as many files.
"""

import csv
import gzip
import io
import json
import math
import os
import zlib
from collections.abc import Iterable, Iterator
from typing import IO, Any

import apache_beam as beam
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from tfrs_shop.errors import UserError
from tfrs_shop.mapping import TableMapping

# A cell larger than this is a broken quote, not data.
LARGEST_CELL = 4 * 1024 * 1024
SAMPLED_JSON_ROWS = 1000
_ENDINGS = {".csv": "csv", ".tsv": "csv", ".jsonl": "json", ".ndjson": "json", ".json": "json", ".parquet": "parquet"}

RawRow = tuple[str, int, dict[str, Any]]


class BadRow(Exception):
    """A row that cannot even be split into columns; reading goes on after it."""


class BrokenFile(Exception):
    """A file that cannot be read to its end."""


def match_files(flag: str, patterns: Iterable[str]) -> list[str]:
    """Return the files that `patterns` (paths or globs) match, sorted.

    Raises:
        UserError: a pattern matches nothing, or a file's ending says no known format.
    """
    found: list[str] = []
    for pattern in patterns:
        # Beam finds nothing for a pattern without a folder.
        pattern = pattern if "://" in pattern else os.path.join(os.path.dirname(pattern) or ".", os.path.basename(pattern))
        try:
            matches = FileSystems.match([pattern])[0].metadata_list
        except Exception as error:  # Beam's file systems raise what their clients raise.
            raise UserError(f"{flag} {pattern}: cannot be looked up ({error}).") from None
        names = [match.path for match in matches if not os.path.isdir(match.path)]
        if not names:
            raise UserError(f"{flag} {pattern}: no such file.")
        found.extend(names)
    for name in found:
        file_format(name)
    return sorted(set(found))


def file_format(path: str) -> str:
    """Return ``csv``, ``json`` or ``parquet`` by the ending of `path`."""
    name = path.lower().removesuffix(".gz")
    for ending, form in _ENDINGS.items():
        if name.endswith(ending):
            if form == "parquet" and path.lower().endswith(".gz"):
                break
            return form
    raise UserError(f"{path}: unknown format; known endings: {', '.join(_ENDINGS)}, each but .parquet also with .gz.")


def column_names(path: str, mapping: TableMapping) -> list[str]:
    """Return the columns of `path`: its header, its schema, or the keys of its first 1,000 JSON lines.

    Raises:
        UserError: the file is empty, cannot be read, or names a column twice.
    """
    form = file_format(path)
    names: list[str] = []
    try:
        if form == "parquet":
            import pyarrow.parquet

            with _open(path) as stream:
                names = list(pyarrow.parquet.ParquetFile(stream).schema_arrow.names)
        elif form == "csv" and not mapping.header:
            with _open_text(path) as text:
                names = next(_csv_rows(text, path, mapping), [])
        else:
            for number, row in enumerate(read_rows(path, mapping)):
                if number == SAMPLED_JSON_ROWS:
                    break
                if not isinstance(row[1], str):
                    names.extend(name for name in row[1] if name not in names)
    except BrokenFile as error:
        raise UserError(f"{path}: {error}") from None
    except BadRow as error:
        raise UserError(f"{path}: row 1: {error}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}).") from None
    if form == "csv" and not mapping.header and len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{path}: names the column '{twice}' twice in its header; rename one.")
    return names


def read_rows(path: str, mapping: TableMapping) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Yield ``(row number, columns)``, or ``(row number, reason)`` for a row that cannot be split into columns.

    Row numbers are those a spreadsheet or an editor shows: a header is row 1. Text is decoded so that a bad byte
    stays in its cell, as a lone surrogate, for the parser to reject.

    Raises:
        BrokenFile: the file ends in the middle, or is not what its ending says.
    """
    form = file_format(path)
    try:
        if form == "parquet":
            yield from _parquet_rows(path)
        elif form == "json":
            yield from _json_rows(path)
        else:
            yield from _named_csv_rows(path, mapping)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise BrokenFile(f"is cut off or not gzip ({error}); get the file again.") from None


def _open(path: str) -> IO[bytes]:
    compressed = path.lower().endswith(".gz")
    # Beam's own decompression takes a gzip file that is cut off for whole; Python's does not.
    raw = FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)
    return gzip.GzipFile(fileobj=raw) if compressed else raw  # type: ignore[return-value]


def _open_text(path: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(
        io.BufferedReader(_open(path), 1 << 20),  # type: ignore[type-var]
        encoding="utf-8-sig",
        errors="surrogateescape",
        newline="",
    )


def _csv_rows(text: io.TextIOWrapper, path: str, mapping: TableMapping) -> Iterator[list[str]]:
    csv.field_size_limit(LARGEST_CELL)
    tab = path.lower().removesuffix(".gz").endswith(".tsv")
    return csv.reader(text, delimiter=mapping.delimiter or ("\t" if tab else ","))


def _named_csv_rows(path: str, mapping: TableMapping) -> Iterator[tuple[int, dict[str, Any] | str]]:
    with _open_text(path) as text:
        rows = _csv_rows(text, path, mapping)
        header = mapping.header or [name.strip() for name in next(rows, [])]
        number = 0 if mapping.header else 1
        while True:
            number += 1
            try:
                cells = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                yield number, f"is not CSV: {error}"
                continue
            if not cells:
                continue
            if len(cells) != len(header):
                yield number, f"has {len(cells)} columns where the header has {len(header)}"
            else:
                yield number, dict(zip(header, cells, strict=True))


def _json_rows(path: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    with _open_text(path) as text:
        for number, line in enumerate(text, 1):
            if not line.strip():
                continue
            if number == 1 and line.lstrip().startswith("["):
                raise BrokenFile("is one JSON array; write JSON lines instead: one object a line.")
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                yield number, f"is not JSON: {error}"
                continue
            if isinstance(row, dict):
                yield number, row
            else:
                yield number, "is not a JSON object"


def _parquet_rows(path: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    import pyarrow
    import pyarrow.parquet

    try:
        with _open(path) as stream:
            number = 0
            for batch in pyarrow.parquet.ParquetFile(stream).iter_batches(batch_size=4096):
                for row in batch.to_pylist():
                    number += 1
                    # pandas writes a missing number as NaN: in a typed column that is no bad value.
                    yield number, {
                        name: None if isinstance(value, float) and math.isnan(value) else value
                        for name, value in row.items()
                    }
    except pyarrow.ArrowException as error:
        raise BrokenFile(f"is not whole Parquet ({error}); get the file again.") from None


@beam.typehints.with_output_types(RawRow)
class ReadFiles(beam.DoFn):
    """Yields ``(file, row number, columns)``; rows that cannot be split go to ``rejected``, broken files to ``fatal``."""

    def __init__(self, table: str, mapping: TableMapping):
        self.table = table
        self.mapping = mapping
        self.rows = beam.metrics.Metrics.counter("tfrs_shop", f"{table}_read")

    def process(self, element: str) -> Iterator[Any]:
        """Read the file `element`."""
        try:
            for number, row in read_rows(element, self.mapping):
                self.rows.inc()
                if isinstance(row, str):
                    yield beam.pvalue.TaggedOutput("rejected", rejection(self.table, element, number, "", row))
                else:
                    yield element, number, portable(row)
        except BrokenFile as error:
            yield beam.pvalue.TaggedOutput("fatal", f"{element}: {error}")


def portable(value: Any) -> Any:
    """Return `value` with each text that is not UTF-8 as bytes: Beam's coders refuse lone surrogates."""
    if isinstance(value, str):
        if not value.isascii():
            try:
                value.encode("utf-8")
            except UnicodeEncodeError:
                return value.encode("utf-8", "backslashreplace" if _has_true_surrogate(value) else "surrogateescape")
    elif isinstance(value, dict):
        return {
            (name if isinstance(name := portable(key), str) else repr(key)): portable(item)
            for key, item in value.items()
        }
    elif isinstance(value, list):
        return [portable(item) for item in value]
    return value


def _has_true_surrogate(text: str) -> bool:
    """Tell a JSON escape of half a character from a byte that could not be decoded."""
    return any("\ud800" <= letter <= "\udfff" and not "\udc80" <= letter <= "\udcff" for letter in text)


def rejection(table: str, file: str, row: int, field: str, reason: str) -> dict[str, Any]:
    """Return the dead-letter record of a row."""
    return {"table": table, "file": file, "row": row, "field": field, "reason": reason}
