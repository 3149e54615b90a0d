"""Users: all events of one user and the profile row become examples and the record of what is known today."""

import heapq
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam

from pipelines.examples import BY_TIME, SplitRule, split_events, user_examples, user_record
from tfrs_shop.features import Feature


@beam.typehints.with_output_types(tuple[str, dict[str, Any]])
class MakeExamples(beam.DoFn):
    """Yields ``(split, example)``, and by tag what the rest of the pipeline counts.

    Tags: ``users`` (the record of ``users/``), ``trained`` (product id of each training event), ``numbers``
    (``(statistic, value)`` of training events), ``over_cap`` (how many old events a user had too many).

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

    def process(
        self, element: tuple[str, dict[str, Iterable[Any]]], cuts: tuple[int, int] | None = None
    ) -> Iterator[Any]:
        """Make the examples of one user."""
        user_id, groups = element
        seen = 0

        def counted(events: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
            nonlocal seen
            for event in events:
                seen += 1
                yield event

        events = heapq.nlargest(self.largest_history, counted(groups["events"]), key=self._order)[::-1]
        if seen > len(events):
            yield beam.pvalue.TaggedOutput("over_cap", seen - len(events))
        attributes = next(iter(groups["profiles"]), {})
        profile = {
            feature.name: attributes.get(feature.source, None if feature.dtype == "float32" else "")
            for feature in self.profile
        }
        rule = self.rule
        if rule.rule == BY_TIME and cuts is not None:
            rule = SplitRule(BY_TIME, rule.max_history, rule.target_events, *cuts)
        if events:
            yield from user_examples(user_id, events, rule, profile)
            train_end, _ = split_events(events, rule)
            yield from self._counts(events[:train_end], rule)
        yield beam.pvalue.TaggedOutput("users", user_record(user_id, events, rule.max_history, profile))

    def _order(self, event: dict[str, Any]) -> tuple[Any, ...]:
        position = event["position"] if event["position"] is not None else -1
        moment = event["timestamp"] if self.order_by == "timestamp" else position
        return (moment, position, *event["source"])

    def _counts(self, events: list[dict[str, Any]], rule: SplitRule) -> Iterator[Any]:
        for event in events:
            if rule.is_target(event):
                yield beam.pvalue.TaggedOutput("trained", event["product_id"])
            for name in ("rating", "price", "quantity"):
                if event[name] is not None:
                    yield beam.pvalue.TaggedOutput("numbers", (f"event_{name}", event[name]))
