"""Versions: which ones serve, when they are loaded and unloaded, and what keeps a bad one out."""

import hashlib
import json
import shutil
import threading
import time

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import json_format
from tensorflow_serving.apis import prediction_log_pb2
from test_model_server_support import Client, manager_for, save_half_plus_two

from serving.model_server.bundle_files import check_files
from serving.model_server.records import read_records, write_records
from serving.model_server.status import Code, ServingError
from serving.model_server.tensor_protos import to_proto
from serving.model_server.version_policy import (
    Action,
    State,
    VersionPolicy,
    VersionSnapshot,
    next_action,
    wanted_versions,
)
from serving.model_server.version_source import scan_versions

ASK = "/v1/models/half:predict"
ONE = {"instances": [1]}


def states(client: Client) -> dict[str, str]:
    answer = client.get("/v1/models/half")[1]
    return {entry["version"]: entry["state"] for entry in answer["model_version_status"]}


def wait_for(client: Client, expected: dict[str, str]) -> None:
    deadline = time.monotonic() + 10
    while states(client) != expected and time.monotonic() < deadline:
        time.sleep(0.01)
    assert states(client) == expected


# The policy, without files or threads.


def test_latest_wants_the_highest_versions_and_passes_over_failed_ones():
    assert wanted_versions(VersionPolicy(), [1, 3, 2], failed=()) == {3}
    assert wanted_versions(VersionPolicy(count=2), [1, 3, 2], failed=()) == {2, 3}
    assert wanted_versions(VersionPolicy(), [1, 3, 2], failed={3}) == {2}
    assert wanted_versions(VersionPolicy(), [3], failed={3}) == {3}
    assert wanted_versions(VersionPolicy(), [], failed=()) == set()


def test_all_and_specific_want_what_is_there():
    assert wanted_versions(VersionPolicy("all"), [1, 2], failed={2}) == {1, 2}
    assert wanted_versions(VersionPolicy("specific", versions=(2, 9)), [1, 2], failed=()) == {2}


def test_a_new_version_is_loaded_before_the_old_one_goes():
    old = VersionSnapshot(1, State.AVAILABLE, wanted=False)
    assert next_action([old, VersionSnapshot(2, State.START, wanted=True)]) == Action("load", 2)
    assert next_action([old, VersionSnapshot(2, State.LOADING, wanted=True)]) is None
    assert next_action([old, VersionSnapshot(2, State.AVAILABLE, wanted=True)]) == Action("unload", 1)


def test_an_unwanted_version_stays_while_nothing_wanted_is_ready():
    old = VersionSnapshot(1, State.AVAILABLE, wanted=False)
    assert next_action([old, VersionSnapshot(2, State.END, wanted=True)]) is None


def test_everything_goes_when_nothing_is_wanted_and_the_highest_loads_first():
    assert next_action([VersionSnapshot(1, State.AVAILABLE, wanted=False)]) == Action("unload", 1)
    new = [VersionSnapshot(number, State.START, wanted=True) for number in (1, 3, 2)]
    assert next_action(new) == Action("load", 3)
    assert next_action([]) is None


def test_of_several_unwanted_versions_the_lowest_goes_first():
    old = [VersionSnapshot(number, State.AVAILABLE, wanted=False) for number in (2, 1)]
    assert next_action([*old, VersionSnapshot(3, State.START, wanted=True)]) == Action("unload", 1)


def test_version_directories_are_whole_numbers(tmp_path):
    for name in ("1", "00002", "x3", "4.5", "-6", "tmp-7", "99999999999999999999"):
        (tmp_path / name).mkdir()
    assert scan_versions(tmp_path) == {1: tmp_path / "1", 2: tmp_path / "00002"}
    assert scan_versions(tmp_path / "missing") is None


# With real models.


def test_a_new_version_takes_over_and_the_old_one_ends(tmp_path):
    save_half_plus_two(tmp_path, 1)
    manager = manager_for({"half": tmp_path})
    client = Client(manager)
    assert client.post(ASK, ONE) == (200, {"predictions": [2.5]})
    save_half_plus_two(tmp_path, 2, two=3.0)
    manager.poll()
    assert client.post(ASK, ONE) == (200, {"predictions": [3.5]})
    wait_for(client, {"1": "END", "2": "AVAILABLE"})
    assert client.post("/v1/models/half/versions/1:predict", ONE)[0] == 404


def test_the_old_version_is_unloaded_only_when_its_last_request_has_ended(tmp_path):
    save_half_plus_two(tmp_path, 1)
    manager = manager_for({"half": tmp_path})
    client = Client(manager)
    with manager.serving.servable("half") as held:
        save_half_plus_two(tmp_path, 2, two=3.0)
        manager.poll()
        assert states(client) == {"1": "UNLOADING", "2": "AVAILABLE"}
        assert held.run("serving_default", {"x": np.float32([1.0])}, ["y"])["y"].tolist() == [2.5]
    wait_for(client, {"1": "END", "2": "AVAILABLE"})


