"""Columns: which column of a table holds which of our fields, by its name and by its values."""

import dataclasses
from collections.abc import Callable, Iterable

from tfrs_shop.own_data.evidence import Column, depends
from tfrs_shop.own_data.names import AGAINST, likeness, plain

Columns = dict[str, Column]
Fits = Callable[[Column], bool]
CERTAIN = 60.0  # the likeness of a name that is all of the column's name
NUMERIC = 0.97
SAME_PRODUCT = 0.8
SHORT_TEXT = 120
MOST_RATING = 100
NAMELESS = "column_"  # what begins the name of a column in a file without a header


@dataclasses.dataclass
class Found:
    """What was found in a table.

    Attributes:
        fields: our field to its columns.
        guessed: what was decided on thin ground, and how to change it.
        refused: our field to the column that has its name, but not its values, and why.
    """

    fields: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    guessed: list[str] = dataclasses.field(default_factory=list)
    refused: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def taken(self) -> set[str]:
        """The columns in use."""
        return {name for names in self.fields.values() for name in names}


def event_columns(columns: Columns, products: set[str]) -> Found:
    """Return what an events table holds; `products` are ids of the catalogue, or none."""
    found = Found()
    _take(found, _event_type(columns), "event_type")
    _take(found, _timestamp(columns, found), "timestamp")
    ids = {name: column for name, column in columns.items() if column.looks_like_an_id and column.filled > 0.2}
    # Google Analytics' users are called 1234567890.1234567890.
    named = _best(columns, "events", "user_id", found.taken, lambda column: column.may_be_an_id and column.filled > 0.2)
    _take(found, named, "user_id")
    listed = _best(ids, "events", "product_id", found.taken, bonus=lambda column: 200 * _overlap(column, products))
    _take(found, listed, "product_id")
    # A log of searches has no products.
    searched = _best(columns, "events", "query", found.taken, lambda column: not _is_number(column))
    _ids_by_value({name: ids[name] for name in ids if name != searched}, found, products, need_product=not searched)
    session = _best(ids, "events", "session_id", found.taken, lambda column: column.filled > 0.5)
    if session and "user_id" not in found.fields:
        _take(found, session, "user_id")
        found.guessed.append(
            f"No column names a user, so a session counts as one: user_id is {session}. "
            "If there is a better column, name it under events: columns: user_id."
        )
    else:
        _take(found, session, "session_id")
    for field, fits in (
        ("rating", lambda column: _is_number(column) and max(column.numbers, default=0) <= MOST_RATING),
        ("query", lambda column: column.is_plain and column.number_share < 0.5),
        ("quantity", lambda column: _is_number(column) and column.whole_share > NUMERIC),
        (
            "price",
            _is_price,
        ),
    ):
        _take_or_refuse(found, columns, "events", field, fits)
    counted = _best(columns, "events", "position", found.taken, lambda column: _counts_up(column, columns, found))
    if counted and (counted == "position" or "timestamp" not in found.fields):
        _take(found, counted, "position")
    return found


def wide_columns(columns: Columns, events: Found) -> Found:
    """Return which fields of products the rows of an events table hold as well."""
    product = columns[events.fields["product_id"][0]]
    others = {
        name: column
        for name, column in columns.items()
        if name not in events.taken and (share := depends(product, column), share is None or share >= SAME_PRODUCT)[1]
    }
    found = product_columns(others, set())
    found.fields.pop("product_id", None)
    for field in ("rating_mean", "rating_count", "sales_rank", "on_sale_from", "on_sale_to"):
        found.fields.pop(field, None)
    found.refused = {}
    if "price" in events.fields:
        found.fields["price"] = events.fields["price"]
    if "category" not in found.fields:
        follower = _follower(columns, product, events.taken | found.taken)
        _take(found, follower, "category")
        if follower:
            found.guessed.append(
                f"The category is {follower}, since it follows from the product; name another column under products: "
                "columns: category."
            )
    found.fields = {"product_id": events.fields["product_id"], **found.fields}
    return found


