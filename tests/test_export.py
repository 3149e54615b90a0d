"""Bundles: what they hold, what they answer, and what refuses to be exported."""

import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from bundle_support import ask, user_row

from tfrs_shop.errors import UserError
from tfrs_shop.export import Serving, export, next_version
from tfrs_shop.index import build_index, recall_of
from tfrs_shop.model_card import model_card
from tfrs_shop.schema import BOUGHT


def quiet(line: str) -> None:
    pass


def test_the_signatures_are_narrow(signatures) -> None:
    inputs = {
        name: set(function.structured_input_signature[1]) for name, function in signatures.items() if name != "keep"
    }
    limits = {"exclude_product_id", "category", "price_min", "price_max", "exclude_seen", "now"}
    assert inputs == {
        "recommend_diverse": {"user_id", "method", "strength", "seed"},
        "recommend_for_history_diverse": {"history_product_id", "history_event_type", "method", "strength", "seed"},
        "recommend_explained": {"user_id"},
        "recommend_for_history_explained": {"history_product_id", "history_event_type"},
        "explain": {"user_id", "product_id"},
        "explain_for_history": {"history_product_id", "history_event_type", "product_id"},
        "user_profile": {"user_id"},
        "user_profile_for_history": {"history_product_id", "history_event_type"},
        "serving_default": {"user_id"},
        "recommend": {"user_id"},
        "recommend_for_history": {"history_product_id", "history_event_type"},
        "recommend_filtered": {"user_id"} | limits,
        "recommend_for_history_filtered": {"history_product_id", "history_event_type"} | limits,
        "similar": {"product_id"},
        "complements": {"product_id"},
        "rank": {"user_id", "candidate_product_id"},
        "predict_behavior": {"history_product_id", "history_event_type"},
        "predict_behavior_for_user": {"user_id"},
        "query_intent": {"query"},
        "product_details": {"product_id"},
        "user_history": {"user_id"},
        "example_users": {"seed"},
        "search": {"query"},
        "search_explained": {"query"},
        "search_for_history": {"query", "history_product_id", "history_event_type"},
    }


def test_recommendations_are_the_best_scores_of_the_model_without_what_was_bought(signatures, trained) -> None:
    model, data = trained
    users = data.users()
    vectors = model.product_vectors().numpy()
    for place in range(0, 40, 7):
        user = users["user_id"][place]
        answer = ask(signatures, "recommend", user_id=[user])
        bought = {
            product
            for product, kind in zip(
                users["history_product_id"][place], users["history_event_type"][place], strict=True
            )
            if kind.decode() in BOUGHT
        }
        scores = np.exp(model.final_scores(tf.constant(vectors), user_row(data, place)).numpy()[0])
        for product in bought - {b""}:
            scores[data.values["product_id"].index(product) + 1] = -np.inf
        scores[0] = -np.inf
        expected = np.argsort(-scores)[:5]
        np.testing.assert_allclose(answer["score"][0], scores[expected], atol=1e-5)
        assert set(answer["product_id"][0]).isdisjoint(bought)
        titles = dict(zip(data.catalogue.product_id.tolist(), data.catalogue.title.tolist(), strict=True))
        assert [titles[product] for product in answer["product_id"][0]] == answer["title"][0].tolist()


@pytest.mark.usefixtures("few_questions")
@pytest.mark.parametrize("weight", [0.0, 0.4])
def test_what_is_served_is_what_was_evaluated(trained, tmp_path, weight: float) -> None:
    model, data = trained
    before, model.transition_weight = model.transition_weight, weight
    try:
        path = export(model, data, tmp_path / "shop", "brute_force", Serving(8, "none"), quiet)
        answer_of = tf.saved_model.load(str(path)).signatures["recommend_for_history"]
        vectors = model.product_vectors()
        for rows in data.evaluation_batches("test", model.config.towers.max_history, 120).take(1):
            history = rows["history_product"].numpy()
            keep = (history > 0).any(1) & ~((rows["history_query"].numpy() > 0) & (history == 0)).any(1)
            assert keep.sum() >= 5
            rows = {name: tf.boolean_mask(value, keep) for name, value in rows.items()}
            rows["profile"] = tf.zeros_like(rows["profile"])
            rows["history_timestamp"] = -tf.ones_like(rows["history_timestamp"])
            # Whether a session begins after a history that a request gives is not known.
            rows["usual_share"] = tf.zeros_like(rows["usual_share"])
            chances = np.exp(model.final_scores(vectors, rows).numpy())
            kinds = np.array([b"", *data.values["event_type"]])
            answer = answer_of(
                history_product_id=tf.constant(data.catalogue.product_id[rows["history_product"].numpy()].tolist()),
                history_event_type=tf.constant(kinds[rows["history_event_type"].numpy()].tolist()),
            )
            np.testing.assert_allclose(answer["score"].numpy(), -np.sort(-chances, axis=1)[:, :8], atol=1e-4)
    finally:
        model.transition_weight = before


