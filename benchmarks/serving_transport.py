"""What the transports alone leave of a signature's throughput: no request is read, no answer is written.

Behind asyncio, as behind the REST API, and behind ``grpc.aio``, as behind gRPC, requests are taken unread, the
signature is called once for a batch of them, and each gets the same bytes, as long as an answer in JSON.
"""

import asyncio
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import grpc
import grpc.aio

from benchmarks.serving_bundle import Questions, load, plan_of_rows
from benchmarks.serving_load import HOST, PREDICT, PROTOCOLS, Load, Outcome
from serving.model_server.json_response import predictions


def transport_alone(
    bundle: Path, asked: Sequence[Questions], *, clients: int, seconds: float
) -> dict[str, dict[str, dict[str, Any]]]:
    """For each signature and protocol what the clients get, in one batch of all or one on each core, the faster."""
    cores = os.cpu_count() or 1

    def best(questions: Questions, protocol: str) -> dict[str, Any]:
        shapes = [(1, clients), (cores, -(-clients // cores))]
        outcomes = [
            {
                **_measure(bundle, questions, protocol, clients, seconds, threads=threads, rows=rows).summary(),
                "calls": f"{threads} x {rows} rows",
            }
            for threads, rows in shapes
        ]
        return max(outcomes, key=lambda outcome: outcome["per_second"])

    return {questions.signature: {protocol: best(questions, protocol) for protocol in PROTOCOLS} for questions in asked}


def _measure(
    bundle: Path, questions: Questions, protocol: str, clients: int, seconds: float, *, threads: int, rows: int
) -> Outcome:
    """A load on a server in a process of its own, as it stands when the time is up: the last batch is never full."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(bundle, questions, protocol, threads, rows, there), daemon=True)
    process.start()
    there.close()
    try:
        asking = Load(protocol, here.recv(), questions.over(protocol), clients, check=lambda body: bool(body))
        begin = time.perf_counter()
        asking.start()
        time.sleep(seconds)
        now = asking.outcome
        outcome = Outcome(list(now.started), list(now.seconds), list(now.failures), now.failed)
        outcome.elapsed = time.perf_counter() - begin
    finally:
        process.kill()
        process.join()
    asking.stop()
    return outcome


def _serve(bundle: Path, questions: Questions, protocol: str, threads: int, rows: int, ready: Connection) -> None:
    servable = load(bundle)
    plan = plan_of_rows(servable, questions, rows)
    outputs = plan.named([output[:1] for output in servable.run_tensors(plan.feeds, plan.fetches)])
    batches = FullBatches(lambda: servable.run_tensors(plan.feeds, plan.fetches), threads=threads, rows=rows)
    serve = serve_rest if protocol == "REST" else serve_grpc
    asyncio.run(serve(batches, predictions(outputs), ready))


class FullBatches:
    """Has one ``run`` for as many requests as there are ``rows`` in a batch, on one of its threads."""

    def __init__(self, run: Callable[[], object], *, threads: int, rows: int) -> None:
        self._run, self._threads, self._rows = run, threads, rows
        self._waiting: list[Callable[[], object]] = []
        self._full: SimpleQueue[list[Callable[[], object]]] = SimpleQueue()

    def start(self) -> None:
        """In the event loop that the requests come from."""
        self._loop = asyncio.get_running_loop()
        for _ in range(self._threads):
            threading.Thread(target=self._work, daemon=True).start()

    def add(self, answer: Callable[[], object]) -> None:
        """Take a request, to call `answer` in the event loop when it has run."""
        self._waiting.append(answer)
        if len(self._waiting) == self._rows:
            self._full.put(self._waiting)
            self._waiting = []

    def _work(self) -> None:
        while True:
            answers = self._full.get()
            self._run()
            self._loop.call_soon_threadsafe(_call_all, answers)


def _call_all(answers: Sequence[Callable[[], object]]) -> None:
    for answer in answers:
        answer()


async def serve_rest(batches: FullBatches, body: bytes, ready: Connection) -> None:
    """Answer whatever comes over HTTP with `body`, on a port that is sent to `ready`."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)

    class Client(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            self._answer = lambda: transport.write(answer)

        def data_received(self, data: bytes) -> None:
            batches.add(self._answer)

    batches.start()
    server = await asyncio.get_running_loop().create_server(Client, HOST, 0)
    ready.send(server.sockets[0].getsockname()[1])
    await server.serve_forever()


async def serve_grpc(batches: FullBatches, body: bytes, ready: Connection) -> None:
    """As `serve_rest`, calls of Predict."""

    async def handle(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        answered = asyncio.get_running_loop().create_future()
        batches.add(lambda: answered.set_result(None))
        await answered
        return body

    service, method = PREDICT.strip("/").split("/")
    server = grpc.aio.server()
    handlers = {method: grpc.unary_unary_rpc_method_handler(handle)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    port = server.add_insecure_port(f"{HOST}:0")
    await server.start()
    batches.start()
    ready.send(port)
    try:
        await server.wait_for_termination()
    finally:
        await server.stop(None)
