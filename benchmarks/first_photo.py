"""How long does the first photo take after installation, and the first one of every later process?

    python benchmarks/first_photo.py [--rounds 5]

Whole processes of `kouros reconstruct` on the package's portrait, from their start to files on disk: one with an empty
folder for compiled code (`NUMBA_CACHE_DIR`), then others that find it there. Of the first also what each kernel's
compilation takes, and of a later one how long importing does. Keep the machine quiet.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

PORTRAIT = Path(__file__).parents[1] / "src" / "kouros" / "data" / "demo" / "astronaut.jpg"
_TOLD = """
import json, sys, time
from numba.core import event

class Told(event.Listener):
    # Kernels are compiled from within each other: what the outer ones take is told without the inner ones.
    open = []

    def on_start(self, event):
        self.open.append([time.perf_counter(), 0.0])

    def on_end(self, event):
        begun, within = self.open.pop()
        took = time.perf_counter() - begun
        if self.open:
            self.open[-1][1] += took
        function = event.data["dispatcher"].py_func
        if function.__module__.startswith("kouros"):
            print(json.dumps({"kernel": function.__qualname__, "seconds": took - within}), file=sys.stderr)

event.register("numba:compile", Told())
from kouros.cli import main
sys.exit(main(sys.argv[1:]))
"""


def seconds_of(command: list[str], folder: Path) -> tuple[float, str]:
    """A whole process, and what it said on its standard error."""
    out = Path(tempfile.mkdtemp(dir=folder))
    environment = os.environ | {"NUMBA_CACHE_DIR": str(folder / "compiled")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # as after installation, which compiles modules
    start = time.perf_counter()
    ran = subprocess.run(
        [sys.executable, *command, "reconstruct", str(PORTRAIT), "--out", str(out)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return time.perf_counter() - start, ran.stderr


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "before").mkdir()
        seconds_of(["-m", "kouros"], folder / "before")  # modules are compiled, and files read from disk, by then
        first, said = seconds_of(["-c", _TOLD], folder)
        later = [seconds_of(["-m", "kouros"], folder)[0] for _ in range(rounds)]
        _, imports = seconds_of(["-X", "importtime", "-m", "kouros"], folder)
    kernels: dict[str, float] = {}
    for line in said.splitlines():
        if line.startswith("{"):
            told = json.loads(line)
            kernels[told["kernel"]] = kernels.get(told["kernel"], 0.0) + told["seconds"]
    rows = [line.removeprefix("import time:").split("|") for line in imports.splitlines() if line.count("|") == 2]
    importing = sum(int(own) for own, _, _ in rows[1:]) / 1e6  # the first row has the columns' names
    table = Table("", "seconds", title="from a process's start to files on disk")
    result = {"first": first, "later": statistics.median(later), "later, importing": importing}
    for what, value in [*result.items(), *sorted(kernels.items(), key=lambda item: -item[1])]:
        table.add_row(what if what in result else f"compiling {what}", f"{value:.2f}")
        print(json.dumps({"what": what, "seconds": round(value, 3)}))
    Console().print(table)


if __name__ == "__main__":
    main()
