"""HTTP/1.1 requests out of a stream of bytes, without any I/O."""

import re
import zlib
from typing import NamedTuple

MAX_HEAD_BYTES = 64 << 10
METHODS = frozenset({"GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"})

_HEAD_END = re.compile(rb"\r?\n\r?\n")
_REQUEST_LINE = re.compile(r"([!-~]+) +([!-~\x80-\xff]+) +HTTP/1\.([0-9])\s*")
_HEADER = re.compile(r"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*(.*?)[ \t]*")
_CHAR = r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/]|%[0-9A-Fa-f]{2})"
_TARGET = re.compile(
    rf"(?:[A-Za-z][A-Za-z0-9+.\-]*:)?(?://[^/?#]*)?({_CHAR}*(?:\?(?:{_CHAR}|\?)*)?(?:#(?:{_CHAR}|\?)*)?)"
)
_CHUNK_HEAD = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\n]*)?\r?\n")


class HttpError(Exception):
    """A request that is not HTTP, or too large: answered with an HTML page, and the connection is closed."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Request(NamedTuple):
    """One whole request; `path` includes the query string; header names are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    keep_alive: bool


class _Head(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    keep_alive: bool
    length: int | None


class RequestParser:
    """Collects bytes until a request is whole.

    After `feed`, call `next_request` until it returns None. `wants_continue` turns true once when the client waits
    for leave to send the body.
    """

    def __init__(self, max_body_bytes: int) -> None:
        self._max_body = max_body_bytes
        self._buffer = bytearray()
        self._searched = 0
        self._head: _Head | None = None
        self._chunks: list[bytes] = []
        self._chunked_size = 0
        self.wants_continue = False

    @property
    def started(self) -> bool:
        """Whether a part of a request is waiting for the rest."""
        return self._head is not None or bool(self._buffer)

    def feed(self, data: bytes) -> None:
        """Take more bytes from the client."""
        self._buffer += data

    def next_request(self) -> Request | None:
        """The next whole request, or None; raises HttpError where there cannot be one."""
        if self._head is None:
            self._head = self._read_head()
            if self._head is None:
                return None
        body = self._read_body(self._head)
        if body is None:
            return None
        head, self._head = self._head, None
        self.wants_continue = False
        return Request(head.method, head.path, head.headers, body, head.keep_alive)

    def _read_head(self) -> _Head | None:
        while self._buffer[:1] in (b"\r", b"\n"):
            del self._buffer[:1]
        matched = _HEAD_END.search(self._buffer, self._searched)
        if matched is None or matched.start() > MAX_HEAD_BYTES:
            if len(self._buffer) > MAX_HEAD_BYTES:
                raise HttpError(400)
            self._searched = max(0, len(self._buffer) - 3)
            return None
        lines = bytes(self._buffer[: matched.start()]).decode("latin-1").split("\n")
        del self._buffer[: matched.end()]
        self._searched = 0
        return self._parse_head([line.rstrip("\r") for line in lines])

    def _parse_head(self, lines: list[str]) -> _Head:
        request_line = _REQUEST_LINE.fullmatch(lines[0])
        if request_line is None:
            raise HttpError(400)
        method, target, minor = request_line.groups()
        headers: dict[str, str] = {}
        for line in lines[1:]:
            header = _HEADER.fullmatch(line)
            if header is None:
                raise HttpError(400)
            name, value = header.group(1).lower(), header.group(2)
            if name in ("content-length", "transfer-encoding") and headers.get(name, value) != value:
                raise HttpError(400)
            headers.setdefault(name, value)
        if method not in METHODS:
            raise HttpError(501)
        path = _TARGET.fullmatch(target)
        if path is None:
            raise HttpError(400)
        length = self._body_length(headers)
        connection = headers.get("connection", "").lower()
        keep_alive = "close" not in connection if minor != "0" else "keep-alive" in connection
        self.wants_continue = length != 0 and headers.get("expect", "").lower() == "100-continue"
        self._chunks, self._chunked_size = [], 0
        return _Head(method, path.group(1), headers, keep_alive, length)

    def _body_length(self, headers: dict[str, str]) -> int | None:
        """Bytes of the body, None where it comes in chunks."""
        encoding, length = headers.get("transfer-encoding"), headers.get("content-length")
        if encoding is not None:
            if encoding.lower() != "chunked" or length is not None:
                raise HttpError(400)
            return None
        if length is None:
            return 0
        if not length.isascii() or not length.isdigit():
            raise HttpError(400)
        if len(length) > 18 or int(length) > self._max_body:
            raise HttpError(413)
        return int(length)

    def _read_body(self, head: _Head) -> bytes | None:
        if head.length is None:
            return self._read_chunks()
        if len(self._buffer) < head.length:
            return None
        if len(self._buffer) == head.length:
            body, self._buffer = bytes(self._buffer), bytearray()
            return body
        body = bytes(memoryview(self._buffer)[: head.length])
        del self._buffer[: head.length]
        return body

    def _read_chunks(self) -> bytes | None:
        while True:
            matched = _CHUNK_HEAD.match(self._buffer)
            if matched is None:
                if b"\n" in self._buffer[:1024] or len(self._buffer) > 1024:
                    raise HttpError(400)
                return None
            size = int(matched.group(1), 16)
            self._check_chunked_size(size)
            if size == 0:
                return self._end_of_chunks(matched.end())
            end = matched.end() + size
            if len(self._buffer) < end + 2:
                return None
            if self._buffer[end : end + 2] != b"\r\n":
                raise HttpError(400)
            self._chunks.append(bytes(memoryview(self._buffer)[matched.end() : end]))
            self._chunked_size += size
            del self._buffer[: end + 2]

    def _check_chunked_size(self, size: int) -> None:
        if self._chunked_size + size > self._max_body:
            raise HttpError(413)

    def _end_of_chunks(self, start: int) -> bytes | None:
        """The body, once the trailer after the last chunk is there too."""
        position = start
        while True:
            end = self._buffer.find(b"\n", position)
            if end < 0:
                if len(self._buffer) - start > MAX_HEAD_BYTES:
                    raise HttpError(400)
                return None
            blank = self._buffer[position:end] in (b"", b"\r")
            position = end + 1
            if blank:
                del self._buffer[:position]
                return b"".join(self._chunks)


def decoded_body(headers: dict[str, str], body: bytes, max_bytes: int) -> bytes:
    """The body without gzip; a body that is no whole gzip stream counts as empty, as in TensorFlow Serving."""
    if not body or "gzip" not in headers.get("content-encoding", ""):
        return body
    stream = zlib.decompressobj(wbits=31)
    try:
        text = stream.decompress(body, max_bytes + 1)
    except zlib.error:
        return b""
    if len(text) > max_bytes:
        raise HttpError(413)
    return text if stream.eof and not stream.unused_data else b""
