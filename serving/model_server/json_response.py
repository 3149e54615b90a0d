"""Named tensors into the JSON answer of a predict request, byte for byte in TensorFlow Serving's layout."""

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from serving.model_server.dtypes import dtype_name, dtype_of
from serving.model_server.json_numbers import format_floats
from serving.model_server.json_values import Array
from serving.model_server.json_writer import encode_text, indent, members, multi_line, quote, quote_all, single_line
from serving.model_server.status import invalid

Join = Callable[[Sequence[bytes], int], bytes]


def predictions(outputs: Mapping[str, Array]) -> bytes:
    """The answer to rows: a list with an item for each row, an object where there are several outputs."""
    _check_rows(outputs)
    names = sorted(outputs)
    in_objects = len(names) > 1
    depth = 3 if in_objects else 2
    columns = [_rows_of(name, outputs[name], depth) for name in names]
    if in_objects:
        keys = [encode_text(name) for name in names]
        items = [members(list(zip(keys, row, strict=True)), 2) for row in zip(*columns, strict=True)]
        text = multi_line(items, 1)
    else:
        # The writer is in one-line mode for values and back in its default mode for the closing bracket.
        text = b"[" + b", ".join(columns[0]) + b"\n" + indent(1) + b"]" if columns[0] else b"[]"
    return members([(b"predictions", text)], 0)


def columnar_outputs(outputs: Mapping[str, Array]) -> bytes:
    """The answer to columnar inputs: the value, or an object of values where there are several outputs."""
    names = sorted(outputs)
    if not names:
        raise invalid("Cannot convert empty tensor map to JSON")
    depth = 2 if len(names) > 1 else 1
    texts = []
    for name in names:
        array = outputs[name]
        tokens = _tokens(name, array, depth + array.ndim)
        texts.append((encode_text(name), _nest(tokens, array.shape, depth, multi_line)))
    value = members(texts, 1) if len(names) > 1 else texts[0][1]
    return members([(b"outputs", value)], 0)


def _check_rows(outputs: Mapping[str, Array]) -> None:
    if not outputs:
        raise invalid("Cannot convert empty tensor map to JSON")
    batch = None
    for name in sorted(outputs):
        array = outputs[name]
        if array.ndim == 0:
            raise invalid(f"Tensor name: {name} has no shape information ")
        if batch is not None and array.shape[0] != batch:
            raise invalid(f"Tensor name: {name} has inconsistent batch size: {array.shape[0]} expecting: {batch}")
        batch = array.shape[0]


def _rows_of(name: str, array: Array, depth: int) -> list[bytes]:
    """The text of each row of a tensor, each `depth` containers deep."""
    tokens = _tokens(name, array, depth + array.ndim - 1)
    rows, shape = array.shape[0], array.shape[1:]
    if not shape:
        return tokens
    size = len(tokens) // rows if rows else 0
    join: Join = lambda items, _: single_line(items)  # noqa: E731
    if len(shape) == 1:
        return [single_line(tokens[row * size : (row + 1) * size]) for row in range(rows)]
    return [_nest(tokens[row * size : (row + 1) * size], shape, depth, join) for row in range(rows)]


def _nest(tokens: list[bytes], shape: tuple[int, ...], depth: int, join: Join) -> bytes:
    """Arrays of `shape` around the tokens, the outermost `depth` containers deep."""
    if not shape:
        return tokens[0]
    if len(shape) == 1:
        return join(tokens, depth)
    size = len(tokens) // shape[0] if shape[0] else 0
    parts = [_nest(tokens[index * size : (index + 1) * size], shape[1:], depth + 1, join) for index in range(shape[0])]
    return join(parts, depth)


def _tokens(name: str, array: Array, depth: int) -> list[bytes]:
    """The JSON text of every element; `depth` is how deep an element lies, for the layout of base64 objects."""
    flat: list[Any] = array.ravel().tolist()
    kind = array.dtype
    if kind == np.float32 or kind == np.float64:
        return [text.encode() for text in format_floats(flat, single=kind == np.float32)]
    if kind.kind == "O":
        values = [item if isinstance(item, bytes) else str(item).encode() for item in flat]
        if name.endswith("_bytes"):
            return [members([(b"b64", quote(base64.b64encode(value)))], depth) for value in values]
        return quote_all(values)
    if kind == np.bool_:
        return [b"true" if value else b"false" for value in flat]
    if kind.kind in "iu" and kind != np.uint16:
        return [b"%d" % value for value in flat]
    if not flat:
        return []
    known = dtype_of(array)
    raise invalid(f"Failed to write JSON value for tensor type: {known.name if known else dtype_name(0)}")
