"""TensorProto to numpy and back, with the values in the typed fields, as TensorFlow's C++ does it."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from tensorflow.core.framework import tensor_pb2, types_pb2

from serving.model_server.dtypes import DTYPES, Dtype, dtype_name, dtype_of
from serving.model_server.json_values import MAX_RANK, Array
from serving.model_server.status import Code, ServingError, invalid

# A proto of a few bytes may claim any shape; TensorFlow would try to allocate it.
_MAX_FILLED_BYTES = 256 << 20


def from_proto(proto: tensor_pb2.TensorProto, name: str) -> Array:
    """The tensor of a proto: raw content, or typed values of which the last one fills what is missing."""
    try:
        return _parse(proto, name)
    except (ValueError, OverflowError, MemoryError):
        # A shape that numpy cannot hold, or a value that its type cannot.
        raise invalid(f"tensor parsing error: {name}") from None


def _parse(proto: tensor_pb2.TensorProto, name: str) -> Array:
    dtype = DTYPES.get(proto.dtype)
    dims = [dim.size for dim in proto.tensor_shape.dim]
    if dtype is None or proto.tensor_shape.unknown_rank or len(dims) > MAX_RANK or any(size < 0 for size in dims):
        raise invalid(f"tensor parsing error: {name}")
    count = math.prod(dims)
    if count == 0:
        return np.empty(dims, dtype=dtype.numpy)
    if proto.tensor_content:
        return _from_content(proto.tensor_content, dtype, count, name).reshape(dims)
    given = _typed_values(proto, dtype)[:count]
    if len(given) < count:
        if count * dtype.numpy.itemsize > _MAX_FILLED_BYTES:
            raise invalid(f"tensor parsing error: {name}")
        filled = np.empty(count, dtype=dtype.numpy)
        filled[: len(given)] = given
        filled[len(given) :] = given[-1] if len(given) else (b"" if dtype.field == "string_val" else 0)
        given = filled
    return given.reshape(dims)


def _from_content(content: bytes, dtype: Dtype, count: int, name: str) -> Array:
    if dtype.field == "string_val":
        return _strings(_split_strings(content, count, name))
    if len(content) != count * dtype.numpy.itemsize:
        raise invalid(f"tensor parsing error: {name}")
    return np.frombuffer(content, dtype=dtype.numpy)


def _split_strings(content: bytes, count: int, name: str) -> list[bytes]:
    """String tensors as raw content: the lengths as varints, then the bytes."""
    lengths: list[int] = []
    position = 0
    while len(lengths) < count:
        value = shift = 0
        while True:
            if position >= len(content) or shift > 28:
                raise invalid(f"tensor parsing error: {name}")
            byte = content[position]
            position += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        lengths.append(value)
    if position + sum(lengths) != len(content):
        raise invalid(f"tensor parsing error: {name}")
    parts = []
    for length in lengths:
        parts.append(content[position : position + length])
        position += length
    return parts


def _strings(values: Sequence[bytes]) -> Array:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _typed_values(proto: tensor_pb2.TensorProto, dtype: Dtype) -> Array:
    values: Sequence[Any] = getattr(proto, dtype.field)
    if dtype.field == "string_val":
        return _strings(list(values))
    if dtype.field == "half_val":
        return np.array(values, dtype=np.int64).astype(np.uint16).view(dtype.numpy)
    if dtype.field in ("scomplex_val", "dcomplex_val"):
        part = np.float32 if dtype.field == "scomplex_val" else np.float64
        whole = len(values) - len(values) % 2
        return np.array(values[:whole], dtype=part).view(dtype.numpy)
    if dtype.field == "int_val":
        return np.array(values, dtype=np.int64).astype(dtype.numpy)
    return np.array(values, dtype=dtype.numpy)


def to_proto(array: Array, proto: tensor_pb2.TensorProto) -> None:
    """Write a tensor into `proto`, its values in the typed field."""
    dtype = dtype_of(array)
    if dtype is None:
        raise ServingError(Code.UNIMPLEMENTED, f"Outputs of numpy type {array.dtype} are not supported")
    proto.dtype = dtype.enum  # an enum's number
    proto.tensor_shape.SetInParent()
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    flat = array.ravel()
    if dtype.field == "half_val":
        flat = flat.view(np.uint16)
    elif dtype.field == "scomplex_val":
        flat = flat.view(np.float32)
    elif dtype.field == "dcomplex_val":
        flat = flat.view(np.float64)
    getattr(proto, dtype.field).extend(flat.tolist())


def check_fed_type(array: Array, expected: int, index: int) -> None:
    """Refuse a tensor whose type is not the input's, in the words of TensorFlow's session."""
    known = dtype_of(array)
    given = known.enum if known else types_pb2.DT_INVALID
    if given != expected:
        raise invalid(f"Expects arg[{index}] to be {dtype_name(expected)} but {dtype_name(given)} is provided")
