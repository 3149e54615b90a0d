"""Search in graph: forms, BM25, typing errors, what is answered, and what it is asked of the wildest queries."""

import math
import types
from collections import Counter

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

import tfrs_shop  # noqa: F401  (before TensorFlow)

import tensorflow as tf  # isort: skip
import apache_beam as beam
from apache_beam.testing.test_pipeline import TestPipeline
from bundle_support import ask

from pipelines.lexicon import FIELD_WEIGHTS, K1, B, Lexicon, field_forms
from tfrs_shop.lexicon import build_lexicon
from tfrs_shop.model.repeats import RepeatBias
from tfrs_shop.served.lexicon import ServedLexicon
from tfrs_shop.served.query_forms import cleaned, query_forms
from tfrs_shop.served.search import Search
from tfrs_shop.text.terms import forms, term_of

PRODUCTS = [
    ("P1", "Red Running Shoes for Women", "Runfast", ["Shoes"], "Light shoes. Made for running."),
    ("P2", "Blue running shoe, men's", "Runfast", ["Shoes"], ""),
    ("P3", "WH-1000XM4 Wireless Headphones", "Sony", ["Audio", "Headphones"], "Noise cancelling, 30 h battery."),
    ("P4", "Red dog bowl 2.5 l", "Waggy", ["Pets"], "A bowl for dogs, red."),
    ("P5", "Crème brûlée torch", "", [], ""),
]


def product_rows() -> list[dict]:
    names = ("product_id", "title", "brand", "category", "description")
    return [dict(zip(names, row, strict=True)) for row in PRODUCTS]


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> list[dict]:
    path = tmp_path_factory.mktemp("lexicon") / "rows"
    with TestPipeline() as pipeline:
        found = pipeline | beam.Create(product_rows()) | Lexicon()
        found | beam.Map(repr) | beam.io.WriteToText(str(path), num_shards=1, shard_name_template="")
    rows = [eval(line) for line in path.read_text().splitlines()]
    encoded = [
        {
            **row,
            "term": row["term"].encode(),
            **{name: [v.encode() for v in row[name]] for name in ("form", "product_id")},
        }
        for row in rows
    ]
    return encoded


@pytest.fixture(scope="module")
def lexicon(records) -> ServedLexicon:
    index = {row["product_id"].encode(): place for place, row in enumerate(product_rows(), 1)}
    return ServedLexicon(build_lexicon(records, index), len(PRODUCTS))


def bm25f(query: str) -> list[float]:
    """Score every product by a plain loop over the formula, as a share of the most that is possible."""
    fields = [field_forms(row)[1] for row in product_rows()]
    mean = {name: np.mean([len(product[name]) for product in fields if product[name]]) for name in FIELD_WEIGHTS}
    terms = {term_of(form) for form in forms(query)}
    totals, most = [0.0] * len(fields), 0.0
    for term in terms:
        counts = [
            sum(
                FIELD_WEIGHTS[name]
                * Counter(map(term_of, product[name]))[term]
                / (1 - B + B * len(product[name]) / mean[name])
                for name in FIELD_WEIGHTS
            )
            for product in fields
        ]
        with_term = sum(count > 0 for count in counts)
        idf = math.log(1 + (len(fields) - with_term + 0.5) / (with_term + 0.5))
        most += idf * (K1 + 1)
        totals = [total + idf * count * (K1 + 1) / (count + K1) for total, count in zip(totals, counts, strict=True)]
    return [total / most for total in totals]


def scores(lexicon: ServedLexicon, *queries: str) -> np.ndarray:
    return lexicon.scores(lexicon.query(cleaned(tf.constant([query.encode() for query in queries])))).numpy()


@pytest.mark.parametrize("query", ["red shoes", "running shoe women", "wireless headphone battery", "dogs bowls red"])
def test_the_lexical_score_is_bm25f(lexicon, query) -> None:
    found = scores(lexicon, query)[0]
    assert found[0] == 0.0
    np.testing.assert_allclose(found[1:], bm25f(query), rtol=1e-5)


