"""What the transports alone leave of a signature's throughput: no request is read, no answer is written.

Behind asyncio, as behind the REST API, and behind ``grpc.aio``, as behind gRPC, as many requests as there are clients
are taken unread, the signature is called once with as many rows, and each request gets the same bytes, as long as an
answer in JSON. No server that uses these transports in one process can be faster, whatever its own code takes.
"""

import asyncio
import multiprocessing
import threading
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue

import grpc
import grpc.aio

from benchmarks.serving_bundle import Questions, load, plan_of_rows
from benchmarks.serving_load import HOST, PREDICT, run_load
from serving.model_server.json_response import predictions

# The last requests of a load, fewer than its clients, are answered after that long.
_LAST_SECONDS = 0.2


def transport_alone(
    bundle: Path, asked: Sequence[Questions], *, clients: int, seconds: float
) -> dict[str, dict[str, dict[str, float]]]:
    """For each signature and protocol what `run_load` comes to, each in a process of its own."""
    return {
        questions.signature: {
            protocol: _load(bundle, questions, protocol, clients, seconds) for protocol in ("REST", "gRPC")
        }
        for questions in asked
    }


def _load(bundle: Path, questions: Questions, protocol: str, clients: int, seconds: float) -> dict[str, float]:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(bundle, questions, protocol, clients, there), daemon=True)
    process.start()
    there.close()
    try:
        return run_load(protocol, here.recv(), questions.over(protocol), clients, seconds).summary()
    finally:
        process.kill()
        process.join()


def _serve(bundle: Path, questions: Questions, protocol: str, clients: int, ready: Connection) -> None:
    servable = load(bundle)
    plan = plan_of_rows(servable, questions, clients)
    outputs = plan.named([output[:1] for output in servable.run_tensors(plan.feeds, plan.fetches)])
    together = Together(lambda: servable.run_tensors(plan.feeds, plan.fetches), clients)
    serve = serve_rest if protocol == "REST" else serve_grpc
    asyncio.run(serve(together, predictions(outputs), ready))


class Together:
    """Requests that wait until those of all ``clients`` are there, and then have one ``run`` for all of them."""

    def __init__(self, run: Callable[[], object], clients: int) -> None:
        self._run, self._clients = run, clients
        self._waiting: list[Callable[[], object]] = []
        self._together: SimpleQueue[list[Callable[[], object]]] = SimpleQueue()

    def start(self) -> None:
        """In the event loop that the requests come from."""
        self._loop = asyncio.get_running_loop()
        self._last = self._loop.create_task(self._answer_last())
        threading.Thread(target=self._work, daemon=True).start()

    def add(self, answer: Callable[[], object]) -> None:
        """Take a request, to call `answer` in the event loop when it has run."""
        self._waiting.append(answer)
        if len(self._waiting) == self._clients:
            self._begin()

    def _begin(self) -> None:
        self._together.put(self._waiting)
        self._waiting = []

    def _work(self) -> None:
        while True:
            answers = self._together.get()
            self._run()
            self._loop.call_soon_threadsafe(self._answer, answers)

    def _answer(self, answers: Sequence[Callable[[], object]]) -> None:
        for answer in answers:
            answer()

    async def _answer_last(self) -> None:
        before: list[Callable[[], object]] = []
        while True:
            await asyncio.sleep(_LAST_SECONDS)
            if self._waiting and self._waiting is before:
                self._begin()
            before = self._waiting


async def serve_rest(together: Together, body: bytes, ready: Connection) -> None:
    """Answer whatever comes over HTTP with `body`, on a port that is sent to `ready`."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)

    class Client(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            self._answer = lambda: transport.write(answer)

        def data_received(self, data: bytes) -> None:
            together.add(self._answer)

    together.start()
    server = await asyncio.get_running_loop().create_server(Client, HOST, 0)
    ready.send(server.sockets[0].getsockname()[1])
    await server.serve_forever()


async def serve_grpc(together: Together, body: bytes, ready: Connection) -> None:
    """As `serve_rest`, calls of Predict."""

    async def handle(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        answered = asyncio.get_running_loop().create_future()
        together.add(lambda: answered.set_result(None))
        await answered
        return body

    service, method = PREDICT.strip("/").split("/")
    server = grpc.aio.server()
    handlers = {method: grpc.unary_unary_rpc_method_handler(handle)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    port = server.add_insecure_port(f"{HOST}:0")
    await server.start()
    together.start()
    ready.send(port)
    try:
        await server.wait_for_termination()
    finally:
        await server.stop(None)
