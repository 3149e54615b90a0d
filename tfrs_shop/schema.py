"""What an event, a product and a user are: the fields of a row, and how raw values become them.

Every other part names fields as they are named here. ``RowParser`` turns a raw row of a file (column name to
value) into a clean one, or raises ``RowError`` with the field at fault.
"""

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import Any, Literal, TypedDict

from tfrs_shop.mapping import TableMapping
from tfrs_shop.text.clean import clean_text

EVENT_TYPES = ("view", "click", "favorite", "cart", "purchase", "return", "rating", "review", "search")
CATEGORY_SEPARATOR = " > "
_LARGEST_TIME = 2**53 // 1000

Kind = Literal["id", "text", "float", "int", "time", "category"]


@dataclasses.dataclass(frozen=True)
class Field:
    """One field of a table: its name, kind, whether a row needs it, and the columns it is looked for under."""

    name: str
    kind: Kind
    required: bool = False
    columns: tuple[str, ...] = ()
    minimum: float = -math.inf

    @property
    def default_columns(self) -> tuple[str, ...]:
        """The columns that hold the field where no mapping says otherwise."""
        return self.columns or (self.name,)


EVENT_FIELDS = (
    Field("user_id", "id", required=True),
    Field("product_id", "id"),
    Field("event_type", "id", required=True),
    Field("timestamp", "time"),
    Field("position", "int"),
    Field("session_id", "id"),
    Field("rating", "float"),
    Field("query", "text"),
    Field("quantity", "float"),
    Field("price", "float", minimum=0.0),
)
PRODUCT_FIELDS = (
    Field("product_id", "id", required=True),
    Field("title", "text"),
    Field("description", "text", columns=("description", "bullet_points", "color")),
    Field("category", "category"),
    Field("brand", "text"),
    Field("price", "float", minimum=0.0),
    Field("rating_mean", "float", columns=("rating_mean", "rating")),
    Field("rating_count", "float", minimum=0.0),
    Field("sales_rank", "float", minimum=0.0),
    Field("on_sale_from", "time"),
    Field("on_sale_to", "time"),
)
USER_FIELDS = (Field("user_id", "id", required=True),)
TABLES: dict[str, tuple[Field, ...]] = {"events": EVENT_FIELDS, "products": PRODUCT_FIELDS, "users": USER_FIELDS}


class Event(TypedDict):
    """One behaviour of one user. Times are milliseconds since 1970 (UTC); None where the source has no value."""

    user_id: str
    product_id: str
    event_type: str
    timestamp: int | None
    position: int | None
    session_id: str
    rating: float | None
    query: str
    quantity: float | None
    price: float | None


class Product(TypedDict):
    """One product of the catalogue; ``category`` is the path, outermost first."""

    product_id: str
    title: str
    description: str
    category: list[str]
    brand: str
    price: float | None
    rating_mean: float | None
    rating_count: float | None
    sales_rank: float | None
    on_sale_from: int | None
    on_sale_to: int | None


