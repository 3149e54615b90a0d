"""The metrics by themselves: hand-made cases, and random ones against scikit-learn, SciPy and plain loops."""

import itertools

import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import roc_auc_score, root_mean_squared_error

from tfrs_shop.metrics.lists import coverage, gini, group_diversity, leaf_category, novelty, vector_diversity
from tfrs_shop.metrics.pairs import (
    auc,
    calibration_error,
    log_loss,
    ranking_head_metrics,
    reliability,
    rmse,
    sampled_negatives,
)
from tfrs_shop.metrics.ranking import per_example, ranking_metrics
from tfrs_shop.metrics.slices import debiased_recall, head_products, slice_metrics
from tfrs_shop.metrics.uncertainty import bootstrap_means, intervals, paired_test

TWO_LISTS = np.array([[1, 2, 3], [2, 4, 0]])


def random_lists(seed: int, examples: int = 60, products: int = 40, length: int = 10) -> np.ndarray:
    random = np.random.default_rng(seed)
    lists = np.stack([random.permutation(products)[:length] + 1 for _ in range(examples)])
    lists[random.random(lists.shape) < 0.1] = 0
    return lists


def test_the_mean_of_the_examples_is_the_metric() -> None:
    ranks = np.random.default_rng(0).integers(40, size=500)
    metrics = ranking_metrics(ranks)
    for name, values in per_example(ranks).items():
        assert values.mean() == pytest.approx(metrics[name])


def test_lists_of_four_among_eight_products_cover_a_half() -> None:
    assert coverage(TWO_LISTS, 8) == 0.5


def test_gini_is_0_when_all_are_recommended_equally_and_high_when_one_is() -> None:
    assert gini(np.array([[1, 2], [3, 4]]), 4) == 0.0
    assert gini(np.array([[3], [3]]), 4) == 0.75
    assert gini(np.zeros((2, 3), int), 4) == 0.0


@pytest.mark.parametrize("seed", range(3))
def test_gini_is_half_the_relative_mean_difference(seed: int) -> None:
    lists = random_lists(seed)
    counts = np.array([np.sum(lists == product) for product in range(1, 41)])
    differences = np.mean([abs(a - b) for a in counts for b in counts])
    assert gini(lists, 40) == pytest.approx(differences / (2 * counts.mean()))


def test_novelty_is_in_bits_and_an_unseen_product_counts_as_seen_once() -> None:
    # Of 16 events, product 1 has 8 (1 bit), product 2 has 4 (2 bits), products 3 and 4 as one (4 bits).
    train_count = np.array([0, 8, 4, 1, 0, 3])
    assert novelty(TWO_LISTS, train_count) == pytest.approx((1 + 2 + 4 + 2 + 4) / 5)


def test_diversity_leaves_out_pairs_of_unknown_category() -> None:
    # In the first list 1 and 2 differ and 3 is unknown; in the second 2 and 4 are equal.
    assert group_diversity(TWO_LISTS, np.array([0, 5, 6, 0, 6])) == pytest.approx((1.0 + 0.0) / 2)
    assert group_diversity(TWO_LISTS, np.zeros(5, int)) is None


def test_the_leaf_of_a_path_is_its_deepest_category() -> None:
    assert leaf_category(np.array([[0, 0, 0], [7, 0, 0], [7, 8, 9]])).tolist() == [0, 7, 9]


