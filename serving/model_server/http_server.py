"""An HTTP/1.1 server on asyncio: connections in the event loop, answers from a pool of threads."""

import asyncio
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from serving.model_server.deadlines import Deadlines
from serving.model_server.http_connection import Connection, Exchange, HttpLimits
from serving.model_server.http_parser import Request
from serving.model_server.listener import open_listener, refuse_newcomers, take_waiting
from serving.model_server.loop_calls import LoopCalls
from serving.model_server.rest import Answer

_SWEEP_SECONDS = 0.5
_TICK_SECONDS = 0.02


class Handler(Protocol):
    """What answers requests."""

    def answer(self, request: Request) -> Answer:
        """In a thread of the pool: answer a request."""

    def begin(self, request: Request, done: Callable[[Answer], None]) -> bool:
        """In the event loop: take a request whose answer comes later; False leaves it to `answer`."""


class HttpServer:
    """Serves what `handler` answers."""

    def __init__(self, handler: Handler, *, threads: int, limits: HttpLimits) -> None:
        self.handler = handler
        self.limits = limits
        self.connections: set[Connection] = set()
        self.waiting = 0
        self.draining = False
        self.deadlines: Deadlines | None = None
        self.pool = ThreadPoolExecutor(threads, thread_name_prefix="rest")
        self._listener: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.Task[None] | None = None

    async def start(self, host: str, port: int) -> None:
        """Listen; raises OSError where the port cannot be had."""
        self.loop = asyncio.get_running_loop()
        if self.limits.answer_seconds > 0:
            self.deadlines = Deadlines(self.loop, self.limits.answer_seconds)
        self._calls = LoopCalls(self.loop)
        self._listener = open_listener(host, port)
        self._server = await self.loop.create_server(lambda: Connection(self), sock=self._listener)
        self._sweeper = self.loop.create_task(self._sweep())

    def answered(self, exchange: "Exchange", answer: Answer) -> None:
        """From any thread: pass an answer to the event loop."""
        self._calls.call(exchange.done, answer)

    async def drain(self, seconds: float, linger_seconds: float) -> None:
        """Finish: answers say that the connection closes, then no new ones, then wait for the running requests."""
        self.draining = True
        deadline = time.monotonic() + seconds
        # What is already on its way, on kept connections or in the accept queue, is still answered.
        await asyncio.sleep(min(linger_seconds, seconds))
        await self._close_listener()
        quiet = 0
        while quiet < 2 and time.monotonic() < deadline:
            for connection in list(self.connections):
                connection.close_if_idle(time.monotonic() - linger_seconds)
            # Once more after the last one is gone: a connection that is just being set up is not in the set yet.
            await asyncio.sleep(_TICK_SECONDS)
            quiet = 0 if self.connections else quiet + 1
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in list(self.connections):
            connection.abort()
        self.pool.shutdown(wait=False, cancel_futures=True)

    async def _close_listener(self) -> None:
        """Stop listening; the kernel would reset what it has accepted and we have not, so that is taken over first."""
        if self._server is None or self._listener is None:
            return
        refuse_newcomers(self._listener)
        await asyncio.sleep(_TICK_SECONDS)
        taken = take_waiting(self._listener)
        self._server.close()
        for accepted in taken:
            await self.loop.connect_accepted_socket(lambda: Connection(self), accepted)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            now = time.monotonic()
            for connection in list(self.connections):
                connection.check_time(now)
