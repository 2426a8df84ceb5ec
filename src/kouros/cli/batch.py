"""One job after another: a failure is one sentence and the others go on; then a table and the status."""

import json
import logging
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kouros.cli.consoles import table_console
from kouros.notes import collected

if TYPE_CHECKING:
    from kouros.pipeline.person import Person, Reprojection

_MOST_NAMED = 12
"""Files that are named one by one; a video's frames are more."""


class JobError(Exception):
    """A job that cannot be done; the message is one sentence."""


@dataclass(frozen=True)
class Job:
    """One photo, or one keypoint file."""

    source: Path
    run: Callable[[], "Done"]
    notes: tuple[str, ...] = ()
    """What there was to say before it."""


@dataclass(frozen=True)
class Done:
    """What a job made."""

    people: int
    outputs: tuple[Path, ...]
    reprojection: "Reprojection | None" = None
    """Of the person whom the body explains worst."""


@dataclass(frozen=True)
class Outcome:
    """How a job ended."""

    source: Path
    seconds: float
    done: Done | None
    error: str | None = None
    notes: tuple[str, ...] = ()
    """What of the input was left out or is doubtful."""

    def as_json(self) -> str:
        """One line for ``--json``."""
        return json.dumps(
            {
                "source": str(self.source),
                "people": self.done.people if self.done else 0,
                "seconds": round(self.seconds, 3),
                "outputs": [str(p) for p in self.done.outputs] if self.done else [],
                "reprojection_error": _measured(self.done.reprojection) if self.done else None,
                "notes": list(self.notes),
                "error": self.error,
            }
        )


def worst_reprojection(people: "Sequence[Person]") -> "Reprojection | None":
    """Of several people: of whom the body explains worst."""
    known = [person.reprojection for person in people if person.reprojection is not None]
    return max(known, key=lambda found: found.share, default=None)


def _measured(found: "Reprojection | None") -> dict[str, float] | None:
    return None if found is None else {"pixels": round(found.pixels, 3), "share": round(found.share, 5)}


@dataclass(frozen=True)
class Reporting:
    """What is said while jobs run and after."""

    quiet: bool = False
    """Say nothing but errors."""
    json: bool = False
    """One line of JSON a job on standard output; everything else goes to standard error."""
    traceback: bool = False
    """Show where an unexpected error came from."""


def run_jobs(jobs: Sequence[Job], reporting: Reporting, *, failed: Iterable[Outcome] = ()) -> int:
    """Do all jobs and report; ``failed`` are sources that never became one. Returns the exit status."""
    return follow([job.source for job in jobs], (run_job(job, reporting) for job in jobs), reporting, failed=failed)


def follow(
    sources: Sequence[Path], outcomes: Iterable[Outcome], reporting: Reporting, *, failed: Iterable[Outcome] = ()
) -> int:
    """Report while the outcomes of ``sources``, in their order, come; as `run_jobs`."""
    if reporting.quiet:
        logging.getLogger("kouros").setLevel(logging.ERROR)
    ended = list(failed)
    if reporting.json:
        for outcome in ended:
            print(outcome.as_json(), flush=True)
    try:
        with _Interrupts() as interrupts:
            for outcome in _progress(sources, outcomes, reporting):
                if outcome.done or not interrupts.came:
                    ended.append(outcome)
                    if reporting.json:
                        print(outcome.as_json(), flush=True)
                interrupts.follow()
    finally:  # an interrupt too: what was done until then counts
        _report(ended, reporting)
    return 1 if any(outcome.error for outcome in ended) else 0


class _Interrupts:
    """Ctrl-C that ends the work also where its exception got lost, or became another one, in somebody's C++."""

    def __init__(self) -> None:
        self.came = False
        in_main = threading.current_thread() is threading.main_thread()
        # Whoever has chosen another handler, or none as shells do for work in the background, keeps it.
        self._ours = in_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def __enter__(self) -> "_Interrupts":
        if self._ours:
            signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self._ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _note(self, *_: object) -> None:
        self.came = True
        raise KeyboardInterrupt

    def follow(self) -> None:
        """Raises KeyboardInterrupt if there was an interrupt."""
        if self.came:
            raise KeyboardInterrupt


