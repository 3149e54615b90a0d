"""The simulated shop as a place: its shelves by type, what day does to products and interests, what goes with what."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tfrs_shop.sources.simulator_catalogue import Catalogue
from tfrs_shop.sources.simulator_shoppers import Shoppers
from tfrs_shop.sources.simulator_words import COMPLEMENTS, DEPARTMENTS, TYPE_NAMES, TYPES

NOVELTY, NOVELTY_DAYS = 1.0, 6.0  # utility of a product on its first day, and how fast it fades
ON_SALE, DISCOUNT = 0.5, 0.8
SEASON_SWING = {"Outdoor": 0.5, "Toys": -0.3, "Office": -0.25}  # log interest at midsummer; opposite in winter
FIRST_DAY_OF_YEAR, MIDSUMMER = 104, 196  # the log starts in the middle of April


@dataclass
class Shop:
    """The catalogue with what the simulation looks up at every step."""

    catalogue: Catalogue
    shoppers: Shoppers
    days: int
    held_out: set[frozenset[str]]
    members: list[NDArray[np.int64]] = field(init=False)  # places of each type's products
    departments: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self.members = [np.flatnonzero(self.catalogue.type_index == t) for t in range(len(TYPE_NAMES))]
        self.departments = np.array([DEPARTMENTS.index(TYPES[name].path[0]) for name in TYPE_NAMES])

    def on_sale(self, products: NDArray[np.int64], day: float) -> NDArray[np.bool_]:
        """Tell which of `products` are on sale on that day, bool `[products]`."""
        return (self.catalogue.sale_from[products] <= day) & (day < self.catalogue.sale_to[products])

    def paid(self, product: int, day: float) -> float:
        """Return the price of one piece on that day."""
        on_sale = self.catalogue.sale_from[product] <= day < self.catalogue.sale_to[product]
        return round(float(self.catalogue.price[product]) * (DISCOUNT if on_sale else 1.0), 2)

    def of_the_day(self, products: NDArray[np.int64], day: float) -> NDArray[np.float64]:
        """Return what time adds to utility: new products and sales draw, what is not yet sold is minus infinity."""
        age = day - self.catalogue.arrival[products]
        fresh = np.where(self.catalogue.arrival[products] >= 0, NOVELTY * np.exp(-np.maximum(age, 0) / NOVELTY_DAYS), 0)
        return np.where(age < 0, -np.inf, fresh + ON_SALE * self.on_sale(products, day))

    def interest(self, user: int, day: float) -> NDArray[np.float64]:
        """Return the chance of each type to start a session, by the user's interests and the season."""
        summer = np.cos(2 * np.pi * (FIRST_DAY_OF_YEAR + day - MIDSUMMER) / 365)
        swing = np.array([SEASON_SWING.get(name, 0.0) for name in DEPARTMENTS])[self.departments]
        weights = self.shoppers.interest[user] * np.exp(swing * summer)
        return weights / weights.sum()

    def complements(self, type_index: int) -> NDArray[np.float64]:
        """Return the chance of each type to be bought with this one; all 0 when nothing goes with it."""
        chances = np.zeros(len(TYPE_NAMES))
        for name, weight in COMPLEMENTS.get(TYPE_NAMES[type_index], {}).items():
            chances[TYPE_NAMES.index(name)] = weight
        return chances / max(chances.sum(), 1e-9)
