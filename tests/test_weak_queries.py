"""Weak queries: what they are made of, what is hidden in training, and how the tower's weight is chosen by them."""

import types

import numpy as np
import pytest

import tfrs_shop  # noqa: F401  (before TensorFlow)

import tensorflow as tf  # isort: skip

from pipelines.lexicon import field_forms
from tfrs_shop import search_training
from tfrs_shop.config import Config, SearchConfig
from tfrs_shop.lexicon import Lexicon, build_lexicon
from tfrs_shop.model.search_tower import SearchTower, new_weights, ragged_bags
from tfrs_shop.search_training import train_search
from tfrs_shop.text.terms import term_of
from tfrs_shop.weak_queries import WeakQuery, weak_queries

PRODUCTS = [
    ("P1", "Red Running Shoes", "Runfast", "Sports > Shoes", "A light shoe made for marathons."),
    ("P2", "Dog bowl", "", "Pets", ""),
    ("P3", "Torch", "", "", "Burns sugar."),
]


def shop_of(products: list[tuple[str, str, str, str, str]]) -> types.SimpleNamespace:
    """Return data without events, encoder and queries."""
    rows = [("", "", "", "", ""), *products]
    names = ("product_id", "title", "brand_name", "category_name", "description")
    columns = {
        name: [value.encode() for value in column] for name, column in zip(names, zip(*rows, strict=True), strict=True)
    }
    catalogue = types.SimpleNamespace(size=len(products), text_vector=np.zeros([len(rows), 0], np.float32), **columns)
    return types.SimpleNamespace(
        catalogue=catalogue, lexicon=lexicon_of(products), values={"query": []}, manifest=types.SimpleNamespace(text={})
    )


def lexicon_of(products: list[tuple[str, str, str, str, str]]) -> Lexicon:
    """Return postings of weight 1 for every term of a product, and idf 1."""
    of_term: dict[str, tuple[set[str], list[str]]] = {}
    for product, title, brand, category, description in products:
        row = {"product_id": product, "title": title, "brand": brand, "category": [category]}
        found = {form for forms in field_forms({**row, "description": description})[1].values() for form in forms}
        for term in {term_of(form) for form in found}:
            forms, postings = of_term.setdefault(term, (set(), []))
            forms |= {form for form in found if term_of(form) == term}
            postings.append(product)
    rows = [
        {
            "term": term.encode(),
            "idf": 1.0,
            "form": [form.encode() for form in sorted(forms)],
            "form_count": [len(postings)] * len(forms),
            "product_id": [product.encode() for product in postings],
            "weight": [1.0] * len(postings),
        }
        for term, (forms, postings) in of_term.items()
    ]
    return build_lexicon(rows, {product[0].encode(): place for place, product in enumerate(products, 1)})


def test_a_product_is_asked_for_by_brand_and_category_by_its_title_and_by_what_its_description_adds() -> None:
    found = list(weak_queries(shop_of(PRODUCTS).catalogue, 1))
    assert [query.product for query in found] == [1, 1, 1, 1, 1, 2, 2, 3]
    assert found[:3] == [WeakQuery(1, ("runfast", "shoes")), WeakQuery(1, ("shoes",)), WeakQuery(1, ("runfast",))]
    assert set(found[3].known) <= {"red", "running", "shoes"}
    assert len(found[3].known) >= 2
    # "shoe" is a term of the title, "a" and "for" are function words.
    assert set(found[4].told) <= {"light", "made", "marathons"}
    assert len(found[4].known) == 1
    assert found[5] == WeakQuery(2, ("pets",))
    assert set(found[6].known) == {"dog", "bowl"}
    assert (found[7].known, set(found[7].told) <= {"burns", "sugar"}) == (("torch",), True)
    assert found == list(weak_queries(shop_of(PRODUCTS).catalogue, 1))


def test_a_query_s_terms_are_hidden_from_its_own_product_alone(monkeypatch) -> None:
    monkeypatch.setattr(search_training, "HIDDEN", 1.0)
    data = shop_of([("P1", "red shoe", "", "", ""), ("P2", "red bowl", "", "", "")])
    examples = search_training._Examples(data, data.lexicon, [("red", "bowl")])
    tower = SearchTower(new_weights(data.lexicon.terms, np.zeros(0), 1))
    # The candidates are products 2 and 1, and the one query is of the first of them.
    found = examples.of_products(tower, tf.constant([2, 1]), tf.constant([0]), tf.constant([1]))
    shoe, red = (1 + data.lexicon.terms.index(term) for term in (b"shoe", b"red"))
    own = tower.vectors("product", None, ragged_bags(tf.ragged.constant([[red, shoe]], tf.int32), tf.ones(2)))
    np.testing.assert_array_equal(found[0], np.zeros(found.shape[1]))
    np.testing.assert_allclose(found[1], own[0], atol=1e-6)


@pytest.fixture
def two_kinds() -> types.SimpleNamespace:
    """A catalogue in which a description's word goes with a word of the title: "warm" with wool, "cool" with linen."""
    kinds = (("wool", "warm"), ("linen", "cool"))
    rows = [(f"P{n}", f"{kinds[n % 2][0]} scarf n{n}", "", "", f"it is {kinds[n % 2][1]}") for n in range(60)]
    return shop_of(rows)


def chosen(data: types.SimpleNamespace, arrays: dict[str, np.ndarray]) -> float:
    held_out = [query for query in weak_queries(data.catalogue, 1) if query.told]
    # Each is asked for by what all have, and by what its kind alone is told to be.
    asked = [WeakQuery(query.product, ("scarf",), query.told) for query in held_out]
    return search_training._choose_weak_weight(data, SearchTower(arrays), data.lexicon, asked, lambda line: None)


def test_a_tower_that_knows_what_goes_with_a_word_gets_a_weight_and_one_that_knows_nothing_none(two_kinds) -> None:
    terms = two_kinds.lexicon.terms
    arrays = new_weights(terms, np.zeros(0), 1)
    embedding = np.zeros_like(arrays["terms_embedding"])
    assert chosen(two_kinds, {**arrays, "terms_embedding": embedding}) == 0.0
    for place, words in enumerate(((b"wool", b"warm"), (b"linen", b"cool"))):
        for word in words:
            embedding[1 + terms.index(word), place] = 1.0
    assert chosen(two_kinds, {**arrays, "terms_embedding": embedding}) > 0.0


def test_without_descriptions_nothing_is_trained() -> None:
    said: list[str] = []
    assert train_search(shop_of(PRODUCTS), Config(), said.append) is None
    assert said == ["Search: too few products have a description to learn from; it works untrained."]


def test_zero_steps_leave_search_untrained_without_a_word() -> None:
    said: list[str] = []
    assert train_search(shop_of(PRODUCTS), Config(search=SearchConfig(steps=0)), said.append) is None
    assert said == []


def test_beside_an_encoder_nothing_is_trained() -> None:
    said: list[str] = []
    data = shop_of(PRODUCTS)
    data.manifest.text["width"] = 384
    assert train_search(data, Config(), said.append) is None
    assert said == [
        "Search: without searches the encoder's vectors say more than weak queries teach; it works untrained."
    ]
