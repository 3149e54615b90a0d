"""Words of products: which count, what they add, and what stays of them for another catalogue."""

import numpy as np
import pytest
import tensorflow as tf

from tfrs_shop.catalogue import word_counts
from tfrs_shop.config import TowerConfig
from tfrs_shop.model.product_tower import ProductTower

WORDS_ALONE = TowerConfig(width=4, heads=2, ids=False, text=False, attributes=False)


def inputs(words: list[list[int]]) -> dict[str, tf.Tensor]:
    count = len(words)
    return {
        "index": tf.zeros([count], tf.int32),
        "text_vector": tf.zeros([count, 0]),
        "words": tf.constant(words, tf.int32),
        "category": tf.zeros([count, 1], tf.int32),
        "brand": tf.zeros([count], tf.int32),
        "buckets": tf.zeros([count, 5], tf.int32),
    }


@pytest.mark.parametrize("dense", [False, True])
def test_the_vectors_of_shared_words_are_summed_and_divided_by_the_root_of_their_number(dense: bool) -> None:
    tower = ProductTower(
        WORDS_ALONE,
        9,
        np.array([0, 5, 3, 2, 4]),
        categories=1,
        brands=1,
        bucket_sizes=[2] * 5,
        text_mean=[],
        dense_words=dense,
    )
    table = np.arange(20, dtype=np.float32).reshape(5, 4)
    tower.words.assign(table)
    found = tower(inputs([[1, 2, 4], [3, 0, 0], [1, 3, 0], [0, 0, 0]])).numpy()
    # Word 3 is of two products only.
    np.testing.assert_allclose(found[0], table[[1, 2, 4]].sum(0) / 3**0.5, rtol=1e-6)
    np.testing.assert_allclose(found[2], table[1], rtol=1e-6)
    assert not found[1].any()
    assert not found[3].any()


def test_which_words_are_shared_is_saved_with_the_weights(tmp_path) -> None:
    trained = ProductTower(WORDS_ALONE, 9, np.array([0, 5, 1]), 1, 1, [2] * 5, [])
    trained.words.assign(np.ones((3, 4), np.float32))
    path = tf.train.Checkpoint(tower=trained).write(str(tmp_path / "weights"))
    other = ProductTower(WORDS_ALONE, 9, np.array([0, 1, 9]), 1, 1, [2] * 5, [])
    tf.train.Checkpoint(tower=other).read(path).assert_existing_objects_matched()
    assert other(inputs([[1, 2]])).numpy().tolist() == [[1.0] * 4]


def test_a_word_is_counted_once_for_each_product_that_has_it() -> None:
    assert word_counts(np.array([[0, 0], [1, 3], [3, 0]]), 4).tolist() == [0, 1, 0, 2, 0]
