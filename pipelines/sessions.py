"""Sessions of one user's events, and whether a purchase follows in them. Pure functions.

Events with the same ``session_id`` are one session. Where an event has none, a session ends with half an hour
without events (the rule of web analytics); where it has no time either, the rest of the user's events is the session.
"""

from collections.abc import Hashable, Iterator, Sequence
from typing import Any

GAP = 30 * 60 * 1000  # ms
PURCHASE = "purchase"
UNKNOWN, NO, YES = -1, 0, 1


def session_keys(events: Sequence[dict[str, Any]]) -> list[Hashable]:
    """Return, for each of a user's events, oldest first, a key that events of the same session share."""
    return list(_keys(events))


def _keys(events: Sequence[dict[str, Any]]) -> Iterator[Hashable]:
    number, before = 0, None
    for event in events:
        if event["session_id"]:
            yield event["session_id"]
            continue
        now = event["timestamp"]
        if now is not None:
            number += before is not None and now - before > GAP
            before = now
        yield number


def purchase_follows(events: Sequence[dict[str, Any]], known: int) -> list[int]:
    """Return, for each of the first `known` events, whether a purchase comes after it in its session.

    Nothing of the events beyond `known` decides an answer but this: where a session goes on beyond, whether a purchase
    follows is unknown, and its events have -1. A user's only session is answered all the same, by what is known of it,
    or users of one session each would teach nothing.

    Args:
        events: of one user, oldest first.
        known: how many of them may be looked at.

    Returns:
        `known` numbers: 1 a purchase follows, 0 none does, -1 unknown.
    """
    keys = session_keys(events)
    cut = set(keys[:known]) & set(keys[known:])
    if len(set(keys[:known])) == 1:
        cut = set()
    bought: set[Hashable] = set()
    found: list[int] = []
    for key, event in zip(reversed(keys[:known]), reversed(events[:known]), strict=True):
        found.append(UNKNOWN if key in cut else YES if key in bought else NO)
        if event["event_type"] == PURCHASE:
            bought.add(key)
    return found[::-1]
