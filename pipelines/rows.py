"""Rows: a file of CSV, JSON lines or Parquet (gzip too) becomes raw rows, column name to value, with their numbers.

A file is read by one worker from its start to its end, since neither a quoted line break nor gzip can be entered
in the middle, and since a rejected row must be named by its number.
"""

import ast
import csv
import gzip
import io
import itertools
import json
import math
import re
import zlib
from collections.abc import Iterator
from typing import IO, Any

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from pipelines.values import RowError, shown
from tfrs_shop.errors import UserError
from tfrs_shop.mapping import TableMapping

# A cell larger than this is a broken quote, not data.
LARGEST_CELL = 4 * 1024 * 1024
_ENDINGS = {".csv": "csv", ".tsv": "csv", ".jsonl": "json", ".ndjson": "json", ".json": "json", ".parquet": "parquet"}

_BETWEEN = re.compile(r"[\s,]*")

NumberedRow = tuple[int, dict[str, Any] | RowError]


class FileError(Exception):
    """A file that cannot be read to its end."""


def file_format(path: str) -> str:
    """Return ``csv``, ``json`` or ``parquet`` by the ending of `path`."""
    name = path.lower()
    for ending, form in _ENDINGS.items():
        if name.endswith(ending) or (form != "parquet" and name.endswith(f"{ending}.gz")):
            return form
    raise UserError(f"{path}: unknown format; known endings: {', '.join(_ENDINGS)}, each but .parquet also with .gz.")


def read_rows(path: str, mapping: TableMapping) -> Iterator[NumberedRow]:
    """Yield ``(row number, columns)``, or ``(row number, error)`` for a row that cannot be split into columns.

    Row numbers are those a spreadsheet shows: a header is row 1, a cell with a line break is no new row. Text is
    decoded so that a byte that is not UTF-8 stays in its cell, as a lone surrogate, for the parser to reject.

    Raises:
        FileError: the file ends in the middle, or is not what its ending says.
    """
    form = file_format(path)
    try:
        if form == "parquet":
            yield from _parquet_rows(path)
        elif form == "json":
            yield from _json_rows(path)
        else:
            yield from _csv_rows(path, mapping)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise FileError(f"is cut off or not gzip ({error}); get the file again.") from None


def header(path: str, mapping: TableMapping) -> list[str]:
    """Return the column names of a CSV or Parquet file; none where it is empty.

    Raises:
        RowError: the header cannot be split into columns.
    """
    try:
        if file_format(path) == "parquet":
            with _parquet(path) as file:
                return list(file.schema_arrow.names)
        if mapping.header:
            return list(mapping.header)
        with _open_text(path) as text:
            return _header(_cells(text, path, mapping))
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise FileError(f"is cut off or not gzip ({error}); get the file again.") from None


def beginning(path: str, size: int = 1 << 16) -> str:
    """Return the first `size` characters of a text file.

    Raises:
        FileError: the file is cut off, or is not gzip though its name says so.
    """
    try:
        with _open_text(path) as text:
            return text.read(size)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise FileError(f"is cut off or not gzip ({error}); get the file again.") from None


def _open(path: str) -> IO[bytes]:
    compressed = path.lower().endswith(".gz")
    # Beam's own decompression takes a gzip file that is cut off for whole; Python's does not.
    raw = FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)
    return gzip.GzipFile(fileobj=raw) if compressed else raw  # type: ignore[return-value]


def _open_text(path: str) -> io.TextIOWrapper:
    buffered = io.BufferedReader(_open(path), 1 << 20)  # type: ignore[type-var]
    return io.TextIOWrapper(buffered, encoding="utf-8-sig", errors="surrogateescape", newline="")


def _cells(text: io.TextIOWrapper, path: str, mapping: TableMapping) -> Iterator[list[str]]:
    csv.field_size_limit(LARGEST_CELL)
    tab = path.lower().removesuffix(".gz").endswith(".tsv")
    return csv.reader(text, delimiter=mapping.delimiter or ("\t" if tab else ","))


