"""The JSON grammar of RapidJSON 1.1.0, token by token, with its error texts and offsets.

Used for text that Python's own scanner refuses or reads differently: ``Inf``, ``-NaN``, a byte order mark, lone
surrogates, and everything that is an error.
"""

import re
from typing import Any

from serving.model_server.json_numbers import NumberTooBigError, parse_number
from serving.model_server.status import ServingError, invalid

MAX_DEPTH = 1000

_BLANKS = re.compile(rb"[ \t\n\r]*")
_PLAIN_STRING = re.compile(rb'[^"\\\x00-\x1f]*')
_DIGITS = re.compile(rb"[0-9]+")
_ESCAPES = {
    0x22: b'"', 0x2F: b"/", 0x5C: b"\\", 0x62: b"\b", 0x66: b"\f", 0x6E: b"\n", 0x72: b"\r", 0x74: b"\t",
}  # fmt: skip
_LITERALS = {b"n": (b"null", None), b"t": (b"true", True), b"f": (b"false", False)}


class JsonObject(list):
    """The (key, value) pairs of a JSON object, in order, equal keys kept."""

    __slots__ = ()

    def find(self, key: str) -> Any:
        """The value of the first member called `key`, or `MISSING`."""
        for name, value in self:
            if name == key:
                return value
        return MISSING


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


MISSING = _Missing()


def read_slowly(body: bytes) -> Any:
    """Return the first document of `body`, or raise the error that RapidJSON would report."""
    return _Reader(body).read()


def _error(what: str, offset: int) -> ServingError:
    return invalid(f"JSON Parse error: {what} at offset: {offset}")


