"""The requests that a bundle carries: warm-up before traffic, and golden requests whose answers must match."""

import functools
import itertools
import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from serving.model_server import metrics
from serving.model_server.background import Run, at_once
from serving.model_server.inference import classify, multi_inference, regress
from serving.model_server.predict import predict
from serving.model_server.records import read_records
from serving.model_server.servable import Servable
from serving.model_server.status import Code, ServingError, invalid
from serving.model_server.tensor_protos import from_proto

if TYPE_CHECKING:
    from serving.model_server.json_values import Array

logger = logging.getLogger(__name__)

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
GOLDEN_FILE = "assets.extra/golden_requests"
MAX_WARMUP_RECORDS = 1000
# So that whoever waits sees that it goes on.
PROGRESS_SECONDS = 5.0
RELATIVE_TOLERANCE = 1e-3
ABSOLUTE_TOLERANCE = 1e-4
# Of a ranked answer. Products whose scores are relatively this near to each other may change places where another
# processor rounds otherwise: exact copies in a catalogue do.
SCORES, RANKED = "score", "product_id"
TIE = 1e-5


def warm_up(servable: Servable, version_dir: Path, *, repeats: int = 1, threads: int = 1, run: Run = at_once) -> int:
    """Replay the bundle's warm-up requests, `threads` at a time, each a step of `run`; return how many there were.

    Raises:
        ServingError: the first that failed, which fails the version.
    """
    path, count, start, status = version_dir / WARMUP_FILE, 0, time.perf_counter(), "OK"

    def replay_all(log: prediction_log_pb2.PredictionLog) -> None:
        for _ in range(repeats):
            replay(servable, log)

    try:
        logs = list(itertools.islice(_logs(path), MAX_WARMUP_RECORDS + 1))
        if len(logs) > MAX_WARMUP_RECORDS:
            raise invalid(f"Number of warmup records exceeds the maximum ({MAX_WARMUP_RECORDS}) at {path}")
        with ThreadPoolExecutor(threads, thread_name_prefix="warm-up") as pool:
            told = time.monotonic()
            for _ in pool.map(lambda log: run(lambda: replay_all(log)), logs):
                count += 1
                if time.monotonic() - told >= PROGRESS_SECONDS:
                    told = time.monotonic()
                    logger.info("Warm-up of version %d: %d of %d requests", servable.version, count, len(logs))
    except ServingError as error:
        status = error.code.name
        raise
    finally:
        if count:
            metrics.WARMUP_RECORDS.add(str(version_dir), status, by=count)
            metrics.WARMUP_LATENCY.add(str(version_dir), status, value=(time.perf_counter() - start) * 1e6)
    return count


def check_golden(servable: Servable, version_dir: Path, *, run: Run = at_once) -> int:
    """Ask the bundle's golden requests, each a step of `run`, and compare the answers; return how many there were.

    Raises FAILED_PRECONDITION when an answer is not finite or differs from the recorded one.
    """
    count = 0
    for log in _logs(version_dir / GOLDEN_FILE):
        if log.WhichOneof("log_type") == "predict_log":
            request, recorded = log.predict_log.request, log.predict_log.response
            _compare(run(functools.partial(replay_predict, servable, request)), recorded, count)
            count += 1
    return count


def replay(servable: Servable, log: prediction_log_pb2.PredictionLog) -> None:
    """Run the request of one log record."""
    kind = log.WhichOneof("log_type")
    if kind == "predict_log":
        replay_predict(servable, log.predict_log.request)
    elif kind == "classify_log":
        request = log.classify_log.request
        classify(servable, request.model_spec.signature_name, request.input)
    elif kind == "regress_log":
        regress(servable, log.regress_log.request.model_spec.signature_name, log.regress_log.request.input)
    elif kind == "multi_inference_log":
        multi_inference(servable, log.multi_inference_log.request)
    elif kind is not None:
        raise ServingError(Code.UNIMPLEMENTED, f"Unsupported log_type for warmup: {kind}")


def replay_predict(servable: Servable, request: predict_pb2.PredictRequest) -> "dict[str, Array]":
    """Run a predict request of protos and return its outputs."""
    return predict(
        servable, request.model_spec.signature_name, request.inputs, output_filter=list(request.output_filter)
    )


def _logs(path: Path) -> Iterator[prediction_log_pb2.PredictionLog]:
    if not path.is_file():
        return
    try:
        for record in read_records(path):
            log = prediction_log_pb2.PredictionLog()
            try:
                log.ParseFromString(record)
            except Exception:
                raise invalid(f"Failed to parse warmup record from {path}") from None
            yield log
    except ServingError as error:
        if error.code is Code.DATA_LOSS:
            raise ServingError(
                Code.DATA_LOSS, f"{error.message}. Please verify your warmup data is in TFRecord format."
            ) from None
        raise


def _compare(answer: "dict[str, Array]", recorded: predict_pb2.PredictResponse, number: int) -> None:
    if set(answer) != set(recorded.outputs):
        raise _refused(number, f"it has the outputs {sorted(answer)} instead of {sorted(recorded.outputs)}")
    wanted = {name: from_proto(recorded.outputs[name], name) for name in answer}
    ties = _ties(wanted)
    for name in sorted(answer):
        got, expected = answer[name], wanted[name]
        if got.dtype != expected.dtype or got.shape != expected.shape:
            raise _refused(
                number, f"{name} is {got.dtype}{list(got.shape)} instead of {expected.dtype}{list(expected.shape)}"
            )
        if ties is not None and got.shape[:2] == ties.shape:
            got, expected = _by_ties(got, ties, answer[RANKED]), _by_ties(expected, ties, wanted[RANKED])
        if got.dtype.kind in "fc":
            if not np.isfinite(got).all():
                raise _refused(number, f"{name} is not finite")
            same = np.isclose(got, expected, rtol=RELATIVE_TOLERANCE, atol=ABSOLUTE_TOLERANCE)
        else:
            same = got == expected
        if not np.all(same):
            where = int(np.flatnonzero(~np.asarray(same).ravel())[0])
            raise _refused(
                number, f"value {where} of {name} is {got.ravel()[where]!r} instead of {expected.ravel()[where]!r}"
            )


def _ties(outputs: "dict[str, Array]") -> "Array | None":
    """Number the places ``[rows, k]`` of a ranked answer, those that tie with the same number; None of another answer.

    Places change within a tie alone; a product that ties with the last one and is not in the answer is not known here.
    """
    scores, ranked = outputs.get(SCORES), outputs.get(RANKED)
    if scores is None or ranked is None or scores.dtype.kind != "f" or scores.ndim != 2 or ranked.shape != scores.shape:
        return None
    apart = np.abs(np.diff(scores, axis=1)) > TIE * np.abs(scores[:, :-1])
    return np.pad(np.cumsum(apart, axis=1), [(0, 0), (1, 0)])


def _by_ties(output: "Array", ties: "Array", ranked: "Array") -> "Array":
    """Return an output ``[rows, k, ...]`` with the places of each tie in the order of what is ranked there."""
    if ranked.shape != ties.shape:
        return output
    sorted_output = output.copy()
    for row, (tie, names) in enumerate(zip(ties, ranked, strict=True)):
        keys = list(zip(tie, names, strict=True))
        sorted_output[row] = output[row][sorted(range(len(keys)), key=keys.__getitem__)]
    return sorted_output


def _refused(number: int, why: str) -> ServingError:
    return ServingError(Code.FAILED_PRECONDITION, f"The answer to golden request {number} differs: {why}")
