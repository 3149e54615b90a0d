"""Habits: what a user comes back to, session after session, counted and not trained. Pure functions.

What was in many of a user's sessions is likely to be in the next one, which on shops for resellers or groceries is
hard to beat (TIFU-KNN, Hu et al., SIGIR 2020): each session counts once for each of its products, and an older session
less.
"""

from collections.abc import Sequence
from typing import Any

from pipelines.sessions import session_keys

# What a session counts beside the next newer one.
DECAY = 0.9
# Products of a user that are kept, the weightiest; a stated cap.
MOST = 100


def habits(events: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return a user's products and what each weighs, the weightiest first; nothing where nothing tells of sessions.

    Args:
        events: of one user, oldest first, all of a product.
    """
    if all(event["timestamp"] is None and not event["session_id"] for event in events):
        return {}
    sessions: dict[Any, dict[str, None]] = {}
    for key, event in zip(session_keys(events), events, strict=True):
        sessions.setdefault(key, {})[event["product_id"]] = None
    weights: dict[str, float] = {}
    # Newest first, so that of products of equal weight the one that was met last comes first.
    for age, products in enumerate(reversed(sessions.values())):
        for product in products:
            weights[product] = weights.get(product, 0.0) + DECAY**age
    return dict(sorted(weights.items(), key=lambda entry: -entry[1])[:MOST])
