"""A JSON value into a tensor of a given type: shapes, base64, ranges, and TensorFlow Serving's words for errors."""

import base64
import re
from itertools import chain
from typing import Any

import numpy as np

from serving.model_server.dtypes import DTYPES, dtype_name
from serving.model_server.json_numbers import INT64_MAX, INT64_MIN, UINT64_MAX
from serving.model_server.json_slow_reader import JsonObject
from serving.model_server.json_writer import debug_text, encode_text
from serving.model_server.status import Code, ServingError, invalid

Array = np.ndarray[Any, np.dtype[Any]]

# What numpy can hold; TensorFlow's own limit is 254.
MAX_RANK = 64 if int(np.__version__.split(".")[0]) >= 2 else 32
FLOAT, DOUBLE, INT32, UINT8, INT16, INT8, STRING, INT64, BOOL = 1, 2, 3, 4, 5, 6, 7, 9, 10
UINT32, UINT64 = 22, 23

_INT32_RANGE = (-(2**31), 2**31 - 1)
# int8, int16 and uint8 travel as 32-bit integers and wrap when the tensor is made.
INTEGER_RANGES = {
    INT8: _INT32_RANGE,
    INT16: _INT32_RANGE,
    UINT8: _INT32_RANGE,
    INT32: _INT32_RANGE,
    INT64: (INT64_MIN, INT64_MAX),
    UINT32: (0, 2**32 - 1),
    UINT64: (0, UINT64_MAX),
}
_BASE64 = re.compile(rb"([A-Za-z0-9+/ \t\n\v\f\r]*)([=. \t\n\v\f\r]*)")
_BLANKS = b" \t\n\v\f\r"


def is_base64(value: Any) -> bool:
    """Whether a JSON value is a lone ``{"b64": "…"}``."""
    return type(value) is JsonObject and len(value) == 1 and value[0][0] == "b64" and isinstance(value[0][1], str)


def decode_base64(text: str) -> bytes:
    """Decode the standard alphabet; padding may be missing, blanks are skipped, `.` counts as padding."""
    matched = _BASE64.fullmatch(encode_text(text))
    if matched is None:
        raise invalid("Unable to base64 decode")
    digits = matched.group(1).translate(None, _BLANKS)
    padding = len(matched.group(2).translate(None, _BLANKS))
    needed = -len(digits) % 4
    if needed == 3 or padding not in (0, needed):
        raise invalid("Unable to base64 decode")
    return base64.b64decode(digits + b"=" * needed)


def dense_shape(value: Any) -> list[int]:
    """The shape along the first elements of nested lists; a value that is no list has none."""
    shape = []
    while type(value) is list:
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return shape


def type_error(value: Any, dtype: int) -> ServingError:
    """The error for a JSON value that does not fit the type of its tensor."""
    return invalid(
        f"JSON Value: {debug_text(value)} Type: {json_type(value)} is not of expected type: {dtype_name(dtype)}"
    )


def json_type(value: Any) -> str:
    """RapidJSON's name of a value's type."""
    if value is None:
        return "Null"
    if isinstance(value, bool):
        return "True" if value else "False"
    if type(value) is JsonObject:
        return "Object"
    if isinstance(value, str):
        return "String"
    return "Array" if type(value) is list else "Number"


def scalar(value: Any, dtype: int) -> Any:
    """Check one JSON value, no list, and return what the tensor holds: a number, a bool, or bytes."""
    if type(value) is JsonObject:
        if dtype != STRING:
            raise type_error(value, dtype)
        if not is_base64(value):
            raise invalid(f"JSON Value: {debug_text(value)} not formatted correctly for base64 data")
        return decode_base64(value[0][1])
    kind = type(value)
    if dtype in (FLOAT, DOUBLE):
        fits = kind in (int, float)
    elif dtype in INTEGER_RANGES:
        low, high = INTEGER_RANGES[dtype]
        fits = kind is int and low <= value <= high
    elif dtype == STRING:
        if kind is str:
            return encode_text(value)
        fits = False
    elif dtype == BOOL:
        fits = kind is bool
    else:
        raise ServingError(
            Code.UNIMPLEMENTED, f"Conversion of JSON Value: {debug_text(value)} to type: {dtype_name(dtype)}"
        )
    if not fits:
        raise type_error(value, dtype)
    return value


def fill(value: Any, level: int, shape: list[int], dtype: int, values: list[Any]) -> None:
    """Append every element of nested lists to `values`, checking each against `shape`; stop at the first misfit."""
    rank = len(shape)
    if rank > MAX_RANK:
        raise invalid(f"A tensor cannot have {rank} dimensions; the most is {MAX_RANK}")
    if type(value) is not list:
        if level != rank:
            raise invalid(
                f"JSON Value: {debug_text(value)} found at incorrect level: {level + 1} in the JSON DOM. "
                f"Expected at level: {rank}"
            )
        values.append(scalar(value, dtype))
        return
    if level >= rank:
        raise invalid(f"Encountered list at unexpected level: {level} expected < {rank}")
    if len(value) != shape[level]:
        raise invalid(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )
    for item in value:
        fill(item, level + 1, shape, dtype, values)


def quick_fill(value: Any, shape: list[int], dtype: int) -> list[Any] | None:
    """What `fill` would collect, many elements at a time; None where something needs a closer look."""
    flat = [value]
    for size in shape:
        if not all(type(item) is list and len(item) == size for item in flat):
            return None
        flat = list(chain.from_iterable(flat))
    kinds = set(map(type, flat))
    if dtype in (FLOAT, DOUBLE):
        return flat if kinds <= {int, float} else None
    if dtype in INTEGER_RANGES:
        low, high = INTEGER_RANGES[dtype]
        return flat if not flat or (kinds == {int} and low <= min(flat) and max(flat) <= high) else None
    if dtype == STRING:
        return [text.encode("utf-8", "surrogateescape") for text in flat] if kinds <= {str} else None
    return flat if dtype == BOOL and kinds <= {bool} else None


def to_array(values: list[Any], shape: list[int], dtype: int, name: str) -> Array:
    """The tensor of checked values; surplus values are dropped, as TensorFlow does."""
    count = 1
    for size in shape:
        count *= size
    if len(shape) > MAX_RANK:
        raise invalid(f"tensor parsing error: {name}")
    values = values[:count] if len(values) > count else values
    kind = DTYPES[dtype].numpy if dtype in DTYPES else np.dtype(np.float32)
    if dtype == STRING:
        array = np.empty(count, dtype=object)
        array[:] = values
    elif dtype in (INT8, INT16, UINT8):
        array = np.array(values, dtype=np.int64).astype(kind)
    elif dtype == FLOAT:
        with np.errstate(over="ignore"):
            array = np.array(values, dtype=np.float64).astype(np.float32)
    else:
        array = np.array(values, dtype=kind)
    return array.reshape(shape)
