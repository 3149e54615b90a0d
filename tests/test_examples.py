"""Examples from one user's events: splits, windows, and nothing of what comes after the target."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.examples import BY_TIME, LEAVE_ONE_OUT, SplitRule, split_events, training_windows, user_examples
from pipelines.users import JOINED_COLUMNS, MakeExamples
from tfrs_shop.features import profile_feature

LEAVE_OUT = SplitRule(LEAVE_ONE_OUT, 50)
KINDS = ["view", "cart", "purchase", "search", "return"]


def events(kinds, times=None):
    """Return events of a user; each has a product, a query and a title that no other has."""
    return [
        {
            "user_id": "U",
            "product_id": "" if kind == "search" else f"P{number}.",
            "event_type": kind,
            "timestamp": times[number] if times else number,
            "position": None,
            "session_id": f"S{number}.",
            "rating": None,
            "query": f"query{number}." if kind == "search" else "",
            "quantity": 1.0,
            "price": float(number),
            "title": "" if kind == "search" else f"title{number}.",
        }
        for number, kind in enumerate(kinds)
    ]


def made(kinds, rule, times=None):
    return list(user_examples("U", events(kinds, times), rule, {}))


def numbers(example):
    """Return the numbers of the events in an example's history, and of its target."""
    history = [int(session[1:-1]) for session in example["history_session_id"]]
    return history, int(example["target_session_id"][1:-1])


def shown(kinds, rule, times=None):
    return [(split, *numbers(example)) for split, example in made(kinds, rule, times)]


# --- leave one out ---


def test_the_last_target_is_the_test_and_the_last_but_one_the_validation():
    assert shown(["view"] * 5, LEAVE_OUT) == [
        ("train", [0, 1], 2),
        ("validation", [0, 1, 2], 3),
        ("test", [0, 1, 2, 3], 4),
    ]


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ([], []),
        (["search", "return"], []),
        (["view"], [("train", [], 0)]),
        (["view", "view"], [("train", [0], 1)]),
        (["view", "search", "view"], [("train", [0, 1], 2)]),
        (["view", "view", "view"], [("train", [], 0), ("validation", [0], 1), ("test", [0, 1], 2)]),
    ],
)
def test_users_with_fewer_than_three_targets_are_for_training_only(kinds, expected):
    assert shown(kinds, LEAVE_OUT) == expected


def test_searches_and_returns_are_history_but_no_targets():
    kinds = ["view", "search", "view", "return", "purchase", "search", "purchase", "search", "return"]
    assert shown(kinds, LEAVE_OUT) == [
        ("train", [0, 1], 2),
        ("validation", [0, 1, 2, 3], 4),
        ("test", [0, 1, 2, 3, 4, 5], 6),
    ]


def test_only_the_target_events_that_are_asked_for_are_targets():
    rule = dataclasses.replace(LEAVE_OUT, target_events=frozenset({"purchase", "search"}))
    kinds = ["purchase", "view", "purchase", "view", "purchase", "search"]
    assert [(split, target) for split, _, target in shown(kinds, rule)] == [
        ("train", 0),
        ("validation", 2),
        ("test", 4),
    ]


# --- by time ---


def test_by_time_each_target_after_the_cut_is_held_out():
    rule = SplitRule(BY_TIME, 50, validation_from=30, test_from=50)
    times = [10, 20, 30, 40, 50, 60]
    kinds = ["view", "view", "view", "search", "view", "cart"]
    assert shown(kinds, rule, times) == [
        ("train", [0], 1),
        ("validation", [0, 1], 2),
        ("test", [0, 1, 2, 3], 4),
        ("test", [0, 1, 2, 3, 4], 5),
    ]


def test_by_time_a_new_user_is_asked_for_the_first_event_without_history():
    rule = SplitRule(BY_TIME, 50, validation_from=30, test_from=50)
    assert shown(["view"], rule, [70]) == [("test", [], 0)]


# --- windows and history ---


def test_long_training_histories_become_windows_that_overlap_by_one_event():
    rule = dataclasses.replace(LEAVE_OUT, max_history=3)
    assert list(training_windows(events(["view"] * 8), rule)) == [(4, 7), (1, 4), (0, 1)]


@given(st.lists(st.sampled_from(KINDS), max_size=40), st.integers(1, 12))
def test_each_target_event_but_the_first_is_the_label_of_exactly_one_position(kinds, max_history):
    rule = dataclasses.replace(LEAVE_OUT, max_history=max_history)
    found = events(kinds)
    labels = [
        number
        for start, target in training_windows(found, rule)
        for number in ([target] if start == target else range(start + 1, target + 1))
    ]
    assert len(labels) == len(set(labels))
    assert {number for number, event in enumerate(found) if rule.is_target(event)} - {0} <= set(labels)


def test_events_older_than_the_history_are_named_by_product_once_each():
    rule = dataclasses.replace(LEAVE_OUT, max_history=2)
    found = events(["view"] * 7)
    for number, product in enumerate(["A", "B", "A", "C", "D", "B", "E"]):
        found[number]["product_id"] = product
    test = dict(user_examples("U", found, rule, {}))["test"]
    assert (test["older_product_id"], test["history_product_id"]) == (["A", "C"], ["D", "B"])
    assert (test["history_offset"], test["target_product_id"]) == (4, "E")


