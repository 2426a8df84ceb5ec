"""Reads the package's imports, and holds them against the house's order and what each folder says of itself."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

LEVELS = (
    ("cli",), ("viewer", "server", "cluster"), ("export",), ("pipeline",), ("training",), ("evaluation",), ("systems",),
    ("data",), ("detection",), ("networks",), ("fitting",), ("priors",), ("render",), ("body",), ("geometry",),
)  # fmt: skip
"""Folders from the top of the house to its bottom; each may import those of lower levels."""
_PHRASE = re.compile(r"May\s+import:\s+([\w\s,]+)\.")
_NOTHING, _ALL_BELOW = "nothing", "everything below"
_MODULE = re.compile(r"kouros(\.\w+)+(:\w+)?")


def below(folder: str) -> frozenset[str]:
    """The folders that a folder may import at most."""
    (level,) = [number for number, names in enumerate(LEVELS) if folder in names]
    return frozenset(name for names in LEVELS[level + 1 :] for name in names)


def declared(package: Path, *place: str) -> frozenset[str] | None:
    """What a folder, or one within it, says it may import (`May import: body, geometry.`); None where it says nothing.

    A folder within another may name its neighbours there, too.
    """
    init = package.joinpath(*place, "__init__.py")
    docstring = ast.get_docstring(ast.parse(init.read_text(encoding="utf-8"))) or ""
    said = [" ".join(match.split()) for match in _PHRASE.findall(docstring)]
    if not said:
        return None
    (names,) = said
    if names == _NOTHING:
        return frozenset()
    return below(place[0]) if names == _ALL_BELOW else frozenset(names.split(", "))


def imports(file: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of all that a file imports: at its head, in functions, for type checkers alone, and by
    names of modules in strings, which is how things are loaded late.
    """
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from ((node.lineno, f"{module}.{name.name}") for name in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _MODULE.fullmatch(node.value):
            yield node.lineno, node.value.replace(":", ".")


def broken_rules(package: Path) -> list[str]:
    """A sentence for each import of the package that the house does not allow."""
    known = {name for names in LEVELS for name in names}
    places = [init.parent.relative_to(package).parts for init in package.glob("*/**/__init__.py")]
    said = {place: declared(package, *place) for place in places}
    folders = {place[0] for place in said if len(place) == 1}
    broken = [f"{folder}: has no place in the house's order" for folder in sorted(folders - known)]
    for folder in sorted(folders & known):
        names = said[folder,]
        if names is None:
            broken.append(f"{folder}: its __init__ does not say what it may import, as `May import: body, geometry.`")
        elif above := sorted(names - below(folder)):
            broken.append(f"{folder}: says that it may import {', '.join(above)}, which is not below it")
    roots = {path.stem for path in package.glob("*.py")}
    for file in sorted(package.rglob("*.py")):
        place = file.relative_to(package).parts
        if place in (("__init__.py",), ("__main__.py",)):
            continue  # the doors: they load what users ask for
        for line, name in imports(file):
            top, *parts = name.split(".")
            if top not in ("", "kouros") or (parts and parts[0] in {"__version__", *roots}):
                continue
            if top == "" or not _allowed(place, parts, said):  # "": a relative name
                broken.append(f"{file.relative_to(package)}:{line}: imports {name}")
    return broken


def _allowed(place: tuple[str, ...], name: list[str], said: dict[tuple[str, ...], frozenset[str] | None]) -> bool:
    """Whether a file at a place of the package may import a name of it."""
    folder = place[0]
    if len(place) == 1 or not name or (name[0],) not in said:
        return False  # a module at the root serves all and knows no folder; public names are for users
    inner = said.get(place[:2])
    if name[0] == folder:
        return inner is None or name[1:2] in ([], [place[1]]) or name[1] in inner
    return name[0] in ((said[folder,] or frozenset()) if inner is None else inner) & below(folder)
