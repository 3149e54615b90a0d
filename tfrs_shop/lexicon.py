"""The lexicon of a catalogue, as arrays: forms, terms, and each term's postings."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Lexicon:
    """An inverted index; term and form numbers start at 1, 0 is "none".

    Attributes:
        terms: ``terms[i]`` is term i + 1, as bytes.
        forms: ``forms[i]`` is form i + 1, as bytes.
        term_of_form: ``[forms + 1]`` int32.
        count: ``[forms + 1]`` int64, products that have the form.
        idf: ``[terms + 1]`` float32.
        starts: ``[terms + 2]`` int64; the postings of term t are those from ``starts[t]`` up to ``starts[t + 1]``.
        products: ``[postings]`` int32 product numbers.
        weights: ``[postings]`` float32, what the term adds to the product's score.
    """

    terms: list[bytes]
    forms: list[bytes]
    term_of_form: np.ndarray
    count: np.ndarray
    idf: np.ndarray
    starts: np.ndarray
    products: np.ndarray
    weights: np.ndarray


def build_lexicon(rows: Iterable[Mapping[str, Any]], product_index: Mapping[bytes, int]) -> Lexicon:
    """Return the lexicon of the records of ``lexicon/``, in any order; postings of unknown products are left out."""
    ordered = sorted(rows, key=lambda row: row["term"])
    forms: list[bytes] = []
    term_of_form, count = [0], [0]
    products: list[np.ndarray] = []
    weights: list[np.ndarray] = []
    for number, row in enumerate(ordered, 1):
        forms.extend(row["form"])
        term_of_form += [number] * len(row["form"])
        count += list(row["form_count"])
        found = np.array([product_index.get(product, 0) for product in row["product_id"]], np.int32)
        products.append(found[found > 0])
        weights.append(np.asarray(row["weight"], np.float32)[found > 0])
    lengths = [0, *(len(found) for found in products)]
    return Lexicon(
        [row["term"] for row in ordered],
        forms,
        np.array(term_of_form, np.int32),
        np.array(count, np.int64),
        np.array([0.0, *(row["idf"] for row in ordered)], np.float32),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        np.concatenate([*products, np.zeros(0, np.int32)]),
        np.concatenate([*weights, np.zeros(0, np.float32)]),
    )