def product_columns(columns: Columns, sold: set[str]) -> Found:
    """Return what a catalogue holds; `sold` are product ids of the events, or none."""
    found = Found()
    ids = {name: column for name, column in columns.items() if column.looks_like_an_id}
    # Of several numbers that a catalogue has for a product, the one counts that the events know.
    known = max(ids, key=lambda name: _overlap(ids[name], sold), default="")
    if known and _overlap(ids[known], sold) > 0.05 and ids[known].unique > 0.1:
        _take(found, known, "product_id")
        if likeness(known, "products", "product_id") == 0 and plain(known) != "id":
            found.guessed.append(f"product_id is {known}, since its values are those of the events' products.")
    else:
        named = _best(ids, "products", "product_id", set(), bonus=lambda column: 50 * column.unique)
        named = named or next((name for name in ids if plain(name) == "id"), "")
        _take(found, named, "product_id")
        unique = [name for name in ids if ids[name].unique > 0.98]
        if unique and not named:
            _take(found, unique[0], "product_id")
            found.guessed.append(
                f"product_id is {unique[0]}, whose values differ in all rows; name another column under products: "
                "columns: product_id."
            )
    text = {name: column for name, column in columns.items() if _is_text(column)}
    _take(found, _best(text, "products", "title", found.taken), "title")
    if "title" not in found.fields:
        short = _best(
            text,
            "products",
            "description",
            found.taken,
            lambda column: column.length < SHORT_TEXT and column.unique > 0.1,
        )
        _take(found, short, "title")
        if not short:
            likely = [
                name
                for name in text
                if name not in found.taken
                and text[name].is_plain
                and text[name].length > 10
                and text[name].unique > 0.3
                and sum(" " in str(value) for value in text[name].values) > 0.5 * len(text[name].values)
            ]
            _take(found, likely[0] if likely else "", "title")
        if "title" in found.fields:
            found.guessed.append(
                f"The title is {found.fields['title'][0]}; another column can be named under products: columns: title."
            )
    _categories(found, columns)
    brand = _best(text, "products", "brand", found.taken, lambda column: column.length < 60)
    _take(found, brand, "brand")
    for field, fits in (
        (
            "price",
            _is_price,
        ),
        ("rating_count", _is_number),
        ("rating_mean", lambda column: _is_number(column) and max(column.numbers, default=0) <= MOST_RATING),
        ("sales_rank", lambda column: _is_number(column) and min(column.numbers, default=0) >= 0),
        ("on_sale_from", lambda column: column.times is not None),
        ("on_sale_to", lambda column: column.times is not None),
    ):
        _take_or_refuse(found, columns, "products", field, fits)
    described = [
        name for name in text if name not in found.taken and likeness(name, "products", "description") >= CERTAIN
    ]
    described.sort(key=lambda name: -likeness(name, "products", "description"))
    if described:
        found.fields["description"] = described
    return found


def user_columns(columns: Columns) -> Found:
    """Return what a table of users holds: the id."""
    found = Found()
    ids = {name: column for name, column in columns.items() if column.looks_like_an_id}
    named = _best(ids, "users", "user_id", set(), bonus=lambda column: 50 * column.unique)
    _take(found, named or next((name for name in ids if plain(name) == "id"), ""), "user_id")
    return found


def is_against(event_type: str) -> bool:
    """Tell whether the words of an event type say that the product was not wanted, or was only shown."""
    return any(word in plain(event_type) for word in AGAINST)


def _event_type(columns: Columns) -> str:
    def worth(name: str) -> float:
        column = columns[name]
        by_name = likeness(name, "events", "event_type")
        if column.event_share >= 0.5:
            return 100 + by_name + 50 * column.event_share
        few = column.is_plain and len(column.counts) <= 40 and column.unique < 0.5 and column.filled > 0.5
        return by_name if by_name >= 80 and few and plain(name) != "type" else 0.0

    best = max(columns, key=worth, default="")
    return best if best and worth(best) > 0 else ""


def _timestamp(columns: Columns, found: Found) -> str:
    def worth(name: str) -> float:
        times = columns[name].times
        if name in found.taken or times is None or columns[name].filled < 0.5:
            return 0.0
        by_name = likeness(name, "events", "timestamp")
        # Ten digits may be any number; a text that reads as a time is one.
        by_value = 20.0 if times.unit == "auto" else 5.0
        return by_value + by_name + (0 if times.days_only else 30)

    best = max(columns, key=worth, default="")
    if not best or worth(best) <= 0:
        return ""
    return best


def _ids_by_value(ids: Columns, found: Found, products: set[str], *, need_product: bool) -> None:
    """Find the user and the product where no name says which column they are."""
    free = [name for name in ids if name not in found.taken and len(ids[name].counts) > 1]
    if "product_id" not in found.fields and free and need_product:
        known = max(free, key=lambda name: _overlap(ids[name], products))
        if _overlap(ids[known], products) > 0.2:
            product = known
        else:
            # The user comes first in nearly every log, and a category follows from its product.
            rest = free if "user_id" in found.fields else free[1:]
            product = next((name for name in rest if _has_follower(ids, name, rest)), rest[0] if rest else "")
        _take(found, product, "product_id")
        if product:
            found.guessed.append(
                f"product_id is {product}, by its values alone; name another one under events: columns: product_id."
            )
    if "user_id" not in found.fields and not _named(ids, found, "session_id"):
        free = [name for name in free if name not in found.taken]
        if free:
            _take(found, free[0], "user_id")
            found.guessed.append(
                f"user_id is {free[0]}, by its values alone; name another one under events: columns: user_id."
            )


