"""What a bundle and the input read of lists of any length, beside plain Python loops."""

from itertools import chain

import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfrs_shop.dataset import left_padded
from tfrs_shop.edges import Edges, EdgeScorer, sums_at
from tfrs_shop.served.lookup import Lists
from tfrs_shop.served.shop import known_last

few = settings(max_examples=40, deadline=None)
rows_of_numbers = st.lists(st.lists(st.integers(1, 9), max_size=5), max_size=4)


def newest(row: list[int], length: int, default: int) -> list[int]:
    kept = row[-length:]
    return [default] * (length - len(kept)) + kept


@few
@given(rows_of_numbers, st.integers(1, 7))
def test_left_padded_is_the_newest_of_each_row(rows: list[list[int]], length: int) -> None:
    ragged = tf.RaggedTensor.from_row_lengths(
        tf.constant([number for row in rows for number in row], tf.int32), [len(row) for row in rows]
    )
    assert left_padded(ragged, length, -1).numpy().tolist() == [newest(row, length, -1) for row in rows]


@few
@given(rows_of_numbers.filter(bool), st.data(), st.integers(1, 7))
def test_lists_are_read_whole_and_by_their_newest_numbers(rows: list[list[int]], data, length: int) -> None:
    asked = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=4))
    lists, index = Lists(rows), tf.constant(asked, tf.int64)
    chosen = [rows[place] for place in asked]
    most = max([0, *map(len, chosen)])
    assert lists.rows(index).numpy().tolist() == [row + [0] * (most - len(row)) for row in chosen]
    assert lists.newest(index, length, -1).numpy().tolist() == [newest(row, length, -1) for row in chosen]
    assert lists.flat(index).numpy().tolist() == [number for row in chosen for number in row]


@few
@given(st.integers(0, 6).flatmap(lambda n: st.lists(st.lists(st.integers(0, 2), min_size=n, max_size=n), max_size=4)))
def test_known_events_are_found_in_their_order(rows: list[list[int]]) -> None:
    width = len(rows[0]) if rows else 3
    products = tf.reshape(tf.constant(list(chain.from_iterable(rows)), tf.int32), [len(rows), width])
    expected = [newest([place for place, one in enumerate(row, 1) if one], 3, 0) for row in rows]
    assert known_last(products, 3).numpy().tolist() == expected


@few
@given(st.data(), st.integers(0, 3))
def test_edges_of_a_history_are_those_of_its_newest_events(data, events: int) -> None:
    products = 5
    neighbors = [[], *data.draw(st.lists(st.lists(st.integers(1, 5), max_size=3), min_size=5, max_size=5))]
    width = data.draw(st.integers(0, 4))
    history = data.draw(st.lists(st.lists(st.integers(0, 5), min_size=width, max_size=width), max_size=3))
    starts = np.concatenate([[0], np.cumsum([len(row) for row in neighbors])]).astype(np.int64)
    flat = np.array(list(chain.from_iterable(neighbors)), np.int32)
    weight = (np.arange(len(flat)) + 1).astype(np.float32)
    scorer = EdgeScorer(Edges(starts, flat, weight), events, 0.5)
    expected = np.zeros([len(history), products + 1])
    followed = []
    for row, given_events in enumerate(history):
        kept = given_events[-events:] if events else given_events
        for age, product in enumerate(reversed(kept)):
            for place in range(starts[product], starts[product + 1]):
                expected[row, flat[place]] += weight[place] * 0.5**age
        followed.append([other for product in kept for other in neighbors[product]])
    given_history = tf.reshape(tf.constant(list(chain.from_iterable(history)), tf.int32), [len(history), width])
    np.testing.assert_allclose(scorer.sums(given_history, products), expected, rtol=1e-6)
    padded, weights = scorer.edges(given_history).padded()
    assert [[one for one in row if one] for row in padded.numpy().tolist()] == followed
    np.testing.assert_allclose(tf.reduce_sum(weights, 1), expected.sum(1), rtol=1e-5)


@few
@given(st.data(), st.integers(0, 3), st.integers(0, 6), st.integers(1, 5))
def test_the_values_of_each_wanted_key_are_summed(data, batch: int, some: int, asked: int) -> None:
    def rows(numbers: st.SearchStrategy, width: int) -> list[list]:
        return data.draw(st.lists(st.lists(numbers, min_size=width, max_size=width), min_size=batch, max_size=batch))

    keys, wanted = rows(st.integers(0, 4), some), rows(st.integers(0, 6), asked)
    values = rows(st.sampled_from([0.0, 1e-6, 0.5, 1.0, 1000.0]), some)
    expected = [
        [sum(value for key, value in zip(*row, strict=True) if key == one) for one in ones]
        for *row, ones in zip(keys, values, wanted, strict=True)
    ]
    found = sums_at(
        tf.constant(wanted, tf.int32, [batch, asked]),
        tf.constant(keys, tf.int32, [batch, some]),
        tf.constant(values, tf.float32, [batch, some]),
    )
    np.testing.assert_allclose(found.numpy(), np.reshape(expected, [batch, asked]), rtol=1e-6, atol=1e-9)
