"""Metrics and ranks against independent implementations."""

import json

import numpy as np
import pytest
import pytrec_eval
import tensorflow as tf
from sklearn.metrics import ndcg_score

from tfrs_shop.errors import UserError
from tfrs_shop.evaluation import evaluate, ranking_metrics, target_ranks, write_json
from tfrs_shop.model.ranks import ranks_of


def test_a_target_at_ranks_0_4_and_10_gives_these_metrics() -> None:
    metrics = ranking_metrics(np.array([0, 4, 10]))
    assert metrics["recall@1"] == pytest.approx(1 / 3)
    assert metrics["recall@5"] == pytest.approx(2 / 3)
    assert metrics["recall@10"] == pytest.approx(2 / 3)
    assert metrics["recall@20"] == 1.0
    assert metrics["precision@5"] == pytest.approx(2 / 15)
    assert metrics["f1@5"] == pytest.approx(2 * (2 / 15) * (2 / 3) / (2 / 15 + 2 / 3))
    assert metrics["ndcg@5"] == pytest.approx((1 + 1 / np.log2(6)) / 3)
    assert metrics["mrr"] == pytest.approx((1 + 1 / 5 + 1 / 11) / 3)
    assert metrics["mrr@10"] == pytest.approx((1 + 1 / 5) / 3)
    assert metrics["accuracy"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("seed", range(5))
def test_metrics_equal_those_of_trec_eval_and_scikit_learn_on_random_rankings(seed: int) -> None:
    random = np.random.default_rng(seed)
    products, users = 150, 40
    scores = random.normal(size=(users, products))
    targets = random.integers(products, size=users)
    own = scores[np.arange(users), targets][:, None]
    metrics = ranking_metrics((scores >= own).sum(1) - 1)
    cutoffs = "1,5,10,20,100"
    names = {"recall": "recall", "P": "precision", "ndcg_cut": "ndcg", "map_cut": "map"}
    judge = pytrec_eval.RelevanceEvaluator(
        {f"u{u}": {f"p{targets[u]}": 1} for u in range(users)}, {*(f"{name}.{cutoffs}" for name in names), "recip_rank"}
    )
    judged = judge.evaluate({f"u{u}": {f"p{p}": float(scores[u, p]) for p in range(products)} for u in range(users)})
    for theirs, ours in names.items():
        for cutoff in cutoffs.split(","):
            expected = np.mean([of_user[f"{theirs}_{cutoff}"] for of_user in judged.values()])
            assert metrics[f"{ours}@{cutoff}"] == pytest.approx(expected), ours
            assert metrics[f"mrr@{cutoff}"] == metrics[f"map@{cutoff}"]
    assert metrics["mrr"] == pytest.approx(np.mean([of_user["recip_rank"] for of_user in judged.values()]))
    for cutoff in (1, 5, 10, 20, 100):
        assert metrics[f"ndcg@{cutoff}"] == pytest.approx(ndcg_score(np.eye(products)[targets], scores, k=cutoff))


def slow_ranks(model, data, exclude_seen: bool) -> list[int]:
    """The same ranks, one user at a time in plain Python."""
    vectors = model.product_vectors()
    ranks = []
    for rows in data.evaluation_batches("test", model.config.towers.max_history, 64):
        scores = model.final_scores(vectors, rows).numpy()
        for row, target, seen in zip(scores, rows["label"].numpy(), rows["seen_product"].numpy(), strict=True):
            hidden = set(seen.tolist()) - {target} if exclude_seen else set()
            before = [p for p in range(1, len(row)) if p not in hidden and p != target and row[p] >= row[target]]
            ranks.append(len(before))
    return ranks


@pytest.mark.parametrize("exclude_seen", [False, True])
def test_ranks_equal_those_of_a_plain_loop(trained, exclude_seen: bool) -> None:
    model, data = trained
    # The tail of the seconds is rounding: two products whose scores differ in the last bit may change places.
    difference = target_ranks(model, data, "test", exclude_seen) - np.array(slow_ranks(model, data, exclude_seen))
    assert np.abs(difference).max() <= 1
    assert np.mean(difference != 0) < 0.05


def test_excluding_seen_products_never_makes_a_rank_worse(trained) -> None:
    model, data = trained
    assert (target_ranks(model, data, "test", True) <= target_ranks(model, data, "test", False)).all()


def test_equal_scores_count_against_the_target(trained) -> None:
    model, data = trained
    for rows in data.evaluation_batches("test", model.config.towers.max_history, 64):
        scores = tf.zeros([len(rows["label"]), data.catalogue.size + 1])
        assert set(ranks_of(scores, rows).numpy().tolist()) == {data.catalogue.size - 1}


def test_the_result_names_its_protocol(trained) -> None:
    model, data = trained
    result = evaluate(model, data, "test", True, lambda line: None)
    assert result["protocol"] == "exclude-seen"
    assert result["split"] == "test"
    assert result["examples"] == data.manifest.counts["examples"]["test"]
    assert 0.0 <= result["ndcg@10"] <= result["recall@10"] <= 1.0


def test_an_unknown_split_is_one_sentence(trained) -> None:
    model, data = trained
    with pytest.raises(UserError, match="--split dev: is none of train, validation, test"):
        evaluate(model, data, "dev", False, lambda line: None)


def test_json_is_written_whole_or_refused(tmp_path) -> None:
    write_json(tmp_path / "new" / "metrics.json", {"recall@10": 0.5})
    assert json.loads((tmp_path / "new" / "metrics.json").read_text()) == {"recall@10": 0.5}
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot be written"):
        write_json(tmp_path / "file" / "metrics.json", {})
