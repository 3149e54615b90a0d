"""The catalogue: one row a product, read from its own files or out of the event rows, and joined to the events."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam

from pipelines.rows import rejection

# Distinct values of one field of one product that are kept while the most frequent is looked for.
LARGEST_CHOICE = 256


@beam.typehints.with_output_types(tuple[str, dict[str, Any]])
class FirstOfDuplicates(beam.DoFn):
    """Yields the first row (by file and row number) of each key; later ones are rejected as duplicates."""

    def __init__(self, table: str, field: str):
        self.table = table
        self.field = field

    def process(
        self, element: tuple[str, Iterable[dict[str, Any]]]
    ) -> Iterator[Any]:
        """Look at all rows of one key, one at a time."""
        key, rows = element
        first: dict[str, Any] | None = None
        for row in rows:
            later = row
            if first is None or tuple(row["source"]) < tuple(first["source"]):
                first, later = row, first or row
            if later is not first:
                file, number = later["source"]
                reason = f"duplicate: {key!r} is in an earlier row"
                yield beam.pvalue.TaggedOutput("rejected", rejection(self.table, file, number, self.field, reason))
        if first is not None:
            yield key, first


class MostFrequentFields(beam.CombineFn):
    """Combines the product fields of event rows: per field the value seen most often, of equals the smallest."""

    def create_accumulator(self) -> dict[str, dict[str, int]]:
        """Return no fields."""
        return {}

    def add_input(self, accumulator: dict[str, dict[str, int]], element: dict[str, Any]) -> dict[str, dict[str, int]]:
        """Count the values of one row."""
        for field, value in element.items():
            if value is not None and value != "" and value != []:
                self._count(accumulator.setdefault(field, {}), json.dumps(value), 1)
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[dict[str, dict[str, int]]]) -> dict[str, dict[str, int]]:
        """Add up the parts."""
        total: dict[str, dict[str, int]] = {}
        for part in accumulators:
            for field, values in part.items():
                for value, count in values.items():
                    self._count(total.setdefault(field, {}), value, count)
        return total

    def extract_output(self, accumulator: dict[str, dict[str, int]]) -> dict[str, Any]:
        """Return field to its value."""
        return {
            field: json.loads(min(values.items(), key=lambda pair: (-pair[1], pair[0]))[0])
            for field, values in accumulator.items()
        }

    @staticmethod
    def _count(values: dict[str, int], value: str, count: int) -> None:
        if value in values or len(values) < LARGEST_CHOICE:
            values[value] = values.get(value, 0) + count


def complete_product(element: tuple[str, dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    """Return a product with every field of the schema, given those that were found."""
    from tfrs_shop.schema import PRODUCT_FIELDS

    key, found = element
    empty: dict[str, Any] = {
        field.name: [] if field.kind == "category" else "" if field.kind in ("id", "text") else None
        for field in PRODUCT_FIELDS
    }
    return key, {**empty, **found}


@beam.typehints.with_output_types(tuple[str, dict[str, Any]])
class JoinProducts(beam.DoFn):
    """Yields ``(user_id, event with its product's title)``; events of unknown products are rejected."""

    def process(
        self, element: tuple[str, dict[str, Iterable[Any]]]
    ) -> Iterator[Any]:
        """Join the events of one product."""
        product_id, groups = element
        title = next(iter(groups["titles"]), None)
        for event in groups["events"]:
            if title is None:
                file, number = event["source"]
                reason = f"unknown product {product_id!r}: no product row has this id"
                yield beam.pvalue.TaggedOutput("rejected", rejection("events", file, number, "product_id", reason))
            else:
                yield event["user_id"], {**event, "title": title}
