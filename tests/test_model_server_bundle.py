"""What a bundle carries for a server: its list of files, warm-up and golden requests, in records."""

import hashlib
import json

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import json_format
from tensorflow_serving.apis import prediction_log_pb2
from test_model_server_support import ASK, ONE, Client, manager_for, save_half_plus_two, states

from serving.model_server.bundle_files import check_files
from serving.model_server.records import read_records, write_records
from serving.model_server.status import Code, ServingError
from serving.model_server.tensor_protos import to_proto


def list_files(path):
    files = {
        str(file.relative_to(path)): {
            "bytes": file.stat().st_size,
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        }
        for file in path.rglob("*")
        if file.is_file()
    }
    (path / "assets.extra").mkdir(exist_ok=True)
    (path / "assets.extra" / "files.json").write_text(json.dumps({"files": files}))


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda path: (path / "fingerprint.pb").unlink(), "fingerprint.pb is missing"),
        (lambda path: (path / "fingerprint.pb").write_bytes(b"x"), "fingerprint.pb has 1 of "),
        (
            lambda path: (path / "saved_model.pb").write_bytes(bytes((path / "saved_model.pb").stat().st_size)),
            "saved_model.pb differs from its listed sha256",
        ),
        (lambda path: (path / "assets.extra/files.json").write_text("{"), "its list assets.extra/files.json cannot be"),
        (
            lambda path: (path / "assets.extra/files.json").write_text(
                '{"files": {"../x": {"bytes": 1, "sha256": "0"}}}'
            ),
            "names a file outside of it: ../x",
        ),
    ],
)
def test_an_incomplete_bundle_is_refused_until_it_is_whole(tmp_path, damage, why):
    path = save_half_plus_two(tmp_path, 1)
    list_files(path)
    check_files(path)
    whole = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    damage(path)
    manager = manager_for({"half": tmp_path})
    client = Client(manager)
    status = client.get("/v1/models/half")[1]["model_version_status"][0]
    assert status["state"] == "END"
    assert why in status["status"]["error_message"]
    for file, content in whole.items():
        file.write_bytes(content)
    manager.poll()
    assert states(client) == {"1": "AVAILABLE"}


def test_a_version_without_a_file_list_is_refused_where_others_have_one(tmp_path):
    list_files(save_half_plus_two(tmp_path, 1))
    save_half_plus_two(tmp_path, 2, two=3.0)
    manager = manager_for({"half": tmp_path})
    client = Client(manager)
    assert states(client) == {"2": "END", "1": "AVAILABLE"}
    list_files(tmp_path / "2")
    manager.poll()
    assert client.post(ASK, ONE) == (200, {"predictions": [3.5]})


@pytest.mark.parametrize("order", [1, -1])
def test_a_copy_that_is_interrupted_anywhere_is_never_in_service(tmp_path, order):
    list_files(save_half_plus_two(tmp_path / "m", 1))
    source = save_half_plus_two(tmp_path / "source", 2, two=3.0)
    list_files(source)
    manager = manager_for({"half": tmp_path / "m"})
    client = Client(manager)
    files = sorted(file for file in source.rglob("*") if file.is_file())[::order]
    for file in files:
        target = tmp_path / "m" / "2" / file.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        content = file.read_bytes()
        for share in (0.0, 0.5, 1.0):
            target.write_bytes(content[: int(len(content) * share)])
            manager.poll()
            whole = file == files[-1] and share == 1.0
            assert client.post(ASK, ONE) == (200, {"predictions": [3.5 if whole else 2.5]})


def write_log(path, name, outputs=None, signature_name="", value=1.0):
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.model_spec.signature_name = signature_name
    to_proto(np.float32([value]), log.predict_log.request.inputs["x"])
    for alias, array in (outputs or {}).items():
        to_proto(array, log.predict_log.response.outputs[alias])
    (path / "assets.extra").mkdir(exist_ok=True)
    write_records(path / "assets.extra" / name, [log.SerializeToString()])


