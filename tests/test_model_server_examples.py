"""Classify, regress and multi-inference, over REST and as the gRPC service answers them."""

import json

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.example import example_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    input_pb2,
    prediction_log_pb2,
    regression_pb2,
)
from test_model_server_support import Client, manager_for, save_half_plus_two

from serving.model_server.grpc_services import PredictionService
from serving.model_server.inference import classify, multi_inference, regress
from serving.model_server.json_examples import parse_examples
from serving.model_server.records import read_records
from serving.model_server.request_log import RequestLog
from serving.model_server.rest import RestApi
from serving.model_server.status import ServingError
from serving.model_server.warmup import replay

CLASSIFY = "/v1/models/examples:classify"
REGRESS = "/v1/models/examples:regress"
TWO = {"examples": [{"x": 1.0}, {"x": [2.5]}]}


def save_examples(base):
    """Signatures on serialized Examples with a float feature x: scores [x, -x], labels ["up", "down"], value 2x."""
    module = tf.Module()
    spec = [tf.TensorSpec([None], tf.string, name="inputs")]

    def parse(inputs):
        return tf.io.parse_example(inputs, {"x": tf.io.FixedLenFeature([1], tf.float32)})["x"]

    @tf.function(input_signature=spec)
    def both(inputs):
        x = parse(inputs)
        labels = tf.tile(tf.constant([["up", "down"]]), [tf.shape(x)[0], 1])
        return {"classes": labels, "scores": tf.concat([x, -x], 1)}

    @tf.function(input_signature=spec)
    def scores(inputs):
        return {"scores": parse(inputs)}

    @tf.function(input_signature=spec)
    def labels(inputs):
        return {"classes": tf.as_string(parse(inputs))}

    @tf.function(input_signature=spec)
    def value(inputs):
        return {"outputs": parse(inputs) * 2.0}

    @tf.function(input_signature=spec)
    def one_for_all(inputs):
        return {"outputs": tf.reduce_sum(parse(inputs), axis=0)}

    @tf.function(input_signature=spec)
    def other_name(inputs):
        return {"y": parse(inputs)}

    module.functions = [both, scores, labels, value, one_for_all, other_name]
    signatures = {
        "serving_default": both,
        "scores": scores,
        "labels": labels,
        "value": value,
        "one_for_all": one_for_all,
        "other_name": other_name,
    }
    tf.saved_model.save(module, str(base / "1"), signatures=signatures)


@pytest.fixture(scope="module")
def manager(tmp_path_factory):
    base = tmp_path_factory.mktemp("models")
    save_examples(base / "examples")
    save_half_plus_two(base / "half")
    return manager_for({"examples": base / "examples", "half": base / "half"})


@pytest.fixture(scope="module")
def client(manager):
    return Client(manager)


def test_classify_answers_labels_and_scores(client):
    assert client.post(CLASSIFY, TWO) == (
        200,
        {"results": [[["up", 1.0], ["down", -1.0]], [["up", 2.5], ["down", -2.5]]]},
    )
    assert client.post(CLASSIFY, {"signature_name": "scores", **TWO})[1] == {"results": [[["", 1.0]], [["", 2.5]]]}
    assert client.post(CLASSIFY, {"signature_name": "labels", **TWO})[1] == {
        "results": [[["1.000000", 0.0]], [["2.500000", 0.0]]]
    }


def test_regress_answers_values(client):
    assert client.post(REGRESS, {"signature_name": "value", **TWO}) == (200, {"results": [2.0, 5.0]})


def test_the_layout_is_that_of_tensorflow_serving(client):
    body = json.dumps({"signature_name": "value", **TWO}).encode()
    assert client.rest.answer("POST", REGRESS, {}, body).body == b'{\n    "results": [2.0, 5.0]\n}'
    body = json.dumps({"signature_name": "scores", **TWO}).encode()
    assert client.rest.answer("POST", CLASSIFY, {}, body).body == (
        b'{\n    "results": [[["", 1.0]], [["", 2.5]]\n    ]\n}'
    )


