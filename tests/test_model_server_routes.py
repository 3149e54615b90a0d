"""Paths, versions, labels, status and metadata over REST."""

import pytest
from test_model_server_support import Client, manager_for, save_half_plus_two

from serving.model_server.rest import RestApi


@pytest.fixture(scope="module")
def manager(tmp_path_factory):
    base = tmp_path_factory.mktemp("models")
    save_half_plus_two(base / "half", 3)
    save_half_plus_two(base / "ot her", 1)
    manager = manager_for({"half": base / "half", "a b": base / "ot her"})
    manager.serving.set_labels({"half": {"stable": 3, "gone": 2}})
    return manager


@pytest.fixture(scope="module")
def client(manager):
    return Client(manager)


ONE = {"instances": [1]}


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/half:predict",
        "/V1/Models/half:predict",
        "/v1/models/half/versions/3:predict",
        "/v1/models/half/VERSIONS/0003:predict",
        "/v1/models/half/labels/stable:predict",
        "/v1/models/a%20b:predict",
        "/v1/models/h%61lf:predict",
    ],
)
def test_a_model_is_found_by_name_version_or_label(client, path):
    assert client.post(path, ONE) == (200, {"predictions": [2.5]})


@pytest.mark.parametrize(
    ("path", "status", "error"),
    [
        ("/v1/models/none:predict", 404, "Servable not found for request: Latest(none)"),
        ("/v1/models/half/versions/9:predict", 404, "Servable not found for request: Specific(half, 9)"),
        ("/v1/models/half/labels/gone:predict", 404, "Servable not found for request: Specific(half, 2)"),
        ("/v1/models/half/labels/none:predict", 400, "Unrecognized servable version label: none"),
        ("/v1/models/none/labels/none:predict", 400, "Unrecognized servable version label: none"),
        ("/v1/models/..%2f..%2fetc:predict", 404, "Servable not found for request: Latest(../../etc)"),
        ("/v1/models/half:PREDICT", 400, "Malformed request: POST /v1/models/half:PREDICT"),
        ("/v1/models/half:predict?x=1", 400, "Malformed request: POST /v1/models/half:predict?x=1"),
        ("/v1/models/half:predict/", 400, "Malformed request: POST /v1/models/half:predict/"),
        ("/v1/models/half", 400, "Malformed request: POST /v1/models/half"),
        ("/v1/models/half/versions/-1:predict", 400, "Malformed request: POST /v1/models/half/versions/-1:predict"),
    ],
)
def test_other_paths_say_what_is_wrong(client, path, status, error):
    assert client.error(path, ONE) == (status, error)


def test_a_version_beyond_int64_is_400_with_an_empty_body(client):
    answer = client.rest.answer("POST", "/v1/models/half/versions/9223372036854775808:predict", {}, b"{}")
    assert (answer.status, answer.body) == (400, b"")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "HEAD", "PATCH"])
def test_a_wrong_method_is_400(client, method):
    assert client.rest.answer(method, "/v1/models/half", {}, b"").status == 400


def test_get_of_a_prediction_is_400(client):
    assert client.get("/v1/models/half:predict") == (400, {"error": "Malformed request: GET /v1/models/half:predict"})


def test_status_lists_versions_with_their_states(client):
    expected = {
        "model_version_status": [
            {"version": "3", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        ]
    }
    for path in ("/v1/models/half", "/v1/models/half/versions/3", "/v1/models/half/labels/none"):
        assert client.get(path) == (200, expected)


@pytest.mark.parametrize(
    ("path", "status", "error"),
    [
        ("/v1/models/none", 404, "Could not find any versions of model none"),
        ("/v1/models/half/versions/9", 404, "Could not find version 9 of model half"),
        ("/v1/models", 400, "Missing model name in request."),
        ("/v1/models/none/metadata", 404, "Servable not found for request: Latest(none)"),
        ("/v1/models/half/labels/none/metadata", 400, "Unrecognized servable version label: none"),
    ],
)
def test_status_and_metadata_of_what_is_not_there(client, path, status, error):
    assert client.get(path) == (status, {"error": error})


def test_readiness_turns_false_while_the_server_drains_and_predictions_go_on(manager):
    rest = RestApi(manager, draining=lambda: True)
    assert rest.answer("GET", "/v1/models/half", {}, b"").status == 503
    assert rest.answer("POST", "/v1/models/half:predict", {}, b'{"instances": [1]}').status == 200


def test_metadata_describes_the_signatures(client):
    status, answer = client.get("/v1/models/half/metadata")
    assert status == 200
    assert answer["model_spec"] == {"name": "half", "signature_name": "", "version": "3"}
    signature = answer["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["method_name"] == "tensorflow/serving/predict"
    assert signature["inputs"]["x"] == {
        "dtype": "DT_FLOAT",
        "tensor_shape": {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False},
        "name": "serving_default_x:0",
    }


def test_a_preflight_needs_an_origin(client):
    path = "/v1/models/half:predict"
    assert client.rest.answer("OPTIONS", path, {"origin": "http://shop.example"}, b"").status == 200
    assert client.rest.answer("OPTIONS", path, {}, b"").status == 400
