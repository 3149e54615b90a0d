"""`tfrs-shop evaluate-search`: its measures, its files, and a catalogue alone from raw rows to figures."""

import gzip
import json
import math

import numpy as np
import pytest
import pytrec_eval
from bundle_support import only_questions
from conftest import quiet
from preprocess_support import preprocess, write_csv, write_jsonl

from tfrs_shop.errors import UserError
from tfrs_shop.search_evaluation import evaluate_search, measures, read_judgments, read_queries, read_rows

PRODUCTS = [
    {"product_id": "A", "title": "Red running shoes", "category": ["Shoes"], "bullet_points": ["light", "washable"]},
    {"product_id": "B", "title": "Blue running shoes", "category": ["Shoes"], "bullet_points": []},
    {"product_id": "C", "title": "Red wine glass", "category": ["Kitchen"], "bullet_points": ["washable"]},
    {"product_id": "D", "title": "Dog bowl", "category": ["Pets"], "bullet_points": []},
]


def test_the_measures_of_a_small_ranking() -> None:
    # Gains 0, 7, 0, 1 at places 1 to 4, and the best order is 7, 3, 1: C was not found.
    found = measures(["X", "A", "Y", "B"], {"A": 3, "B": 1, "C": 2, "Y": 0}, top=3)
    ideal = 7 + 3 / math.log2(3) + 1 / 2
    assert found["ndcg@10"] == pytest.approx((7 / math.log2(3) + 1 / math.log2(5)) / ideal)
    # Of the judged ones alone the order is A, Y, B.
    assert found["ndcg@10_judged_pool"] == pytest.approx((7 + 1 / 2) / ideal)
    assert found["recall@100"] == 1.0
    assert found["mrr"] == 0.5


def test_a_query_without_a_product_of_the_top_grade_has_no_recall() -> None:
    assert "recall@100" not in measures(["A"], {"A": 2}, top=3)


def test_the_measures_are_those_of_trec_eval() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        grades = {f"P{place}": int(random.integers(0, 4)) for place in random.permutation(200)[:40]}
        ranked = [f"P{place}" for place in random.permutation(200)]
        found = measures(ranked, grades, top=3)
        # TREC's gain is the grade itself, so the gains are given as grades.
        gains = {"q": {product: 2**grade - 1 for product, grade in grades.items()}}
        run = {"q": {product: float(-place) for place, product in enumerate(ranked)}}
        wanted = pytrec_eval.RelevanceEvaluator(gains, {"ndcg_cut.10", "recip_rank"}).evaluate(run)["q"]
        assert found["ndcg@10"] == pytest.approx(wanted["ndcg_cut_10"])
        assert found["mrr"] == pytest.approx(wanted["recip_rank"])
        best = {"q": {product: int(grade == 3) for product, grade in grades.items()}}
        recall = pytrec_eval.RelevanceEvaluator(best, {"recall.100"}).evaluate(run)["q"]["recall_100"]
        assert found["recall@100"] == pytest.approx(recall)


@pytest.fixture(scope="module")
def catalogue_bundle(tmp_path_factory, small_config):
    """A bundle of four products that nobody has looked at yet, and no events at all."""
    from tfrs_shop.export import Serving, export
    from tfrs_shop.run import load_run
    from tfrs_shop.training import train

    base = tmp_path_factory.mktemp("catalogue")
    preprocess(base / "data", "--products", write_jsonl(base / "products.jsonl", PRODUCTS))
    said: list[str] = []
    train(base / "data", base / "run", small_config, said.append)
    assert any("No training examples" in line for line in said)
    model, data, _ = load_run(base / "run")
    with only_questions("search"):
        return export(model, data, base / "shop", "brute_force", Serving(3, "bought"), quiet)