# --- leaks ---

RULES = st.builds(
    SplitRule,
    rule=st.sampled_from([LEAVE_ONE_OUT, BY_TIME]),
    max_history=st.integers(1, 8),
    target_events=st.sampled_from([frozenset(), frozenset({"purchase"}), frozenset({"view", "cart"})]),
    validation_from=st.just(10),
    test_from=st.just(20),
)


def event_numbers(text):
    """Return the numbers of all events that a text names; each product, query and title ends in a number and a dot."""
    return {int("".join(letter for letter in word if letter.isdigit())) for word in text.split(".") if word.strip()}


@given(st.lists(st.sampled_from(KINDS), max_size=30), RULES)
def test_nothing_from_the_target_on_is_in_an_example(kinds, rule):
    for _, example in made(kinds, rule):
        history, target = numbers(example)
        named = set(history) | event_numbers(" ".join(example["history_product_id"] + example["older_product_id"]))
        named |= event_numbers(example["behavior_text"]) | event_numbers(" ".join(example["history_query"]))
        assert all(number < target for number in named)
        assert history == list(range(target - len(history), target))
        assert len(history) <= rule.max_history
        assert example["history_offset"] == target - len(history)


@given(st.lists(st.sampled_from(KINDS), max_size=30), RULES)
def test_what_is_held_out_is_in_no_training_example(kinds, rule):
    found = made(kinds, rule)
    held_out = [numbers(example)[1] for split, example in found if split != "train"]
    training = [
        number for split, example in found if split == "train" for number in (*numbers(example)[0], numbers(example)[1])
    ]
    assert len(held_out) == len(set(held_out))
    if held_out and training:
        assert max(training) < min(held_out)
    train_end, _ = split_events(events(kinds), rule)
    assert all(number < train_end for number in training)


# --- all events of a user ---


def tuples(found, file=0):
    return [
        tuple({**event, "file": file, "row": row}[column] for column in JOINED_COLUMNS)
        for row, event in enumerate(found, 2)
    ]


def outputs(found, rule=LEAVE_OUT, order_by="timestamp", largest=100, profile=(), attributes=None):
    """Run the DoFn on one user; return its output by tag ("main" for examples)."""
    out = {}
    group = [*found, *([attributes] if attributes else [])]
    for item in MakeExamples(rule, order_by, largest, profile).process(("U", group)):
        tag, value = (item.tag, item.value) if hasattr(item, "tag") else ("main", item)
        out.setdefault(tag, []).append(value)
    return out


@given(st.permutations(range(6)), st.sampled_from(["timestamp", "position"]))
def test_ties_are_ordered_by_position_then_file_then_row_whatever_the_order_of_arrival(order, order_by):
    found = events(["view"] * 6, [5, 5, 5, 5, 1, 9])
    for event, position in zip(found, [1, 0, None, None, 7, 8], strict=True):
        event["position"] = position
    everything = tuples(found)
    arrived = [everything[place] for place in order]
    # At time 5: the two without a position by their row, then positions 0 and 1. By position: none first.
    expected = {"timestamp": [4, 2, 3, 1, 0, 5], "position": [2, 3, 1, 0, 4, 5]}[order_by]
    record = outputs(arrived, order_by=order_by)["users"][0]
    assert record["history_product_id"] == [f"P{number}." for number in expected]


def test_only_the_newest_events_of_a_user_are_kept_and_the_others_counted():
    out = outputs(tuples(events(["view"] * 10)), largest=4)
    assert out["users"][0]["history_product_id"] == ["P6.", "P7.", "P8.", "P9."]
    assert out["tallies"] == [(("rows", "events over cap"), 6)]
    assert [numbers(example) for _, example in out["main"]] == [([6], 7), ([6, 7], 8), ([6, 7, 8], 9)]


def test_only_training_targets_are_counted():
    out = outputs(tuples(events(["view", "search", "view", "return", "view", "view"])))
    assert out["trained"] == ["P0.", "P2."]
    assert [value for name, value in out["numbers"] if name == "event_price"] == [0.0, 1.0, 2.0, 3.0]


def test_a_profile_is_in_every_example_and_a_user_without_one_has_its_missing_values():
    profile = (profile_feature("city", numeric=False), profile_feature("age", numeric=True))
    out = outputs(tuples(events(["view"] * 3)), profile=profile, attributes={"city": "Oslo", "age": 34.0})
    assert all((example["profile_city"], example["profile_age"]) == ("Oslo", 34.0) for _, example in out["main"])
    record = outputs(tuples(events(["view"])), profile=profile)["users"][0]
    assert (record["profile_city"], record["profile_age"]) == ("", None)


def test_a_user_with_a_profile_and_no_events_has_a_record_and_no_examples():
    out = outputs([], profile=(profile_feature("city", numeric=False),), attributes={"city": "Oslo"})
    assert list(out) == ["users"]
    assert (out["users"][0]["history_product_id"], out["users"][0]["profile_city"]) == ([], "Oslo")
