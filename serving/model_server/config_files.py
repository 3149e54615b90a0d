"""Configuration files of tensorflow_model_server: protos in text format.

tensorflow-serving-api ships ModelServerConfig; BatchingParameters and MonitoringConfig are declared here, with the
field names and numbers of TensorFlow Serving's own declarations.
"""

import functools
from pathlib import Path
from typing import Any, TypeVar

from google.protobuf import (  # type: ignore[import-untyped]
    descriptor_pb2,
    descriptor_pool,
    message_factory,
    text_format,
    wrappers_pb2,
)
from google.protobuf.message import Message  # type: ignore[import-untyped]
from tensorflow.core.protobuf import config_pb2
from tensorflow_serving.config import model_server_config_pb2

from tfrs_shop.errors import UserError

_Field = descriptor_pb2.FieldDescriptorProto
_INT64, _BOOL, _STRING = ".google.protobuf.Int64Value", ".google.protobuf.BoolValue", ".google.protobuf.StringValue"
_PACKAGE = "shop.serving"
AnyMessage = TypeVar("AnyMessage", bound=Any)

# Name, number, and type: a message by its name, or a scalar by its number; a star repeats the field.
_MESSAGES: dict[str, list[tuple[str, int, str | int]]] = {
    "BatchingParameters": [
        ("max_batch_size", 1, _INT64),
        ("batch_timeout_micros", 2, _INT64),
        ("max_enqueued_batches", 3, _INT64),
        ("num_batch_threads", 4, _INT64),
        ("thread_pool_name", 5, _STRING),
        ("*allowed_batch_sizes", 6, _Field.TYPE_INT64),
        ("pad_variable_length_inputs", 7, _Field.TYPE_BOOL),
        ("enable_large_batch_splitting", 8, _BOOL),
        ("max_execution_batch_size", 9, _INT64),
    ],
    "PrometheusConfig": [("enable", 1, _Field.TYPE_BOOL), ("path", 2, _Field.TYPE_STRING)],
    "MonitoringConfig": [("prometheus_config", 1, f".{_PACKAGE}.PrometheusConfig")],
}


@functools.cache
def _message_class(name: str) -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="shop_serving_config.proto", package=_PACKAGE, syntax="proto3")
    file.dependency.append("google/protobuf/wrappers.proto")
    for message, fields in _MESSAGES.items():
        declared = file.message_type.add(name=message)
        for field, number, kind in fields:
            label = _Field.LABEL_REPEATED if field.startswith("*") else _Field.LABEL_OPTIONAL
            added = declared.field.add(name=field.lstrip("*"), number=number, label=label)
            if isinstance(kind, str):
                added.type, added.type_name = _Field.TYPE_MESSAGE, kind
            else:
                added.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))


def read_model_config(path: Path) -> model_server_config_pb2.ModelServerConfig:
    """A ModelServerConfig in text format; raises UserError naming file and line."""
    return _read(path, model_server_config_pb2.ModelServerConfig(), "model_config_file")


def read_batching_parameters(path: Path) -> Message:
    """BatchingParameters in text format; raises UserError naming file and line."""
    return _read(path, _message_class("BatchingParameters")(), "batching_parameters_file")


def read_monitoring_config(path: Path) -> Message:
    """A MonitoringConfig in text format; raises UserError naming file and line."""
    return _read(path, _message_class("MonitoringConfig")(), "monitoring_config_file")


def read_session_config(path: Path) -> config_pb2.ConfigProto:
    """A TensorFlow ConfigProto in text format; raises UserError naming file and line."""
    return _read(path, config_pb2.ConfigProto(), "tensorflow_session_config_file")


def _read(path: Path, message: AnyMessage, flag: str) -> AnyMessage:
    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), message)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--{flag}={path}: cannot be read: {error}.") from None
    except text_format.ParseError as error:
        raise UserError(f"--{flag}={path}: {error}") from None
