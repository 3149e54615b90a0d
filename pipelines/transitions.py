"""The transition graph: which product follows which, counted and not trained.

From each training event edges go to the next three, the nearer the heavier, and half as heavy back again (as in
arXiv 2605.07125). Weights are whole twelfths, so that every engine adds them up to the same numbers.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam

REACH = 3
_FORWARD = {1: 12, 2: 6, 3: 4}
# Neighbours that are kept of a product, the heaviest; a stated cap.
NEIGHBORS = 100


def transitions(products: Sequence[str]) -> Iterator[tuple[tuple[str, str], int]]:
    """Yield ``((from, to), weight)`` for the products of one user's events, oldest first; "" is passed over."""
    known = [product for product in products if product]
    for place, product in enumerate(known):
        for step in range(1, REACH + 1):
            if place + step < len(known) and known[place + step] != product:
                yield (product, known[place + step]), _FORWARD[step]
                yield (known[place + step], product), _FORWARD[step] // 2


class HeaviestNeighbors(beam.DoFn):
    """Yields one record a product: its heaviest neighbours with their weights, by weight and then by id."""

    def process(self, element: tuple[str, Iterable[tuple[int, str]]]) -> Iterator[dict[str, Any]]:
        """Keep the heaviest of one product's edges."""
        product, edges = element
        kept: list[tuple[int, str]] = []
        for weight, neighbor in edges:
            kept.append((-weight, neighbor))
            if len(kept) >= 4 * NEIGHBORS:
                kept = sorted(kept)[:NEIGHBORS]
        kept = sorted(kept)[:NEIGHBORS]
        yield {
            "product_id": product,
            "neighbor_product_id": [neighbor for _, neighbor in kept],
            "neighbor_weight": [-weight for weight, _ in kept],
        }