def test_an_unknown_user_gets_what_is_popular(signatures, trained) -> None:
    _, data = trained
    answer = ask(signatures, "recommend", user_id=["nobody at all"])
    popular = np.argsort(-data.catalogue.train_count[1:], kind="stable")[:5] + 1
    assert answer["product_id"][0].tolist() == data.catalogue.product_id[popular].tolist()
    assert (np.diff(answer["score"][0]) <= 0).all()


def test_a_fresh_history_is_answered_without_anything_stored(signatures, trained) -> None:
    _, data = trained
    products = data.values["product_id"][:2]
    answer = ask(
        signatures, "recommend_for_history", history_product_id=[products], history_event_type=[["view", "cart"]]
    )
    assert answer["product_id"].shape == (1, 5)
    assert np.isfinite(answer["score"]).all()


def test_what_was_just_bought_is_left_out_and_what_was_viewed_is_not(signatures, trained) -> None:
    _, data = trained
    product = ask(signatures, "recommend", user_id=[data.users()["user_id"][0]])["product_id"][0][0]
    viewed = ask(signatures, "recommend_for_history", history_product_id=[[product]], history_event_type=[["view"]])
    bought = ask(signatures, "recommend_for_history", history_product_id=[[product]], history_event_type=[["purchase"]])
    assert product not in bought["product_id"][0]
    assert viewed["product_id"].shape == bought["product_id"].shape


def test_padding_and_unknown_products_do_not_change_the_answer(signatures, trained) -> None:
    _, data = trained
    one, two = data.values["product_id"][:2]
    plain = ask(
        signatures, "recommend_for_history", history_product_id=[[one, two]], history_event_type=[["view", "cart"]]
    )
    padded = ask(
        signatures,
        "recommend_for_history",
        history_product_id=[["", one, "nonsense", two, ""]],
        history_event_type=[["", "view", "cart", "cart", ""]],
    )
    assert padded["product_id"].tolist() == plain["product_id"].tolist()
    np.testing.assert_allclose(padded["score"], plain["score"], atol=1e-5)


def test_an_unknown_event_type_is_taken_for_an_event(signatures, trained) -> None:
    _, data = trained
    product = data.values["product_id"][0]
    answer = ask(signatures, "recommend_for_history", history_product_id=[[product]], history_event_type=[["dance"]])
    empty = ask(signatures, "recommend_for_history", history_product_id=[[""]], history_event_type=[[""]])
    assert np.isfinite(answer["score"]).all()
    assert answer["product_id"].tolist() != empty["product_id"].tolist()


def test_a_batch_is_answered_as_its_rows_are(signatures, trained) -> None:
    _, data = trained
    users = [*data.users()["user_id"][:6], b"nobody"]
    together = ask(signatures, "recommend", user_id=users)
    for place, user in enumerate(users):
        alone = ask(signatures, "recommend", user_id=[user])
        assert alone["product_id"][0].tolist() == together["product_id"][place].tolist()


def test_similar_products_do_not_include_the_product_itself(signatures, trained) -> None:
    _, data = trained
    product = data.values["product_id"][3]
    answer = ask(signatures, "similar", product_id=[product])
    assert product not in answer["product_id"][0]
    assert ((answer["score"] >= -1.001) & (answer["score"] <= 1.001)).all()