def test_a_batch_scores_each_query_as_if_it_were_alone(lexicon) -> None:
    together = scores(lexicon, "red shoes", "", "headphones")
    np.testing.assert_array_equal(together[0], scores(lexicon, "red shoes")[0])
    np.testing.assert_array_equal(together[1], np.zeros(6))
    np.testing.assert_array_equal(together[2], scores(lexicon, "headphones")[0])


@pytest.mark.parametrize(
    ("query", "best"),
    [
        ("headphnes", 3),  # a letter dropped
        ("haedphones", 3),  # two swapped
        ("wh1000xm4", 3),  # hyphens left out
        ("WH 1000XM4", 3),
        ("creme brulee", 5),  # accents left out
        ("runnning shoes for woman's", 1),
        ("bowl 2.5", 4),
    ],
)
def test_misspelt_words_and_other_spellings_find_what_is_meant(lexicon, query, best) -> None:
    assert scores(lexicon, query)[0].argmax() == best


def test_short_unknown_words_are_not_guessed(lexicon) -> None:
    np.testing.assert_array_equal(scores(lexicon, "rad", "xyz", "qqqqqqqqq"), np.zeros([3, 6]))


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        (
            "Women's  Anti-Aging Cr\u00e8me, 1,000 x 2.5 oz",
            ["women", "anti", "aging", "creme", "1000", "x", "2_5", "oz"],
        ),
        ("\u65e5\u672c\u8a9e caf\u00e9", ["\u65e5", "\u672c", "\u8a9e", "cafe"]),
        ("the <b>Red</b> &amp; the black", ["red", "black"]),
        ("\U0001f460\U0001f45f", []),
        ("   ", []),
    ],
)
def test_the_forms_of_a_query(query, wanted) -> None:
    assert query_forms(cleaned(tf.constant([query]))).to_list()[0] == [word.encode() for word in wanted]


@settings(max_examples=150, deadline=None)
@given(st.text(st.characters(codec="utf-8", max_codepoint=0x2FFF, exclude_categories=["Cn", "Cs", "Co"]), max_size=60))
def test_queries_are_cut_into_the_forms_that_the_pipeline_makes(text) -> None:
    from tfrs_shop.text.clean import clean_text

    text = clean_text(text)
    found = [word.decode() for word in query_forms(tf.constant([text.encode()])).to_list()[0]]
    # In graph the whole of a hyphenated word is a pair of neighbours.
    assert found == forms(text.replace("-", " "))


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=80))
def test_any_bytes_get_finite_scores(lexicon, query) -> None:
    found = lexicon.scores(lexicon.query(cleaned(tf.constant([query])))).numpy()
    assert np.isfinite(found).all()
    assert (found >= 0).all()


def test_a_title_finds_its_product(signatures, trained) -> None:
    _, data = trained
    for place in (1, 50, 120):
        answer = ask(signatures, "search", query=[data.catalogue.title[place]])
        assert answer["product_id"][0, 0] == data.catalogue.product_id[place]
        assert answer["title"][0, 0] == data.catalogue.title[place]
        assert (np.diff(answer["score"][0]) <= 0).all()


@pytest.mark.parametrize("query", ["", "   ", "\U0001f460", "the of and", "?!"])
def test_a_query_without_words_is_answered_with_nothing(signatures, query) -> None:
    answer = ask(signatures, "search", query=[query])
    assert set(answer["product_id"].ravel()) == {b""}
    np.testing.assert_array_equal(answer["score"], np.zeros([1, 5]))


def test_long_and_odd_queries_are_answered(signatures) -> None:
    queries = [
        "bag " * 2_500,
        "x" * 10_000,
        "\u888b bag \u0441\u0443\u043c\u043a\u0430 \u062d\u0642\u064a\u0628\u0629",
        "\x00\x01bag",
        b"\xff\xfe bag",
    ]
    answer = ask(signatures, "search", query=queries)
    assert answer["product_id"].shape == (5, 5)
    assert np.isfinite(answer["score"]).all()


