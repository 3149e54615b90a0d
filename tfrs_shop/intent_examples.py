"""What a query was for, as far as the log tells: its category and its purpose, by what happened after it.

A search's errand is the events after it, up to the next search or the end of the session.

- category: the innermost one of the product that was bought on the errand; else put into the cart or the favorites;
  else opened first.
- purpose, the first that holds: ``accessory``, where what was bought (else: everything opened) is of another category
  than the query names; ``buy``, where something of the errand was bought in this session; ``compare``, where two or
  more products of one category were opened; ``browse``, where anything else was opened.

The category that a query names is the one of the product whose words (title, brand and category) are most like the
query's, by the cosine of their inverse document frequencies: of "Zeta X1" it is the phone's, since a case for it has
other words too. An errand on which nothing was opened tells nothing. Where a shop has no search events, titles, brands
and category names stand for queries, of which the category is known and the purpose is not.
"""

import collections
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from tfrs_shop.dataset import ShopData, read_records
from tfrs_shop.model.behavior_head import PURCHASE, leaf_categories
from tfrs_shop.schema import CATEGORY_SEPARATOR
from tfrs_shop.text.tokenize import words

PURPOSES = ("browse", "compare", "buy", "accessory")
WANTED = (PURCHASE, b"cart", b"favorite")
PAUSE = 30 * 60 * 1000  # ms after which a session without an id ends
MOST_QUERIES = 200_000


class Intent(NamedTuple):
    """A query and what it was for.

    Attributes:
        query: its text.
        category: vocabulary index of the innermost category, 0 unknown.
        purpose: place in ``PURPOSES``, -1 unknown.
    """

    query: bytes
    category: int
    purpose: int


class Step(NamedTuple):
    """One event of a user, as the records have it."""

    kind: bytes
    product: bytes
    query: bytes
    time: int
    session: bytes


def training_intents(data: ShopData) -> list[Intent]:
    """Return what the training events tell of queries; without search events what the catalogue tells."""
    namer = NamedCategories(data)
    found = [
        intent for events in _records(data, "train") for intent in intents_of(events, namer) if intent.category > 0
    ]
    return found[:MOST_QUERIES] if found else list(_weak_intents(data))


def held_out_intents(data: ShopData, split: str) -> list[Intent]:
    """Return what the events of a split by time tell of the queries in it; training saw none of these events."""
    cuts: list[float] = [data.manifest.split["validation_from"], data.manifest.split["test_from"], math.inf]
    start, end = cuts[:2] if split == "validation" else cuts[1:]
    newest: dict[bytes, list[Step]] = {}
    for user, events in _records_of_users(data, split):
        if user not in newest or events[-1].time >= newest[user][-1].time:
            newest[user] = events
    namer = NamedCategories(data)
    return [
        intent
        for events in newest.values()
        for intent in intents_of([event for event in events if start <= event.time < end], namer)
        if intent.category > 0
    ]


class NamedCategories:
    """Finds products and the category that a query names.

    Args:
        data: whose catalogue it is.
    """

    def __init__(self, data: ShopData):
        catalogue = data.catalogue
        leaf = leaf_categories(catalogue)
        self.leaf = {bytes(product): int(leaf[place]) for place, product in enumerate(catalogue.product_id) if place}
        self.places: dict[str, list[int]] = collections.defaultdict(list)
        texts = zip(catalogue.title, catalogue.brand_name, catalogue.category_name, strict=True)
        bags = [set(words(b" ".join(map(bytes, text)).decode("utf-8", "replace"))) for text in texts]
        for place, bag in enumerate(bags):
            for word in bag:
                self.places[word].append(place)
        self.weight = {word: math.log(1.0 + len(bags) / len(found)) for word, found in self.places.items()}
        self.length = [math.sqrt(sum(self.weight[word] ** 2 for word in bag)) for bag in bags]
        self.of_place, self.known = leaf, dict[bytes, int]()

    def named(self, query: bytes) -> int:
        """Return the category that `query` names, 0 where no product has a word of it."""
        if query not in self.known:
            score: dict[int, float] = collections.defaultdict(float)
            for word in set(words(query.decode("utf-8", "replace"))):
                for place in self.places.get(word, ()):
                    if self.of_place[place]:
                        score[place] += self.weight[word] ** 2
            best = max(score, key=lambda found: (score[found] / self.length[found], -found), default=0)
            self.known[query] = int(self.of_place[best])
        return self.known[query]


def intents_of(events: Sequence[Step], namer: NamedCategories) -> Iterator[Intent]:
    """Yield what each search among a user's `events`, oldest first, was for."""
    for place, event in enumerate(events):
        if event.query and not event.product:
            rest = list(_rest_of_session(events[place:]))
            errand = _errand(rest)
            if errand:
                yield _intent(event.query, errand, {step.product for step in rest if step.kind == PURCHASE}, namer)


def _intent(query: bytes, errand: list[Step], bought_in_session: set[bytes], namer: NamedCategories) -> Intent:
    opened = list(dict.fromkeys(step.product for step in errand))
    bought = [product for product in opened if product in bought_in_session]
    wanted = [step.product for kind in WANTED for step in errand if step.kind == kind]
    category = namer.leaf.get((bought or wanted or opened)[0], 0)
    named = namer.named(query)
    others = [namer.leaf.get(product, 0) not in (named, 0) for product in bought or opened]
    counts = collections.Counter(namer.leaf.get(product, 0) for product in opened)
    if named and all(others):
        purpose = "accessory"
    elif bought:
        purpose = "buy"
    elif max(counts.values()) > 1:
        purpose = "compare"
    else:
        purpose = "browse"
    return Intent(query, category, PURPOSES.index(purpose))


def _rest_of_session(events: Sequence[Step]) -> Iterator[Step]:
    first, before = events[0], events[0].time
    for event in events[1:]:
        if first.session or event.session:
            if event.session != first.session:
                continue
        elif event.time - before > PAUSE:
            return
        before = event.time
        yield event


def _errand(rest: Iterable[Step]) -> list[Step]:
    errand = []
    for step in rest:
        if not step.product:
            break
        errand.append(step)
    return errand


def _records(data: ShopData, split: str) -> Iterator[list[Step]]:
    return (events for _, events in _records_of_users(data, split))


def _records_of_users(data: ShopData, split: str) -> Iterator[tuple[bytes, list[Step]]]:
    """Yield the user and the events of each record of `split`, the target last."""
    columns = ("event_type", "product_id", "query", "timestamp", "session_id")
    for batch in read_records(data.directory, data.manifest, split).as_numpy_iterator():
        lists = [batch[f"history_{name}"] for name in columns]
        targets = [batch.get(f"target_{name}", [b""] * len(batch["user_id"])) for name in columns]
        for place, user in enumerate(batch["user_id"]):
            events = [Step(*values) for values in zip(*(column[place] for column in lists), strict=True)]
            yield user, [*events, Step(*(target[place] for target in targets))]


def _weak_intents(data: ShopData) -> Iterator[Intent]:
    catalogue = data.catalogue
    leaf = leaf_categories(catalogue)
    for place in np.flatnonzero(leaf):
        innermost = bytes(catalogue.category_name[place]).split(CATEGORY_SEPARATOR.encode())[-1]
        category = int(leaf[place])
        for text in (catalogue.title[place], bytes(catalogue.brand_name[place]) + b" " + innermost, innermost):
            if bytes(text).strip():
                yield Intent(bytes(text), category, -1)
