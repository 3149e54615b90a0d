"""The complement graph: which products are bought together, counted and not trained.

A basket is what a user bought in one session; where sessions are not known, what was bought within a day; and where
times are not known either, all that the user bought. Each pair of a basket is counted, the less the larger the basket
is. Weights are whole numbers, so that every engine adds them up to the same.
"""

import heapq
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam

from pipelines.transitions import heaviest_neighbors
from tfrs_shop.schema import BOUGHT

WITHIN = 24 * 60 * 60 * 1000  # milliseconds
# Products of a basket that are counted, the first; a stated cap, as pairs grow with its square.
MOST = 60
SCALE = 1000
# Neighbours of a product that are counted at once; where it has twice as many, the lightest are let go. A stated cap.
COUNTED = 10_000

Counts = dict[str, int]


def baskets(events: Sequence[dict[str, Any]]) -> Iterator[list[str]]:
    """Yield the distinct products of each basket of one user's events, oldest first."""
    basket: dict[str, None] = {}
    last: dict[str, Any] | None = None
    for event in events:
        if event["event_type"] not in BOUGHT or not event["product_id"]:
            continue
        if last is not None and not _together(last, event):
            yield list(basket)
            basket = {}
        basket[event["product_id"]] = None
        last = event
    if basket:
        yield list(basket)


def complements(basket: Sequence[str]) -> Iterator[tuple[str, tuple[int, tuple[str, ...]]]]:
    """Yield ``(product, (weight, the others))`` for each product of a basket; pair by pair it would be its square."""
    basket = basket[:MOST]
    if len(basket) > 1:
        weight = round(SCALE / math.sqrt(len(basket)))
        for place, product in enumerate(basket):
            yield product, (weight, (*basket[:place], *basket[place + 1 :]))


class SumComplements(beam.CombineFn):
    """Adds up the weights of one product's neighbours."""

    def create_accumulator(self) -> Counts:
        """Return no neighbours."""
        return {}

    def add_input(self, mutable_accumulator: Counts, element: tuple[int, tuple[str, ...]]) -> Counts:
        """Count one basket."""
        weight, others = element
        for other in others:
            mutable_accumulator[other] = mutable_accumulator.get(other, 0) + weight
        return _capped(mutable_accumulator)

    def merge_accumulators(self, accumulators: Iterable[Counts]) -> Counts:
        """Return the sum of partial counts."""
        total: Counts = {}
        for counts in accumulators:
            for other, weight in counts.items():
                total[other] = total.get(other, 0) + weight
        return _capped(total)

    def extract_output(self, accumulator: Counts) -> Counts:
        """Return neighbour to weight."""
        return accumulator


def complement_record(product_id: str, counts: Counts) -> dict[str, Any]:
    """Return the record of one product. As pairs count both ways, what leads to it is what leaves it."""
    edges = [(weight, other) for other, weight in counts.items()]
    return heaviest_neighbors((product_id, {"edges": edges, "entering": [sum(counts.values())]}))


def _together(earlier: dict[str, Any], later: dict[str, Any]) -> bool:
    if earlier["session_id"] or later["session_id"]:
        return bool(earlier["session_id"] == later["session_id"])
    if earlier["timestamp"] is None or later["timestamp"] is None:
        return True
    return bool(later["timestamp"] - earlier["timestamp"] <= WITHIN)


def _capped(counts: Counts) -> Counts:
    if len(counts) <= 2 * COUNTED:
        return counts
    return dict(heapq.nsmallest(COUNTED, counts.items(), key=lambda entry: (-entry[1], entry[0])))
