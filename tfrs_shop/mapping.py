"""Column mappings: how the columns and event types of a foreign format become ours.

A mapping is a YAML file; ``--mapping NAME`` takes one that ships with the package
(``tfrs_shop/mappings/*.yaml``), ``--mapping FILE`` one's own. Without a mapping the columns are expected
under the names of ``tfrs_shop.schema``.
"""

import dataclasses
import re
from datetime import datetime, timezone
from importlib import resources
from pathlib import Path
from typing import Literal

from tfrs_shop.errors import UserError, suggest
from tfrs_shop.settings import load_yaml

# A field takes one column or several: text is joined from all, any other field takes the first that is not empty.
Columns = dict[str, str | list[str]]


@dataclasses.dataclass(frozen=True)
class TableMapping:
    """How one kind of file (events, products or users) is read.

    Attributes:
        columns: our field name to the file's column, or to several (text joined, else the first not empty).
        constants: our field name to a value that every row gets.
        header: column names of files that have no header line.
        delimiter: CSV delimiter; "" means a comma, or a tab in ``.tsv`` files.
        missing: texts that mean "no value" beside the empty text.
        skip: our field name to a regular expression; a row whose value matches it whole is left out on purpose,
            and counted as skipped, not as rejected.
        event_types: the file's event type to ours; a type that is not named here is kept as it is.
        negative_quantity: the event type of a row with a quantity below zero (such as ``return``), whose
            quantity then becomes positive; "" rejects such rows.
        timestamp_formats: ``strptime`` formats tried before ISO 8601 and numbers since 1970.
        timestamp_unit: unit of numeric times; ``auto`` tells seconds, milli-, micro- and nanoseconds by their size.
        decimal: what stands before the decimals of a number; with a comma, points group thousands.
        category_separator: what stands between the levels of a category given as one text.
        from_events: products only: the rows are event rows, so a product comes many times, and of each field the
            value seen most often counts; without it a second row of a product is rejected. (Where no products
            file is given, the catalogue is read out of the events files so.)
        numeric: users only: attributes that are numbers, not categories. Each makes a number feature, which is
            stored, and a bucket feature, which the model reads.
        ignore: users only: columns that are no attributes, such as names and addresses.
    """

    columns: Columns = dataclasses.field(default_factory=dict)
    constants: dict[str, str] = dataclasses.field(default_factory=dict)
    header: list[str] = dataclasses.field(default_factory=list)
    delimiter: str = ""
    missing: list[str] = dataclasses.field(default_factory=list)
    skip: dict[str, str] = dataclasses.field(default_factory=dict)
    event_types: dict[str, str] = dataclasses.field(default_factory=dict)
    negative_quantity: str = ""
    timestamp_formats: list[str] = dataclasses.field(default_factory=list)
    timestamp_unit: Literal["auto", "s", "ms", "us", "ns"] = "auto"
    decimal: Literal[".", ","] = "."
    category_separator: str = " > "
    from_events: bool = False
    numeric: list[str] = dataclasses.field(default_factory=list)
    ignore: list[str] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        for field, pattern in self.skip.items():
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"skip: {field}: {pattern!r} is not a regular expression ({error}).") from None
        for form in self.timestamp_formats:
            try:
                # With a zone, or a format that has one would be refused.
                datetime.strptime(datetime(2001, 12, 31, 23, 59, 58, tzinfo=timezone.utc).strftime(form), form)
            except ValueError as error:
                raise ValueError(f"timestamp_formats: {form!r} is not a strptime format ({error}).") from None
        if len(self.delimiter) > 1:
            raise ValueError(f"delimiter: {self.delimiter!r} is not one character.")
        if not self.category_separator:
            raise ValueError("category_separator: must not be empty; leave it out where categories have one level.")
        twice = [name for name in self.header if self.header.count(name) > 1]
        if twice:
            raise ValueError(f"header: names the column '{twice[0]}' twice; rename one.")
        for field in self.columns:
            if field in self.constants:
                raise ValueError(f"columns and constants both name '{field}'; take it out of one.")


@dataclasses.dataclass(frozen=True)
class Mapping:
    """The three tables of a shop: events, products, users."""

    description: str = ""
    events: TableMapping = dataclasses.field(default_factory=TableMapping)
    products: TableMapping = dataclasses.field(default_factory=TableMapping)
    users: TableMapping = dataclasses.field(default_factory=TableMapping)


def shipped_mappings() -> list[str]:
    """Return the names of the mappings that ship with the package."""
    folder = resources.files("tfrs_shop") / "mappings"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_mapping(name_or_path: str) -> Mapping:
    """Return the mapping called `name_or_path` ("" for our own column names), checked against the schema.

    Raises:
        UserError: there is no such mapping, or it names a field that does not exist.
    """
    from tfrs_shop.schema import TABLES

    if not name_or_path:
        return Mapping()
    if name_or_path in shipped_mappings():
        with resources.as_file(resources.files("tfrs_shop") / "mappings" / f"{name_or_path}.yaml") as path:
            mapping = load_yaml(Mapping, path)
    elif Path(name_or_path).exists():
        mapping = load_yaml(Mapping, name_or_path)
    else:
        near = suggest(name_or_path, shipped_mappings())
        raise UserError(
            f"--mapping {name_or_path}: no such file, and no mapping of that name ships with the package.{near} "
            f"Shipped: {', '.join(shipped_mappings())}."
        )
    for table in ("events", "products"):
        settings: TableMapping = getattr(mapping, table)
        known = [field.name for field in TABLES[table]]
        for field in [*settings.columns, *settings.constants, *settings.skip]:
            if field not in known:
                near = suggest(field, known)
                raise UserError(f"{name_or_path}: {table}: unknown field '{field}'.{near} Known: {', '.join(known)}.")
    for field in [*mapping.users.constants, *mapping.users.skip]:
        if field != "user_id":
            raise UserError(f"{name_or_path}: users: constants and skip know only user_id, not '{field}'.")
    return mapping
