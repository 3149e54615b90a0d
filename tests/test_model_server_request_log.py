"""The request log: what was asked and answered, in files that are whole or not there, at no request's expense."""

import shutil
import signal
import threading
import time
from contextlib import suppress

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2, prediction_service_pb2_grpc
from test_model_server_support import Server, manager_for, running_server, save_half_plus_two, save_pair

from serving.model_server import metrics, request_log
from serving.model_server.flags import parse_flags
from serving.model_server.grpc_services import PredictionService
from serving.model_server.loader import LoadOptions, load_version
from serving.model_server.log_file import LogFile, Rotation, directory_name
from serving.model_server.records import read_records
from serving.model_server.request_log import RequestLog, log_of_tensors
from serving.model_server.rest import RestApi
from serving.model_server.tensor_protos import to_proto
from serving.model_server.warmup import check_golden, replay_predict, warm_up
from tfrs_shop.errors import UserError


def whole_files(directory):
    return sorted(directory.rglob("*.tfrecord"))


def partial_files(directory):
    return sorted(directory.rglob("*.partial"))


def logged(path):
    """The records of a file, as TensorFlow reads them."""
    dataset = tf.data.TFRecordDataset(str(path))
    return [prediction_log_pb2.PredictionLog.FromString(record) for record in dataset.as_numpy_iterator()]


def grpc_request(model, signature="", **inputs):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    for name, array in inputs.items():
        to_proto(array, request.inputs[name])
    return request


def one(value):
    """A prediction of half_plus_two."""
    x, y = np.array([value], np.float32), np.array([value / 2 + 2], np.float32)
    return log_of_tensors("half", 1, "", inputs={"x": x}, outputs={"y": y})


def counted(status, model):
    return metrics.REQUEST_LOG_COUNT._values.get((model, status), 0)


def wait_until(condition):
    deadline = time.monotonic() + 20
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert condition()


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    base = tmp_path_factory.mktemp("pair")
    save_pair(base)
    return base


@pytest.fixture(scope="module")
def manager(pair):
    return manager_for({"pair": pair})


def test_predictions_over_rest_and_grpc_are_logged_with_request_and_answer(manager, tmp_path):
    log = RequestLog(tmp_path)
    rest, service = RestApi(manager, request_log=log), PredictionService(manager, log)
    body = b'{"signature_name": "lookup", "instances": [2, 0]}'
    assert rest.answer("POST", "/v1/models/pair:predict", {}, body).status == 200
    answer = service.predict(grpc_request("pair", "scalar", x=np.array([1, 2], np.float32)))
    log.close()
    (path,) = whole_files(tmp_path / "pair")
    first, second = (record.predict_log for record in logged(path))
    assert (first.request.model_spec.name, first.request.model_spec.signature_name) == ("pair", "lookup")
    assert list(first.request.inputs["x"].int_val) == [2, 0]
    assert list(first.response.outputs["y"].int_val) == [30, 10]
    assert first.response.model_spec.version.value == 1
    assert second.response == answer
    assert list(second.request.inputs["x"].float_val) == [1.0, 2.0]


def test_a_log_of_many_requests_replays_to_the_same_answers(manager, tmp_path):
    log = RequestLog(tmp_path)
    rest = RestApi(manager, request_log=log)
    for number in range(50):
        body = b'{"instances": [{"a": %d, "label": "p%d"}, {"a": 0.25, "label": {"b64": "/w=="}}]}' % (number, number)
        assert rest.answer("POST", "/v1/models/pair:predict", {}, body).status == 200
    log.close()
    (path,) = whole_files(tmp_path / "pair")
    records = logged(path)
    assert len(records) == 50
    with manager.serving.servable("pair", None, None) as servable:
        for record in records:
            answer = replay_predict(servable, record.predict_log.request)
            for name, array in answer.items():
                proto = record.predict_log.response.outputs[name]
                assert np.array_equal(tf.make_ndarray(proto), array)