def test_a_context_is_part_of_every_example(client):
    body = {"signature_name": "value", "context": {"x": 3.0}, "examples": [{}, {"other": "y"}]}
    assert client.post(REGRESS, body) == (200, {"results": [6.0, 6.0]})


def test_a_whole_number_makes_an_integer_feature_which_a_float_feature_is_not(client):
    status, error = client.error(REGRESS, {"signature_name": "value", "examples": [{"x": 1}]})
    assert status == 400
    assert "Data types don't match" in error


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "When method is classify, key 'examples' is expected and was not found"),
        ({"examples": 1}, "Expecting 'examples' value to be an list/array"),
        ({"examples": []}, "'examples' value is an empty array"),
        ({"examples": [1]}, "Example must be JSON object but got JSON Number"),
        ({"context": [], "examples": [{}]}, "Example must be JSON object but got JSON Array"),
        ({"examples": [{"x": None}]}, "Feature: x has element with unexpected JSON type: Null"),
        ({"examples": [{"x": [[1.0]]}]}, "Feature: x has element with unexpected JSON type: Array"),
        ({"examples": [{"x": {"y": 1}}]}, "Feature: x has element with unexpected JSON type: Object"),
        ({"examples": [{"x": [1.5, 2]}]}, "Unexpected element type in feature: x expecting type: float"),
        ({"examples": [{"x": ["a", 2.5]}]}, "Unexpected element type in feature: x expecting type: bytes"),
        ({"examples": [{"x": [1, "a"]}]}, "Unexpected element type in feature: x expecting type: int64"),
        ({"examples": [{"x": 2**63}]}, "Feature: x has uint64_t element. Only int64_t is supported."),
        ({"signature_name": "nope", **TWO}, "No signature was found with the name: nope"),
    ],
)
def test_malformed_examples_are_400_and_say_why(client, body, message):
    for path in (CLASSIFY, REGRESS):
        status, error = client.error(path, body)
        assert status == 400
        assert message in error


def test_json_becomes_the_features_that_it_says():
    name, request = parse_examples(
        b'{"signature_name": "s", "examples": [{"i": [true, -1], "f": [1.5, NaN, 1e39], "b": ["a", {"b64": "Yg=="}],'
        b' "none": [], "twice": 1, "twice": 2}]}'
    )
    assert name == "s"
    (example,) = request.example_list.examples
    features = example.features.feature
    assert list(features["i"].int64_list.value) == [1, -1]
    assert str(list(features["f"].float_list.value)) == "[1.5, nan, inf]"
    assert list(features["b"].bytes_list.value) == [b"a", b"b"]
    assert features["none"].WhichOneof("kind") is None
    assert list(features["twice"].int64_list.value) == [2]


@pytest.mark.parametrize(
    ("path", "signature", "message"),
    [
        (CLASSIFY, "other_name", 'contain at least one of "classes" or "scores"'),
        (CLASSIFY, "value", 'contain at least one of "classes" or "scores"'),
        (REGRESS, "serving_default", "Expected one output Tensor."),
        (REGRESS, "other_name", "No regression outputs found in SignatureDef"),
        (REGRESS, "one_for_all", "Input batch size did not match output batch size: 2 vs. 1"),
    ],
)
def test_signatures_of_another_form_are_refused(client, path, signature, message):
    status, error = client.error(path, {"signature_name": signature, **TWO})
    assert status == 400
    assert message in error


def test_a_signature_without_the_input_called_inputs_is_refused(client):
    assert "No classification inputs found" in client.error("/v1/models/half:classify", TWO)[1]
    assert client.error("/v1/models/none:regress", TWO) == (404, "Servable not found for request: Latest(none)")


def example_input(*values):
    request = input_pb2.Input()
    for value in values:
        request.example_list.examples.add().features.feature["x"].float_list.value.append(value)
    return request


