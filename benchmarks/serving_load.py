"""A bounded load generator: a fixed number of clients, each asking its next question when it has its answer."""

import asyncio
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import grpc
import numpy as np

HOST = "127.0.0.1"
PREDICT = "/tensorflow.serving.PredictionService/Predict"
TIMEOUT_SECONDS = 30.0
MAX_FAILURES_KEPT = 20
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


class Load(threading.Thread):
    """`clients` clients that ask until `stop`, in a thread with an event loop of its own.

    A client whose connection is refused ends; that is no failure, as no request was under way.
    """

    def __init__(self, protocol: str, port: int, requests: Sequence[bytes], clients: int, check: Check) -> None:
        super().__init__(daemon=True)
        self.outcome = Outcome()
        self._port, self._requests, self._clients, self._check = port, requests, clients, check
        self._ask = {"REST": self._rest, "gRPC": self._grpc}[protocol]
        self._stopped = threading.Event()

    def run(self) -> None:
        start = time.perf_counter()
        asyncio.run(self._ask())
        self.outcome.elapsed = time.perf_counter() - start

    def stop(self) -> Outcome:
        """Let every client have its last answer, and return what came of all."""
        self._stopped.set()
        self.join(2 * TIMEOUT_SECONDS)
        return self.outcome

    async def _rest(self) -> None:
        await asyncio.gather(*(self._rest_client(number) for number in range(self._clients)))

    async def _rest_client(self, number: int) -> None:
        while not self._stopped.is_set():
            try:
                reader, writer = await asyncio.open_connection(HOST, self._port)
            except OSError:
                return
            try:
                number = await self._rest_connection(reader, writer, number)
            finally:
                writer.close()

    async def _rest_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> int:
        """Ask on one connection until the server closes it; return the number of the next question."""
        while not self._stopped.is_set():
            start = time.perf_counter()
            writer.write(self._requests[number % len(self._requests)])
            number += 1
            try:
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), TIMEOUT_SECONDS)
                length = _LENGTH.search(head)
                body = await reader.readexactly(int(length[1])) if length else b""
            except (OSError, EOFError, asyncio.TimeoutError) as error:
                self.outcome.fail(f"{type(error).__name__}: {error}")
                return number
            self._take(start, head[9:12] == b"200", body, head[:12] + b" " + body[:200])
            if b"\r\nConnection: close\r\n" in head:
                return number
        return number

    async def _grpc(self) -> None:
        async with grpc.aio.insecure_channel(f"{HOST}:{self._port}") as channel:
            call = channel.unary_unary(PREDICT)
            await asyncio.gather(*(self._grpc_client(call, number) for number in range(self._clients)))

    async def _grpc_client(self, call: Callable, number: int) -> None:
        while not self._stopped.is_set():
            start = time.perf_counter()
            try:
                body = await call(self._requests[number % len(self._requests)], timeout=TIMEOUT_SECONDS)
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.UNAVAILABLE and "connect" in (error.details() or "").lower():
                    return
                self.outcome.fail(f"{error.code()}: {error.details()}")
            else:
                self._take(start, True, body, body[:200])
            number += 1

    def _take(self, start: float, well: bool, body: bytes, shown: bytes) -> None:
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
