"""Real data: each slice as it is, each shipped mapping on its publisher's own format, and leaks in real examples.

A mapping is tested on a slice that is put back into its publisher's columns and values: the examples that come out
must be those of the slice itself, record by record.
"""

import collections
import math
import re
from datetime import datetime, timedelta, timezone

import published as forms
import pytest
from conftest import shared_data
from preprocess_support import preprocess, read_csv, read_jsonl, records, serialized_records, write_csv, write_jsonl

SAMPLED_EVENTS = 4000
EXAMPLES = ("train", "validation", "test")


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """Return a function that samples a data set: its first events, and their products with a few more."""

    def take(name):
        source = shared_data(name)
        events = read_csv(source / "events.csv.gz", SAMPLED_EVENTS)
        wanted = {event["product_id"] for event in events}
        products = read_jsonl(source / "products.jsonl.gz")
        kept = [product for place, product in enumerate(products) if product["product_id"] in wanted or place < 20]
        folder = tmp_path_factory.mktemp(name)
        write_csv(folder / "events.csv.gz", events)
        write_jsonl(folder / "products.jsonl.gz", kept)
        return folder, events, kept

    return take


def moment(text):
    return datetime.fromisoformat(text.replace("Z", "+00:00")).replace(tzinfo=timezone.utc)


# --- the slices as they are ---


@pytest.mark.parametrize(
    ("name", "order_by"),
    [
        ("amazon_beauty", "position"),
        ("online_retail", "timestamp"),
        ("taobao_behavior", "timestamp"),
        ("jd_micro_behavior", "position"),
        ("rees46_slice", "timestamp"),
        ("amazon_reviews_2023", "timestamp"),
    ],
)
def test_a_slice_needs_no_mapping_and_its_examples_hold_nothing_from_the_target_on(sample, tmp_path, name, order_by):
    folder, events, products = sample(name)
    files = ["--events", folder / "events.csv.gz", "--products", folder / "products.jsonl.gz"]
    manifest, _ = preprocess(tmp_path / "data", *files, "--max_history", 20)
    counts = manifest.counts
    assert manifest.order_by == order_by
    assert counts["rows_rejected"] == 0
    assert counts["by_table"]["events"]["kept"] == len(events) == SAMPLED_EVENTS
    assert counts["products"] == len(products)
    assert counts["event_types"] == dict(sorted(collections.Counter(event["event_type"] for event in events).items()))
    by_user = collections.defaultdict(list)
    for event in events:
        by_user[event["user_id"]].append(event)
    assert counts["users"] == len(by_user)

    titles = {product["product_id"]: product["title"] for product in products}
    targets = collections.defaultdict(dict)
    for user, own in by_user.items():
        own.sort(key=lambda event: int(event["position"]))
        places = [place for place, event in enumerate(own) if event["event_type"] != "return"]
        if len(places) >= 3:
            targets["validation"][user], targets["test"][user] = places[-2], places[-1]
    for split in ("validation", "test"):
        found = records(tmp_path / "data", split)
        assert {example["user_id"] for example in found} == set(targets[split])
        for example in found:
            own, target = by_user[example["user_id"]], targets[split][example["user_id"]]
            start = max(0, target - 20)
            before = own[start:target]
            assert example["target_product_id"] == own[target]["product_id"]
            assert example["history_product_id"] == [event["product_id"] for event in before]
            assert example["history_event_type"] == [event["event_type"] for event in before]
            older = {event["product_id"] for event in own[:start]} - {event["product_id"] for event in before}
            assert set(example["older_product_id"]) == older
            if titles[own[target]["product_id"]] and own[target]["product_id"] not in example["history_product_id"]:
                texts = {titles[event["product_id"]] for event in before}
                if titles[own[target]["product_id"]] not in texts:
                    assert titles[own[target]["product_id"]] not in example["behavior_text"].split(". ")
    for example in records(tmp_path / "data", "train"):
        user = example["user_id"]
        end = example["history_offset"] + len(example["history_product_id"])
        assert end < targets["validation"].get(user, len(by_user[user]))
        assert example["target_product_id"] == by_user[user][end]["product_id"]


