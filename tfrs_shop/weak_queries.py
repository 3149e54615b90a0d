"""Weak queries: what shoppers might type for a product, made of its own words where nobody has searched yet.

Of each product: some words of its title in another order, its brand and innermost category together and alone, and a
word of its title beside words that only its description has. The last are the ones to choose by. Words of a title find
their product anyway, and say nothing of whether anything has been learnt; a shopper's words are often others than the
title's, as a description's are.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tfrs_shop.catalogue import Catalogue
from tfrs_shop.schema import CATEGORY_SEPARATOR
from tfrs_shop.text.terms import forms, term_of

# Words of a title, and of a description, in a query: at least, and less than.
TITLE_WORDS, DESCRIPTION_WORDS = (2, 6), (1, 3)
# Shorter words of a description are mostly sizes and units.
SHORTEST = 4


class WeakQuery(NamedTuple):
    """A query that a product could be asked for by.

    Attributes:
        product: its number.
        known: the forms that its title, brand or category has.
        told: forms of terms that its description alone has.
    """

    product: int
    known: tuple[str, ...]
    told: tuple[str, ...] = ()


def weak_queries(catalogue: Catalogue, seed: int) -> Iterator[WeakQuery]:
    """Yield the weak queries of all products, in their order; the same for a seed."""
    random = np.random.default_rng(seed)

    def some(words: list[str], least: int, below: int) -> tuple[str, ...]:
        return tuple(random.permutation(words)[: random.integers(least, below)].tolist())

    for product in range(1, catalogue.size + 1):
        innermost = catalogue.category_name[product].split(CATEGORY_SEPARATOR.encode())[-1]
        texts = (catalogue.title[product], catalogue.brand_name[product], innermost, catalogue.description[product])
        title, brand, category, description = (list(dict.fromkeys(forms(text.decode("utf-8")))) for text in texts)
        for words in (brand + category if brand and category else [], category, brand):
            if words:
                yield WeakQuery(product, tuple(words))
        if len(title) > 1:
            yield WeakQuery(product, some(title, *TITLE_WORDS))
        known = {term_of(form) for form in (*title, *brand, *category)}
        told = [form for form in description if term_of(form) not in known and len(form) >= SHORTEST]
        if title and told:
            yield WeakQuery(product, some(title, 1, 2), some(told, *DESCRIPTION_WORDS))
