"""REST predictions: formats, type rules, the order of checks, and the words of errors."""

import json

import pytest
from test_model_server_support import Client, manager_for, save_half_plus_two, save_pair, save_types

HALF = "/v1/models/half:predict"
PAIR = "/v1/models/pair:predict"
TYPES = "/v1/models/types:predict"


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    base = tmp_path_factory.mktemp("models")
    save_half_plus_two(base / "half")
    save_pair(base / "pair")
    save_types(base / "types")
    return Client(manager_for({name: base / name for name in ("half", "pair", "types")}))


def test_rows_of_a_single_input_are_bare_values(client):
    assert client.post(HALF, {"instances": [1.0, 2, 5]}) == (200, {"predictions": [2.5, 3.0, 4.5]})


def test_rows_may_name_the_single_input(client):
    assert client.post(HALF, {"instances": [{"x": 1.0}, {"x": 2}]}) == (200, {"predictions": [2.5, 3.0]})


def test_columns_of_a_single_input_may_be_bare_or_named(client):
    assert client.post(HALF, {"inputs": [1.0, 2.0]}) == (200, {"outputs": [2.5, 3.0]})
    assert client.post(HALF, {"inputs": {"x": [1.0], "ignored": "y"}}) == (200, {"outputs": [2.5]})


def test_the_answer_is_laid_out_byte_for_byte_as_tensorflow_serving_does(client):
    row = client.rest.answer("POST", HALF, {}, b'{"instances": [1, 2]}')
    assert row.body == b'{\n    "predictions": [2.5, 3.0\n    ]\n}'
    column = client.rest.answer("POST", HALF, {}, b'{"inputs": [1]}')
    assert column.body == b'{\n    "outputs": [\n        2.5\n    ]\n}'
    objects = client.rest.answer("POST", PAIR, {}, b'{"instances": [{"a": 1, "label": "\xff\\n"}]}')
    assert objects.body == (
        b'{\n    "predictions": [\n        {\n            "label": "\xff\\n",\n            "label_bytes": {\n'
        b'                "b64": "/wo="\n            },\n            "score": 2.0\n        }\n    ]\n}'
    )


def test_several_outputs_make_objects(client):
    body = {"instances": [{"a": 1, "label": "x"}, {"label": {"b64": "eQ=="}, "a": 2}]}
    assert client.post(PAIR, body) == (
        200,
        {
            "predictions": [
                {"score": 2.0, "label": "x", "label_bytes": {"b64": "eA=="}},
                {"score": 4.0, "label": "y", "label_bytes": {"b64": "eQ=="}},
            ]
        },
    )


def test_shapes_are_not_checked_against_the_signature(client):
    assert client.post(HALF, {"instances": [[1.0, 2.0], [3.0, 4.0]]}) == (
        200,
        {"predictions": [[2.5, 3.0], [3.5, 4.0]]},
    )
    assert client.post(HALF, {"inputs": 1.0}) == (200, {"outputs": 2.5})
    assert client.post(HALF, {"inputs": []}) == (200, {"outputs": []})


def test_nan_and_infinity_go_in_and_out(client):
    answer = client.rest.answer("POST", HALF, {}, b'{"inputs": [NaN, Infinity, -Inf]}')
    assert b"NaN" in answer.body
    assert json.loads(answer.body)["outputs"][1:] == [float("inf"), float("-inf")]


@pytest.mark.parametrize(
    ("dtype", "values", "expected"),
    [
        ("float", "[1, 0.1, 1e39]", [1.0, 0.1, float("inf")]),
        ("double", "[0.1, 9007199254740993]", [0.1, 9007199254740992.0]),
        ("int8", "[300, -129]", [44, 127]),
        ("int16", "[70000]", [4464]),
        ("uint8", "[256, -1]", [0, 255]),
        ("int32", "[2147483647, -2147483648]", [2147483647, -2147483648]),
        ("int64", "[-9223372036854775808]", [-9223372036854775808]),
        ("uint32", "[4294967295]", [4294967295]),
        ("uint64", "[18446744073709551615]", [18446744073709551615]),
        ("bool", "[true, false]", [True, False]),
        ("string", '["a", {"b64": "Yg"}]', ["a", "b"]),
    ],
)
def test_values_of_every_type_go_through(client, dtype, values, expected):
    for key, answer_key in (("instances", "predictions"), ("inputs", "outputs")):
        body = f'{{"signature_name": "{dtype}", "{key}": {values}}}'
        assert client.post(TYPES, body) == (200, {answer_key: expected})


