"""The simulated shop's users: hidden tastes, a visible profile, and the utility of every product to a user.

Utility is the log of the odds that a user picks a product among those of one category:

    popularity + liked look, colour and functions - (price level - price band)^2 + brand loyalty

Look, colour and functions show in a product's words only; the rest shows in its other columns. (This is the multinomial
logit of D. McFadden, "Conditional logit analysis of qualitative choice behavior", 1974.)
"""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from tfrs_shop.sources.simulator_catalogue import Catalogue
from tfrs_shop.sources.simulator_words import (
    BRAND_NAMES,
    BRANDS,
    CONCEPT_IDS,
    CONCEPTS,
    DEPARTMENTS,
    TYPE_NAMES,
    TYPES,
)

POPULARITY_WEIGHT = 0.4
LOOK_WEIGHT, COLOUR_WEIGHT, FUNCTION_WEIGHT = 4.5, 3.0, 1.0
PRICE_WEIGHT = 0.2
LOYALTY = 0.8
SECOND_LOOK, DISLIKED_LOOK = 0.7, -0.5  # of a user's second look, and of one that they avoid; the first is 1
LIKED_COLOURS, LIKED_FUNCTIONS = 3, 6
GOOD_MATCH = LOOK_WEIGHT + COLOUR_WEIGHT  # text utility of a product of the first look in a liked colour
VISITS = 0.5  # mean log of the number of sessions per user
BREADTH = 0.4  # shape of the gamma draws behind interests: small means few strong ones

PROFILE = {
    "age_band": ("18-24", "25-34", "35-44", "45-54", "55+"),
    "region": ("north", "south", "east", "west"),
    "device": ("mobile", "desktop", "tablet"),
    "membership": ("none", "basic", "plus"),
}
# How much more (log scale) each age band looks at a department, in the order of DEPARTMENTS.
AGE_INTEREST = np.array(
    [
        [0.8, -0.4, 0.5, 0.0, -0.3, 0.0],
        [0.4, 0.2, 0.3, 0.3, 0.3, 0.0],
        [0.0, 0.4, 0.0, 0.3, 0.9, 0.2],
        [0.0, 0.5, 0.0, 0.2, 0.0, 0.4],
        [-0.5, 0.7, 0.2, -0.2, 0.3, 0.1],
    ]
)
INTENT_PRIOR = np.array([0.36, 0.24, 0.28, 0.12])  # in the order of INTENTS


@dataclass(frozen=True)
class Shoppers:
    """All users. Arrays are `[users]` unless said otherwise."""

    profile: dict[str, NDArray[np.int64]]  # places in the lists of PROFILE
    taste: NDArray[np.float64]  # [users, concepts], utility of a product's having each look, colour and function
    interest: NDArray[np.float64]  # [users, types], sums to 1
    loyalty: NDArray[np.float64]  # [users, brands]
    price_band: NDArray[np.float64]  # wanted price level, in standard deviations
    intents: NDArray[np.float64]  # [users, intents], sums to 1
    eagerness: NDArray[np.float64]  # adds to the log odds of carting and buying
    leniency: NDArray[np.float64]  # adds to ratings, in stars
    first_day: NDArray[np.float64]
    sessions: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.price_band)

    def match(self, catalogue: Catalogue, user: int) -> NDArray[np.float64]:
        """Return how each product's text-only attributes please the user, float64 `[products]`; 1 is a good match."""
        return catalogue.concepts @ self.taste[user] / GOOD_MATCH

    def utility(self, catalogue: Catalogue, user: int, *, reads_text: bool = True) -> NDArray[np.float64]:
        """Return the user's utility of each product, float64 `[products]`, with or without what only text tells."""
        visible = (
            POPULARITY_WEIGHT * catalogue.popularity
            - PRICE_WEIGHT * (catalogue.price_level - self.price_band[user]) ** 2
            + self.loyalty[user][catalogue.brand_index]
        )
        return visible + GOOD_MATCH * self.match(catalogue, user) if reads_text else visible


def make_shoppers(rng: Generator, *, users: int, days: int, type_share: NDArray[np.float64]) -> Shoppers:
    """Draw `users` users with tastes that are independent of their profile, and interests that lean on it."""
    profile = {
        "age_band": rng.choice(5, users, p=[0.2, 0.28, 0.22, 0.17, 0.13]),
        "region": rng.integers(4, size=users),
        "device": rng.choice(3, users, p=[0.58, 0.33, 0.09]),
        "membership": rng.choice(3, users, p=[0.5, 0.32, 0.18]),
    }
    department = np.array([DEPARTMENTS.index(TYPES[name].path[0]) for name in TYPE_NAMES])
    lean = np.exp(AGE_INTEREST[profile["age_band"]])[:, department]
    # gamma draws, normalised: a Dirichlet with a few strong interests per user
    interest = rng.gamma(BREADTH * lean) * type_share + 1e-6
    loyalty = np.zeros((users, len(BRAND_NAMES)))
    for names in BRANDS.values():
        favourites = rng.choice([BRAND_NAMES.index(name) for name in names], size=users)
        loyalty[np.arange(users), favourites] = LOYALTY * (rng.random(users) < 0.6)
    mobile = profile["device"] == 0
    intents = rng.gamma(6 * INTENT_PRIOR * np.where(mobile[:, None], [1.3, 0.8, 0.9, 1.0], 1.0)) + 1e-6
    return Shoppers(
        profile=profile,
        taste=_taste(rng, users),
        interest=interest / interest.sum(1, keepdims=True),
        loyalty=loyalty,
        price_band=np.clip(0.8 * rng.normal(size=users) + 0.2 * (profile["age_band"] - 2), -2, 2),
        intents=intents / intents.sum(1, keepdims=True),
        eagerness=0.5 * rng.normal(size=users) + np.array([-0.2, 0.0, 0.6])[profile["membership"]],
        leniency=0.4 * rng.normal(size=users),
        # most know the shop from the start, the others join on the way
        first_day=np.where(rng.random(users) < 0.6, 0.0, rng.random(users) * 0.7 * days),
        sessions=2
        + rng.poisson(np.exp(VISITS + 0.6 * rng.normal(size=users)) * (1 + 0.3 * (profile["membership"] == 2))),
    )


def _taste(rng: Generator, users: int) -> NDArray[np.float64]:
    """Draw one or two looks that each user likes and one they avoid, and the colours and functions they like."""
    taste = np.zeros((users, len(CONCEPTS)))
    rows = np.arange(users)[:, None]

    def shuffled(kind: str) -> NDArray[np.int64]:
        columns = np.array([column for name, column in CONCEPT_IDS.items() if name.startswith(kind)])
        return columns[np.argsort(rng.random((users, len(columns))), axis=1)]

    looks = shuffled("look:")
    taste[rows[:, 0], looks[:, 0]] = LOOK_WEIGHT
    taste[rows[:, 0], looks[:, 1]] = LOOK_WEIGHT * SECOND_LOOK * (rng.random(users) < 0.6)
    taste[rows[:, 0], looks[:, 2]] = LOOK_WEIGHT * DISLIKED_LOOK
    taste[rows, shuffled("colour:")[:, :LIKED_COLOURS]] = COLOUR_WEIGHT
    taste[rows, shuffled("function:")[:, :LIKED_FUNCTIONS]] = FUNCTION_WEIGHT
    return taste
