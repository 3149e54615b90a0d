"""A bounded load generator: a fixed number of clients, each asking its next question when it has its answer."""

import asyncio
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks.grpc_client import GrpcConnection
from serving.model_server.grpc_drain import REFUSAL

HOST = "127.0.0.1"
PROTOCOLS = ("REST", "gRPC")
PREDICT = "/tensorflow.serving.PredictionService/Predict"
TIMEOUT_SECONDS = 30.0
MAX_FAILURES_KEPT = 20
# Said before a request is looked at: it was not lost, and may be sent elsewhere. In a header blanks are not escaped.
_REFUSAL = REFUSAL.encode()
_LENGTH = re.compile(rb"\r\nContent-Length: (\d+)\r\n", re.IGNORECASE)

# Whether an answer's body is a good one.
Check = Callable[[bytes], bool]


@dataclass
class Outcome:
    """What came of a load: when each answered request began and how long it took, in seconds, and what failed."""

    started: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    failed: int = 0
    elapsed: float = 0.0

    def answered(self, start: float) -> None:
        self.started.append(start)
        self.seconds.append(time.perf_counter() - start)

    def fail(self, why: str) -> None:
        self.failed += 1
        if len(self.failures) < MAX_FAILURES_KEPT:
            self.failures.append(why)

    def milliseconds(self, percent: float) -> float:
        return float(np.percentile(self.seconds, percent)) * 1e3 if self.seconds else float("nan")

    def summary(self) -> dict[str, float]:
        return {
            "requests": len(self.seconds),
            "failed": self.failed,
            "per_second": len(self.seconds) / self.elapsed if self.elapsed else 0.0,
            "p50_ms": self.milliseconds(50),
            "p95_ms": self.milliseconds(95),
            "p99_ms": self.milliseconds(99),
        }


class _RestClient(asyncio.Protocol):
    """One client of a `Load`, on one connection after the other.

    A protocol and not a stream, which would take longer for a request than the server's own code does.
    """

    def __init__(self, load: "Load", number: int) -> None:
        self._load, self._number = load, number
        self._answer, self._start, self.waiting = b"", 0.0, False

    async def ask(self, port: int) -> None:
        """Ask until the load is to stop, or a connection is refused."""
        while not self._load.stopped.is_set():
            self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            try:
                await asyncio.get_running_loop().create_connection(lambda: self, HOST, port)
            except OSError:
                return
            await self._closed

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._next()

    def _next(self) -> None:
        self._answer = b""
        self.waiting = not self._load.stopped.is_set()
        if not self.waiting:
            self._transport.close()
            return
        requests = self._load.requests
        self._start = time.perf_counter()
        self._transport.write(requests[self._number % len(requests)])
        self._number += 1

    def data_received(self, data: bytes) -> None:
        self._answer += data
        end = self._answer.find(b"\r\n\r\n") + 4
        if end < 4:
            return
        head = self._answer[:end]
        length = _LENGTH.search(head)
        if len(self._answer) < end + (int(length[1]) if length else 0):
            return
        body, self.waiting = self._answer[end:], False
        self._load.take(self._start, head[9:12] == b"200", body, head[:12] + b" " + body[:200])
        if b"\r\nConnection: close\r\n" in head:
            self._transport.close()
        else:
            self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.waiting:
            self._load.outcome.fail(f"no answer: {exc or 'the connection was closed'}")
            self.waiting = False
        self._closed.set_result(None)

    def end_late(self) -> None:
        """Give up a request that has waited too long."""
        if self.waiting and time.perf_counter() - self._start > TIMEOUT_SECONDS:
            self.waiting = False
            self._load.outcome.fail(f"no answer in {TIMEOUT_SECONDS:.0f} s")
            self._transport.abort()


class _GrpcClient:
    """One client of a `Load`; `ended` is resolved when it asks no more."""

    def __init__(self, load: "Load", connection: GrpcConnection, number: int) -> None:
        self._load, self._connection, self._number = load, connection, number
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def ask(self) -> None:
        """Ask until the load is to stop, or the server goes away."""
        if self._load.stopped.is_set() or self._connection.going_away:
            self._end()
            return
        requests = self._load.requests
        request = requests[self._number % len(requests)]
        self._number += 1
        self._start = time.perf_counter()
        self._connection.call(request, self._answered)

    def _answered(self, message: bytes | None, headers: bytes) -> None:
        if self.ended.done():
            return
        if message is None and _REFUSAL in headers:
            self._end()
            return
        self._load.take(self._start, message is not None, message or b"", headers)
        self.ask()

    def end_late(self) -> None:
        """Give up a request that has waited too long."""
        if not self.ended.done() and time.perf_counter() - self._start > TIMEOUT_SECONDS:
            self._load.outcome.fail(f"no answer in {TIMEOUT_SECONDS:.0f} s")
            self._end()

    def _end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


async def _end_late(clients: Sequence[_RestClient] | Sequence[_GrpcClient]) -> None:
    while True:
        await asyncio.sleep(1.0)
        for client in clients:
            client.end_late()


class Load(threading.Thread):
    """`clients` clients that ask until `stop`, in a thread with an event loop of its own.

    A client whose connection is refused ends; that is no failure, as no request was under way.
    """

    def __init__(self, protocol: str, port: int, requests: Sequence[bytes], clients: int, check: Check) -> None:
        super().__init__(daemon=True)
        self.outcome = Outcome()
        self.requests, self.stopped = requests, threading.Event()
        self._port, self._clients, self._check = port, clients, check
        self._ask = {"REST": self._rest, "gRPC": self._grpc}[protocol]

    def run(self) -> None:
        start = time.perf_counter()
        asyncio.run(self._ask())
        self.outcome.elapsed = time.perf_counter() - start

    def stop(self) -> Outcome:
        """Let every client have its last answer, and return what came of all."""
        self.stopped.set()
        self.join(2 * TIMEOUT_SECONDS)
        return self.outcome

    async def _rest(self) -> None:
        clients = [_RestClient(self, number) for number in range(self._clients)]
        watch = asyncio.create_task(_end_late(clients))
        await asyncio.gather(*(client.ask(self._port) for client in clients))
        watch.cancel()

    async def _grpc(self) -> None:
        """All clients on one connection, as on one channel of gRPC's own client."""
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(
                lambda: GrpcConnection(f"{HOST}:{self._port}", PREDICT, int(TIMEOUT_SECONDS)), HOST, self._port
            )
        except OSError:
            return
        clients = [_GrpcClient(self, connection, number) for number in range(self._clients)]
        watch = asyncio.create_task(_end_late(clients))
        for client in clients:
            client.ask()
        all_ended = asyncio.gather(*(client.ended for client in clients))
        await asyncio.wait([connection.lost, all_ended], return_when=asyncio.FIRST_COMPLETED)
        watch.cancel()
        connection.close()

    def take(self, start: float, well: bool, body: bytes, shown: bytes) -> None:
        """Count an answer to what was asked at ``start``, a failure unless it is ``well`` and its body good."""
        if well and self._check(body):
            self.outcome.answered(start)
        else:
            self.outcome.fail(shown.decode("utf-8", "replace"))


def run_load(protocol: str, port: int, requests: Sequence[bytes], clients: int, seconds: float) -> Outcome:
    """Load for a while, any answer being good, and return what came of it."""
    load = Load(protocol, port, requests, clients, check=lambda body: bool(body))
    load.start()
    time.sleep(seconds)
    return load.stop()
