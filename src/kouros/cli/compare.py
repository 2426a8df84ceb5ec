"""``kouros compare``: several systems on one photo, as a picture with a column each and a table."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from kouros.cli.cameras import CameraGiven, camera_given
from kouros.cli.consoles import table_console
from kouros.cli.reconstruct import load_body_of
from kouros.cli.usage import Flag, UsageError
from kouros.sentences import explained
from kouros.systems.table import ready_systems

if TYPE_CHECKING:
    from kouros.pipeline import Reconstructor
    from kouros.pipeline.comparing import Comparison


@dataclass(frozen=True)
class Compare:
    """Let several systems estimate the same people of a photo.

    Writes DIR/NAME.compare.png: for each system a column with its bodies over the photo and from the side. Prints how
    far the systems' joints are apart and, where a table knows the truth, their errors.
    """

    image: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="PHOTO")]
    """The photo."""
    systems: tuple[str, ...] = field(default_factory=ready_systems)
    """Names that `kouros models list` prints, folders of training runs, or published checkpoints; without it the
    default and all papers' systems that come with weights."""
    out: Path = Path("results")
    """Folder for the picture; made where it is missing."""
    refine: Flag = False
    """Fit every system's bodies to the detected keypoints."""
    truth: Path | None = None
    """Table made by `kouros import` that knows the photo's people in space; needs kouros[train]."""
    focal_length: float | None = None
    """Focal length in pixels; without it from EXIF, else the photo's diagonal."""
    camera: Annotated[tuple[str, ...], tyro.conf.arg(metavar="FX FY CX CY | FILE")] = ()
    """The camera, in place of --focal-length, as for kouros reconstruct."""
    body: Path | None = None
    """A licensed SMPL file for the systems' bodies; without it the free body, or a run's own."""

    def run(self) -> int:
        """Do it; returns the exit status."""
        if not self.systems:
            raise UsageError("no system is given; name some by --systems.")
        if doubled := [s for i, s in enumerate(self.systems) if s in self.systems[:i]]:
            raise UsageError(f"--systems names {doubled[0]} twice; name each once.")
        lens = camera_given(self.focal_length, self.camera)
        try:
            return self._run(lens)
        except (ImportError, OSError, ValueError) as error:
            print(f"error: {explained(error)}", file=sys.stderr)
            return 1

    def _run(self, given: CameraGiven) -> int:
        from kouros.data.images import read_image
        from kouros.export.comparison import comparison_picture
        from kouros.export.pictures import png_bytes
        from kouros.files import write_file
        from kouros.pipeline.comparing import compare
        from kouros.pipeline.straightening import straightened_photo

        photo = read_image(self.image)
        systems = self._reconstructors()
        lens = given.of_photo(photo)
        seen = next(iter(systems.values())).see(photo, camera=lens)
        if not seen:
            raise ValueError(f"{self.image}: no person was found.")
        comparison = compare(systems, seen)
        errors = {} if self.truth is None else {name: self._errors(self.truth, r) for name, r in systems.items()}
        target = self.out / f"{self.image.stem}.compare.png"
        write_file(target, png_bytes(comparison_picture(straightened_photo(photo, lens).pixels, comparison.people)))
        _print(comparison, errors)
        print(f"wrote {target}")
        return 0

    def _reconstructors(self) -> "dict[str, Reconstructor]":
        from kouros.pipeline.open import reconstructor_of

        body = load_body_of(self.body)
        return {system: reconstructor_of(system, body, refine=self.refine) for system in self.systems}

    def _errors(self, truth: Path, system: "Reconstructor") -> dict[str, float]:
        """MPJPE and PA-MPJPE, millimetres, of the photo's rows."""
        from kouros.cli.sources import open_source
        from kouros.evaluation.judge import judge
        from kouros.evaluation.protocols import protocol
        from kouros.pipeline.detecting import Detecting
        from kouros.pipeline.reconstructor import default_body

        estimator = system.estimator
        if estimator.needs_keypoints:
            estimator = Detecting(estimator, system.detector)
        source, only = open_source(truth), frozenset([self.image.name])
        verdict = judge(protocol("table-3d"), source, estimator, mean_body=default_body(), only=only)
        return {measure.title: measure.factor * verdict.scores[measure.key] for measure in verdict.protocol.measures}


def _print(comparison: "Comparison", errors: dict[str, dict[str, float]]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", title="joints apart, mm", title_justify="left")
    table.add_column("system", overflow="fold")
    names, apart = list(comparison.people), comparison.distances()
    measures = list(next(iter(errors.values()), {}))
    for column in (*names, "people", *measures):
        table.add_column(column, justify="right")
    for i, name in enumerate(names):
        cells = ["" if i == j else f"{1e3 * apart[i, j]:.0f}" for j in range(len(names))]
        found = sum(person is not None for person in comparison.people[name])
        table.add_row(name, *cells, str(found), *(f"{errors[name][m]:.1f}" for m in measures))
    table_console().print(table)
