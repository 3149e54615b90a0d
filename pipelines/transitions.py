"""The transition graph: which product follows which, counted and not trained.

From each training event edges go to the next three, the nearer the heavier, and half as heavy back again (as in
arXiv 2605.07125). Weights are whole twelfths, so that every engine adds them up to the same numbers.
"""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

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


def heaviest_neighbors(element: tuple[str, dict[str, Iterable[Any]]]) -> dict[str, Any]:
    """Return the record of one product: its heaviest edges, by weight and then by id, and what leads to it."""
    product_id, groups = element
    kept = heapq.nsmallest(NEIGHBORS, ((-weight, neighbor) for weight, neighbor in groups["edges"]))
    return {
        "product_id": product_id,
        "neighbor_product_id": [neighbor for _, neighbor in kept],
        "neighbor_weight": [-weight for weight, _ in kept],
        "in_weight": sum(groups["entering"]),
    }
