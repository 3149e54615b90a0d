"""What the simulated users do: sessions with an intent, searches, and the funnel view -> cart -> purchase -> rating.

A session has one intent and one or more errands. On an errand the user has something in mind (a type of product with
some attributes, to their own taste or for a present), mostly says it in a search, and opens products by their utility
(`simulator_shoppers`) and by how much they are what is wanted. What is carted is bought at the end, or left. The last
opening of a product new to the user is kept with all that the simulator knew at that moment, so that the true ranking
can be scored (`simulator_truth`).
"""

from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from tfrs_shop.sources.simulator_log import Choice, Event, Log
from tfrs_shop.sources.simulator_queries import Wanted, bag, query_text, said, want
from tfrs_shop.sources.simulator_shop import Shop
from tfrs_shop.sources.simulator_words import COMPLEMENTS, INTENTS, TYPE_NAMES, TYPES

DAY = 86_400.0
WANTED_WEIGHT = 6.0  # utility of a product that has all that the query asks for
VIEWED, OWNED = -7.0, -5.0  # what is added to the utility of a product once seen, and once owned


class Behaviour(NamedTuple):
    """How a session of one intent goes: how many errands, how long they are, and the chances of each step."""

    more_errands: float  # Poisson mean of errands after the first
    search: float  # chance, per errand
    views: tuple[float, float]  # at least, and Poisson mean of more
    stay: float  # chance that the next product is of the same type
    revisit: float  # chance that the next product is one seen on this errand
    favorite: float  # of each product opened, at a middling match
    cart: float
    buy: float  # of each product in the cart
    complement: float  # of each purchase


BEHAVIOUR = {
    "browse": Behaviour(0.9, 0.50, (1, 1.0), 0.7, 0.03, 0.05, 0.06, 0.25, 0.10),
    "compare": Behaviour(0.3, 0.75, (2, 1.5), 0.95, 0.12, 0.08, 0.09, 0.30, 0.10),
    "buy": Behaviour(0.6, 0.75, (1, 0.6), 1.0, 0.03, 0.02, 0.40, 0.65, 0.40),
    "accessory": Behaviour(0.4, 0.75, (1, 0.8), 1.0, 0.03, 0.02, 0.35, 0.60, 0.05),
}
NO_CLICK = 0.12  # of the searches are tried again in other words
LINGER = 0.5  # of the sessions go on with one more errand after the check-out
MATCH_LIFT = 1.6  # what a good match adds to the log odds of a favorite, cart or purchase
RATED, RETURNED, REPURCHASE = 0.3, 0.03, 0.5
PRESENT = 0.3  # of the errands look for something to somebody else's taste


