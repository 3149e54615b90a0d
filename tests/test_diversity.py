"""Diverse lists: each method against a plain implementation, and what the signatures answer."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from bundle_support import ask

from tfrs_shop.edges import Edges, EdgeScorer
from tfrs_shop.served.diversity import (
    METHODS,
    NEAR,
    PAGE,
    UNIT,
    category_quota,
    dpp,
    explore_sample,
    explore_walk,
    mmr,
    nearest,
    worth,
)
from tfrs_shop.served.random_numbers import uniform, uniform_of_products
from tfrs_shop.served.random_walk import RandomWalk

POOL, WIDTH = 12, 6


def candidates(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return falling chances [POOL], cosines to a history [POOL], and unit vectors [POOL, WIDTH]."""
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(POOL, WIDTH)) + 0.7
    chance = -np.sort(-random.dirichlet(np.ones(POOL)))
    near = random.uniform(0.2, 0.8, POOL)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return chance.astype(np.float32), near.astype(np.float32), unit.astype(np.float32)


def worth_by_hand(chance: np.ndarray, near: np.ndarray, strength: float) -> np.ndarray:
    return (1 - strength) * chance / UNIT * np.exp(NEAR * strength * (near - near.mean()))


def mmr_by_hand(chance: np.ndarray, near: np.ndarray, vectors: np.ndarray, strength: float, k: int) -> list[int]:
    own = worth_by_hand(chance, near, strength)
    shown: list[int] = []
    while len(shown) < k:
        gains = {
            i: own[i] / np.log2(len(shown) + 2)
            - strength * (np.mean([float(vectors[i] @ vectors[j]) for j in shown]) if shown else 0.0)
            for i in range(len(chance))
            if i not in shown
        }
        shown.append(max(gains, key=gains.get))
    return shown


def log_det(vectors: np.ndarray, places: list[int]) -> float:
    cosines = vectors[places].astype(np.float64) @ vectors[places].T
    return float(np.linalg.slogdet(cosines)[1])


def dpp_by_hand(chance: np.ndarray, near: np.ndarray, vectors: np.ndarray, strength: float, k: int) -> list[int]:
    own = worth_by_hand(chance, near, strength)
    shown: list[int] = []
    while len(shown) < k:
        values = {
            # Rounded, so that the first of equals is the first: one product alone has the determinant 1.
            i: round(float(own[[*shown, i]].sum() + strength * log_det(vectors, [*shown, i])), 4)
            for i in range(len(chance))
            if i not in shown
        }
        shown.append(max(values, key=values.get))
    return shown


def batch_of(rows: list[np.ndarray]) -> tf.Tensor:
    return tf.constant(np.stack(rows))


def cosines(vectors: tf.Tensor) -> tf.Tensor:
    return tf.matmul(vectors, vectors, transpose_b=True)


@pytest.mark.parametrize("strength", [0.0, 0.3, 0.6, 0.9, 1.0])
def test_mmr_and_dpp_pick_what_a_plain_loop_picks_and_show_it_best_first(strength: float) -> None:
    drawn = [candidates(seed) for seed in range(8)]
    chance, near, vectors = (batch_of(list(part)) for part in zip(*drawn, strict=True))
    left, strengths = tf.fill([8, POOL], True), tf.fill([8], strength)
    for pick, by_hand in ((mmr, mmr_by_hand), (dpp, dpp_by_hand)):
        for k in range(1, WIDTH + 1):
            found = pick(chance, near, cosines(vectors), left, strengths, k).numpy().tolist()
            assert found == [sorted(by_hand(*candidate, strength, k)) for candidate in drawn]


def test_the_first_ten_of_a_longer_list_are_the_list_of_ten() -> None:
    chance, near, vectors = (tf.constant([values]) for values in candidates(4))
    left, strength = tf.fill([1, POOL], True), tf.constant([0.8])
    for pick in (mmr, dpp):
        longer = pick(chance, near, cosines(vectors), left, strength, POOL).numpy()[0].tolist()
        assert longer[:PAGE] == pick(chance, near, cosines(vectors), left, strength, PAGE).numpy()[0].tolist()
        assert sorted(longer) == list(range(POOL))


