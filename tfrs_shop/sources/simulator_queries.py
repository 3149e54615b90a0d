"""Search queries of the simulated shop: what a shopper wants, the words for it, and the graded held-out queries."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from tfrs_shop.sources.simulator_catalogue import Catalogue
from tfrs_shop.sources.simulator_words import (
    BRAND_NAMES,
    COMPLEMENTS,
    CONCEPT_IDS,
    CONCEPTS,
    INTENT_PHRASES,
    INTENTS,
    TYPE_NAMES,
    TYPES,
    pick,
    stands_after,
)

WANTED_COUNT = (0.08, 0.30, 0.40, 0.22)  # chance of 0, 1, 2, 3 wanted attributes
SAID = 0.9  # chance that a query says an attribute that is wanted
KIND_WEIGHT = {"function": 1.0, "look": 0.9, "colour": 0.8, "material": 0.4}
BY_NAME, WITH_BRAND = 0.08, 0.12  # queries by model number, and with a brand's name
BY_ANCHOR_ALONE = 0.12  # queries that say just what the accessory is for: a phone's name, and a case is meant
TYPO, MARKED = 0.10, 0.45  # queries with a slip of the finger, and with a word that tells the purpose
IRRELEVANT_JUDGED = 20  # products of grade 0 written for each query


@dataclass(frozen=True)
class Wanted:
    """What a shopper has in mind: a type of product with attributes, maybe a brand, maybe one product."""

    type_name: str
    concepts: tuple[str, ...] = ()
    brand: str = ""
    product: int = -1  # known by its name when 0 or more
    anchor: int = -1  # of an accessory: the product that it is for

    def share(self, catalogue: Catalogue, products: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the share of the wanted attributes that each of `products` has, 0 to 1; 1 when none is wanted."""
        hits = [catalogue.concepts[products, CONCEPT_IDS[name]] for name in self.concepts]
        if self.brand:
            hits.append(catalogue.brand_index[products] == BRAND_NAMES.index(self.brand))
        if self.product >= 0:
            hits.append(products == self.product)
        if self.anchor >= 0 and (catalogue.fits == self.anchor).any():
            hits.append(catalogue.fits[products] == self.anchor)
        return np.mean(hits, axis=0) if hits else np.ones(len(products))


def want(rng: Generator, catalogue: Catalogue, product: int, anchor: int = -1) -> Wanted:
    """Return what a shopper whose ideal is `product` has in mind: some of its attributes, or just this product."""
    item = catalogue.attributes[product]
    if anchor < 0 and rng.random() < BY_NAME:
        return Wanted(item.type_name, brand=item.brand, product=product)
    concepts = item.concepts()
    weights = np.array([KIND_WEIGHT[name.split(":")[0]] for name in concepts])
    count = min(len(concepts), int(rng.choice(len(WANTED_COUNT), p=WANTED_COUNT)))
    chosen = rng.choice(len(concepts), size=count, replace=False, p=weights / weights.sum())
    brand = item.brand if rng.random() < WITH_BRAND else ""
    return Wanted(item.type_name, tuple(concepts[place] for place in sorted(chosen)), brand=brand, anchor=anchor)


def said(rng: Generator, wanted: Wanted) -> Wanted:
    """Return the part of what is wanted that gets into the query; the rest shows in what is clicked only."""
    return replace(wanted, concepts=tuple(concept for concept in wanted.concepts if rng.random() < SAID))


def query_text(rng: Generator, catalogue: Catalogue, wanted: Wanted, intent: str) -> str:
    """Put what is wanted into words: any form of each attribute, some slips, and often a word of the purpose."""
    noun = pick(rng, TYPES[wanted.type_name].forms)
    before: list[str] = []
    after: list[str] = []
    for concept in wanted.concepts:
        form = pick(rng, CONCEPTS[concept])
        (after if stands_after(form) else before).append(form)
    if wanted.product >= 0:
        item = catalogue.attributes[wanted.product]
        text = pick(rng, (item.name, item.name, f"{item.name} {noun}", item.model))
    elif rng.random() < 0.15 and before:
        text = " ".join([*([wanted.brand] if wanted.brand else []), noun, *before, *after])
    else:
        text = " ".join([*([wanted.brand] if wanted.brand else []), *before, noun, *after])
    if wanted.anchor >= 0:
        anchor = catalogue.attributes[wanted.anchor]
        if rng.random() < BY_ANCHOR_ALONE:
            text = anchor.name
        elif rng.random() < 0.7:
            text += f" for {anchor.name if rng.random() < 0.4 else pick(rng, TYPES[anchor.type_name].forms)}"
    if rng.random() < MARKED:
        text = pick(rng, INTENT_PHRASES[intent]).format(q=text)
    if rng.random() < TYPO:
        text = misspelt(rng, text)
    return text.lower() if rng.random() < 0.85 else text


