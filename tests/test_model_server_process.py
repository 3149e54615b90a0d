"""The server as a process: flags, both protocols on their ports, waiting for a model, and SIGTERM."""

import gzip
import http.client
import json
import subprocess
import sys
import threading
import time

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)
from test_model_server_support import Server, running_server, save_pair, save_slow

from serving.model_server.flags import parse_flags
from serving.model_server.grpc_drain import REFUSAL
from serving.model_server.tensor_protos import to_proto
from tfrs_shop.errors import UserError


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    base = tmp_path_factory.mktemp("models")
    save_pair(base)
    with running_server("--model_name=pair", f"--model_base_path={base}") as running:
        yield running


@pytest.fixture(scope="module")
def channel(server):
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        yield channel


def predict_request(signature="", model="pair", **inputs):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    for name, value in inputs.items():
        array = np.array(value, dtype=np.float32 if not isinstance(value[0], bytes) else object)
        to_proto(array, request.inputs[name])
    return request


def failure(call, request):
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=10)
    return caught.value.code(), caught.value.details()


def test_one_line_says_when_it_is_ready(server):
    line = server.wait_for("Ready.")
    assert line == (
        f"Ready. Versions in service: pair 1. REST: http://127.0.0.1:{server.rest_port}/v1/models. "
        f"gRPC: 127.0.0.1:{server.grpc_port}\n"
    )


def test_rest_answers_over_http(server):
    body = b'{"signature_name": "scalar", "inputs": [1, 2]}'
    status, headers, answer = server.request("POST", "/v1/models/pair:predict", body)
    assert (status, headers["Content-Type"], json.loads(answer)) == (200, "application/json", {"outputs": 3.0})


def test_ops_of_tensorflow_text_are_known_without_being_asked_for(server):
    body = '{"signature_name": "fold", "inputs": ["STRASSE", "ÄB"]}'.encode()
    status, _, answer = server.request("POST", "/v1/models/pair:predict", body)
    assert (status, json.loads(answer)) == (200, {"outputs": ["strasse", "äb"]})


def test_gzip_requests_are_taken_and_answers_are_not_compressed(server):
    body = gzip.compress(b'{"signature_name": "scalar", "inputs": [1, 2]}')
    headers = {"Content-Encoding": "gzip", "Accept-Encoding": "gzip"}
    status, answer_headers, answer = server.request("POST", "/v1/models/pair:predict", body, headers)
    assert (status, json.loads(answer)) == (200, {"outputs": 3.0})
    assert "Content-Encoding" not in answer_headers


def test_outside_the_api_the_answer_is_an_html_404(server):
    status, headers, answer = server.request("GET", "/")
    assert (status, headers["Content-Type"]) == (404, "text/html")
    assert b"<H1>Not Found</H1>" in answer


def test_grpc_predict_answers_in_typed_fields_with_version_and_signature(channel):
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    answer = stub.Predict(predict_request(a=[1.0, 2.0], label=[b"x", b"\xff"]), timeout=10)
    assert list(answer.outputs["score"].float_val) == [2.0, 4.0]
    assert list(answer.outputs["label"].string_val) == [b"x", b"\xff"]
    assert not answer.outputs["score"].tensor_content
    assert (answer.model_spec.name, answer.model_spec.version.value) == ("pair", 1)
    assert answer.model_spec.signature_name == "serving_default"


def test_grpc_predict_uses_defaults_and_filters_outputs(channel):
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    assert list(stub.Predict(predict_request("with_default", x=[1.0]), timeout=10).outputs["y"].float_val) == [4.0]
    request = predict_request(a=[1.0], label=[b"x"])
    request.output_filter.append("score")
    assert list(stub.Predict(request, timeout=10).outputs) == ["score"]
    request.output_filter.append("nope")
    code, text = failure(stub.Predict, request)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert text.startswith("output tensor alias not found in signature: nope")


def test_grpc_errors_have_the_codes_of_tensorflow_serving(channel):
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    assert failure(stub.Predict, predict_pb2.PredictRequest()) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "Missing ModelSpec",
    )
    assert failure(stub.Predict, predict_request(model="none", x=[1.0])) == (
        grpc.StatusCode.NOT_FOUND,
        "Servable not found for request: Latest(none)",
    )
    assert failure(stub.Predict, predict_request("nope", x=[1.0])) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        'Serving signature key "nope" not found.',
    )
    code, text = failure(stub.Predict, predict_request(a=[1.0]))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert text == (
        "input size does not match signature: 1!=2 len({a}) != len({a,label}). Sent extra: {}. "
        "Missing but required: {label}."
    )
    assert failure(stub.Predict, predict_request("scalar", x=[b"text"])) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "Expects arg[0] to be float but string is provided",
    )


