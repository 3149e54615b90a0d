"""From a raw row to a clean event, product or user: what each value becomes, and why a row is refused."""

import math
import pickle
from datetime import date, datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipelines import values
from pipelines.row_parser import RowParser
from pipelines.values import RowError
from tfrs_shop.mapping import TableMapping
from tfrs_shop.schema import EVENT_FIELDS, PRODUCT_FIELDS, Event, Product, category_prefixes, product_text

EVENT = {"user_id": "U1", "product_id": "P1", "event_type": "view"}
NOON = 1_700_049_600_000  # 2023-11-15 12:00:00 UTC


def event(mapping=None, order_by="", **columns):
    return RowParser("events", mapping or TableMapping(), order_by).parse({**EVENT, **columns})


def product(mapping=None, **columns):
    return RowParser("products", mapping or TableMapping()).parse({"product_id": "P1", **columns})


def user(mapping=None, **columns):
    return RowParser("users", mapping or TableMapping()).parse({"user_id": "U1", **columns})["attributes"]


def refused(parse, *arguments, **columns):
    with pytest.raises(RowError) as caught:
        parse(*arguments, **columns)
    return caught.value.field, caught.value.reason


# --- numbers ---


@pytest.mark.parametrize(
    ("raw", "number"),
    [("12.50", 12.5), (" 7 ", 7.0), ("$3.99", 3.99), (0, 0.0), ("-0", 0.0), ("1e3", 1000.0), (b"4.5", 4.5), (3, 3.0)],
)
def test_a_price_is_read_from_text_and_numbers(raw, number):
    assert product(price=raw)["price"] == number


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("abc", "not a number: 'abc'"),
        ("12 USD", "not a number: '12 USD'"),
        ("1,234.50", "not a number: '1,234.50'"),
        ("1_000", "not a number: '1_000'"),
        ("NaN", "not a finite number: 'NaN'"),
        (math.nan, "not a finite number: nan"),
        ("inf", "not a finite number: 'inf'"),
        (1e39, "not a finite number: 1e+39"),  # more than float32 holds
        (10**400, f"not a finite number: 1{'0' * 59}..."),
        (True, "not a number: True"),
        ([1.0], "not a number: [1.0]"),
        ({"amount": 1}, "not a number: {'amount': 1}"),
        (-0.01, "below 0: -0.01"),
    ],
)
def test_a_price_that_is_no_number_is_refused(raw, reason):
    assert refused(product, price=raw) == ("price", reason)


@given(st.floats(-values.LARGEST_FLOAT, values.LARGEST_FLOAT))
def test_every_float32_number_is_read_back_from_its_text(number):
    assert values.number("rating", repr(number)) == number


@pytest.mark.parametrize(("raw", "place"), [("3", 3), ("3.0", 3), (-1, -1), (2.0, 2)])
def test_a_position_is_a_whole_number(raw, place):
    assert event(position=raw)["position"] == place


@pytest.mark.parametrize("raw", ["1.5", 2.5, 1e20])
def test_a_position_that_is_not_a_whole_number_is_refused(raw):
    assert refused(event, position=raw) == ("position", f"not a whole number: {raw!r}")


# --- times ---


@pytest.mark.parametrize(
    "raw",
    [
        "2023-11-15T12:00:00Z",
        "2023-11-15 12:00:00 UTC",
        "2023-11-15T12:00:00.000Z",
        "2023-11-15T12:00:00.0000009",
        "2023-11-15T13:00:00+01:00",
        "2023-11-15T13:00:00+0100",
        "2023-11-15 13:00:00+01",
        "2023-11-15T12:00",
        "1700049600",
        "1700049600.0",
        1_700_049_600,
        1_700_049_600_000,
        1_700_049_600_000_000,
        datetime(2023, 11, 15, 12),
        datetime(2023, 11, 15, 14, tzinfo=timezone(timedelta(hours=2))),
    ],
)
def test_a_time_is_read_in_every_usual_form(raw):
    assert event(timestamp=raw)["timestamp"] == NOON


def test_a_date_is_the_start_of_its_day():
    assert event(timestamp="2023-11-15")["timestamp"] == event(timestamp=date(2023, 11, 15))["timestamp"]
    assert event(timestamp="2023-11-15")["timestamp"] == NOON - 12 * 3_600_000


def test_a_mapping_gives_the_format_and_the_unit_of_times():
    formats = TableMapping(timestamp_formats=["%m/%d/%Y %H:%M", "%Y%m%d"])
    assert event(formats, timestamp="11/15/2023 12:00")["timestamp"] == NOON
    assert event(formats, timestamp="20231115")["timestamp"] == NOON - 12 * 3_600_000
    assert event(TableMapping(timestamp_unit="ms"), timestamp="86400000")["timestamp"] == 86_400_000
    assert event(timestamp="86400000")["timestamp"] == 86_400_000_000  # taken as seconds: 1972


