"""How well the best possible ranking does: the simulator's own chances, with and without what only text tells."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from tfrs_shop.sources.simulator_log import Choice
from tfrs_shop.sources.simulator_queries import Wanted
from tfrs_shop.sources.simulator_sessions import WANTED_WEIGHT
from tfrs_shop.sources.simulator_shop import Shop
from tfrs_shop.sources.simulator_shoppers import GOOD_MATCH

TOP = 10


def choice_log_chances(shop: Shop, choice: Choice, *, reads_text: bool = True) -> NDArray[np.float64]:
    """Return the log chance of every product at that moment, float64 `[products]`; minus infinity for seen ones.

    With text these are the chances by which the simulator drew, what the user had in mind included: the upper bound.
    Without, look, colour, material, functions and the query are unknown (they are independent of the other columns).
    What stays: the type as far as the events before tell it, popularity, price, brand, novelty, sales, things seen, and
    the user's true tastes in all of these.
    """
    utility, wanted, types = choice.utility, choice.wanted, choice.types
    if not reads_text:
        utility = utility - GOOD_MATCH * shop.shoppers.match(shop.catalogue, choice.user)
        wanted, types = Wanted(""), choice.guess
    scores = np.full(len(shop.catalogue), -np.inf)
    for type_index in np.flatnonzero(types):
        members = shop.members[type_index]
        odds = utility[members] + shop.of_the_day(members, choice.day)
        odds = odds + WANTED_WEIGHT * wanted.share(shop.catalogue, members)
        if np.isfinite(odds).any():
            top = odds.max()
            scores[members] = np.log(types[type_index]) + odds - top - np.log(np.exp(odds - top).sum())
    return np.where(choice.seen, -np.inf, scores)


def score(shop: Shop, choices: Iterable[Choice], *, reads_text: bool = True) -> dict[str, float]:
    """Return NDCG@10 and Recall@10 of that ranking, averaged over the choices; every product is ranked."""
    gains = []
    for choice in choices:
        chances = choice_log_chances(shop, choice, reads_text=reads_text)
        rank = int((chances > chances[choice.product]).sum())
        possible = np.isfinite(chances[choice.product])  # in a tiny shop a sold-out type sends users elsewhere
        gains.append(1 / np.log2(rank + 2) if possible and rank < TOP else 0.0)
    return {
        f"ndcg@{TOP}": round(float(np.mean(gains)), 4) if gains else 0.0,
        f"recall@{TOP}": round(float(np.mean(np.array(gains) > 0)), 4) if gains else 0.0,
    }
