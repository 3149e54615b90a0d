"""JSON text is read and written as TensorFlow Serving does, with RapidJSON 1.1.0 inside."""

import math

import pytest

from serving.model_server.json_numbers import format_floats, parse_number, shortest_double
from serving.model_server.json_reader import parse_json
from serving.model_server.json_slow_reader import MISSING, JsonObject, read_slowly
from serving.model_server.json_writer import debug_text, error_body, quote
from serving.model_server.status import ServingError


def error_of(body: bytes) -> str:
    with pytest.raises(ServingError) as caught:
        parse_json(body)
    return caught.value.message


def test_whatever_follows_the_first_document_is_ignored():
    assert parse_json(b' {"a": [1, null]} {"b": 2} garbage') == [("a", [1, None])]


def test_a_byte_order_mark_at_the_start_is_skipped():
    assert parse_json(b'\xef\xbb\xbf{"a": true}') == [("a", True)]


def test_of_equal_keys_the_first_is_found_and_all_are_kept():
    document = parse_json(b'{"a": 1, "a": 2}')
    assert document == [("a", 1), ("a", 2)]
    assert document.find("a") == 1
    assert document.find("b") is MISSING


@pytest.mark.parametrize(
    ("token", "value"), [("Inf", math.inf), ("-Inf", -math.inf), ("Infinity", math.inf), ("-Infinity", -math.inf)]
)
def test_infinity_has_four_spellings(token, value):
    assert parse_json(b"[" + token.encode() + b"]") == [value]


@pytest.mark.parametrize("token", ["NaN", "-NaN"])
def test_nan_is_a_token_with_or_without_sign(token):
    assert math.isnan(parse_json(b"[" + token.encode() + b"]")[0])


def test_bytes_that_are_not_utf_8_pass_through():
    assert parse_json(b'["a\xff\xfe"]')[0].encode("utf-8", "surrogateescape") == b"a\xff\xfe"


def test_a_lone_low_surrogate_becomes_three_bytes_and_a_lone_high_one_is_an_error():
    assert parse_json(b'["\\udc80"]')[0].encode("utf-8", "surrogateescape") == b"\xed\xb2\x80"
    assert error_of(b'["\\ud83d"]') == "JSON Parse error: The surrogate pair in string is invalid. at offset: 2"


def test_an_escaped_surrogate_pair_is_one_character():
    assert parse_json(b'["\\ud83d\\ude00"]') == ["\N{GRINNING FACE}"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "The document is empty"),
        (b"  ", "The document is empty. at offset: 2"),
        (b"{", "Missing a name for object member. at offset: 1"),
        (b'{"a" 1}', "Missing a colon after a name of object member. at offset: 5"),
        (b'{"a": 1', "Missing a comma or '}' after an object member. at offset: 7"),
        (b'{"a": 1,}', "Missing a name for object member. at offset: 8"),
        (b"[1 2]", "Missing a comma or ']' after an array element. at offset: 3"),
        (b"[1,]", "Invalid value. at offset: 3"),
        (b"// comment", "Invalid value. at offset: 0"),
        (b"[tru]", "Invalid value. at offset: 4"),
        (b"[01]", "Missing a comma or ']' after an array element. at offset: 2"),
        (b"[1.]", "Miss fraction part in number. at offset: 3"),
        (b"[1e+]", "Miss exponent in number. at offset: 4"),
        (b"[-]", "Invalid value. at offset: 2"),
        (b"[1e400]", "Number too big to be stored in double. at offset: 1"),
        (b"[Infinit]", "Invalid value. at offset: 8"),
        (b'["a', "Missing a closing quotation mark in string. at offset: 3"),
        (b'["a\n"]', "Invalid escape character in string. at offset: 3"),
        (b'["\\q"]', "Invalid escape character in string. at offset: 2"),
        (b'["\\u12g4"]', "Incorrect hex digit after \\u escape in string. at offset: 2"),
    ],
)
def test_errors_name_the_fault_and_its_offset(body, message):
    assert error_of(body) == "JSON Parse error: " + message


def test_nesting_has_a_limit():
    assert parse_json(b"[" * 1000 + b"]" * 1000) is not None
    assert "Nesting deeper than 1000 levels" in error_of(b"[" * 100_000)


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": [1, 2.5, -3e2, "x\\n\\u00e4", {"b": {}}], "c": [], "d": null}',
        b"[0, -0, 1e5, 123456789012345678]",
        b'""',
    ],
)
def test_the_slow_reader_agrees_with_the_quick_one(body):
    assert read_slowly(body) == parse_json(body)


@pytest.mark.parametrize(
    ("token", "value"),
    [
        ("18446744073709551615", 18446744073709551615),
        ("18446744073709551616", 1.8446744073709552e19),
        ("-9223372036854775808", -9223372036854775808),
        ("-9223372036854775809", -9.223372036854775808e18),
        ("-0", 0),
        ("0.1", 0.1),
        ("1e-400", 0.0),
        ("123456789012345678e-5", 1234567890123.45678),
        # Correctly rounded it is 2.2250738585072011e-308; RapidJSON divides twice.
        ("5e-324", 5e-324),
    ],
)
def test_numbers_are_integers_while_they_fit_and_doubles_beyond(token, value):
    assert parse_number(token) == value
    assert type(parse_number(token)) is type(value)


def test_floats_are_written_in_six_digits_or_in_as_many_as_read_back_equal():
    single = [2.0, 0.10000000149011612, 1e-05, 9e6, 16777216.0, 0.3333333432674408, math.nan, -math.inf, -0.0]
    assert format_floats(single, single=True) == [
        "2.0", "0.1", "1e-05", "9e+06", "16777216.0", "0.333333343", "NaN", "-Infinity", "-0.0",
    ]  # fmt: skip
    assert format_floats([1 / 3, 0.1, 1e300], single=False) == ["0.33333333333333331", "0.1", "1e+300"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(1e30, "1e30"), (123.25, "123.25"), (0.001, "0.001"), (1.5e-9, "1.5e-9"), (1e20, "100000000000000000000.0")],
)
def test_numbers_in_error_texts_have_the_fewest_digits(value, text):
    assert shortest_double(value) == text


def test_strings_are_escaped_as_rapidjson_escapes_them():
    assert quote(b'a"\\/\n\x01\x1f\x7f\xc3\xa4\xff') == b'"a\\"\\\\/\\n\\u0001\\u001F\x7f\xc3\xa4\xff"'


def test_the_debug_text_of_a_value_is_cut_after_some_256_bytes():
    assert debug_text(JsonObject([("a", [1, True, None]), ("b", "x")])) == (
        '{\n    "a": [1, true, null],\n    "b": "x"\n}'
    )
    assert debug_text(list(range(1000))) == "[" + ", ".join(map(str, range(67)))


def test_an_error_is_an_object_with_one_key():
    assert error_body('no "x"') == b'{\n    "error": "no \\"x\\""\n}'
