"""Metrics of rankings with one relevant product each, from the rank of that product alone."""

import numpy as np

CUTOFFS = (1, 5, 10, 20, 100)


def ranking_metrics(ranks: np.ndarray) -> dict[str, float]:
    """Return metrics of rankings with one relevant product each.

    Args:
        ranks: ``[examples]`` products before the relevant one.

    Returns:
        ``recall@k``, ``precision@k``, ``f1@k``, ``ndcg@k``, ``mrr@k`` and ``map@k`` (equal with one relevant product)
        for each cutoff; ``accuracy`` (the target is first) and ``mrr``.
    """
    metrics: dict[str, float] = {"accuracy": float(np.mean(ranks == 0)), "mrr": float(np.mean(1.0 / (ranks + 1)))}
    for cutoff in CUTOFFS:
        found = ranks < cutoff
        recall = float(np.mean(found))
        precision = recall / cutoff
        reciprocal = float(np.mean(found / (ranks + 1.0)))
        metrics[f"recall@{cutoff}"] = recall
        metrics[f"precision@{cutoff}"] = precision
        metrics[f"f1@{cutoff}"] = 2 * precision * recall / (precision + recall) if recall else 0.0
        metrics[f"ndcg@{cutoff}"] = float(np.mean(found / np.log2(ranks + 2.0)))
        metrics[f"mrr@{cutoff}"] = reciprocal
        metrics[f"map@{cutoff}"] = reciprocal
    return metrics


def per_example(ranks: np.ndarray) -> dict[str, np.ndarray]:
    """Return ``recall@10``, ``ndcg@10`` and ``mrr`` of each example, ``[examples]`` float64.

    >>> {name: values.round(2).tolist() for name, values in per_example(np.array([0, 2, 10])).items()}
    {'recall@10': [1.0, 1.0, 0.0], 'ndcg@10': [1.0, 0.5, 0.0], 'mrr': [1.0, 0.33, 0.09]}
    """
    found = ranks < 10
    return {
        "recall@10": found.astype(np.float64),
        "ndcg@10": found / np.log2(ranks + 2.0),
        "mrr": 1.0 / (ranks + 1.0),
    }
