"""A text encoder that is trained with the model, on a small simulated shop and a BERT of two layers, eight wide."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tfrs_shop.config import Config, RankingConfig, RetrievalConfig, TextConfig, TowerConfig, TrainingConfig
from tfrs_shop.dataset import ShopData, open_data
from tfrs_shop.errors import UserError
from tfrs_shop.model.shop_model import ShopModel
from tfrs_shop.model.text_tuning import RenewTexts, TwoRatesAdam
from tfrs_shop.run import load_run
from tfrs_shop.settings import load_yaml
from tfrs_shop.training import read_history, train

CONFIG = Config(
    TowerConfig(width=16, layers=1, heads=2, max_history=6, dropout=0.0, text_dropout=0.0),
    RetrievalConfig("in_batch", temperature=0.2, hard_negatives=0),
    RankingConfig(units=8),
    training=TrainingConfig(epochs=1, batch_size=16, learning_rate=5e-3, warmup_steps=5, log_every=1000, average=0.5),
)


def quiet(line: str) -> None:
    pass


def tuned(tuning: str, **settings: object) -> Config:
    text = TextConfig(tuning, **{"last_layers": 1, "learning_rate": 2e-3, **settings})
    return dataclasses.replace(CONFIG, text=text)


@pytest.fixture(scope="module")
def data(worded_data) -> ShopData:
    return worded_data


def trained_steps(data: ShopData, config: Config, steps: int = 8) -> tuple[ShopModel, dict[str, float], list[float]]:
    """A model after some steps, how far each part of its encoder moved, and the losses."""
    tf_keras.utils.set_random_seed(5)
    model = ShopModel(data, config)
    rows = next(iter(data.training_windows(6).batch(24)))
    model.compute_loss(rows)
    before = {variable.name: variable.numpy() for variable in model.text.encoder.weights}
    share = config.text.learning_rate / 5e-3
    model.compile(TwoRatesAdam(model.text.trainable_weights, share, learning_rate=5e-3))
    losses = [float(model.train_step(rows)["loss"]) for _ in range(steps) if model.mean_loss.reset_state() is None]
    moved: dict[str, float] = {}
    for variable in model.text.encoder.weights:
        part = variable.name.split("/")[1]
        moved[part] = max(moved.get(part, 0.0), float(np.abs(variable.numpy() - before[variable.name]).max()))
    return model, moved, losses


def test_before_training_the_encoder_gives_the_vectors_of_the_data_directory(data) -> None:
    model = ShopModel(data, tuned("whole"))
    np.testing.assert_array_equal(model.text.vectors, data.catalogue.text_vector)
    model.text.renew()
    # Beam may have computed in bfloat16.
    np.testing.assert_allclose(model.text.vectors, data.catalogue.text_vector, atol=0.03)


@pytest.mark.parametrize(
    ("tuning", "parts"), [("last_layers", {"layer_1"}), ("whole", {"embeddings", "layer_0", "layer_1"})]
)
def test_training_moves_the_layers_that_are_tuned_and_the_loss_falls(data, tuning: str, parts: set[str]) -> None:
    _, moved, losses = trained_steps(data, tuned(tuning))
    assert {part for part, distance in moved.items() if distance > 0} == parts
    assert losses[-1] < losses[0] - 0.3


def test_the_encoder_has_its_own_learning_rate(data) -> None:
    model, moved, _ = trained_steps(data, tuned("last_layers", learning_rate=1e-4), steps=1)
    # Adam's first step is as long as the learning rate.
    assert moved["layer_1"] == pytest.approx(1e-4, rel=0.05)
    assert np.abs(model.product_tower.text_output.bias.numpy()).max() == pytest.approx(5e-3, rel=0.05)


def test_no_more_texts_are_encoded_in_a_step_than_the_settings_allow(data) -> None:
    model = ShopModel(data, tuned("last_layers", texts=3))
    model.text.vectors.assign(7.0 * tf.ones_like(model.text.vectors))
    products = tf.constant([5, 0, 9, 11, 12])
    vectors = model.text(products).numpy()
    assert (vectors[3:] == 7.0).all()
    assert (vectors[1] == 0.0).all()
    np.testing.assert_allclose(vectors[[0, 2]], data.catalogue.text_vector[[5, 9]], atol=0.03)


@pytest.mark.usefixtures("few_questions")
def test_a_tuned_run_is_validated_saved_and_loaded_with_the_same_vectors(data, tmp_path) -> None:
    train(data.directory, tmp_path / "run", tuned("last_layers"), quiet)
    model, _, info = load_run(tmp_path / "run")
    assert np.abs(model.text.vectors.numpy() - data.catalogue.text_vector).max() > 0.05
    saved = model.product_vectors().numpy()
    model.text.renew()
    np.testing.assert_allclose(model.product_vectors().numpy(), saved, atol=1e-5)
    model.compile()
    again = model.evaluate(data.evaluation_batches("validation", 6), verbose=0, return_dict=True)
    best = read_history(tmp_path / "run")[info.best_epoch - 1]["metrics"]
    assert again["ndcg@10"] == pytest.approx(best["val_ndcg@10"], abs=1e-4)

    from tfrs_shop.export import Serving, export

    bundle = tf.saved_model.load(
        str(export(model, data, tmp_path / "shop", "brute_force", Serving(3, "bought"), quiet))
    )
    product = data.values["product_id"][4]
    answer = bundle.signatures["similar"](product_id=tf.constant([product]))
    scores = saved @ saved[5]
    scores[[0, 5]] = -np.inf
    np.testing.assert_allclose(answer["score"][0], -np.sort(-scores)[:3], atol=1e-4)


def test_where_nothing_is_validated_the_vectors_are_renewed_at_the_end_of_an_epoch(data) -> None:
    model = ShopModel(data, tuned("last_layers"))
    model.compile(TwoRatesAdam([], 1.0, learning_rate=5e-3))
    model.fit(data.training_windows(6).batch(32).take(2), verbose=0, callbacks=[RenewTexts()])
    vectors = model.text.vectors.numpy()
    assert np.abs(vectors - data.catalogue.text_vector).max() > 0.03
    model.text.renew()
    np.testing.assert_allclose(model.text.vectors, vectors, atol=1e-6)


def test_a_catalogue_without_text_has_nothing_to_tune(shop) -> None:
    with pytest.raises(UserError, match="has no text vectors; preprocess it with a text encoder"):
        ShopModel(open_data(shop.data), tuned("whole"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("{text: {tuning: whole}, retrieval: {loss: full_softmax}}", "would encode the whole catalogue in every step"),
        ("{text: {tuning: whole}, towers: {text: false}}", "needs towers.text, which is off"),
        ("{text: {tuning: whole}, training: {strategy: mirrored}}", "works with training.strategy one_device only"),
        ("{text: {tuning: last_layers, last_layers: 0}}", "last_layers must be at least 1"),
    ],
)
def test_settings_that_do_not_go_together_are_one_sentence(tmp_path, settings: str, message: str) -> None:
    (tmp_path / "config.yaml").write_text(settings)
    with pytest.raises(UserError, match=message):
        load_yaml(Config, tmp_path / "config.yaml")
