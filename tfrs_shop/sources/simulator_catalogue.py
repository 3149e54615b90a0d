"""The simulated shop's products: what each one truly is, and the columns that show of it.

Look, colour, material and functions are drawn independently of brand and price, and every look and colour occurs in
every category: only title and description tell them.
"""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from tfrs_shop.sources.simulator_titles import Attributes, product_description, product_title
from tfrs_shop.sources.simulator_words import (
    BRAND_NAMES,
    BRANDS,
    COLOURS,
    CONCEPT_IDS,
    LOOK_NAMES,
    LOOKS,
    TYPE_NAMES,
    TYPES,
    pick,
)

SHARE_OLD = 0.3  # of the products are there before the first day; the others arrive one by one
GROWTH = 1.5  # the newer the more: the shop grows, so the last weeks' products have few events each
COLOUR_OF_LOOK, MATERIAL_OF_LOOK = 0.4, 0.9  # how often colour and material are the look's own
TYPE_SPREAD = 0.9  # standard deviation of the log of a type's share of the catalogue
SHARE_ON_SALE = 0.12
PRICE_SPREAD = 0.45  # standard deviation of the log price within a type


@dataclass(frozen=True)
class Catalogue:
    """All products. Arrays are `[products]` unless said otherwise; days count from the start of the log."""

    attributes: list[Attributes]
    titles: list[str]
    descriptions: list[str]
    fits: NDArray[np.int64]  # of a phone case: the place of its phone; else -1
    type_index: NDArray[np.int64]
    brand_index: NDArray[np.int64]
    concepts: NDArray[np.bool_]  # [products, concepts]
    price: NDArray[np.float64]  # dollars
    price_level: NDArray[np.float64]  # log price against the type's median, in standard deviations
    popularity: NDArray[np.float64]  # standard normal; adds to the log of the odds to be chosen
    quality: NDArray[np.float64]  # standard normal; shows in ratings
    arrival: NDArray[np.float64]  # day of the first sale; negative: before the log starts
    sale_from: NDArray[np.float64]  # day; infinite when never on sale
    sale_to: NDArray[np.float64]
    rating_count: NDArray[np.int64]  # before the log starts, so nothing of the log leaks into the catalogue
    rating_mean: NDArray[np.float64]  # NaN without ratings
    type_share: NDArray[np.float64]  # [types], how much is sold of each type
    sales_rank: NDArray[np.int64]  # within the department, before the log starts; 0 for products not yet sold

    def __len__(self) -> int:
        return len(self.titles)

    def product_id(self, product: int) -> str:
        """Return the id of the product at this place; ids say nothing about time of arrival."""
        return f"P{product + 1:05d}"

    def path(self, product: int) -> tuple[str, ...]:
        """Return the category path, outermost first."""
        return TYPES[self.attributes[product].type_name].path


def _attributes(rng: Generator, type_name: str) -> Attributes:
    kind = TYPES[type_name]
    look = pick(rng, LOOK_NAMES)
    colour = pick(rng, LOOKS[look].colours if rng.random() < COLOUR_OF_LOOK else tuple(COLOURS))
    material_look = look if rng.random() < MATERIAL_OF_LOOK else pick(rng, LOOK_NAMES)
    functions = [str(name) for name in rng.permutation(kind.functions)[: rng.choice([1, 2, 3], p=[0.35, 0.45, 0.2])]]
    if "large" in functions and "small" in functions:
        functions.remove("small")
    letters = "".join(pick(rng, "ABCDEFGHKLMNPRSTVWXZ") for _ in range(2))
    return Attributes(
        type_name=type_name,
        brand=pick(rng, BRANDS[kind.path[0]]),
        model=f"{letters}{'-' if rng.random() < 0.5 else ''}{int(rng.integers(100, 9900))}",
        size=pick(rng, kind.sizes),
        look=look,
        colour=colour,
        material=f"{material_look}/{kind.family}",
        functions=tuple(functions),
    )


