"""Which products go with which: what is bought together, and for products that nobody bought, what those like them do.

Counted by the preprocessing job, not trained. What is similar is another question: two products of a kind are seldom in
one basket, however alike they are. The weight of a pair is a cosine, its count divided by the roots of both products'
counts, so that what is in every basket goes with nothing in particular.
"""

import numpy as np

from tfrs_shop.dataset import ShopData
from tfrs_shop.edges import Edges

# Of a product that nobody bought: so many products most like it lend theirs.
LENDERS = 5
# Weights of the second and the third source beside what is bought together.
FROM_TRANSITIONS, FROM_SIMILAR = 0.1, 0.5
_BLOCK = 1024


def complement_edges(data: ShopData, vectors: np.ndarray) -> Edges:
    """Return for each product what goes with it, and how well.

    From baskets; for a product that is in none of two or more, from the transition graph; for one that has no edge
    there either, from the products most like it.

    Args:
        data: whose baskets and transitions they are.
        vectors: ``[products + 1, width]`` product vectors, padding row first.
    """
    counted, followed = data.complements, data.transitions
    size = data.catalogue.size
    rows: list[tuple[np.ndarray, np.ndarray]] = [(np.zeros(0, np.int32), np.zeros(0, np.float32))] * (size + 1)
    for product in range(1, size + 1):
        for edges, factor in ((counted, 1.0), (followed, FROM_TRANSITIONS)):
            start, end = edges.starts[product : product + 2]
            if end > start:
                rows[product] = edges.neighbor[start:end], edges.weight[start:end] * np.float32(factor)
                break
    known = np.array([len(neighbors) > 0 for neighbors, _ in rows])
    lenders = np.flatnonzero(known)
    without = np.flatnonzero(~known)[1:]
    if len(lenders):
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit = vectors / np.maximum(norms, 1e-12)
        for first in range(0, len(without), _BLOCK):
            asking = without[first : first + _BLOCK]
            likeness = unit[asking] @ unit[lenders].T
            count = min(LENDERS, len(lenders))
            nearest = np.argpartition(-likeness, count - 1, axis=1)[:, :count]
            for product, places, alike in zip(asking, nearest, np.take_along_axis(likeness, nearest, 1), strict=True):
                rows[product] = _lent([rows[lender] for lender in lenders[places]], alike, product)
    lengths = np.array([len(neighbors) for neighbors, _ in rows], np.int64)
    return Edges(
        starts=np.concatenate([[0], np.cumsum(lengths)]),
        neighbor=np.concatenate([neighbors for neighbors, _ in rows]).astype(np.int32),
        weight=np.concatenate([weights for _, weights in rows]).astype(np.float32),
    )


def _lent(edges: list[tuple[np.ndarray, np.ndarray]], alike: np.ndarray, product: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the sum of the lenders' edges, each weighted by how alike it is; none leads to the product itself."""
    shares = FROM_SIMILAR * np.maximum(alike, 0.0) / len(edges)
    neighbors, place = np.unique(np.concatenate([neighbors for neighbors, _ in edges]), return_inverse=True)
    weights = np.concatenate([weights * share for (_, weights), share in zip(edges, shares, strict=True)])
    total = np.bincount(place, weights, len(neighbors)).astype(np.float32)
    kept = (neighbors != product) & (total > 0)
    return neighbors[kept], total[kept]
