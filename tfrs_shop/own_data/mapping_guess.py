"""From the columns that were found to the mapping of a table: what its values need beside their names."""

import dataclasses
import re
from collections import Counter
from pathlib import Path
from typing import Any

from tfrs_shop.mapping import TableMapping
from tfrs_shop.own_data.columns import Columns, Found, is_against
from tfrs_shop.own_data.evidence import Column
from tfrs_shop.own_data.names import event_word, words_of
from tfrs_shop.own_data.sample import Sample
from tfrs_shop.schema import NO_TARGETS, TABLES

TIMES = {"timestamp", "on_sale_from", "on_sale_to"}
NUMBERS = {field.name for fields in TABLES.values() for field in fields if field.kind in ("float", "int")}
# Below this share, rows without a user are bad rows; above it, they are a way of the shop's to say "a guest".
FEW = 0.002
NUMBER_NAMES = {"id", "no", "nr", "number", "phone", "tel", "mobile", "zip", "postcode", "row", "index"}


def events_mapping(sample: Sample, columns: Columns, found: Found) -> TableMapping:
    """Return the mapping of the events table, and add to ``found.guessed`` what a person should look at."""
    mapping = _mapping("events", sample, columns, found)
    constants, types = {}, {}
    if "event_type" in found.fields:
        column = columns[found.fields["event_type"][0]]
        types = {value: ours for value, ours in sorted(column.event_types.items()) if value != ours}
        _say_types(found, column)
    else:
        constants["event_type"] = kind = _kind_of_rows(sample, found)
        found.guessed.append(
            f"No column says what a user did, so every row is taken as '{kind}'; "
            "another word can be given under events: constants: event_type."
        )
    times = columns[found.fields["timestamp"][0]].times if "timestamp" in found.fields else None
    if times and times.days_only and "position" not in found.fields:
        found.guessed.append("Times are whole days, so events of one day are ordered as they stand in the file.")
    negative = ""
    if "quantity" in found.fields and any(value < 0 for value in columns[found.fields["quantity"][0]].numbers):
        negative = "return"
        found.guessed.append("A quantity below 0 is taken as a return of the product (events: negative_quantity).")
    return dataclasses.replace(
        mapping,
        constants=constants,
        event_types=types,
        negative_quantity=negative,
        skip=_skips(columns, found, types, constants),
    )


def products_mapping(sample: Sample, columns: Columns, found: Found, *, from_events: bool) -> TableMapping:
    """Return the mapping of a catalogue, or of the product fields in event rows."""
    mapping = _mapping("products", sample, columns, found)
    separator = ""
    if "category" in found.fields:
        separator = next((s for name in found.fields["category"] if (s := columns[name].separator())), "")
        if separator and columns[found.fields["category"][0]].is_plain:
            example = next(text for text in columns[found.fields["category"][0]].counts if separator in text)
            found.guessed.append(
                f"The levels of a category are taken apart at '{separator}', as in '{example[:60]}' "
                "(products: category_separator)."
            )
    if from_events:
        # These rows are read as the events say.
        mapping = dataclasses.replace(mapping, header=[], delimiter="")
    return dataclasses.replace(mapping, category_separator=separator or " > ", from_events=from_events)


def users_mapping(sample: Sample, columns: Columns, found: Found) -> TableMapping:
    """Return the mapping of a table of users: which attributes are numbers, and which are none."""
    numeric: list[str] = []
    ignored: list[str] = []
    for name, column in columns.items():
        if name in found.taken or not column.values:
            continue
        if column.is_plain and column.number_share > 0.99 and not isinstance(column.values[0], bool):
            if len(column.counts) <= 12:
                continue
            number_of_somebody = column.unique > 0.95 and NUMBER_NAMES.intersection(words_of(name))
            (ignored if number_of_somebody else numeric).append(name)
        elif column.is_grouped or (column.unique > 0.5 and len(column.counts) > 50) or len(column.counts) > 2000:
            ignored.append(name)
    if ignored:
        found.guessed.append(
            f"No attributes are made of {', '.join(ignored)}: nearly every user has another value (users: ignore)."
        )
    mapping = _mapping("users", sample, columns, found, extra=[name for name in columns if name not in ignored])
    # Of a membership, "none" is a value.
    missing = [text for text in mapping.missing if text.lower() not in ("none", "-", "--")]
    return dataclasses.replace(mapping, numeric=numeric, ignore=ignored, missing=missing)


def target_events(columns: Columns, found: Found, skip: str) -> list[str]:
    """Return the event types to learn from where some must not be, else none (which means the default).

    Args:
        columns, found: of the events.
        skip: what matches the event types that are left out.
    """
    if "event_type" not in found.fields:
        return []
    column = columns[found.fields["event_type"][0]]
    against = [value for value in column.counts if is_against(value)]
    if not against:
        return []
    ours = Counter({column.event_types.get(value, value): count for value, count in column.counts.items()})
    skipped = {value for value in column.counts if skip and re.fullmatch(skip, value)}
    unfit = {*NO_TARGETS, *against, *skipped}
    return [name for name, _ in ours.most_common() if name not in unfit and "," not in name]


