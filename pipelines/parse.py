"""Parsing: raw rows become clean events, products and users; what cannot be used goes to the dead letters."""

from collections.abc import Iterator
from typing import Any

import apache_beam as beam

from pipelines.rows import RawRow, rejection
from tfrs_shop.schema import RowError, RowParser


@beam.typehints.with_output_types(tuple[str, dict[str, Any]])
class ParseRows(beam.DoFn):
    """Yields ``(key, row)`` with the row's file and number in ``source``.

    The key is the user id of a profile, the product id of anything else ("" for a search).

    Args:
        parser: of the table's rows.
        product_parser: given where the catalogue is read out of the event rows; each good event row then also
            yields a product, tagged ``products``.
    """

    def __init__(self, parser: RowParser, product_parser: RowParser | None = None):
        self.parser = parser
        self.product_parser = product_parser
        self.key = "user_id" if parser.table == "users" else "product_id"
        self.kept = beam.metrics.Metrics.counter("tfrs_shop", f"{parser.table}_parsed")
        self.bad = beam.metrics.Metrics.counter("tfrs_shop", f"{parser.table}_rejected")

    def process(self, element: RawRow) -> Iterator[Any]:
        """Parse one raw row."""
        file, number, raw = element
        try:
            if self.parser.skips(raw):
                yield beam.pvalue.TaggedOutput("skipped", number)
                return
            row = self.parser.parse(raw)
            product = None
            if self.product_parser is not None and row["product_id"]:
                product = self.product_parser.parse(raw)
        except RowError as error:
            self.bad.inc()
            yield beam.pvalue.TaggedOutput(
                "rejected", rejection(self.parser.table, file, number, error.field, error.reason)
            )
            return
        self.kept.inc()
        row["source"] = (file, number)
        yield row[self.key], row
        if product is not None:
            yield beam.pvalue.TaggedOutput("products", (product["product_id"], product))