def test_grpc_metadata_holds_the_signatures(channel):
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    request = get_model_metadata_pb2.GetModelMetadataRequest()
    request.model_spec.name = "pair"
    code, text = failure(stub.GetModelMetadata, request)
    assert (code, text) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "GetModelMetadataRequest must specify at least one metadata_field",
    )
    request.metadata_field.append("signature_def")
    signatures = get_model_metadata_pb2.SignatureDefMap()
    stub.GetModelMetadata(request, timeout=10).metadata["signature_def"].Unpack(signatures)
    assert set(signatures.signature_def["serving_default"].outputs) == {"score", "label", "label_bytes"}


def test_grpc_status_lists_versions(channel):
    stub = model_service_pb2_grpc.ModelServiceStub(channel)
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "pair"
    (status,) = stub.GetModelStatus(request, timeout=10).model_version_status
    assert (status.version, status.state, status.status.error_code) == (1, 30, 0)
    request.model_spec.version.value = 7
    assert failure(stub.GetModelStatus, request) == (
        grpc.StatusCode.NOT_FOUND,
        "Could not find version 7 of model pair",
    )


def test_it_waits_for_a_model_and_loses_no_request_when_sigterm_comes_under_load(tmp_path):
    server = Server("--model_name=slow", f"--model_base_path={tmp_path / 'slow'}")
    server.wait_for("Could not find base path")
    save_slow(tmp_path / "slow", seconds=0.05)
    server.wait_for("Ready.")
    answered, failed = [], []

    def ask_until_refused():
        connection = None
        while True:
            try:
                if connection is None:
                    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=10)
                    connection.connect()
            except OSError:
                return
            try:
                connection.request("POST", "/v1/models/slow:predict", b'{"inputs": [1]}')
                response = connection.getresponse()
                answered.append(json.loads(response.read()))
                if response.getheader("Connection") == "close":
                    connection = None
            except OSError as error:
                failed.append(error)
                connection = None

    def ask_over_grpc():
        request = predict_request(model="slow", x=[1.0])
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            while True:
                try:
                    response = stub.Predict(request, timeout=10)
                except grpc.RpcError as error:
                    # Said before the request was looked at: it was not lost, and may be sent elsewhere.
                    if error.code() is grpc.StatusCode.UNAVAILABLE and error.details() == REFUSAL:
                        return
                    failed.append(error)
                    return
                answered.append({"outputs": list(response.outputs["y"].float_val)})

    threads = [threading.Thread(target=ask) for ask in (ask_until_refused, ask_over_grpc) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    assert server.terminate() == 0
    for thread in threads:
        thread.join(20)
    assert failed == []
    assert answered
    assert all(answer == {"outputs": [2.0]} for answer in answered)


def test_sigterm_before_any_model_is_there_ends_at_once(tmp_path):
    server = Server(f"--model_base_path={tmp_path}")
    server.wait_for("No versions of servable default found under base path")
    assert server.terminate() == 0


def test_a_port_that_is_taken_is_one_clear_sentence(tmp_path, server):
    second = Server(f"--model_base_path={tmp_path}", f"--rest_api_port={server.rest_port}")
    assert second.process.wait(60) == 2
    second.wait_for(f"--rest_api_port={server.rest_port}: cannot listen on 127.0.0.1: Address already in use.")


def test_an_unknown_flag_ends_the_process_with_2_before_tensorflow_is_imported():
    ended = subprocess.run(
        [sys.executable, "-m", "serving.model_server", "--model_base_pat=/x"],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ended.returncode == 2
    assert ended.stderr == "--model_base_pat: unknown flag. Did you mean 'model_base_path'? See --help.\n"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model_name=x"], "--model_base_path: missing"),
        (["--model_base_path=/x", "--port=0"], "at least one must be a port"),
        (["--model_base_path=/x", "--port=1", "--rest_api_port=1"], "must differ from --port"),
        (["--model_base_path=/x", "--port=70000"], "must be 0 (off) to 65535"),
        (["--model_base_path=/x", "--port=many"], "invalid int value: 'many'"),
        (["--model_base_path=/x", "--enable_model_warmup=maybe"], "'maybe' is neither true nor false"),
        (["--model_base_path=/x", "--ssl_config_file=/y"], "put a proxy that speaks TLS before it"),
        (["--model_base_path=/x", "stray"], "unrecognized arguments: stray"),
    ],
)
def test_wrong_flags_are_one_clear_sentence(flags, message):
    with pytest.raises(UserError, match=r"--|unrecognized") as caught:
        parse_flags(flags)
    assert message in str(caught.value)


def test_flags_have_the_defaults_of_tensorflow_model_server():
    options = parse_flags(["--model_base_path=/models/shop", "--flush_filesystem_caches=false", "--num_load_threads=4"])
    assert (options.model_name, options.port, options.rest_api_port) == ("default", 8500, 0)
    assert (options.rest_api_timeout_in_ms, options.file_system_poll_wait_seconds) == (30000, 1)
    assert (options.max_num_load_retries, options.load_retry_interval_micros) == (5, 60_000_000)
    assert options.host == "127.0.0.1"
