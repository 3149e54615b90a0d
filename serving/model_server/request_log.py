"""The request log: a sample of the answered requests (predict, classify, regress, several at once), as TFRecords of
PredictionLog.

A request leaves its tensors in a bounded queue and goes on; a thread turns them into records. Where the thread or the
disk cannot keep up, records are dropped and counted; no request waits for its record or fails with it.
"""

import logging
import random
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from google.protobuf.message import Message  # type: ignore[import-untyped]
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    input_pb2,
    model_pb2,
    predict_pb2,
    prediction_log_pb2,
    regression_pb2,
)

from serving.model_server import metrics
from serving.model_server.json_values import Array
from serving.model_server.log_file import LogFile, Rotation
from serving.model_server.predict import DEFAULT_SIGNATURE
from serving.model_server.status import Code
from serving.model_server.tensor_protos import to_proto
from tfrs_shop.errors import UserError

logger = logging.getLogger(__name__)

MAX_QUEUED = 1024
MAX_QUEUED_BYTES = 64 << 20
CLOSE_SECONDS = 10.0
# Between two complaints about a disk that does not take the log.
_QUIET_SECONDS = 60.0
# The part of a PredictionLog that holds a request.
_KINDS = {
    predict_pb2.PredictRequest: "predict_log",
    classification_pb2.ClassificationRequest: "classify_log",
    regression_pb2.RegressionRequest: "regress_log",
    inference_pb2.MultiInferenceRequest: "multi_inference_log",
}


class _Entry(NamedTuple):
    model: str
    when: int
    size: int
    make: Callable[[], prediction_log_pb2.PredictionLog]


class RequestLog:
    """Takes answered requests from any thread and writes them from its own."""

    def __init__(
        self,
        directory: Path,
        *,
        sampling_rate: float = 1.0,
        rotation: Rotation | None = None,
        seed: int | None = None,
        max_queued: int = MAX_QUEUED,
        max_queued_bytes: int = MAX_QUEUED_BYTES,
    ) -> None:
        _check_writable(directory)
        self._directory = directory
        self._rate = sampling_rate
        self._rotation = rotation or Rotation()
        self._random = random.Random(seed)
        self._limits = (max_queued, max_queued_bytes)
        self._queue: deque[_Entry] = deque()
        self._queued_bytes = 0
        self._changed = threading.Condition()
        self._closing = False
        self._files: dict[str, LogFile] = {}
        self._quiet_until = 0.0
        self._thread = threading.Thread(target=self._work, name="request-log", daemon=True)
        self._thread.start()

    def sampled(self) -> bool:
        """Whether the next answer is one of the sample."""
        return self._rate >= 1.0 or self._random.random() < self._rate

    def offer(self, model: str, size: int, make: Callable[[], prediction_log_pb2.PredictionLog]) -> None:
        """Queue a request of about `size` bytes, which `make` will turn into a record; drop it where it is full."""
        with self._changed:
            most, most_bytes = self._limits
            full = len(self._queue) >= most or self._queued_bytes + size > most_bytes or self._closing
            if not full:
                self._queue.append(_Entry(model, int(time.time()), size, make))
                self._queued_bytes += size
                if len(self._queue) == 1:
                    self._changed.notify()
        if full:
            metrics.REQUEST_LOG_COUNT.add(model, Code.RESOURCE_EXHAUSTED.name)

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Write what is queued and finish the files, for at most so long."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(seconds)
        if self._thread.is_alive():
            logger.error("--request_log_dir=%s: not all could be written in %g seconds", self._directory, seconds)

    def _work(self) -> None:
        closing = False
        while not closing:
            with self._changed:
                if not self._queue and not self._closing:
                    self._changed.wait(self._seconds_to_rotation())
                entries, self._queue = self._queue, deque()
                self._queued_bytes = 0
                closing = self._closing
            for entry in entries:
                self._write(entry)
            for model, file in self._files.items():
                self._guarded(model, file, file.finish if closing else file.flush)

    def _seconds_to_rotation(self) -> float | None:
        due = [file.due for file in self._files.values() if file.due is not None]
        return max(min(due) - time.monotonic(), 0.0) if due else None

    def _write(self, entry: _Entry) -> None:
        file = self._files.get(entry.model)
        if file is None:
            file = self._files[entry.model] = LogFile(self._directory, entry.model, self._rotation)

        try:
            record = self._record(entry)
        except Exception as error:
            self._complain(entry.model, error)
            written = False
        else:
            written = self._guarded(entry.model, file, lambda: file.append(record))
        metrics.REQUEST_LOG_COUNT.add(entry.model, Code.OK.name if written else Code.INTERNAL.name)

    def _guarded(self, model: str, file: LogFile, step: Callable[[], None]) -> bool:
        """Take a step on a file; after a failure the next record begins another file."""
        try:
            step()
        except Exception as error:
            file.abandon()
            self._complain(model, error)
            return False
        return True

    def _complain(self, model: str, error: Exception) -> None:
        if time.monotonic() >= self._quiet_until:
            self._quiet_until = time.monotonic() + _QUIET_SECONDS
            logger.error("--request_log_dir=%s: cannot log a request to %s: %s", self._directory, model, error)

    def _record(self, entry: _Entry) -> bytes:
        log = entry.make()
        log.log_metadata.model_spec.CopyFrom(_answered_by(log))
        log.log_metadata.sampling_config.sampling_rate = self._rate
        log.log_metadata.timestamp_secs = entry.when
        return log.SerializeToString()


def log_of_call(request: Message, response: Message) -> prediction_log_pb2.PredictionLog:
    """A gRPC call: a request and its answer."""
    kind = _KINDS[type(request)]
    log = prediction_log_pb2.PredictionLog()
    getattr(log, kind).request.CopyFrom(request)
    getattr(log, kind).response.CopyFrom(response)
    return log


def log_of_tensors(
    model: str, version: int, signature_name: str, *, inputs: Mapping[str, Array], outputs: Mapping[str, Array]
) -> prediction_log_pb2.PredictionLog:
    """A prediction that came without protos, as the gRPC call that it could have been."""
    log = prediction_log_pb2.PredictionLog()
    _fill_specs(log.predict_log, model, version, signature_name)
    for name, array in inputs.items():
        to_proto(array, log.predict_log.request.inputs[name])
    for name, array in outputs.items():
        to_proto(array, log.predict_log.response.outputs[name])
    return log


def log_of_examples(
    model: str, version: int, signature_name: str, examples: input_pb2.Input, result: Message
) -> prediction_log_pb2.PredictionLog:
    """Examples that came without a request proto and were classified or regressed, as the gRPC call."""
    log = prediction_log_pb2.PredictionLog()
    classified = isinstance(result, classification_pb2.ClassificationResult)
    own = log.classify_log if classified else log.regress_log
    _fill_specs(own, model, version, signature_name)
    own.request.input.CopyFrom(examples)
    own.response.result.CopyFrom(result)
    return log


def _fill_specs(log: Any, model: str, version: int, signature_name: str) -> None:
    for spec in (log.request.model_spec, log.response.model_spec):
        spec.name = model
        spec.signature_name = signature_name or DEFAULT_SIGNATURE
    log.response.model_spec.version.value = version


def _answered_by(log: prediction_log_pb2.PredictionLog) -> model_pb2.ModelSpec:
    """The model and version that answered; of several tasks, which have both in common, the first."""
    kind = log.WhichOneof("log_type")
    response = getattr(log, kind).response
    return response.results[0].model_spec if kind == "multi_inference_log" else response.model_spec


def _check_writable(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise UserError(f"--request_log_dir={directory}: cannot be written: {error.strerror}.") from None
