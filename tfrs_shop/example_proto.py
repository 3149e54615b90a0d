"""``tf.train.Example`` without TensorFlow, whose import costs each Beam worker seconds and hundreds of megabytes.

The messages are those of tensorflow/core/example/{example,feature}.proto; what they write is the same, byte for byte.
"""

import functools
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # type: ignore[import-untyped]

_PACKAGE = "tensorflow"
Field = descriptor_pb2.FieldDescriptorProto


@functools.cache
def example_class() -> Any:
    """Return the message class ``tensorflow.Example``."""
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package=_PACKAGE, syntax="proto3")
    for name, kind in (
        ("BytesList", Field.TYPE_BYTES),
        ("FloatList", Field.TYPE_FLOAT),
        ("Int64List", Field.TYPE_INT64),
    ):
        message = file.message_type.add(name=name)
        message.field.add(name="value", number=1, type=kind, label=Field.LABEL_REPEATED)
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, name in enumerate(("bytes_list", "float_list", "int64_list"), 1):
        kind_name = f".{_PACKAGE}.{name.title().replace('_', '')}"
        _add_message(feature, name, number, kind_name).oneof_index = 0
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=Field.TYPE_STRING, label=Field.LABEL_OPTIONAL)
    _add_message(entry, "value", 2, f".{_PACKAGE}.Feature")
    _add_message(features, "feature", 1, f".{_PACKAGE}.Features.FeatureEntry").label = Field.LABEL_REPEATED
    _add_message(file.message_type.add(name="Example"), "features", 1, f".{_PACKAGE}.Features")
    # A pool of its own: TensorFlow's declaration of the same names may be in the common one.
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Example"))


def _add_message(message: Any, name: str, number: int, kind: str) -> Any:
    return message.field.add(
        name=name, number=number, type=Field.TYPE_MESSAGE, type_name=kind, label=Field.LABEL_OPTIONAL
    )
