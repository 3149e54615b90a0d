"""The towers, the losses and the ranking head: shapes, causality, and known answers."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tfrs_shop.config import Config, RankingConfig, RetrievalConfig, TowerConfig
from tfrs_shop.dataset import open_data
from tfrs_shop.model.query_tower import QueryTower
from tfrs_shop.model.shop_model import ShopModel

SMALL = TowerConfig(width=16, layers=2, heads=2, max_history=6, dropout=0.0, text_dropout=0.0)


@pytest.fixture(scope="module")
def data(shop):
    return open_data(shop.data)


def some_rows(data, length: int = 6, count: int = 8) -> dict[str, tf.Tensor]:
    return next(iter(data.training_windows(length).batch(count)))


def rated_rows(data) -> dict[str, tf.Tensor]:
    """Return rows where every third past event and every second label is rated."""
    rows = some_rows(data)
    place = tf.reshape(tf.range(tf.size(rows["label"])), tf.shape(rows["label"]))
    past = tf.where((place % 3 == 0) & (rows["history_product"] > 0), tf.cast(1 + place % 5, tf.float32), np.nan)
    label = tf.where(place % 2 == 0, tf.cast(1 + place % 4, tf.float32), np.nan)
    return {**rows, "history_rating": past, "label_rating": label}


def tower_inputs(vectors: np.ndarray, kinds: list[list[int]]) -> dict[str, tf.Tensor]:
    return {
        "product_vectors": tf.constant(vectors, tf.float32),
        "event_type": tf.constant(kinds, tf.int32),
        "profile": tf.zeros([len(kinds), 1], tf.int32),
    }


def test_a_position_does_not_see_what_comes_after_it() -> None:
    tower = QueryTower(SMALL, event_types=3, text_width=0, profile_sizes=[])
    vectors = np.random.default_rng(0).normal(size=(1, 6, 16))
    changed = vectors.copy()
    changed[0, 4:] = 7.0
    kinds = [[0, 1, 1, 2, 3, 1]]
    before = tower(tower_inputs(vectors, kinds)).numpy()
    after = tower(tower_inputs(changed, kinds)).numpy()
    np.testing.assert_allclose(before[0, 1:4], after[0, 1:4], atol=1e-6)
    assert np.abs(before[0, 4:] - after[0, 4:]).max() > 1e-3


def test_padding_does_not_change_the_query_vector() -> None:
    tower = QueryTower(SMALL, event_types=3, text_width=0, profile_sizes=[])
    vectors = np.random.default_rng(0).normal(size=(1, 6, 16))
    noisy = vectors.copy()
    noisy[0, :3] = 100.0
    kinds = [[0, 0, 0, 1, 2, 1]]
    first = tower(tower_inputs(vectors, kinds)).numpy()
    second = tower(tower_inputs(noisy, kinds)).numpy()
    np.testing.assert_allclose(first[0, 3:], second[0, 3:], atol=1e-6)
    assert np.isfinite(first).all()


def test_the_type_of_an_event_matters() -> None:
    tower = QueryTower(SMALL, event_types=3, text_width=0, profile_sizes=[])
    vectors = np.random.default_rng(0).normal(size=(1, 6, 16))
    viewed = tower(tower_inputs(vectors, [[1, 1, 1, 1, 1, 1]])).numpy()[0, -1]
    bought = tower(tower_inputs(vectors, [[1, 1, 1, 1, 1, 3]])).numpy()[0, -1]
    assert np.abs(viewed - bought).max() > 1e-3


def test_product_vectors_are_of_unit_length_where_scores_are_cosines(data) -> None:
    vectors = ShopModel(data, Config(SMALL)).product_vectors().numpy()
    np.testing.assert_allclose(np.linalg.norm(vectors[1:], axis=1), 1.0, atol=1e-5)


def test_a_product_without_an_id_embedding_still_has_a_vector(data) -> None:
    model = ShopModel(data, Config(SMALL))
    features = {name: value[5:6] for name, value in data.catalogue.features().items()}
    known = model.product_vectors({name: tf.constant(value) for name, value in features.items()}).numpy()
    features["index"] = np.zeros(1, np.int32)
    new = model.product_vectors({name: tf.constant(value) for name, value in features.items()}).numpy()
    assert np.linalg.norm(new) == pytest.approx(1.0, abs=1e-5)
    assert np.abs(known - new).max() > 1e-4


def test_full_softmax_loss_is_the_cross_entropy_over_products_with_events_at_every_labelled_position(data) -> None:
    config = Config(SMALL, RetrievalConfig("full_softmax"), RankingConfig(weight=0.0))
    model, rows = ShopModel(data, config), some_rows(data)
    loss = model.compute_loss(rows).numpy()
    vectors = model.product_vectors().numpy()
    history = vectors[rows["history_product"].numpy()] * (rows["history_product"].numpy() > 0)[..., None]
    queries = model.query_vectors(rows, tf.constant(history)).numpy()
    terms = []
    sold = data.catalogue.train_count > 0
    assert sold[1:].sum() < data.catalogue.size
    for row, labels in enumerate(rows["label"].numpy()):
        for place, label in enumerate(labels):
            if label:
                logits = vectors[sold] @ queries[row, place] / config.retrieval.temperature
                top = logits.max()
                terms.append(top + np.log(np.exp(logits - top).sum()) - logits[np.count_nonzero(sold[:label])])
    assert loss == pytest.approx(np.mean(terms), rel=1e-4)


def test_in_batch_loss_corrects_for_popularity_and_removes_accidental_hits(data) -> None:
    config = Config(SMALL, RetrievalConfig("in_batch", temperature=0.5), RankingConfig(weight=0.0))
    model, rows = ShopModel(data, config), some_rows(data, count=3)
    loss = model.compute_loss(rows).numpy()
    vectors = model.product_vectors().numpy()
    history = vectors[rows["history_product"].numpy()] * (rows["history_product"].numpy() > 0)[..., None]
    queries = model.query_vectors(rows, tf.constant(history)).numpy()
    places = np.argwhere(rows["label"].numpy() > 0)
    asked = np.array([queries[row, place] for row, place in places])
    labels = np.array([rows["label"].numpy()[row, place] for row, place in places])
    counts = np.maximum(data.catalogue.train_count.astype(float), 0.5)
    probability = counts / counts[1:].sum()
    logits = asked @ vectors[labels].T / 0.5 - np.log(np.clip(probability[labels], 1e-6, 1.0))
    for i in range(len(labels)):
        for j in range(len(labels)):
            if i != j and labels[i] == labels[j]:
                logits[i, j] = -1e9
    top = logits.max(1, keepdims=True)
    terms = (top[:, 0] + np.log(np.exp(logits - top).sum(1))) - np.diag(logits)
    assert loss == pytest.approx(terms.mean(), rel=1e-3)


def test_the_ranking_loss_leaves_the_towers_alone_unless_it_is_told_to_share(data) -> None:
    def tower_gradients(shared: bool) -> list[tf.Tensor | None]:
        config = Config(SMALL, ranking=RankingConfig(weight=1.0, shared_gradient=shared))
        model, rows = ShopModel(data, config), rated_rows(data)
        model.compute_loss(rows)
        # The last layer starts at 0, where no gradient gets through it.
        model.rating_head.content.kernel.assign(tf.ones_like(model.rating_head.content.kernel))
        asked = int(tf.math.count_nonzero(rows["label"]))
        queries, products = tf.Variable(tf.random.normal([asked, 16])), tf.Variable(tf.random.normal([asked, 16]))
        history = tf.Variable(tf.random.normal([*rows["label"].shape, 16]))
        with tf.GradientTape() as tape:
            loss = model._ranking_loss(rows, queries, products, history, training=False)
        return tape.gradient(loss, [queries, products, history])

    assert tower_gradients(False) == [None, None, None]
    assert all(gradient is not None for gradient in tower_gradients(True))


def test_the_ranking_loss_is_the_sum_of_its_tasks_by_configured_weights(data) -> None:
    rows = rated_rows(data)

    def loss(behavior: float, rating: float) -> float:
        tf_keras.utils.set_random_seed(3)
        ranking = RankingConfig(behavior_weight=behavior, rating_weight=rating)
        model = ShopModel(data, Config(SMALL, ranking=ranking))
        tf.random.set_seed(3)
        return float(model.compute_loss(rows))

    neither = loss(0.0, 0.0)
    behavior, rating = loss(1.0, 0.0) - neither, loss(0.0, 1.0) - neither
    assert behavior > 0
    assert rating > 0
    assert loss(2.0, 0.5) - neither == pytest.approx(2.0 * behavior + 0.5 * rating, rel=1e-3)


def test_the_rating_loss_is_half_the_mean_square_over_rated_labels(data) -> None:
    ranking = RankingConfig(behavior_weight=0.0, rating_weight=1.0)
    model, rows = ShopModel(data, Config(SMALL, ranking=ranking)), rated_rows(data)
    unrated = {**rows, "history_rating": tf.fill(tf.shape(rows["history_rating"]), np.nan)}
    nothing = {**unrated, "label_rating": unrated["history_rating"]}
    # Untrained and without past ratings, the head says the mean.
    wanted = rows["label_rating"].numpy()[rows["label"].numpy() > 0]
    wanted = wanted[~np.isnan(wanted)]
    mean = model.rating_head.rating_mean
    loss = float(model.compute_loss(unrated) - model.compute_loss(nothing))
    assert loss == pytest.approx(np.mean((wanted - mean) ** 2) / 2.0, rel=1e-3)


def test_rows_without_a_rating_do_not_make_the_loss_or_its_gradient_nan(data) -> None:
    model, rows = ShopModel(data, Config(SMALL)), some_rows(data)
    missing = tf.fill(tf.shape(rows["label_rating"]), np.nan)
    with tf.GradientTape() as tape:
        loss = model.compute_loss({**rows, "label_rating": missing, "history_rating": missing}, training=True)
    assert np.isfinite(loss.numpy())
    gradients = tape.gradient(loss, model.trainable_variables)
    assert all(np.isfinite(tf.convert_to_tensor(g).numpy()).all() for g in gradients if g is not None)


def test_plain_compile_and_fit_learn(data) -> None:
    tf_keras.utils.set_random_seed(5)
    model = ShopModel(data, Config(SMALL))
    model.compile(tf_keras.optimizers.Adam(5e-3))
    history = model.fit(
        data.training_windows(6).shuffle(1000, seed=1).batch(32),
        validation_data=data.evaluation_batches("validation", 6),
        epochs=4,
        verbose=0,
    ).history
    assert history["loss"][-1] < history["loss"][0] - 0.5
    assert history["val_recall@10"][-1] > 2 * 10 / data.catalogue.size


@pytest.mark.parametrize("part", ["ids", "text", "attributes"])
def test_each_part_of_the_product_tower_can_be_left_out(data, part: str) -> None:
    config = Config(dataclasses.replace(SMALL, **{part: False}))
    assert np.isfinite(ShopModel(data, config).product_vectors().numpy()).all()


def test_both_paths_of_product_vectors_give_the_same_vectors(data) -> None:
    rows = some_rows(data)
    model = ShopModel(data, Config(SMALL, RetrievalConfig("in_batch"), RankingConfig(weight=0.0)))
    distinct, rows_of, targets = model._needed_vectors(
        rows["history_product"], tf.boolean_mask(rows["label"], rows["label"] > 0), False
    )
    everything = model.product_vectors().numpy()
    np.testing.assert_allclose(
        tf.gather(distinct, rows_of(None)).numpy(), everything[rows["history_product"].numpy()], atol=1e-5
    )
    labels = rows["label"].numpy()
    np.testing.assert_allclose(tf.gather(distinct, targets).numpy(), everything[labels[labels > 0]], atol=1e-5)
