"""The JSON of a predict request into named tensors, in TensorFlow Serving's order of checks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from serving.model_server.json_reader import parse_json
from serving.model_server.json_slow_reader import MISSING, JsonObject
from serving.model_server.json_values import Array, dense_shape, fill, is_base64, quick_fill, to_array
from serving.model_server.json_writer import debug_text
from serving.model_server.status import ServingError, invalid

# Input name to the enum of its data type.
InputTypes = Mapping[str, int]


@dataclass(frozen=True)
class PredictJson:
    """A predict request: its signature ("" for the default), its tensors, and whether they came as rows."""

    signature_name: str
    inputs: dict[str, Array]
    row_format: bool


def parse_object(body: bytes) -> JsonObject:
    """The JSON object that every request body must be."""
    document = parse_json(body)
    if type(document) is not JsonObject:
        raise invalid(f"JSON Value: {debug_text(document)} Is not object")
    return document


def signature_name_of(document: JsonObject) -> str:
    """The optional signature name of a request, "" when it has none."""
    name = document.find("signature_name")
    if name is MISSING:
        return ""
    if not isinstance(name, str):
        raise invalid(
            f"JSON Value: {debug_text(document)} not formatted correctly. 'signature_name' key must be a string value."
        )
    return name


def parse_predict(body: bytes, input_types: Callable[[str], InputTypes]) -> PredictJson:
    """Read a predict request; `input_types` looks up a signature, after the JSON and before the tensors."""
    document = parse_object(body)
    signature_name = signature_name_of(document)
    types = input_types(signature_name)
    if not types:
        raise invalid(f"Failed to get input map for signature: {signature_name or 'DEFAULT'}")
    instances, inputs = document.find("instances"), document.find("inputs")
    if instances is MISSING and inputs is MISSING:
        raise invalid("Missing 'inputs' or 'instances' key")
    if instances is not MISSING and inputs is not MISSING:
        raise invalid(
            f"JSON Value: {debug_text(document)} Not formatted correctly expecting only"
            " one of 'inputs' or 'instances' keys to exist "
        )
    if instances is MISSING:
        return PredictJson(signature_name, _columns(inputs, types), row_format=False)
    if type(instances) is not list:
        raise invalid(f"JSON Value: {debug_text(document)} Expecting 'instances' to be an list/array")
    if not instances:
        raise invalid(f"JSON Value: {debug_text(document)} No values in 'instances' array")
    return PredictJson(signature_name, _rows(instances, types), row_format=True)


def _columns(inputs: Any, types: InputTypes) -> dict[str, Array]:
    if type(inputs) is not JsonObject or is_base64(inputs):
        if len(types) > 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple "
                "input tensors required as per tensorinfo_map"
            )
        name, dtype = next(iter(types.items()))
        return {name: _tensor(inputs, dtype, name)}
    tensors = {}
    for name, dtype in types.items():
        value = inputs.find(name)
        if value is MISSING:
            raise invalid(f"Missing named input: {name} in 'inputs' object.")
        tensors[name] = _tensor(value, dtype, name)
    return tensors


def _tensor(value: Any, dtype: int, name: str) -> Array:
    shape = dense_shape(value)
    values = quick_fill(value, shape, dtype)
    if values is None:
        values = []
        fill(value, 0, shape, dtype, values)
    return to_array(values, shape, dtype, name)


def _is_row_object(value: Any) -> bool:
    return type(value) is JsonObject and not is_base64(value)


def _rows(instances: list[Any], types: InputTypes) -> dict[str, Array]:
    first = instances[0]
    if type(first) is not JsonObject and len(types) > 1:
        raise invalid(
            "instances is a plain list, but expecting list of objects as multiple "
            "input tensors required as per tensorinfo_map"
        )
    columns = _quick_columns(instances, types)
    if columns is not None:
        tensors = {}
        for name, values in columns.items():
            shape = [len(instances), *dense_shape(values[0])]
            flat = quick_fill(values, shape, types[name])
            if flat is None:
                break
            tensors[name] = to_array(flat, shape, types[name], name)
        else:
            return tensors
    return _RowReader(types).read(instances)


def _quick_columns(instances: list[Any], types: InputTypes) -> dict[str, list[Any]] | None:
    """The column of each input when all rows are alike, else None."""
    if not _is_row_object(instances[0]):
        plain = not any(type(row) is JsonObject for row in instances)
        return {next(iter(types)): instances} if plain else None
    names = [name for name, _ in instances[0]]
    if len(names) != len(types) or set(names) != set(types):
        return None
    columns: dict[str, list[Any]] = {name: [] for name in names}
    width = len(names)
    for row in instances:
        if type(row) is not JsonObject or len(row) != width:
            return None
        for name, (key, value) in zip(names, row, strict=True):
            if key != name:
                return None
            columns[name].append(value)
    return columns


class _RowReader:
    """Rows read one value at a time, so that the first misfit is found in order and named."""

    def __init__(self, types: InputTypes) -> None:
        self.types = types
        self.values: dict[str, list[Any]] = {}
        self.sizes: dict[str, int] = {}
        self.shapes: dict[str, list[int]] = {}

    def read(self, instances: list[Any]) -> dict[str, Array]:
        as_objects = _is_row_object(instances[0])
        for number, row in enumerate(instances):
            if as_objects != _is_row_object(row):
                expected = "object but got list" if as_objects else "value/list but got object"
                raise invalid(f"Expecting {expected} at item {number} of input list")
            if as_objects:
                self._object(row, number)
            else:
                self._item(row, next(iter(self.types)), f"Failed to process element: {number}")
        return {
            name: to_array(values, [len(instances), *self.shapes[name]], self.types[name], name)
            for name, values in self.values.items()
        }

    def _object(self, row: JsonObject, number: int) -> None:
        keys = set()
        for key, value in row:
            # TensorFlow Serving takes names as C strings.
            name = key.split("\0")[0]
            keys.add(name)
            self._item(value, name, f"Failed to process element: {number} key: {name}")
        if keys != set(self.types):
            raise invalid(
                f"Failed to process element: {number} of 'instances' list. JSON object: {debug_text(row)} "
                f"keys must be equal to: {','.join(sorted(self.types))}"
            )

    def _item(self, value: Any, name: str, where: str) -> None:
        try:
            self._add(value, name)
        except ServingError as error:
            raise invalid(f"{where} of 'instances' list. Error: {error}") from None

    def _add(self, value: Any, name: str) -> None:
        if name not in self.types:
            raise invalid(f"JSON object: does not have named input: {name}")
        values = self.values.setdefault(name, [])
        before = len(values)
        shape = dense_shape(value)
        fill(value, 0, shape, self.types[name], values)
        size = len(values) - before
        if name not in self.sizes:
            self.sizes[name], self.shapes[name] = size, shape
        elif self.sizes[name] != size:
            raise invalid(f"Expecting tensor size: {self.sizes[name]} but got: {size}")
        elif self.shapes[name] != shape:
            raise invalid(f"Expecting shape {_shape_text(self.shapes[name])} but got: {_shape_text(shape)}")


def _shape_text(shape: list[int]) -> str:
    return f"[{','.join(map(str, shape))}]"
