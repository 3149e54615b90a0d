"""Combiners: exact, and the same however an engine splits and merges the work."""

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.catalogue import MostFrequentFields
from pipelines.statistics import HourCounts, NumberStatistics, Tally, bucket, time_cuts

PRICES = st.floats(0, 1e6, allow_subnormal=False).map(lambda price: round(price, 2))


def combined(combiner, elements, parts, seed):
    """Combine as an engine may: elements in any order, in so many parts, merged in any order, some of them empty."""
    chance = random.Random(seed)
    elements = list(elements)
    chance.shuffle(elements)
    accumulators = [combiner.create_accumulator() for _ in range(parts)]
    for element in elements:
        place = chance.randrange(parts)
        accumulators[place] = combiner.add_input(accumulators[place], element)
    while len(accumulators) > 1:
        chance.shuffle(accumulators)
        accumulators[-2:] = [combiner.merge_accumulators(accumulators[-2:])]
    return combiner.extract_output(accumulators[0])


@given(st.lists(PRICES, max_size=40), st.integers(1, 5), st.integers())
def test_statistics_do_not_depend_on_the_order_of_work(numbers, parts, seed):
    assert combined(NumberStatistics(), numbers, parts, seed) == combined(NumberStatistics(), numbers, 1, 0)


@given(st.lists(PRICES, min_size=1, max_size=60))
def test_mean_and_deviation_are_those_of_numpy(numbers):
    found = combined(NumberStatistics(), numbers, 2, 1)
    assert found["count"] == len(numbers)
    assert found["mean"] == pytest.approx(np.mean(numbers), rel=1e-9, abs=1e-6)
    assert found["std"] == pytest.approx(np.std(numbers), rel=1e-6, abs=1e-5)
    assert (found["min"], found["max"]) == (min(numbers), max(numbers))


def test_quantiles_are_those_of_numpy_to_a_tenth():
    numbers = np.random.default_rng(1).lognormal(3, 1, 5000)
    found = combined(NumberStatistics(), numbers.tolist(), 3, 1)["quantiles"]
    right = np.quantile(numbers, np.arange(1, 16) / 16, method="inverted_cdf")
    assert len(found) == 15
    np.testing.assert_allclose(found, right, rtol=0.1, atol=0.1)


def test_quantiles_are_in_order_and_inside_the_range():
    found = combined(NumberStatistics(), [-5.0, 0.0, 0.0, 2.5, 2.5, 2.5, 100.0], 2, 3)
    assert found["quantiles"] == sorted(found["quantiles"])
    assert found["min"] <= found["quantiles"][0]
    assert found["quantiles"][-1] <= found["max"]


def test_no_numbers_have_a_count_of_0_and_huge_ones_do_no_harm():
    assert combined(NumberStatistics(), [], 2, 1) == {"count": 0}
    assert combined(NumberStatistics(), [3e38, -3e38], 2, 1)["mean"] == 0.0


@given(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9))
def test_buckets_hold_their_numbers_and_do_not_overlap(one, other):
    low, high = map(float, bucket(one).split(".."))
    assert low - abs(low) * 0.01 - 1e-9 <= one <= high + abs(high) * 0.01 + 1e-9
    if bucket(one) != bucket(other) and one < other:
        assert high <= float(bucket(other).split("..")[0])


ROWS = st.tuples(
    st.fixed_dictionaries(
        {
            "title": st.sampled_from(["", "Mug", "mug"]),
            "category": st.sampled_from([[], ["A"], ["A", "B"]]),
            "price": st.sampled_from([None, 1.0, 2.0]),
        }
    ),
    st.integers(1, 3),
)


@given(st.lists(ROWS, max_size=12), st.integers(1, 4), st.integers())
def test_the_fields_seen_most_often_do_not_depend_on_the_order_of_work(rows, parts, seed):
    assert combined(MostFrequentFields(), rows, parts, seed) == combined(MostFrequentFields(), rows, 1, 0)


def test_of_each_field_the_value_seen_most_often_is_kept_and_of_equals_the_smallest():
    rows = [({"title": "B", "price": 1.0}, 2), ({"title": "A", "price": 2.0}, 2), ({"title": "", "price": 2.0}, 9)]
    found = combined(MostFrequentFields(), rows, 2, 1)
    assert (found["title"], found["price"], found["brand"], found["category"]) == ("A", 2.0, "", [])


def test_a_tally_counts_a_bundle_and_forgets_the_one_before():
    tally = Tally(lambda word: [("words", word)] if word else [])
    for bundle, counts in ((["a", "b", "a", ""], {"a": 2, "b": 1}), (["b"], {"b": 1})):
        tally.start_bundle()
        for word in bundle:
            tally.process(word)
        assert {pair.value[0][1]: pair.value[1] for pair in tally.finish_bundle()} == counts


# --- cuts by time ---

HOUR = 3_600_000


def test_cuts_leave_validation_and_test_their_shares():
    hours = combined(HourCounts(), [hour * HOUR + 5 for hour in range(100)], 3, 1)
    assert time_cuts(hours, 0.1, 0.2) == (70 * HOUR, 80 * HOUR)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=60), st.floats(0, 0.4), st.floats(0, 0.4))
def test_a_split_never_holds_more_than_its_share(times, validation, test):
    hours = combined(HourCounts(), [hour * HOUR for hour in times], 2, 1)
    validation_from, test_from = time_cuts(hours, validation, test)
    assert validation_from <= test_from
    assert sum(hour * HOUR >= test_from for hour in times) <= test * len(times)
    assert sum(hour * HOUR >= validation_from for hour in times) <= (validation + test) * len(times)


def test_events_of_one_hour_are_all_for_training():
    assert time_cuts({5: 10}, 0.1, 0.1) == (6 * HOUR, 6 * HOUR)
    assert math.isfinite(time_cuts({}, 0.1, 0.1)[0])
