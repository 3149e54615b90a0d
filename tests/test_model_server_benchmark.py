"""The benchmark of the server: what it asks, what it breaks, and what it calls kept."""

import asyncio
import collections
import contextlib
import itertools
import multiprocessing
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import grpc.aio
import pytest
from google.protobuf import text_format
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from benchmarks.serving import bars
from benchmarks.serving_bundle import questions
from benchmarks.serving_faults import _INTERRUPTED_COPY
from benchmarks.serving_load import PREDICT, Load, Outcome
from benchmarks.serving_transport import FullBatches, serve_grpc, serve_rest
from serving.model_server.grpc_drain import REFUSAL
from serving.model_server.records import write_records
from tfrs_shop.errors import UserError

REQUEST = """
predict_log { request {
  model_spec { name: "shop" signature_name: "recommend_for_history" }
  inputs { key: "history" value { dtype: DT_STRING tensor_shape { dim { size: 2 } dim { size: 2 } }
    string_val: "A" string_val: "B" string_val: "C" string_val: "" } }
} }
"""


def test_the_golden_requests_of_a_bundle_are_asked_row_by_row(tmp_path):
    (tmp_path / "assets.extra").mkdir()
    log = text_format.Parse(REQUEST, prediction_log_pb2.PredictionLog())
    write_records(tmp_path / "assets.extra" / "golden_requests", [log.SerializeToString()])
    asked = questions(tmp_path, "recommend_for_history")
    head, body = asked.rest[1].split(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/models/shop:predict HTTP/1.1\r\n")
    assert body == b'{"signature_name": "recommend_for_history", "instances": [{"history": ["C", ""]}]}'
    request = predict_pb2.PredictRequest.FromString(asked.grpc[0])
    assert list(request.inputs["history"].string_val) == [b"A", b"B"]
    with pytest.raises(UserError, match="has no request to similar"):
        questions(tmp_path, "similar")


def test_a_copy_is_killed_before_it_is_whole(tmp_path):
    source = tmp_path / "1"
    (source / "variables").mkdir(parents=True)
    (source / "saved_model.pb").write_bytes(b"m" * 1000)
    (source / "variables" / "variables.data").write_bytes(b"v" * 5000)
    draw = random.Random(1)
    for number in range(5):
        target, left = tmp_path / f"copy{number}", draw.randrange(1, 6000)
        command = [sys.executable, "-S", "-c", _INTERRUPTED_COPY, str(source), str(target), str(left), str(number)]
        assert subprocess.run(command, check=False, timeout=30).returncode == -signal.SIGKILL
        assert sum(path.stat().st_size for path in target.rglob("*") if path.is_file()) == left


async def _ask_over_http(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"question")
    await reader.readuntil(b"\r\n\r\n")
    answer = await reader.readexactly(4)
    writer.close()
    return answer


async def _ask_over_grpc(port: int) -> bytes:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        return await channel.unary_unary(PREDICT)(b"question")


@pytest.mark.parametrize(("serve", "ask"), [(serve_rest, _ask_over_http), (serve_grpc, _ask_over_grpc)])
def test_the_transports_alone_answer_what_nobody_reads_when_a_batch_is_full(serve, ask):
    runs = []

    async def answers() -> list[bytes]:
        here, there = multiprocessing.Pipe()
        batches = FullBatches(lambda: runs.append(1), threads=2, rows=3)
        serving = asyncio.create_task(serve(batches, b"body", there))
        port = await asyncio.to_thread(here.recv)
        answered = await asyncio.gather(*(ask(port) for _ in range(6)))
        serving.cancel()
        await asyncio.wait([serving])
        return answered

    assert asyncio.run(answers()) == [b"body"] * 6
    assert len(runs) == 2


def test_percentiles_are_of_what_was_answered():
    outcome = Outcome(seconds=[0.001 * number for number in range(1, 102)], failed=2, elapsed=2.0)
    summary = outcome.summary()
    assert (summary["requests"], summary["failed"], summary["per_second"]) == (101, 2, 50.5)
    assert summary["p50_ms"] == pytest.approx(51)
    assert summary["p99_ms"] == pytest.approx(100)


def test_a_bar_is_kept_or_missed_by_its_figure():
    load = {"per_second": 790.0, "p50_ms": 4.0, "failed": 0}
    results = {
        "in_process": {"recommend": {"single": {"p50_ms": 2.5}, "batched": {"rows_per_second": 1000.0}}},
        "served": {"recommend": {"REST": {"1": load, "8": load, "32": load}}},
        "fuzz": {"requests": 10_000, "server_errors": 2, "alive": True, "memory_mb": [1000.0, 1040.0]},
        "slow_clients": {"alone_ms": 2.0, "beside_slow_ms": 2.4},
        "deadline": {"statuses": [504], "median_late_ms": 3.0, "most_late_ms": 51.0},
        "swaps": {
            "swaps": 20,
            "during": {"failed": 0},
            "p99_ratio": 2.1,
            "first_ratio": 1.4,
            "memory_growth_mb": 120.0,
            "memory_growth_percent": 9.0,
        },
        "interrupted_copies": {"copies": 200, "served": [7], "failed_or_bad": 0},
        "sigterm": {"REST": {"failed": 0}, "gRPC": {"failed": 1}, "exit_code": 0, "seconds_to_exit": 1.0},
    }
    assert [(measured, kept) for _, measured, kept in bars(results)] == [
        ("79%", False),
        ("1.50 ms", True),
        ("0", True),
        ("2", False),
        ("+40 MB", True),
        ("2.00 ms alone, 2.40 ms beside them", True),
        ("51 ms, median 3 ms", False),
        ("0", True),
        ("2.10", False),
        ("1.40", True),
        ("+120 MB, +9%", True),
        ("1", False),
        ("0", True),
        ("1", False),
        ("0 after 1.0 s", True),
    ]


class Answers(threading.Thread):
    """A server that answers in two pieces, closes every third connection, and leaves the last request unanswered."""

    def __init__(self, last: int) -> None:
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port, self.last, self.asked = self.listener.getsockname()[1], last, 0
        self.start()

    def run(self) -> None:
        while self.asked < self.last:
            connection, _ = self.listener.accept()
            with connection:
                self.serve(connection)

    def serve(self, connection: socket.socket) -> None:
        while connection.recv(1000):
            self.asked += 1
            if self.asked == self.last:
                self.listener.close()
                return
            close = b"Connection: close\r\n" if self.asked % 3 == 0 else b""
            status = b"200 OK" if self.asked % 4 else b"503 Unavailable"
            connection.sendall(b"HTTP/1.1 " + status + b"\r\nContent-Length: 6\r\n" + close)
            time.sleep(0.002)
            connection.sendall(b"\r\nanswer")
            if close:
                return


def test_a_client_reads_whole_answers_comes_back_when_it_is_sent_away_and_counts_what_is_not_answered():
    server = Answers(last=9)
    load = Load("REST", server.port, [b"GET / HTTP/1.1\r\n\r\n"], 1, check=lambda body: body == b"answer")
    load.start()
    server.join(10)
    outcome = load.stop()
    assert server.asked == 9
    # The fourth and the eighth were told that the service is not available.
    assert (len(outcome.seconds), outcome.failed) == (6, 3)
    assert outcome.failures == [
        "HTTP/1.1 503 answer",
        "HTTP/1.1 503 answer",
        "no answer: the connection was closed",
    ]
    assert min(outcome.seconds) > 0.002


@contextlib.contextmanager
def grpc_server(answer):
    """gRPC's own server, whose Predict is `answer`; yields its port."""
    server = grpc.server(ThreadPoolExecutor(4))
    service, method = PREDICT.strip("/").split("/")
    handlers = {method: grpc.unary_unary_rpc_method_handler(answer)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port
    server.stop(0).wait()


@pytest.mark.parametrize("size", [1, 10_000, 300_000])
def test_grpc_clients_read_the_answers_of_grpcs_own_server_whatever_their_size(size):
    asked = collections.Counter()

    def answer(request, context):
        asked[request] += 1
        return request * size

    with grpc_server(answer) as port:
        load = Load("gRPC", port, [b"a", b"b", b"c"], 5, check=lambda body: body[:1] * size == body)
        load.start()
        time.sleep(0.3)
        outcome = load.stop()
    assert outcome.failures == []
    assert len(outcome.seconds) == asked.total() >= 5
    assert set(asked) == {b"a", b"b", b"c"}


def test_a_grpc_error_is_a_failure_with_its_words_and_a_refusal_ends_the_client():
    turn = itertools.count()

    def answer(request, context):
        if next(turn) == 0:
            context.abort(grpc.StatusCode.INTERNAL, "no luck")
        context.abort(grpc.StatusCode.UNAVAILABLE, REFUSAL)

    with grpc_server(answer) as port:
        load = Load("gRPC", port, [b"a"], 1, check=bool)
        load.start()
        load.join(10)
        assert not load.is_alive()
        outcome = load.stop()
    assert (len(outcome.seconds), outcome.failed) == (0, 1)
    assert "no luck" in outcome.failures[0]


def test_a_grpc_server_that_ends_with_calls_open_fails_them():
    reached, hold = threading.Event(), threading.Event()

    def answer(request, context):
        reached.set()
        hold.wait(10)
        return b"late"

    with grpc_server(answer) as port:
        load = Load("gRPC", port, [b"a"], 2, check=bool)
        load.start()
        reached.wait(10)
    hold.set()
    outcome = load.stop()
    assert (len(outcome.seconds), outcome.failed) == (0, 2)
    refused = Load("gRPC", port, [b"a"], 2, check=bool)
    refused.start()
    assert refused.stop().failed == 0