def test_rank_orders_all_candidates_and_puts_unknown_ones_last(signatures, trained) -> None:
    _, data = trained
    candidates = [*data.values["product_id"][:4], b"nonsense", b""]
    answer = ask(signatures, "rank", user_id=[data.users()["user_id"][0]], candidate_product_id=[candidates])
    assert sorted(answer["product_id"][0]) == sorted(candidates)
    assert set(answer["product_id"][0][-2:]) == {b"nonsense", b""}
    assert (np.diff(answer["score"][0]) <= 0).all()


def test_rank_answers_the_rating_that_the_model_expects_after_the_users_own_ratings(signatures, trained) -> None:
    model, data = trained
    users, length = data.users(), model.config.towers.max_history
    place = next(i for i, rated in enumerate(users["history_rating"]) if not np.isnan(rated[-length:]).all())
    indices = {value: number for number, value in enumerate(data.values["product_id"], 1)}
    history = tf.constant([[indices.get(value, 0) for value in users["history_product_id"][place][-length:]]])
    vectors = model.product_vectors()
    past = {
        "index": history,
        "vector": tf.gather(vectors, history) * tf.cast(history > 0, tf.float32)[..., None],
        "rating": tf.constant([users["history_rating"][place][-length:]], tf.float32),
    }
    candidates = tf.range(1, 6)[None]
    expected = model.rating_head({"index": candidates, "vector": tf.gather(vectors, candidates)}, past).numpy()[0]
    asked = {"user_id": [users["user_id"][place]], "candidate_product_id": [data.values["product_id"][:5]]}
    answer = ask(signatures, "rank", **asked)
    found = dict(zip(answer["product_id"][0].tolist(), answer["rating"][0].tolist(), strict=True))
    assert [found[value] for value in data.values["product_id"][:5]] == pytest.approx(expected, abs=1e-4)


def test_the_file_list_names_every_file_with_its_size_and_hash(bundle) -> None:
    listed = json.loads((bundle / "assets.extra" / "files.json").read_text())["files"]
    found = {str(p.relative_to(bundle)) for p in bundle.rglob("*") if p.is_file()} - {"assets.extra/files.json"}
    assert set(listed) == found
    for name, entry in listed.items():
        content = (bundle / name).read_bytes()
        assert entry == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def test_warm_up_requests_and_golden_answers_cover_every_door(bundle, signatures) -> None:
    from tensorflow_serving.apis import prediction_log_pb2

    asked = set()
    for record in tf.data.TFRecordDataset(str(bundle / "assets.extra" / "golden_requests")):
        log = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log
        name = log.request.model_spec.signature_name
        asked.add(name)
        answer = signatures[name](**{key: tf.make_ndarray(value) for key, value in log.request.inputs.items()})
        for key, value in log.response.outputs.items():
            if key == "score":
                np.testing.assert_allclose(answer[key].numpy(), tf.make_ndarray(value), atol=1e-5)
            else:
                assert answer[key].numpy().tolist() == tf.make_ndarray(value).tolist()
    assert asked == set(signatures) - {"recommend", "keep"}
    warm_up = sum(1 for _ in tf.data.TFRecordDataset(str(bundle / "assets.extra" / "tf_serving_warmup_requests")))
    assert warm_up >= 4


@pytest.mark.usefixtures("few_questions")
def test_the_next_export_is_the_next_version(trained, tmp_path) -> None:
    model, data = trained
    first = export(model, data, tmp_path / "shop", "brute_force", Serving(3, "none"), quiet)
    second = export(model, data, tmp_path / "shop", "scann", Serving(1000, "seen"), quiet)
    assert (first.name, second.name) == ("1", "2")
    assert sorted(path.name for path in (tmp_path / "shop").iterdir()) == ["1", "2"]
    about = json.loads((second / "assets.extra" / "bundle.json").read_text())
    assert about["index"]["kind"] == "scann"
    assert about["index"]["recall@10"] >= 0.98
    answer = tf.saved_model.load(str(second)).signatures["recommend"](user_id=tf.constant(["nobody"]))
    assert answer["product_id"].shape == (1, 200)


