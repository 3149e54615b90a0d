"""JSON text laid out as RapidJSON's pretty writer lays it out, from tensors and for error messages."""

import contextlib
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from serving.model_server.json_numbers import shortest_double
from serving.model_server.json_slow_reader import JsonObject

_MAX_DEBUG_BYTES = 256
_SPECIAL = re.compile(rb'[\x00-\x1f"\\]')
_SPECIAL_BYTES = bytes(range(32)) + b'"\\'
_SHORT_ESCAPES = {8: b"\\b", 9: b"\\t", 10: b"\\n", 12: b"\\f", 13: b"\\r", 34: b'\\"', 92: b"\\\\"}


def quote(value: bytes) -> bytes:
    """A JSON string of `value`, whose bytes pass unchanged except where JSON needs an escape."""
    if _SPECIAL.search(value):
        value = _SPECIAL.sub(_escape, value)
    return b'"' + value + b'"'


def quote_all(values: Sequence[bytes]) -> list[bytes]:
    """What `quote` makes of each."""
    together = b"".join(values)
    if len(together.translate(None, _SPECIAL_BYTES)) != len(together):
        return [quote(value) for value in values]
    return [b'"%b"' % value for value in values]


def _escape(matched: "re.Match[bytes]") -> bytes:
    byte = matched.group()[0]
    return _SHORT_ESCAPES.get(byte) or b"\\u%04X" % byte


def encode_text(text: str) -> bytes:
    """The bytes that a ``str`` of the JSON reader stands for."""
    return text.encode("utf-8", "surrogateescape")


def indent(depth: int) -> bytes:
    """The white space before something that is `depth` containers deep."""
    return b"    " * depth


def single_line(items: Sequence[bytes]) -> bytes:
    """An array on one line: ``[1, 2]``."""
    return b"[" + b", ".join(items) + b"]"


def multi_line(items: Sequence[bytes], depth: int) -> bytes:
    """An array with an item a line, itself `depth` containers deep."""
    if not items:
        return b"[]"
    inner = b"\n" + indent(depth + 1)
    return b"[" + inner + (b"," + inner).join(items) + b"\n" + indent(depth) + b"]"


def members(pairs: Sequence[tuple[bytes, bytes]], depth: int) -> bytes:
    """An object of (name, JSON value) pairs, a member a line, itself `depth` containers deep."""
    if not pairs:
        return b"{}"
    inner = b"\n" + indent(depth + 1)
    lines = [quote(name) + b": " + value for name, value in pairs]
    return b"{" + inner + (b"," + inner).join(lines) + b"\n" + indent(depth) + b"}"


def error_body(message: str) -> bytes:
    """The body of an error answer."""
    return members([(b"error", quote(encode_text(message)))], 0)


class _StopError(Exception):
    """The debug text is long enough, or holds a number that JSON cannot write."""


def debug_text(value: Any) -> str:
    """The text of a JSON value in an error message, cut after some 256 bytes."""
    parts: list[bytes] = []
    size = 0

    def put(text: bytes, prefix: bytes) -> None:
        nonlocal size
        if size >= _MAX_DEBUG_BYTES:
            raise _StopError
        parts.append(prefix + text)
        size += len(prefix) + len(text)

    with contextlib.suppress(_StopError):
        _write(value, 0, b"", put)
    return b"".join(parts).decode("utf-8", "surrogateescape")


def _write(value: Any, depth: int, prefix: bytes, put: Callable[[bytes, bytes], None]) -> None:
    if type(value) is JsonObject:
        put(b"{", prefix)
        inner = b"\n" + indent(depth + 1)
        for index, (key, item) in enumerate(value):
            put(quote(encode_text(key)), (b"," if index else b"") + inner)
            _write(item, depth + 1, b": ", put)
        put(b"}", b"\n" + indent(depth) if value else b"")
    elif type(value) is list:
        put(b"[", prefix)
        for index, item in enumerate(value):
            _write(item, depth + 1, b", " if index else b"", put)
        put(b"]", b"")
    elif isinstance(value, str):
        put(quote(encode_text(value)), prefix)
    elif value is None or isinstance(value, bool):
        put({None: b"null", True: b"true", False: b"false"}[value], prefix)
    elif isinstance(value, int):
        put(b"%d" % value, prefix)
    elif math.isfinite(value):
        put(shortest_double(value).encode(), prefix)
    else:
        # RapidJSON has written the separator by the time it finds that it cannot write the number.
        put(b"", prefix)
        raise _StopError