@pytest.mark.parametrize(
    ("dtype", "value", "shown", "kind"),
    [
        ("float", "true", "true", "True"),
        ("float", '"NaN"', '"NaN"', "String"),
        ("float", "null", "null", "Null"),
        ("int32", "1.0", "1.0", "Number"),
        ("int32", "1e3", "1000.0", "Number"),
        ("int32", "2147483648", "2147483648", "Number"),
        ("int64", "9223372036854775808", "9223372036854775808", "Number"),
        ("uint32", "-1", "-1", "Number"),
        ("uint64", "18446744073709551616", "18446744073709552000.0", "Number"),
        ("int8", "2147483648", "2147483648", "Number"),
        ("bool", "1", "1", "Number"),
        ("string", "1", "1", "Number"),
        ("int32", '{"b64": "eA=="}', '{\n    "b64": "eA=="\n}', "Object"),
    ],
)
def test_a_value_of_another_type_is_refused(client, dtype, value, shown, kind):
    body = f'{{"signature_name": "{dtype}", "inputs": [{value}]}}'
    cause = f"JSON Value: {shown} Type: {kind} is not of expected type: {dtype}"
    assert client.error(TYPES, body) == (400, cause)
    body = f'{{"signature_name": "{dtype}", "instances": [{value}]}}'
    assert client.error(TYPES, body) == (
        400,
        f"Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: {cause}",
    )


@pytest.mark.parametrize("dtype", ["half", "bfloat16", "uint16"])
def test_types_without_a_json_form_are_501_in_columns_and_400_in_rows(client, dtype):
    text = f"Conversion of JSON Value: 1 to type: {dtype}"
    assert client.error(TYPES, {"signature_name": dtype, "inputs": [1]}) == (501, text)
    assert client.error(TYPES, {"signature_name": dtype, "instances": [1]}) == (
        400,
        f"Failed to process element: 0 of 'instances' list. Error: UNIMPLEMENTED: {text}",
    )


def test_base64_takes_missing_padding_and_blanks_but_not_the_web_alphabet(client):
    def ask(text):
        return client.post(TYPES, {"signature_name": "string", "inputs": [{"b64": text}]})

    assert ask("aGk")[1] == ask(" aG\nk= ")[1] == ask("aGk=")[1] == {"outputs": ["hi"]}
    for wrong in ("aGk==", "a", "_w==", "a*Gk", "aG=k"):
        assert ask(wrong) == (400, {"error": "Unable to base64 decode"})


def test_an_object_that_is_no_base64_is_refused_for_strings(client):
    status, error = client.error(TYPES, {"signature_name": "string", "inputs": [{"b64": 1}]})
    assert status == 400
    assert error.endswith("not formatted correctly for base64 data")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"instances": []}, "No values in 'instances' array"),
        ({"instances": [1], "inputs": [1]}, "Not formatted correctly expecting only one of 'inputs' or 'instances'"),
        ({}, "Missing 'inputs' or 'instances' key"),
        ({"instances": 1}, "Expecting 'instances' to be an list/array"),
        ([1], "JSON Value: [1] Is not object"),
        ({"signature_name": 1, "inputs": [1]}, "'signature_name' key must be a string value."),
        ({"instances": [1, {"x": 1}]}, "Expecting value/list but got object at item 1 of input list"),
        ({"instances": [{"x": 1}, 1]}, "Expecting object but got list at item 1 of input list"),
        ({"instances": [{"y": 1}]}, "JSON object: does not have named input: y"),
        ({"instances": [{"x": 1}, {}]}, "of 'instances' list. JSON object: {} keys must be equal to: x"),
        ({"instances": [1, [1]]}, "Expecting shape [] but got: [1]"),
        ({"instances": [[1, 2], [1]]}, "Expecting tensor size: 2 but got: 1"),
        ({"instances": [[[1, 2]], [[1], [2]]]}, "Expecting shape [1,2] but got: [2,1]"),
        ({"inputs": [[1], [1, 2]]}, "Encountered list at unexpected size: 2 at level: 1 expected size: 1"),
        ({"inputs": [1, [1]]}, "Encountered list at unexpected level: 1 expected < 1"),
        ({"inputs": [[1], 1]}, "JSON Value: 1 found at incorrect level: 2 in the JSON DOM. Expected at level: 2"),
        ({"inputs": {"y": [1]}}, "Missing named input: x in 'inputs' object."),
    ],
)
def test_malformed_requests_are_400_and_say_why(client, body, message):
    status, error = client.error(HALF, body)
    assert status == 400
    assert message in error


