"""What an event, a product and a user are: the fields of a row, named here for every other part."""

import dataclasses
import math
from collections.abc import Collection, Iterable
from typing import Literal, TypedDict

# What a user did to a product in earnest can be asked for; a search has no product, and a return is no wish.
NO_TARGETS = frozenset({"search", "return"})
# Event types after which a product is the user's already.
BOUGHT = ("purchase", "review", "rating")
CATEGORY_SEPARATOR = " > "

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
    Field("title", "text", columns=("title", "product_title", "product_name", "name")),
    Field("description", "text", columns=("description", "bullet_points", "color")),
    Field("category", "category", columns=("category", "categories", "product_class")),
    Field("brand", "text", columns=("brand", "product_brand")),
    Field("price", "float", minimum=0.0),
    Field("rating_mean", "float", columns=("rating_mean", "rating")),
    Field("rating_count", "float", minimum=0.0),
    Field("sales_rank", "float", minimum=0.0),
    Field("on_sale_from", "time"),
    Field("on_sale_to", "time"),
)
USER_FIELDS = (Field("user_id", "id", required=True),)
# Text fields that are joined from all their columns; any other field takes the first column that has a value.
JOINED_FIELDS = frozenset({"title", "description"})
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


def is_target_type(event_type: str, target_events: Collection[str]) -> bool:
    """Tell whether an event of `event_type` can be what an example asks for; no `target_events` means the default."""
    return event_type in target_events if target_events else event_type not in NO_TARGETS


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
    return joined_product_text(product["title"], product["brand"], CATEGORY_SEPARATOR.join(product["category"]))


def joined_product_text(title: str, brand: str, category: str) -> str:
    """Return what `product_text` returns, given the category path as one text."""
    return ". ".join(part for part in (title, brand, category) if part)
