"""Samples: the files that were given, in groups of like columns, with some rows of each."""

import csv
import dataclasses
import glob
import io
import os
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from pipelines.files import column_names, match_files
from pipelines.rows import FileError, beginning, file_format, read_rows
from pipelines.values import RowError
from tfrs_shop.errors import UserError
from tfrs_shop.mapping import TableMapping
from tfrs_shop.own_data.columns import NAMELESS
from tfrs_shop.own_data.names import NAMES, likeness
from tfrs_shop.own_data.times import times_of

FIRST, DRAWN = 5000, 5000
MOST_ROWS = 500_000  # that are read to draw from
MOST_FILES = 10  # of a group that rows are taken from
ALIKE = 0.7
SEED = 17
DELIMITERS = (",", ";", "\t", "|")
ENDINGS = ("csv", "tsv", "jsonl", "ndjson", "json", "parquet")

# A file, a row's number in it, and the row.
Row = tuple[str, int, dict[str, Any] | RowError]


@dataclasses.dataclass
class Sample:
    """Files of like columns, and some of their rows.

    Attributes:
        given: the paths and globs that mean these files and no others.
        files: the files.
        reading: what a mapping must say for them to be read: ``header`` and ``delimiter``.
        columns: of all files, in the first one's order.
        rows: the first 5,000 and 5,000 drawn evenly from up to 500,000.
        read: how many rows were read.
        whole: whether these are all.
    """

    given: list[str]
    files: list[str]
    reading: TableMapping
    columns: list[str]
    rows: list[Row] = dataclasses.field(default_factory=list)
    read: int = 0
    whole: bool = True

    @property
    def name(self) -> str:
        """The files, for people."""
        return self.given[0] if len(self.given) == 1 else f"{self.given[0]} and {len(self.given) - 1} more"

    @property
    def row_count(self) -> str:
        """How many rows there are, for people."""
        return f"{self.read:,} rows" if self.whole else f"more than {self.read:,} rows"

    def is_like(self, other: "Sample") -> bool:
        """Tell whether one mapping can read both."""
        ours, others = set(self.columns), set(other.columns)
        kinds = [(file_format(s.files[0]), s.reading.delimiter, bool(s.reading.header)) for s in (self, other)]
        return kinds[0] == kinds[1] and len(ours & others) >= ALIKE * len(ours | others)

    def renamed(self, names: dict[str, str]) -> "Sample":
        """Return the sample of files without a header, whose columns now have other names."""
        header = [names.get(name, name) for name in self.reading.header]

        def named(row: dict[str, Any] | RowError) -> dict[str, Any] | RowError:
            return row if isinstance(row, RowError) else {names.get(name, name): row[name] for name in row}

        rows: list[Row] = [(path, number, named(row)) for path, number, row in self.rows]
        reading = dataclasses.replace(self.reading, header=header)
        return dataclasses.replace(self, reading=reading, columns=header, rows=rows)

    def good_rows(self) -> list[dict[str, Any]]:
        """Return the sampled rows that could be split into columns."""
        return [row for _, _, row in self.rows if isinstance(row, dict)]

    def all_rows(self) -> Iterator[Row]:
        """Yield the rows of the group again, up to those that were read for the sample."""
        chosen = _chosen(self.files)
        for path in chosen:
            for place, (number, row) in enumerate(read_rows(path, self.reading)):
                if place == MOST_ROWS // len(chosen):
                    break
                yield path, number, row


def look(patterns: Iterable[str]) -> tuple[list[Sample], list[str]]:
    """Return the files that `patterns` (paths, globs, directories) mean, in groups of like columns, sampled.

    Returns:
        The groups; and what is wrong with files of a directory that cannot be used.

    Raises:
        UserError: a pattern means no file, or a file that was named cannot be read, is empty or has no rows.
    """
    groups: list[Sample] = []
    left_out: list[str] = []
    seen: set[str] = set()
    for pattern, named in (piece for given in patterns for piece in _in_directory(given)):
        for path in match_files("FILE", [pattern]):
            if os.path.normpath(path) in seen:
                continue
            seen.add(os.path.normpath(path))
            try:
                one = Sample([pattern], [path], reading := reading_of(path), column_names(path, reading))
                _draw(one)
            except UserError as error:
                if named:
                    raise
                left_out.append(str(error))
                continue
            like = next((group for group in groups if group.is_like(one)), None)
            if like is None:
                groups.append(one)
            else:
                like.files.append(path)
                like.columns += [name for name in one.columns if name not in like.columns]
                like.given += [pattern] if pattern not in like.given else []
    if not groups:
        raise UserError(left_out[0] if left_out else "no file was given.")
    for group in groups:
        # A glob that means files of two kinds cannot stand for one of them.
        shared = {pattern for other in groups if other is not group for pattern in other.given}
        if shared & set(group.given) or len(group.files) == 1:
            group.given = list(group.files)
        if len(group.files) > 1:
            _draw(group)
    return groups, left_out


