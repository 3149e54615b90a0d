"""The towers, the losses and the ranking head: shapes, causality, and known answers."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from model_support import SMALL, some_rows

from tfrs_shop.config import Config, RankingConfig, RetrievalConfig, TowerConfig, TrainingConfig, TransitionConfig
from tfrs_shop.dataset import ShopData, open_data
from tfrs_shop.errors import UserError
from tfrs_shop.model.query_tower import TEXT_DECAY, QueryTower, behavior_vectors, recency_buckets
from tfrs_shop.model.ranks import ranks_of
from tfrs_shop.model.shop_model import ShopModel


@pytest.fixture(scope="module")
def data(shop):
    return open_data(shop.data)


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
    tower = QueryTower(SMALL, event_types=3, text_mean=[], queries=0, profile_sizes=[])
    vectors = np.random.default_rng(0).normal(size=(1, 6, 16))
    changed = vectors.copy()
    changed[0, 4:] = 7.0
    kinds = [[0, 1, 1, 2, 3, 1]]
    before = tower(tower_inputs(vectors, kinds)).numpy()
    after = tower(tower_inputs(changed, kinds)).numpy()
    np.testing.assert_allclose(before[0, 1:4], after[0, 1:4], atol=1e-6)
    assert np.abs(before[0, 4:] - after[0, 4:]).max() > 1e-3


def test_padding_does_not_change_the_query_vector() -> None:
    tower = QueryTower(SMALL, event_types=3, text_mean=[], queries=0, profile_sizes=[])
    vectors = np.random.default_rng(0).normal(size=(1, 6, 16))
    noisy = vectors.copy()
    noisy[0, :3] = 100.0
    kinds = [[0, 0, 0, 1, 2, 1]]
    first = tower(tower_inputs(vectors, kinds)).numpy()
    second = tower(tower_inputs(noisy, kinds)).numpy()
    np.testing.assert_allclose(first[0, 3:], second[0, 3:], atol=1e-6)
    assert np.isfinite(first).all()


@pytest.mark.parametrize("layers", [1, 2])
def test_the_last_position_alone_is_the_last_of_all(layers: int) -> None:
    config = dataclasses.replace(SMALL, layers=layers)
    text_mean = np.random.default_rng(1).normal(size=8).tolist()
    tower = QueryTower(config, event_types=3, text_mean=text_mean, queries=0, profile_sizes=[])
    vectors = np.random.default_rng(0).normal(size=(3, 6, 16))
    inputs = tower_inputs(vectors, [[0, 0, 0, 1, 2, 1], [1, 1, 2, 2, 3, 3], [0, 0, 0, 0, 0, 0]])
    inputs["timestamp"] = tf.constant([[1000 * 2**place for place in range(6)]] * 3, tf.int64)
    inputs["text_vectors"] = tf.random.stateless_normal([3, 6, 8], [1, 2])
    tower(inputs)
    for weight in tower.weights:
        weight.assign_add(0.1 * tf.random.stateless_normal(weight.shape, [3, weight.shape.num_elements()]))
    whole, last = tower(inputs).numpy(), tower(inputs, last=True).numpy()
    np.testing.assert_allclose(last, whole[:, -1:], rtol=1e-5, atol=1e-5)


def test_the_type_of_an_event_matters() -> None:
    tower = QueryTower(SMALL, event_types=3, text_mean=[], queries=0, profile_sizes=[])
    vectors = np.random.default_rng(0).normal(size=(1, 6, 16))
    viewed = tower(tower_inputs(vectors, [[1, 1, 1, 1, 1, 1]])).numpy()[0, -1]
    bought = tower(tower_inputs(vectors, [[1, 1, 1, 1, 1, 3]])).numpy()[0, -1]
    assert np.abs(viewed - bought).max() > 1e-3


def seconds(*values: float | None) -> tf.Tensor:
    return tf.constant([[-1 if value is None else int(1000 * value) for value in values]], tf.int64)


def test_recency_is_how_often_a_second_doubles_between_two_events() -> None:
    buckets = recency_buckets(seconds(None, 0, 0.5, 1, 3, 4e9)).numpy()[0]
    assert buckets[0].tolist() == [0, 0, 0, 0, 0, 0]
    assert buckets[4].tolist() == [0, 3, 3, 3, 1, 1]
    assert buckets[3].tolist() == [0, 2, 2, 1, 1, 1]
    assert buckets[5].tolist() == [0, 31, 31, 31, 31, 1]


def test_a_log_without_times_is_read_as_if_there_were_no_recency() -> None:
    tower = QueryTower(SMALL, event_types=3, text_mean=[], queries=0, profile_sizes=[])
    inputs = tower_inputs(np.random.default_rng(0).normal(size=(1, 4, 16)), [[0, 1, 2, 1]])
    plain = tower(inputs).numpy()
    for block in tower.blocks:
        block.recency.assign(tf.random.normal(block.recency.shape, seed=1))
    np.testing.assert_allclose(tower(inputs | {"timestamp": seconds(None, None, None, None)}), plain, atol=1e-5)
    timed = tower(inputs | {"timestamp": seconds(None, 1, 2, 900)}).numpy()
    assert np.abs(timed[0, 2:] - plain[0, 2:]).max() > 1e-3


def test_a_position_does_not_know_when_later_events_will_be() -> None:
    tower = QueryTower(SMALL, event_types=3, text_mean=[], queries=0, profile_sizes=[])
    inputs = tower_inputs(np.random.default_rng(0).normal(size=(1, 4, 16)), [[1, 1, 2, 1]])
    tower(inputs)
    for block in tower.blocks:
        block.recency.assign(tf.random.normal(block.recency.shape, seed=1))
    early = tower(inputs | {"timestamp": seconds(0, 5, 9, 10)}).numpy()
    late = tower(inputs | {"timestamp": seconds(0, 5, 9, 10_000)}).numpy()
    np.testing.assert_allclose(early[0, :3], late[0, :3], atol=1e-6)
    assert np.abs(early[0, 3] - late[0, 3]).max() > 1e-3


def test_behavior_text_is_the_mean_of_the_texts_so_far_newer_ones_counting_more() -> None:
    texts = np.random.default_rng(0).normal(size=(1, 4, 5)).astype(np.float32)
    texts[0, [0, 2]] = 0.0
    expected = np.zeros((4, 5))
    expected[1] = expected[2] = texts[0, 1]
    expected[3] = (texts[0, 3] + TEXT_DECAY**2 * texts[0, 1]) / (1 + TEXT_DECAY**2)
    np.testing.assert_allclose(behavior_vectors(tf.constant(texts))[0], expected, atol=1e-5)


@pytest.fixture(scope="module")
def texts(data) -> ShopData:
    """The small shop with a text vector for each product and query."""
    random = np.random.default_rng(4)
    vectors = random.normal(size=(data.catalogue.size + 1, 12)).astype(np.float32)
    queries = random.normal(size=(len(data.values["query"]) + 1, 12)).astype(np.float32)
    vectors[0] = queries[0] = 0.0
    catalogue = dataclasses.replace(data.catalogue, text_vector=vectors, text_mean=[0.0] * 12)
    return dataclasses.replace(data, catalogue=catalogue, query_vectors=queries)


@pytest.mark.parametrize(
    ("switch", "field"),
    [("recency", "history_timestamp"), ("behavior_text", "history_product"), ("profile", "profile")],
)
def test_each_part_of_the_query_tower_can_be_left_out(texts, switch: str, field: str) -> None:
    rows = next(iter(texts.evaluation_batches("validation", 6, 40)))
    # The events' own vectors are given, so that only their texts depend on the products.
    history = tf.random.stateless_normal([len(rows["label"]), 6, 16], [1, 2])
    other = rows | {field: tf.random.shuffle(rows[field], seed=1)}

    def difference(on: bool) -> float:
        model = ShopModel(texts, Config(dataclasses.replace(SMALL, **{switch: on})))
        model.query_vectors(rows, history)
        for block in model.query_tower.blocks:
            if hasattr(block, "recency"):
                block.recency.assign(tf.random.normal(block.recency.shape, seed=1))
        return float(tf.reduce_max(tf.abs(model.query_vectors(rows, history) - model.query_vectors(other, history))))

    assert difference(True) > 1e-4
    assert difference(False) < 1e-5


@pytest.mark.parametrize("fusion", ["sum", "cross"])
def test_the_parts_of_a_product_are_joined_as_the_settings_say(texts, fusion: str) -> None:
    model = ShopModel(texts, Config(dataclasses.replace(SMALL, fusion=fusion, normalize=False)))
    features = {name: tf.constant(value[3:4]) for name, value in texts.catalogue.features().items()}
    whole = model.product_vectors(features).numpy()
    without = [
        model.product_vectors(features | {name: tf.zeros_like(features[name])}).numpy() - whole
        for name in ("index", "brand")
    ]
    neither = model.product_vectors(
        features | {name: tf.zeros_like(features[name]) for name in ("index", "brand")}
    ).numpy()
    # In a sum each part counts by itself; in a cross network it depends on the others what it counts.
    together = np.abs(neither - whole - sum(without)).max()
    assert together < 1e-6 if fusion == "sum" else together > 1e-6


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


def test_xla_is_refused_where_the_loss_cannot_be_compiled(data) -> None:
    config = Config(SMALL, RetrievalConfig("in_batch"), training=TrainingConfig(xla=True))
    with pytest.raises(UserError, match=r"training\.xla: only the full softmax can be compiled"):
        ShopModel(data, config)


def test_a_score_that_is_no_number_is_ranked_behind_all() -> None:
    scores = tf.constant([[0.0, np.nan, 0.1, 0.2], [0.0, 0.3, 0.1, 0.2]])
    rows = {"label": tf.constant([1, 1]), "seen_product": tf.constant([[0], [0]])}
    assert ranks_of(scores, rows).numpy().tolist() == [2, 0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TowerConfig(heads=0), "towers: heads must be at least 1"),
        (lambda: TowerConfig(dropout=1.0), "towers: dropout 1.0 must be at least 0 and below 1"),
        (lambda: TrainingConfig(learning_rate=0.0), "training: learning_rate 0.0 must be above 0"),
        (lambda: TrainingConfig(average=1.0), "training: average 1.0 must be at least 0 and below 1"),
        (lambda: TrainingConfig(log_every=0), "training: log_every must be at least 1"),
        (lambda: TransitionConfig(events=0), "transitions: events must be at least 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


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


@pytest.mark.parametrize(
    "retrieval",
    [RetrievalConfig(), RetrievalConfig("sampled_softmax", negatives=64, hard_negatives=2, mined_every=5)],
    ids=["full_softmax", "sampled_softmax"],
)
def test_plain_compile_and_fit_learn(data, retrieval: RetrievalConfig) -> None:
    tf_keras.utils.set_random_seed(5)
    model = ShopModel(data, Config(SMALL, retrieval))
    model.compile(tf_keras.optimizers.Adam(5e-3))
    history = model.fit(
        data.training_windows(6).shuffle(1000, seed=1).batch(32),
        validation_data=data.evaluation_batches("validation", 6),
        epochs=4,
        verbose=0,
    ).history
    assert history["loss"][-1] < history["loss"][0] - 0.4
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