def test_a_search_catalogue_without_events_is_a_data_set_with_clean_texts(tmp_path):
    source = shared_data("amazon_esci")
    products = read_jsonl(source / "products.jsonl.gz")
    manifest, _ = preprocess(tmp_path / "data", "--products", write_jsonl(tmp_path / "p.jsonl.gz", products))
    assert (manifest.counts["products"], manifest.counts["rows_rejected"]) == (6764, 0)
    found = {row["product_id"]: row for row in records(tmp_path / "data", "products")}
    unclean = set()
    for product in products:
        row = found[product["product_id"]]
        assert row["description"] == " ".join(row["description"].split())
        if re.search(r"</|<(br|p|li|b)\b|&\w+;", row["description"]):
            unclean.add(product["product_id"])
        assert len(row["category"]) == len([level for level in product["category"] if level])
        assert math.isnan(row["price"]) if product["price"] is None else row["price"] == pytest.approx(product["price"])
    # Cut off as "</li&" and "<p", which could be text.
    assert unclean <= {"B018A8SF32", "B07W9CLV45"}


# --- the shipped mappings ---


def same_as_the_slice(tmp_path, slice_flags, mapping, mapped_flags):
    """Run both jobs; compare all that does not depend on the form of the files; return the mapped job's manifest."""
    own, _ = preprocess(tmp_path / "own", *slice_flags)
    mapped, said = preprocess(tmp_path / "mapped", "--mapping", mapping, *mapped_flags)
    assert [line for line in said if line.startswith("Note")] == []
    for key in ("users", "products", "examples", "event_types", "rows_rejected"):
        assert mapped.counts[key] == own.counts[key], key
    assert mapped.counts["by_table"]["events"]["kept"] == own.counts["by_table"]["events"]["kept"]
    for folder in EXAMPLES:
        assert serialized_records(tmp_path / "mapped", folder) == serialized_records(tmp_path / "own", folder), folder
    return mapped


def test_uci_online_retail_as_published(sample, tmp_path):
    folder, events, products = sample("online_retail")
    titles = {product["product_id"]: product["title"] for product in products}
    sold = {event["product_id"] for event in events}
    lines = [
        {
            "InvoiceNo": event["session_id"],
            "StockCode": event["product_id"],
            "Description": titles[event["product_id"]],
            "Quantity": int(event["quantity"]) * (-1 if event["event_type"] == "return" else 1),
            "InvoiceDate": moment(event["timestamp"]).strftime("%m/%d/%Y %H:%M").lstrip("0").replace("/0", "/", 1),
            "UnitPrice": event["price"],
            "CustomerID": event["user_id"],
            "Country": event["country"],
        }
        for event in sorted(events, key=lambda event: event["timestamp"])
    ]
    others = [
        {**lines[0], "CustomerID": ""},
        {**lines[1], "StockCode": "POST"},
        {**lines[2], "StockCode": "gift_0001_20"},
        {**lines[3], "UnitPrice": "0.0"},
        {**lines[4], "CustomerID": "", "Quantity": -5, "Description": ""},
    ]
    for place, line in enumerate(others):
        lines.insert(place * 100, line)
    published = write_csv(tmp_path / "Online Retail.csv", lines)
    catalogue = write_jsonl(tmp_path / "sold.jsonl", [row for row in products if row["product_id"] in sold])
    own = ["--events", folder / "events.csv.gz", "--products", catalogue]
    mapped = same_as_the_slice(tmp_path, own, "uci_online_retail", ["--events", published])
    assert mapped.counts["by_table"]["events"]["read"] == len(events) + 5
    assert mapped.counts["by_table"]["events"]["skipped"] == 5
    assert set(mapped.counts["event_types"]) == {"purchase", "return"}
    found = {row["product_id"]: row["title"] for row in records(tmp_path / "mapped", "products")}
    assert found == {product: " ".join(titles[product].split()) for product in sold}


