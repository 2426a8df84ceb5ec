"""``kouros evaluate``: a system, a benchmark's protocol and a table in; the paper's table with one more row out."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from kouros.cli.consoles import table_console
from kouros.cli.outputs import check_out
from kouros.cli.reconstruct import load_body_of
from kouros.cli.sources import open_source
from kouros.cli.usage import Flag, UsageError
from kouros.sentences import explained

if TYPE_CHECKING:
    from kouros.body import BodyModel
    from kouros.data.sources import Source
    from kouros.evaluation.judge import Verdict
    from kouros.evaluation.protocols import TruthBodies
    from kouros.systems.estimator import Estimator

ProtocolName = Literal[
    "3doh", "3dpw", "3dpw-smpl24", "3dpw-smpl24-video", "3dpw-video", "densepose-coco",
    "human36m-p1-hmr", "human36m-p1-holopose",
    "human36m-p1-occlusion", "human36m-p1-spin", "human36m-p2-hmr", "human36m-p2-holopose",
    "human36m-p2-occlusion", "human36m-p2-spin", "humaneva", "lsp", "mpi-inf-3dhp", "mpii-invisible",
    "synthetic-val", "synthetic-video", "table-2d", "table-3d", "up-3d", "up-3d-vertices",
]  # fmt: skip
_SHOWN_PROBLEMS = 10


@dataclass(frozen=True)
class Evaluate:
    """Score a system by a benchmark's protocol, and print the papers' table with its row added.

    SYSTEM is what `kouros reconstruct --system` takes (told where people are), or `search` (the default, finding them
    itself), `default-video` and `default-video-fast` (the road of films: whole clips, one track a person),
    `blazepose` (the packaged detector alone), `mediapipe` (if it is installed). Every score is printed with
    the protocol's card. Needs kouros[train].
    """

    system: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SYSTEM")]
    """A name that `kouros models list` prints, search, default-video, default-video-fast, blazepose, mediapipe, the
    folder of a training run, or a published checkpoint."""
    on: ProtocolName
    """The protocol; table-3d and table-2d take any table."""
    data: Path | None = None
    """Table made by `kouros import` (.parquet), a folder with one, or, for synthetic-val, its folder; synthetic-video
    needs none."""
    out: Path | None = None
    """Folder for SYSTEM.PROTOCOL.json and .png; without it nothing is written."""
    smpl: Path | None = None
    """Folder with SMPL_FEMALE, SMPL_MALE and SMPL_NEUTRAL (.pkl or .npz), J_regressor_h36m.npy and
    J_regressor_extra.npy: for protocols whose truth is an SMPL body."""
    body: Path | None = None
    """A licensed SMPL file for the system's own bodies; without it the free body."""
    which: Literal["last", "best"] = "last"
    """Of a training run: its newest weights, or its best by validation."""
    refine: Flag = False
    """Fit the system's bodies to the detected keypoints."""
    images: Path | None = None
    """A text file of picture names, one a line: no others are scored (such as UP-3D's namesUPlsp.txt)."""
    people: int | None = None
    """Score only so many, evenly spread; a trial, not the benchmark's score."""
    json: Flag = False
    """Print the JSON instead of the table."""

    def run(self) -> int:
        """Do it; returns the exit status."""
        if self.people is not None and self.people < 1:
            raise UsageError(f"--people must be at least 1, not {self.people}.")
        if self.out is not None:
            check_out(self.out)
        try:
            return self._run()
        except (ImportError, OSError, ValueError) as error:
            print(f"error: {explained(error)}", file=sys.stderr)
            return 1

    def _run(self) -> int:
        from kouros.evaluation.judge import judge
        from kouros.evaluation.protocols import protocol
        from kouros.evaluation.reports import json_bytes, report
        from kouros.pipeline.reconstructor import default_body

        chosen = protocol(self.on)
        source = source_for(self.data, self.on)
        estimator = estimator_of(self.system, load_body_of(self.body), self.which, refine=self.refine)
        verdict = judge(
            chosen,
            source,
            estimator,
            mean_body=default_body(),
            truth=truth_bodies(self.smpl),
            only=None if self.images is None else names_in(self.images),
            people=self.people,
            progress=_progress(),
        )
        data = json_bytes(verdict, ["kouros", *sys.argv[1:]])
        if self.json:
            sys.stdout.write(data.decode())
        else:
            table_console().print(report(verdict))
        for problem in verdict.unreadable[:_SHOWN_PROBLEMS]:
            print(f"unreadable: {problem.image}: {problem.why}", file=sys.stderr)
        self._write(verdict, data)
        return 1 if verdict.unreadable else 0

    def _write(self, verdict: "Verdict", data: bytes) -> None:
        from kouros.evaluation.plots import plot_bytes
        from kouros.files import write_file

        if self.out is None:
            return
        stem = f"{Path(self.system).name or 'system'}.{self.on}"
        written = [self.out / f"{stem}.json"]
        write_file(written[0], data)
        try:
            write_file(self.out / f"{stem}.png", plot_bytes(verdict))
            written.append(self.out / f"{stem}.png")
        except ImportError as error:
            print(f"no plot: {error}", file=sys.stderr)
        if not self.json:
            print("written: " + ", ".join(map(str, written)))


