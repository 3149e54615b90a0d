"""The lexicon: an inverted index of the catalogue with BM25F weights, one record a term.

Weights follow Robertson, Zaragoza and Taylor 2004 ("Simple BM25 extension to multiple weighted fields"): a term's
count in each field is divided by how long the field is beside its mean, the fields' shares are added by their weights,
and only the sum saturates. Mean lengths and the number of products are combined first, the document frequency of a
term is known where its postings meet.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindows

from tfrs_shop.text.terms import forms, term_of

# Saturation and length normalisation are Lucene's; what is in the title says more of a product than what is below it.
K1, B = 1.2, 0.75
FIELD_WEIGHTS = {"title": 3.0, "brand": 1.0, "category": 1.0, "description": 1.0}
# Words of a description that are read.
MOST_FORMS = 2_000
# Postings that a worker holds before it passes them on.
HELD = 200_000

Parts = tuple[dict[str, int], list[tuple[str, float]]]


def field_forms(product: dict[str, Any]) -> tuple[str, dict[str, list[str]]]:
    """Return a finished product's id and the forms of its fields."""
    texts = {
        "title": product["title"],
        "brand": product["brand"],
        # The last prefix of the path is the whole path.
        "category": (product["category"] or [""])[-1],
        "description": product["description"],
    }
    return product["product_id"], {name: forms(text)[:MOST_FORMS] for name, text in texts.items()}


class Lexicon(beam.PTransform):
    """From finished products to the records of ``lexicon/``: of each term its forms, its weight and its postings."""

    def expand(self, products: Any) -> Any:
        """Count lengths, invert, and weigh."""
        fields = products | "FieldForms" >> beam.Map(field_forms)
        lengths = fields | "FieldLengths" >> beam.CombineGlobally(MeanLengths())
        means = beam.pvalue.AsSingleton(lengths)
        return (
            fields
            | "Invert" >> beam.ParDo(Invert(), means)
            | "ByTerm" >> beam.GroupByKey()
            | "Weigh" >> beam.Map(term_record, means)
        )


class MeanLengths(beam.CombineFn):
    """Combines products into ``{field: mean number of forms where there are any, "": number of products}``."""

    def create_accumulator(self) -> dict[str, tuple[int, int]]:
        """Return field to (sum of lengths, products that have the field)."""
        return {}

    def add_input(self, accumulator: dict[str, tuple[int, int]], element: Any) -> dict[str, tuple[int, int]]:
        """Add one product."""
        for name, length in [("", 1), *((name, len(found)) for name, found in element[1].items())]:
            if length:
                total, count = accumulator.get(name, (0, 0))
                accumulator[name] = total + length, count + 1
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[dict[str, tuple[int, int]]]) -> dict[str, tuple[int, int]]:
        """Add up the parts."""
        total: dict[str, tuple[int, int]] = {}
        for part in accumulators:
            for name, (length, count) in part.items():
                before = total.get(name, (0, 0))
                total[name] = before[0] + length, before[1] + count
        return total

    def extract_output(self, accumulator: dict[str, tuple[int, int]]) -> dict[str, float]:
        """Return the means."""
        return {name: count if not name else length / count for name, (length, count) in accumulator.items()}


@beam.typehints.with_output_types(tuple[str, Any])
class Invert(beam.DoFn):
    """Yields ``(term, (form to number of products, [(product id, weighted count), ...]))``, many products at once."""

    def start_bundle(self) -> None:
        """Start from nothing."""
        self.held: dict[str, Parts] = {}
        self.count = 0

    def process(self, element: tuple[str, dict[str, list[str]]], means: dict[str, float]) -> Iterator[Any]:
        """Invert one product."""
        product_id, fields = element
        counts: dict[str, float] = {}
        for name, found in fields.items():
            share = FIELD_WEIGHTS[name] / (1.0 - B + B * len(found) / means.get(name, 1.0))
            for term, times in Counter(map(term_of, found)).items():
                counts[term] = counts.get(term, 0.0) + share * times
        for form in {form for found in fields.values() for form in found}:
            of_term = self.held.setdefault(term_of(form), ({}, []))[0]
            of_term[form] = of_term.get(form, 0) + 1
        for term, count in counts.items():
            self.held[term][1].append((product_id, count))
        self.count += len(counts)
        if self.count > HELD:
            yield from self.held.items()
            self.start_bundle()

    def finish_bundle(self) -> Iterator[Any]:
        """Yield what is left."""
        for pair in self.held.items():
            yield GlobalWindows.windowed_value(pair)


def term_record(element: tuple[str, Iterable[Parts]], means: dict[str, float]) -> dict[str, Any]:
    """Return the record of a term, given all its parts."""
    term, parts = element
    found: Counter[str] = Counter()
    postings: list[tuple[str, float]] = []
    for of_forms, some in parts:
        found.update(of_forms)
        postings += some
    postings.sort()
    idf = math.log1p((means[""] - len(postings) + 0.5) / (len(postings) + 0.5))
    names = sorted(found)
    return {
        "term": term,
        "idf": idf,
        "form": names,
        "form_count": [found[name] for name in names],
        "product_id": [product for product, _ in postings],
        "weight": [idf * count * (K1 + 1.0) / (count + K1) for _, count in postings],
    }