def test_words_of_titles_that_the_query_asked_for_are_named(signatures, trained) -> None:
    _, data = trained
    title = data.catalogue.title[7].decode()
    asked = title.split()[1]
    mistyped = next(word for word in title.split() if word.isalpha() and len(word) > 6)
    mistyped = mistyped[:2] + mistyped[3:]
    answer = ask(signatures, "search_explained", query=[asked, mistyped, "", "zzzz"])
    plain = ask(signatures, "search", query=[asked, mistyped, "", "zzzz"])
    np.testing.assert_array_equal(answer["product_id"], plain["product_id"])
    np.testing.assert_array_equal(answer["score"], plain["score"])
    for row, titles in enumerate(answer["title"]):
        for place, shown in enumerate(titles):
            pieces = [word for word in answer["title_word"][row, place] if word]
            assert b" ".join(pieces) == shown
            assert not answer["title_word_weight"][row, place, len(pieces) :].any()
    # By hand: a word is named where it, as the lexicon has it, is the query's.
    wanted = {term_of(form) for form in forms(asked)}
    for pieces, weights in zip(answer["title_word"][0], answer["title_word_weight"][0], strict=True):
        named = [bool(wanted & {term_of(form) for form in forms(piece.decode())}) for piece in pieces]
        assert (weights > 0).tolist() == named
    assert answer["title_word_weight"][0].any()
    # What was mistyped is named too, but counts less than it would.
    exact = ask(signatures, "search_explained", query=[title])
    assert 0 < answer["title_word_weight"][1].max() < exact["title_word_weight"][0].max()
    assert not answer["title_word_weight"][2:].any()


def test_a_history_changes_the_order_and_an_unknown_one_does_not(signatures, trained) -> None:
    _, data = trained
    query, nothing = [b"black bag"], [[b"no such product"]]
    plain = ask(signatures, "search", query=query)
    same = ask(
        signatures, "search_for_history", query=query, history_product_id=nothing, history_event_type=[[b"view"]]
    )
    np.testing.assert_array_equal(same["product_id"], plain["product_id"])
    orders = {
        tuple(
            ask(
                signatures,
                "search_for_history",
                query=query,
                history_product_id=[[data.catalogue.product_id[place]]],
                history_event_type=[[b"view"]],
            )["product_id"][0]
        )
        for place in (1, 40, 80, 120, 160)
    }
    assert len(orders) > 1


def test_products_of_the_history_are_moved_by_the_log_odds_that_they_come_again() -> None:
    layer = RepeatBias(3, 1)
    layer.by_age.assign([0.1, 0.2, 0.3])
    layer.by_event_type.assign([0.0, -1.0])
    shop = types.SimpleNamespace(
        layers=types.SimpleNamespace(repeats=layer), retrieval=types.SimpleNamespace(temperature=0.5)
    )
    rows = {"history_product": tf.constant([[5, 7, 7]]), "history_event_type": tf.constant([[1, 1, 1]])}
    found = Search._again(types.SimpleNamespace(shop=shop), rows, tf.constant([[7, 9, 5, 0]]))
    np.testing.assert_allclose(found, [[(0.1 - 1.0) / 0.5, 0.0, (0.3 - 1.0) / 0.5, 0.0]], rtol=1e-6)
    shop.layers.repeats = None
    np.testing.assert_array_equal(
        Search._again(types.SimpleNamespace(shop=shop), rows, tf.constant([[7, 9, 5, 0]])), np.zeros([1, 4])
    )