def test_a_model_card_tells_what_the_bundle_was_made_of(bundle, trained, signatures) -> None:
    _, data = trained
    card = (bundle / "assets.extra" / "model_card.md").read_text()
    assert all(f"`{name}`" in card for name in signatures if name != "keep")
    counts = data.catalogue.train_count[1:]
    assert f"| products | {len(counts)} |" in card
    assert f"| products with training events | {(counts > 0).sum()} |" in card
    assert f"{len(data.users()['user_id'])} users' histories are in the bundle" in card
    assert "| text encoder | none |" in card
    assert "| recall@10, validation |" not in card
    listed = json.loads((bundle / "assets.extra" / "files.json").read_text())
    assert "model_card.md" in json.dumps(listed)


def test_the_card_has_the_runs_metrics_where_they_are_known(trained) -> None:
    model, data = trained
    about = {"index": {"kind": "scann", "recall@10": 0.99}, "serving": {"k": 5, "exclude": "none"}}
    card = model_card(model, data, about, ["recommend"], {"loss": 3.0, "val_recall@10": 0.25})
    assert "| recall@10, validation | 0.2500 |" in card
    assert "| recall@10 of the index `scann` against exact search | 0.9900 |" in card
    assert "Answers may hold what the user has bought already." in card
    assert "width: 32" in card


def test_a_bundle_is_loaded_without_a_warning_where_tfrs_shop_is_not(bundle) -> None:
    code = (
        "import sys; sys.modules['tfrs_shop'] = None; import tensorflow as tf, tensorflow_text; "
        f"f = tf.saved_model.load({str(bundle)!r}).signatures; "
        "print(f['serving_default'](user_id=tf.constant(['x']))['product_id'].shape); "
        "x = tf.constant([['x']]); f['recommend_for_history'](history_product_id=x, history_event_type=x)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "(1, 5)" in result.stdout
    # What the optimizer says of operations whose memory it cannot tell.
    assert "PredictCost" not in result.stderr


@pytest.mark.parametrize(
    ("index", "serving", "message"),
    [
        ("faiss", Serving(5, "none"), "--index faiss: is none of scann, brute_force"),
        ("scann", Serving(0, "none"), "--k 0: must be at least 1"),
        ("scann", Serving(5, "all"), "--exclude all: is none of bought, seen, none"),
    ],
)
def test_wrong_flags_are_one_sentence_and_leave_nothing(trained, tmp_path, index, serving, message) -> None:
    model, data = trained
    with pytest.raises(UserError, match=message):
        export(model, data, tmp_path / "shop", index, serving, quiet)
    assert not (tmp_path / "shop").exists() or not any((tmp_path / "shop").iterdir())


@pytest.mark.usefixtures("few_questions")
def test_an_export_that_is_stopped_half_way_leaves_no_version(trained, tmp_path, monkeypatch) -> None:
    import tfrs_shop.export

    def stopped(directory) -> None:
        raise KeyboardInterrupt

    model, data = trained
    monkeypatch.setattr(tfrs_shop.export, "write_file_list", stopped)
    with pytest.raises(KeyboardInterrupt):
        export(model, data, tmp_path / "shop", "brute_force", Serving(3, "none"), quiet)
    assert list((tmp_path / "shop").iterdir()) == []


def test_a_directory_that_is_no_model_directory_is_refused(run) -> None:
    with pytest.raises(UserError, match="is no model directory"):
        next_version(run)


def test_scann_agrees_with_exact_search_on_clustered_vectors() -> None:
    random = np.random.default_rng(0)
    centres = random.normal(size=(40, 32))
    vectors = (centres[random.integers(40, size=3000)] + 0.3 * random.normal(size=(3000, 32))).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    queries = vectors[:200] + 0.05 * random.normal(size=(200, 32)).astype(np.float32)
    layer, recall = build_index("scann", vectors, queries, 50)
    assert recall >= 0.98
    exact = np.argsort(-(queries[:100] @ vectors.T), axis=1)[:, :10] + 1
    assert recall_of(layer(tf.constant(queries[:100]), k=10)[1].numpy(), exact) >= 0.98


def test_scann_refuses_a_catalogue_too_small_for_its_partitions() -> None:
    with pytest.raises(UserError, match="use --index brute_force"):
        build_index("scann", np.eye(8, dtype=np.float32), np.eye(8, dtype=np.float32), 5)