def test_dpp_finds_the_set_with_the_largest_determinant_of_all_sets() -> None:
    # Three kinds of four products each, nearly the same within a kind.
    random = np.random.default_rng(5)
    vectors = np.repeat(np.eye(3, WIDTH), 4, axis=0) + 0.05 * random.normal(size=(POOL, WIDTH))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    chance = UNIT * np.linspace(0.5, 0.3, POOL).astype(np.float32)
    given = tf.constant([chance]), tf.zeros([1, POOL]), cosines(tf.constant([vectors]))
    found = dpp(*given, tf.fill([1, POOL], True), tf.constant([0.5]), 3)
    sets = [list(places) for places in itertools.combinations(range(POOL), 3)]
    best = max(sets, key=lambda places: chance[places].sum() / UNIT + log_det(vectors, places))
    assert found.numpy()[0].tolist() == best


def test_what_is_the_same_twice_is_not_picked_twice_and_a_list_longer_than_the_width_is_filled() -> None:
    vectors = tf.constant([[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]])
    chance, left, strength = tf.constant([[0.04, 0.03, 0.02, 0.01]]), tf.fill([1, 4], True), tf.constant([0.9])
    near = tf.zeros([1, 4])
    assert dpp(chance, near, cosines(vectors), left, strength, 2).numpy().tolist() == [[0, 2]]
    assert mmr(chance, near, cosines(vectors), left, strength, 2).numpy().tolist() == [[0, 2]]
    assert dpp(chance, near, cosines(vectors), left, strength, 4).numpy().tolist() == [[0, 1, 2, 3]]


def test_what_is_like_the_history_is_worth_more_the_stronger_the_method_and_nothing_more_at_0() -> None:
    chance, near = tf.constant([[0.2, 0.1, 0.9]]), tf.constant([[0.7, 0.3, 5.0]])
    left = tf.constant([[True, True, False]])
    plain = worth(chance, near, left, tf.constant([0.0])).numpy()[0]
    np.testing.assert_allclose(plain, [0.2 / UNIT, 0.1 / UNIT, 0.9 / UNIT], rtol=1e-6)
    # The mean of those that are left is 0.5.
    for strength in (0.25, 0.5):
        found = worth(chance, near, left, tf.constant([strength])).numpy()[0, :2]
        rise = np.exp(NEAR * strength * np.array([0.2, -0.2]))
        np.testing.assert_allclose(found, (1 - strength) / UNIT * np.array([0.2, 0.1]) * rise, rtol=1e-5)
    assert not worth(chance, near, left, tf.constant([1.0])).numpy().any()


def test_of_a_history_the_nearest_product_counts_and_places_without_one_do_not() -> None:
    vectors = tf.constant([[[1.0, 0.0], [0.6, 0.8]]] * 2)
    history = tf.constant([[[1.0, 0.0], [0.0, 1.0], [0.8, 0.6]]] * 2)
    known = tf.constant([[False, True, True], [False, False, False]])
    np.testing.assert_allclose(nearest(vectors, history, known).numpy(), [[0.8, 0.96], [-1, -1]], rtol=1e-6)


def test_of_two_that_are_as_likely_and_as_different_the_one_like_the_history_is_shown() -> None:
    chance, left, strength = tf.constant([[0.05, 0.01, 0.01]]), tf.fill([1, 3], True), tf.constant([0.5])
    for pick in (mmr, dpp):
        for near, second in (([0.5, 0.2, 0.6], 2), ([0.5, 0.6, 0.2], 1)):
            found = pick(chance, tf.constant([near]), tf.eye(3)[None], left, strength, 2)
            assert found.numpy().tolist() == [[0, second]]


def test_a_quota_takes_the_best_of_other_categories_and_of_the_least_shown_when_none_is_left() -> None:
    category, left = tf.constant([[7, 7, 7, 3, 7, 3, 0, 0]]), tf.fill([1, 8], True)
    picked = {
        strength: category_quota(category, left, tf.constant([strength]), 6).numpy()[0].tolist()
        for strength in (0.0, 0.5, 1.0)
    }
    # Picked in the orders 0 1 2 3 4 5; 0 3 1 5 2 6; 0 3 6 1 5 7.
    assert picked == {0.0: [0, 1, 2, 3, 4, 5], 0.5: [0, 1, 2, 3, 5, 6], 1.0: [0, 1, 3, 5, 6, 7]}


