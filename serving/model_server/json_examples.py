"""The JSON of classify and regress requests into Examples, and their results into JSON."""

from typing import Any

from tensorflow.core.example import example_pb2, feature_pb2
from tensorflow_serving.apis import classification_pb2, input_pb2, regression_pb2

from serving.model_server.json_numbers import INT64_MAX, UINT64_MAX, format_floats
from serving.model_server.json_request import parse_object, signature_name_of
from serving.model_server.json_slow_reader import MISSING, JsonObject
from serving.model_server.json_values import decode_base64, is_base64, json_type
from serving.model_server.json_writer import debug_text, encode_text, indent, members, quote, single_line
from serving.model_server.status import invalid

_KIND_NAMES = {"bytes_list": "bytes", "float_list": "float", "int64_list": "int64"}


def parse_examples(body: bytes) -> tuple[str, input_pb2.Input]:
    """The signature name ("" for the default) and the examples of a request."""
    document = parse_object(body)
    signature_name = signature_name_of(document)
    request = input_pb2.Input()
    context = document.find("context")
    if context is not MISSING:
        _fill(context, request.example_list_with_context.context)
    examples = document.find("examples")
    if examples is MISSING:
        raise invalid(
            f"JSON Value: {debug_text(document)} When method is classify, key 'examples' is expected and was not found"
        )
    if type(examples) is not list:
        raise invalid(f"JSON Value: {debug_text(document)} Expecting 'examples' value to be an list/array")
    if not examples:
        raise invalid(f"JSON Value: {debug_text(document)} 'examples' value is an empty array")
    added = request.example_list if context is MISSING else request.example_list_with_context
    for example in examples:
        _fill(example, added.examples.add())
    return signature_name, request


def _fill(value: Any, example: example_pb2.Example) -> None:
    if type(value) is not JsonObject:
        raise invalid(f"Example must be JSON object but got JSON {json_type(value)}")
    for key, content in value:
        name = key.split("\0")[0]
        feature = feature_pb2.Feature()
        for item in content if type(content) is list else [content]:
            _add(item, name, feature)
        try:
            # Of equal keys the last counts.
            example.features.feature[name].CopyFrom(feature)
        except (ValueError, UnicodeError):
            raise invalid(f"Feature: {name} has a name that is not UTF-8") from None


def _add(value: Any, name: str, feature: feature_pb2.Feature) -> None:
    if isinstance(value, bool):
        _list_of(feature, "int64_list", name).append(int(value))
    elif isinstance(value, str):
        _list_of(feature, "bytes_list", name).append(encode_text(value))
    elif is_base64(value):
        _list_of(feature, "bytes_list", name).append(decode_base64(value[0][1]))
    elif isinstance(value, float):
        _list_of(feature, "float_list", name).append(value)
    elif isinstance(value, int):
        values = _list_of(feature, "int64_list", name)
        if INT64_MAX < value <= UINT64_MAX:
            raise invalid(f"Feature: {name} has uint64_t element. Only int64_t is supported.")
        values.append(value)
    else:
        raise invalid(f"Feature: {name} has element with unexpected JSON type: {json_type(value)}")


def _list_of(feature: feature_pb2.Feature, kind: str, name: str) -> Any:
    """The values of a feature of one kind; the first value decides the kind."""
    known = feature.WhichOneof("kind")
    if known not in (None, kind):
        raise invalid(f"Unexpected element type in feature: {name} expecting type: {_KIND_NAMES[known]}")
    return getattr(feature, kind).value


def classification_json(result: classification_pb2.ClassificationResult) -> bytes:
    """The body of a classify answer: for each example a list of [label, score]."""
    if not result.classifications:
        raise invalid("Cannot convert empty ClassificationResults to JSON")
    rows = []
    for classifications in result.classifications:
        scores = format_floats([entry.score for entry in classifications.classes], single=True)
        pairs = zip(classifications.classes, scores, strict=True)
        rows.append(single_line([single_line([quote(entry.label.encode()), score.encode()]) for entry, score in pairs]))
    return members([(b"results", b"[" + b", ".join(rows) + b"\n" + indent(1) + b"]")], 0)


def regression_json(result: regression_pb2.RegressionResult) -> bytes:
    """The body of a regress answer: a list of values."""
    if not result.regressions:
        raise invalid("Cannot convert empty RegressionResults to JSON")
    values = format_floats([entry.value for entry in result.regressions], single=True)
    return members([(b"results", single_line([value.encode() for value in values]))], 0)