def test_a_log_file_is_a_warm_up_file_and_a_file_of_golden_requests(tmp_path):
    base = tmp_path / "half"
    version = save_half_plus_two(base)
    log = RequestLog(tmp_path / "log")
    rest = RestApi(manager_for({"half": base}), request_log=log)
    for number in range(1000):
        assert rest.answer("POST", "/v1/models/half:predict", {}, b'{"instances": [%d]}' % number).status == 200
    log.close()
    (path,) = whole_files(tmp_path / "log")
    (version / "assets.extra").mkdir()
    shutil.copy(path, version / "assets.extra" / "tf_serving_warmup_requests")
    shutil.copy(path, version / "assets.extra" / "golden_requests")
    servable = load_version("half", 1, version, LoadOptions())
    assert warm_up(servable, version) == 1000
    assert check_golden(servable, version) == 1000


def test_requests_that_run_in_a_batch_are_logged_and_failed_ones_are_not(pair, tmp_path):
    log_dir = tmp_path / "log"
    flags = ("--model_name=pair", f"--model_base_path={pair}", "--enable_batching", f"--request_log_dir={log_dir}")
    with running_server(*flags) as server:
        for body in (b'{"instances": [{"a": 1, "label": "x"}]}', b'{"instances": [{"a": 1}]}'):
            server.request("POST", "/v1/models/pair:predict", body)
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            stub.Predict(grpc_request("pair", "scalar", x=np.array([3], np.float32)), timeout=20)
        assert server.terminate() == 0
    (path,) = whole_files(log_dir)
    assert partial_files(log_dir) == []
    records = [record.predict_log for record in logged(path)]
    assert [record.request.model_spec.signature_name for record in records] == ["serving_default", "scalar"]
    assert list(records[0].response.outputs["score"].float_val) == [2.0]


def test_a_killed_server_leaves_whole_files_and_one_partial_that_the_next_log_ignores(pair, tmp_path):
    log_dir = tmp_path / "log"
    flags = ("--model_name=pair", f"--model_base_path={pair}", "--request_log_max_records=10")
    server = Server(*flags, f"--request_log_dir={log_dir}")
    server.wait_for("Ready.")
    body = b'{"signature_name": "scalar", "inputs": [1]}'

    def ask():
        with suppress(OSError):
            while True:
                server.request("POST", "/v1/models/pair:predict", body)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(whole_files(log_dir)) >= 5)
    server.process.send_signal(signal.SIGKILL)
    server.process.wait(20)
    for thread in threads:
        thread.join(20)
    files = whole_files(log_dir)
    assert [len(logged(path)) for path in files] == [10] * len(files)
    partial = partial_files(log_dir)
    assert len(partial) <= 1
    second = RequestLog(log_dir)
    second.offer("pair", 1, lambda: one(1))
    second.close()
    assert partial_files(log_dir) == partial
    (new,) = set(whole_files(log_dir)) - set(files)
    assert len(logged(new)) == 1


def test_a_file_has_its_name_only_when_it_is_whole(tmp_path):
    file = LogFile(tmp_path, "half", Rotation(records=2))
    file.append(b"first")
    file.flush()
    assert whole_files(tmp_path) == []
    (partial,) = partial_files(tmp_path)
    assert list(read_records(partial)) == [b"first"]
    file.append(b"second")
    (path,) = whole_files(tmp_path)
    assert partial_files(tmp_path) == []
    assert f"{path}.partial" == str(partial)
    assert list(read_records(path)) == [b"first", b"second"]


@pytest.mark.parametrize(
    ("rotation", "sizes"),
    [
        (Rotation(records=2), [2, 2, 1]),
        # A record of 4 bytes takes 20: 8 of length, 4 and 4 of checksums.
        (Rotation(bytes=59), [2, 2, 1]),
        (Rotation(bytes=60), [3, 2]),
        (Rotation(bytes=1), [1, 1, 1, 1, 1]),
        (Rotation(), [5]),
    ],
)
def test_files_rotate_at_the_first_limit(tmp_path, rotation, sizes):
    file = LogFile(tmp_path, "half", rotation)
    for number in range(5):
        file.append(b"rec%d" % number)
    file.finish()
    records = [list(read_records(path)) for path in sorted(tmp_path.rglob("*.tfrecord"), key=lambda p: p.name[-15:])]
    assert [len(found) for found in records] == sizes
    assert [record for found in records for record in found] == [b"rec%d" % number for number in range(5)]


def test_a_file_is_finished_when_it_is_old_though_nothing_more_comes(tmp_path):
    log = RequestLog(tmp_path, rotation=Rotation(seconds=0.05))
    log.offer("half", 1, lambda: one(1))
    wait_until(lambda: len(whole_files(tmp_path)) == 1)
    log.offer("half", 1, lambda: one(2))
    wait_until(lambda: len(whole_files(tmp_path)) == 2)
    log.close()