def test_where_nothing_is_left_the_list_says_so() -> None:
    chance, left = tf.constant([[0.5, 0.3, 0.2]]), tf.constant([[True, False, True]])
    vectors, strength = tf.constant([[[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]]), tf.constant([0.5])
    numbers = tf.constant([[0.5, 0.5, 0.5]])
    near = tf.zeros([1, 3])
    lists = [
        mmr(chance, near, cosines(vectors), left, strength, 3),
        dpp(chance, near, cosines(vectors), left, strength, 3),
        category_quota(tf.constant([[1, 2, 1]]), left, strength, 3),
        explore_walk(chance, numbers, left, strength, 3),
        explore_sample(chance, numbers, left, strength, 3),
    ]
    assert [found.numpy().tolist() for found in lists] == [[[0, 2, -1]]] * 5


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_samples_are_as_frequent_as_plackett_luce_says(strength: float) -> None:
    from scipy.stats import chisquare

    chance, draws = np.array([0.5, 0.3, 0.15, 0.05]), 20_000
    rows = tf.fill([draws, 1], True)
    chances = tf.constant(np.tile(chance, (draws, 1)), tf.float32)
    numbers = tf.random.stateless_uniform([draws, 4], [3, 0])
    found = explore_sample(chances, numbers, tf.tile(rows, [1, 4]), tf.fill([draws], strength), 2).numpy()
    weight = chance ** (1 / strength)
    pairs = list(itertools.permutations(range(4), 2))
    expected = [weight[a] / weight.sum() * weight[b] / (weight.sum() - weight[a]) for a, b in pairs]
    counted = [int((found == pair).all(1).sum()) for pair in pairs]
    assert chisquare(counted, np.array(expected) * draws).pvalue > 0.001


def test_random_numbers_are_those_of_the_rows_own_seed() -> None:
    together = uniform(tf.constant([5, -3, 5], tf.int64), 8).numpy()
    np.testing.assert_array_equal(together[0], together[2])
    np.testing.assert_array_equal(together[1:2], uniform(tf.constant([-3], tf.int64), 8).numpy())
    assert not np.array_equal(together[0], together[1])


def test_a_products_random_number_goes_with_it_and_is_its_own_for_each_seed_and_newest_product() -> None:
    ids = [[f"P{number}" for number in range(20_000)]] * 3
    seed, newest = tf.constant([5, -3, 5], tf.int64), tf.constant(["P1", "P1", "P2"])
    found = uniform_of_products(seed, newest, tf.constant(ids)).numpy()
    backwards = uniform_of_products(seed, newest, tf.constant(ids)[:, ::-1]).numpy()
    np.testing.assert_array_equal(found, backwards[:, ::-1])
    assert found.min() >= 0
    assert found.max() < 1
    # Even, and rows know nothing of each other: a count in a tenth has a standard deviation of 42.
    assert all(np.abs(np.histogram(row, 10, (0, 1))[0] - 2_000).max() < 200 for row in found)
    assert np.abs(np.corrcoef(found) - np.eye(3)).max() < 0.03


def test_a_walk_takes_edges_as_often_as_they_weigh_and_leaves_the_history_out() -> None:
    # 1 -> 2 (weight 3), 1 -> 3 (weight 1); 2 -> 4; 3 -> 1; 4 has no edge.
    edges = Edges(np.array([0, 0, 2, 3, 4, 4]), np.array([2, 3, 4, 1], np.int32), np.array([3, 1, 1, 1], np.float32))
    walk = RandomWalk(EdgeScorer(edges, events=2, decay=0.5))
    numbers = tf.random.stateless_uniform([2000, 32, 4], [9, 0])
    found = walk.visited(tf.tile(tf.constant([[0, 1]]), [2000, 1]), numbers).numpy().reshape(2000, 3, 32)
    first, second, third = (np.bincount(found[:, step].ravel(), minlength=5) / 64_000 for step in range(3))
    np.testing.assert_allclose(first, [0, 0, 0.75, 0.25, 0], atol=0.01)
    # The quarter that went 1 -> 3 is back at 1, which is the history's; a walk that is at 4 ends.
    np.testing.assert_allclose(second, [0.25, 0, 0, 0, 0.75], atol=0.01)
    np.testing.assert_allclose(third, [0.75, 0, 0.1875, 0.0625, 0], atol=0.01)
    assert not walk.visited(tf.zeros([1, 2], tf.int32), numbers[:1]).numpy().any()


def how(method: str, strength: float, rows: int, seed: int = 1) -> dict:
    return {
        "method": [method] * rows,
        "strength": np.full(rows, strength, np.float32),
        "seed": np.full(rows, seed, np.int64),
    }


@pytest.mark.parametrize("method", METHODS)
def test_strength_0_is_recommend_and_more_is_another_list(signatures, trained, method: str) -> None:
    users = [*trained[1].users()["user_id"][:20], b"nobody"]
    plain = ask(signatures, "recommend", user_id=users)
    same = ask(signatures, "recommend_diverse", user_id=users, **how(method, 0.0, 21))
    for name in ("product_id", "score", "title"):
        assert same[name].tolist() == plain[name].tolist()
    other = ask(signatures, "recommend_diverse", user_id=users, **how(method, 0.9, 21))
    assert other["product_id"].tolist() != plain["product_id"].tolist()
    assert all(len(set(row)) == 5 for row in other["product_id"].tolist())
    assert ((other["score"] >= 0) & (other["score"] <= 1)).all()


def test_each_row_of_a_batch_is_answered_by_its_own_method_as_it_is_alone(signatures, trained) -> None:
    users = trained[1].users()["user_id"][:5]
    rows = {"method": list(METHODS), "strength": np.linspace(0.3, 0.9, 5, dtype=np.float32), "seed": np.arange(5)}
    together = ask(signatures, "recommend_diverse", user_id=users, **rows)
    for place, user in enumerate(users):
        own = {name: values[place : place + 1] for name, values in rows.items()}
        alone = ask(signatures, "recommend_diverse", user_id=[user], **own)
        assert alone["product_id"][0].tolist() == together["product_id"][place].tolist()


def test_the_same_seed_draws_the_same_list_and_another_another(signatures, trained) -> None:
    users = trained[1].users()["user_id"][:10]
    for method in ("explore_walk", "explore_sample"):
        one, again, other = (
            ask(signatures, "recommend_diverse", user_id=users, **how(method, 0.8, 10, seed))["product_id"].tolist()
            for seed in (1, 1, 2)
        )
        assert one == again
        assert one != other


def test_a_history_is_answered_as_recommend_for_history_answers_it(signatures, trained) -> None:
    history = {"history_product_id": [trained[1].values["product_id"][:3]], "history_event_type": [["view"] * 3]}
    plain = ask(signatures, "recommend_for_history", **history)
    same = ask(signatures, "recommend_for_history_diverse", **history, **how("dpp", 0.0, 1))
    assert same["product_id"].tolist() == plain["product_id"].tolist()
    for empty in ({"history_product_id": [[""]], "history_event_type": [[""]]}, {**history}):
        for method in METHODS:
            answer = ask(signatures, "recommend_for_history_diverse", **empty, **how(method, 1.0, 1))
            assert np.isfinite(answer["score"]).all()
            assert all(answer["product_id"][0])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"method": ["mmr", "magic"]}, "method: is none of mmr, dpp, category_quota, explore_walk, explore_sample"),
        ({"strength": [0.5, np.nan]}, "strength: must be from 0 to 1"),
        ({"strength": [-0.1, 0.5]}, "strength: must be from 0 to 1"),
        ({"strength": [0.5, 1.5]}, "strength: must be from 0 to 1"),
    ],
)
def test_what_cannot_be_used_is_refused_with_what_can(signatures, changed: dict, said: str) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match=said):
        ask(signatures, "recommend_diverse", user_id=["a", "b"], **{**how("mmr", 0.5, 2), **changed})
