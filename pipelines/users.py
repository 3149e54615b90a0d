"""Users: all events of one user and the profile row become examples and the record of what is known today."""

import heapq
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput

from pipelines.complements import baskets, complements
from pipelines.examples import BY_TIME, EVERYTHING, SplitRule, split_events, target_events, user_examples, user_record
from pipelines.habits import habits
from pipelines.parse import EVENT_COLUMNS
from pipelines.transitions import transitions
from tfrs_shop.features import Feature

JOINED_COLUMNS = (*EVENT_COLUMNS, "title")
_POSITION, _TIMESTAMP = EVENT_COLUMNS.index("position"), EVENT_COLUMNS.index("timestamp")
_SOURCE = EVENT_COLUMNS.index("file")


@beam.typehints.with_output_types(tuple[str, Any])
class MakeExamples(beam.DoFn):
    """Yields ``(split, example)``, and by tag what the rest of the job counts.

    Tags: ``users`` (the record of ``users/``), ``trained`` (product id of each training event), ``transitions``
    (``((from, to), weight)`` of each edge), ``complements`` (each product of a basket, with the others), ``numbers``
    (``(statistic, value)`` of training events), ``tallies`` (how many old events a user had too many).

    Args:
        rule: how to split; by time, its two times come as the side input `cuts`.
        order_by: ``timestamp`` or ``position``.
        largest_history: events of one user that are kept, the newest; the stated cap on a user's memory.
        profile: features of the user attributes.
    """

    def __init__(self, rule: SplitRule, order_by: str, largest_history: int, profile: tuple[Feature, ...]):
        self.rule = rule
        self.order_by = order_by
        self.largest_history = largest_history
        self.profile = profile

    def process(self, element: tuple[str, Iterable[Any]], cuts: tuple[int, int] | None = None) -> Iterator[Any]:
        """Make the examples of one user from event tuples and, if there is a profile row, the dict of attributes."""
        user_id, found = element
        attributes: dict[str, Any] = {}
        seen = 0

        def event_tuples() -> Iterator[tuple[Any, ...]]:
            nonlocal attributes, seen
            for item in found:
                if isinstance(item, dict):
                    attributes = item
                else:
                    seen += 1
                    yield item

        newest = heapq.nlargest(self.largest_history, event_tuples(), key=self._order)
        if seen > len(newest):
            yield TaggedOutput("tallies", (("rows", "events over cap"), seen - len(newest)))
        events = [dict(zip(JOINED_COLUMNS, event, strict=True)) for event in reversed(newest)]
        if self.rule.rule == EVERYTHING and not events:
            # In a refresh attributes come from the bundle: whom the new events do not name is gone.
            return
        profile = {
            feature.name: attributes.get(feature.source, None if feature.dtype == "float32" else "")
            for feature in self.profile
        }
        rule = self.rule
        if rule.rule == BY_TIME and cuts is not None:
            rule = SplitRule(BY_TIME, rule.max_history, rule.target_events, *cuts)
        if events:
            if rule.rule != EVERYTHING:
                yield from user_examples(user_id, events, rule, profile)
            train_end, _ = split_events(events, rule)
            yield from self._counts(events[:train_end], rule)
        usual = habits(target_events(events, rule))
        yield TaggedOutput("users", user_record(user_id, events, rule.max_history, profile, usual))

    def _order(self, event: tuple[Any, ...]) -> tuple[Any, ...]:
        position = -1 if event[_POSITION] is None else event[_POSITION]
        moment = event[_TIMESTAMP] if self.order_by == "timestamp" else position
        return (moment, position, *event[_SOURCE : _SOURCE + 2])

    def _counts(self, events: list[dict[str, Any]], rule: SplitRule) -> Iterator[Any]:
        targets = [event["product_id"] for event in events if rule.is_target(event)]
        for edge in transitions(targets):
            yield TaggedOutput("transitions", edge)
        for basket in baskets(events):
            for counted in complements(basket):
                yield TaggedOutput("complements", counted)
        for product_id in targets:
            yield TaggedOutput("trained", product_id)
        for event in events:
            for name in ("rating", "price", "quantity"):
                if event[name] is not None:
                    yield TaggedOutput("numbers", (f"event_{name}", event[name]))