def test_what_does_not_fit_the_queue_is_dropped_and_counted(tmp_path):
    held, begun = threading.Event(), threading.Event()

    def slow():
        begun.set()
        held.wait(20)
        return one(0)

    log = RequestLog(tmp_path, max_queued=3, max_queued_bytes=100)
    log.offer("narrow", 1, slow)
    assert begun.wait(20)
    for _ in range(5):
        log.offer("narrow", 1, lambda: one(1))
    assert counted("RESOURCE_EXHAUSTED", "narrow") == 2
    log.offer("large", 101, lambda: one(1))
    assert counted("RESOURCE_EXHAUSTED", "large") == 1
    held.set()
    log.close()
    assert counted("OK", "narrow") == 4
    assert b':tensorflow:serving:request_log_count{model_name="narrow",status_code="RESOURCE_EXHAUSTED"} 2' in (
        metrics.page()
    )


def test_a_disk_that_takes_nothing_fails_no_request(manager, tmp_path, monkeypatch, caplog):
    log = RequestLog(tmp_path)

    def full(file, record):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(request_log.LogFile, "append", full)
    rest = RestApi(manager, request_log=log)
    body = b'{"signature_name": "scalar", "inputs": [1]}'
    before = counted("INTERNAL", "pair")
    for _ in range(3):
        assert rest.answer("POST", "/v1/models/pair:predict", {}, body).status == 200
    log.close()
    assert counted("INTERNAL", "pair") == before + 3
    assert caplog.text.count("No space left on device") == 1


def test_a_record_that_cannot_be_made_leaves_the_others_in_their_file(tmp_path):
    log = RequestLog(tmp_path)
    log.offer("half", 1, lambda: one(1))
    log.offer("half", 1, lambda: 1 / 0)
    log.offer("half", 1, lambda: one(2))
    log.close()
    (path,) = whole_files(tmp_path)
    assert [record.predict_log.request.inputs["x"].float_val[0] for record in logged(path)] == [1.0, 2.0]


def test_the_sample_has_the_size_that_its_rate_says(tmp_path):
    def sampled(rate, seed):
        log = RequestLog(tmp_path, sampling_rate=rate, seed=seed)
        log.close()
        return [log.sampled() for _ in range(10_000)]

    assert sampled(0.25, seed=1) == sampled(0.25, seed=1)
    # Binomial: 2,500 with a standard deviation of 43; the seed makes it the same every time.
    assert abs(sum(sampled(0.25, seed=1)) - 2500) < 200
    assert sum(sampled(1.0, seed=1)) == 10_000
    assert sum(sampled(0.0, seed=1)) == 0


def test_each_model_has_its_own_directory_which_no_name_can_leave(tmp_path):
    log = RequestLog(tmp_path / "log")
    for name in ("half", "../half", ".."):
        log.offer(name, 1, lambda: one(1))
    log.close()
    assert {path.parent.name for path in whole_files(tmp_path)} == {"half", "%2E.%2Fhalf", "%2E."}
    assert {path.parent.parent for path in whole_files(tmp_path)} == {tmp_path / "log"}
    assert directory_name("shop") == "shop"


def test_a_directory_that_cannot_be_written_is_one_clear_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError) as caught:
        RequestLog(tmp_path / "file")
    assert str(caught.value) == f"--request_log_dir={tmp_path / 'file'}: cannot be written: File exists."


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--request_log_sampling_rate=1.5", "--request_log_sampling_rate=1.5: must be 0 to 1."),
        ("--request_log_sampling_rate=nan", "--request_log_sampling_rate=nan: must be 0 to 1."),
        ("--request_log_max_records=0", "--request_log_max_records=0: must be at least 1."),
        ("--request_log_max_bytes=0", "--request_log_max_bytes=0: must be at least 1."),
        ("--request_log_max_seconds=0", "--request_log_max_seconds=0.0: must be more than 0."),
    ],
)
def test_limits_that_make_no_sense_are_refused(flag, message):
    with pytest.raises(UserError) as caught:
        parse_flags(["--model_base_path=/models/shop", flag])
    assert str(caught.value) == message