def test_taste_is_how_products_of_the_history_differ_from_their_category() -> None:
    from tfrs_shop.served import text_search

    # Products 1 and 2 are of one category, 3 to 5 of another: in each the first number tells what is liked.
    vectors = np.array([[0, 0], [2, 0], [0, 0], [2, 5], [0, 5], [1, 5]], np.float32)
    leaf = np.array([0, 1, 1, 2, 2, 2], np.int32)
    typical = text_search.means_of(vectors, leaf)
    np.testing.assert_array_equal(typical, [[0, 0], [1, 0], [1, 5]])
    search = types.SimpleNamespace(
        tower=object(), tower_weight=3.0, text_width=1, leaf=tf.constant(leaf), typical=tf.constant(typical)
    )
    search.vectors = tf.constant(np.pad(vectors, [[0, 0], [1, 0]], constant_values=9))
    search._difference = types.MethodType(text_search.TextSearch._difference, search)
    candidates, histories = tf.constant([[3, 4, 5, 0]] * 3), tf.constant([[0, 1], [2, 2], [0, 0]])
    found = text_search.TextSearch.taste(search, candidates, histories)
    most = 3.0 * text_search.TASTE
    np.testing.assert_allclose(found, [[most, -most, 0, 0], [-most, most, 0, 0], [0, 0, 0, 0]], atol=1e-6)
    search.tower = None
    np.testing.assert_array_equal(text_search.TextSearch.taste(search, candidates, histories), np.zeros([3, 4]))


def test_texts_of_columns_that_no_field_takes_are_searched(tmp_path) -> None:
    from preprocess_support import preprocess, records, write_jsonl

    row = {
        "product_id": "1",
        "product_name": "Garden chair",
        "features": ["Folds flat", "Teak"],
        "details": {"Weight": "3 kg", "Seats": 1},
        "colour": "olive",
        "image_url": "https://example.com/chair.jpg",
        "more": "https://example.com",
        "stock": 7,
        "weatherproof": "true",
    }
    preprocess(tmp_path / "data", "--products", write_jsonl(tmp_path / "p.jsonl", [row]))
    found = records(tmp_path / "data", "products")[0]
    assert found["title"] == "Garden chair"
    assert found["description"] == "Folds flat. Teak. Weight 3 kg. Seats 1. olive"


def test_a_large_catalogue_is_answered_as_a_small_one(trained, monkeypatch) -> None:
    from tfrs_shop.served import text_search

    model, data = trained
    everything = tf.constant([[False] + [True] * data.catalogue.size])
    queries = tf.constant([data.catalogue.title[3], b"black bag", b"waterproof jakcet"])

    def best():
        search = text_search.TextSearch(data, data.lexicon, None, model.search)
        return search.best(queries, search.terms(queries), everything, 20)

    wanted = best()
    monkeypatch.setattr(text_search, "LARGE", 100)
    monkeypatch.setattr(text_search, "FIRST_WIDTH", 32)
    found = best()
    np.testing.assert_array_equal(found[1], wanted[1])
    np.testing.assert_allclose(found[0], wanted[0], atol=1e-5)


def test_a_products_category_counts_by_its_chance_to_be_what_the_query_is_about(trained) -> None:
    from tfrs_shop.model.intent_head import query_pieces
    from tfrs_shop.served import text_search

    model, data = trained
    everything = tf.constant([[False] + [True] * data.catalogue.size])
    query = tf.constant([b"black bag"])
    assert model.intent_head.knows == (True, True)

    def scores(intent) -> np.ndarray:
        search = text_search.TextSearch(data, data.lexicon, None, model.search, intent)
        found, products = search.best(query, search.terms(query), everything, data.catalogue.size)
        return found.numpy()[0][np.argsort(products.numpy()[0])]

    chance = tf.nn.softmax(model.intent_head(*query_pieces(query))[0]).numpy()[0]
    leaf = model.leaf_category.numpy()[1:]
    assert (leaf > 0).all()
    np.testing.assert_allclose(scores(model.intent_head) - scores(None), 0.2 * chance[leaf - 1], atol=1e-5)
