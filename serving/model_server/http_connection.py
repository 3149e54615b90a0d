"""One HTTP/1.1 client: its requests one after the other, their answers, and its time limits."""

import asyncio
import email.utils
import functools
import http
import logging
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from serving.model_server.http_parser import HttpError, Request, RequestParser, decoded_body
from serving.model_server.rest import Answer, error_answer
from serving.model_server.status import Code, ServingError

if TYPE_CHECKING:
    from serving.model_server.http_server import HttpServer

logger = logging.getLogger(__name__)

_UNREAD_LIMIT = 256 << 10
# Larger bodies take too long to read for the event loop.
_INLINE_BYTES = 16 << 10
# A client may take longer than `read_seconds` for a request as long as it sends this many bytes a second.
_SLOWEST_BYTES_PER_SECOND = 16 << 10
_REASONS = {status.value: status.phrase for status in http.HTTPStatus} | {499: "Client Closed Request"}


@functools.lru_cache(1)
def _date(second: int) -> str:
    return email.utils.formatdate(second, usegmt=True)


@dataclass(frozen=True)
class HttpLimits:
    """What one client may take."""

    max_body_bytes: int = 100 << 20
    max_waiting: int = 1024
    answer_seconds: float = 30.0
    read_seconds: float = 30.0
    idle_seconds: float = 60.0
    write_seconds: float = 30.0
    linger_seconds: float = 10.0


def html_error(status: int) -> Answer:
    """The page for what is no request to the API."""
    reason = _REASONS.get(status, "Error")
    page = f"<HTML><HEAD>\n<TITLE>{status} {reason}</TITLE>\n</HEAD><BODY>\n<H1>{reason}</H1>\n</BODY></HTML>\n"
    return Answer(status, page.encode(), "text/html")


