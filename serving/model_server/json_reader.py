"""JSON text read exactly as TensorFlow Serving reads it: RapidJSON 1.1.0, iterative, NaN and Inf, stop when done.

The standard library's scanner does the work for ordinary text. Whatever it refuses, or would read differently, goes
to `json_slow_reader`, which follows RapidJSON token by token and words the errors.

Values are `dict`-less: an object is a `JsonObject`, its pairs in order with equal keys kept. Strings are ``str`` in
which bytes that are not UTF-8 are surrogate escapes, so that they pass through unchanged.
"""

import json
import re
from typing import Any

from serving.model_server.json_numbers import NumberTooBigError, parse_number
from serving.model_server.json_slow_reader import JsonObject, read_slowly
from serving.model_server.status import invalid

# A number of more than 15 digits, or with an exponent, may round differently in RapidJSON.
_CAREFUL_NUMBER = re.compile(rb"[0-9][0-9.]{15}|[0-9][eE][-+0-9]")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_SURROGATE_PAIR = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_BLANKS = re.compile(r"[ \t\n\r]*")
# Above this size the slow reader would take seconds, so the quick reader's error has to do.
_SLOW_LIMIT = 8 << 20

_plain = json.JSONDecoder(object_pairs_hook=JsonObject)
_careful = json.JSONDecoder(object_pairs_hook=JsonObject, parse_float=parse_number, parse_int=parse_number)


def parse_json(body: bytes) -> Any:
    """Return the first JSON document of `body`; raise INVALID_ARGUMENT in TensorFlow Serving's words."""
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    if body[0] in (0xEF, 0xBB, 0xBF) or _has_lone_surrogate(body):
        return read_slowly(body)
    decoder = _careful if _CAREFUL_NUMBER.search(body) else _plain
    text = body.decode("utf-8", "surrogateescape")
    try:
        start = _BLANKS.match(text).end()  # type: ignore[union-attr]  # the pattern matches anywhere
        return decoder.raw_decode(text, start)[0]
    except (ValueError, RecursionError, NumberTooBigError) as error:
        if len(body) > _SLOW_LIMIT and isinstance(error, json.JSONDecodeError):
            raise invalid(f"JSON Parse error: {error.msg} at offset: {error.pos}") from None
        return read_slowly(body)


def _has_lone_surrogate(body: bytes) -> bool:
    count = len(_SURROGATE.findall(body)) if b"\\u" in body else 0
    return count > 0 and 2 * len(_SURROGATE_PAIR.findall(body)) != count
