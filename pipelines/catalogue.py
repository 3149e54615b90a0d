"""The catalogue: one row a product, read from its own files or out of the event rows, and joined to the events."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput

from pipelines.parse import FILE, ROW, USER_ID, rejection
from pipelines.values import RowError, shown
from tfrs_shop.schema import PRODUCT_FIELDS, category_prefixes, product_text
from tfrs_shop.text.tokenize import words


@beam.typehints.with_output_types(tuple[str, dict[str, Any]])
class FirstOfDuplicates(beam.DoFn):
    """Yields the first row (by file and row number) of each key; later ones are rejected as duplicates."""

    def __init__(self, table: str, field: str, files: Sequence[str]):
        self.table = table
        self.field = field
        self.files = files

    def process(self, element: tuple[str, Iterable[dict[str, Any]]]) -> Iterator[Any]:
        """Look at all rows of one key, one at a time."""
        key, rows = element
        first: dict[str, Any] | None = None
        for row in rows:
            later = row
            if first is None or tuple(row["source"]) < tuple(first["source"]):
                first, later = row, first or row
            if later is not first:
                file, number = later["source"]
                error = RowError(self.field, "duplicate", f"{shown(key)} is in an earlier row too")
                yield TaggedOutput("rejected", rejection(self.table, self.files[file], number, error))
        if first is not None:
            yield key, first


class MostFrequentFields(beam.CombineFn):
    """Combines ``(product, count)`` of event rows: per field the value seen most often, of equals the smallest."""

    def create_accumulator(self) -> dict[str, dict[str, int]]:
        """Return no fields."""
        return {}

    def add_input(
        self, accumulator: dict[str, dict[str, int]], element: tuple[dict[str, Any], int]
    ) -> dict[str, dict[str, int]]:
        """Count the values of one product."""
        product, count = element
        for field, value in product.items():
            if field in EMPTY_PRODUCT and value is not None and value != "" and value != []:
                counts = accumulator.setdefault(field, {})
                text = json.dumps(value)
                counts[text] = counts.get(text, 0) + count
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[dict[str, dict[str, int]]]) -> dict[str, dict[str, int]]:
        """Add up the parts."""
        total: dict[str, dict[str, int]] = {}
        for part in accumulators:
            for field, values in part.items():
                counts = total.setdefault(field, {})
                for value, count in values.items():
                    counts[value] = counts.get(value, 0) + count
        return total

    def extract_output(self, accumulator: dict[str, dict[str, int]]) -> dict[str, Any]:
        """Return the whole product: every field of the schema, given those that were found."""
        found = {
            field: json.loads(min(values.items(), key=lambda pair: (-pair[1], pair[0]))[0])
            for field, values in accumulator.items()
        }
        return {**EMPTY_PRODUCT, **found}


EMPTY_PRODUCT: dict[str, Any] = {
    field.name: [] if field.kind == "category" else "" if field.kind in ("id", "text") else None
    for field in PRODUCT_FIELDS
}


@beam.typehints.with_output_types(tuple[str, Any])
class JoinProducts(beam.DoFn):
    """Yields ``(user id, event tuple with the product's title at its end)``.

    Events of unknown products are rejected; in a refresh, whose catalogue may have lost them, they are skipped and
    counted under the tag ``tallies``.
    """

    def __init__(self, files: Sequence[str], *, skip_unknown: bool = False):
        self.files = files
        self.skip_unknown = skip_unknown

    def process(self, element: tuple[str, dict[str, Iterable[Any]]]) -> Iterator[Any]:
        """Join the events of one product."""
        product_id, groups = element
        title = next(iter(groups["titles"]), None)
        if title is None and self.skip_unknown:
            skipped = sum(1 for _ in groups["events"])
            if skipped:
                yield TaggedOutput("tallies", (("rows", "events skipped"), skipped))
            return
        for event in groups["events"]:
            if title is None:
                error = RowError("product_id", "unknown product", f"no product row has the id {shown(product_id)}")
                yield TaggedOutput("rejected", rejection("events", self.files[event[FILE]], event[ROW], error))
            else:
                yield event[USER_ID], (*event, title)


def finished_product(element: tuple[str, dict[str, Iterable[Any]]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ``(text for the encoder, record of products/)`` from a product and its count of training events."""
    product_id, groups = element
    for product in groups["product"]:
        text = f"{product['title']} {product['brand']} {' '.join(product['category'])}"
        record = {
            **product,
            "product_id": product_id,
            "category": category_prefixes(product["category"]),
            "words": words(text, drop_stop_words=True),
            "train_count": next(iter(groups["count"]), 0),
        }
        yield product_text(product), record
