"""Tables: whether a file holds events, products or users."""

from collections.abc import Iterable

from tfrs_shop.errors import UserError
from tfrs_shop.own_data.columns import Columns, event_columns
from tfrs_shop.own_data.evidence import Column
from tfrs_shop.own_data.names import OF_USERS, likeness, plain
from tfrs_shop.own_data.sample import Sample

PRODUCT_WORDS = ("title", "description", "category", "brand", "price")


def columns_of(sample: Sample) -> Columns:
    """Return the evidence of each column of `sample`."""
    rows = sample.good_rows()
    return {name: Column(name, [row.get(name) for row in rows]) for name in sample.columns}


def table_of(sample: Sample, columns: Columns) -> str:
    """Return ``events``, ``products`` or ``users``.

    Raises:
        UserError: nothing speaks for any of them.
    """
    user = _named(columns, "events", "user_id", least=60)
    product = _named(columns, "events", "product_id", least=35)
    session = _named(columns, "events", "session_id", least=35)
    typed = any(column.event_share >= 0.5 for column in columns.values())
    timed = any(column.times for column in columns.values())
    searched = _named(columns, "events", "query", least=90)
    described = sum(_named(columns, "products", field, least=60) != "" for field in PRODUCT_WORDS)
    if user and (product or searched or typed):
        return "events"
    if user:
        about_users = sum(plain(name) in OF_USERS for name in columns)
        return "users" if columns[user].unique > 0.9 or about_users or not timed else "events"
    if product:
        once = columns[product].unique > 0.98
        if (session and timed and not once) or (typed and timed):
            return "events"
        if described or once:
            return "products"
    if any(plain(name) == "id" for name in columns):
        about_users = sum(plain(name) in OF_USERS for name in columns)
        if about_users or described:
            return "users" if about_users > described else "products"
    if typed or (timed and not described):
        found = event_columns(columns, set())
        if {"user_id", "product_id"} <= found.fields.keys():
            return "events"
    if described and any(column.looks_like_an_id and column.unique > 0.98 for column in columns.values()):
        return "products"
    raise UserError(
        f"{sample.name}: cannot be told to hold events, products or users by its columns "
        f"{', '.join(sample.columns)}; say which, with --events, --products or --users before the file."
    )


def _named(columns: Columns, table: str, field: str, least: float) -> str:
    best = max(columns, key=lambda name: likeness(name, table, field), default="")
    fits = best and columns[best].is_plain and likeness(best, table, field) >= least
    return best if fits else ""


def ids(columns: Columns, names: Iterable[str]) -> set[str]:
    """Return the values of the columns `names`."""
    return {value for name in names for value in columns[name].counts}