@pytest.mark.parametrize("raw", ["yesterday", "2023-13-01", "nan", "1e300", "15/11/2023", "12:00", True])
def test_what_is_no_time_is_refused(raw):
    field, reason = refused(event, timestamp=raw)
    assert (field, reason.split(":")[0]) == ("timestamp", "not a time")


@given(st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=st.just(timezone.utc)))
def test_a_time_means_the_same_in_iso_8601_and_in_milliseconds(moment):
    milliseconds = round(moment.timestamp() * 1000)
    # A text keeps microseconds, of which the last half is rounded away.
    assert abs(values.time("timestamp", moment.isoformat()) - milliseconds) <= 1
    assert values.time("timestamp", milliseconds, unit="ms") == milliseconds


# --- ids ---


@pytest.mark.parametrize(
    ("raw", "identifier"),
    [
        ("A1", "A1"),
        (" A1 ", "A1"),
        (17850, "17850"),
        (17850.0, "17850"),
        (1.5, "1.5"),
        ("007", "007"),
        ("Ü-中", "Ü-中"),
        (b"A1", "A1"),
    ],
)
def test_an_id_is_text_without_outer_blanks(raw, identifier):
    assert event(user_id=raw)["user_id"] == identifier


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("", "missing"),
        ("  ", "missing"),
        (None, "missing"),
        ("a\nb", r"control characters in an id: 'a\nb'"),
        (True, "not an id: True"),
        (math.nan, "not an id: nan"),
        (["a"], "not an id: ['a']"),
        ("U\udcff", r"bad UTF-8: 'U\udcff'"),
        (b"\xff", r"bad UTF-8: '\udcff'"),
    ],
)
def test_what_is_no_id_is_refused(raw, reason):
    assert refused(event, user_id=raw) == ("user_id", reason)


def test_a_key_that_a_json_row_lacks_is_a_missing_field():
    parser = RowParser("events", TableMapping(), "timestamp")
    for absent in ("user_id", "event_type", "product_id", "timestamp"):
        row = {**EVENT, "timestamp": 1}
        del row[absent]
        with pytest.raises(RowError) as caught:
            parser.parse(row)
        assert (caught.value.field, caught.value.kind) == (absent, "missing")


def test_a_field_that_orders_events_must_not_be_missing():
    assert refused(event, None, "position", position="") == ("position", "missing")
    assert event(order_by="position", position="0")["position"] == 0


# --- events ---


def test_a_clean_event_has_every_field_in_the_order_of_the_schema():
    found = event(rating="4", query=" red  shoe ", quantity="2", price="9.5", session_id="S", extra="?")
    assert found == {
        **EVENT,
        "timestamp": None,
        "position": None,
        "session_id": "S",
        "rating": 4.0,
        "query": "red shoe",
        "quantity": 2.0,
        "price": 9.5,
    }
    assert list(found) == [field.name for field in EVENT_FIELDS] == list(Event.__annotations__)
    assert list(product()) == [field.name for field in PRODUCT_FIELDS] == list(Product.__annotations__)


def test_a_search_needs_a_query_and_no_product():
    found = event(product_id="", event_type="search", query="tea")
    assert (found["product_id"], found["query"]) == ("", "tea")
    assert refused(event, product_id="", event_type="search") == ("query", "missing in a search event")
    assert refused(event, product_id="") == ("product_id", "missing")


def test_a_negative_quantity_is_a_return_where_the_mapping_says_so():
    assert refused(event, quantity=-2) == ("quantity", "below 0: -2")
    found = event(TableMapping(negative_quantity="return"), event_type="purchase", quantity="-2")
    assert (found["event_type"], found["quantity"]) == ("return", 2.0)


def test_event_types_are_renamed_and_unknown_ones_stay():
    mapping = TableMapping(event_types={"pv": "view"})
    assert event(mapping, event_type="pv")["event_type"] == "view"
    assert event(mapping, event_type="gift")["event_type"] == "gift"


# --- mapping ---


def test_columns_constants_and_missing_tokens():
    mapping = TableMapping(
        columns={"user_id": ["Customer ID", "CustomerID"], "product_id": "sku"},
        constants={"event_type": "purchase"},
        missing=["n/a"],
    )
    parser = RowParser("events", mapping)
    found = parser.parse({"Customer ID": "n/a", "CustomerID": "7", "sku": "S", "query": " n/a ", "user_id": "no"})
    assert (found["user_id"], found["product_id"], found["event_type"], found["query"]) == ("7", "S", "purchase", "")
    assert parser.missing_columns(["sku"]) == ["Customer ID or CustomerID"]
    assert parser.missing_columns(["sku", "CustomerID"]) == []