@pytest.mark.parametrize("seed", range(3))
def test_diversity_equals_a_loop_over_pairs(seed: int) -> None:
    lists = random_lists(seed)
    random = np.random.default_rng(seed)
    group, vectors = random.integers(5, size=41), random.normal(size=(41, 7)).astype(np.float32)
    vectors[[4, 9]] = 0
    by_group, by_vector = [], []
    for products in lists:
        pairs = [(a, b) for a, b in itertools.combinations(products, 2) if a and b]
        known = [group[a] != group[b] for a, b in pairs if group[a] and group[b]]
        by_group += [np.mean(known)] if known else []
        cosines = [
            1 - vectors[a] @ vectors[b] / np.linalg.norm(vectors[a]) / np.linalg.norm(vectors[b])
            for a, b in pairs
            if vectors[a].any() and vectors[b].any()
        ]
        by_vector += [np.mean(cosines)] if cosines else []
    assert group_diversity(lists, group) == pytest.approx(np.mean(by_group))
    assert vector_diversity(lists, vectors) == pytest.approx(np.mean(by_vector), abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_auc_log_loss_and_rmse_equal_those_of_scikit_learn(seed: int) -> None:
    random = np.random.default_rng(seed)
    chance = random.random(300).round(2).clip(0.01, 0.99)
    happened = random.random(300) < chance
    assert auc(happened, chance) == pytest.approx(roc_auc_score(happened, chance))
    assert log_loss(happened, chance) == pytest.approx(sklearn_log_loss(happened, chance))
    rating, predicted = random.normal(size=50), random.normal(size=50)
    assert rmse(rating, predicted) == pytest.approx(root_mean_squared_error(rating, predicted))


def test_auc_of_pairs_of_one_kind_is_nan() -> None:
    assert np.isnan(auc(np.ones(3, bool), np.array([0.1, 0.2, 0.3])))


def test_calibration_error_weighs_bins_by_their_pairs() -> None:
    happened = np.array([False, False, True, True])
    bins = reliability(happened, np.array([0.12, 0.18, 0.15, 1.0]))
    assert bins[0] == {"chance": pytest.approx(0.15), "happened": pytest.approx(1 / 3), "pairs": 3}
    assert bins[1] == {"chance": 1.0, "happened": 1.0, "pairs": 1}
    assert calibration_error(bins) == pytest.approx(0.75 * (1 / 3 - 0.15))


def test_chances_that_are_true_are_calibrated() -> None:
    random = np.random.default_rng(1)
    chance = random.random(100_000)
    assert calibration_error(reliability(random.random(100_000) < chance, chance)) < 0.01


def test_rating_error_is_left_out_where_nothing_is_rated() -> None:
    logits = np.array([2.0, -1.0, 0.5])
    none = np.full(3, np.nan)
    assert "rmse" not in ranking_head_metrics(logits, -logits, none, logits)
    rated = ranking_head_metrics(logits, -logits, np.array([np.nan, 3.0, 4.0]), np.array([9.0, 4.0, 4.0]))
    assert rated["rmse"] == pytest.approx(np.sqrt(0.5))
    assert rated["ratings"] == 2
    assert rated["pairs"] == 6


def test_sampled_products_are_drawn_by_popularity_and_never_the_target() -> None:
    label = np.tile(np.array([1, 2, 4]), 20_000)
    drawn = sampled_negatives(label, np.array([0, 60, 30, 10, 0]), np.random.default_rng(0))
    assert not (drawn == label).any()
    share = np.bincount(drawn[label == 1], minlength=5) / 20_000
    assert share[1:] == pytest.approx([0.0, 30 / 40.5, 10 / 40.5, 0.5 / 40.5], abs=0.01)
    share = np.bincount(drawn[label == 4], minlength=5) / 20_000
    assert share[1:] == pytest.approx([0.6, 0.3, 0.1, 0.0], abs=0.01)


def test_of_two_products_the_other_is_drawn() -> None:
    drawn = sampled_negatives(np.array([1, 2, 1]), np.array([0, 3, 0]), np.random.default_rng(0))
    assert drawn.tolist() == [2, 1, 2]


def test_the_head_is_the_fewest_products_with_a_fifth_of_the_events() -> None:
    assert head_products(np.array([0, 10, 30, 15, 45, 0])).nonzero()[0].tolist() == [4]
    assert head_products(np.array([0, *[10] * 10])).nonzero()[0].tolist() == list(range(1, 11))
    assert not head_products(np.zeros(4, int)).any()


def test_debiased_recall_is_the_mean_over_products_where_targets_are_as_frequent_as_in_training() -> None:
    # Product 1 (9 events) is found 10 times of 10, product 2 (no event) never in its one example.
    ranks = np.array([0] * 10 + [99])
    label = np.array([1] * 10 + [2])
    assert np.mean(ranks < 10) == pytest.approx(10 / 11)
    assert debiased_recall(ranks, label, np.array([0, 9, 0])) == pytest.approx(0.5)


def test_slices_say_how_many_examples_they_have() -> None:
    slices = slice_metrics(
        ranks=np.array([0, 2, 50, 10]),
        history_length=np.array([1, 4, 5, 30]),
        new_user=np.array([True, False, False, False]),
        label=np.array([1, 2, 3, 2]),
        train_count=np.array([0, 80, 20, 0]),
    )
    assert slices["history_1-4"] == {
        "examples": 2,
        "recall@10": 1.0,
        "ndcg@10": pytest.approx(0.75),
        "mrr": pytest.approx(2 / 3),
        # Of the two, one or both are drawn: means of NDCG of 0.5, 0.75 and 1.
        "interval": pytest.approx([0.5, 1.0]),
    }
    assert slices["history_10-19"] == {"examples": 0}
    assert {name: slices[name]["examples"] for name in slices} == {
        "history_1-4": 2,
        "history_5-9": 1,
        "history_10-19": 0,
        "history_20+": 1,
        "new_users": 1,
        "unseen_products": 1,
        "head_products": 1,
        "tail_products": 2,
    }


def test_intervals_are_close_to_scipys() -> None:
    values = per_example(np.random.default_rng(3).geometric(0.05, size=800))
    for name, (low, high) in intervals(values).items():
        judged = scipy.stats.bootstrap(
            (values[name],), np.mean, n_resamples=2000, method="percentile", rng=np.random.default_rng(0)
        ).confidence_interval
        assert (low, high) == pytest.approx((judged.low, judged.high), abs=0.1 * (judged.high - judged.low))


def test_a_seed_gives_the_same_interval_again_and_parts_do_not_matter(monkeypatch) -> None:
    values = np.random.default_rng(0).random((50, 2))
    first = bootstrap_means(values, 20)
    monkeypatch.setattr("tfrs_shop.metrics.uncertainty.AT_ONCE", 150)
    assert np.array_equal(bootstrap_means(values, 20), first)
    assert not np.array_equal(bootstrap_means(values, 20, seed=1), first)


@pytest.mark.parametrize("shift", [0.0, 0.03, 0.1])
def test_the_p_value_is_close_to_scipys(shift: float) -> None:
    random = np.random.default_rng(5)
    first = random.random(200) + shift
    second = first - shift + random.normal(scale=0.2, size=200)
    judged = scipy.stats.permutation_test(
        (first, second),
        lambda a, b: np.mean(a - b),
        permutation_type="samples",
        n_resamples=5000,
        rng=np.random.default_rng(0),
    )
    found = paired_test(first, second)
    assert found["difference"] == pytest.approx(judged.statistic)
    assert found["p_value"] == pytest.approx(judged.pvalue, abs=0.03)
    assert found["interval"][0] < found["difference"] < found["interval"][1]


def test_three_examples_that_all_got_better_have_a_p_value_of_a_quarter() -> None:
    # Of the 8 ways to turn 3 signs, the one seen and its mirror are as far out.
    found = paired_test(np.ones(3), np.zeros(3), flips=100_000)
    assert found["p_value"] == pytest.approx(0.25, abs=0.01)
    assert found["interval"] == [1.0, 1.0]


def test_a_run_does_not_differ_from_itself() -> None:
    values = np.random.default_rng(0).random(30)
    assert paired_test(values, values) == {"difference": 0.0, "interval": [0.0, 0.0], "p_value": 1.0}
