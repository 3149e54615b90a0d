"""The preprocessing job end to end: what goes in, is counted, and comes out."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from preprocess_support import preprocess, records, rejected, serialized_records, write_csv, write_jsonl

from pipelines.preprocess import run
from tfrs_shop.errors import UserError

PRODUCTS = [
    {"product_id": "P1", "title": "Tom &amp; Jerry <b>Mug</b>", "category": ["Home", "Mugs"], "brand": "Ü", "price": 4},
    {"product_id": "P2", "title": "Green  Tea", "category": ["Food"], "price": "$2.50", "rating": 4.5},
    {"product_id": "P3", "title": "Never Sold", "category": "Home > Mugs", "brand": None, "price": None},
]
EVENTS = [
    {"user_id": "A", "product_id": "P1", "event_type": "view", "timestamp": "2024-01-01T10:00:00Z"},
    {"user_id": "A", "product_id": "", "event_type": "search", "timestamp": "2024-01-01T10:01:00Z", "query": "tea"},
    {"user_id": "A", "product_id": "P2", "event_type": "view", "timestamp": "2024-01-01T10:02:00Z", "session_id": "S"},
    {"user_id": "A", "product_id": "P2", "event_type": "purchase", "timestamp": "2024-01-01T10:03:00Z", "price": 2.5},
    {"user_id": "A", "product_id": "P2", "event_type": "return", "timestamp": "2024-01-02T10:03:00Z", "quantity": 1},
    {"user_id": "B", "product_id": "P1", "event_type": "gift", "timestamp": "2024-01-03T10:03:00Z"},
]
USERS = [{"user_id": "A", "city": "Oslo", "age": "34"}, {"user_id": "C", "city": "", "age": ""}]


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw")
    write_jsonl(folder / "products.jsonl", PRODUCTS)
    columns = {name: "" for event in EVENTS for name in event}
    write_csv(folder / "events.csv.gz", [{**columns, **event} for event in EVENTS])
    write_csv(folder / "users.csv", USERS)
    (folder / "numbers.yaml").write_text("users: {numeric: [age]}")
    return folder


@pytest.fixture(scope="module")
def output(raw, tmp_path_factory):
    output = tmp_path_factory.mktemp("out") / "data"
    flags = ["--products", raw / "products.jsonl", "--users", raw / "users.csv", "--mapping", raw / "numbers.yaml"]
    manifest, said = preprocess(output, "--events", raw / "events.csv.gz", *flags)
    return output, manifest, said


def test_a_numeric_attribute_of_users_has_its_statistics(output):
    statistics = output[1].statistics["profile_age"]
    assert (statistics["count"], statistics["mean"]) == (1, 34.0)


def test_counts_tell_rows_users_products_and_examples(output):
    assert output[1].counts == {
        "rows_read": 11,
        "rows_kept": 11,
        "rows_rejected": 0,
        "rows_skipped": 0,
        "users": 3,
        "products": 3,
        "examples": {"train": 2, "validation": 1, "test": 1},
        "event_types": {"gift": 1, "purchase": 1, "return": 1, "search": 1, "view": 2},
        "by_table": {
            "events": {"read": 6, "kept": 6, "rejected": 0, "skipped": 0, "over_cap": 0},
            "products": {"read": 3, "kept": 3, "rejected": 0, "skipped": 0},
            "users": {"read": 2, "kept": 2, "rejected": 0, "skipped": 0},
        },
        "rejected_by_reason": {},
    }


def test_the_summary_tells_the_counts(output, raw):
    said = output[2]
    assert said[:3] == [
        f"Reading events: {raw}/events.csv.gz",
        f"Reading products: {raw}/products.jsonl",
        f"Reading users: {raw}/users.csv",
    ]
    assert said[-6:-1] == [
        "events: 6 rows read, 6 kept, 0 rejected",
        "products: 3 rows read, 3 kept, 0 rejected",
        "users: 2 rows read, 2 kept, 0 rejected",
        "event types: 2 view, 1 gift, 1 purchase, 1 return, 1 search",
        "3 users, 3 products; examples: 2 train, 1 validation, 1 test",
    ]
    assert said[-1].startswith(f"Wrote {output[0]} in ")


def test_products_are_cleaned_tokenised_and_counted_in_training_only(output):
    found = {row["product_id"]: row for row in records(output[0], "products")}
    assert found["P1"]["title"] == "Tom & Jerry Mug"
    assert found["P1"]["category"] == ["Home", "Home > Mugs"]
    assert found["P1"]["words"] == ["tom", "jerry", "mug", "ü", "home", "mugs"]
    assert (found["P2"]["price"], found["P2"]["rating_mean"]) == (2.5, 4.5)
    assert {key: row["train_count"] for key, row in found.items()} == {"P1": 2, "P2": 0, "P3": 0}


def test_an_example_is_what_was_known_and_what_followed(output):
    (test,) = records(output[0], "test")
    nan = pytest.approx(float("nan"), nan_ok=True)
    assert test == {
        "user_id": "A",
        "history_product_id": ["P1", "", "P2"],
        "history_event_type": ["view", "search", "view"],
        "history_timestamp": [1704103200000, 1704103260000, 1704103320000],
        "history_query": ["", "tea", ""],
        "history_session_id": ["", "", "S"],
        "history_rating": [nan, nan, nan],
        "history_price": [nan, nan, nan],
        "history_quantity": [nan, nan, nan],
        # The purchase names no session: it is not of session S.
        "history_purchase_follows": [1, 1, 0],
        "older_product_id": [],
        "usual_product_id": ["P2", "P1"],
        "usual_weight": [1.0, pytest.approx(0.9)],
        "behavior_text": "Green Tea. tea. Tom & Jerry Mug",
        "profile_age": 34.0,
        "profile_age_bucket": "31..37.1",
        "profile_city": "Oslo",
        "history_offset": 0,
        "target_product_id": "P2",
        "target_event_type": "purchase",
        "target_timestamp": 1704103380000,
        "target_session_id": "",
        "target_rating": nan,
        "target_price": 2.5,
        "target_quantity": nan,
    }


def test_users_hold_all_their_events_and_a_profile_alone_is_a_user_too(output):
    found = {row["user_id"]: row for row in records(output[0], "users")}
    assert sorted(found) == ["A", "B", "C"]
    assert found["A"]["history_event_type"] == ["view", "search", "view", "purchase", "return"]
    assert (found["C"]["history_product_id"], found["C"]["profile_city"]) == ([], "")


def test_vocabularies_are_ranked_by_count_and_of_equals_by_value(output):
    path, manifest, _ = output
    found = {name: (path / entry["file"]).read_text().splitlines() for name, entry in manifest.vocabularies.items()}
    assert found == {
        "product_id": ["P1", "P2", "P3"],
        "event_type": ["view", "gift", "purchase", "return", "search"],
        "category": ["Home", "Home > Mugs", "Food"],
        "brand": ["Ü"],
        "query": ["tea"],
        "words": ["home", "mugs", "food", "green", "jerry", "mug", "never", "sold", "tea", "tom", "ü"],
        "profile_age_bucket": ["31..37.1"],
        "profile_city": ["Oslo"],
    }
    assert {name: entry["size"] for name, entry in manifest.vocabularies.items()} == {
        name: len(values) for name, values in found.items()
    }


def test_a_second_run_writes_the_same_files_byte_for_byte(output, raw, tmp_path):
    flags = ["--products", raw / "products.jsonl", "--users", raw / "users.csv", "--mapping", raw / "numbers.yaml"]
    preprocess(tmp_path / "again", "--events", raw / "events.csv.gz", *flags)
    names = sorted(path.relative_to(output[0]) for path in output[0].rglob("*") if path.is_file())
    assert names == sorted(
        path.relative_to(tmp_path / "again") for path in (tmp_path / "again").rglob("*") if path.is_file()
    )
    for name in names:
        assert (output[0] / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name


def test_csv_json_and_parquet_give_the_same_records(output, raw, tmp_path):
    write_jsonl(tmp_path / "events.jsonl.gz", EVENTS)
    columns = {name: None for event in EVENTS for name in event}
    pyarrow.parquet.write_table(
        pyarrow.Table.from_pylist([{**columns, **event} for event in EVENTS]), tmp_path / "events.parquet"
    )
    flags = ["--products", raw / "products.jsonl", "--users", raw / "users.csv", "--mapping", raw / "numbers.yaml"]
    for form in ("jsonl.gz", "parquet"):
        preprocess(tmp_path / form, "--events", tmp_path / f"events.{form}", *flags)
        for folder in ("products", "users", "train", "validation", "test"):
            assert serialized_records(tmp_path / form, folder) == serialized_records(output[0], folder)


def test_a_catalogue_alone_is_a_data_set(raw, tmp_path):
    manifest, said = preprocess(tmp_path / "data", "--products", raw / "products.jsonl")
    assert manifest.counts["products"] == 3
    assert manifest.counts["users"] == 0
    assert manifest.counts["examples"] == {"train": 0, "validation": 0, "test": 0}
    assert records(tmp_path / "data", "train") == []
    assert said[-2] == "0 users, 3 products; examples: 0 train, 0 validation, 0 test"


def test_without_a_catalogue_it_is_read_out_of_the_events(tmp_path):
    titles = ["Mug", "MUG", "Mug", "Tea"]
    rows = [
        {
            "user_id": "A",
            "product_id": f"P{place // 3}",
            "event_type": "view",
            "position": place,
            "title": title,
            "rating": 1,
        }
        for place, title in enumerate(titles)
    ]
    manifest, _ = preprocess(tmp_path / "data", "--events", write_csv(tmp_path / "e.csv", rows))
    assert (manifest.counts["products"], manifest.order_by) == (2, "position")
    assert {row["product_id"]: row["title"] for row in records(tmp_path / "data", "products")} == {
        "P0": "Mug",
        "P1": "Tea",
    }
    # A user's rating of a product is not the mean of its ratings.
    assert [row["rating_mean"] for row in records(tmp_path / "data", "products")] == [
        pytest.approx(float("nan"), nan_ok=True)
    ] * 2


def test_by_time_the_cuts_are_found_from_the_shares_or_given(tmp_path):
    rows = [
        {"user_id": f"U{hour % 7}", "product_id": "P", "event_type": "view", "timestamp": 1_700_000_000 + 3600 * hour}
        for hour in range(100)
    ]
    events = write_csv(tmp_path / "e.csv", rows)
    manifest, _ = preprocess(tmp_path / "a", "--events", events, "--split", "time", "--test_share", "0.2")
    assert manifest.split == {"rule": "time", "validation_from": 1700251200000, "test_from": 1700287200000}
    assert manifest.counts["examples"]["validation"] == 10
    assert manifest.counts["examples"]["test"] == 20
    times = ["--validation_from", "2023-11-18", "--test_from", "2023-11-18T12:00Z"]
    manifest, _ = preprocess(tmp_path / "b", "--events", events, "--split", "time", *times)
    assert manifest.split == {"rule": "time", "validation_from": 1700265600000, "test_from": 1700308800000}


def test_the_newest_events_of_a_user_are_kept_and_the_others_counted(tmp_path):
    rows = [{"user_id": "A", "product_id": f"P{n}", "event_type": "view", "position": n} for n in range(9)]
    events = write_csv(tmp_path / "e.csv", rows)
    manifest, said = preprocess(tmp_path / "a", "--events", events, "--max_events_per_user", 4, "--max_history", 2)
    assert manifest.counts["by_table"]["events"] == {"read": 9, "kept": 9, "rejected": 0, "skipped": 0, "over_cap": 5}
    assert "events: 9 rows read, 9 kept, 0 rejected, 5 too old (--max_events_per_user)" in said
    (user,) = records(tmp_path / "a", "users")
    assert (user["history_product_id"], user["older_product_id"]) == (["P7", "P8"], ["P5", "P6"])


def test_bad_rows_are_rejected_with_file_row_field_and_reason_and_counted(tmp_path):
    good = [{"user_id": f"U{n % 5}", "product_id": "P1", "event_type": "view", "position": n} for n in range(20)]
    bad = [
        {"user_id": "", "product_id": "P1", "event_type": "view", "position": 1},
        {"user_id": "A", "product_id": "P9", "event_type": "view", "position": 1},
        {"user_id": "A", "product_id": "P1", "event_type": "view", "position": "x"},
    ]
    events = write_csv(tmp_path / "e.csv", [*good, *bad])
    products = write_jsonl(tmp_path / "p.jsonl", [{"product_id": "P1", "title": "first"}, {"product_id": "P1"}])
    with products.open("a") as stream:
        stream.write('{broken\n{"product_id": "P2", "price": NaN}\n')
    users = write_csv(tmp_path / "u.csv", [{"user_id": "U1", "city": "Oslo"}, {"user_id": "U1", "city": "Rome"}])
    files = ["--events", events, "--products", products, "--users", users, "--max_bad_rows", 0.9]
    manifest, said = preprocess(tmp_path / "data", *files)
    assert rejected(tmp_path / "data") == [
        ("events", 22, "user_id", "missing"),
        ("events", 23, "product_id", "unknown product: no product row has the id 'P9'"),
        ("events", 24, "position", "not a number: 'x'"),
        ("products", 2, "product_id", "duplicate: 'P1' is in an earlier row too"),
        ("products", 3, "", "not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        ("products", 4, "price", "not a finite number: nan"),
        ("users", 3, "user_id", "duplicate: 'U1' is in an earlier row too"),
    ]
    first = json.loads((tmp_path / "data/rejected/rejected.jsonl").read_text().split("\n")[0])
    assert set(first) == {"table", "file", "row", "field", "kind", "reason"}
    assert manifest.counts["rejected_by_reason"] == {
        "events: position not a number": 1,
        "events: product_id unknown product": 1,
        "events: user_id missing": 1,
        "products: not JSON": 1,
        "products: price not a finite number": 1,
        "products: product_id duplicate": 1,
        "users: user_id duplicate": 1,
    }
    assert [numbers["rejected"] for numbers in manifest.counts["by_table"].values()] == [3, 3, 1]
    assert manifest.counts["rows_read"] == manifest.counts["rows_kept"] + manifest.counts["rows_rejected"] == 29
    assert "  rejected: events: position not a number: 1" in said
    assert "  rejected: 2 more reasons, in dataset.json" in said
    (product,) = records(tmp_path / "data", "products")
    assert product["title"] == "first"


def test_a_job_without_text_encoder_does_without_tensorflow(raw, tmp_path):
    code = (
        "import sys; from pipelines.preprocess import main; code = main(sys.argv[1:]); "
        "sys.exit(code or 'tensorflow' in sys.modules)"
    )
    flags = ["--products", f"{raw}/products.jsonl", "--output", f"{tmp_path}/data", "--text_encoder", "none"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    done = subprocess.run([sys.executable, "-c", code, *flags], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


@pytest.mark.slow
def test_text_vectors_are_made_once_for_each_text(raw, tmp_path):
    flags = ["--events", raw / "events.csv.gz", "--products", raw / "products.jsonl", "--output", tmp_path / "data"]
    try:
        manifest = run([str(flag) for flag in flags], lambda line: None)
    except UserError as error:
        pytest.skip(f"no text encoder here: {error}")
    assert manifest.text["width"] == 384
    vectors = {row["product_id"]: row["text_vector"] for row in records(tmp_path / "data", "products")}
    assert [len(vector) for vector in vectors.values()] == [384] * 3
    assert len({tuple(vector) for vector in vectors.values()}) == 3
    assert [row["query"] for row in records(tmp_path / "data", "queries")] == ["tea"]
    # A job without encoder may take the place of one with it.
    preprocess(tmp_path / "data", "--products", raw / "products.jsonl")
    assert not (tmp_path / "data" / "queries").exists()