def test_requests_during_swaps_never_fail(tmp_path):
    save_half_plus_two(tmp_path, 1)
    manager = manager_for({"half": tmp_path})
    client = Client(manager)
    failures, stop = [], threading.Event()

    def ask():
        while not stop.is_set():
            status, answer = client.post(ASK, ONE)
            if status != 200 or answer["predictions"][0] not in (2.5, 3.5):
                failures.append((status, answer))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for version in range(2, 6):
        save_half_plus_two(tmp_path, version, two=3.0)
        manager.poll()
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_removed_version_falls_back_and_a_removed_base_path_changes_nothing(tmp_path):
    save_half_plus_two(tmp_path / "m", 1)
    save_half_plus_two(tmp_path / "m", 2, two=3.0)
    manager = manager_for({"half": tmp_path / "m"})
    client = Client(manager)
    assert states(client) == {"2": "AVAILABLE"}
    shutil.rmtree(tmp_path / "m" / "2")
    manager.poll()
    assert client.post(ASK, ONE) == (200, {"predictions": [2.5]})
    (tmp_path / "m").rename(tmp_path / "away")
    manager.poll()
    assert client.post(ASK, ONE) == (200, {"predictions": [2.5]})


def test_a_missing_or_empty_base_path_is_polled_until_a_version_appears(tmp_path, caplog):
    manager = manager_for({"half": tmp_path / "m"})
    client = Client(manager)
    assert "Could not find base path" in caplog.text
    assert client.get("/v1/models/half")[0] == 404
    (tmp_path / "m").mkdir()
    manager.poll()
    save_half_plus_two(tmp_path / "m", 1)
    manager.poll()
    assert client.post(ASK, ONE)[0] == 200


def test_a_directory_that_is_no_model_is_never_in_service_and_status_says_why(tmp_path):
    save_half_plus_two(tmp_path, 1)
    (tmp_path / "2").mkdir()
    (tmp_path / "2" / "saved_model.pb").write_bytes(b"not a model")
    manager = manager_for({"half": tmp_path})
    client = Client(manager)
    assert client.post(ASK, ONE) == (200, {"predictions": [2.5]})
    assert states(client) == {"2": "END", "1": "AVAILABLE"}
    status = client.get("/v1/models/half/versions/2")[1]["model_version_status"][0]["status"]
    assert status["error_code"] == "FAILED_PRECONDITION"
    assert "saved_model.pb" in status["error_message"]


def test_an_unknown_op_is_named(tmp_path):
    from tensorflow.core.protobuf import saved_model_pb2

    path = save_half_plus_two(tmp_path, 1) / "saved_model.pb"
    proto = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    proto.meta_graphs[0].graph_def.node.add(name="extra", op="No>SuchOp")
    path.write_bytes(proto.SerializeToString())
    client = Client(manager_for({"half": tmp_path}))
    status = client.get("/v1/models/half")[1]["model_version_status"][0]["status"]
    assert status["error_code"] == "NOT_FOUND"
    assert status["error_message"].startswith("Op type not registered 'No>SuchOp' in this binary.")


def test_a_failed_version_is_tried_again_when_its_files_change(tmp_path):
    path = save_half_plus_two(tmp_path, 1)
    whole = (path / "saved_model.pb").read_bytes()
    (path / "saved_model.pb").write_bytes(whole[:-20])
    manager = manager_for({"half": tmp_path})
    client = Client(manager)
    assert states(client) == {"1": "END"}
    manager.poll()
    assert states(client) == {"1": "END"}
    (path / "saved_model.pb").write_bytes(whole)
    manager.poll()
    assert client.post(ASK, ONE)[0] == 200


def test_a_failed_load_is_retried_as_often_as_asked(tmp_path):
    (tmp_path / "1").mkdir()
    manager = manager_for({"half": tmp_path}, max_retries=2, retry_seconds=0.0)
    tries = []
    manager._loader = manager._loader._replace(load=lambda *_, **__: tries.append(1) or _fail())
    for _ in range(5):
        manager.poll()
    assert len(tries) == 2


def _fail():
    raise ServingError(Code.UNAVAILABLE, "the disk is away")


# What a bundle carries.


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
    log = prediction_log_pb2.PredictionLog()
    to_proto(np.float32([1.0]), log.predict_log.request.inputs["x"])
    outputs = log.predict_log.response.outputs
    to_proto(np.array([[letter.encode() for letter in recorded]], object), outputs["product_id"])
    to_proto(np.array([[letter.upper().encode() for letter in recorded]], object), outputs["title"])
    to_proto(np.float32([[0.5, 0.3, 0.3, 0.3, 0.1]]), outputs["score"])
    path = save_ranking(tmp_path)
    (path / "assets.extra").mkdir()
    write_records(path / "assets.extra" / "golden_requests", [log.SerializeToString()])
    assert error_of_version(tmp_path)[1] == why


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


def write_log(path, name, answer=None, signature_name="", value=1.0):
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.model_spec.signature_name = signature_name
    to_proto(np.float32([value]), log.predict_log.request.inputs["x"])
    if answer is not None:
        to_proto(np.float32([answer]), log.predict_log.response.outputs["y"])
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
    write_log(path, "golden_requests", answer=2.5)
    assert error_of_version(tmp_path) == ("OK", "")
    write_log(path, "golden_requests", answer=2.6)
    code, message = error_of_version(tmp_path)
    assert code == "FAILED_PRECONDITION"
    assert message.startswith("The answer to golden request 0 differs: value 0 of y is")
    write_log(path, "golden_requests", answer=float("nan"), value=float("nan"))
    assert error_of_version(tmp_path)[1] == "The answer to golden request 0 differs: y is not finite"


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