def error_of_version(tmp_path):
    client = Client(manager_for({"half": tmp_path}))
    status = client.get("/v1/models/half")[1]["model_version_status"][0]["status"]
    return status["error_code"], status["error_message"]


def test_warm_up_requests_run_before_traffic_and_a_failing_one_fails_the_version(tmp_path):
    path = save_half_plus_two(tmp_path, 1)
    write_log(path, "tf_serving_warmup_requests")
    assert error_of_version(tmp_path) == ("OK", "")
    write_log(path, "tf_serving_warmup_requests", signature_name="nope")
    assert error_of_version(tmp_path) == ("FAILED_PRECONDITION", 'Serving signature key "nope" not found.')
    (path / "assets.extra" / "tf_serving_warmup_requests").write_bytes(b"torn")
    code, message = error_of_version(tmp_path)
    assert code == "DATA_LOSS"
    assert message.endswith("Please verify your warmup data is in TFRecord format.")


def test_a_version_that_answers_its_golden_requests_otherwise_is_refused(tmp_path):
    path = save_half_plus_two(tmp_path, 1)
    write_log(path, "golden_requests", {"y": np.float32([2.5])})
    assert error_of_version(tmp_path) == ("OK", "")
    write_log(path, "golden_requests", {"y": np.float32([2.6])})
    code, message = error_of_version(tmp_path)
    assert code == "FAILED_PRECONDITION"
    assert message.startswith("The answer to golden request 0 differs: value 0 of y is")
    write_log(path, "golden_requests", {"y": np.float32([float("nan")])}, value=float("nan"))
    assert error_of_version(tmp_path)[1] == "The answer to golden request 0 differs: y is not finite"


def save_ranking(base):
    """Five products for each row of x, of which the second to the fourth tie but for rounding."""
    module = tf.Module()
    ranked = {
        "product_id": tf.constant([[b"a", b"b", b"c", b"d", b"e"]]),
        "title": tf.constant([[b"A", b"B", b"C", b"D", b"E"]]),
        "score": tf.constant([[0.5, 0.3000001, 0.3, 0.2999999, 0.1]]),
    }

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def compute(x):
        return {name: tf.tile(value, [tf.size(x), 1]) for name, value in ranked.items()}

    module.compute = compute
    tf.saved_model.save(module, str(base / "1"), signatures={"serving_default": compute})
    return base / "1"


@pytest.mark.parametrize(
    ("recorded", "why"),
    [
        ("abcde", ""),
        ("adbce", ""),
        ("acbde", ""),
        ("bacde", "The answer to golden request 0 differs: value 0 of product_id is b'a' instead of b'b'"),
        ("abced", "The answer to golden request 0 differs: value 3 of product_id is b'd' instead of b'e'"),
        ("abbde", "The answer to golden request 0 differs: value 2 of product_id is b'c' instead of b'b'"),
    ],
)
def test_products_that_tie_may_change_places_in_a_golden_answer(tmp_path, recorded, why):
    answer = {
        "product_id": np.array([[letter.encode() for letter in recorded]], object),
        "title": np.array([[letter.upper().encode() for letter in recorded]], object),
        "score": np.float32([[0.5, 0.3, 0.3, 0.3, 0.1]]),
    }
    write_log(save_ranking(tmp_path), "golden_requests", answer)
    assert error_of_version(tmp_path)[1] == why


def test_records_read_back_as_written_and_damage_is_found(tmp_path):
    path = tmp_path / "records"
    write_records(path, [b"one", b"", b"three"])
    assert list(read_records(path)) == [b"one", b"", b"three"]
    data = path.read_bytes()
    for wrong in (data[:-1], data[:14] + b"X" + data[15:], data + b"x"):
        path.write_bytes(wrong)
        with pytest.raises(ServingError) as caught:
            list(read_records(path))
        assert caught.value.code is Code.DATA_LOSS


def test_records_are_those_of_tensorflow(tmp_path):
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(tmp_path / "records")) as writer:
        writer.write(b"hello")
    assert list(read_records(tmp_path / "records")) == [b"hello"]
    assert json_format.MessageToDict(prediction_log_pb2.PredictionLog()) == {}
