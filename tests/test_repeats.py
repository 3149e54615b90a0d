"""Repeats: which event of a product counts, what its bias does to losses and scores, and that it is learned."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tfrs_shop.config import BehaviorConfig, Config, RankingConfig, RetrievalConfig, TowerConfig
from tfrs_shop.dataset import open_data
from tfrs_shop.model.full_softmax import full_softmax_loss
from tfrs_shop.model.negatives import NegativeSampler
from tfrs_shop.model.repeats import RepeatBias, added_at, latest, without_repeats
from tfrs_shop.model.shop_model import ShopModel

SMALL = TowerConfig(width=16, layers=1, heads=2, max_history=6, dropout=0.0, text_dropout=0.0, id_dropout=0.0)


@pytest.fixture(scope="module")
def data(shop):
    return open_data(shop.data)


@pytest.fixture
def biased(data):
    def make(loss: str, **settings) -> tuple[ShopModel, dict[str, tf.Tensor]]:
        retrieval = RetrievalConfig(loss, temperature=0.5, hard_negatives=0, logq=False, **settings)
        model = ShopModel(data, Config(SMALL, retrieval, RankingConfig(weight=0.0), behavior=BehaviorConfig(steps=0)))
        rows = next(iter(data.training_windows(6).batch(8)))
        model.compute_loss(rows)
        model.repeats.by_age.assign([0.5, -0.2, 0.1, 0.0, 0.3, -0.4])
        model.repeats.by_event_type.assign(np.linspace(-0.3, 0.3, model.repeats.by_event_type.shape[0]))
        return model, rows

    return make


def test_the_latest_event_of_a_product_is_found_at_each_position() -> None:
    found = latest(tf.constant([[0, 7, 8, 7]]))[0].numpy()
    assert found.tolist() == [
        [False, False, False, False],
        [False, True, False, False],
        [False, True, True, False],
        [False, False, True, True],
    ]


def test_the_bias_is_that_of_the_age_and_of_the_behaviour() -> None:
    layer = RepeatBias(4, event_types=2)
    layer.by_age.assign([1.0, 2.0, 3.0, 4.0])
    layer.by_event_type.assign([0.0, 10.0, 20.0])
    bias = layer(tf.constant([[0, 7, 8, 7]]), tf.constant([[0, 1, 2, 2]]))[0].numpy()
    assert bias.tolist() == [[0, 0, 0, 0], [0, 11, 0, 0], [0, 12, 21, 0], [0, 0, 22, 21]]


def test_values_are_added_to_the_columns_of_their_row() -> None:
    scores = added_at(tf.constant([[2, 0], [1, 1]]), tf.constant([[5.0, 1.0], [2.0, 3.0]]), tf.zeros([2, 3]))
    assert scores.numpy().tolist() == [[1, 0, 5], [0, 5, 0]]


def test_the_graph_lowers_what_does_not_come_again_and_still_sums_to_one() -> None:
    follows = tf.constant([[0.0, 0.5, 0.25, 0.25], [0.0, 0.0, 0.0, 0.0]])
    found = without_repeats(tf.constant([[1, 2], [1, 2]]), tf.constant([[-100.0, 3.0], [-1.0, -1.0]]), follows).numpy()
    assert found == pytest.approx(np.array([[0.0, 0.0, 0.5, 0.5], [0.0, 0.0, 0.0, 0.0]]), abs=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_full_softmax_and_its_gradient_are_those_of_the_plain_formula(smoothing: float) -> None:
    random = np.random.default_rng(0)
    queries = tf.constant(random.normal(size=(5, 4)), tf.float32)
    vectors = tf.constant(random.normal(size=(9, 4)), tf.float32)
    targets, history = tf.constant([0, 3, 8, 2, 1]), tf.constant([[3, 4], [3, -1], [8, 12], [5, 6], [0, 7]])
    bias = tf.constant(random.normal(size=(5, 2)), tf.float32)

    def plain() -> tf.Tensor:
        known = (history >= 0) & (history < 9)
        places = tf.one_hot(tf.where(known, history, 0), 9) * tf.where(known, bias, 0.0)[..., None]
        logits = (tf.matmul(queries, vectors, transpose_b=True) + tf.reduce_sum(places, 1)) / 0.3
        label = (1.0 - smoothing) * tf.one_hot(targets, 9) + smoothing / 9
        return tf.nn.softmax_cross_entropy_with_logits(label, logits)

    def own() -> tf.Tensor:
        return full_softmax_loss(
            queries, vectors, targets, temperature=0.3, history=history, bias=bias, label_smoothing=smoothing
        )

    answers = []
    for function in (plain, own):
        with tf.GradientTape() as tape:
            tape.watch([queries, vectors, bias])
            loss = function()
            total = tf.reduce_sum(loss * tf.range(1.0, 6.0))
        answers.append(
            [loss.numpy(), *(tf.convert_to_tensor(g).numpy() for g in tape.gradient(total, [queries, vectors, bias]))]
        )
    for expected, found in zip(*answers, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def biased_logits(model, data, rows) -> list[tuple[np.ndarray, int]]:
    """By a plain loop: of each labelled position the logits of all products with events, and the label."""
    vectors = model.product_vectors().numpy()
    history, kinds = rows["history_product"].numpy(), rows["history_event_type"].numpy()
    queries = model.query_vectors(rows, tf.constant(vectors[history] * (history > 0)[..., None])).numpy()
    by_age, by_kind = model.repeats.by_age.numpy(), model.repeats.by_event_type.numpy()
    found = []
    for row, place in np.argwhere(rows["label"].numpy() > 0):
        logits = vectors @ queries[row, place]
        for product in set(history[row, : place + 1].tolist()) - {0}:
            last = max(np.flatnonzero(history[row, : place + 1] == product))
            logits[product] += by_age[place - last] + by_kind[kinds[row, last]]
        logits[data.catalogue.train_count == 0] = -np.inf
        found.append((logits / 0.5, int(rows["label"][row, place])))
    return found


def test_the_full_softmax_of_the_model_has_the_bias_of_what_came_before(biased, data) -> None:
    model, rows = biased("full_softmax")
    terms = [np.log(np.exp(logits).sum()) - logits[label] for logits, label in biased_logits(model, data, rows)]
    assert model.compute_loss(rows).numpy() == pytest.approx(np.mean(terms), rel=1e-4)


def test_a_sampled_softmax_that_draws_each_product_once_is_the_full_one(biased, data, monkeypatch) -> None:
    sold = np.flatnonzero(data.catalogue.train_count > 0)
    model, rows = biased("sampled_softmax", negatives=len(sold))
    monkeypatch.setattr(NegativeSampler, "draw", lambda self, count: tf.constant(sold, tf.int32))
    # New products of a history are scored apart too, and are in no other sum: such positions are left out.
    new = tf.gather(tf.constant(data.catalogue.train_count == 0), rows["history_product"]) & (
        rows["history_product"] > 0
    )
    rows["label"] = tf.where(tf.cumsum(tf.cast(new, tf.int32), 1) > 0, 0, rows["label"])
    terms = [np.log(np.exp(logits).sum()) - logits[label] for logits, label in biased_logits(model, data, rows)]
    assert model.compute_loss(rows).numpy() == pytest.approx(np.mean(terms), rel=1e-4)


def test_the_scores_after_the_last_event_are_moved_by_the_bias(biased, data) -> None:
    model, _ = biased("full_softmax")
    rows = next(iter(data.evaluation_batches("test", 6, 16)))
    vectors = model.product_vectors()
    moved = (
        model.scores(vectors, rows) - tf.matmul(model.last_queries(vectors, rows), vectors, transpose_b=True)
    ).numpy()
    bias, history = model.last_repeats(rows).numpy(), rows["history_product"].numpy()
    for row in range(16):
        expected = np.zeros(data.catalogue.size + 1)
        np.add.at(expected, history[row], bias[row])
        np.testing.assert_allclose(moved[row], expected, atol=1e-5)
    assert np.abs(bias).max() > 0.1


@pytest.mark.parametrize(("again", "sign"), [(True, 1), (False, -1)])
def test_whether_products_come_again_is_learned(data, again: bool, sign: int) -> None:
    config = Config(
        dataclasses.replace(SMALL, text=False),
        RetrievalConfig("full_softmax"),
        RankingConfig(weight=0.0),
        behavior=BehaviorConfig(steps=0),
    )
    tf_keras.utils.set_random_seed(1)
    model, rows = ShopModel(data, config), next(iter(data.training_windows(6).batch(8)))
    history = tf.random.uniform([64, 6], 1, 60, tf.int32)
    label = history if again else tf.random.uniform([64, 6], 60, 100, tf.int32)
    rows = {
        **{name: tf.repeat(value[:1], 64, axis=0) for name, value in rows.items()},
        "history_product": history,
        "history_event_type": tf.ones_like(history),
        "label": label,
    }
    model.compile(tf_keras.optimizers.Adam(0.01))
    model.fit(tf.data.Dataset.from_tensors(rows).repeat(40), epochs=1, verbose=0)
    newest = float(model.repeats.by_age[0] + model.repeats.by_event_type[1])
    assert sign * newest > 0.05
