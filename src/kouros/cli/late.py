"""Sub-commands whose options are a function's own, and which load the function only when they are asked for.

tyro looks at the types of all sub-commands beside the one that is asked for; so a light class stands for each
(`late_command`), and the fields of the one that is asked for are answered by a rule (`late_rules`).
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any, ClassVar

import tyro
from tyro.constructors import (
    MISSING_NONPROP,
    ConstructorRegistry,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

from kouros.cli.usage import Flag, MissingExtraError


@dataclass(frozen=True)
class LateCommand:
    """A function, and the arguments of the command line that it is to be called with; subclasses `run` it."""

    home: ClassVar[str]
    """Where the function is, as ``module:name``."""
    shared: ClassVar[Callable[..., Any] | None] = None
    """A function whose keyword-only parameters, as its docstring explains them, are options of the command too."""

    function: Callable[..., Any]
    arguments: Mapping[str, Any]


def late_command(
    kind: type[LateCommand], name: str, home: str, summary: str, shared: Callable[..., Any] | None = None
) -> Any:
    """The type of a sub-command, to stand in a union: the ``kind`` with a function.

    Args:
        home: the function, as ``module:name``. Its first parameter is given by its place, the others by their names.
        summary: what the list of sub-commands says of it; its own help is the function's docstring.
        shared: see `LateCommand.shared`.
    """
    shares = None if shared is None else staticmethod(shared)
    standing = type(name, (kind,), {"home": home, "shared": shares, "__doc__": summary})
    # A factory, although it makes nothing: of types without one, tyro looks at the fields of the first.
    return Annotated[standing, tyro.conf.subcommand(name, constructor_factory=lambda: standing)]


def late_rules(arguments: Sequence[str]) -> ConstructorRegistry:
    """What `tyro.cli` must be given, for the arguments that it is given, so that late commands work."""
    rules = ConstructorRegistry()

    @rules.struct_rule
    def options(info: StructTypeInfo) -> StructConstructorSpec | None:
        command = info.type
        if not (isinstance(command, type) and issubclass(command, LateCommand)):
            return None
        # Of a wrong option anywhere, tyro looks for similar ones in every command there is.
        return _options(command) if command.__name__ in arguments else StructConstructorSpec(command, ())

    return rules


def _options(command: type[LateCommand]) -> StructConstructorSpec:
    """The parameters of a late command's function, each with what the docstring says of it.

    Raises:
        MissingExtraError: the function cannot be loaded.
    """
    module, _, name = command.home.partition(":")
    try:
        function = getattr(import_module(module), name)
    except ImportError as error:
        raise MissingExtraError(str(error)) from None
    from docstring_parser import parse

    text = parse(inspect.getdoc(function) or "")
    explained = [parse(inspect.getdoc(command.shared) or ""), text] if command.shared else [text]
    says = {entry.arg_name: _plain(entry.description or "") for part in explained for entry in part.params}

    def make(**arguments: Any) -> LateCommand:
        return command(function, arguments)

    make.__doc__ = _plain(text.description or "")
    first, *others = inspect.signature(function).parameters.values()
    if command.shared:
        others += [p for p in inspect.signature(command.shared).parameters.values() if p.kind is p.KEYWORD_ONLY]
    fields = [_field(first, Annotated[first.annotation, tyro.conf.Positional], says)]
    fields += [_field(other, Flag if other.default is False else other.annotation, says) for other in others]
    return StructConstructorSpec(make, tuple(fields))


def _field(parameter: inspect.Parameter, kind: Any, says: dict[str, str]) -> StructFieldSpec:
    default = MISSING_NONPROP if parameter.default is inspect.Parameter.empty else parameter.default
    return StructFieldSpec(parameter.name, kind, default, says.get(parameter.name))


def _plain(docstring: str) -> str:
    """Without the doubled quotes that documents are set with."""
    return docstring.replace("``", "`")
