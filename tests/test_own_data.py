"""`tfrs-shop init`: which file is which table, which column which field, and what is said of unusable files."""

import csv
import gzip
import json
import random
from datetime import datetime, timedelta, timezone

import pytest
import yaml
from preprocess_support import write_csv, write_jsonl

from pipelines.options import parse_flags
from pipelines.plan import plan
from tfrs_shop.config import load_config
from tfrs_shop.errors import UserError
from tfrs_shop.mapping import load_mapping
from tfrs_shop.own_data.check import Size
from tfrs_shop.own_data.init import init
from tfrs_shop.own_data.proposal import propose
from tfrs_shop.own_data.settings import training_settings

START = datetime(2024, 3, 20, 8, 30, tzinfo=timezone.utc)


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
    """Make the test's folder the working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def log(number=300, **names):
    """Return events as rows; `names` are the columns' names for user, product, type and time."""
    dice = random.Random(5)
    rows = []
    for place in range(number):
        row = {
            "user": f"u{dice.randrange(20)}",
            "product": f"P-{dice.randrange(40):03}",
            "type": dice.choice(["view", "view", "cart", "purchase"]),
            "time": (START + timedelta(hours=place)).isoformat(),
        }
        rows.append({names.get(name, name): value for name, value in row.items()})
    return rows


def catalogue(**names):
    rows = [
        {
            "product": f"P-{place:03}",
            "title": f"Blue mug number {place}",
            "category": ["Kitchen", "Mugs"] if place % 2 else ["Garden", "Pots"],
            "price": 3.5 + place,
        }
        for place in range(40)
    ]
    return [{names.get(name, name): value for name, value in row.items()} for row in rows]


def fields(proposal, table):
    return {field: names[0] for field, names in proposal.tables[table].found.fields.items()}


def can_be_planned(proposal, folder):
    """Write the proposal, and let the preprocessing job check its flags against the files."""
    (folder / "m.yaml").write_text(proposal.mapping_yaml(), encoding="utf-8")
    files = [part for name, table in proposal.tables.items() for part in (f"--{name}", *table.sample.given)]
    flags = [*files, "--mapping", str(folder / "m.yaml"), "--output", "data", "--text_encoder", "none"]
    said = []
    job = plan(parse_flags(flags)[0], said.append)
    assert said == []
    return job


@pytest.mark.parametrize(
    "names",
    [
        {"user": "visitorid", "product": "itemid", "type": "event", "time": "timestamp"},
        {"user": "customerId", "product": "itemId", "type": "eventType", "time": "createdAt"},
        {"user": "Customer ID", "product": "Item ID", "type": "Action Type", "time": "Event Time"},
        {"user": "Kundennummer", "product": "Artikelnummer", "type": "Ereignis", "time": "Zeitpunkt"},
        {"user": "user", "product": "sku", "type": "behavior", "time": "ts"},
    ],
)
def test_names_of_many_styles_are_known(in_folder, names):
    write_csv(in_folder / "log.csv", log(**names))
    found = propose(["log.csv"], {})
    assert fields(found, "events") == {
        "user_id": names["user"],
        "product_id": names["product"],
        "event_type": names["type"],
        "timestamp": names["time"],
    }
    assert can_be_planned(found, in_folder).order_by == "timestamp"


def test_columns_without_telling_names_are_found_by_their_values(in_folder):
    write_csv(in_folder / "log.csv", log(user="a", product="b", type="c", time="d"))
    write_jsonl(in_folder / "things.jsonl", catalogue(product="key"))
    found = propose(["log.csv"], {"products": ["things.jsonl"]})
    assert fields(found, "events") == {"user_id": "a", "product_id": "b", "event_type": "c", "timestamp": "d"}
    assert fields(found, "products")["product_id"] == "key"
    assert any("product_id is b, by its values alone" in line for line in found.guessed)


def test_of_two_numbers_of_a_product_the_one_counts_that_the_events_know(in_folder):
    write_csv(in_folder / "log.csv", log(product="item"))
    rows = [{"product_id": 9000 + place, **row} for place, row in enumerate(catalogue(product="handle"))]
    write_jsonl(in_folder / "p.jsonl", rows)
    assert fields(propose(["log.csv", "p.jsonl"], {}), "products")["product_id"] == "handle"


