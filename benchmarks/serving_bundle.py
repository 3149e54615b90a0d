"""What a benchmark asks a bundle: its own golden requests, as JSON and as protos, and the same without any server."""

import json
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tensorflow.core.protobuf import config_pb2
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from benchmarks.serving_load import Outcome
from serving.model_server.loader import LoadOptions, load_version
from serving.model_server.predict import PredictPlan, plan_predict
from serving.model_server.records import read_records
from serving.model_server.servable import Servable
from serving.model_server.tensor_protos import from_proto, to_proto
from serving.model_server.warmup import GOLDEN_FILE
from tfrs_shop.errors import UserError

MODEL = "shop"


@dataclass(frozen=True)
class Questions:
    """Requests of one row to one signature; `rest` are whole HTTP requests."""

    signature: str
    rest: list[bytes]
    grpc: list[bytes]
    inputs: list[dict[str, np.ndarray]]

    def over(self, protocol: str) -> list[bytes]:
        return self.rest if protocol == "REST" else self.grpc


def questions(bundle: Path, signature: str) -> Questions:
    """The bundle's golden requests to a signature, cut into rows."""
    found = Questions(signature, [], [], [])
    golden = bundle / GOLDEN_FILE
    records = read_records(golden) if golden.is_file() else ()
    for record in records:
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        if request.model_spec.signature_name != signature:
            continue
        tensors = {name: from_proto(proto, name) for name, proto in request.inputs.items()}
        for row in range(len(next(iter(tensors.values())))):
            _add(found, {name: array[row : row + 1] for name, array in tensors.items()})
    if not found.inputs:
        raise UserError(f"--bundle {bundle}: {GOLDEN_FILE} has no request to {signature}; give an exported bundle.")
    return found


def _add(found: Questions, tensors: dict[str, np.ndarray]) -> None:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = MODEL
    request.model_spec.signature_name = found.signature
    for name, array in tensors.items():
        to_proto(array, request.inputs[name])
    row = {name: _plain(array[0]) for name, array in tensors.items()}
    body = json.dumps({"signature_name": found.signature, "instances": [row]}).encode()
    head = f"POST /v1/models/{MODEL}:predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    found.inputs.append(tensors)
    found.grpc.append(request.SerializeToString())
    found.rest.append(head.encode() + body)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    return (
        [_plain(item) for item in value] if isinstance(value, np.ndarray) and value.ndim else np.asarray(value).item()
    )


def load(bundle: Path) -> Servable:
    """The bundle as the server under test has it: with one thread for an operation."""
    config = config_pb2.ConfigProto(intra_op_parallelism_threads=1)
    return load_version(MODEL, 1, bundle, LoadOptions(session_config=config))


def plan_of_rows(servable: Servable, questions: Questions, rows: int) -> PredictPlan:
    """One call for so many questions, from the first one on again where there are fewer."""
    inputs = [questions.inputs[number % len(questions.inputs)] for number in range(rows)]
    merged = {name: np.concatenate([row[name] for row in inputs]) for name in inputs[0]}
    return plan_predict(servable, questions.signature, merged)


def in_process(bundle: Path, asked: list[Questions], *, clients: int, seconds: float) -> dict[str, dict[str, Any]]:
    """For each signature, the same call without a server, with its thread for an operation: one row, and many.

    ``batched`` has as many rows under way as there are clients, in one call or in one on each core, whichever is
    faster; ``more`` has as many on each core, more than these clients could ask for.
    """
    servable = load(bundle)
    cores = os.cpu_count() or 1
    results = {}
    for questions in asked:

        def calls(rows: int, threads: int, questions: Questions = questions) -> dict[str, Any]:
            plan = plan_of_rows(servable, questions, rows)
            outcome = _calls(servable, [plan], threads=threads, seconds=seconds)
            done = rows * len(outcome.seconds)
            return {**outcome.summary(), "calls": f"{threads} x {rows} rows", "rows_per_second": done / outcome.elapsed}

        single = [plan_predict(servable, questions.signature, inputs) for inputs in questions.inputs]
        together = [calls(clients, 1), calls(-(-clients // cores), cores)]
        results[questions.signature] = {
            "single": _calls(servable, single, threads=1, seconds=seconds).summary(),
            "batched": max(together, key=lambda outcome: outcome["rows_per_second"]),
            "more": calls(clients, cores),
        }
    servable.close()
    return results


def _calls(servable: Servable, plans: list[PredictPlan], *, threads: int, seconds: float) -> Outcome:
    """Call as often as it goes for a while, after a first call that does not count."""
    for plan in plans:
        servable.run_tensors(plan.feeds, plan.fetches)
    outcome = Outcome()
    begin = time.perf_counter()

    def work() -> None:
        number = 0
        while time.perf_counter() < begin + seconds:
            plan = plans[number % len(plans)]
            start = time.perf_counter()
            servable.run_tensors(plan.feeds, plan.fetches)
            outcome.answered(start)
            number += 1

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    outcome.elapsed = time.perf_counter() - begin
    return outcome