class _Reader:
    def __init__(self, body: bytes) -> None:
        # RapidJSON sees a NUL at the end, and takes any other NUL between tokens for the end too.
        self.body = body + b"\0"
        self.position = 0
        for mark in b"\xef\xbb\xbf":
            if self.body[self.position] == mark:
                self.position += 1

    def peek(self) -> bytes:
        return self.body[self.position : self.position + 1]

    def skip_blanks(self) -> None:
        self.position = _BLANKS.match(self.body, self.position).end()  # type: ignore[union-attr]

    def read(self) -> Any:
        self.skip_blanks()
        if self.peek() == b"\0" or self.peek() in (b"]", b"}", b",", b":"):
            raise _error("The document is empty.", self.position)
        if self.peek() not in (b"[", b"{"):
            return self.scalar()
        root = self.open()
        stack: list[tuple[Any, Any]] = [(root, None)]
        while stack:
            container, key = stack[-1]
            self.skip_blanks()
            opened = self.next_member(container) if type(container) is JsonObject else self.next_element(container)
            if opened is None:
                stack.pop()
                if stack:
                    parent, parent_key = stack[-1]
                    if type(parent) is JsonObject:
                        parent.append((parent_key, container))
                    else:
                        parent.append(container)
            elif opened is not MISSING:
                child, key = opened
                stack[-1] = (container, key)
                if len(stack) >= MAX_DEPTH:
                    raise _error(f"Nesting deeper than {MAX_DEPTH} levels.", self.position)
                stack.append((child, None))
        return root

    def open(self) -> Any:
        container: Any = JsonObject() if self.peek() == b"{" else []
        self.position += 1
        return container

    def next_element(self, array: list[Any]) -> Any:
        """Read up to one element: None at the end, (child, None) for a container, MISSING for a stored scalar."""
        if self.peek() == b"]" and not array:
            self.position += 1
            return None
        if array:
            if self.peek() == b"]":
                self.position += 1
                return None
            if self.peek() != b",":
                raise _error("Missing a comma or ']' after an array element.", self.position)
            self.position += 1
            self.skip_blanks()
        return self.value(lambda item: array.append(item))

    def next_member(self, pairs: JsonObject) -> Any:
        """Read up to one member, as `next_element` does."""
        if self.peek() == b"}":
            self.position += 1
            return None
        if pairs:
            if self.peek() != b",":
                raise _error("Missing a comma or '}' after an object member.", self.position)
            self.position += 1
            self.skip_blanks()
        if self.peek() != b'"':
            raise _error("Missing a name for object member.", self.position)
        key = self.string()
        self.skip_blanks()
        if self.peek() != b":":
            raise _error("Missing a colon after a name of object member.", self.position)
        self.position += 1
        self.skip_blanks()
        opened = self.value(lambda item: pairs.append((key, item)))
        return opened if opened is MISSING else (opened[0], key)

    def value(self, store: Any) -> Any:
        if self.peek() in (b"[", b"{"):
            return self.open(), None
        if self.peek() in (b"]", b"}", b",", b":", b"\0"):
            raise _error("Invalid value.", self.position)
        store(self.scalar())
        return MISSING

    def scalar(self) -> Any:
        first = self.peek()
        if first == b'"':
            return self.string()
        if first in _LITERALS:
            word, value = _LITERALS[first]
            for expected in word:
                if self.body[self.position] != expected:
                    raise _error("Invalid value.", self.position)
                self.position += 1
            return value
        return self.number()

    def string(self) -> str:
        self.position += 1
        parts: list[bytes] = []
        while True:
            plain = _PLAIN_STRING.match(self.body, self.position)
            parts.append(plain.group())  # type: ignore[union-attr]
            self.position = plain.end()  # type: ignore[union-attr]
            byte = self.body[self.position]
            if byte == 0x22:
                self.position += 1
                return b"".join(parts).decode("utf-8", "surrogateescape")
            if byte == 0x5C:
                parts.append(self.escape())
            elif byte == 0:
                raise _error("Missing a closing quotation mark in string.", self.position)
            else:
                raise _error("Invalid escape character in string.", self.position)

    def escape(self) -> bytes:
        start = self.position
        letter = self.body[start + 1]
        if letter in _ESCAPES:
            self.position += 2
            return _ESCAPES[letter]
        if letter != 0x75:
            raise _error("Invalid escape character in string.", start)
        self.position += 2
        point = self.hex4(start)
        if 0xD800 <= point <= 0xDBFF:
            if self.body[self.position : self.position + 2] != b"\\u":
                raise _error("The surrogate pair in string is invalid.", start)
            self.position += 2
            low = self.hex4(start)
            if not 0xDC00 <= low <= 0xDFFF:
                raise _error("The surrogate pair in string is invalid.", start)
            point = ((point - 0xD800) << 10 | (low - 0xDC00)) + 0x10000
        return chr(point).encode("utf-8", "surrogatepass")

    def hex4(self, start: int) -> int:
        digits = self.body[self.position : self.position + 4]
        if not re.fullmatch(rb"[0-9a-fA-F]{4}", digits):
            raise _error("Incorrect hex digit after \\u escape in string.", start)
        self.position += 4
        return int(digits, 16)

    def consume(self, expected: bytes) -> bool:
        if self.body.startswith(expected, self.position):
            self.position += len(expected)
            return True
        return False

    def digits(self) -> bool:
        matched = _DIGITS.match(self.body, self.position)
        if matched:
            self.position = matched.end()
        return matched is not None

    def number(self) -> int | float:
        start = self.position
        minus = self.consume(b"-")
        if self.peek() in (b"I", b"N"):
            return self.not_finite(minus)
        if not self.consume(b"0") and not self.digits():
            raise _error("Invalid value.", self.position)
        if self.consume(b".") and not self.digits():
            raise _error("Miss fraction part in number.", self.position)
        if self.consume(b"e") or self.consume(b"E"):
            if not self.consume(b"+"):
                self.consume(b"-")
            if not self.digits():
                raise _error("Miss exponent in number.", self.position)
        try:
            return parse_number(self.body[start : self.position].decode("ascii"))
        except NumberTooBigError:
            raise _error("Number too big to be stored in double.", start) from None

    def not_finite(self, minus: bool) -> float:
        # What one word leaves unread the next one goes on from, so that the error has RapidJSON's offset.
        if self.letters(b"NaN"):
            return float("nan")
        if not self.letters(b"Inf") or (self.peek() == b"i" and not self.letters(b"inity")):
            raise _error("Invalid value.", self.position)
        return -float("inf") if minus else float("inf")

    def letters(self, word: bytes) -> bool:
        """Read `word` letter by letter, up to the first that differs."""
        for letter in word:
            if self.body[self.position] != letter:
                return False
            self.position += 1
        return True
