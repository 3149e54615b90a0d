"""The rating head against its formula by hand, and the weights of tasks against theirs."""

import math

import numpy as np
import pytest
import tensorflow as tf

from tfrs_shop.config import RankingConfig
from tfrs_shop.model.ranking_head import TaskWeights
from tfrs_shop.model.rating_head import RatingHead

NAN = float("nan")
WIDTH = 4


def head(mean: float = 3.0, likeness: bool = False) -> RatingHead:
    """Return a head whose products 1 and 2 are rated 1 above and 0.5 below the mean, all equally like each other."""
    made = RatingHead(RankingConfig(units=8), products=5, history=6, rating_mean=mean)
    made(asked(1), past([1], [4.0]))
    made.bias.embeddings.assign([[0.0], [1.0], [-0.5], [0.0], [0.0], [0.0]])
    made.same.assign(0.0)
    if not likeness:
        made.likeness.kernel.assign(tf.zeros_like(made.likeness.kernel))
    return made


def vectors(index: list[int]) -> tf.Tensor:
    """Return a unit vector for each product, [1, products, width]: product i points along axis i."""
    return tf.one_hot([index], WIDTH, dtype=tf.float32)


def asked(*index: int) -> dict[str, tf.Tensor]:
    return {"index": tf.constant([index]), "vector": vectors(list(index))}


def past(index: list[int], rating: list[float]) -> dict[str, tf.Tensor]:
    return {"index": tf.constant([index]), "vector": vectors(index), "rating": tf.constant([rating])}


def test_without_past_ratings_a_product_is_rated_as_it_usually_is() -> None:
    found = head()(asked(1, 2, 3), past([0, 0, 1], [NAN, NAN, NAN])).numpy()
    assert found[0] == pytest.approx([4.0, 2.5, 3.0])


def test_the_users_own_differences_are_a_shrunken_mean_weighted_by_recency() -> None:
    # Rated 5 where 4 is usual, then 2 where 2.5 is: differences 1 and -0.5, of ages 1 and 0. Shrinkage starts at 4.
    older = 2.0**-0.3
    difference = (older * 1.0 + 1.0 * -0.5) / (older + 1.0 + 4.0)
    found = head()(asked(1, 3), past([0, 1, 2], [NAN, 5.0, 2.0])).numpy()
    assert found[0] == pytest.approx([4.0 + difference, 3.0 + difference], abs=1e-5)


def test_an_event_without_a_rating_counts_nothing_but_makes_the_earlier_ones_older() -> None:
    oldest = 3.0**-0.3
    found = head()(asked(3), past([1, 2, 2], [5.0, NAN, NAN])).numpy()
    assert found[0, 0] == pytest.approx(3.0 + oldest / (oldest + 4.0), abs=1e-5)


def test_a_rating_of_a_like_product_counts_more() -> None:
    made = head(likeness=True)
    # Product 3 is like product 1 (dot product 1.5 after scaling by the root of 4), and unlike product 2.
    kernel = np.zeros((WIDTH, 16), np.float32)
    kernel[1, 0] = kernel[3, 0] = math.sqrt(1.5) / 2.0
    made.likeness.kernel.assign(kernel)
    like = math.exp(1.5) * 2.0**-0.3
    found = made(asked(3), past([1, 2], [5.0, 2.5])).numpy()
    assert found[0, 0] == pytest.approx(3.0 + like / (like + 1.0 + 4.0), abs=1e-5)


def test_at_each_position_only_what_came_before_is_known() -> None:
    made = head(likeness=True)
    products, ratings = [1, 2, 3, 1], [5.0, NAN, 1.0, 2.0]
    together = made(asked(2, 3, 1, 2), past(products, ratings), each_position=True).numpy()[0]
    for place, label in enumerate([2, 3, 1, 2]):
        alone = made(asked(label), past(products[: place + 1], ratings[: place + 1])).numpy()
        assert together[place] == pytest.approx(alone[0, 0], abs=1e-5)


def test_a_new_product_has_no_bias_of_its_own() -> None:
    made = head()
    made.bias.embeddings.assign([[9.0], [1.0], [-0.5], [0.0], [0.0], [0.0]])
    assert made(asked(0), past([0], [NAN])).numpy()[0, 0] == pytest.approx(3.0)


def test_what_is_counted_of_a_product_is_shrunken_and_leaves_out_what_is_asked_for() -> None:
    made = head()
    made.count(np.array([3, 3, 0, 4, 3]), np.array([5.0, 4.0, 1.0, 1.0, NAN]))
    alone = past([0], [NAN])
    # Shrinkage starts at 5: two ratings, together 3 above the mean; one, 2 below it.
    assert made(asked(3, 4, 0), alone).numpy()[0] == pytest.approx([3.0 + 3.0 / 7.0, 3.0 - 2.0 / 6.0, 3.0])
    trained = {**asked(3, 4, 3), "rating": tf.constant([[5.0, 1.0, NAN]])}
    assert made(trained, alone).numpy()[0] == pytest.approx([3.0 + 1.0 / 6.0, 3.0, 3.0 + 3.0 / 7.0], abs=1e-5)


def test_an_earlier_rating_of_the_same_product_counts_more() -> None:
    made = head()
    made.same.assign(1.0)
    found = made(asked(2), past([2, 1], [4.5, 4.0])).numpy()
    weight = math.e * 2.0**-0.3
    assert found[0, 0] == pytest.approx(2.5 + weight * 2.0 / (weight + 1.0 + 4.0), abs=1e-5)


def test_a_task_weighs_by_its_uncertainty_or_as_it_is_told() -> None:
    weights = TaskWeights([None, 0.5, None])
    weights.log_variance.assign([math.log(2.0), 7.0, math.log(4.0)])
    # exp(-s) L + s / 2 for the learned ones.
    wanted = (3.0 / 2.0 + math.log(2.0) / 2.0) + 0.5 * 10.0 + (8.0 / 4.0 + math.log(4.0) / 2.0)
    assert weights(tf.constant([3.0, 10.0, 8.0])).numpy() == pytest.approx(wanted)


def test_a_task_without_anything_to_learn_adds_nothing_and_moves_nothing() -> None:
    weights = TaskWeights([None, None])
    weights.log_variance.assign([-3.0, 0.0])
    with tf.GradientTape() as tape:
        loss = weights(tf.constant([0.0, 1.0]))
    assert loss.numpy() == pytest.approx(1.0)
    # At s = 0 and L = 1 the derivative of exp(-s) L + s / 2 is -0.5.
    assert tape.gradient(loss, weights.log_variance).numpy().tolist() == pytest.approx([0.0, -0.5])
