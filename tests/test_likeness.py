"""Likeness: how like a product's text is to that of something in the history, as it is counted, chosen and served."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from bundle_support import ask

from tfrs_shop.config import Config, LikenessConfig, TowerConfig
from tfrs_shop.export import Serving
from tfrs_shop.index import build_index
from tfrs_shop.likeness import EVENTS, WIDTH, Likeness, likeness_vectors
from tfrs_shop.mixture import choose_mixture
from tfrs_shop.model.shop_model import ShopModel
from tfrs_shop.run import build
from tfrs_shop.served.explain import Explain
from tfrs_shop.served.recommend import Recommend
from tfrs_shop.served.retrieval import CHANCE_SAMPLE
from tfrs_shop.served.shop import ServedShop


@pytest.fixture(scope="module")
def model(worded_data) -> ShopModel:
    # Of its own: weights that happen to come after another file's tests are no two sessions' the same.
    tf_keras.utils.set_random_seed(17)
    towers = TowerConfig(width=8, heads=2, layers=1, max_history=12)
    model = ShopModel(worded_data, Config(towers=towers, likeness=LikenessConfig(weight=2.0)))
    build(model, worded_data)
    return model


def test_vectors_are_what_tells_texts_apart() -> None:
    texts = np.random.default_rng(0).normal(size=(300, 100)) + 5.0
    texts[[0, 7]] = 0.0
    vectors = likeness_vectors(texts.astype(np.float32))
    assert vectors.shape == (300, WIDTH)
    assert not vectors[[0, 7]].any()
    np.testing.assert_allclose(np.linalg.norm(vectors[1:7], axis=1), 1.0, rtol=1e-5)
    # Whole, the cosines are those of the centred texts.
    known = texts[np.r_[1:7, 8:300], :20]
    centred = known - known.mean(0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    own = likeness_vectors(np.concatenate([np.zeros((1, 20)), known]))[1:]
    np.testing.assert_allclose(own @ own.T, centred @ centred.T, atol=1e-5)


def test_without_texts_there_is_no_likeness() -> None:
    assert likeness_vectors(np.zeros((5, 0), np.float32)).shape == (5, 0)
    assert likeness_vectors(np.zeros((5, 3), np.float32)).shape == (5, 0)


def test_the_likest_of_the_newest_events_counts_and_nothing_below_zero() -> None:
    vectors = np.array([[0, 0], [1, 0], [0, 1], [-1, 0]], np.float32)
    likeness = Likeness(vectors)
    history = np.array([[0, 1, 2], [0, 0, 3], [0, 0, 0]], np.int32)
    expected = [[0, 1, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]]
    assert likeness.of_all(tf.constant(history)).numpy().tolist() == expected
    assert likeness.of(tf.constant([[0, 1, 2, 3]] * 3), tf.constant(history)).numpy().tolist() == expected
    some = tf.Variable(vectors[[3, 1]])
    assert likeness.of_all(tf.constant(history), some).numpy().tolist() == [[0, 1], [1, 0], [0, 0]]
    old = tf.constant([[1] + [2] * EVENTS], tf.int32)
    assert likeness.of_all(old).numpy().tolist() == [[0, 0, 1, 0]]


def test_chances_are_moved_by_it(model, worded_data) -> None:
    rows = next(iter(worded_data.evaluation_batches("test", 12, 16)))
    vectors = model.product_vectors()
    moved = model.parts_of_scores(vectors, rows)[0].numpy()[:, 1:]
    like = likeness_vectors(worded_data.catalogue.text_vector)
    newest = like[rows["history_product"].numpy()[:, -EVENTS:]]
    expected = np.maximum(np.einsum("bed,pd->bpe", newest, like).max(2), 0.0)[:, 1:]
    weight, model.likeness_weight = model.likeness_weight, 0.0
    try:
        rise = moved - model.parts_of_scores(vectors, rows)[0].numpy()[:, 1:]
        # Beside the sum of all, which all have in common.
        np.testing.assert_allclose(rise - rise[:, :1], 2.0 * (expected - expected[:, :1]), atol=1e-4)
    finally:
        model.likeness_weight = weight


@pytest.mark.parametrize("sample", [CHANCE_SAMPLE, 40])
def test_what_is_served_is_what_was_evaluated_and_explained(
    sample: int, model, worded_data, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr("tfrs_shop.served.retrieval.CHANCE_SAMPLE", sample)
    assets = {"products": tmp_path / "products", "users": tmp_path / "users"}
    assets["products"].write_bytes(b"\n".join(worded_data.values["product_id"]) + b"\n")
    assets["users"].write_bytes(b"\n".join(worded_data.users()["user_id"]) + b"\n")
    vectors = model.product_vectors()
    queries = vectors.numpy()[1:4]
    paths = {key: str(path) for key, path in assets.items()}
    shop = ServedShop(model, worded_data, vectors.numpy(), Serving(6, "none"), paths)
    shop.retrieval.index, _ = build_index("brute_force", vectors.numpy()[1:], queries, shop.retrieval.most)
    users = worded_data.users()["user_id"][:8]
    rows, _ = shop.stored(tf.constant(users))
    chance = np.exp(model.final_scores(vectors, rows).numpy())
    answer = ask(Recommend(shop).signatures(), "recommend", user_id=users)
    np.testing.assert_allclose(answer["score"], -np.sort(-chance, axis=1)[:, :6], atol=1e-5)
    explained = Explain(shop).signatures()
    first, last = (
        ask(explained, "explain", user_id=users, product_id=answer["product_id"][:, place]) for place in (0, 5)
    )
    place = first["part"][0].tolist().index(b"likeness")
    assert (first["share"][:, place] > 0).sum() >= 6
    for given in (first, last):
        np.testing.assert_allclose(given["share"].sum(1), given["score"] - given["baseline"], rtol=0.02, atol=1e-5)
    logs = np.log(answer["score"])
    np.testing.assert_allclose(first["score"] - last["score"], logs[:, 0] - logs[:, 5], atol=1e-3)


def test_the_weight_is_the_configured_one_or_the_best_on_validation(model, worded_data) -> None:
    choose_mixture(model, worded_data, lambda line: None)
    assert model.likeness_weight == 2.0
    free = ShopModel(worded_data, Config(towers=model.config.towers))
    build(free, worded_data)
    said: list[str] = []
    choose_mixture(free, worded_data, said.append)
    assert said[0].startswith(f"Likeness: weight {free.likeness_weight} is best")
