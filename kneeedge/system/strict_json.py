"""Frozen dataclasses to JSON and back: a missing, unknown or mistyped field is an error."""

import dataclasses
import json
import sys
import types
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


def to_json(record: Any, indent: int | None = 2) -> str:
    r"""Dataclasses, alone or within lists and dicts, as JSON text.

    A NaN or infinity raises ValueError, since JSON has neither. Bytes of a file name that are no
    UTF-8 appear as \udc80 to \udcff, which in JSON is the name again.
    """
    text = json.dumps(plain(record), indent=indent, ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def plain(value: Any) -> Any:
    """The dicts, lists and figures that stand for dataclasses in JSON.

    A class that has `flatten` and `unflatten` says by them how its JSON differs from its fields.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        record = {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return value.flatten(record) if hasattr(value, "flatten") else record
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def from_json(cls: type[T], text: str | bytes) -> T:
    """The dataclass that `to_json` wrote; raises ValueError, naming the field that does not fit."""
    try:
        data = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    record: T = _build(cls, data, cls.__name__)
    return record


def _refuse_constant(name: str) -> None:
    """Raise ValueError for NaN and Infinity, which Python reads and JSON does not have.

    A NaN is within no tolerance and beyond none, so a check of it would never fail.
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
    if hasattr(kind, "unflatten"):
        value = _unflattened(kind, value, where)
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
    arguments = {name: _build(hints[name], item, f"{where}.{name}") for name, item in value.items()}
    return kind(**arguments)


def _unflattened(kind: Any, value: dict[str, Any], where: str) -> dict[str, Any]:
    try:
        record: dict[str, Any] = kind.unflatten(value)
    except KeyError as error:
        raise ValueError(f"{where} lacks the field {error.args[0]!r}") from error
    except TypeError as error:
        raise ValueError(f"{where} does not fit ({error})") from error
    return record


def _build_union(options: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None:
        _expect(type(None) in options, where, "not null")
        return None
    (kind,) = [option for option in options if option is not type(None)]
    return _build(kind, value, where)


def _build_float(value: Any, where: str) -> float:
    """A finite float: Python reads 1e999 as infinity, and integers that no float holds."""
    _expect(type(value) in (int, float), where, "float")
    _expect(abs(value) <= sys.float_info.max, where, "finite")
    return float(value)


def _expect(condition: bool, where: str, expected: str) -> None:
    if not condition:
        raise ValueError(f"{where} must be {expected}")
