"""The retrieval losses: known answers by plain loops, what is drawn, mined and left out."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from model_support import SMALL, some_rows

from tfrs_shop.config import BehaviorConfig, Config, RankingConfig, RetrievalConfig
from tfrs_shop.dataset import open_data
from tfrs_shop.model.negatives import NegativeSampler, softmax_loss
from tfrs_shop.model.shop_model import ShopModel

PLAIN = dataclasses.replace(SMALL, repeats=False)


@pytest.fixture(scope="module")
def data(shop):
    return open_data(shop.data)


def test_full_softmax_loss_is_the_cross_entropy_over_products_with_events_at_every_labelled_position(data) -> None:
    config = Config(SMALL, RetrievalConfig("full_softmax"), RankingConfig(weight=0.0), behavior=BehaviorConfig(steps=0))
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


def labelled_positions(model, rows) -> tuple[np.ndarray, np.ndarray, list[set[int]], np.ndarray]:
    """Query vectors, labels and what was still to come of all labelled positions, and all product vectors."""
    vectors = model.product_vectors().numpy()
    history = rows["history_product"].numpy()
    queries = model.query_vectors(rows, tf.constant(vectors[history] * (history > 0)[..., None])).numpy()
    labels = rows["label"].numpy()
    places = np.argwhere(labels > 0)
    return (
        np.array([queries[row, place] for row, place in places]),
        np.array([labels[row, place] for row, place in places]),
        [set(labels[row, place:].tolist()) for row, place in places],
        vectors,
    )


def minus_log_share(own: float, others: list[float]) -> float:
    return float(np.log(np.exp(own) + np.exp(others).sum()) - own)


@pytest.mark.parametrize("logq", [True, False])
@pytest.mark.parametrize("remove", [True, False])
def test_in_batch_loss_is_a_softmax_over_the_other_targets_of_the_batch(data, logq: bool, remove: bool) -> None:
    retrieval = RetrievalConfig("in_batch", temperature=0.5, logq=logq, remove_accidental_hits=remove, hard_negatives=0)
    model, rows = (
        ShopModel(data, Config(PLAIN, retrieval, RankingConfig(weight=0.0), behavior=BehaviorConfig(steps=0))),
        some_rows(data, count=3),
    )
    queries, labels, _, vectors = labelled_positions(model, rows)
    assert len(set(labels)) < len(labels)
    counts = data.catalogue.train_count.astype(float)
    terms = []
    for i, (query, label) in enumerate(zip(queries, labels, strict=True)):
        others = []
        for j, other in enumerate(labels):
            if j != i and not (remove and other == label):
                draws = (len(labels) - 1) * counts[other] / counts[1:].sum()
                others.append(query @ vectors[other] / 0.5 - (np.log(draws) if logq else 0.0))
        terms.append(minus_log_share(query @ vectors[label] / 0.5, others))
    assert model.compute_loss(rows).numpy() == pytest.approx(np.mean(terms), rel=1e-4)


@pytest.mark.parametrize("sampling", ["uniform", "popularity"])
@pytest.mark.parametrize("remove", [True, False])
def test_sampled_softmax_loss_weighs_a_drawn_product_by_how_rarely_it_is_drawn(
    data, monkeypatch, sampling: str, remove: bool
) -> None:
    retrieval = RetrievalConfig(
        "sampled_softmax",
        temperature=0.5,
        negatives=40,
        sampling=sampling,
        remove_accidental_hits=remove,
        hard_negatives=0,
    )
    model, rows = (
        ShopModel(data, Config(PLAIN, retrieval, RankingConfig(weight=0.0), behavior=BehaviorConfig(steps=0))),
        some_rows(data, count=3),
    )
    queries, labels, _, vectors = labelled_positions(model, rows)
    counts = data.catalogue.train_count.astype(float)
    drawn = np.concatenate([labels[:5], np.random.default_rng(2).integers(1, np.count_nonzero(counts) + 1, 35)])
    monkeypatch.setattr(NegativeSampler, "draw", lambda self, count: tf.constant(drawn, tf.int32))
    counts = counts if sampling == "popularity" else (counts > 0).astype(float)
    terms = []
    for query, label in zip(queries, labels, strict=True):
        others = [
            query @ vectors[other] / 0.5 - np.log(40 * counts[other] / counts[1:].sum())
            for other in drawn
            if not (remove and other == label)
        ]
        terms.append(minus_log_share(query @ vectors[label] / 0.5, others))
    assert model.compute_loss(rows).numpy() == pytest.approx(np.mean(terms), rel=1e-4)


@pytest.mark.parametrize("loss", ["in_batch", "sampled_softmax"])
def test_hard_negatives_are_the_nearest_products_and_never_what_the_user_went_on_to(
    data, monkeypatch, loss: str
) -> None:
    retrieval = RetrievalConfig(loss, temperature=0.5, negatives=30, sampling="uniform", hard_negatives=3)
    model, rows = (
        ShopModel(data, Config(PLAIN, retrieval, RankingConfig(weight=0.0), behavior=BehaviorConfig(steps=0))),
        some_rows(data, count=3),
    )
    queries, labels, following, vectors = labelled_positions(model, rows)
    counts = data.catalogue.train_count.astype(float)
    sold = np.count_nonzero(counts)
    drawn = np.random.default_rng(3).integers(1, sold + 1, 30)
    monkeypatch.setattr(NegativeSampler, "draw", lambda self, count: tf.constant(drawn, tf.int32))
    hard = {int(p) for query in queries for p in 1 + np.argsort(-(vectors[1 : sold + 1] @ query))[:3]}
    probability = counts / counts[1:].sum() if loss == "in_batch" else np.full(len(counts), 1 / sold)
    left_out = 0
    terms = []
    for i, (query, label) in enumerate(zip(queries, labels, strict=True)):
        others = [query @ vectors[other] / 0.5 for other in hard - following[i]]
        left_out += len(hard & following[i])
        for j, other in enumerate(labels if loss == "in_batch" else drawn):
            if other not in hard and other != label and not (loss == "in_batch" and i == j):
                draws = probability[other] * (len(labels) - 1 if loss == "in_batch" else 30)
                others.append(query @ vectors[other] / 0.5 - np.log(draws))
        terms.append(minus_log_share(query @ vectors[label] / 0.5, others))
    assert left_out > 0
    assert model.compute_loss(rows).numpy() == pytest.approx(np.mean(terms), rel=1e-4)


def test_the_sampled_sum_is_on_average_the_sum_over_all_products() -> None:
    random = np.random.default_rng(0)
    scores = random.normal(size=51)
    probability = np.concatenate([[0.0], random.dirichlet(np.ones(50))])
    sampler = NegativeSampler(probability)
    tf.random.set_seed(1)
    sums = []
    for _ in range(300):
        drawn = sampler.draw(400)
        loss = softmax_loss(
            tf.ones([1, 1]),
            tf.constant([[scores[7]]], tf.float32),
            tf.gather(tf.constant(scores[:, None], tf.float32), drawn),
            temperature=1.0,
            expected=sampler.expected(drawn, 400),
            hidden=(drawn == 7)[None],
        )
        sums.append(np.exp(float(loss[0]) + scores[7]))
    assert np.mean(sums) == pytest.approx(np.exp(scores[1:]).sum(), rel=0.05)


def test_products_are_drawn_as_often_as_their_probability_says() -> None:
    tf.random.set_seed(1)
    sampler = NegativeSampler(np.array([0.0, 0.5, 0.0, 0.3, 0.2]))
    shares = np.bincount(sampler.draw(100_000).numpy(), minlength=5) / 100_000
    np.testing.assert_allclose(shares, [0.0, 0.5, 0.0, 0.3, 0.2], atol=0.01)
    assert sampler.expected(tf.constant([1, 4]), 10).numpy().tolist() == pytest.approx([5.0, 2.0])


def test_the_vectors_that_are_mined_are_renewed_every_so_many_steps(data) -> None:
    retrieval = RetrievalConfig("in_batch", hard_negatives=2, mined_every=3)
    model, rows = (
        ShopModel(data, Config(SMALL, retrieval, RankingConfig(weight=0.0), behavior=BehaviorConfig(steps=0))),
        some_rows(data, count=3),
    )
    model.compute_loss(rows)
    first = model.retrieval_loss.mining_vectors.numpy()
    np.testing.assert_allclose(first, model.product_vectors().numpy(), atol=1e-6)
    for table in model.product_tower.trainable_variables:
        table.assign_add(tf.random.normal(table.shape))
    model.compute_loss(rows)
    model.compute_loss(rows)
    np.testing.assert_array_equal(model.retrieval_loss.mining_vectors.numpy(), first)
    model.compute_loss(rows)
    np.testing.assert_allclose(model.retrieval_loss.mining_vectors.numpy(), model.product_vectors().numpy(), atol=1e-6)


def test_impossible_retrieval_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="negatives must be at least 1"):
        RetrievalConfig(negatives=0)
    with pytest.raises(ValueError, match="must be above 0"):
        RetrievalConfig(temperature=0.0)
