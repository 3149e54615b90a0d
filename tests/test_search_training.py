"""Training of search: which pairs are learnt from, and a tower that is kept and read for another catalogue."""

import types

import numpy as np
import pytest

import tfrs_shop  # noqa: F401  (before TensorFlow)

import tensorflow as tf  # isort: skip

from tfrs_shop.model.search_tower import (
    WIDTH,
    SearchTower,
    SearchWeights,
    new_weights,
    product_terms,
    product_vectors,
    ragged_bags,
)
from tfrs_shop.search_training import search_pairs


def windows(**columns) -> types.SimpleNamespace:
    """Return data whose training windows are these rows."""
    rows = {name: np.array(value) for name, value in columns.items()}
    return types.SimpleNamespace(training_windows=lambda length: tf.data.Dataset.from_tensor_slices(rows))


def test_a_search_is_paired_with_what_followed_it_until_the_next_search() -> None:
    # search 4, product 7, product 8, search 5, product 9; then the label 6.
    data = windows(
        history_query=[[4, 0, 0, 5, 0]],
        history_product=[[0, 7, 8, 0, 9]],
        history_timestamp=[[0, 1000, 2000, 3000, 4000]],
        label=[[7, 8, 0, 9, 6]],
    )
    pairs = search_pairs(data, 5)
    found = list(zip(pairs.query.tolist(), pairs.product.tolist(), pairs.weight.tolist(), strict=True))
    assert found == [(4, 7, 1.0), (4, 8, 0.5), (5, 9, 1.0), (5, 6, 0.5)]


def test_what_comes_after_half_an_hour_is_not_paired_and_an_event_with_its_query_is() -> None:
    hour = 3_600_000
    data = windows(
        history_query=[[4, 0, 3]],
        history_product=[[0, 7, 8]],
        history_timestamp=[[0, hour, hour + 1]],
        label=[[7, 8, 9]],
    )
    pairs = search_pairs(data, 3)
    assert list(zip(pairs.query.tolist(), pairs.product.tolist(), strict=True)) == [(3, 8)]


@pytest.fixture
def weights() -> SearchWeights:
    return SearchWeights([b"bag", b"red", b"shoe"], new_weights([b"bag", b"red", b"shoe"], np.zeros(4), 1), 2.0)


def test_a_tower_is_read_as_it_was_kept(weights, tmp_path) -> None:
    weights.save(tmp_path / "search.npz")
    found = SearchWeights.load(tmp_path / "search.npz")
    assert found is not None
    assert (found.terms, found.weight) == (weights.terms, 2.0)
    for name, value in weights.arrays.items():
        np.testing.assert_array_equal(found.arrays[name], value)
    assert SearchWeights.load(tmp_path / "none.npz") is None


def test_terms_of_another_catalogue_keep_their_embeddings_and_new_ones_have_none(weights) -> None:
    before = weights.arrays["terms_embedding"]
    after = weights.for_terms([b"hat", b"shoe"]).arrays["terms_embedding"]
    np.testing.assert_array_equal(after, np.stack([np.zeros(WIDTH), np.zeros(WIDTH), before[3]]))


def test_a_vector_is_the_weighted_sum_of_its_terms_beside_the_adapted_text(weights) -> None:
    arrays = weights.arrays
    text = tf.constant([[0.5, 0.5, 0.5, 0.5]])
    bags = ragged_bags(tf.ragged.constant([[1, 3]], tf.int32), tf.constant([2.0, 1.0]))
    found = SearchTower(arrays).vectors("query", text, bags).numpy()[0]
    embedding = arrays["terms_embedding"]
    hidden = tf.nn.gelu(2 * text.numpy()[0] @ arrays["query_hidden"] + arrays["query_bias"]).numpy()
    wanted = (2 * embedding[1] + embedding[3]) / 5**0.5 + hidden @ arrays["query_output"]
    np.testing.assert_allclose(found, wanted / np.linalg.norm(wanted), atol=1e-5)


def test_the_small_shop_learns_from_its_searches(trained) -> None:
    model, data = trained
    assert model.search is not None
    assert model.search.weight > 0
    vectors = product_vectors(SearchTower(model.search.arrays), *product_terms(data.lexicon, data.catalogue.size), None)
    assert vectors.shape == (201, WIDTH)
    np.testing.assert_array_equal(vectors[0], np.zeros(WIDTH))
    np.testing.assert_allclose(np.linalg.norm(vectors[1:], axis=1), np.ones(200), atol=1e-5)