def test_a_row_that_the_mapping_skips_is_no_bad_row():
    parser = RowParser("events", TableMapping(skip={"user_id": "", "price": r"0|0\.0+", "product_id": "(?i)post"}))
    assert parser.skips({**EVENT, "user_id": None, "price": "1"})
    assert parser.skips({**EVENT, "user_id": " ", "price": "1"})
    assert parser.skips({**EVENT, "price": "0.00"})
    assert parser.skips({**EVENT, "price": 0.0})
    assert parser.skips({**EVENT, "product_id": "Post", "price": "1"})
    assert not parser.skips({**EVENT, "product_id": "Postcard", "price": "1"})


def test_a_parser_travels_to_another_worker():
    parser = RowParser("events", TableMapping(constants={"event_type": "view"}), "position")
    row = {"user_id": "U", "product_id": "P", "position": "1"}
    assert pickle.loads(pickle.dumps(parser)).parse(row) == parser.parse(row)


# --- products ---


def test_text_is_cleaned_and_joined_from_its_columns():
    found = product(
        title="Tom &amp; Jerry&#39;s  <b>Mug</b>", description="Big", bullet_points=["Blue", None, "Round"], color=""
    )
    assert found["title"] == "Tom & Jerry's Mug"
    assert found["description"] == "Big. Blue. Round"
    # What was cut off inside a tag ends there; a sentence that has its end gets no other.
    assert product(description="Falls off.</p", bullet_points="Soft")["description"] == "Falls off. Soft"
    assert product(description=[])["description"] == ""
    assert refused(product, title={"en": "Mug"}) == ("title", "not a text: {'en': 'Mug'}")


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        (["Makeup", " Face ", ""], ["Makeup", "Face"]),
        ("Makeup > Face", ["Makeup", "Face"]),
        ("A>B", ["A/B"]),  # our own separator has blanks around it
        ([["A", "B"], ["C"]], ["A", "B"]),
        (2771072, ["2771072"]),
        (["Men &amp; Boys", None], ["Men & Boys"]),
        (None, []),
        ("", []),
        ([], []),
    ],
)
def test_a_category_is_a_path(raw, path):
    assert product(category=raw)["category"] == path


def test_rows_share_no_lists():
    parser = RowParser("products", TableMapping())
    one, other = parser.parse({"product_id": "1"}), parser.parse({"product_id": "2"})
    one["category"].append("A")
    assert other["category"] == []


def test_category_prefixes_and_the_text_of_a_product():
    assert category_prefixes(["A", "B", "C"]) == ["A", "A > B", "A > B > C"]
    assert product_text(product(title="Mug", category=["A", "B"])) == "Mug. A > B"
    assert product_text(product()) == ""


# --- users ---


def test_attributes_are_text_unless_the_mapping_calls_them_numbers():
    mapping = TableMapping(columns={"city": "Town"}, numeric=["age"], missing=["?"])
    assert user(mapping, Town=" Åbo ", age="34", tier=3) == {
        "city": "Åbo",
        "age": 34.0,
        "age_bucket": "31..37.1",
        "tier": "3",
    }
    assert user(mapping, Town="?", age="") == {"city": "", "age": None, "age_bucket": ""}
    assert refused(user, mapping, age="old") == ("age", "not a number: 'old'")
    assert RowParser("users", mapping).attribute_kinds(["user_id", "Town", "age"]) == {
        "city": False,
        "age": True,
        "age_bucket": False,
    }


# --- anything at all ---

ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=[]))
    | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@given(st.fixed_dictionaries({field.name: ANYTHING for field in EVENT_FIELDS}), st.sampled_from(["events", "products"]))
@example({"user_id": "\ud83d", "product_id": "P", "event_type": "view"}, "events")
def test_any_row_is_either_clean_or_refused_with_its_field(raw, table):
    parser = RowParser(table, TableMapping(missing=["-"], skip={"price": "0"}))
    row, error = None, None
    try:
        parser.skips(raw)
        row = parser.parse(raw)
    except RowError as refusal:
        error = refusal
    if error:
        assert error.field in {field.name for field in parser.fields}
        assert error.reason.startswith(error.kind)
        error.reason.encode("utf-8")
        return
    for field in parser.fields:
        value = row[field.name]
        if field.kind in ("id", "text"):
            assert isinstance(value, str)
            value.encode("utf-8")
        elif field.kind == "category":
            assert all(isinstance(level, str) and level for level in value)
        elif value is not None:
            assert isinstance(value, float if field.kind == "float" else int)
            assert math.isfinite(value)
            assert value >= field.minimum