def test_tables_are_told_apart_in_a_directory_and_what_is_none_is_left_out(in_folder):
    (in_folder / "raw").mkdir()
    write_csv(in_folder / "raw" / "2024-01.csv", log(user="user_id", product="product_id", type="event"))
    write_csv(in_folder / "raw" / "2024-02.csv", log(user="user_id", product="product_id", type="event"))
    write_jsonl(in_folder / "raw" / "items.jsonl.gz", catalogue(product="id"))
    people = [{"id": f"u{place}", "age": 20 + place, "city": "Oslo", "email": f"{place}@x.org"} for place in range(60)]
    write_csv(in_folder / "raw" / "people.csv", people)
    (in_folder / "raw" / "notes.json").write_text("[1, 2]")
    found = propose(["raw"], {})
    assert {name: table.sample.files for name, table in found.tables.items()} == {
        "events": ["raw/2024-01.csv", "raw/2024-02.csv"],
        "products": ["raw/items.jsonl.gz"],
        "users": ["raw/people.csv"],
    }
    assert found.left_out == [
        "raw/notes.json: no row can be read, the first (row 1) because it is not a JSON object: 1."
    ]
    assert (found.mapping.users.numeric, found.mapping.users.ignore) == (["age"], ["email"])
    assert sorted(feature.name for feature in can_be_planned(found, in_folder).profile) == [
        "profile_age",
        "profile_age_bucket",
        "profile_city",
    ]