class Visitor:
    """One user on the way through the shop; `live` plays all of their sessions."""

    def __init__(self, shop: Shop, user: int, rng: Generator, first_session: int) -> None:
        self.shop, self.user, self.rng = shop, user, rng
        self.next_session = first_session
        self.utility = shop.shoppers.utility(shop.catalogue, user)
        self.match = shop.shoppers.match(shop.catalogue, user)
        self.seen = np.zeros(len(shop.catalogue), bool)
        self.owned: dict[int, float] = {}  # product: day of purchase
        self.events: list[Event] = []
        self.intents: list[str] = []
        self.choice: Choice | None = None

    def live(self) -> None:
        """Play all sessions, then put the events in time order."""
        for day in self._session_days():
            self._session(day)
        self.events.sort(key=lambda event: event.time)

    def _session_days(self) -> list[float]:
        """Draw the sessions' moments: more at weekends, in the evening, at least three hours apart."""
        shoppers, rng = self.shop.shoppers, self.rng
        first = shoppers.first_day[self.user]
        whole = np.arange(np.floor(first), self.shop.days)
        weights = np.where(whole % 7 >= 5, 1.5, 1.0)
        days = rng.choice(whole, size=shoppers.sessions[self.user], p=weights / weights.sum())
        hours = np.clip(np.where(rng.random(len(days)) < 0.7, 19.5, 11.5) + 2.2 * rng.normal(size=len(days)), 0, 23.5)
        moments = np.sort(days + hours / 24)
        return [float(m) for i, m in enumerate(moments) if i == 0 or m - moments[i - 1] > 3 / 24]

    def _session(self, day: float) -> None:
        intent = INTENTS[self._draw(self.shop.shoppers.intents[self.user])]
        self.session, self.next_session = self.next_session, self.next_session + 1
        self.intents.append(intent)
        self.now, self.day = day * DAY, day
        if intent == "buy" and self._buy_again():
            return
        how, cart = BEHAVIOUR[intent], list[int]()
        for _ in range(1 + self.rng.poisson(how.more_errands)):
            cart += self._errand(intent)
        self._check_out(cart, how)
        if self.rng.random() < LINGER:  # many look around some more; what they cart then stays behind
            self._errand(intent)

    def _errand(self, intent: str) -> list[int]:
        """Look for one thing: have something in mind, maybe search, open products; return what goes into the cart."""
        how = BEHAVIOUR[intent]
        anchor, types = self._start(intent)
        wanted = want(self.rng, self.shop.catalogue, self._ideal(types), anchor)
        searched = self.rng.random() < how.search
        if searched:
            self._search(intent, wanted)
        guess = types  # all that can be told of the first product's type by who does not read the query
        if searched or intent != "browse":
            types = np.eye(len(TYPE_NAMES))[TYPE_NAMES.index(wanted.type_name)]
        visited: list[int] = []
        cart: list[int] = []
        for step in range(int(how.views[0] + self.rng.poisson(how.views[1]))):
            if len(visited) > 1 and self.rng.random() < how.revisit:
                product = visited[int(self.rng.integers(len(visited) - 1))]
            else:
                product = self._choose(types, wanted, guess)
            self._emit("click" if searched and step < 3 else "view", product)
            visited.append(product)
            if self.rng.random() < self._chance(how.favorite, product):
                self._emit("favorite", product)
            if product not in cart and self.rng.random() < self._chance(how.cart, product):
                cart.append(product)
                self._emit("cart", product)
            here = np.eye(len(TYPE_NAMES))[self.shop.catalogue.type_index[product]]
            types = guess = how.stay * here + (1 - how.stay) * self.shop.interest(self.user, self.day)
        return cart

    def _ideal(self, types: NDArray[np.float64]) -> int:
        """Draw the product that the shopper dreams of: to their taste, or to a friend's when it is to be a present."""
        if self.rng.random() >= PRESENT:
            return self._draw_product(types, None)
        mine, self.utility = self.utility, self.shop.shoppers.utility(self.shop.catalogue, self.user, reads_text=False)
        ideal = self._draw_product(types, None)
        self.utility = mine
        return ideal

    def _start(self, intent: str) -> tuple[int, NDArray[np.float64]]:
        """Return the product to find an accessory for, or -1, and the chances of the first type."""
        interest = self.shop.interest(self.user, self.day)
        if intent != "accessory":
            return -1, interest
        mine = [p for p in self.owned if self.shop.complements(int(self.shop.catalogue.type_index[p])).any()]
        if mine:
            anchor = mine[int(self.rng.integers(len(mine)))]
        else:
            with_complements = interest * [name in COMPLEMENTS for name in TYPE_NAMES]
            anchor = self._draw_product(with_complements / with_complements.sum(), None)
        complements = self.shop.complements(int(self.shop.catalogue.type_index[anchor]))
        return (anchor, complements) if complements.any() else (-1, interest)

    def _search(self, intent: str, wanted: Wanted) -> None:
        """Type a query; who finds nothing to click tries again in other words."""
        for _ in range(3):
            text = query_text(self.rng, self.shop.catalogue, said(self.rng, wanted), intent)
            if bag(text) in self.shop.held_out:
                continue
            self._emit("search", -1, query=text)
            if self.rng.random() > NO_CLICK:
                break

    def _choose(self, types: NDArray[np.float64], wanted: Wanted, guess: NDArray[np.float64]) -> int:
        """Draw the next product to open, and remember the moment if it is new to the user."""
        product = self._draw_product(types, wanted)
        if not self.seen[product]:
            self.choice = Choice(
                self.user, product, self.day, types, guess, wanted, self.utility.copy(), self.seen.copy()
            )
            self.seen[product] = True
            self.utility[product] += VIEWED
        return product

    def _draw_product(self, types: NDArray[np.float64], wanted: Wanted | None) -> int:
        """Draw a type, then a product of it by utility and by what is wanted."""
        while True:
            members = self.shop.members[self._draw(types)]
            odds = self.utility[members] + self.shop.of_the_day(members, self.day)
            if np.isfinite(odds).any():
                break
            types = self.shop.interest(self.user, self.day)  # nothing of that type is sold yet: take another
        if wanted:
            odds = odds + WANTED_WEIGHT * wanted.share(self.shop.catalogue, members)
        return int(members[self._draw(np.exp(odds - odds.max()))])

    def _check_out(self, cart: list[int], how: Behaviour) -> None:
        bought = [product for product in cart if self.rng.random() < self._chance(how.buy, product)]
        for product in list(bought):
            chances = self.shop.complements(int(self.shop.catalogue.type_index[product]))
            if chances.any() and self.rng.random() < how.complement:
                # who buys a phone prefers a case that names it; for the rest an anchor with nothing fitting is no wish
                extra = self._choose(chances, Wanted("", anchor=product), chances)
                self._emit("view", extra)
                if self.rng.random() < 0.8 and extra not in bought:
                    self._emit("cart", extra)
                    bought.append(extra)
        for product in bought:
            self._buy(product)

    def _buy(self, product: int) -> None:
        catalogue, rng = self.shop.catalogue, self.rng
        consumable = TYPES[catalogue.attributes[product].type_name].consumable
        quantity = 1 + int(rng.random() < 0.08) + (int(rng.poisson(0.5)) if consumable else 0)
        self._emit("purchase", product, quantity=quantity)
        self.owned[product] = self.day
        if not consumable:
            self.utility[product] += OWNED
        self._afterwards(product)

    def _afterwards(self, product: int) -> None:
        """Rate and perhaps send back, days later, if the log runs that long."""
        catalogue, rng = self.shop.catalogue, self.rng
        stars = 3.1 + 1.2 * self.match[product] + 0.5 * catalogue.quality[product] + 0.6 * rng.normal()
        rating = int(np.clip(round(stars + self.shop.shoppers.leniency[self.user]), 1, 5))
        later = self.now + DAY * (1 + rng.exponential(3))
        if rng.random() < RATED:
            self._later("rating", product, later, rating=rating)
        if rng.random() < RETURNED + (0.3 if rating <= 2 else 0.0):
            self._later("return", product, later + DAY * rng.random(), quantity=1)

    def _later(self, event_type: str, product: int, time: float, *, rating: int = 0, quantity: int = 0) -> None:
        if time < self.shop.days * DAY:
            price = self.shop.paid(product, self.day) if quantity else 0.0
            self.events.append(
                Event(self.user, product, event_type, time, self.next_session, rating, "", quantity, price)
            )
            self.intents.append("")
            self.next_session += 1

    def _buy_again(self) -> bool:
        """Buy something used up once more, straight away; tell whether that was the session."""
        used_up = [
            product
            for product, day in self.owned.items()
            if TYPES[self.shop.catalogue.attributes[product].type_name].consumable and self.day - day > 14
        ]
        if not used_up or self.rng.random() > REPURCHASE:
            return False
        product = used_up[int(self.rng.integers(len(used_up)))]
        for event_type in ("view", "cart"):
            self._emit(event_type, product)
        self._buy(product)
        return True

    def _chance(self, base: float, product: int) -> float:
        """Shift a chance (log odds) by how well the product matches, eagerness, and a sale."""
        lift = MATCH_LIFT * (self.match[product] - 0.6) + self.shop.shoppers.eagerness[self.user]
        lift += 0.4 * bool(self.shop.catalogue.sale_from[product] <= self.day < self.shop.catalogue.sale_to[product])
        return float(1 / (1 + (1 - base) / base * np.exp(-lift)))

    def _emit(self, event_type: str, product: int, *, query: str = "", quantity: int = 0) -> None:
        self.now += 8 + self.rng.exponential(45)
        price = self.shop.paid(product, self.day) if product >= 0 else 0.0
        self.events.append(Event(self.user, product, event_type, self.now, self.session, 0, query, quantity, price))

    def _draw(self, weights: NDArray[np.float64]) -> int:
        total = np.cumsum(weights)
        return int(np.searchsorted(total, self.rng.random() * total[-1], side="right"))


def play(shop: Shop, seed: int) -> Log:
    """Play all users, each on an own random stream, and return the log in time order."""
    log = Log()
    for user in range(len(shop.shoppers)):
        visitor = Visitor(shop, user, np.random.default_rng([seed, 1, user]), len(log.intents))
        visitor.live()
        log.events += visitor.events
        log.intents += visitor.intents
        if visitor.choice:
            log.choices.append(visitor.choice)
    log.events.sort(key=lambda event: (event.time, event.user))
    return log
