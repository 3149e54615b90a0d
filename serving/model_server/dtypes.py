"""TensorFlow's data types as the protocol names and carries them."""

from dataclasses import dataclass

import ml_dtypes
import numpy as np
from tensorflow.core.framework import types_pb2


@dataclass(frozen=True)
class Dtype:
    """One data type: its enum, its name in messages, numpy's type, and the TensorProto field of its values."""

    enum: int
    name: str
    numpy: "np.dtype[np.generic]"
    field: str


def _dtype(enum: int, name: str, numpy: object, field: str) -> Dtype:
    return Dtype(enum, name, np.dtype(numpy), field)  # type: ignore[call-overload]  # numpy takes any type object


DTYPES = {
    dtype.enum: dtype
    for dtype in (
        _dtype(types_pb2.DT_FLOAT, "float", np.float32, "float_val"),
        _dtype(types_pb2.DT_DOUBLE, "double", np.float64, "double_val"),
        _dtype(types_pb2.DT_INT32, "int32", np.int32, "int_val"),
        _dtype(types_pb2.DT_UINT8, "uint8", np.uint8, "int_val"),
        _dtype(types_pb2.DT_INT16, "int16", np.int16, "int_val"),
        _dtype(types_pb2.DT_INT8, "int8", np.int8, "int_val"),
        _dtype(types_pb2.DT_UINT16, "uint16", np.uint16, "int_val"),
        _dtype(types_pb2.DT_STRING, "string", object, "string_val"),
        _dtype(types_pb2.DT_COMPLEX64, "complex64", np.complex64, "scomplex_val"),
        _dtype(types_pb2.DT_COMPLEX128, "complex128", np.complex128, "dcomplex_val"),
        _dtype(types_pb2.DT_INT64, "int64", np.int64, "int64_val"),
        _dtype(types_pb2.DT_BOOL, "bool", np.bool_, "bool_val"),
        _dtype(types_pb2.DT_UINT32, "uint32", np.uint32, "uint32_val"),
        _dtype(types_pb2.DT_UINT64, "uint64", np.uint64, "uint64_val"),
        _dtype(types_pb2.DT_HALF, "half", np.float16, "half_val"),
        _dtype(types_pb2.DT_BFLOAT16, "bfloat16", ml_dtypes.bfloat16, "half_val"),
    )
}

_BY_NUMPY = {dtype.numpy: dtype for dtype in DTYPES.values()}


def dtype_name(enum: int) -> str:
    """The name of a type in error messages: ``float``, ``half``, ``string``, …"""
    known = DTYPES.get(enum)
    return known.name if known else types_pb2.DataType.Name(enum).removeprefix("DT_").lower()


def dtype_of(array: "np.ndarray[tuple[int, ...], np.dtype[np.generic]]") -> Dtype | None:
    """The protocol's type of a numpy array, or None where it has none."""
    return _BY_NUMPY.get(array.dtype)
