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
            raise UserError(
                f"{where}: unknown setting '{key}'.{suggest(str(key), names)} Known: {', '.join(names)}."
            )
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
            try:
                return _convert(kind, value, where)
            except UserError as error:
                failure = error
        raise failure
    if origin is typing.Literal:
        if value not in arguments:
            near = suggest(str(value), [str(argument) for argument in arguments])
            raise UserError(f"{where}: {value!r} is not one of {', '.join(map(str, arguments))}.{near}")
        return value
    if origin in (list, tuple):
        if not isinstance(value, list | tuple):
            raise UserError(f"{where}: expected a list, found {value!r}.")
        return origin(_convert(arguments[0], item, f"{where}[{place}]") for place, item in enumerate(value))
    if origin is dict:
        if not isinstance(value, dict):
            raise UserError(f"{where}: expected names with values, found {value!r}.")
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
    kind = {float: "a number", int: "a whole number", bool: "true or false", str: "text"}.get(hint, str(hint))
    raise UserError(f"{where}: expected {kind}, found {value!r}.")


def to_dict(settings: Any) -> dict[str, Any]:
    """Return the dataclass `settings` as plain data that YAML and JSON can hold."""
    return dataclasses.asdict(settings)
