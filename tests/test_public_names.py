"""What users may import, in `public_names.txt`: a name that is to go must first be marked as going.

Where it was changed on purpose: ``pytest tests/test_public_names.py --update-snapshots``.
"""

import inspect
import pkgutil
from importlib import import_module
from pathlib import Path

import pytest

import kouros

pytest.importorskip("lightning")


def test_the_public_names_are_the_known_ones(snapshot):
    folders = [m.name for m in pkgutil.walk_packages(kouros.__path__, "kouros.") if m.ispkg]
    lines = []
    for folder in ["kouros", *folders]:
        module = import_module(folder)
        for name in getattr(module, "__all__", ()):
            called = getattr(module, name)
            takes = folder == "kouros" and callable(called)
            lines.append(f"{folder}.{name}" + (f"({_parameters(called)})" if takes else ""))
    assert lines == list(dict.fromkeys(lines))
    snapshot(Path(__file__).with_name("public_names.txt"), "\n".join(lines) + "\n")


def _parameters(called) -> str:
    """Names alone; those after a star are given by name, and those with = may be left out."""
    shown, by_name = [], False
    for parameter in inspect.signature(called).parameters.values():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and not by_name:
            shown.append("*")
            by_name = True
        shown.append(parameter.name + ("" if parameter.default is inspect.Parameter.empty else "="))
    return ", ".join(shown)
