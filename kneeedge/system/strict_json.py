"""Frozen dataclasses to JSON and back, strictly: a missing, unknown or mistyped field is an error,
not a guess.
"""

import dataclasses
import json
import sys
import types
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


def to_json(record: Any, indent: int | None = 2) -> str:
    """A dataclass as JSON text; a NaN or infinity raises ValueError, since JSON has neither."""
    return json.dumps(
        dataclasses.asdict(record), indent=indent, ensure_ascii=False, allow_nan=False
    )


def dump(value: Any) -> str:
    """JSON text of dataclasses, alone or within lists and dicts."""
    return json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def from_json(cls: type[T], text: str | bytes) -> T:
    """The dataclass that `to_json` wrote. Raises ValueError, naming the field, where the text does
    not fit.
    """
    try:
        data = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    built: T = _build(cls, data, cls.__name__)
    return built


def _refuse_constant(name: str) -> None:
    """Python reads NaN and Infinity, which JSON does not have; a NaN is within no tolerance and
    beyond none.
    """
    raise ValueError(f"{name} is no number")


def _build(kind: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return _build_dataclass(kind, value, where)
    origin = get_origin(kind)
    args = get_args(kind)
    if origin in (Union, types.UnionType):
        return _build_union(args, value, where)
    if origin is tuple:
        _expect(isinstance(value, list), where, "a list")
        return tuple(_build(args[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is dict:
        _expect(isinstance(value, dict), where, "an object")
        return {key: _build(args[1], item, f"{where}.{key}") for key, item in value.items()}
    if kind is float:
        return _build_float(value, where)
    _expect(type(value) is kind, where, getattr(kind, "__name__", str(kind)))
    return value


def _build_dataclass(kind: Any, value: Any, where: str) -> Any:
    _expect(isinstance(value, dict), where, "an object")
    hints = get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    if unknown := sorted(set(value) - set(fields)):
        raise ValueError(f"{where} has the unknown field {unknown[0]!r}")
    required = {
        name
        for name, field in fields.items()
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    if missing := sorted(required - set(value)):
        raise ValueError(f"{where} lacks the field {missing[0]!r}")
    return kind(
        **{name: _build(hints[name], item, f"{where}.{name}") for name, item in value.items()}
    )


def _build_union(options: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None:
        _expect(type(None) in options, where, "not null")
        return None
    (kind,) = [option for option in options if option is not type(None)]
    return _build(kind, value, where)


def _build_float(value: Any, where: str) -> float:
    """Python reads 1e999 as infinity, and integers that no float holds."""
    _expect(type(value) in (int, float), where, "float")
    _expect(abs(value) <= sys.float_info.max, where, "finite")
    return float(value)


def _expect(condition: bool, where: str, expected: str) -> None:
    if not condition:
        raise ValueError(f"{where} must be {expected}")
