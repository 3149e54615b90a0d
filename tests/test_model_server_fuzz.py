"""Whatever a client sends, the answer is well-formed, no 500, and right where the request is."""

import contextlib
import json
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensorflow.core.framework import tensor_pb2
from test_model_server_support import DTYPES, Client, manager_for, save_half_plus_two, save_pair, save_types

from serving.model_server import json_request
from serving.model_server.http_parser import HttpError, RequestParser
from serving.model_server.json_numbers import format_floats, parse_number
from serving.model_server.json_reader import parse_json
from serving.model_server.json_slow_reader import JsonObject, read_slowly
from serving.model_server.json_writer import quote, quote_all
from serving.model_server.predict import predict
from serving.model_server.status import Code, ServingError
from serving.model_server.tensor_protos import from_proto, to_proto

QUICK = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["b64", "x", "a", "label", "NaN", 1e39, 2**31, 2**63, 2**64, -(2**63) - 1])
)
keys = st.sampled_from(["x", "a", "label", "b64", "instances", "inputs", "signature_name"]) | st.text(max_size=3)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=3), max_leaves=12
)
signatures = st.sampled_from(["", *DTYPES, "scalar", "lookup", "uneven", "with_default", "nope"])


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    base = tmp_path_factory.mktemp("models")
    save_half_plus_two(base / "half")
    save_pair(base / "pair")
    save_types(base / "types")
    return Client(manager_for({name: base / name for name in ("half", "pair", "types")}))


def check(client, path, body):
    answer = client.rest.answer("POST", path, {}, body)
    assert answer.status in (200, 400, 404, 501), answer.body
    content = json.loads(answer.body.decode("utf-8", "surrogateescape"))
    assert list(content) in (["predictions"], ["outputs"], ["results"], ["error"])
    assert "Traceback" not in str(content)
    return answer.status


@QUICK
@given(body=st.binary(max_size=60), model=st.sampled_from(["half", "none"]))
def test_any_bytes_get_a_well_formed_answer(client, body, model):
    check(client, f"/v1/models/{model}:predict", body)
    check(client, f"/v1/models/{model}:classify", body)


@QUICK
@given(
    model=st.sampled_from(["half", "pair", "types"]),
    key=st.sampled_from(["instances", "inputs", "examples"]),
    method=st.sampled_from(["predict", "classify", "regress"]),
    signature=signatures,
    value=values,
)
def test_any_json_gets_a_well_formed_answer(client, model, key, method, signature, value):
    body = {"signature_name": signature, key: value} if signature else {key: value}
    check(client, f"/v1/models/{model}:{method}", json.dumps(body).encode())


@QUICK
@given(
    body=st.builds(lambda value: json.dumps({"instances": [value]}).encode(), values),
    cut=st.integers(0, 40),
    noise=st.binary(max_size=3),
)
def test_mutated_json_gets_a_well_formed_answer(client, body, cut, noise):
    check(client, "/v1/models/types:predict", body[:cut] + noise + body[cut + 1 :])


@QUICK
@given(path=st.text("/v1modelsversionslabels:predict09%?#", max_size=40), method=st.sampled_from(["GET", "POST"]))
def test_any_path_gets_an_answer_that_is_no_500(client, path, method):
    assert client.rest.answer(method, "/v1/" + path, {}, b"{}").status in (200, 400, 404)


@QUICK
@given(numbers=st.lists(st.floats(width=32), min_size=1, max_size=5))
def test_floats_come_back_as_they_were_sent(client, numbers):
    body = {"signature_name": "float", "instances": numbers}
    status, answer = client.post("/v1/models/types:predict", body)
    assert status == 200
    assert np.array_equal(np.float32(answer["predictions"]), np.float32(numbers), equal_nan=True)


@QUICK
@given(texts=st.lists(st.text(), min_size=1, max_size=4))
def test_strings_come_back_as_they_were_sent(client, texts):
    for ascii_only in (True, False):
        body = json.dumps({"signature_name": "string", "inputs": texts}, ensure_ascii=ascii_only)
        status, answer = client.post("/v1/models/types:predict", body.encode("utf-8", "surrogatepass"))
        if status == 200:
            expected = [text.encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape") for text in texts]
            assert answer == {"outputs": expected}
        else:
            assert "surrogate pair in string is invalid" in answer["error"]


@QUICK
@given(rows=st.lists(st.lists(st.integers(-5, 5), min_size=2, max_size=2), min_size=1, max_size=4))
def test_integers_of_any_shape_come_back(client, rows):
    body = {"signature_name": "int64", "instances": rows}
    assert client.post("/v1/models/types:predict", body) == (200, {"predictions": rows})


@QUICK
@given(instances=st.lists(values, min_size=1, max_size=4), dtype=st.sampled_from([1, 3, 7, 9, 10]))
def test_the_quick_way_through_rows_agrees_with_the_careful_one(instances, dtype):
    body = json.dumps({"instances": instances}).encode()

    def read():
        try:
            arrays = json_request.parse_predict(body, lambda _: {"x": dtype}).inputs
            return {name: (str(array.dtype), array.shape, repr(array.tolist())) for name, array in arrays.items()}
        except ServingError as error:
            return str(error)

    quick = read()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_request, "quick_fill", lambda *_: None)
        assert read() == quick