def source_for(path: Path | None, protocol: str) -> "Source":
    """The samples that ``--data`` names; the packaged ones are made there on first use, or drawn when asked for.

    Raises:
        UsageError: nothing is named, a folder with no table, or with several.
    """
    if protocol == "synthetic-video":
        if path is not None:
            raise UsageError("synthetic-video's clips come with kouros; leave --data out.")
        from kouros.data.synthetic.clips import SyntheticVideo

        return SyntheticVideo()
    if path is None:
        raise UsageError(f"--data is missing: {protocol} needs a table that `kouros import` made, or its folder.")
    if protocol == "synthetic-val" and (not path.exists() or (path.is_dir() and not list(path.glob("*.parquet")))):
        from kouros.data.synthetic import synthetic_val

        return synthetic_val(path)
    return open_source(path)


def estimator_of(
    name: str, body: "BodyModel | None", which: Literal["last", "best"] = "last", *, refine: bool = False
) -> "Estimator":
    """The estimator that SYSTEM names, shown photos: where it starts from keypoints, the detector looks first.

    Raises:
        ValueError: there is no such system, or it cannot be had.
        ImportError: it needs a package that is not installed.
    """
    if name in ("default-video", "default-video-fast"):
        from kouros.pipeline.filmed import Filmed
        from kouros.pipeline.reconstructor import default_body

        if refine:
            raise UsageError("--refine is for photos; films are fitted as they are.")
        return Filmed(name.endswith("fast"), body or default_body())
    from kouros.detection import default_detector
    from kouros.pipeline.detecting import Detecting, Searching
    from kouros.pipeline.open import open_estimator

    searching = name == "search"
    estimator = open_estimator("default" if searching else name, body, which=which, refine=refine)
    if searching:
        return Searching(estimator, default_detector())
    return Detecting(estimator, default_detector()) if estimator.needs_keypoints else estimator


def truth_bodies(folder: Path | None) -> "TruthBodies":
    """SMPL's models in a folder.

    Raises:
        UsageError: the folder holds none.
    """
    from kouros.body import load_body
    from kouros.evaluation.protocols import TruthBodies

    if folder is None:
        return TruthBodies()
    bodies = {}
    for gender in ("female", "male", "neutral"):
        files = [folder / f"SMPL_{gender.upper()}{suffix}" for suffix in (".npz", ".pkl")]
        present = [f for f in files if f.is_file()]
        if present:
            bodies[gender] = load_body(present[0])
    if not bodies:
        raise UsageError(f"--smpl {folder}: expected SMPL_NEUTRAL, SMPL_FEMALE or SMPL_MALE (.pkl or .npz) in it.")
    charts = folder / "UV_Processed.mat"
    return TruthBodies(bodies, str(charts) if charts.is_file() else None)


def names_in(path: Path) -> frozenset[str]:
    """The lines of a list of pictures, without a leading slash.

    Raises:
        UsageError: the list is empty or cannot be read as text.
    """
    try:
        names = frozenset(line.strip().lstrip("/") for line in path.read_text().splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--images {path}: this list cannot be read ({error}).") from None
    if not names:
        raise UsageError(f"--images {path}: the list is empty.")
    return names


def _progress():  # type: ignore[no-untyped-def]
    """Tells a terminal how far it is; elsewhere nothing."""
    if not sys.stderr.isatty():
        return None

    def tell(done: int, of: int) -> None:
        print(f"\r{done} of {of} people", end="" if done < of else "\n", file=sys.stderr, flush=True)

    return tell
