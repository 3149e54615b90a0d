"""What one pass over a split gives, and what evaluation makes of it, on a trained model."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf
from conftest import quiet

from tfrs_shop.dataset import read_records
from tfrs_shop.errors import UserError
from tfrs_shop.evaluation import compare, evaluate, load_compared, shown, target_ranks
from tfrs_shop.evaluation_pass import best_products, rank_split, training_users
from tfrs_shop.metrics.pairs import ranking_head_metrics
from tfrs_shop.model.ranks import ranks_of
from tfrs_shop.run import read_run, write_run


@pytest.fixture(scope="module", params=[False, True], ids=["all", "exclude-seen"])
def ranked(request, trained):
    model, data = trained
    return rank_split(model, data, "test", request.param), request.param


@pytest.fixture(scope="module")
def result(trained):
    model, data = trained
    return evaluate(model, data, "test", False, quiet, other=model)


def test_the_best_products_are_those_with_the_highest_scores_and_never_none() -> None:
    scores = np.array([[99.0, 0.1, 0.4, 0.3], [99.0, 3.0, 2.0, 1.0]], np.float32)
    assert best_products(scores, None, 3).tolist() == [[2, 3, 1], [1, 2, 3]]
    assert best_products(scores, None, 2).tolist() == [[2, 3], [1, 2]]


def test_of_equal_scores_the_first_product_comes_first() -> None:
    scores = np.array([[0.0, 1.0, 2.0, 1.0, 1.0, 2.0]], np.float32)
    assert best_products(scores, None, 5).tolist() == [[2, 5, 1, 3, 4]]


def test_seen_products_are_left_out_and_the_end_is_filled_with_none() -> None:
    scores = np.array([[99.0, 0.1, 0.4, 0.3], [99.0, 3.0, 2.0, 1.0]], np.float32)
    assert best_products(scores, np.array([[2, 2], [1, 0]], np.int32), 3).tolist() == [[3, 1, 0], [2, 3, 0]]
    assert scores[0, 2] == np.float32(0.4)


@pytest.mark.parametrize(("products", "length"), [(1, 1), (7, 3), (150, 100), (900, 100), (3000, 20)])
@pytest.mark.parametrize("ties", [False, True])
def test_the_best_products_are_those_of_a_plain_sort(products: int, length: int, ties: bool) -> None:
    random = np.random.default_rng(products)
    shape = (6, products + 1)
    scores = (random.integers(0, 3, shape) if ties else random.normal(size=shape)).astype(np.float32)
    seen = random.integers(0, products + 1, (6, max(1, products // 2))).astype(np.int32)
    for out in (None, seen):
        expected = []
        for row in range(6):
            left = set(range(1, products + 1)) - set(() if out is None else out[row].tolist())
            best = sorted(left, key=lambda product: (-scores[row, product], product))[:length]
            expected.append(best + [0] * (length - len(best)))
        assert best_products(scores, out, length).tolist() == expected


def test_the_best_products_are_those_of_tensorflow() -> None:
    scores = np.random.default_rng(5).permutation(4000).reshape(4, 1000).astype(np.float32)
    assert best_products(scores, None, 100).tolist() == (tf.math.top_k(scores[:, 1:], 100)[1].numpy() + 1).tolist()


def test_a_seen_product_is_taken_off_a_rank_once_and_the_target_never() -> None:
    scores = tf.constant([[9.0, 5.0, 4.0, 3.0, 2.0, 3.0]] * 4)
    rows = {
        "label": tf.constant([3, 3, 3, 4]),
        # Nothing; one that was seen twice; the target and one behind it; all others, ties among them.
        "seen_product": tf.constant([[0, 0, 0, 0], [1, 0, 1, 0], [4, 3, 0, 0], [1, 2, 3, 5]]),
    }
    assert ranks_of(scores, rows).numpy().tolist() == [3, 3, 3, 4]
    assert ranks_of(scores, rows, True).numpy().tolist() == [3, 2, 3, 0]


def test_ranks_and_lists_come_out_of_the_same_scores(ranked, trained) -> None:
    found, exclude_seen = ranked
    model, data = trained
    # Scores of another traced graph may differ in the last bit, and two products change places.
    assert np.mean(found.ranks != target_ranks(model, data, "test", exclude_seen)) < 0.05
    place = np.argmax(found.lists == found.label[:, None], 1)
    listed = (found.lists == found.label[:, None]).any(1)
    assert listed.sum() > 20
    if not exclude_seen:
        # A list has 100 products, so what is ranked before is on it; ties may stand on either side of the target.
        assert np.mean(found.ranks[listed] == place[listed]) > 0.95
        assert (found.ranks[listed] >= place[listed]).all()
        assert (found.ranks[~listed] >= 100).all()


def test_no_list_repeats_a_product_or_shows_one_that_was_seen(ranked, trained) -> None:
    found, exclude_seen = ranked
    model, data = trained
    assert found.lists.shape == (120, 100)
    for products in found.lists:
        assert len(set(products[products > 0])) == np.sum(products > 0)
    rows = next(iter(data.evaluation_batches("test", model.config.towers.max_history)))
    shown_again = [
        bool(set(products[products > 0]) & set(seen))
        for products, seen in zip(found.lists, rows["seen_product"].numpy(), strict=False)
    ]
    assert any(shown_again) is not exclude_seen


def test_the_ranking_head_is_asked_about_the_target_and_another_product(ranked, trained) -> None:
    found, _ = ranked
    model, data = trained
    assert len(found.chosen) == len(found.sampled) == len(found.predicted_rating) == 120
    vectors = model.product_vectors()
    rows = next(iter(data.evaluation_batches("test", model.config.towers.max_history)))
    known = tf.cast(rows["history_product"] > 0, tf.float32)[..., None]
    queries = model.query_vectors(rows, tf.gather(vectors, rows["history_product"]) * known)[:, -1]
    products = tf.gather(vectors, rows["label"])
    logits = model.ranking_head(queries, products)
    rating = model.rating_head(
        {"index": rows["label"][:, None], "vector": products[:, None]},
        {
            "index": rows["history_product"],
            "vector": tf.gather(vectors, rows["history_product"]) * known,
            "rating": rows["history_rating"],
        },
    )[:, 0]
    kind = rows["label_event_type"].numpy() - 1
    assert found.chosen == pytest.approx(logits.numpy()[np.arange(120), kind], abs=1e-4)
    assert found.predicted_rating == pytest.approx(rating.numpy(), abs=1e-4)


def test_a_history_counts_earlier_events_with_a_product(trained, ranked) -> None:
    found, _ = ranked
    _, data = trained
    batches = read_records(data.directory, data.manifest, "test", 256).as_numpy_iterator()
    lists = [
        [*recent, *older]
        for batch in batches
        for recent, older in zip(batch["history_product_id"], batch["older_product_id"], strict=True)
    ]
    # An event without a product is a search.
    assert found.history_length.tolist() == [sum(product != b"" for product in products) for products in lists]
    assert any(b"" in products for products in lists)


def test_the_users_with_training_examples_are_known(trained) -> None:
    _, data = trained
    known = training_users(data)
    assert 100 < len(known) <= 120
    assert known <= set(data.users()["user_id"])


def test_the_result_has_flat_keys_and_four_parts(result) -> None:
    for name in ("recall@10", "ndcg@10", "coverage@10", "gini@10", "novelty@10", "debiased_recall@10"):
        assert isinstance(result[name], float)
    assert {name for name, value in result.items() if isinstance(value, dict)} == {
        "behavior",
        "intervals",
        "slices",
        "ranking",
        "compared",
    }
    for name, (low, high) in result["intervals"].items():
        assert low < result[name] < high
    parts = ("head_products", "tail_products", "unseen_products")
    assert sum(result["slices"][part]["examples"] for part in parts) == result["examples"]
    assert result["coverage@10"] <= result["coverage@100"] <= 1.0
    assert result["diversity_top_category@10"] <= result["diversity_category@10"]
    assert result["diversity_embedding_of"] == "product vectors"
    assert result["ranking"]["pairs"] == 2 * result["examples"]
    json.dumps(result, allow_nan=False)


def test_the_pairs_of_the_ranking_head_are_the_same_again(result, ranked) -> None:
    again, _ = ranked  # seen products do not matter to pairs
    judged = ranking_head_metrics(again.chosen, again.sampled, again.rating, again.predicted_rating)
    assert judged["auc"] == result["ranking"]["auc"]


def test_without_a_trained_head_all_else_is_the_same(result, trained) -> None:
    model, data = trained
    config = model.config
    model.config = dataclasses.replace(config, ranking=dataclasses.replace(config.ranking, weight=0.0))
    try:
        again = evaluate(model, data, "test", False, quiet)
    finally:
        model.config = config
    assert again["ranking"] == {}
    assert "compared" not in again
    assert again["intervals"] == result["intervals"]
    assert again["slices"] == result["slices"]


def test_a_model_is_no_better_than_itself_and_better_than_a_worse_one(result, ranked) -> None:
    assert result["compared"]["ndcg@10"]["difference"] == 0.0
    assert result["compared"]["ndcg@10"]["p_value"] == 1.0
    found, _ = ranked
    worse = compare(found, dataclasses.replace(found, ranks=found.ranks + 5))["ndcg@10"]
    assert worse["difference"] > 0.0
    assert worse["interval"][0] > 0.0
    assert worse["p_value"] == pytest.approx(1 / 10_001)


def test_only_a_run_on_the_same_split_can_be_compared(run, trained, tmp_path) -> None:
    _, data = trained
    other = tmp_path / "run"
    other.mkdir()
    moved = tmp_path / "data"
    moved.symlink_to(data.directory)
    write_run(other, dataclasses.replace(read_run(run), data=str(moved)))
    with pytest.raises(UserError, match=r"config\.yaml"):  # the same data by another path: goes on to load it
        load_compared(other, data)
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in data.directory.iterdir():
        (copy / path.name).symlink_to(path)
    manifest = json.loads((copy / "dataset.json").read_text())
    manifest["split"] = {"rule": "global_time"}
    (copy / "dataset.json").unlink()
    (copy / "dataset.json").write_text(json.dumps(manifest))
    write_run(other, dataclasses.replace(read_run(run), data=str(copy)))
    with pytest.raises(UserError, match=r"split otherwise than .*; only runs on the same data can be compared"):
        load_compared(other, data)
    assert load_compared(run, data).products == data.catalogue.size


def test_the_lines_for_people_show_each_part(result) -> None:
    lines = list(shown(result))
    assert f"recall@10: {result['recall@10']:.4f}" in lines
    assert "slices:" in lines
    low, high = result["intervals"]["mrr"]
    assert f"  mrr: {low:.4f} to {high:.4f}" in lines
    assert any(line.startswith("  head_products: examples ") for line in lines)
    assert not any("reliability" in line for line in lines)
