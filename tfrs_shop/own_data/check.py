"""The check: the pipeline's own row parser on the sampled rows, and a count of all that were read."""

import dataclasses
from collections import Counter
from typing import Any

from pipelines.row_parser import RowParser
from pipelines.values import RowError
from tfrs_shop.mapping import Mapping
from tfrs_shop.own_data.sample import Sample
from tfrs_shop.schema import is_target_type


@dataclasses.dataclass
class Check:
    """What the pipeline would make of a table's sampled rows.

    Attributes:
        rows: how many were looked at.
        kept, skipped: of these.
        reasons: ``field kind`` to how many rows are rejected for it.
        examples: the same to one of them: file, row, reason.
    """

    rows: int = 0
    kept: int = 0
    skipped: int = 0
    reasons: Counter[str] = dataclasses.field(default_factory=Counter)
    examples: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def rejected(self) -> int:
        """How many rows are rejected."""
        return sum(self.reasons.values())

    @property
    def share(self) -> float:
        """The share that is rejected."""
        return self.rejected / self.rows if self.rows else 0.0

    def reject(self, path: str, number: int, error: RowError) -> None:
        """Count one rejected row."""
        reason = f"{error.field} {error.kind}".strip()
        self.reasons[reason] += 1
        self.examples.setdefault(reason, f"{path} row {number}: {error.field} {error.reason}".replace(":  ", ": "))


@dataclasses.dataclass
class Size:
    """How much there is, in the rows that were read.

    Attributes:
        events, users, products: how many.
        testable: users with three events that can be a target or more, which leave-one-out can hold out.
        user: the id of one with many events.
        product: the id of one.
    """

    events: int = 0
    users: int = 0
    products: int = 0
    testable: int = 0
    user: str = ""
    product: str = ""


def check_rows(table: str, sample: Sample, mapping: Mapping, order_by: str, catalogue: set[str] | None) -> Check:
    """Return what the pipeline would make of the sampled rows of `table`.

    Args:
        table: events, products or users.
        sample: its files.
        mapping: the mapping that is proposed.
        order_by: of events.
        catalogue: the ids of all products, where there is a catalogue of its own that was read whole.
    """
    check, parser = Check(), RowParser(table, getattr(mapping, table), order_by if table == "events" else "")
    of_products = RowParser("products", mapping.products) if table == "events" and catalogue is None else None
    for path, number, raw in sample.rows:
        check.rows += 1
        try:
            if isinstance(raw, RowError):
                raise raw
            if parser.skips(raw):
                check.skipped += 1
                continue
            row = parser.parse(raw)
            if of_products and row["product_id"]:
                of_products.parse(raw)
            if table == "events" and catalogue and row["product_id"] and row["product_id"] not in catalogue:
                raise RowError("product_id", "unknown product", row["product_id"])
        except RowError as error:
            check.reject(path, number, error)
        else:
            check.kept += 1
    return check


def measure(events: Sample, mapping: Mapping, targets: list[str]) -> Size:
    """Count users, products and events of all rows that were read."""
    parser = RowParser("events", mapping.events)
    fields = {field.name: parser.columns(field) for field in parser.fields}
    users: Counter[str] = Counter()
    aims: Counter[str] = Counter()
    products: Counter[str] = Counter()
    for _, _, raw in events.all_rows():
        if not isinstance(raw, dict) or parser.skips(raw):
            continue
        user, product = (_first(raw, fields[name]) for name in ("user_id", "product_id"))
        kind = mapping.events.constants.get("event_type") or _first(raw, fields["event_type"])
        kind = mapping.events.event_types.get(kind, kind)
        if user and (product or kind == "search"):
            users[user] += 1
            if product:
                products[product] += 1
                if is_target_type(kind, targets):
                    aims[user] += 1
    return Size(
        events=sum(users.values()),
        users=len(users),
        products=len(products),
        testable=sum(count >= 3 for count in aims.values()),
        user=max(aims or users, key=(aims or users).__getitem__, default=""),
        product=max(products, key=products.__getitem__, default=""),
    )


def product_ids(products: Sample, mapping: Mapping) -> tuple[set[str], int]:
    """Return the ids of all products that were read, and how many rows name one again."""
    parser = RowParser("products", mapping.products)
    field = parser.fields[0]
    columns, ids, again = parser.columns(field), set(), 0
    for _, _, raw in products.all_rows():
        product = _first(raw, columns) if isinstance(raw, dict) else ""
        again += product in ids
        if product:
            ids.add(product)
    return ids, again


def _first(raw: dict[str, Any], columns: tuple[str, ...]) -> str:
    for column in columns:
        value = raw.get(column)
        if value is not None and value != "":
            if isinstance(value, float) and value.is_integer():
                value = int(value)
            return str(value).strip()
    return ""
