"""Metrics of the recommended lists themselves, whatever the user did next.

A list is a row of product indices from 1, best first; 0 stands where there was nothing left to recommend.
"""

import numpy as np

CHUNK = 2048


def coverage(lists: np.ndarray, products: int) -> float:
    """Return the share of all `products` that are in at least one list (Ge et al., RecSys 2010).

    Args:
        lists: ``[examples, k]`` int.
        products: how many there are.
    """
    return len(np.setdiff1d(lists, [0])) / products


def gini(lists: np.ndarray, products: int) -> float:
    """Return the Gini coefficient of how often each product is recommended (Fleder and Hosanagar, 2009).

    0: all products equally often; towards 1: always the same few. Products in no list count as 0.

    Args:
        lists: ``[examples, k]`` int.
        products: how many there are.
    """
    counts = np.sort(np.bincount(lists.ravel(), minlength=products + 1)[1:])
    if not counts.sum():
        return 0.0
    place = np.arange(1, products + 1)
    return float(np.sum((2 * place - products - 1) * counts) / (products * counts.sum()))


def novelty(lists: np.ndarray, train_count: np.ndarray) -> float:
    """Return the mean self-information of what is recommended, in bits (Zhou et al., PNAS 2010).

    A product's is -log2 of its share of all training events; one without any counts as if it had one.

    Args:
        lists: ``[examples, k]`` int.
        train_count: ``[products + 1]`` training events of each product.
    """
    shown = lists[lists > 0]
    total = max(int(train_count[1:].sum()), 1)
    return float(np.mean(np.log2(total / np.maximum(train_count[shown], 1)))) if len(shown) else 0.0


def group_diversity(lists: np.ndarray, group: np.ndarray) -> float | None:
    """Return the share of pairs within a list that are of different groups, mean of lists (Ziegler et al., WWW 2005).

    Args:
        lists: ``[examples, k]`` int.
        group: ``[products + 1]`` the group of each product, such as its category; 0 unknown: its pairs are left out.

    Returns:
        A number from 0 to 1; None where no list has two products of known groups.
    """
    found = []
    upper = np.triu(np.ones((lists.shape[1], lists.shape[1]), bool), 1)
    for start in range(0, len(lists), CHUNK):
        groups = group[lists[start : start + CHUNK]]
        known = (groups > 0) & (lists[start : start + CHUNK] > 0)
        pairs = known[:, :, None] & known[:, None, :] & upper
        differ = pairs & (groups[:, :, None] != groups[:, None, :])
        number = pairs.sum((1, 2))
        found.append(differ.sum((1, 2))[number > 0] / number[number > 0])
    shares = np.concatenate(found) if found else np.zeros(0)
    return float(shares.mean()) if len(shares) else None


def vector_diversity(lists: np.ndarray, vectors: np.ndarray) -> float | None:
    """Return the mean of 1 - cosine over the pairs within a list, mean of lists (Ziegler et al., WWW 2005).

    Args:
        lists: ``[examples, k]`` int.
        vectors: ``[products + 1, width]`` float; products whose vector is 0 are left out, and product 0 is none.

    Returns:
        A number from 0 to 2; None where no list has two products with vectors.
    """
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = np.divide(vectors, norms, out=np.zeros(vectors.shape, np.float32), where=norms > 0)
    unit[0] = 0
    known = (norms[:, 0] > 0) & (np.arange(len(vectors)) > 0)
    found = []
    for start in range(0, len(lists), CHUNK):
        part = lists[start : start + CHUNK]
        count = known[part].sum(1)
        # The squared length of a sum of unit vectors is their number and twice the sum of all pairs' cosines.
        together = np.square(unit[part].sum(1, dtype=np.float64)).sum(1)
        pairs = count * (count - 1) / 2
        cosines = (together - count) / 2
        found.append(1.0 - cosines[pairs > 0] / pairs[pairs > 0])
    means = np.concatenate(found) if found else np.zeros(0)
    return float(means.mean()) if len(means) else None


def leaf_category(category: np.ndarray) -> np.ndarray:
    """Return ``[products + 1]`` the deepest category of ``category`` ``[products + 1, depth]``, 0 where none is known.

    >>> leaf_category(np.array([[0, 0], [3, 0], [3, 5]])).tolist()
    [0, 3, 5]
    """
    depth = (category > 0).sum(1)
    return np.where(depth > 0, category[np.arange(len(category)), np.maximum(depth - 1, 0)], 0)
