"""Explanation by words: what the words of a text add is what the text adds."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tfrs_shop.config import Config, RankingConfig, TowerConfig
from tfrs_shop.export import Serving
from tfrs_shop.index import build_index
from tfrs_shop.model.shop_model import ShopModel
from tfrs_shop.run import build
from tfrs_shop.served.explain import Explain
from tfrs_shop.served.explain_words import ExplainWords, event_texts
from tfrs_shop.served.shop import ServedShop
from tfrs_shop.served.text_search import text_encoder

LENGTH = 6


@pytest.fixture(scope="module")
def questions(worded_data, tmp_path_factory) -> tuple[Explain, ExplainWords]:
    """Both of a shop whose model is as it is before training, but for a behaviour text that counts."""
    folder = tmp_path_factory.mktemp("assets")
    assets = {"products": folder / "products.txt", "users": folder / "users.txt"}
    assets["products"].write_bytes(b"\n".join(worded_data.values["product_id"]) + b"\n")
    assets["users"].write_bytes(b"\n".join(worded_data.users()["user_id"]) + b"\n")
    tf_keras.utils.set_random_seed(3)
    towers = TowerConfig(width=16, layers=1, heads=2, max_history=LENGTH)
    model = ShopModel(worded_data, Config(towers, ranking=RankingConfig(units=8)))
    build(model, worded_data)
    kernel = model.query_tower.behavior_text.kernel
    kernel.assign(tf.random.normal(kernel.shape, stddev=0.3))
    vectors = model.product_vectors().numpy()
    shop = ServedShop(model, worded_data, vectors, Serving(5, "none"), {key: str(path) for key, path in assets.items()})
    shop.retrieval.index, _ = build_index("brute_force", vectors[1:], vectors[1:4], shop.retrieval.most)
    explain = Explain(shop)
    length = worded_data.manifest.text["sequence_length"]
    return explain, ExplainWords(explain, event_texts(worded_data), text_encoder(worded_data), length)


def test_shares_of_words_sum_to_those_of_their_texts_and_these_to_the_behaviour_texts(questions, worded_data) -> None:
    explain, by_words = questions
    catalogue = worded_data.catalogue
    history = [[catalogue.product_id[place] for place in (3, 40, 7)], [catalogue.product_id[9], b"", b""]]
    asked = tf.constant(history), tf.constant([[b"view"] * 3] * 2), tf.constant(catalogue.product_id[[11, 12]])
    whole = {name: value.numpy() for name, value in explain.explain_for_history(*asked).items()}
    found = {name: value.numpy() for name, value in by_words.explain_words_for_history(*asked).items()}
    text = whole["share"][:, whole["part"][0].tolist().index(b"behavior_text")]
    assert abs(text).min() > 0.01
    np.testing.assert_allclose(found["event_share"].sum(1), text, rtol=1e-4)
    # Beam may have computed the vectors in bfloat16.
    np.testing.assert_allclose(found["word_share"].sum(2), found["event_share"], atol=0.05 * abs(text).max())
    assert set(found["event_product_id"][0]) == {*history[0], b""}
    assert found["event_product_id"][1].tolist() == [history[1][0], b"", b"", b"", b""]
    assert not found["word_share"][1, 1:].any()
    texts = event_texts(worded_data)
    places = {value: place for place, value in enumerate(catalogue.product_id.tolist())}
    for product, title, words in zip(*(found[n][0] for n in ("event_product_id", "event_title", "word")), strict=True):
        assert [word.decode() for word in words if word] == (texts[places[product]].split() if product else [])
        assert title == (catalogue.title[places[product]] if product else b"")


def test_without_history_or_product_there_is_nothing_to_explain(questions, worded_data) -> None:
    _, by_words = questions
    known = worded_data.catalogue.product_id[3]
    answer = by_words.explain_words_for_history(
        tf.constant([[b"no such product"], [known]]), tf.constant([[b"view"]] * 2), tf.constant([known, b"none"])
    )
    assert not answer["event_share"].numpy().any()
    assert not answer["word_share"].numpy().any()
    assert set(answer["event_title"].numpy().ravel()) == {b""}


def test_what_words_add_sums_to_the_vector_of_the_text(worded_data) -> None:
    encoder = text_encoder(worded_data)
    texts = tf.constant(event_texts(worded_data)[1:9])
    words, adds = encoder.word_vectors(texts, 200)
    np.testing.assert_allclose(tf.reduce_sum(adds, 1), encoder(texts), atol=1e-5)
    assert words.row_lengths().numpy().tolist() == [len(text.split()) for text in texts.numpy()]
    # What is cut off adds nothing.
    _, cut = encoder.word_vectors(texts, 4)
    assert not cut[:, 2:].to_tensor().numpy().any()
    assert cut.values.numpy().any()