@QUICK
@given(value=values)
def test_the_two_readers_agree(value):
    body = json.dumps(value).encode()

    def read(reader):
        try:
            return repr(reader(body))
        except ServingError as error:
            return str(error)

    assert read(parse_json) == read(read_slowly)


@QUICK
@given(digits=st.integers(0, 10**15 - 1), power=st.integers(-22, 7))
def test_numbers_of_up_to_15_digits_are_read_exactly(digits, power):
    assert parse_number(f"{digits}e{power}") == float(f"{digits}e{power}")


@QUICK
@given(value=st.floats(allow_nan=False, allow_infinity=False))
def test_a_written_double_reads_back_equal_and_looks_like_a_double(value):
    (text,) = format_floats([value], single=False)
    assert float(text) == value
    assert "." in text or "e" in text
    assert math.isclose(float(parse_number(text.replace("+", ""))), value, rel_tol=1e-15, abs_tol=1e-300)


@QUICK
@given(values=st.lists(st.floats(width=32)))
def test_floats_are_written_together_as_each_alone(values):
    assert format_floats(values, single=True) == [format_floats([value], single=True)[0] for value in values]
    with np.errstate(over="ignore"):
        assert np.array_equal(
            np.array([*map(float, format_floats(values, single=True))], np.float32), np.float32(values), True
        )


@QUICK
@given(values=st.lists(st.binary(max_size=20)))
def test_strings_are_quoted_together_as_each_alone(values):
    assert quote_all(values) == [quote(value) for value in values]


@QUICK
@given(data=st.binary(max_size=200), cuts=st.lists(st.integers(0, 200), max_size=5))
def test_the_http_parser_raises_nothing_but_its_own_error(data, cuts):
    parser = RequestParser(100)
    start = 0
    with contextlib.suppress(HttpError):
        for cut in [*sorted(cuts), len(data)]:
            parser.feed(b"POST / HTTP/1.1\r\n" * (start == 0) + data[start:cut])
            start = max(start, cut)
            parser.next_request()


@QUICK
@given(body=st.binary(max_size=50), sizes=st.lists(st.integers(1, 9), min_size=1, max_size=60))
def test_a_request_is_the_same_however_its_bytes_arrive(body, sizes):
    data = b"POST /x HTTP/1.1\r\nContent-Length: %d\r\nA: b\r\n\r\n%s" % (len(body), body)
    parser = RequestParser(100)
    request = None
    for size in [*sizes, len(data)]:
        parser.feed(data[:size])
        data = data[size:]
        request = request or parser.next_request()
    assert request.body == body
    assert request.headers == {"content-length": str(len(body)), "a": "b"}


def tensor_proto(dtype, dims, content, numbers, texts, field):
    proto = tensor_pb2.TensorProto(dtype=dtype, tensor_content=content, string_val=texts)
    for size in dims:
        proto.tensor_shape.dim.add(size=size)
    if field != "string_val":
        getattr(proto, field).extend(bool(number) if field == "bool_val" else number for number in numbers)
    return proto


@QUICK
@given(
    proto=st.builds(
        tensor_proto,
        dtype=st.integers(0, 26) | st.sampled_from([101, 103]),
        dims=st.lists(st.integers(0, 3) | st.sampled_from([-1, 2**40]), max_size=4),
        content=st.just(b"") | st.binary(max_size=12),
        numbers=st.lists(st.integers(0, 100), max_size=5),
        texts=st.lists(st.binary(max_size=3), max_size=3),
        field=st.sampled_from(
            ["float_val", "double_val", "int_val", "int64_val", "bool_val", "half_val", "string_val"]
        ),
    ),
    name=st.sampled_from(sorted(DTYPES)),
)
def test_any_tensor_over_grpc_is_answered_or_is_an_invalid_argument(client, proto, name):
    with client.rest._manager.serving.servable("types") as servable:
        try:
            answer = predict(servable, name, {"x": proto})["y"]
        except ServingError as error:
            assert error.code is Code.INVALID_ARGUMENT, error  # noqa: PT017  # an answer is as good as this error
            return
    assert list(answer.shape) == [dim.size for dim in proto.tensor_shape.dim]
    back = tensor_pb2.TensorProto()
    to_proto(answer, back)
    assert repr(from_proto(back, "y").ravel().tolist()) == repr(answer.ravel().tolist())


def test_objects_of_the_reader_are_lists_of_pairs():
    assert parse_json(b'{"a": {"b": 1}}') == JsonObject([("a", JsonObject([("b", 1)]))])