def misspelt(rng: Generator, text: str) -> str:
    """Return the text with one letter of one longer word dropped, doubled or swapped with the next."""
    words = text.split(" ")
    long = [place for place, word in enumerate(words) if len(word) >= 5 and word.isalpha()]
    if not long:
        return text
    place = long[int(rng.integers(len(long)))]
    word, at = words[place], int(rng.integers(1, len(words[place]) - 1))
    words[place] = (
        word[:at] + word[at + 1 :],
        word[:at] + word[at] + word[at:],
        word[:at] + word[at + 1] + word[at] + word[at + 2 :],
    )[int(rng.integers(3))]
    return " ".join(words)


def bag(text: str) -> frozenset[str]:
    """Return the words of a query without order and case: equal bags are the same query."""
    return frozenset(text.casefold().split())


@dataclass(frozen=True)
class HeldOutQuery:
    """A query that never occurs in the log, with the truth about it and the grades of all products."""

    query_id: str
    query: str
    intent: str
    wanted: Wanted
    grades: NDArray[np.int64]  # [products]


def grade(catalogue: Catalogue, wanted: Wanted) -> NDArray[np.int64]:
    """Grade every product: 3 type and all attributes, 2 type and some, 1 near (complement, same parent), 0 else."""
    types = catalogue.type_index
    parent = TYPES[wanted.type_name].path[:-1]
    near = [TYPES[name].path[:-1] == parent or name in COMPLEMENTS.get(wanted.type_name, {}) for name in TYPE_NAMES]
    grades = np.array(near)[types].astype(np.int64)
    same = np.flatnonzero(types == TYPE_NAMES.index(wanted.type_name))
    share = wanted.share(catalogue, same)
    if wanted.product >= 0:  # who names a product means it; its brand's others are next best
        share = np.where(same == wanted.product, 1.0, np.minimum(share, 0.5))
    grades[same] = np.select([share == 1, share > 0], [3, 2], 1)
    return grades


def held_out_queries(rng: Generator, catalogue: Catalogue, count: int) -> list[HeldOutQuery]:
    """Draw `count` queries with different words, each wanting at least one attribute or one named product."""
    queries: list[HeldOutQuery] = []
    bags: set[frozenset[str]] = set()
    while len(queries) < count:
        wanted = said(rng, want(rng, catalogue, int(rng.integers(len(catalogue)))))
        intent = INTENTS[int(rng.choice(3, p=[0.25, 0.3, 0.45]))]
        text = query_text(rng, catalogue, wanted, intent)
        if not (wanted.concepts or wanted.product >= 0) or bag(text) in bags:
            continue
        bags.add(bag(text))
        queries.append(HeldOutQuery(f"Q{len(queries) + 1:04d}", text, intent, wanted, grade(catalogue, wanted)))
    return queries


def judgments(rng: Generator, catalogue: Catalogue, queries: Iterable[HeldOutQuery]) -> list[tuple[str, str, int]]:
    """Return (query_id, product_id, grade): all products of grade 1 and better, and a sample of grade 0."""
    rows = []
    for query in queries:
        zero = np.flatnonzero(query.grades == 0)
        sample = rng.choice(zero, size=min(IRRELEVANT_JUDGED, len(zero)), replace=False)
        judged = np.sort(np.concatenate([np.flatnonzero(query.grades), sample]))
        rows += [(query.query_id, catalogue.product_id(int(p)), int(query.grades[p])) for p in judged]
    return rows
