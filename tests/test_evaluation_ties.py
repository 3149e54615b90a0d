"""Events of one clock time: the target drawn among them, against a plain loop and worked examples."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf
from conftest import quiet
from preprocess_support import preprocess, records, write_csv, write_jsonl

from tfrs_shop.dataset import open_data
from tfrs_shop.evaluation import evaluate, shown, ties_shuffled
from tfrs_shop.evaluation_pass import rank_split
from tfrs_shop.model.shop_model import ShopModel
from tfrs_shop.run import build
from tfrs_shop.ties import shuffled_ties

DAY = 86_400_000


def batch_of(histories: list[list[tuple[str, str, int]]], targets: list[tuple[str, str, int]]) -> dict:
    """Parsed examples of (product, event type, time); the rating tells an event apart."""

    def ragged(values: list[list], dtype: tf.DType) -> tf.RaggedTensor:
        return tf.ragged.constant(values, dtype=dtype, ragged_rank=1)

    return {
        "user_id": tf.constant([f"user{place}" for place in range(len(histories))]),
        "history_product_id": ragged([[event[0] for event in row] for row in histories], tf.string),
        "history_event_type": ragged([[event[1] for event in row] for row in histories], tf.string),
        "history_timestamp": ragged([[event[2] for event in row] for row in histories], tf.int64),
        "history_query": ragged(
            [["q" if event[1] == "search" else "" for event in row] for row in histories], tf.string
        ),
        "history_rating": ragged([[float(place) for place in range(len(row))] for row in histories], tf.float32),
        "target_product_id": tf.constant([target[0] for target in targets]),
        "target_event_type": tf.constant([target[1] for target in targets]),
        "target_timestamp": tf.constant([target[2] for target in targets], tf.int64),
        "target_rating": tf.constant([9.0] * len(targets)),
    }


def shuffled(batch: dict, seed: int = 1) -> dict:
    can_be_target = tf.ragged.map_flat_values(lambda kinds: kinds != "search", batch["history_event_type"])
    return {
        name: value.to_list() if isinstance(value, tf.RaggedTensor) else value.numpy().tolist()
        for name, value in shuffled_ties(batch, can_be_target, seed).items()
    }


def test_a_target_whose_clock_time_is_its_own_stays_and_so_does_its_history() -> None:
    batch = batch_of([[("A", "view", 1), ("B", "view", 2)], []], [("C", "cart", 3), ("D", "view", 3)])
    found = shuffled(batch)
    assert found["history_product_id"] == [[b"A", b"B"], []]
    assert found["target_product_id"] == [b"C", b"D"]
    assert found["tied"] == [False, False]
    assert found["drawn_back"] == [0, 0]


def test_events_without_a_clock_time_are_not_tied() -> None:
    assert shuffled(batch_of([[("A", "view", -1)]], [("B", "view", -1)]))["tied"] == [False]


def test_a_search_of_the_same_time_is_no_choice_and_stays_in_the_history() -> None:
    found = shuffled(batch_of([[("A", "view", 1), ("", "search", 2)]], [("B", "view", 2)]))
    assert found["tied"] == [False]
    assert found["history_product_id"] == [[b"A", b""]]
    assert found["history_query"] == [[b"", b"q"]]
    assert found["target_product_id"] == [b"B"]


def test_the_draw_is_even_and_moves_whole_events() -> None:
    history = [("A", "view", 1), ("B", "cart", 5), ("", "search", 5), ("C", "purchase", 5)]
    found = shuffled(batch_of([history] * 3000, [("D", "rating", 5)] * 3000))
    drawn, counts = np.unique(found["target_product_id"], return_counts=True)
    assert drawn.tolist() == [b"B", b"C", b"D"]
    assert (np.abs(counts - 1000) < 150).all()
    kinds = {b"A": b"view", b"B": b"cart", b"C": b"purchase", b"D": b"rating", b"": b"search"}
    ratings = {b"A": 0.0, b"B": 1.0, b"": 2.0, b"C": 3.0, b"D": 9.0}
    back = {b"D": 0, b"C": 1, b"B": 2}
    for place in range(3000):
        products = [*found["history_product_id"][place], found["target_product_id"][place]]
        assert sorted(products) == [b"", b"A", b"B", b"C", b"D"]
        assert products[:2] == [b"A", b""]
        assert [*found["history_event_type"][place], found["target_event_type"][place]] == [kinds[p] for p in products]
        assert [*found["history_rating"][place], found["target_rating"][place]] == [ratings[p] for p in products]
        assert found["history_query"][place] == [b"q" if p == b"" else b"" for p in products[:-1]]
        assert found["drawn_back"][place] == back[products[-1]]
    assert all(found["tied"])


def test_the_draw_is_the_same_in_any_batch_and_another_for_another_seed() -> None:
    histories = [[("A", "view", 1)] * (place % 3) + [("B", "view", 5), ("C", "view", 5)] for place in range(40)]
    batch = batch_of(histories, [("D", "view", 5)] * 40)
    whole = shuffled(batch)
    second_half = shuffled({name: value[20:] for name, value in batch.items()})
    for name, values in second_half.items():
        np.testing.assert_array_equal(np.array(whole[name][20:], object), np.array(values, object))
    assert whole["target_product_id"] != shuffled(batch, seed=2)["target_product_id"]


@pytest.fixture(scope="module")
def daily(tmp_path_factory, small_config):
    """A shop whose clock times are whole days, by both splits, and untrained models of it."""
    folder = tmp_path_factory.mktemp("daily")
    random = np.random.default_rng(5)
    events = [
        {"user_id": f"u{user}", "product_id": f"p{product}", "event_type": "view", "timestamp": day * DAY}
        for user in range(40)
        for day, product in zip(sorted(random.integers(1, 5, size=8)), random.integers(30, size=8), strict=True)
    ]
    files = ["--events", write_csv(folder / "events.csv", events)]
    files += ["--products", write_jsonl(folder / "products.jsonl", [{"product_id": f"p{p}"} for p in range(30)])]
    found = {}
    by_time = ["--split", "time", "--validation_from", "1970-01-04", "--test_from", "1970-01-05"]
    for split, flags in (("leave_one_out", []), ("time", by_time)):
        preprocess(folder / split, *files, *flags)
        data = open_data(folder / split)
        model = ShopModel(data, small_config)
        build(model, data)
        found[split] = (model, data)
    return found


@pytest.mark.parametrize("split", ["leave_one_out", "time"])
def test_the_second_row_counts_ties_and_equals_a_plain_loop(daily, split: str) -> None:
    model, data = daily[split]
    ranked = rank_split(model, data, "test", False)
    result = ties_shuffled(model, data, "test", False, ranked.ranks)
    tied = [row["target_timestamp"] in row["history_timestamp"] for row in records(data.directory, "test")]
    assert result["examples"] == len(tied) == len(ranked.ranks)
    assert result["tied"] == sum(tied) > 5
    ranks = []
    vectors = model.product_vectors()
    for rows in data.evaluation_batches("test", model.config.towers.max_history, 7, shuffle_ties=True):
        for row, target in zip(model.final_scores(vectors, rows).numpy(), rows["label"].numpy(), strict=True):
            ranks.append(sum(row[p] >= row[target] for p in range(1, len(row)) if p != target))
    ranks = np.array(ranks)
    assert result["recall@10"] == pytest.approx(np.mean(ranks < 10), abs=0.05)
    assert result["mrr"] == pytest.approx(np.mean(1 / (ranks + 1)), abs=0.02)


def test_targets_that_were_trained_on_are_counted_by_leave_one_out_and_there_are_none_by_time(daily) -> None:
    model, data = daily["leave_one_out"]
    ranks = rank_split(model, data, "test", False).ranks
    drawn = sum(
        int(np.sum(rows["drawn_back"].numpy() >= 2)) for rows in data.evaluation_batches("test", 5, shuffle_ties=True)
    )
    assert ties_shuffled(model, data, "test", False, ranks)["drawn_from_training"] == drawn > 0
    model, data = daily["time"]
    ranks = rank_split(model, data, "test", False).ranks
    assert ties_shuffled(model, data, "test", False, ranks)["drawn_from_training"] == 0


def test_evaluation_shows_the_second_row_where_clock_times_tie(daily) -> None:
    model, data = daily["time"]
    result = evaluate(model, data, "test", False, quiet)
    assert result["split_rule"] == "time"
    assert {"examples", "tied", "recall@10", "ndcg@100", "mrr", "accuracy", "f1@5", "map@20"} <= set(
        result["ties_shuffled"]
    )
    [line] = [line for line in shown(result) if line.startswith("ties_shuffled: ")]
    assert f"tied {result['ties_shuffled']['tied']}" in line
    json.dumps(result)


def test_events_in_an_order_of_their_own_have_no_second_row(daily) -> None:
    model, data = daily["time"]
    by_position = dataclasses.replace(data, manifest=dataclasses.replace(data.manifest, order_by="position"))
    assert ties_shuffled(model, by_position, "test", False, np.zeros(3, np.int64)) == {}