class RowError(Exception):
    """A row that cannot be used: the field at fault and the reason, for the dead-letter output."""

    def __init__(self, field: str, reason: str):
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class RowParser:
    """Turns raw rows of one table into clean rows.

    Args:
        table: ``events``, ``products`` or ``users``.
        mapping: the table's column mapping.
        order_by: events only: the field that orders a user's events, which then no row may lack.
    """

    def __init__(self, table: str, mapping: TableMapping, order_by: str = ""):
        self.table = table
        self.mapping = mapping
        self.fields = TABLES[table]
        self.order_by = order_by
        self._columns = {field.name: self.columns(field) for field in self.fields}
        self._missing = frozenset(mapping.missing)
        self._skip = {name: re.compile(pattern) for name, pattern in mapping.skip.items()}

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
            if (field.required or field.name == self.order_by)
            and field.name not in self.mapping.constants
            and not names.intersection(self._columns[field.name])
        ]

    def skips(self, raw: Mapping[str, Any]) -> bool:
        """Tell whether the mapping leaves this row out on purpose."""
        for name, pattern in self._skip.items():
            value = self._value(name, raw)
            if pattern.fullmatch("" if value is None else str(value).strip()):
                return True
        return False

    def parse(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """Return the clean row of `raw`, with every field of the table.

        Raises:
            RowError: a field is missing or cannot be read.
        """
        row: dict[str, Any] = {}
        for field in self.fields:
            value = self._value(field.name, raw)
            row[field.name] = self._read(field, value)
            if row[field.name] in (None, "") and (field.required or field.name == self.order_by):
                raise RowError(field.name, "is missing")
        if self.table == "events":
            self._finish_event(row)
        elif self.table == "users":
            row["attributes"] = self._attributes(raw)
        return row

    def _value(self, name: str, raw: Mapping[str, Any]) -> Any:
        if name in self.mapping.constants:
            return self.mapping.constants[name]
        found = [
            value
            for value in (raw.get(column) for column in self._columns[name])
            if value is not None and value not in ("", [], ()) and not (isinstance(value, str) and value in self._missing)
        ]
        if len(found) <= 1 or name not in ("description", "title"):
            return found[0] if found else None
        return ". ".join(_flat_text(name, value) for value in found)

    def _read(self, field: Field, value: Any) -> Any:
        name, kind = field.name, field.kind
        if kind == "category":
            return self._category(value)
        if value is None or (isinstance(value, str) and not value.strip()):
            return "" if kind in ("id", "text") else None
        if kind == "id":
            return _identifier(name, value)
        if kind == "text":
            return clean_text(_flat_text(name, value))
        if kind == "time":
            return self._time(name, value)
        number = _number(name, value)
        if number < field.minimum:
            raise RowError(name, f"{value!r} is below {field.minimum:g}")
        if kind == "int":
            if number != int(number):
                raise RowError(name, f"{value!r} is not a whole number")
            return int(number)
        return number

    def _finish_event(self, row: dict[str, Any]) -> None:
        row["event_type"] = self.mapping.event_types.get(row["event_type"], row["event_type"])
        quantity = row["quantity"]
        if quantity is not None and quantity < 0:
            if not self.mapping.negative_quantity:
                raise RowError("quantity", f"{quantity:g} is below 0")
            row["event_type"], row["quantity"] = self.mapping.negative_quantity, -quantity
        if row["event_type"] == "search":
            if not row["query"]:
                raise RowError("query", "is missing in a search event")
        elif not row["product_id"]:
            raise RowError("product_id", "is missing")

    def _category(self, value: Any) -> list[str]:
        if value is None:
            return []
        if isinstance(value, str):
            levels: list[Any] = value.split(self.mapping.category_separator)
        elif isinstance(value, list | tuple):
            levels = list(value)
        else:
            levels = [value]
        cleaned = (clean_text(_checked_text("category", level)) for level in levels if level is not None)
        # The separator of our own path must not appear inside a level.
        return [level.replace(CATEGORY_SEPARATOR.strip(), "/") for level in cleaned if level]

    def _time(self, name: str, value: Any) -> int:
        if isinstance(value, datetime):
            moment = value if value.tzinfo else value.replace(tzinfo=timezone.utc)
            return round(moment.timestamp() * 1000)
        text = _checked_text(name, value).strip()
        for form in self.mapping.timestamp_formats:
            try:
                moment = datetime.strptime(text, form)
            except ValueError:
                continue
            return round((moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp() * 1000)
        try:
            return self._numeric_time(name, float(text))
        except ValueError:
            pass
        # datetime.fromisoformat takes "Z" and " UTC" only from Python 3.11 on, or never.
        iso = re.sub(r"\s*(Z|UTC)$", "+00:00", text)
        iso = re.sub(r"\.(\d+)", lambda found: "." + (found.group(1) + "000000")[:6], iso)
        try:
            moment = datetime.fromisoformat(iso)
        except ValueError:
            raise RowError(name, f"{text!r} is not a time") from None
        return round((moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp() * 1000)

    def _numeric_time(self, name: str, number: float) -> int:
        if not math.isfinite(number):
            raise RowError(name, f"{number!r} is not a time")
        unit = self.mapping.timestamp_unit
        if unit == "auto":
            unit = "s" if abs(number) < 1e11 else "ms" if abs(number) < 1e14 else "us"
        milliseconds = round(number * {"s": 1000.0, "ms": 1.0, "us": 0.001}[unit])
        if abs(milliseconds) > _LARGEST_TIME * 1000:
            raise RowError(name, f"{number!r} is not a time")
        return milliseconds

    def attribute_names(self, columns: Iterable[str]) -> dict[str, str]:
        """Return column to attribute name for a users file: every column but the id, renamed by the mapping."""
        renamed = {
            column: name
            for name, mapped in self.mapping.columns.items()
            for column in ([mapped] if isinstance(mapped, str) else mapped)
        }
        return {column: renamed.get(column, column) for column in columns if column not in self._columns["user_id"]}

    def _attributes(self, raw: Mapping[str, Any]) -> dict[str, str | float | None]:
        """Return a user's attributes; numbers only where the mapping says so."""
        attributes: dict[str, str | float | None] = {}
        for column, name in self.attribute_names(raw).items():
            value = raw[column]
            empty = value is None or value == "" or (isinstance(value, str) and value in self._missing)
            if name in self.mapping.numeric:
                attributes[name] = None if empty else _number(name, value)
            else:
                attributes[name] = "" if empty else clean_text(_checked_text(name, value))
        return attributes


def _identifier(name: str, value: Any) -> str:
    # A float id is an id column with gaps that pandas read as numbers: 17850.0 is 17850.
    if isinstance(value, float):
        if not math.isfinite(value):
            raise RowError(name, f"{value!r} is not an id")
        value = int(value) if value == int(value) else value
    if isinstance(value, list | dict | bool):
        raise RowError(name, f"{value!r} is not an id")
    text = _checked_text(name, value).strip()
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in text):
        raise RowError(name, f"{text!r} holds control characters")
    return text


def _checked_text(name: str, value: Any) -> str:
    # The readers hand on as bytes what is not UTF-8, so that one bad byte costs one row and not the file.
    if isinstance(value, bytes):
        raise RowError(name, f"bad UTF-8: {value[:40]!r}")
    return str(value)


def _flat_text(name: str, value: Any) -> str:
    if isinstance(value, list | tuple):
        return ". ".join(_checked_text(name, part) for part in value if part is not None and part != "")
    return _checked_text(name, value)


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool | list | dict):
        raise RowError(name, f"{value!r} is not a number")
    if isinstance(value, str | bytes):
        text = _checked_text(name, value).strip().removeprefix("$")
        try:
            number = float(text)
        except ValueError:
            raise RowError(name, f"{value!r} is not a number") from None
        if "_" in text:
            raise RowError(name, f"{value!r} is not a number")
    else:
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            raise RowError(name, f"{value!r} is not a number") from None
    if not math.isfinite(number):
        raise RowError(name, f"{value!r} is not a finite number")
    return number


def category_prefixes(path: Iterable[str]) -> list[str]:
    """Return every prefix of a category path as one text: ``["A", "A > B", ...]``.

    >>> category_prefixes(["Makeup", "Face"])
    ['Makeup', 'Makeup > Face']
    """
    prefixes: list[str] = []
    for level in path:
        prefixes.append(f"{prefixes[-1]}{CATEGORY_SEPARATOR}{level}" if prefixes else level)
    return prefixes


def product_text(product: Product) -> str:
    """Return the text that the encoder reads for a product: title, brand, and category path."""
    parts = (product["title"], product["brand"], CATEGORY_SEPARATOR.join(product["category"]))
    return ". ".join(part for part in parts if part)
