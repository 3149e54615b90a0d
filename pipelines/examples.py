"""From one user's events to examples: order, split, windows of history. Pure functions.

Leave-one-out: the user's last target event is the test, the last but one the validation, all before it training;
users with fewer than three target events are for training only. By time: events before the validation's start are
training, those before the test's start validation, the rest test.

A training example is a window of the user's events. Its ``history_*`` lists are events in order and its
``target_*`` the event that followed; as each history event is followed by the next one, a model can learn from
every position. Windows overlap by one event, so that every event is the label of exactly one position.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipelines.habits import habits
from pipelines.sessions import purchase_follows, session_keys
from tfrs_shop.schema import is_target_type
from tfrs_shop.text.behavior import behavior_text

LEAVE_ONE_OUT = "leave_one_out"
BY_TIME = "time"
# Nothing is held out, and nothing will be trained on: of a user only what is known today counts.
EVERYTHING = "all"


@dataclasses.dataclass(frozen=True)
class SplitRule:
    """How examples are made of a user's ordered events.

    Attributes:
        rule: ``leave_one_out``, ``time`` or, of a refresh, ``all``.
        max_history: the longest history of an example.
        target_events: event types that can be a target; empty means all but search and return.
        validation_from: by time: milliseconds since 1970 where validation starts.
        test_from: by time: milliseconds since 1970 where the test starts.
    """

    rule: str
    max_history: int
    target_events: frozenset[str] = frozenset()
    validation_from: int = 0
    test_from: int = 0

    def is_target(self, event: dict[str, Any]) -> bool:
        """Tell whether `event` can be what an example asks for."""
        return bool(event["product_id"]) and is_target_type(event["event_type"], self.target_events)


def split_events(events: Sequence[dict[str, Any]], rule: SplitRule) -> tuple[int, list[tuple[str, int]]]:
    """Return where training ends, and the held-out targets.

    Returns:
        The number of leading events that are for training, and ``(split, index)`` of each held-out target.
    """
    if rule.rule == EVERYTHING:
        return len(events), []
    targets = [index for index, event in enumerate(events) if rule.is_target(event)]
    if rule.rule == LEAVE_ONE_OUT:
        if len(targets) < 3:
            return len(events), []
        return targets[-2], [("validation", targets[-2]), ("test", targets[-1])]
    ends = sum(event["timestamp"] < rule.validation_from for event in events)
    held_out = [
        ("validation" if events[index]["timestamp"] < rule.test_from else "test", index)
        for index in targets
        if index >= ends
    ]
    return ends, held_out


def user_examples(
    user_id: str, events: Sequence[dict[str, Any]], rule: SplitRule, profile: dict[str, Any]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ``(split, example)`` for each example of the user.

    Args:
        user_id: whose events they are.
        events: oldest first.
        rule: how to split.
        profile: profile feature name to value, the same in each example.
    """
    train_end, held_out = split_events(events, rule)
    # A training example must not tell of a purchase that is held out; what is held out may tell all.
    follows = purchase_follows(events, train_end)
    for start, target in training_windows(events[:train_end], rule):
        # Nothing is learnt from habits, so that no training example need carry them.
        yield "train", example(user_id, events, start, target, profile, follows, {})
    follows = purchase_follows(events, len(events)) if held_out else []
    keys = session_keys(events) if held_out else []
    for split, target in held_out:
        # Inside a session habits do not count.
        begins = target > 0 and keys[target] != keys[target - 1]
        usual = habits(target_events(events[:target], rule)) if begins else {}
        yield split, example(user_id, events, max(0, target - rule.max_history), target, profile, follows, usual)


def target_events(events: Sequence[dict[str, Any]], rule: SplitRule) -> list[dict[str, Any]]:
    """Return those of `events` that could have been a target."""
    return [event for event in events if rule.is_target(event)]


def training_windows(events: Sequence[dict[str, Any]], rule: SplitRule) -> Iterator[tuple[int, int]]:
    """Yield ``(start, target)``: the history is ``events[start:target]``; each target event is a label once."""
    end = len(events) - 1
    while end >= 0:
        while end >= 0 and not rule.is_target(events[end]):
            end -= 1
        if end < 0:
            return
        start = max(0, end - rule.max_history)
        # The very first event has nothing before it; alone it still says what users start with.
        yield start, end
        if start == 0:
            return
        end = start


def example(
    user_id: str,
    events: Sequence[dict[str, Any]],
    start: int,
    target: int,
    profile: dict[str, Any],
    follows: Sequence[int],
    usual: Mapping[str, float],
) -> dict[str, Any]:
    """Return the example that asks for ``events[target]`` after ``events[start:target]``.

    Args:
        follows: of `purchase_follows`, for all events before the target at least.
        usual: of `habits`, of the events before the target.
    """
    asked = events[target]
    return {
        **user_record(user_id, events[:target], target - start, profile, usual),
        "history_offset": start,
        "history_purchase_follows": follows[start:target],
        "target_product_id": asked["product_id"],
        "target_event_type": asked["event_type"],
        "target_timestamp": asked["timestamp"],
        "target_session_id": asked["session_id"],
        "target_rating": asked["rating"],
        "target_price": asked["price"],
        "target_quantity": asked["quantity"],
    }


def user_record(
    user_id: str, events: Sequence[dict[str, Any]], length: int, profile: dict[str, Any], usual: Mapping[str, float]
) -> dict[str, Any]:
    """Return what is known of a user after `events`: the record of ``users/``, and an example's first half.

    The history is the last `length` events; of the older ones only their products are named, once each. `usual` is of
    `habits`.
    """
    start = max(0, len(events) - length)
    history = events[start:]
    shown = {event["product_id"] for event in history}
    older = dict.fromkeys(event["product_id"] for event in events[:start])
    return {
        "user_id": user_id,
        "older_product_id": [product for product in older if product and product not in shown],
        "usual_product_id": list(usual),
        "usual_weight": list(usual.values()),
        "history_product_id": [event["product_id"] for event in history],
        "history_event_type": [event["event_type"] for event in history],
        "history_timestamp": [event["timestamp"] for event in history],
        "history_query": [event["query"] for event in history],
        "history_session_id": [event["session_id"] for event in history],
        "history_rating": [event["rating"] for event in history],
        "history_price": [event["price"] for event in history],
        "history_quantity": [event["quantity"] for event in history],
        "behavior_text": behavior_text([(event["event_type"], event["query"] or event["title"]) for event in history]),
        **profile,
    }