def test_taobao_user_behavior_as_published(sample, tmp_path):
    folder, events, products = sample("taobao_behavior")
    categories = {product["product_id"]: product["category"][0] for product in products}
    behaviors = {"view": "pv", "favorite": "fav", "cart": "cart", "purchase": "buy"}
    lines = [
        f"{event['user_id']},{event['product_id']},{categories[event['product_id']]},{behaviors[event['event_type']]},"
        f"{int(moment(event['timestamp']).timestamp())}"
        for event in events
    ]
    published = tmp_path / "UserBehavior.csv"
    published.write_text("\n".join(lines) + "\n")
    sold = {event["product_id"] for event in events}
    catalogue = write_jsonl(tmp_path / "sold.jsonl", [row for row in products if row["product_id"] in sold])
    own = ["--events", folder / "events.csv.gz", "--products", catalogue]
    mapped = same_as_the_slice(tmp_path, own, "taobao_user_behavior", ["--events", published])
    assert mapped.counts["by_table"]["events"]["read"] == len(events)
    assert serialized_records(tmp_path / "mapped", "products") == serialized_records(tmp_path / "own", "products")


def test_rees46_as_published(sample, tmp_path):
    folder, events, products = sample("rees46_slice")
    (path,) = forms.rees46(tmp_path, events, products)
    sold = {event["product_id"] for event in events}
    catalogue = write_jsonl(tmp_path / "sold.jsonl", [row for row in products if row["product_id"] in sold])
    own = ["--events", folder / "events.csv.gz", "--products", catalogue]
    same_as_the_slice(tmp_path, own, "rees46", ["--events", path])
    for mapped, right in zip(
        *(sorted(records(tmp_path / run, "products"), key=lambda row: row["product_id"]) for run in ("mapped", "own")),
        strict=True,
    ):
        assert (mapped["category"], mapped["brand"]) == (right["category"], right["brand"])
        assert mapped["price"] >= 0


def test_amazon_reviews_2023_as_published(sample, tmp_path):
    folder, events, products = sample("amazon_reviews_2023")
    epoch = datetime(1970, 1, 1, tzinfo=timezone.utc)
    reviews = [
        {
            "rating": float(event["rating"]),
            "title": "Great",
            "text": "I liked it.<br />Really.",
            "images": [],
            "asin": event["product_id"],
            "parent_asin": event["product_id"],
            "user_id": event["user_id"],
            "timestamp": (moment(event["timestamp"]) - epoch) // timedelta(milliseconds=1),
            "helpful_vote": 0,
            "verified_purchase": True,
        }
        # Not user by user; but two reviews in one millisecond have no other order than the file's.
        for event in sorted(events, key=lambda event: (int(event["position"]), event["user_id"]))
    ]
    metas = [
        {
            "main_category": "All Beauty",
            "title": product["title"],
            "average_rating": 4.5,
            "rating_number": 12,
            "features": ["Soft"] if place % 2 else [],
            "description": ["A thing.", "Two lines."] if place % 3 else [],
            "price": product["price"] if product["price"] is not None else (None, "None", "—")[place % 3],
            "images": [{"thumb": "x"}],
            "videos": [],
            "store": product["brand"] or None,
            "categories": product["category"],
            "details": {"Brand": "x"},
            "parent_asin": product["product_id"],
            "bought_together": None,
        }
        for place, product in enumerate(products)
    ]
    files = [
        *("--events", write_jsonl(tmp_path / "All_Beauty.jsonl.gz", reviews)),
        *("--products", write_jsonl(tmp_path / "meta_All_Beauty.jsonl.gz", metas)),
    ]
    own = ["--events", folder / "events.csv.gz", "--products", folder / "products.jsonl.gz"]
    mapped = same_as_the_slice(tmp_path, own, "amazon_reviews_2023", files)
    assert mapped.counts["rows_read"] == len(events) + len(products)
    found = {row["product_id"]: row for row in records(tmp_path / "mapped", "products")}
    for place, product in enumerate(products):
        row = found[product["product_id"]]
        expected = ["A thing", "Two lines"] if place % 3 else []
        assert [part.strip(" .") for part in row["description"].split(". ") if part] == expected + ["Soft"] * (
            place % 2
        )
        assert (row["rating_mean"], row["rating_count"]) == (4.5, 12.0)
        assert (row["price"] == row["price"]) == (product["price"] is not None)
        assert row["brand"] != "n/a"
