"""Mappings: the shipped ones load, and a mistake in one's own is told with its place."""

import pytest

from pipelines import values
from tfrs_shop.errors import UserError
from tfrs_shop.mapping import Mapping, load_mapping, shipped_mappings


def refusal(tmp_path, text):
    file = tmp_path / "mine.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load_mapping(str(file))
    return str(caught.value).replace(f"{file}: ", "")


def test_every_shipped_mapping_loads_and_says_what_it_is_for():
    assert shipped_mappings() == ["amazon_reviews_2023", "rees46", "taobao_user_behavior", "uci_online_retail"]
    for name in shipped_mappings():
        assert len(load_mapping(name).description) > 40


def test_no_mapping_is_the_empty_one():
    assert load_mapping("") == Mapping()


def test_an_unknown_mapping_suggests_the_nearest_shipped_one():
    with pytest.raises(UserError, match=r"--mapping rees64: no such file, .* Did you mean 'rees46'\? Shipped: amazon"):
        load_mapping("rees64")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("events: {colums: {}}", "events: unknown setting 'colums'. Did you mean 'columns'?"),
        ("events: {columns: {produkt_id: sku}}", "events: unknown field 'produkt_id'. Did you mean 'product_id'?"),
        ("events: {columns: {price: 3}}", "events: columns: price: expected text or a list, found 3."),
        ("events: {columns: {price: [a, 3]}}", "events: columns: price[1]: expected text, found 3."),
        ("events: {timestamp_unit: min}", "events: timestamp_unit: 'min' is not one of auto, s, ms, us, ns."),
        ("events: {delimiter: '||'}", "events: delimiter: '||' is not one character."),
        ("events: {timestamp_formats: ['%Q']}", "events: timestamp_formats: '%Q' is not a strptime format"),
        ("events: {skip: {user_id: '('}}", "events: skip: user_id: '(' is not a regular expression"),
        ("events: {header: [a, b, a]}", "events: header: names the column 'a' twice"),
        ("events: {constants: {event_type: 1}}", "events: constants: event_type: expected text, found 1."),
        (
            "events: {constants: {event_type: view}, columns: {event_type: e}}",
            "events: columns and constants both name 'event_type'",
        ),
        ("products: {category_separator: ''}", "products: category_separator: must not be empty"),
        ("users: {skip: {city: Oslo}}", "users: constants and skip know only user_id, not 'city'."),
        ("events: [", "is not valid YAML"),
        ("- a", "expected named settings, found ['a']."),
        ("events:", "events: expected named settings, found None."),
    ],
)
def test_a_mistake_in_a_mapping_is_told_with_its_place(tmp_path, text, message):
    assert refusal(tmp_path, text).startswith(message)


def test_a_time_format_may_have_a_zone(tmp_path):
    (tmp_path / "m.yaml").write_text("events: {timestamp_formats: ['%a %b %d %H:%M:%S %z %Y']}", encoding="utf-8")
    formats = load_mapping(str(tmp_path / "m.yaml")).events.timestamp_formats
    assert values.time("timestamp", "Wed Mar 22 11:37:04 -0700 2017", formats) == 1490207824000
