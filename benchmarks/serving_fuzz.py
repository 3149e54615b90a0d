"""What strangers send: thousands of broken requests over one socket after another, a slow client, a deadline.

No answer may be a 5xx (but 501, TensorFlow Serving's answer to a method that HTTP does not have), the process must
live, and its memory must stay where it is. Requests are drawn by a seed: golden requests with bytes changed, cut,
doubled; JSON of wrong types, wrong shapes, great depth and great size; broken HTTP.
"""

import http.client
import json
import random
import socket
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import tensorflow as tf

from benchmarks.serving_bundle import MODEL, Questions
from benchmarks.serving_load import HOST
from benchmarks.serving_process import ServerProcess

SEED = 7
THREADS = 8
# For an answer; to a request that is not whole there is none.
WAIT_SECONDS = 1.0
SLOW_CLIENTS, SLOW_SECONDS = 8, 5.0
DEADLINE_MS = 200
DEADLINES = 40


def fuzz(server: ServerProcess, asked: list[Questions], *, requests: int) -> dict[str, Any]:
    """Send `requests` broken requests, and return what came back; memory is that of the server, in MB."""
    drawn = random.Random(SEED)
    sent = [_request(drawn, asked) for _ in range(requests)]
    first = requests // 5
    with ThreadPoolExecutor(THREADS) as threads:
        statuses = list(threads.map(lambda request: _ask(server.rest_port, request), sent[:first]))
        settled = server.memory_mb()
        statuses += threads.map(lambda request: _ask(server.rest_port, request), sent[first:])
    errors = [number for number, status in enumerate(statuses) if status.startswith("5") and status != "501"]
    return {
        "requests": requests,
        "statuses": dict(Counter(statuses)),
        "server_errors": len(errors),
        "worst": [repr(sent[number][:200]) for number in errors[:10]],
        "alive": bool(server.states()),
        "memory_mb": [settled, server.memory_mb()],
    }


def slow_clients(server: ServerProcess, asked: Questions) -> dict[str, float]:
    """Return the median answer time in ms without and with clients that send a byte a second."""

    def median() -> float:
        times = []
        end = time.perf_counter() + SLOW_SECONDS
        while time.perf_counter() < end:
            start = time.perf_counter()
            _ask(server.rest_port, asked.rest[len(times) % len(asked.rest)])
            times.append(1e3 * (time.perf_counter() - start))
        return statistics.median(times)

    alone = median()
    stop = threading.Event()

    def drip() -> None:
        with socket.create_connection((HOST, server.rest_port)) as sock:
            for byte in asked.rest[0]:
                if stop.wait(1.0):
                    return
                sock.sendall(bytes([byte]))

    slow = [threading.Thread(target=drip, daemon=True) for _ in range(SLOW_CLIENTS)]
    for thread in slow:
        thread.start()
    beside = median()
    stop.set()
    return {"alone_ms": alone, "beside_slow_ms": beside}


def deadline() -> dict[str, Any]:
    """Return how long after its deadline a request to a model that takes a second is answered, in ms."""
    with tempfile.TemporaryDirectory(prefix="bench-slow-") as name:
        base = Path(name) / MODEL
        _save_slow(base / "1", seconds=1.0)
        server = ServerProcess(base, f"--rest_api_timeout_in_ms={DEADLINE_MS}", "--enable_model_warmup=false")
        body = json.dumps({"instances": [1.0]}).encode()
        late, statuses = [], set()
        try:
            for _ in range(DEADLINES):
                connection = http.client.HTTPConnection(HOST, server.rest_port, timeout=20.0)
                connection.connect()
                start = time.perf_counter()
                connection.request("POST", f"/v1/models/{MODEL}:predict", body)
                statuses.add(connection.getresponse().status)
                late.append(1e3 * (time.perf_counter() - start) - DEADLINE_MS)
                connection.close()
        finally:
            server.kill()
    return {"statuses": sorted(statuses), "median_late_ms": statistics.median(late), "most_late_ms": max(late)}


