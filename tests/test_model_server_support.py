"""Small SavedModels and a server on free ports, shared by the tests of the model server; holds no tests itself."""

import contextlib
import functools
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf  # the environment above must come first
import tensorflow_text as tf_text

from serving.model_server.loader import LoadOptions, load_version
from serving.model_server.manager import Loader, ModelConfig, ModelManager
from serving.model_server.rest import RestApi

DTYPES = {
    "float": tf.float32,
    "double": tf.float64,
    "int8": tf.int8,
    "int16": tf.int16,
    "int32": tf.int32,
    "int64": tf.int64,
    "uint8": tf.uint8,
    "uint16": tf.uint16,
    "uint32": tf.uint32,
    "uint64": tf.uint64,
    "bool": tf.bool,
    "string": tf.string,
    "half": tf.float16,
    "bfloat16": tf.bfloat16,
}


def save_half_plus_two(base: Path, version: int = 1, *, half: float = 0.5, two: float = 2.0) -> Path:
    """y = x * half + two on vectors of float."""
    module = tf.Module()
    module.half = tf.Variable(half)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def compute(x):
        return {"y": x * module.half + two}

    module.compute = compute
    path = base / str(version)
    tf.saved_model.save(module, str(path), signatures={"serving_default": compute})
    return path


def save_types(base: Path) -> Path:
    """One identity signature for each data type, with input x and output y."""
    module = tf.Module()
    signatures = {}
    for name, dtype in DTYPES.items():

        @tf.function(input_signature=[tf.TensorSpec(None, dtype, name="x")])
        def identity(x):
            return {"y": tf.identity(x)}

        setattr(module, f"identity_{name}", identity)
        signatures[name] = identity
    tf.saved_model.save(module, str(base / "1"), signatures=signatures)
    return base / "1"


def save_pair(base: Path) -> Path:
    """Several inputs and outputs: a [batch] and label [batch] give score, label and label_bytes; others fail."""
    module = tf.Module()

    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.float32, name="a"), tf.TensorSpec([None], tf.string, name="label")]
    )
    def pair(a, label):
        return {"score": a * 2.0, "label": label, "label_bytes": label}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def scalar(x):
        return {"total": tf.reduce_sum(x)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, name="x")])
    def lookup(x):
        return {"y": tf.gather(tf.constant([10, 20, 30]), x)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def uneven(x):
        return {"all": x, "first": x[:1]}

    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.float32, name="x"), tf.TensorSpec([], tf.float32, name="step")]
    )
    def with_default(x, step=tf.constant(3.0)):  # noqa: B008  # a default is saved only as a tensor
        return {"y": x + step}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="x")])
    def number(x):
        return {"y": tf.strings.to_number(x)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="x")])
    def fold(x):
        return {"y": tf_text.case_fold_utf8(x)}

    module.functions = [pair, scalar, lookup, uneven, with_default, number, fold]
    signatures = {
        "serving_default": pair,
        "scalar": scalar,
        "lookup": lookup,
        "uneven": uneven,
        "with_default": with_default,
        "number": number,
        "fold": fold,
    }
    tf.saved_model.save(module, str(base / "1"), signatures=signatures)
    return base / "1"


def save_slow(base: Path, *, seconds: float) -> Path:
    """y = x + 1, after a while; written beside its place and renamed, so that it is whole when it is seen."""
    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def compute(x):
        # A loop that looks at the clock, since a Python function cannot be saved.
        end = tf.timestamp() + seconds
        with tf.control_dependencies([end]):
            (turns,) = tf.while_loop(lambda turn: tf.timestamp() < end, lambda turn: [turn + 1.0], [tf.constant(0.0)])
        return {"y": x + 1.0 + 0.0 * turns}

    module.compute = compute
    tf.saved_model.save(module, str(base.parent / "saving" / "1"), signatures={"serving_default": compute})
    (base.parent / "saving").rename(base)
    return base / "1"


def manager_for(models: dict[str, Path], *, unload_delay_seconds: float = 0.0, **loader_options: float) -> ModelManager:
    """A manager that has polled once and is polled by hand from then on."""

    loader = Loader(functools.partial(load_version, options=LoadOptions()), **loader_options)
    manager = ModelManager(loader, unload_delay_seconds=unload_delay_seconds)
    manager.configure([ModelConfig(name, path) for name, path in models.items()])
    manager.poll()
    return manager


ASK = "/v1/models/half:predict"
ONE = {"instances": [1]}


class Client:
    """Asks a `RestApi` without HTTP."""

    def __init__(self, manager: ModelManager) -> None:
        self.rest = RestApi(manager)

    def post(self, path: str, body: object) -> tuple[int, object]:
        """Status and JSON of a POST; text and bytes go as they are."""
        raw = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
        answer = self.rest.answer("POST", path, {}, raw)
        return answer.status, json.loads(answer.body.decode("utf-8", "surrogateescape") or "null")

    def get(self, path: str) -> tuple[int, object]:
        """Status and JSON of a GET."""
        answer = self.rest.answer("GET", path, {}, b"")
        return answer.status, json.loads(answer.body or b"null")

    def error(self, path: str, body: object) -> tuple[int, str]:
        """Status and error text of a POST that fails."""
        status, answer = self.post(path, body)
        return status, answer["error"]


def free_port() -> int:
    """A TCP port that is free on the loopback address."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Server:
    """`python -m serving.model_server` in a process of its own."""

    def __init__(self, *flags: str) -> None:
        self.rest_port, self.grpc_port = free_port(), free_port()
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent), "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "serving.model_server",
                f"--rest_api_port={self.rest_port}",
                f"--port={self.grpc_port}",
                *flags,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self.lines.append(line)

    def wait_for(self, text: str, seconds: float = 60) -> str:
        """The first line of output that contains `text`."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for line in self.lines:
                if text in line:
                    return line
            if self.process.poll() is not None:
                self._reader.join(2)
                if not any(text in line for line in self.lines):
                    break
            time.sleep(0.02)
        raise AssertionError(f"{text!r} is not in the output:\n{''.join(self.lines)}")

    def request(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None):
        """Status, headers and body of one request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.rest_port, timeout=30)
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        answer = response.status, dict(response.getheaders()), response.read()
        connection.close()
        return answer

    def terminate(self, seconds: float = 20) -> int:
        """Send SIGTERM and return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)


@contextlib.contextmanager
def running_server(*flags: str, seconds: float = 60) -> Iterator[Server]:
    """A server that is ready within these seconds; stopped at the end."""
    server = Server(*flags)
    try:
        server.wait_for("Ready.", seconds)
        yield server
    finally:
        if server.process.poll() is None:
            server.process.kill()
        server.process.wait(10)


def states(client: Client) -> dict[str, str]:
    answer = client.get("/v1/models/half")[1]
    return {entry["version"]: entry["state"] for entry in answer["model_version_status"]}
