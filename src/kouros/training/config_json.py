"""Configurations as JSON: nested frozen dataclasses out, and back in by their annotations."""

import types
from dataclasses import MISSING, asdict, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

Config = TypeVar("Config")


def to_json(config: Any) -> dict[str, Any]:
    """A dataclass of numbers, words, paths, enumerations, tuples and dataclasses, as JSON can hold it."""
    return {key: _plain(value) for key, value in asdict(config).items()}


def from_json(kind: type[Config], values: Any) -> Config:
    """Inverse of `to_json`; fields that are missing take their defaults.

    Raises:
        ValueError: a field is unknown, missing without a default, or of another type.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{kind.__name__} is {values!r}, expected an object of its fields.")
    known = {f.name: f for f in fields(kind) if f.init}  # type: ignore[arg-type]
    if unknown := sorted(set(values) - set(known)):
        raise ValueError(f"{kind.__name__} has no field {', '.join(unknown)}; it has: {', '.join(known)}.")
    for name, field in known.items():
        if name not in values and field.default is MISSING and field.default_factory is MISSING:
            raise ValueError(f"{kind.__name__} lacks the field {name}.")
    hints = get_type_hints(kind)
    return kind(**{name: _typed(f"{kind.__name__}.{name}", hints[name], value) for name, value in values.items()})


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(v) for v in value]
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, Path):
        return str(value)
    return value


def _typed(name: str, kind: Any, value: Any) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _typed(name, arguments[0], value)
    if origin in (Union, types.UnionType):
        return _first_that_fits(name, arguments, value)
    if kind is Any:
        return value
    if origin is Literal:
        if not any(value == a and type(value) is type(a) for a in arguments):
            raise ValueError(f"{name} is {value!r}, expected one of {', '.join(map(repr, arguments))}.")
        return value
    if origin in (tuple, list) and isinstance(value, list):
        each = [arguments[0]] * len(value) if origin is list or arguments[-1] is Ellipsis else list(arguments)
        if len(each) == len(value):
            return origin(_typed(f"{name}[{i}]", k, v) for i, (k, v) in enumerate(zip(each, value, strict=True)))
    elif is_dataclass(kind):
        return from_json(kind, value)  # type: ignore[arg-type]
    elif kind is Path and isinstance(value, str):
        return Path(value)
    elif isinstance(kind, type) and issubclass(kind, Enum) and value in kind.__members__:
        return kind[value]
    elif kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    elif kind is types.NoneType and value is None:
        return None
    elif isinstance(kind, type) and type(value) is kind:
        return value
    raise ValueError(f"{name} is {value!r}, expected {getattr(kind, '__name__', kind)}.")


def _first_that_fits(name: str, kinds: tuple[Any, ...], value: Any) -> Any:
    problems = []
    for kind in kinds:
        try:
            return _typed(name, kind, value)
        except ValueError as error:
            problems.append(str(error))
    raise ValueError(problems[0])