def test_a_wide_file_with_semicolons_decimal_commas_and_a_mark_at_its_start(in_folder):
    titles = {row["product"]: row for row in catalogue()}
    rows = [
        {
            "Kunde": row["user"],
            "Artikelnummer": row["product"],
            "Ereignis": {"view": "Ansicht", "cart": "Warenkorb", "purchase": "Kauf"}[row["type"]],
            "Datum": datetime.fromisoformat(row["time"]).strftime("%d.%m.%Y %H:%M"),
            "Bezeichnung": titles[row["product"]]["title"],
            "Kategorie": " / ".join(titles[row["product"]]["category"]),
            "Preis": f"{1000 + titles[row['product']]['price']:,.2f}".translate(str.maketrans(",.", ".,")),
        }
        for row in log()
    ]
    with open("export.csv", "w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), delimiter=";")
        writer.writeheader()
        writer.writerows(rows)
    found = propose(["export.csv"], {})
    assert yaml.safe_load(found.mapping_yaml())["events"] == {
        "columns": {
            "user_id": "Kunde",
            "product_id": "Artikelnummer",
            "event_type": "Ereignis",
            "timestamp": "Datum",
            "price": "Preis",
        },
        "delimiter": ";",
        "event_types": {"Ansicht": "view", "Kauf": "purchase", "Warenkorb": "cart"},
        "timestamp_formats": ["%d.%m.%Y %H:%M"],
        "decimal": ",",
    }
    assert {field: names[0] for field, names in found.of_products.fields.items()} == {
        "product_id": "Artikelnummer",
        "title": "Bezeichnung",
        "category": "Kategorie",
        "price": "Preis",
    }
    assert found.mapping.products.category_separator == " / "
    assert found.tables["events"].check.kept == len(rows)
    job = can_be_planned(found, in_folder)
    row = job.parsers["products"].parse(rows[0])
    assert row["category"] in (["Kitchen", "Mugs"], ["Garden", "Pots"])
    assert 1003 <= row["price"] <= 1043


def test_the_title_of_a_review_is_no_title_of_a_product(in_folder):
    rows = [{**row, "title": f"My thoughts {place}", "rating": 1 + place % 5} for place, row in enumerate(log())]
    for row in rows:
        del row["type"]
    write_jsonl(in_folder / "reviews.jsonl", rows)
    found = propose(["reviews.jsonl"], {})
    assert set(found.of_products.fields) == {"product_id"}
    assert found.mapping.events.constants == {"event_type": "review"}
    assert found.flags == ["--text_encoder", "none"]


def test_guests_and_events_of_no_product_are_left_out_on_purpose_and_what_was_not_wanted_is_no_target(in_folder):
    rows = log(user="user_id", product="product_id", type="event_type")
    rows += [{**row, "event_type": "login", "product_id": ""} for row in rows[:30]]
    rows += [{**row, "event_type": "remove_from_cart"} for row in rows[:30]]
    rows += [{**row, "user_id": "NULL"} for row in rows[:30]]
    write_csv(in_folder / "log.csv", rows)
    found = propose(["log.csv"], {})
    assert found.mapping.events.skip == {"user_id": "", "event_type": "login"}
    assert found.mapping.events.missing == ["NULL"]
    check = found.tables["events"].check
    assert (check.kept, check.skipped, check.rejected) == (330, 60, 0)
    assert found.flags[:2] == ["--target_events", "view,cart,purchase"]


def test_bad_rows_are_counted_shown_and_allowed_for(in_folder):
    rows = log(user="user_id", product="product_id", type="event_type", time="timestamp")
    for row in rows[:15]:
        row["timestamp"] = "soon"
    write_csv(in_folder / "log.csv", rows)
    said = []
    init(["log.csv"], {}, in_folder / "shop", False, said.append)
    assert "  of 300 rows looked at: 285 would be kept, 15 rejected" in said
    assert "    15 x ./log.csv row 2: timestamp not a time: 'soon'" in said
    assert any("--max_bad_rows 0.08" in line for line in said if line.startswith("  tfrs-shop preprocess"))


def test_events_of_products_that_the_catalogue_lacks_are_foreseen(in_folder):
    write_csv(in_folder / "log.csv", log(product="product_id"))
    write_jsonl(in_folder / "p.jsonl", catalogue(product="product_id")[:20])
    check = propose(["log.csv", "p.jsonl"], {}).tables["events"].check
    assert set(check.reasons) == {"product_id unknown product"}
    assert 0.4 < check.share < 0.6


def test_a_product_in_many_rows_is_read_by_its_most_frequent_values(in_folder):
    write_csv(in_folder / "log.csv", log(product="product_id"))
    write_jsonl(in_folder / "p.jsonl", catalogue(product="product_id") * 3)
    assert propose(["log.csv", "p.jsonl"], {}).mapping.products.from_events


def test_a_column_whose_values_do_not_fit_its_name_is_not_read(in_folder):
    write_csv(in_folder / "log.csv", log(product="product_id"))
    write_jsonl(
        in_folder / "p.jsonl", [{**row, "price": f"{row['price']} USD"} for row in catalogue(product="product_id")]
    )
    found = propose(["log.csv", "p.jsonl"], {})
    assert found.mapping.products.columns["price"] == []
    assert any("The price of products is not read: price" in line and "3.5 USD" in line for line in found.guessed)
    assert found.tables["products"].check.rejected == 0
    can_be_planned(found, in_folder)


# --- files that cannot be used ---


def refusal(*files, **known):
    with pytest.raises(UserError) as caught:
        propose(list(files), {name: [path] for name, path in known.items()})
    return str(caught.value)


def test_a_wrong_path_an_empty_file_a_header_alone(in_folder):
    assert refusal("lgo.csv") == "FILE lgo.csv: no such file; check the path."
    (in_folder / "e.csv").write_text("")
    assert refusal("e.csv") == "./e.csv: is empty; it needs at least a row."
    (in_folder / "h.csv").write_text("user_id,product_id,event_type,timestamp\n")
    assert refusal("h.csv") == "./h.csv: no rows; give a file that has some."
    (in_folder / "none").mkdir()
    assert refusal("none").startswith("none: is a directory without files whose names end in csv, tsv,")
    (in_folder / "x.xlsx").write_text("x")
    assert refusal("x.xlsx").startswith("./x.xlsx: unknown format; known endings: .csv")


def test_text_that_is_not_utf8(in_folder):
    text = "user_id,product_id,event_type,timestamp\nü1,P1,view,2024-01-01\n"
    (in_folder / "wide.csv").write_bytes(text.encode("utf-16"))
    assert refusal("wide.csv") == "./wide.csv: is no text in UTF-8 (UTF-16, or a binary file); save it as CSV UTF-8."
    (in_folder / "latin.csv").write_bytes(
        text.encode("latin-1") * 1 + b"u2,P1,view,2024-01-02\nu2,P2,view,2024-01-03\n"
    )
    found = propose(["latin.csv"], {})
    assert dict(found.tables["events"].check.reasons) == {"user_id bad UTF-8": 1}


def test_a_cut_off_gzip_file(in_folder):
    whole = gzip.compress("".join(f"u{place},P{place},view,{place}\n" for place in range(9999)).encode())
    (in_folder / "log.csv.gz").write_bytes(whole[:-2000])
    assert refusal("log.csv.gz").startswith("./log.csv.gz: is cut off or not gzip (Compressed file ended")


def test_events_without_an_order_and_files_of_no_table(in_folder):
    rows = [{name: row[name] for name in ("user", "product", "type")} for row in log()]
    write_csv(in_folder / "log.csv", rows)
    assert refusal("log.csv").startswith(
        "./log.csv: no column looks like a time or like a position, so a user's events have no order; it has user, "
    )
    write_csv(in_folder / "odd.csv", [{"x": place * 0.5, "y": place * 0.25} for place in range(50)])
    assert refusal("odd.csv") == (
        "./odd.csv: cannot be told to hold events, products or users by its columns x, y; "
        "say which, with --events, --products or --users before the file."
    )
    write_csv(in_folder / "people.csv", [{"user_id": f"u{place}", "age": place} for place in range(9)])
    assert refusal("people.csv").startswith("./people.csv: holds users only; give the file of their events too")


# --- what is written ---


def test_nothing_is_overwritten_without_being_told_to(in_folder):
    write_csv(in_folder / "log.csv", log(user="user_id", product="product_id", type="event_type", time="timestamp"))
    init(["log.csv"], {}, in_folder / "shop", False, lambda line: None)
    (in_folder / "shop" / "mapping.yaml").write_text("description: mine\n")
    with pytest.raises(UserError, match=r"mapping\.yaml and .*train\.yaml: already there, .* give --overwrite"):
        init(["log.csv"], {}, in_folder / "shop", False, lambda line: None)
    assert load_mapping("shop/mapping.yaml").description == "mine"
    said = []
    init(["log.csv"], {}, in_folder / "shop", True, said.append)
    assert f"Replaced {in_folder}/shop/mapping.yaml (which column is which)." in said
    assert load_mapping("shop/mapping.yaml").description == "Proposed by tfrs-shop init for ./log.csv"


@pytest.mark.parametrize("events", [0, 30, 5_000, 100_000, 5_000_000])
def test_the_settings_of_every_size_can_be_loaded(in_folder, events):
    (in_folder / "t.yaml").write_text(training_settings(Size(events=events, users=events // 20), True))
    config = load_config("t.yaml")
    assert config.training.batch_size == {0: 128, 30: 16, 5_000: 16, 100_000: 128, 5_000_000: 512}[events]
    assert config.training.warmup_steps <= 200


def test_the_proposal_is_plain_data(in_folder):
    write_csv(in_folder / "log.csv", log(user="user_id", product="product_id", type="event_type", time="timestamp"))
    about = json.loads(json.dumps(propose(["log.csv"], {}).to_json(in_folder / "shop")))
    assert about["tables"]["events"]["check"]["kept"] == 300
    assert about["commands"][0].startswith("tfrs-shop preprocess --events ./log.csv --mapping ")
    assert about["size"]["users"] == 20


def test_searches_alone_need_a_catalogue_and_nan_is_no_value(in_folder):
    rows = [
        {"user_id": f"u{place % 9}", "query": f"blue mug {place % 5}", "time": row["time"]}
        for place, row in enumerate(log())
    ]
    write_jsonl(in_folder / "searches.jsonl", rows)
    assert refusal("searches.jsonl") == (
        "./searches.jsonl: holds searches and no products; give the file of the products too."
    )
    odd = [{**row, "price": float("nan")} for row in catalogue(product="product_id")]
    odd[3]["product_id"] = float("nan")
    write_jsonl(in_folder / "p.jsonl", odd)
    found = propose(["searches.jsonl", "p.jsonl"], {})
    assert found.mapping.events.constants == {"event_type": "search"}
    assert dict(found.tables["products"].check.reasons) == {"product_id not an id": 1}


def test_a_catalogue_without_header_or_names_is_read_by_its_values(in_folder):
    rows = catalogue()
    with open("things.csv", "w", newline="") as stream:
        csv.writer(stream).writerows([row["product"], row["title"], row["price"]] for row in rows)
    found = propose([], {"products": ["things.csv"]})
    assert found.mapping.products.header[:2] == ["product_id", "title"]
    assert found.tables["products"].check.kept == len(rows)