class Connection(asyncio.Protocol):
    """One client: reads a request, waits for its answer, writes it, and goes on to the next."""

    def __init__(self, server: "HttpServer") -> None:
        self.server = server
        self._parser = RequestParser(server.limits.max_body_bytes)
        self._transport: asyncio.Transport | None = None
        self._busy: Exchange | None = None
        self._closing = False
        self._received = 0
        self._since = time.monotonic()
        self._unread = 0
        self._write_since: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The client is there."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self.server.connections.discard(self)
        self._transport = None

    def data_received(self, data: bytes) -> None:
        """The client has sent something."""
        if self._closing:
            return
        if not self._parser.started and self._busy is None:
            self._since, self._received = time.monotonic(), 0
        self._received += len(data)
        self._parser.feed(data)
        if self._busy is None:
            self._advance()
        else:
            self._unread += len(data)
            if self._unread > _UNREAD_LIMIT and self._transport is not None:
                self._transport.pause_reading()

    def _advance(self) -> None:
        try:
            request = self._parser.next_request()
        except HttpError as error:
            self._refuse(html_error(error.status))
            return
        if request is not None:
            self._begin(request)
        elif self._parser.wants_continue and self._transport is not None:
            self._parser.wants_continue = False
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _begin(self, request: Request) -> None:
        server = self.server
        if server.waiting >= server.limits.max_waiting:
            busy = ServingError(Code.UNAVAILABLE, "Too many requests are waiting for this server")
            self._write(error_answer(busy), request, keep_alive=request.keep_alive)
            if self._parser.started and not self._closing:
                server.loop.call_soon(self._advance)
            return
        server.waiting += 1
        self._busy = exchange = Exchange(self, request)
        if server.deadlines is not None:
            server.deadlines.begin(exchange)
        small = len(request.body) <= _INLINE_BYTES and "content-encoding" not in request.headers
        if not (small and server.handler.begin(request, exchange.answered)):
            server.pool.submit(exchange.run)

    def answered(self, exchange: "Exchange", answer: Answer) -> None:
        """Write the answer, unless the client has got another one by now, and go on to the next request."""
        if self._busy is not exchange:
            return
        self._busy = None
        keep_alive = exchange.request.keep_alive and answer.status != 413
        self._write(answer, exchange.request, keep_alive=keep_alive)
        self._unread = 0
        if self._transport is not None and not self._closing:
            self._transport.resume_reading()
            self._since, self._received = time.monotonic(), 0
            if self._parser.started:
                self._advance()

    def _refuse(self, answer: Answer) -> None:
        """Answer what is no request, and read on without looking: a client that still sends would miss the answer."""
        self._write(answer, None, keep_alive=False, linger=True)

    def _write(self, answer: Answer, request: Request | None, *, keep_alive: bool, linger: bool = False) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        keep_alive = keep_alive and not self.server.draining
        head = [f"HTTP/1.1 {answer.status} {_REASONS.get(answer.status, 'Error')}"]
        head.append(f"Content-Type: {answer.content_type or 'text/html; charset=ISO-8859-1'}")
        head += [f"{name}: {value}" for name, value in answer.headers]
        head.append(f"Date: {_date(int(time.time()))}")
        head.append(f"Content-Length: {len(answer.body)}")
        if not keep_alive:
            head.append("Connection: close")
        elif request is not None and request.headers.get("connection", "").lower() == "keep-alive":
            head.append("Connection: keep-alive")
        body = b"" if request is not None and request.method == "HEAD" else answer.body
        transport.write("\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body)
        if keep_alive:
            return
        self._closing, self._since = True, time.monotonic()
        if linger and not self.server.draining:
            transport.write_eof()
        else:
            transport.close()

    def pause_writing(self) -> None:
        """The client does not read as fast as it is written to."""
        self._write_since = time.monotonic()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._write_since = None

    def check_time(self, now: float) -> None:
        """Close the connection of a client that is idle for long, or sends or reads too slowly."""
        limits = self.server.limits
        if self._write_since is not None and now - self._write_since > limits.write_seconds:
            self.abort()
        elif self._closing:
            if now - self._since > limits.linger_seconds:
                self.abort()
        elif self._busy is not None:
            return
        elif self._parser.started:
            allowed = limits.read_seconds + self._received / _SLOWEST_BYTES_PER_SECOND
            if now - self._since > allowed:
                self._refuse(html_error(408))
        elif now - self._since > limits.idle_seconds and self._transport is not None:
            self._closing, self._since = True, now
            self._transport.close()

    def close_if_idle(self, since: float) -> None:
        """Close the connection when it has had no request since then."""
        if self._busy is None and not self._parser.started and self._since <= since and self._transport is not None:
            self._closing = True
            self._transport.close()

    def abort(self) -> None:
        """Let the client go at once."""
        if self._transport is not None:
            self._transport.abort()


class Exchange:
    """One request on its way to its answer, or to the deadline that answers in its place."""

    def __init__(self, connection: Connection, request: Request) -> None:
        self.connection = connection
        self.request = request
        self.late = False

    def answered(self, answer: Answer) -> None:
        """From any thread: here is the answer."""
        self.connection.server.answered(self, answer)

    def run(self) -> None:
        """In a thread of the pool: answer, unless the time for it has passed while the request waited."""
        answer = error_answer(ServingError(Code.DEADLINE_EXCEEDED, "Timed out waiting for notification"))
        try:
            if not self.late:
                server = self.connection.server
                body = decoded_body(self.request.headers, self.request.body, server.limits.max_body_bytes)
                answer = server.handler.answer(self.request._replace(body=body))
        except HttpError as error:
            answer = html_error(error.status)
        except BaseException:
            logger.exception("A request handler failed")
            answer = error_answer(ServingError(Code.INTERNAL, "Internal error"))
        self.answered(answer)

    def done(self, answer: Answer) -> None:
        """In the event loop: the work has ended."""
        server = self.connection.server
        server.waiting -= 1
        if server.deadlines is not None:
            server.deadlines.end(self)
        self.connection.answered(self, answer)

    def time_out(self) -> None:
        """In the loop: the client gets its answer now; what still runs goes on and is thrown away."""
        self.late = True
        error = ServingError(Code.DEADLINE_EXCEEDED, "Timed out waiting for notification")
        self.connection.answered(self, error_answer(error))