def _header(rows: Iterator[list[str]]) -> list[str]:
    try:
        return [name.strip() for name in next(rows, [])]
    except csv.Error as error:
        raise RowError("", "not CSV", str(error)) from None


def _csv_rows(path: str, mapping: TableMapping) -> Iterator[NumberedRow]:
    with _open_text(path) as text:
        rows = _cells(text, path, mapping)
        names = mapping.header or _header(rows)
        width = len(names)
        number = 0 if mapping.header else 1
        while True:
            number += 1
            try:
                cells = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                yield number, RowError("", "not CSV", str(error))
                continue
            if len(cells) == width:
                yield number, dict(zip(names, cells, strict=True))
            elif cells:
                yield number, RowError("", "wrong number of columns", f"{len(cells)} where the header has {width}")


def _json_rows(path: str) -> Iterator[NumberedRow]:
    with _open_text(path) as text:
        line_number = 1
        while (start := text.read(1)).isspace():
            line_number += start == "\n"
        if start == "[":
            yield from _array_rows(text)
            return
        for number, line in enumerate(itertools.chain([start + text.readline()], text), line_number):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                row = _python_literal(line)
                if row is None:
                    yield number, RowError("", "not JSON", str(error))
                    continue
            yield number, row if isinstance(row, dict) else RowError("", "not a JSON object", shown(row))


def _array_rows(text: IO[str]) -> Iterator[NumberedRow]:
    """Yield the elements of the JSON array that `text` holds after its bracket, numbered from 1, a megabyte at a time.

    Raises:
        FileError: the array is broken or cut off, so that nobody knows where the next element begins.
    """
    decoder, number, read, place = json.JSONDecoder(), 0, "", 0
    while True:
        place = _BETWEEN.match(read, place).end()  # type: ignore[union-attr]
        if read.startswith("]", place):
            return
        problem = "it ends"
        try:
            row, end = decoder.raw_decode(read, place)
        except (ValueError, RecursionError) as error:
            end, problem = len(read), str(error)
        if end == len(read):
            # An element that ends where the text does may go on in what is not read yet.
            more = text.read(1 << 20) if len(read) - place < LARGEST_CELL else ""
            if not more:
                raise FileError(f"is no whole JSON array: after element {number}: {problem}; get the file again.")
            read, place = read[place:] + more, 0
            continue
        number, place = number + 1, end
        yield number, row if isinstance(row, dict) else RowError("", "not a JSON object", shown(row))


def _python_literal(line: str) -> Any:
    """Return the dict of a line that Python wrote and not JSON, as in Amazon's product files of 2014; else None."""
    if not line.startswith("{'"):
        return None
    try:
        return ast.literal_eval(line)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _parquet_rows(path: str) -> Iterator[NumberedRow]:
    import pyarrow

    try:
        with _parquet(path) as file:
            number = 0
            for batch in file.iter_batches(batch_size=4096):
                names = batch.schema.names
                for cells in zip(*(_python_values(column) for column in batch.columns), strict=True):
                    number += 1
                    yield number, dict(zip(names, cells, strict=True))
    except pyarrow.ArrowException as error:
        raise FileError(f"is not whole Parquet ({error}); get the file again.") from None


def _parquet(path: str) -> Any:
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.ParquetFile(_open(path))
    except pyarrow.ArrowException as error:
        raise FileError(f"is not whole Parquet ({error}); get the file again.") from None


def _python_values(column: Any) -> list[Any]:
    import pyarrow

    kind = column.type
    if pyarrow.types.is_timestamp(kind) and kind.unit == "ns":
        # Python's times end at microseconds; ours at milliseconds.
        column = column.cast(pyarrow.timestamp("us", kind.tz), safe=False)
    found: list[Any] = column.to_pylist()
    if pyarrow.types.is_floating(kind):
        # pandas writes a missing number as NaN: in a typed column that is no bad value.
        return [None if value is None or math.isnan(value) else value for value in found]
    return found