def _progress(sources: Sequence[Path], outcomes: Iterable[Outcome], reporting: Reporting) -> Iterable[Outcome]:
    if reporting.quiet or len(sources) < 2 or not sys.stderr.isatty():
        yield from outcomes
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[name]}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=len(sources), name=_shown(sources[0].name))
        for outcome, following in zip(outcomes, [*sources[1:], sources[-1]], strict=True):
            yield outcome
            progress.update(task, advance=1, name=_shown(following.name))


def run_job(job: Job, reporting: Reporting) -> Outcome:
    """Do one, whatever happens."""
    start = time.perf_counter()
    with collected() as notes:
        done, error = _done(job, reporting)
    return Outcome(job.source, time.perf_counter() - start, done, error, (*job.notes, *notes))


def _done(job: Job, reporting: Reporting) -> tuple[Done | None, str | None]:
    """What the job made, or one sentence."""
    try:
        return job.run(), None
    except JobError as failure:
        return None, str(failure)
    except OSError as failure:
        return None, f"{job.source}: the results cannot be written: {failure.strerror or failure}" + (
            f" ({failure.filename})." if failure.filename else "."
        )
    except MemoryError:
        return None, f"{job.source}: there is not enough memory for this photo; scale it down first."
    except Exception as failure:  # a bug of ours must not take the other photos with it
        if reporting.traceback:
            traceback.print_exc()
        return None, (
            f"{job.source}: an unexpected {type(failure).__name__} ({_one_line(failure)}) stopped this one; "
            "--traceback shows where, and a report of it is welcome."
        )


def _report(outcomes: Sequence[Outcome], reporting: Reporting) -> None:
    done = [outcome for outcome in outcomes if outcome.done]
    failures = [outcome.error for outcome in outcomes if outcome.error]
    if done and not reporting.quiet:
        _print_table(done, to_stderr=reporting.json)
    if not reporting.quiet:
        _print_notes(outcomes)
    if len(outcomes) > 1 and failures:
        print(f"{len(failures)} of {len(outcomes)} failed:", file=sys.stderr)
    for error in failures:
        print(_shown(f"error: {error}"), file=sys.stderr)


def _print_notes(outcomes: Sequence[Outcome]) -> None:
    """Each once, with the source's name where the sentence does not have it."""
    said = (
        note if str(outcome.source) in note else f"{outcome.source}: {note}"
        for outcome in outcomes
        for note in outcome.notes
    )
    for note in dict.fromkeys(said):
        print(_shown(f"note: {note}"), file=sys.stderr)


def _print_table(done: Sequence[Outcome], *, to_stderr: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("file", overflow="fold")
    table.add_column("people", justify="right")
    table.add_column("error", justify="right")
    table.add_column("seconds", justify="right")
    table.add_column("results", overflow="fold")
    names = {outcome.source.name for outcome in done}
    for outcome in done:
        assert outcome.done is not None
        # Folders are named where they are needed to tell files apart.
        name = outcome.source.name if len(names) == len(done) else str(outcome.source)
        cells = (
            name, str(outcome.done.people), _error(outcome.done.reprojection), f"{outcome.seconds:.2f}",
            _brief(outcome.done.outputs),
        )  # fmt: skip
        table.add_row(*(Text(_shown(cell)) for cell in cells))
    table_console(stderr=to_stderr).print(table)


def _error(found: "Reprojection | None") -> str:
    """``2.1 px, 0.6 %``: how far the body misses the keypoints, and of what the person's size is."""
    return "" if found is None else f"{found.pixels:.1f} px, {100 * found.share:.1f} %"


def _brief(outputs: Sequence[Path]) -> str:
    """``results/photo.{glb,npz}``: files of one name in one line; of very many, the first."""
    if len(outputs) > _MOST_NAMED:
        return f"{outputs[0]} and {len(outputs) - 1} more"
    common = str(outputs[0])
    for path in outputs[1:]:
        while not str(path).startswith(common):
            common = common[:-1]
    endings = [str(path)[len(common) :] for path in outputs]
    return f"{common}{{{','.join(endings)}}}" if len(outputs) > 1 else common


def _shown(text: str) -> str:
    """Text that any terminal takes: file names may hold bytes that are no text, or control characters."""
    printable = "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)
    encoding = sys.stdout.encoding or "utf-8"
    return printable.encode(encoding, "backslashreplace").decode(encoding)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or "no message"
