"""Parsing: files become clean events, products and users; what cannot be used goes to the dead letters.

Rows go from the readers to the parsers in packs, so that an engine may spread them over its workers at little cost.
Clean rows go on as plain tuples, which cost a third of what named fields do wherever they cross between workers.
"""

import pickle
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput

from pipelines import progress
from pipelines.files import one_line
from pipelines.row_parser import RowParser
from pipelines.rows import FileError, read_rows
from pipelines.values import RowError
from tfrs_shop.mapping import TableMapping
from tfrs_shop.schema import EVENT_FIELDS

PACK = 1000
# What an event is on its way: its fields in the schema's order, its file's place in the list of files, and its row.
EVENT_COLUMNS = (*(field.name for field in EVENT_FIELDS), "file", "row")
USER_ID, EVENT_TYPE, TIMESTAMP, QUERY, FILE, ROW = (
    EVENT_COLUMNS.index(name) for name in ("user_id", "event_type", "timestamp", "query", "file", "row")
)


def rejection(table: str, file: str, row: int, error: RowError) -> dict[str, Any]:
    """Return the dead-letter record of a row."""
    return {
        "table": table,
        "file": file,
        "row": row,
        "field": error.field,
        "kind": error.kind,
        "reason": error.reason,
    }


@beam.typehints.with_output_types(tuple[int, bytes])
class ReadFiles(beam.DoFn):
    """Yields packs of raw rows: ``(place of the file in the list, pickled list of numbered rows)``.

    Tags: ``rejected`` (rows that cannot be split into columns), ``tallies``, ``fatal`` (a file that is broken).
    """

    def __init__(self, table: str, mapping: TableMapping, files: Sequence[str]):
        self.table = table
        self.mapping = mapping
        self.files = files

    def process(self, element: int) -> Iterator[Any]:
        """Read the file at place `element`."""
        path = self.files[element]
        read = 0
        try:
            rows = read_rows(path, self.mapping)
            while pack := list(islice(rows, PACK)):
                read += len(pack)
                progress.NOW.rows += len(pack)
                for number, row in pack:
                    if isinstance(row, RowError):
                        yield TaggedOutput("rejected", rejection(self.table, path, number, row))
                yield element, pickle.dumps([pair for pair in pack if isinstance(pair[1], dict)])
        except FileError as error:
            yield TaggedOutput("fatal", f"{path}: {error}")
        except OSError as error:
            yield TaggedOutput("fatal", f"{path}: cannot be read ({one_line(error)}).")
        yield TaggedOutput("tallies", (("rows", f"{self.table} read"), read))


@beam.typehints.with_output_types(tuple[str, Any])
class ParseRows(beam.DoFn):
    """Yields ``(product id, event tuple)``, ``(product id, product)`` or ``(user id, profile)``.

    Tags: ``rejected``, ``tallies``; of events also ``searches`` (``(user id, event tuple)`` of those without a
    product) and, where the catalogue is read out of the event rows, ``products``
    (``(product id, (product, how many rows said so))``).

    Args:
        files: the table's files.
        parser: of the table's rows.
        product_parser: given where the catalogue is read out of the event rows.
    """

    def __init__(self, files: Sequence[str], parser: RowParser, product_parser: RowParser | None = None):
        self.files = files
        self.parser = parser
        self.product_parser = product_parser

    def process(self, element: tuple[int, bytes]) -> Iterator[Any]:
        """Parse one pack of raw rows."""
        file, pack = element
        table, parse = self.parser.table, self.parser.parse
        catalogue = _PackCatalogue(self.product_parser) if self.product_parser else None
        skipped = 0
        for number, raw in pickle.loads(pack):
            try:
                if self.parser.skips(raw):
                    skipped += 1
                    continue
                row = parse(raw)
                if catalogue and row["product_id"]:
                    catalogue.add(raw)
            except RowError as error:
                yield TaggedOutput("rejected", rejection(table, self.files[file], number, error))
                continue
            if table == "events":
                event = (*row.values(), file, number)
                if row["product_id"]:
                    yield row["product_id"], event
                else:
                    yield TaggedOutput("searches", (row["user_id"], event))
            else:
                row["source"] = (file, number)
                yield row["user_id" if table == "users" else "product_id"], row
        if skipped:
            yield TaggedOutput("tallies", (("rows", f"{table} skipped"), skipped))
        if catalogue:
            for product, count in catalogue.counted():
                yield TaggedOutput("products", (product["product_id"], (product, count)))


class _PackCatalogue:
    """The products that the rows of one pack name; equal ones are parsed once, and counted."""

    def __init__(self, parser: RowParser):
        self.parser = parser
        self.columns = parser.source_columns()
        self.products: dict[str, dict[str, Any]] = {}
        self.counts: Counter[str] = Counter()

    def add(self, raw: dict[str, Any]) -> None:
        """Add the product of a row."""
        key = repr([raw.get(column) for column in self.columns])
        if key not in self.products:
            self.products[key] = self.parser.parse(raw)
        self.counts[key] += 1

    def counted(self) -> Iterator[tuple[dict[str, Any], int]]:
        """Yield each product with the number of rows that named it."""
        for key, product in self.products.items():
            yield product, self.counts[key]