def _save_slow(path: Path, *, seconds: float) -> None:
    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def compute(x: tf.Tensor) -> dict[str, tf.Tensor]:
        end = tf.timestamp() + seconds
        (turns,) = tf.while_loop(lambda turn: tf.timestamp() < end, lambda turn: [turn + 1.0], [tf.constant(0.0)])
        return {"y": x + 0.0 * turns}

    module = tf.Module()
    module.compute = compute
    tf.saved_model.save(module, str(path), signatures={"serving_default": compute})


def _ask(port: int, request: bytes) -> str:
    """Send bytes on a connection of their own, and return the status code; what else came of it where none did."""
    try:
        with socket.create_connection((HOST, port), timeout=WAIT_SECONDS) as sock:
            sock.sendall(request)
            head = b""
            while len(head) < 12 and (data := sock.recv(4096)):
                head += data
    except TimeoutError:
        return "waits for the rest"
    except OSError as error:
        # The server may close before it has read all of a request that is too large.
        return type(error).__name__
    return head[9:12].decode("latin-1") if head.startswith(b"HTTP/1.1 ") else "closed"


def _request(drawn: random.Random, asked: list[Questions]) -> bytes:
    way = drawn.choice(_WAYS)
    return way(drawn, drawn.choice(drawn.choice(asked).rest))


def _changed(drawn: random.Random, request: bytes) -> bytes:
    data = bytearray(request)
    for _ in range(drawn.randint(1, 8)):
        data[drawn.randrange(len(data))] = drawn.randrange(256)
    return bytes(data)


def _cut(drawn: random.Random, request: bytes) -> bytes:
    return request[: drawn.randrange(len(request))]


def _body_changed(drawn: random.Random, request: bytes) -> bytes:
    body = bytearray(request.partition(b"\r\n\r\n")[2])
    start = drawn.randrange(len(body))
    part = bytes(body[start : start + drawn.randint(0, 12)])
    body[start : start + drawn.randint(0, 4)] = part * drawn.randint(0, 3) + drawn.randbytes(drawn.randint(0, 3))
    return _post(bytes(body), drawn)


def _wrong_json(drawn: random.Random, request: bytes) -> bytes:
    body = json.loads(request.partition(b"\r\n\r\n")[2])
    key = drawn.choice(["instances", "inputs", "signature_name", "examples", "x"])
    body[key] = _value(drawn, 4)
    if isinstance(body.get("instances"), list) and body["instances"] and isinstance(body["instances"][0], dict):
        for name in body["instances"][0]:
            if drawn.random() < 0.5:
                body["instances"][0][name] = _value(drawn, 3)
    return _post(json.dumps(body).encode("utf-8", "surrogatepass"), drawn)


def _deep_or_large(drawn: random.Random, request: bytes) -> bytes:
    depth, length = drawn.randint(1, 5000), drawn.randint(1, 300_000)
    body = drawn.choice(
        [
            b'{"instances": ' + b"[" * depth + b"]" * depth + b"}",
            b'{"instances": ' + b'{"a":' * depth + b"1" + b"}" * depth + b"}",
            b'{"instances": ["' + b"x" * length + b'"]}',
            b'{"instances": [' + b"1," * length + b"1]}",
            b'{"inputs": {"user_id": [' + b'"u",' * (length // 100) + b'"u"]}}',
        ]
    )
    return _post(body, drawn)


def _value(drawn: random.Random, depth: int) -> Any:
    if depth and drawn.random() < 0.5:
        if drawn.random() < 0.5:
            return [_value(drawn, depth - 1) for _ in range(drawn.randint(0, 4))]
        return {drawn.choice(["user_id", "b64", "x", ""]): _value(drawn, depth - 1) for _ in range(drawn.randint(0, 3))}
    return drawn.choice(
        [None, True, 0, -1, 2**63, 1e308, float("nan"), float("-inf"), "", "u", "\ud83d", "x" * 1000, "\u0000"]
    )


def _post(body: bytes, drawn: random.Random) -> bytes:
    length = len(body) if drawn.random() < 0.95 else drawn.choice([0, len(body) + 5, -1, 10**12])
    path = f"/v1/models/{MODEL}" + drawn.choice([":predict", ":predict", ":classify", "/versions/1:regress", "/x", ""])
    return f"POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n".encode() + body


_WAYS: list[Callable[[random.Random, bytes], bytes]] = [_changed, _cut, _body_changed, _wrong_json, _deep_or_large]