def _named(ids: Columns, found: Found, field: str) -> bool:
    return any(name not in found.taken and likeness(name, "events", field) > 0 for name in ids)


def _follower(columns: Columns, product: Column, taken: set[str]) -> str:
    """Return the column without a telling name whose value is the same wherever the product is, and rarer; or ""."""
    for name, column in columns.items():
        fits = name not in taken and column.looks_like_an_id and name.startswith(NAMELESS)
        if fits and 1 < len(column.counts) < len(product.counts) and (depends(product, column) or 0) > 0.95:
            return name
    return ""


def _has_follower(ids: Columns, product: str, names: Iterable[str]) -> bool:
    """Tell whether another of the columns is the same wherever the product is the same, and has fewer values."""
    return any(
        other != product
        and len(ids[other].counts) < len(ids[product].counts)
        and (depends(ids[product], ids[other]) or 0) > 0.95
        for other in names
    )


def _categories(found: Found, columns: Columns) -> None:
    def fits(column: Column) -> bool:
        return not column.is_grouped and column.filled > 0.05 and (not column.is_plain or column.unique < 0.6)

    def numeric(column: Column) -> float:
        return -200.0 if column.is_plain and column.number_share > 0.9 else 20.0 * (not column.is_plain)

    taken = set(found.taken)
    first = _best(columns, "products", "category", taken, fits, numeric, least=-200)
    if not first:
        return
    names = [first]
    if columns[first].filled < 0.98 and numeric(columns[first]) >= 0:
        others = {name: column for name, column in columns.items() if numeric(column) >= 0}
        second = _best(others, "products", "category", taken | {first}, fits, numeric)
        names += [second] if second and likeness(second, "products", "category") >= CERTAIN else []
    found.fields["category"] = names


def _best(
    columns: Columns,
    table: str,
    field: str,
    taken: set[str],
    fits: Fits = lambda column: True,
    bonus: Callable[[Column], float] = lambda column: 0.0,
    least: float = 0.0,
) -> str:
    """Return the column whose name is most like one of `field` and whose values fit, or ""."""
    scores = {
        name: likeness(name, table, field) + bonus(column)
        for name, column in columns.items()
        if name not in taken and column.values and likeness(name, table, field) > 0 and fits(column)
    }
    best = max(scores, key=lambda name: scores[name], default="")
    return best if best and scores[best] > least else ""


def _take(found: Found, column: str, field: str) -> None:
    if column:
        found.fields[field] = [column]


def _take_or_refuse(found: Found, columns: Columns, table: str, field: str, fits: Fits) -> None:
    best = _best(columns, table, field, found.taken, fits)
    if best:
        found.fields[field] = [best]
        return
    named = _best(columns, table, field, found.taken)
    if named and likeness(named, table, field) >= CERTAIN:
        odd = next((value for value in columns[named].values if not _reads_as_number(value)), columns[named].values[0])
        found.refused[field] = f"{named} (its values are not those of a {field}: {str(odd)[:40]!r})"


def _reads_as_number(value: object) -> bool:
    try:
        float(str(value).removeprefix("$"))
    except ValueError:
        return False
    return True


def _overlap(column: Column, ids: set[str]) -> float:
    """Return the share of a column's distinct values that are among `ids`."""
    if not ids or not column.values:
        return 0.0
    return sum(value in ids for value in column.counts) / min(len(column.counts), len(ids))


def _is_number(column: Column) -> bool:
    return column.is_plain and column.number_share >= NUMERIC


def _is_price(column: Column) -> bool:
    return _is_number(column) and sum(value < 0 for value in column.numbers) < 0.02 * column.rows


def _is_text(column: Column) -> bool:
    if column.is_grouped or not column.values or column.number_share > 0.5:
        return False
    if any(isinstance(value, bool) for value in column.values):
        return False
    addresses = sum(str(value).lower().startswith(("http", "www.", "//")) for value in column.values[:200])
    return addresses < 0.5 * len(column.values[:200])


def _counts_up(column: Column, columns: Columns, found: Found) -> bool:
    """Tell whether a column numbers the events of a user: whole, and no number twice for one user."""
    if not _is_number(column) or column.whole_share < 1 or "user_id" not in found.fields:
        return False
    users = columns[found.fields["user_id"][0]].per_row
    pairs = [(user, place) for user, place in zip(users, column.per_row, strict=True) if user is not None]
    return len(set(pairs)) > 0.95 * len(pairs)
