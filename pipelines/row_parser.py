"""The row parser: a raw row of a file (column name to value) becomes a clean event, product or user."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from pipelines import values
from pipelines.statistics import bucket
from pipelines.values import RowError
from tfrs_shop.mapping import TableMapping
from tfrs_shop.schema import CATEGORY_SEPARATOR, JOINED_FIELDS, TABLES, Field
from tfrs_shop.text.clean import clean_text

BUCKET = "_bucket"
# Columns of these names hold no words, and cells of these texts say nothing.
_NO_TEXT = re.compile(r"(^|[^a-z])(id|ids|url|urls|uri|link|links|image|images|img|thumbnail|photo|video|videos|hash)$")
_NOTHING = frozenset({"true", "false", "none", "null", "nan", "n/a", "na", "yes", "no", "unknown"})
_EMPTY: dict[str, Any] = {"id": "", "text": ""}

Layout = tuple[dict[str, Any], tuple[tuple[Field, tuple[str, ...]], ...]]


class RowParser:
    """Turns raw rows of one table into clean rows, with every field of the table.

    Args:
        table: ``events``, ``products`` or ``users``.
        mapping: the table's column mapping.
        order_by: events only: the field that orders a user's events, which then no row may lack.
        further_text: products only: add the texts of columns that no field takes to the description, so that they are
            searched.
    """

    def __init__(self, table: str, mapping: TableMapping, order_by: str = "", *, further_text: bool = False):
        self.table = table
        self.mapping = mapping
        self.fields = TABLES[table]
        self.order_by = order_by
        self.further_text = further_text
        self._further: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._needed = {field.name for field in self.fields if field.required} | ({order_by} - {""})
        self._columns = {field.name: self.columns(field) for field in self.fields}
        self._missing = frozenset(["", *mapping.missing])
        self._skip = {name: re.compile(pattern) for name, pattern in mapping.skip.items()}
        self._layouts: dict[tuple[str, ...], Layout] = {}
        self._names: dict[tuple[str, ...], dict[str, str]] = {}
        self._read: dict[str, Callable[[Field, Any], Any]] = {
            "id": lambda field, value: values.identifier(field.name, value),
            "text": lambda field, value: _clean(field.name, value),
            "float": lambda field, value: values.number(field.name, value, field.minimum, mapping.decimal),
            "int": lambda field, value: values.whole_number(field.name, value, mapping.decimal),
            "time": lambda field, value: values.time(
                field.name, value, mapping.timestamp_formats, mapping.timestamp_unit
            ),
            "category": lambda field, value: self._category(value),
        }

    def __getstate__(self) -> dict[str, Any]:
        """Return what a Beam worker needs: the arguments."""
        return {
            "table": self.table,
            "mapping": self.mapping,
            "order_by": self.order_by,
            "further_text": self.further_text,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Build the parser again in a worker."""
        self.__init__(**state)  # type: ignore[misc]

    def columns(self, field: Field) -> tuple[str, ...]:
        """Return the file's columns that hold `field`."""
        mapped = self.mapping.columns.get(field.name)
        if mapped is None:
            return field.default_columns
        return (mapped,) if isinstance(mapped, str) else tuple(mapped)

    def missing_columns(self, present: Iterable[str]) -> list[str]:
        """Return the columns that every row needs and a file with the columns `present` does not have."""
        names = set(present)
        return [
            " or ".join(self._columns[field.name])
            for field in self.fields
            if field.name in self._needed
            and field.name not in self.mapping.constants
            and not names.intersection(self._columns[field.name])
        ]

    def source_columns(self) -> list[str]:
        """Return all columns that a row is read from."""
        return [column for columns in self._columns.values() for column in columns]

    def skips(self, raw: Mapping[str, Any]) -> bool:
        """Tell whether the mapping leaves this row out on purpose."""
        for name, pattern in self._skip.items():
            value = self.mapping.constants.get(name) or self._value(name, self._columns[name], raw)
            if pattern.fullmatch("" if value is None else str(value).strip()):
                return True
        return False

    def parse(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """Return the clean row of `raw`.

        Raises:
            RowError: a field is missing or cannot be read.
        """
        names = tuple(raw)
        empty, layout = self._layouts.get(names) or self._new_layout(names)
        row = empty.copy()
        for field, columns in layout:
            name = field.name
            value = self._value(name, columns, raw)
            if value is not None:
                row[name] = value = self._read[field.kind](field, value)
            if name in self._needed and (value is None or value == ""):
                raise RowError(name, "missing")
        if self.table == "events":
            self._finish_event(row)
        elif self.table == "products":
            row["category"] = list(row["category"])
            if self.further_text:
                row["description"] = values.joined([row["description"], *self._further_texts(raw)])
        else:
            row["attributes"] = self._attributes(raw)
        return row

    def _further_texts(self, raw: Mapping[str, Any]) -> Iterator[str]:
        """Yield the texts of the columns that no field takes; what is no text for people is left out."""
        names = tuple(raw)
        columns = self._further.get(names)
        if columns is None:
            taken = set(self.source_columns())
            columns = tuple(name for name in names if name and name not in taken and not _NO_TEXT.search(name.lower()))
            self._further[names] = columns
        for column in columns:
            for text in _texts_in(raw[column]):
                if any(char.isalpha() for char in text) and "://" not in text and text.lower() not in _NOTHING:
                    yield clean_text(values.checked_text(column, text))

    def _new_layout(self, names: tuple[str, ...]) -> Layout:
        """Work out, once for all rows with these columns, which fields have to be looked at."""
        empty: dict[str, Any] = {}
        looked_at: list[tuple[Field, tuple[str, ...]]] = []
        for field in self.fields:
            empty[field.name] = () if field.kind == "category" else _EMPTY.get(field.kind)
            constant = self.mapping.constants.get(field.name)
            if constant is not None:
                empty[field.name] = self._read[field.kind](field, constant)
                continue
            columns = tuple(column for column in self._columns[field.name] if column in names)
            if columns or field.name in self._needed:
                looked_at.append((field, columns))
        layout = self._layouts[names] = empty, tuple(looked_at)
        return layout

    def _value(self, name: str, columns: tuple[str, ...], raw: Mapping[str, Any]) -> Any:
        """Return the first value that is none of those that mean "none", or all of them of a field that joins them."""
        found: list[Any] = []
        for column in columns:
            value = raw.get(column)
            if value is None or value == [] or (isinstance(value, str) and value.strip() in self._missing):
                continue
            if name not in JOINED_FIELDS:
                return value
            found.append(value)
        return found[0] if len(found) == 1 else found or None

    def _finish_event(self, row: dict[str, Any]) -> None:
        row["event_type"] = self.mapping.event_types.get(row["event_type"], row["event_type"])
        quantity = row["quantity"]
        if quantity is not None and quantity < 0:
            if not self.mapping.negative_quantity:
                raise RowError("quantity", "below 0", f"{quantity:g}")
            row["event_type"], row["quantity"] = self.mapping.negative_quantity, -quantity
        if row["event_type"] == "search":
            if not row["query"]:
                raise RowError("query", "missing in a search event")
        elif not row["product_id"]:
            raise RowError("product_id", "missing")

    def _category(self, value: Any) -> list[str]:
        levels = value.split(self.mapping.category_separator) if isinstance(value, str) else value
        if not isinstance(levels, list | tuple):
            levels = [levels]
        if levels and isinstance(levels[0], list | tuple):  # several paths: the first counts
            levels = levels[0]
        cleaned = (clean_text(values.checked_text("category", level)) for level in levels if level is not None)
        # The separator of our own path must not appear inside a level.
        return [level.replace(CATEGORY_SEPARATOR.strip(), "/") for level in cleaned if level]

    def attribute_names(self, columns: Iterable[str]) -> dict[str, str]:
        """Return column to attribute name for a users file: all but the id and the ignored, renamed by the mapping."""
        renamed = {
            column: name
            for name, mapped in self.mapping.columns.items()
            for column in ([mapped] if isinstance(mapped, str) else mapped)
        }
        left_out = {*self._columns["user_id"], *self.mapping.ignore}
        return {column: renamed.get(column, column) for column in columns if column not in left_out}

    def attribute_kinds(self, columns: Iterable[str]) -> dict[str, bool]:
        """Return attribute name to whether it is a number; of each number there is a bucket too, which is none."""
        kinds: dict[str, bool] = {}
        for name in self.attribute_names(columns).values():
            kinds[name] = name in self.mapping.numeric
            if kinds[name]:
                kinds[name + BUCKET] = False
        return kinds

    def _attributes(self, raw: Mapping[str, Any]) -> dict[str, str | float | None]:
        """Return a user's attributes; numbers only where the mapping says so."""
        columns = tuple(raw)
        names = self._names.get(columns)
        if names is None:
            names = self._names[columns] = self.attribute_names(columns)
        attributes: dict[str, str | float | None] = {}
        for column, name in names.items():
            value = self._value(name, (column,), raw)
            if name in self.mapping.numeric:
                found = None if value is None else values.number(name, value, decimal=self.mapping.decimal)
                attributes[name] = found
                attributes[name + BUCKET] = "" if found is None else bucket(found)
            else:
                attributes[name] = "" if value is None else _clean(name, value)
        return attributes


def _texts_in(value: Any) -> Iterator[str]:
    """Yield the texts of a cell: of a list each, of an object its keys and values."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _texts_in(part)
    elif isinstance(value, dict):
        for name, part in value.items():
            inner = ", ".join(_texts_in(part)) or (str(part) if isinstance(part, int | float) else "")
            yield f"{name} {inner}" if inner else ""


def _clean(name: str, value: Any) -> str:
    # Each part by itself: a description that was cut off inside a tag ends there, and not in its neighbour.
    return values.joined(clean_text(text) for text in values.texts(name, value))
