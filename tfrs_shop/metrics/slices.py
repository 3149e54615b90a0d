"""The same metrics for parts of the examples, and recall freed of popularity."""

from typing import Any

import numpy as np

from tfrs_shop.metrics.ranking import per_example
from tfrs_shop.metrics.uncertainty import intervals

# Earlier events with a product: from, to.
HISTORY_LENGTHS = ((0, 0), (1, 4), (5, 9), (10, 19), (20, None))
HEAD_SHARE = 0.2


def slice_metrics(
    ranks: np.ndarray, history_length: np.ndarray, new_user: np.ndarray, label: np.ndarray, train_count: np.ndarray
) -> dict[str, dict[str, Any]]:
    """Return slice name to its ``examples``, ``recall@10``, ``ndcg@10``, ``mrr``, and ``interval``, of NDCG@10.

    A slice without examples says only that. Head, tail and unseen products are three parts of one whole.

    Args:
        ranks: ``[examples]`` products before the target.
        history_length: ``[examples]`` earlier events with a product.
        new_user: ``[examples]`` bool, whether the user has no training example.
        label: ``[examples]`` the targets, from 1.
        train_count: ``[products + 1]`` training events of each product.
    """
    chosen: dict[str, np.ndarray] = {}
    for least, most in HISTORY_LENGTHS:
        name = f"history_{least}" if least == most else f"history_{least}-{most}" if most else f"history_{least}+"
        chosen[name] = (history_length >= least) & (history_length <= (np.inf if most is None else most))
    if not chosen["history_0"].any():
        del chosen["history_0"]
    head = head_products(train_count)[label]
    unseen = train_count[label] == 0
    chosen |= {
        "new_users": new_user,
        "unseen_products": unseen,
        "head_products": head,
        "tail_products": ~head & ~unseen,
    }
    values = per_example(ranks)
    slices: dict[str, dict[str, Any]] = {}
    for name, these in chosen.items():
        slices[name] = {"examples": int(these.sum())}
        if these.any():
            slices[name] |= {metric: float(value[these].mean()) for metric, value in values.items()}
            slices[name] |= {"interval": intervals({"ndcg@10": values["ndcg@10"][these]})["ndcg@10"]}
    return slices


def head_products(train_count: np.ndarray) -> np.ndarray:
    """Return ``[products + 1]`` bool: the most popular products, the fewest that hold 20% of the training events.

    Products as popular as the last of them are in as well.

    >>> head_products(np.array([0, 5, 20, 3, 20, 52])).tolist()
    [False, False, False, False, False, True]
    """
    counts = np.sort(train_count[1:])[::-1]
    if not counts.sum():
        return np.zeros(len(train_count), bool)
    reached = int(np.searchsorted(np.cumsum(counts), HEAD_SHARE * counts.sum()))
    head = train_count >= counts[min(reached, len(counts) - 1)]
    head[0] = False
    return head


def debiased_recall(ranks: np.ndarray, label: np.ndarray, train_count: np.ndarray, cutoff: int = 10) -> float:
    """Return recall@cutoff with every target weighed by 1 / (its training events + 1), weights summing to 1.

    The self-normalised inverse-propensity estimate of Yang et al. (RecSys 2018), with the propensity of a product
    taken to be proportional to its training events (their gamma = 1); one is added for products without any.

    Args:
        ranks: ``[examples]`` products before the target.
        label: ``[examples]`` the targets, from 1.
        train_count: ``[products + 1]`` training events of each product.
        cutoff: length of the list.
    """
    weight = 1.0 / (train_count[label] + 1.0)
    return float(np.sum(weight * (ranks < cutoff)) / weight.sum())