@pytest.mark.parametrize("depth", [30, 300, 900, 990, 5000])
@pytest.mark.parametrize("leaf", ["1", "null", '{"b64": "eA=="}'])
@pytest.mark.parametrize("key", ["instances", "inputs"])
def test_deep_nesting_is_400_and_never_500(client, key, leaf, depth):
    body = f'{{"{key}": {"[" * depth}{leaf}{"]" * depth}}}'
    assert client.post(HALF, body)[0] == (200 if leaf == "1" and depth == 30 else 400)


def test_several_inputs_need_objects(client):
    assert client.error(PAIR, {"instances": [1]})[1].startswith("instances is a plain list, but expecting list of obj")
    assert client.error(PAIR, {"inputs": [1]})[1].startswith("inputs is a plain value/list, but expecting an object")
    assert "keys must be equal to: a,label" in client.error(PAIR, {"instances": [{"a": 1}]})[1]


def test_an_equal_key_inside_a_row_appends_a_value_and_the_surplus_is_dropped(client):
    body = b'{"instances": [{"x": 1, "x": 5}, {"x": 2}]}'
    assert client.post(HALF, body) == (200, {"predictions": [2.5, 4.5]})


def test_defaults_of_a_signature_do_not_count_over_rest(client):
    body = {"signature_name": "with_default", "instances": [{"x": 1}]}
    assert "keys must be equal to: step,x" in client.error(PAIR, body)[1]
    body = {"signature_name": "with_default", "inputs": {"x": [1]}}
    assert client.error(PAIR, body) == (400, "Missing named input: step in 'inputs' object.")


def test_outputs_that_are_no_rows_are_refused_in_row_format_alone(client):
    assert client.error(PAIR, {"signature_name": "scalar", "instances": [1]}) == (
        400,
        "Tensor name: total has no shape information ",
    )
    assert client.post(PAIR, {"signature_name": "scalar", "inputs": [1, 2]}) == (200, {"outputs": 3.0})
    assert client.error(PAIR, {"signature_name": "uneven", "instances": [1, 2]}) == (
        400,
        "Tensor name: first has inconsistent batch size: 1 expecting: 2",
    )


def test_an_error_inside_the_graph_keeps_its_code_and_has_no_stack_trace(client):
    status, error = client.error(PAIR, {"signature_name": "lookup", "instances": [7]})
    assert status == 400
    assert "7 is not in [0, 3)" in error
    assert "Traceback" not in error


def test_bytes_that_are_not_utf_8_come_back_in_an_error_as_they_are(client):
    body = b'{"signature_name": "number", "instances": ["1.5", "\xff"]}'
    answer = client.rest.answer("POST", PAIR, {}, body)
    assert answer.status == 400
    assert b"StringToNumberOp could not correctly convert string: \xff" in answer.body


def test_json_errors_win_over_unknown_models_and_those_over_bad_instances(client):
    assert client.post("/v1/models/none:predict", b"{")[0] == 400
    assert client.post("/v1/models/none:predict", {"instances": []}) == (
        404,
        {"error": "Servable not found for request: Latest(none)"},
    )


def test_an_unknown_signature_is_400_while_parsing(client):
    assert client.error(HALF, {"signature_name": "nope", "instances": [1]}) == (
        400,
        'Serving signature name: "nope" not found in signature def',
    )


@pytest.mark.parametrize("leaf", ["1.0", ""])
def test_more_dimensions_than_tensorflow_reads_are_refused_before_it_sees_them(client, leaf):
    """They ended the process inside TensorFlow."""
    status, answer = client.post(HALF, f'{{"inputs": {"[" * 33}{leaf}{"]" * 33}}}')
    assert (status, answer) == (400, {"error": "input x has 33 dimensions; at most 32 are supported"})
