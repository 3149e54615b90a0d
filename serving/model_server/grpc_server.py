"""The gRPC server: in the event loop, which also takes predictions into their batches; the rest runs in threads."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped]

from serving.model_server.grpc_calls import Call
from serving.model_server.grpc_drain import REFUSAL, Drain
from serving.model_server.grpc_health import HealthService
from serving.model_server.loop_calls import LoopCalls
from serving.model_server.status import Code, ServingError
from tfrs_shop.errors import UserError

_MESSAGE_LIMIT = 1024
# Larger requests take too long to read for the event loop.
_IN_LOOP_BYTES = 16 << 10
# For answers that are on their way to their clients when the server stops.
_LAST_SECONDS = 1.0
_GRPC_CODES = {code.value[0]: code for code in grpc.StatusCode}
_OPTIONS = (
    ("grpc.max_receive_message_length", 2**31 - 1),
    ("grpc.max_send_message_length", 2**31 - 1),
    ("grpc.so_reuseport", 0),
)

_Handler = Callable[[bytes, grpc.aio.ServicerContext], Awaitable[bytes]]


class GrpcServer:
    """Answers the calls of `services`, each by its full name; made and used in a running event loop."""

    def __init__(
        self,
        services: Mapping[str, Mapping[str, Call]],
        health: HealthService | None,
        *,
        threads: int,
        max_waiting: int = 1024,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._calls = LoopCalls(self._loop)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="grpc")
        self._max_waiting = max_waiting
        self._drain = Drain()
        self._server = grpc.aio.server(options=_OPTIONS)
        for name, calls in services.items():
            handlers = {
                method: grpc.unary_unary_rpc_method_handler(self._handler(call)) for method, call in calls.items()
            }
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))
        if health is not None:
            self._server.add_generic_rpc_handlers((health.handler(),))

    async def start(self, host: str, port: int) -> None:
        """Listen; raises UserError where the port cannot be had."""
        try:
            bound = self._server.add_insecure_port(f"{host}:{port}")
        except RuntimeError:
            bound = 0
        if not bound:
            raise UserError(f"--port={port}: cannot listen on {host}; is the port taken?")
        await self._server.start()

    async def drain(self, seconds: float, linger_seconds: float) -> None:
        """Finish: take no new calls, and wait for the running ones."""
        await asyncio.sleep(min(linger_seconds, seconds))
        self._drain.refuse()
        await self._drain.wait_until_quiet(seconds)
        await self._server.stop(min(_LAST_SECONDS, seconds))
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _handler(self, call: Call) -> _Handler:
        async def handle(body: bytes, context: grpc.aio.ServicerContext) -> bytes:
            if not self._drain.begin():
                await context.abort(grpc.StatusCode.UNAVAILABLE, REFUSAL)
            try:
                if self._drain.running > self._max_waiting:
                    raise ServingError(Code.UNAVAILABLE, "Too many requests are waiting for this server")
                return await self._answer(call, body)
            except ServingError as error:
                await _abort(context, error)
            finally:
                self._drain.end()

        return handle

    async def _answer(self, call: Call, body: bytes) -> bytes:
        if call.begin is not None and len(body) <= _IN_LOOP_BYTES:
            answered: asyncio.Future[bytes | ServingError] = self._loop.create_future()

            def deliver(answer: bytes | ServingError) -> None:
                # The client may have gone.
                if not answered.done():
                    answered.set_result(answer)

            def done(answer: Message | ServingError) -> None:
                self._calls.call(deliver, answer if isinstance(answer, ServingError) else answer.SerializeToString())

            if call.begin(_request(call, body), done):
                answer = await answered
                if isinstance(answer, ServingError):
                    raise answer
                return answer
        return await self._loop.run_in_executor(self._pool, _answer_in_thread, call, body)


def _request(call: Call, body: bytes) -> Message:
    try:
        return call.request.FromString(body)
    except DecodeError:
        raise ServingError(Code.INTERNAL, "Exception deserializing request!") from None


def _answer_in_thread(call: Call, body: bytes) -> bytes:
    answer: bytes = call.answer(_request(call, body)).SerializeToString()
    return answer


async def _abort(context: grpc.aio.ServicerContext, error: ServingError) -> NoReturn:
    """End a call with an error, its message cut as TensorFlow Serving cuts it."""
    message = error.message
    if len(message) > _MESSAGE_LIMIT:
        message = message[:_MESSAGE_LIMIT] + "...TRUNCATED"
    await context.abort(_GRPC_CODES[int(error.code)], message.encode("utf-8", "replace").decode())
    raise AssertionError("abort always raises")
