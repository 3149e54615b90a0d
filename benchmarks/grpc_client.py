"""Unary gRPC calls on one HTTP/2 connection, as few operations as a load generator can do with.

gRPC's own client takes longer for a call than this server's code for the answer, and takes it from the same cores.
What is here is enough for calls of one method to a server that keeps to the protocol (RFC 9113, and gRPC's "PROTOCOL
-HTTP2"): the headers are always the same, and of an answer's headers only the end of the stream is looked at.
"""

import asyncio
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEADER_TABLE_SIZE, _INITIAL_WINDOW_SIZE = 1, 4
_WINDOW, _FIRST_WINDOW = 2**31 - 1, 65_535
_FRAME_BYTES = 16_384

# Takes the message of an answer, None where there is none, and the last header block as it came.
Done = Callable[[bytes | None, bytes], None]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame of HTTP/2."""
    return struct.pack(">IBI", len(payload) << 8 | kind, flags, stream) + payload


def header_block(host: str, path: str, timeout_seconds: int) -> bytes:
    """The headers of a call, in HPACK without compression."""
    return (
        b"\x83\x86"  # :method POST, :scheme http
        + (b"\x04" + _literal(path.encode()))
        + (b"\x01" + _literal(host.encode()))
        + (b"\x0f\x10" + _literal(b"application/grpc"))  # content-type
        + (b"\x00" + _literal(b"te") + _literal(b"trailers"))
        + (b"\x00" + _literal(b"grpc-timeout") + _literal(b"%dS" % timeout_seconds))
    )


def _literal(text: bytes) -> bytes:
    if len(text) > 126:
        raise ValueError(f"too long for a header of one byte's length: {text!r}")
    return bytes([len(text)]) + text


@dataclass
class _Stream:
    done: Done
    body: bytes = b""


class GrpcConnection(asyncio.Protocol):
    """A connection on which any number of calls of the method `path` may wait at a time.

    `going_away` says that the server takes no more calls. `lost` is resolved when the connection is gone; calls that
    still wait are answered with None before.
    """

    def __init__(self, host: str, path: str, timeout_seconds: int) -> None:
        self._headers = header_block(host, path, timeout_seconds)
        self._received = b""
        self._streams: dict[int, _Stream] = {}
        self._next = 1
        self._window, self._consumed = _FIRST_WINDOW, 0
        self._waiting: deque[tuple[int, bytes]] = deque()
        self.going_away = False
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        # Without a table of headers every block of the server's says what it means by itself.
        settings = struct.pack(">HIHI", _HEADER_TABLE_SIZE, 0, _INITIAL_WINDOW_SIZE, _WINDOW)
        more = struct.pack(">I", _WINDOW - _FIRST_WINDOW)
        transport.write(PREFACE + frame(SETTINGS, 0, 0, settings) + frame(WINDOW_UPDATE, 0, 0, more))

    def call(self, message: bytes, done: Done) -> None:
        """Send a message, and have `done` called when it is answered."""
        body = b"\0" + struct.pack(">I", len(message)) + message
        if len(body) > _FRAME_BYTES:
            raise ValueError(f"a message of {len(message)} bytes is more than one frame takes")
        number, self._next = self._next, self._next + 2
        self._streams[number] = _Stream(done)
        self._waiting.append((number, body))
        self._send()

    def _send(self) -> None:
        while self._waiting and self._window >= len(self._waiting[0][1]):
            number, body = self._waiting.popleft()
            self._window -= len(body)
            headers = frame(HEADERS, END_HEADERS, number, self._headers)
            self._transport.write(headers + frame(DATA, END_STREAM, number, body))

    def data_received(self, data: bytes) -> None:
        received, place = self._received + data, 0
        while len(received) >= place + 9:
            start, flags, stream = struct.unpack_from(">IBI", received, place)
            end = place + 9 + (start >> 8)
            if len(received) < end:
                break
            self._take(start & 0xFF, flags, stream, received[place + 9 : end])
            place = end
        self._received = received[place:]

    def _take(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if kind == DATA:
            self._consume(len(payload))
            if number in self._streams:
                self._streams[number].body += payload
        if kind in (DATA, HEADERS) and flags & END_STREAM:
            self._answered(number, payload if kind == HEADERS else b"")
        elif kind == RST_STREAM:
            self._answered(number, b"the stream was reset")
        elif kind == SETTINGS and not flags & ACK:
            self._transport.write(frame(SETTINGS, ACK, 0))
        elif kind == PING and not flags & ACK:
            self._transport.write(frame(PING, ACK, 0, payload))
        elif kind == WINDOW_UPDATE and number == 0:
            self._window += int.from_bytes(payload, "big")
            self._send()
        elif kind == GOAWAY:
            self.going_away = True

    def _consume(self, size: int) -> None:
        """Let the server send as much again; a stream's own window is larger than any answer."""
        self._consumed += size
        if self._consumed > _WINDOW // 2:
            self._transport.write(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", self._consumed)))
            self._consumed = 0

    def _answered(self, number: int, headers: bytes) -> None:
        stream = self._streams.pop(number, None)
        if stream is not None:
            stream.done(stream.body[5:] if len(stream.body) >= 5 else None, headers)

    def connection_lost(self, exc: Exception | None) -> None:
        self.going_away = True
        for number in list(self._streams):
            self._answered(number, f"no answer: {exc or 'the connection was closed'}".encode())
        self.lost.set_result(None)

    def close(self) -> None:
        """End the connection."""
        self._transport.close()