def _in_directory(given: str) -> list[tuple[str, bool]]:
    """Return patterns for the files of `given`, and whether it names them itself."""
    if not os.path.isdir(given):
        return [(given, True)]
    found = []
    for ending in (f"{ending}{gz}" for ending in ENDINGS for gz in ("", ".gz")):
        pattern = os.path.join(given, f"*.{ending}")
        if glob.glob(glob.escape(given) + f"/*.{ending}"):
            found.append((pattern, False))
    if not found:
        raise UserError(f"{given}: is a directory without files whose names end in {', '.join(ENDINGS)} (.gz too).")
    return found


def _chosen(files: list[str]) -> list[str]:
    """Return at most ten files, the first and the last among them."""
    if len(files) <= MOST_FILES:
        return files
    return [files[round(place * (len(files) - 1) / (MOST_FILES - 1))] for place in range(MOST_FILES)]


def _draw(group: Sample) -> None:
    dice = random.Random(SEED)
    drawn: list[Row] = []
    group.rows, group.read = [], 0
    try:
        for row in group.all_rows():
            group.read += 1
            if group.read <= FIRST:
                group.rows.append(row)
            elif len(drawn) < DRAWN:
                drawn.append(row)
            else:
                place = dice.randrange(group.read - FIRST)
                if place < DRAWN:
                    drawn[place] = row
    except FileError as error:
        raise UserError(f"{group.files[0]}: {error}") from None
    group.rows += drawn
    group.whole = group.read < MOST_ROWS // len(_chosen(group.files)) and len(group.files) <= MOST_FILES
    if not group.read:
        raise UserError(f"{group.files[0]}: no rows; give a file that has some.")
    if not group.good_rows():
        path, number, problem = group.rows[0]
        reason = problem.reason if isinstance(problem, RowError) else ""
        raise UserError(f"{path}: no row can be read, the first (row {number}) because it is {reason}.")


def reading_of(path: str) -> TableMapping:
    """Return what a mapping must say for `path` to be read: its delimiter, and its columns where it has no header.

    Raises:
        UserError: it is text in an encoding that is not read, or is broken.
    """
    if file_format(path) != "csv":
        return TableMapping()
    try:
        text = beginning(path)
    except FileError as error:
        raise UserError(f"{path}: {error}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}).") from None
    if "\0" in text:
        raise UserError(f"{path}: is no text in UTF-8 (UTF-16, or a binary file); save it as CSV UTF-8.")
    lines = text.splitlines(keepends=True)
    rows_by = {delimiter: _rows(lines, delimiter) for delimiter in DELIMITERS}
    best = max(DELIMITERS, key=lambda delimiter: _regularity(rows_by[delimiter]))
    usual = "\t" if path.lower().removesuffix(".gz").endswith(".tsv") else ","
    best = best if _regularity(rows_by[best]) > 0 else usual
    rows = rows_by[best]
    header = [] if not rows or has_header(rows) else [f"{NAMELESS}{place}" for place in range(1, len(rows[0]) + 1)]
    return TableMapping(delimiter="" if best == usual else best, header=header)


def _rows(lines: list[str], delimiter: str) -> list[list[str]]:
    try:
        rows = [row for row in csv.reader(io.StringIO("".join(lines[:500]), newline=""), delimiter=delimiter) if row]
    except csv.Error:
        return []
    # What was read may end inside a row.
    return rows[:-1] if len(rows) > 2 else rows


def _regularity(rows: list[list[str]]) -> float:
    """Return more for rows that all have the same number of cells, and have many; 0 for one cell a row."""
    if not rows:
        return 0.0
    width, number = Counter(map(len, rows)).most_common(1)[0]
    return 0.0 if width < 2 else (number / len(rows)) ** 2 * (1 + min(width, 20) / 100)


def has_header(rows: list[list[str]]) -> bool:
    """Tell whether the first of a CSV file's rows names the columns."""
    first, rest = [cell.strip() for cell in rows[0]], rows[1:]
    named = sum(bool(cell) and max(_likenesses(cell)) >= 30 for cell in first)
    if named >= 2 or (named and len(first) <= 2):
        return True
    if any(_number(cell) or times_of([cell]) for cell in first if cell):
        # Pandas writes the place of a column for its name: 0, 1, 2, ...
        return first == [str(place) for place in range(len(first))]
    # A word that comes again below, such as an event type, is a value.
    again = any(cell and cell == row[place].strip() for row in rest for place, cell in enumerate(first[: len(row)]))
    return not again


def _likenesses(cell: str) -> Iterator[float]:
    for table, fields in NAMES.items():
        for field in fields:
            yield likeness(cell, table, field)


def _number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
