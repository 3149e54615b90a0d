"""Habits: what a user comes back to, as it is counted, mixed with the scores, and served."""

import numpy as np
import pytest
import tensorflow as tf
from bundle_support import user_row

from pipelines.examples import SplitRule, user_examples
from pipelines.habits import MOST, habits
from tfrs_shop.export import Serving, export, usual_exclusion
from tfrs_shop.habits import Usual, prior, usual
from tfrs_shop.mixture import bought_again, choose_mixture
from tfrs_shop.run import MIXTURE, RunInfo

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
    found = usual(tf.constant([[3, 0, 1], [0, 0, 0]]), tf.constant([[4.0, 5.0, 1.0], [0.0, 0.0, 0.0]]), counts)
    assert found.product.numpy().tolist() == [[3, 0, 1], [0, 0, 0]]
    np.testing.assert_allclose(found.share, [[2 / 3, 0, 1 / 3], [0, 0, 0]])
    np.testing.assert_allclose(found.of(tf.constant([[0, 1, 2], [0, 1, 2]])), [[0, 1 / 3, 0], [0, 0, 0]])
    np.testing.assert_allclose(found.of_all(3), [[0, 1 / 3, 0, 2 / 3], [0, 0, 0, 0]])


def test_of_equal_habits_the_popular_one_weighs_more() -> None:
    assert prior(np.array([0, 15, 80])).tolist() == [1.0, 2.0, 3.0]


def test_a_user_without_habits_keeps_the_scores() -> None:
    found = Usual(tf.constant([[2], [0]]), tf.constant([[1.0], [0.0]]))
    chance = np.array([[0.25, 0.75], [0.25, 0.75]], np.float32)
    mixed = found.mixed(tf.math.log(chance), found.of(tf.constant([[1, 2], [1, 2]])), 0.4)
    np.testing.assert_allclose(np.exp(mixed), [[0.15, 0.85], [0.25, 0.75]], rtol=1e-6)


def test_an_example_has_habits_where_its_target_is_of_another_session_than_the_event_before() -> None:
    rule = SplitRule("leave_one_out", 10)

    def of_test(*sessions: str) -> list[str]:
        found = [
            dict.fromkeys(("rating", "price", "quantity"))
            | {"event_type": "purchase", "query": "", "title": "", **event(f"p{place}", session)}
            for place, session in enumerate(sessions)
        ]
        (example,) = [row for split, row in user_examples("u", found, rule, {}) if split == "test"]
        return example["usual_product_id"]

    assert of_test("1", "1", "2", "3") == ["p2", "p0", "p1"]
    assert of_test("1", "1", "2", "2") == []
    assert of_test("1", "1", "2", "") == ["p2", "p0", "p1"]
    assert of_test("", "", "", "") == []


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


def test_the_weights_of_a_run_are_those_that_validation_chose(trained) -> None:
    model, data = trained
    before = {name: getattr(model, name) for name in MIXTURE}
    said: list[str] = []
    try:
        choose_mixture(model, data, said.append)
        assert {name: getattr(model, name) for name in MIXTURE} == before
    finally:
        for name, weight in before.items():
            setattr(model, name, weight)
    # Without texts there is no likeness.
    assert [line.split(":")[0] for line in said] == ["Transition graph", "Habits"]
    assert f"weight {before['habit_weight']} is best" in said[1]


def test_bought_products_stay_in_the_answers_where_they_are_bought_again(trained) -> None:
    assert usual_exclusion(RunInfo("data", {}, bought_again=0.3)) == "none"
    assert usual_exclusion(RunInfo("data", {}, bought_again=0.01)) == "bought"
    assert 0.0 <= bought_again(trained[1]) <= 1.0
