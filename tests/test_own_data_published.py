"""`tfrs-shop init` on real data in its publishers' columns: the command that it prints gives what is in the slice."""

import collections
import shlex

import published
import pytest
from conftest import shared_data
from preprocess_support import preprocess, read_csv, read_jsonl, records

from tfrs_shop.mapping import load_mapping
from tfrs_shop.own_data.init import init
from tfrs_shop.text import clean_text

EVENTS = 1000
MADE_BY_INIT = -2  # the printed command's last two words are --output and its directory


def first_command(folder, files):
    """Let init look at `files`, write into `folder`, and return the printed preprocessing command without --output."""
    said = []
    init([str(path) for path in files], {}, folder, False, said.append)
    commands = [shlex.split(line) for line in said if line.startswith("  tfrs-shop ")]
    assert [command[1] for command in commands][:2] == ["preprocess", "train"]
    assert commands[0][MADE_BY_INIT:] == ["--output", str(folder / "data")]
    return commands[0][2:MADE_BY_INIT], said


@pytest.mark.parametrize(
    ("form", "name"),
    [
        (published.amazon_2014, "amazon_beauty"),
        (published.online_retail, "online_retail"),
        (published.taobao, "taobao_behavior"),
        (published.rees46, "rees46_slice"),
        (published.jd, "jd_micro_behavior"),
        (published.amazon_2023, "amazon_reviews_2023"),
    ],
)
def test_the_printed_command_finds_every_event_user_and_product_of_the_slice(tmp_path, form, name):
    source = shared_data(name)
    events = read_csv(source / "events.csv.gz", EVENTS)
    sold = {event["product_id"] for event in events}
    products = [row for row in read_jsonl(source / "products.jsonl.gz") if row["product_id"] in sold]
    flags, _ = first_command(tmp_path / "shop", form(tmp_path, events, products))
    manifest, said = preprocess(tmp_path / "data", *flags)
    counts = manifest.counts
    assert counts["rows_rejected"] == 0
    assert counts["by_table"]["events"]["kept"] == len(events)
    assert counts["event_types"] == dict(sorted(collections.Counter(event["event_type"] for event in events).items()))
    assert counts["products"] == len(sold)
    wishes = collections.Counter(event["user_id"] for event in events if event["event_type"] != "return")
    assert counts["users"] == len({event["user_id"] for event in events})
    assert counts["examples"]["test"] == sum(count >= 3 for count in wishes.values())
    assert [line for line in said if line.startswith("Note")] == []
    titles = {row["product_id"]: row["title"] for row in records(tmp_path / "data", "products")}
    assert titles == {row["product_id"]: clean_text(row["title"]) for row in products}


def test_a_catalogue_alone_has_its_bullets_and_colour_in_its_description(tmp_path):
    products = read_jsonl(shared_data("amazon_esci") / "products.jsonl.gz")
    flags, said = first_command(tmp_path / "shop", published.esci(tmp_path, products[:500]))
    mapping = load_mapping(str(tmp_path / "shop" / "mapping.yaml")).products
    # product_title and product_brand are known names of theirs.
    assert mapping.columns == {"description": ["product_description", "product_bullet_point", "product_color"]}
    assert flags[:1] == ["--products"]
    assert "  of 500 rows looked at: 500 would be kept, 0 rejected" in said
    assert preprocess(tmp_path / "data", *flags)[0].counts["products"] == 500
