"""``python only_with.py torch,numpy,... PROGRAM [ARGUMENT ...]``: run a program as if nothing but those packages, and
what they need themselves, were installed. The program is a file, or else the text of one.
"""

import re
import runpy
import sys
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def with_what_they_need(names: list[str], here: dict[str, metadata.Distribution]) -> set[str]:
    """Packages and, without extras, all that they depend on."""
    found, open_ones = set(), [normal(n) for n in names]
    while open_ones:
        name = open_ones.pop()
        if name in found or name not in here:
            continue
        found.add(name)
        needs = [n for n in here[name].requires or () if "extra ==" not in n]
        open_ones += [normal(re.match(r"[\w.-]+", n)[0]) for n in needs]
    return found


def hide_all_but(names: list[str]) -> None:
    """Make the modules and the metadata of all other packages impossible to find."""
    here = {normal(d.metadata["Name"]): d for d in metadata.distributions()}
    missing = sorted({normal(n) for n in names} - set(here))
    assert not missing, f"not installed: {', '.join(missing)}"
    allowed = with_what_they_need(names, here) | {"kouros"}
    hidden = {
        module
        for module, owners in metadata.packages_distributions().items()
        if not {normal(owner) for owner in owners} & allowed
    }
    loaded = hidden & set(sys.modules)
    assert not loaded, f"loaded already: {', '.join(sorted(loaded))}"

    class Visible:
        invalidate_caches = PathFinder.invalidate_caches

        @staticmethod
        def find_spec(name: str, path=None, target=None):
            return None if name.partition(".")[0] in hidden else PathFinder.find_spec(name, path, target)

        @staticmethod
        def find_distributions(*context):
            found = PathFinder.find_distributions(*context)
            return (d for d in found if normal(d.metadata["Name"]) in allowed)

    sys.meta_path[:] = [Visible if finder is PathFinder else finder for finder in sys.meta_path]


if __name__ == "__main__":
    _, packages, program, *arguments = sys.argv
    hide_all_but(packages.split(","))
    sys.argv[:] = [program, *arguments]
    if program.endswith(".py"):
        sys.path.insert(0, str(Path(program).parent))
        runpy.run_path(program, run_name="__main__")
    else:
        exec(compile(program, "<program>", "exec"), {"__name__": "__main__"})
