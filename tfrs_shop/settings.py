"""Typed settings: dataclasses loaded from YAML, where an unknown key is an error that suggests the nearest name."""

import dataclasses
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

import yaml

from tfrs_shop.errors import UserError, suggest

T = TypeVar("T")


def load_yaml(cls: type[T], path: str | Path) -> T:
    """Read the YAML file `path` into the dataclass `cls`.

    Raises:
        UserError: the file is missing, is not YAML, or holds an unknown key or a value of the wrong type.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); give the path of a YAML file.") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not UTF-8 text; give the path of a YAML file.") from None
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{path}: is not valid YAML: {' '.join(str(error).split())}") from None
    return from_dict(cls, data if data is not None else {}, where=str(path))


def from_dict(cls: type[T], data: Any, *, where: str) -> T:
    """Build the dataclass `cls` from plain `data`, checking names and types all the way down.

    Args:
        cls: a dataclass; its fields may be scalars, lists, dicts, optionals, literals or dataclasses.
        data: what YAML or JSON gave.
        where: what to call the data in an error: a file, then the keys that lead to the place.
    """
    if not isinstance(data, dict):
        raise UserError(f"{where}: expected named settings, found {data!r}.")
    hints = typing.get_type_hints(cls)
    names = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    for key in data:
        if key not in names:
            raise UserError(f"{where}: unknown setting '{key}'.{suggest(str(key), names)} Known: {', '.join(names)}.")
    values = {key: _convert(hints[key], value, f"{where}: {key}") for key, value in data.items()}
    try:
        return cls(**values)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None
    except TypeError:
        required = [
            field.name
            for field in dataclasses.fields(cls)  # type: ignore[arg-type]
            if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        ]
        missing = ", ".join(name for name in required if name not in values)
        raise UserError(f"{where}: missing setting {missing}.") from None


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        kinds = [kind for kind in arguments if kind is not type(None)]
        for kind in kinds:
            # The kind that the value has the outer form of says best what is wrong inside it.
            if len(kinds) == 1 or _has_form(kind, value):
                return _convert(kind, value, where)
        raise UserError(f"{where}: expected {' or '.join(map(_kind_name, kinds))}, found {value!r}.")
    if origin is typing.Literal:
        if not any(value == argument and type(value) is type(argument) for argument in arguments):
            near = suggest(str(value), [str(argument) for argument in arguments])
            raise UserError(f"{where}: {value!r} is not one of {', '.join(map(str, arguments))}.{near}")
        return value
    if origin in (list, tuple):
        if not isinstance(value, list | tuple):
            raise UserError(f"{where}: expected {_kind_name(hint)}, found {value!r}.")
        return origin(_convert(arguments[0], item, f"{where}[{place}]") for place, item in enumerate(value))
    if origin is dict:
        if not isinstance(value, dict):
            raise UserError(f"{where}: expected {_kind_name(hint)}, found {value!r}.")
        return {str(key): _convert(arguments[1], item, f"{where}: {key}") for key, item in value.items()}
    if dataclasses.is_dataclass(hint):
        return from_dict(typing.cast(type, hint), value, where=where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is float and isinstance(value, str):
        # YAML 1.1 reads 1e-3 (no dot) as text.
        try:
            return float(value)
        except ValueError:
            pass
    if hint is Any or (isinstance(value, hint) and not (hint is int and isinstance(value, bool))):
        return value
    raise UserError(f"{where}: expected {_kind_name(hint)}, found {value!r}.")


def _has_form(kind: Any, value: Any) -> bool:
    origin = typing.get_origin(kind)
    if origin in (list, tuple):
        return isinstance(value, list | tuple)
    if origin is dict or dataclasses.is_dataclass(kind):
        return isinstance(value, dict)
    if origin is typing.Literal:
        return value in typing.get_args(kind)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return kind is Any or (isinstance(value, kind) and not (kind is int and isinstance(value, bool)))


def _kind_name(kind: Any) -> str:
    origin = typing.get_origin(kind)
    if origin in (list, tuple):
        return "a list"
    if origin is dict or dataclasses.is_dataclass(kind):
        return "names with values"
    if origin is typing.Literal:
        return f"one of {', '.join(map(str, typing.get_args(kind)))}"
    return {float: "a number", int: "a whole number", bool: "true or false", str: "text"}.get(kind, str(kind))


def to_dict(settings: Any) -> dict[str, Any]:
    """Return the dataclass `settings` as plain data that YAML and JSON can hold."""
    return dataclasses.asdict(settings)
