"""The in-batch loss in blocks is the loss that the whole matrix of scores gives."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_recommenders as tfrs

from tfrs_shop.model.in_batch import in_batch_loss

PRODUCTS = np.array([4, 7, 4, 1, 9, 9, 4], np.int32)
EXPECTED = np.array([0.9, 0.2, 0.9, 0.05, 0.4, 0.4, 0.9], np.float32)


@pytest.fixture(scope="module")
def vectors() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(3)
    by_product = random.normal(size=(10, 5)).astype(np.float32)
    return random.normal(size=(7, 5)).astype(np.float32), by_product[PRODUCTS]


def by_hand(queries: np.ndarray, positives: np.ndarray, corrected: bool, remove: bool) -> float:
    total = 0.0
    for i in range(7):
        own = float(queries[i] @ positives[i]) / 0.5
        others = [
            float(queries[i] @ positives[j]) / 0.5 - (np.log(EXPECTED[j]) if corrected else 0.0)
            for j in range(7)
            if j != i and not (remove and PRODUCTS[j] == PRODUCTS[i])
        ]
        total += np.log(np.exp([own, *others]).sum()) - own
    return float(total)


@pytest.mark.parametrize("block", [1, 3, 7, 100])
@pytest.mark.parametrize(("corrected", "remove"), [(False, False), (True, False), (False, True), (True, True)])
def test_the_loss_is_the_sum_over_queries_whatever_the_block(vectors, corrected, remove, block) -> None:
    loss = in_batch_loss(
        *map(tf.constant, vectors),
        tf.constant(PRODUCTS),
        temperature=0.5,
        expected=tf.constant(EXPECTED) if corrected else None,
        remove_accidental_hits=remove,
        block=block,
    )
    assert float(loss) == pytest.approx(by_hand(*vectors, corrected, remove), rel=1e-5)


def slopes(function, vectors) -> list[np.ndarray]:
    variables = [tf.Variable(part) for part in vectors]

    @tf.function
    def run() -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            loss = 2.0 * function(*variables)
        return tape.gradient(loss, variables)

    return [slope.numpy() for slope in run()]


def test_loss_and_gradient_are_those_of_tfrs(vectors) -> None:
    task = tfrs.tasks.Retrieval(temperature=0.5)

    def ours(queries, positives):
        return in_batch_loss(
            queries, positives, tf.constant(PRODUCTS), temperature=0.5, remove_accidental_hits=False, block=3
        )

    def theirs(queries, positives):
        return task(queries, positives, compute_metrics=False)

    assert float(ours(*vectors)) == pytest.approx(float(theirs(*vectors)), rel=1e-5)
    for own, other in zip(slopes(ours, vectors), slopes(theirs, vectors), strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-4, atol=1e-5)


def test_the_gradient_is_the_slope_of_the_loss(vectors) -> None:
    def loss(queries, positives):
        return in_batch_loss(
            tf.cast(queries, tf.float32),
            tf.cast(positives, tf.float32),
            tf.constant(PRODUCTS),
            temperature=0.5,
            expected=tf.constant(EXPECTED),
            block=2,
        )

    found = slopes(loss, vectors)
    for which in (0, 1):
        for place in ((0, 0), (3, 2), (6, 4)):
            ends = []
            for step in (1e-2, -1e-2):
                moved = [part.copy() for part in vectors]
                moved[which][place] += step
                ends.append(by_hand(*moved, True, True))
            assert found[which][place] == pytest.approx((ends[0] - ends[1]) / 1e-2, rel=1e-2, abs=1e-2)


def test_an_empty_batch_has_no_loss() -> None:
    empty = tf.zeros([0, 5])
    assert float(in_batch_loss(empty, empty, tf.zeros([0], tf.int32), temperature=0.5)) == 0.0