def test_a_catalogue_alone_is_searched_and_measured(catalogue_bundle, tmp_path) -> None:
    queries = [
        {"query_id": 1, "query": "red running shoe"},
        {"query_id": 2, "query": "washable glass"},
        {"query_id": 3, "query": "not judged"},
        {"query_id": 4, "query": "dog"},
    ]
    judgments = [
        {"query_id": "1", "product_id": "A", "grade": 3},
        {"query_id": "1", "product_id": "B", "grade": 1},
        {"query_id": "1", "product_id": "B", "grade": 2},
        {"query_id": "2", "product_id": "C", "grade": "3"},
        {"query_id": "2", "product_id": "gone", "grade": "3"},
        {"query_id": "4", "product_id": "A", "grade": 0},
        {"query_id": "9", "product_id": "A", "grade": 3},
    ]
    result = evaluate_search(
        catalogue_bundle,
        write_jsonl(tmp_path / "queries.jsonl.gz", queries),
        write_csv(tmp_path / "judgments.csv", judgments),
        quiet,
    )
    # What is not in the catalogue is not asked for.
    assert (result["ndcg@10"], result["mrr"], result["recall@100"]) == (1.0, 1.0, 1.0)
    assert result["counts"] == {
        "queries": 4,
        "queries_measured": 2,
        "queries_without_judgments": 1,
        "queries_without_relevant": 1,
        "judgments": 6,
        "judgments_repeated": 1,
        "judgments_of_unknown_queries": 1,
        "judged_products_not_in_catalogue": 1,
        "products": 4,
    }


def test_the_command_writes_the_figures(catalogue_bundle, tmp_path) -> None:
    from typer.testing import CliRunner

    from tfrs_shop.cli import app

    queries = write_csv(tmp_path / "q.csv.gz", [{"query_id": "1", "query": "dog"}])
    judgments = write_csv(tmp_path / "j.csv.gz", [{"query_id": "1", "product_id": "D", "grade": 1}])
    flags = ["--bundle", catalogue_bundle, "--queries", queries, "--judgments", judgments]
    result = CliRunner().invoke(app, ["evaluate-search", *map(str, flags), "--json", str(tmp_path / "f.json")])
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "f.json").read_text())
    assert (found["ndcg@10"], found["ndcg@10_judged_pool"], found["recall@100"], found["mrr"]) == (1, 1, 1, 1)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("j.csv", "query_id,product_id,grade\n1,A,good\n", r"j.csv: row 1: the grade 'good' is no number"),
        ("j.csv", "query_id,product_id,grade\n1,A,-1\n", "the grade '-1' is no number from 0"),
        ("j.csv", "query_id,product_id,grades\n1,A,1\n", "row 1 has no grade; it has query_id, product_id, grades"),
        ("j.csv", "query_id,product_id,grade\n", "j.csv: has no judgment"),
        ("j.jsonl", '{"query_id": 1\n', "j.jsonl: is broken"),
        ("j.jsonl", "[1]\n", "row 1 is no JSON object"),
    ],
)
def test_a_bad_judgments_file_is_one_sentence(tmp_path, name, text, message) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        read_judgments(tmp_path / name)


def test_files_that_are_missing_or_cut_off_are_named(tmp_path) -> None:
    with pytest.raises(UserError, match=r"none.csv: cannot be read \(No such file or directory\)"):
        read_queries(tmp_path / "none.csv")
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(b"query_id,query\n1,a\n" * 99)[:-12])
    with pytest.raises(UserError, match=r"cut\.csv\.gz: is broken"):
        list(read_rows(tmp_path / "cut.csv.gz", ("query_id", "query")))


def test_queries_that_no_judgment_is_of_are_refused(tmp_path) -> None:
    queries = write_csv(tmp_path / "q.csv", [{"query_id": "1", "query": "dog"}])
    judgments = write_csv(tmp_path / "j.csv", [{"query_id": "one", "product_id": "D", "grade": 1}])
    with pytest.raises(UserError, match=r"j.csv: none of its query ids is in .*q.csv \(such as 'one'\)"):
        evaluate_search(tmp_path, queries, judgments, quiet)


def test_what_is_no_bundle_is_refused(tmp_path) -> None:
    queries = write_csv(tmp_path / "q.csv", [{"query_id": "1", "query": "dog"}])
    judgments = write_csv(tmp_path / "j.csv", [{"query_id": "1", "product_id": "D", "grade": 1}])
    with pytest.raises(UserError, match="is no bundle; give a version's directory"):
        evaluate_search(tmp_path, queries, judgments, quiet)
