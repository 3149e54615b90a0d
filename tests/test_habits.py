"""Habits: what a user comes back to, as it is counted, mixed with the scores, and served."""

import numpy as np
import pytest
import tensorflow as tf
from bundle_support import user_row

from pipelines.habits import MOST, habits
from tfrs_shop.dataset import begins_session
from tfrs_shop.evaluation import bought_again, choose_habit_weight
from tfrs_shop.export import Serving, export, usual_exclusion
from tfrs_shop.habits import Usual, prior, usual
from tfrs_shop.run import RunInfo

MINUTE = 60_000


def event(product: str, session: str = "", timestamp: int | None = None) -> dict:
    return {"product_id": product, "session_id": session, "timestamp": timestamp}


def test_a_session_counts_once_for_each_of_its_products_and_an_older_one_less() -> None:
    events = [event("a", "1"), event("b", "1"), event("a", "1"), event("a", "2"), event("c", "3")]
    assert habits(events) == pytest.approx({"a": 0.9 + 0.81, "c": 1.0, "b": 0.81})
    assert list(habits(events)) == ["a", "c", "b"]


def test_without_session_ids_half_an_hour_parts_sessions() -> None:
    events = [event("a", timestamp=0), event("b", timestamp=30 * MINUTE), event("c", timestamp=61 * MINUTE)]
    assert habits(events) == pytest.approx({"c": 1.0, "a": 0.9, "b": 0.9})


def test_the_last_session_is_a_habit_too_but_not_where_sessions_are_unknown() -> None:
    assert habits([event("a", "1"), event("b", "1"), event("a", "1")]) == {"a": 1.0, "b": 1.0}
    assert habits([]) == {}
    assert habits([event("a"), event("a"), event("b")]) == {}


def test_the_weightiest_products_are_kept() -> None:
    events = [event(f"p{place}", str(session)) for session in range(2) for place in range(MOST + session)]
    found = habits(events)
    assert len(found) == MOST
    # Only once, but in the newest session: lighter than all that came twice.
    assert f"p{MOST}" not in found


def test_shares_are_of_what_is_known() -> None:
    counts = tf.constant([9.0, 1.0, 1.0, 0.5])
    found = usual(tf.ragged.constant([[3, 0, 1], []], tf.int32), tf.ragged.constant([[4.0, 5.0, 1.0], []]), counts)
    assert found.product.numpy().tolist() == [[3, 1], [0, 0]]
    np.testing.assert_allclose(found.share, [[2 / 3, 1 / 3], [0, 0]])
    np.testing.assert_allclose(found.of(tf.constant([[0, 1, 2], [0, 1, 2]])), [[0, 1 / 3, 0], [0, 0, 0]])
    np.testing.assert_allclose(found.of_all(3), [[0, 1 / 3, 0, 2 / 3], [0, 0, 0, 0]])


def test_of_equal_habits_the_popular_one_weighs_more() -> None:
    assert prior(np.array([0, 15, 80])).tolist() == [1.0, 2.0, 3.0]


def test_a_user_without_habits_keeps_the_scores() -> None:
    found = Usual(tf.constant([[2], [0]]), tf.constant([[1.0], [0.0]]))
    chance = np.array([[0.25, 0.75], [0.25, 0.75]], np.float32)
    mixed = found.mixed(tf.math.log(chance), found.of(tf.constant([[1, 2], [1, 2]])), 0.4)
    np.testing.assert_allclose(np.exp(mixed), [[0.15, 0.85], [0.25, 0.75]], rtol=1e-6)


@pytest.mark.parametrize(
    ("sessions", "times", "session", "time", "expected"),
    [
        (["s", "s"], [-1, -1], "s", -1, False),
        (["s", "s"], [-1, -1], "t", -1, True),
        (["s", ""], [0, 0], "t", 0, True),
        (["", ""], [0, 5], "", 5 + 30 * MINUTE, False),
        (["", ""], [0, 5], "", 6 + 30 * MINUTE, True),
        (["", ""], [0, -1], "", 90 * MINUTE, False),
        ([], [], "", 90 * MINUTE, False),
    ],
)
def test_a_session_begins_with_another_id_or_after_half_an_hour(
    sessions: list[str], times: list[int], session: str, time: int, expected: bool
) -> None:
    batch = {
        "history_session_id": tf.RaggedTensor.from_row_lengths(tf.constant(sessions, tf.string), [len(sessions)]),
        "history_timestamp": tf.RaggedTensor.from_row_lengths(tf.constant(times, tf.int64), [len(times)]),
        "target_session_id": tf.constant([session]),
        "target_timestamp": tf.constant([time], tf.int64),
    }
    assert begins_session(batch).numpy().tolist() == [expected]


def test_examples_have_habits_only_where_a_session_begins(trained) -> None:
    model, data = trained
    begun = 0
    for rows in data.evaluation_batches("test", model.config.towers.max_history):
        total = rows["usual_share"].numpy().sum(1)
        assert set(total.round(5).tolist()) <= {0.0, 1.0}
        begun += int(total.sum().round())
    assert begun >= 5


@pytest.mark.usefixtures("few_questions")
def test_what_is_served_is_what_was_evaluated(trained, tmp_path) -> None:
    model, data = trained
    before, model.habit_weight = model.habit_weight, 0.5
    try:
        path = export(model, data, tmp_path / "shop", "brute_force", Serving(6, "none"), lambda line: None)
        recommend = tf.saved_model.load(str(path)).signatures["recommend"]
        vectors, users = model.product_vectors(), data.users()["user_id"]
        moved = 0
        for place in range(0, 30, 3):
            row = user_row(data, place)
            chance = np.exp(model.final_scores(vectors, row).numpy()[0])
            answer = recommend(user_id=tf.constant([users[place]]))
            np.testing.assert_allclose(answer["score"].numpy()[0], -np.sort(-chance)[:6], atol=1e-5)
            model.habit_weight = 0.0
            moved += not np.allclose(chance, np.exp(model.final_scores(vectors, row).numpy()[0]))
            model.habit_weight = 0.5
        assert moved >= 5
    finally:
        model.habit_weight = before


def test_the_weight_is_the_best_on_validation_targets_that_begin_a_session(trained) -> None:
    model, data = trained
    before = model.habit_weight
    said: list[str] = []
    try:
        weight = choose_habit_weight(model, data, said.append)
        assert weight == before
        assert f"weight {weight} is best" in said[0]
    finally:
        model.habit_weight = before


def test_bought_products_stay_in_the_answers_where_they_are_bought_again(trained) -> None:
    assert usual_exclusion(RunInfo("data", {}, bought_again=0.3)) == "none"
    assert usual_exclusion(RunInfo("data", {}, bought_again=0.01)) == "bought"
    assert 0.0 <= bought_again(trained[1]) <= 1.0