def as_yaml(mapping: TableMapping) -> dict[str, Any]:
    """Return the settings of `mapping` that are not the default."""
    default = TableMapping()
    return {
        field.name: getattr(mapping, field.name)
        for field in dataclasses.fields(mapping)
        if getattr(mapping, field.name) != getattr(default, field.name)
    }


def _mapping(
    table: str, sample: Sample, columns: Columns, found: Found, extra: list[str] | None = None
) -> TableMapping:
    named: dict[str, str | list[str]] = {}
    for field in TABLES[table]:
        names = found.fields.get(field.name, [])
        present = [name for name in field.default_columns if name in columns and columns[name].values]
        if names != present:
            named[field.name] = names[0] if len(names) == 1 else names
    used = [columns[name] for name in [*found.taken, *(extra or [])] if name in columns]
    missing = sorted({text for column in used for text in column.missing})
    numbers = [name for field, names in found.fields.items() if field in NUMBERS for name in names]
    comma = any(columns[name].decimal_comma for name in numbers)
    return TableMapping(
        columns=named,
        header=sample.reading.header,
        delimiter=sample.reading.delimiter,
        missing=missing,
        timestamp_formats=_formats(columns, found),
        decimal="," if comma else ".",
    )


def _formats(columns: Columns, found: Found) -> list[str]:
    formats: list[str] = []
    for field in TIMES & found.fields.keys():
        times = columns[found.fields[field][0]].times
        if times is None:
            continue
        formats += [form for form in times.formats if form not in formats]
        if times.or_else:
            example = str(columns[found.fields[field][0]].values[0])
            found.guessed.append(
                f"'{example}' ({field}) is read as {times.formats[0]}; it could as well be {times.or_else}. "
                "Change timestamp_formats if so."
            )
    return formats


def _say_types(found: Found, column: Column) -> None:
    unknown = {value: count for value, count in column.counts.most_common() if not event_word(value)}
    if unknown:
        shown = ", ".join(f"'{value}' ({count:,})" for value, count in list(unknown.items())[:8])
        found.guessed.append(
            f"Event types that the model does not know by name are kept as they are: {shown}. "
            "Give their meaning under events: event_types (view, click, favorite, cart, purchase, return, rating, "
            "review or search)."
        )


def _kind_of_rows(sample: Sample, found: Found) -> str:
    """Return the event type that all rows of a table without one have, by the file's name, else by its columns."""
    if not {"product_id"} & found.fields.keys():
        return "search"
    for path in sample.files:
        for word in words_of(Path(path).name.split(".")[0]):
            if (ours := event_word(word)) and ours != "search":
                return ours
    if "rating" in found.fields:
        written = {"reviewtext", "text", "reviewbody", "summary", "reviewtitle", "review"}
        return "review" if any("".join(words_of(name)) in written for name in sample.columns) else "rating"
    return "purchase" if {"quantity", "price"} & found.fields.keys() else "view"


def _skips(columns: Columns, found: Found, types: dict[str, str], constants: dict[str, str]) -> dict[str, str]:
    """Return what to leave out on purpose: rows of nobody, and of event types that are never of a product."""
    skips: dict[str, str] = {}
    user = columns[found.fields["user_id"][0]]
    if 1 - user.filled > FEW:
        skips["user_id"] = ""
        found.guessed.append(
            f"{1 - user.filled:.1%} of the rows have no user and are left out on purpose (events: skip: user_id); "
            "so what guests did is not learnt from."
        )
    if "product_id" not in found.fields:
        return skips
    product = columns[found.fields["product_id"][0]]
    without = [place for place, value in enumerate(product.per_row) if value is None]
    if len(without) <= FEW * product.rows:
        return skips
    if "event_type" not in found.fields:
        skips["product_id"] = ""
        found.guessed.append(
            f"{len(without) / product.rows:.1%} of the rows have no product and are left out on purpose "
            "(events: skip: product_id)."
        )
        return skips
    column = columns[found.fields["event_type"][0]]
    total, empty = Counter(map(str, column.per_row)), Counter(str(column.per_row[place]) for place in without)
    never = [
        value
        for value, count in empty.items()
        if count > 0.95 * total[value] and types.get(value, value) != "search" and value != "None"
    ]
    if never:
        skips["event_type"] = "|".join(re.escape(value) for value in never)
        found.guessed.append(
            f"Events of type {', '.join(never)} are of no product and are left out (events: skip: event_type)."
        )
    return skips