def test_multi_inference_runs_several_signatures_once(manager):
    request = inference_pb2.MultiInferenceRequest(input=example_input(1.0, 2.0))
    for name, method in (("", "classify"), ("value", "regress")):
        task = request.tasks.add(method_name=f"tensorflow/serving/{method}")
        task.model_spec.name, task.model_spec.signature_name = "examples", name
    with manager.serving.servable("examples") as servable:
        first, second = multi_inference(servable, request).results
        assert [entry.label for entry in first.classification_result.classifications[1].classes] == ["up", "down"]
        assert (first.model_spec.signature_name, first.model_spec.version.value) == ("serving_default", 1)
        assert [entry.value for entry in second.regression_result.regressions] == [2.0, 4.0]
        request.tasks[1].model_spec.signature_name = ""
        with pytest.raises(ServingError, match="Duplicate evaluation of signature: serving_default"):
            multi_inference(servable, request)
        request.tasks[1].model_spec.name = "other"
        with pytest.raises(ServingError, match="must access the same model name"):
            multi_inference(servable, request)


def test_empty_inputs_are_refused(manager):
    with manager.serving.servable("examples") as servable:
        for call in (classify, regress):
            with pytest.raises(ServingError, match=r"Input is empty\."):
                call(servable, "value" if call is regress else "", input_pb2.Input())


def test_examples_of_any_encoding_are_the_same_to_the_graph(manager):
    example = example_pb2.Example()
    example.features.feature["x"].float_list.value.append(4.0)
    with manager.serving.servable("examples") as servable:
        direct = servable.run("value", {"inputs": np.array([example.SerializeToString()], dtype=object)}, ["outputs"])
        assert direct["outputs"].tolist() == [[8.0]]
        assert regress(servable, "value", example_input(4.0)).regressions[0].value == 8.0


def test_examples_over_rest_and_grpc_are_logged_with_their_answers_and_replay(manager, tmp_path):
    log = RequestLog(tmp_path)
    rest, service = RestApi(manager, request_log=log), PredictionService(manager, log)
    assert rest.answer("POST", CLASSIFY, {}, json.dumps(TWO).encode()).status == 200
    assert rest.answer("POST", REGRESS, {}, json.dumps({"signature_name": "value", **TWO}).encode()).status == 200
    signature, examples = parse_examples(json.dumps({"signature_name": "value", **TWO}).encode())
    classified = classification_pb2.ClassificationRequest(input=examples)
    classified.model_spec.name = "examples"
    regressed = regression_pb2.RegressionRequest(input=examples)
    regressed.model_spec.name, regressed.model_spec.signature_name = "examples", signature
    several = inference_pb2.MultiInferenceRequest(input=examples)
    for name, method in (("scores", "classify"), ("value", "regress")):
        task = several.tasks.add(method_name=f"tensorflow/serving/{method}")
        task.model_spec.name, task.model_spec.signature_name = "examples", name
    answers = [
        service.classify(classified),
        service.regress(regressed),
        service.multi_inference(several),
    ]
    log.close()
    (path,) = tmp_path.rglob("*.tfrecord")
    records = [prediction_log_pb2.PredictionLog.FromString(record) for record in read_records(path)]
    kinds = ["classify_log", "regress_log"]
    assert [record.WhichOneof("log_type") for record in records] == [*kinds, *kinds, "multi_inference_log"]
    assert [record.log_metadata.model_spec.version.value for record in records] == [1] * 5
    # Over REST as over gRPC, but for the name of the default signature, which REST writes out.
    for over_rest, over_grpc, kind in zip(records[:2], records[2:4], kinds, strict=True):
        assert getattr(over_rest, kind).request.input == getattr(over_grpc, kind).request.input
        assert getattr(over_rest, kind).response == getattr(over_grpc, kind).response
    assert [getattr(record, record.WhichOneof("log_type")).response for record in records[2:]] == answers
    with manager.serving.servable("examples", None, None) as servable:
        for record in records:
            replay(servable, record)


def test_examples_that_fail_are_not_logged(manager, tmp_path):
    log = RequestLog(tmp_path)
    body = json.dumps({"signature_name": "value", "examples": [{"x": 1}]}).encode()
    assert RestApi(manager, request_log=log).answer("POST", REGRESS, {}, body).status == 400
    log.close()
    assert not list(tmp_path.rglob("*.tfrecord"))