def make_catalogue(rng: Generator, *, products: int, days: int) -> Catalogue:
    """Draw `products` products in random order; every type gets one at least, and popular types many."""
    size = np.exp(TYPE_SPREAD * rng.normal(size=len(TYPE_NAMES)))
    more = rng.choice(len(TYPE_NAMES), size=products - len(TYPE_NAMES), p=size / size.sum())
    type_index = rng.permutation(np.concatenate([np.arange(len(TYPE_NAMES)), more]))
    attributes = [_attributes(rng, TYPE_NAMES[index]) for index in type_index]
    phones = [place for place, item in enumerate(attributes) if item.type_name == "smartphone"]
    # A case names the phone that it fits, so a phone's name alone may mean the phone or its case.
    fits = np.full(products, -1)
    fits[[place for place, item in enumerate(attributes) if item.type_name == "phone_case"]] = (
        rng.choice(phones, size=sum(item.type_name == "phone_case" for item in attributes)) if phones else -1
    )
    names = [attributes[phone].name if phone >= 0 else "" for phone in fits]
    price_level = np.clip(rng.normal(size=products), -2.5, 2.5)
    median = np.array([TYPES[item.type_name].price for item in attributes])
    popularity, quality = rng.normal(size=products), rng.normal(size=products)
    arrival = np.where(
        rng.random(products) < SHARE_OLD, -rng.exponential(200, products), days * rng.random(products) ** (1 / GROWTH)
    )
    old = arrival < 0
    on_sale = rng.random(products) < SHARE_ON_SALE
    sale_from = np.where(on_sale, np.floor(np.maximum(arrival, 0) + rng.random(products) * days * 0.8), np.inf)
    rating_count = np.where(old, rng.poisson(np.exp(2.5 + popularity)), 0)
    spread = 1 / np.sqrt(np.maximum(rating_count, 1))
    rating_mean = np.clip(3.9 + 0.4 * quality + spread * rng.normal(size=products), 1, 5)
    return Catalogue(
        attributes=attributes,
        titles=[product_title(rng, item, fits=name) for item, name in zip(attributes, names, strict=True)],
        descriptions=[product_description(rng, item) for item in attributes],
        fits=fits,
        type_index=type_index,
        brand_index=np.array([BRAND_NAMES.index(item.brand) for item in attributes]),
        concepts=_columns([item.concepts() for item in attributes], CONCEPT_IDS),
        price=np.round(median * np.exp(PRICE_SPREAD * price_level)) - 0.01,
        price_level=price_level,
        popularity=popularity,
        quality=quality,
        arrival=arrival,
        sale_from=sale_from,
        sale_to=sale_from + rng.integers(5, 15, products),
        rating_count=rating_count,
        rating_mean=np.where(rating_count > 0, rating_mean, np.nan),
        type_share=size / size.sum(),
        sales_rank=_sales_rank(rng, attributes, np.where(old, popularity, -np.inf)),
    )


def _columns(rows: list[tuple[str, ...]] | list[list[str]], ids: dict[str, int]) -> NDArray[np.bool_]:
    table = np.zeros((len(rows), len(ids)), bool)
    for row, names in enumerate(rows):
        table[row, [ids[name] for name in names]] = True
    return table


def _sales_rank(rng: Generator, attributes: list[Attributes], sold: NDArray[np.float64]) -> NDArray[np.int64]:
    """Rank within the department by past sales with some noise; 0 where nothing was sold."""
    noisy = sold + 0.5 * rng.normal(size=len(sold))
    departments = np.array([TYPES[item.type_name].path[0] for item in attributes])
    ranks = np.zeros(len(sold), np.int64)
    for department in set(departments.tolist()):
        members = np.flatnonzero((departments == department) & np.isfinite(sold))
        ranks[members[np.argsort(-noisy[members], kind="stable")]] = np.arange(1, len(members) + 1)
    return ranks
