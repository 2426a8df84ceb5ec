"""``kouros fit``: 2D keypoints in, without a photo; the same meshes and numbers out."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from kouros.cli.batch import Done, Job, JobError, Reporting, run_jobs
from kouros.cli.keypoints import read_keypoints
from kouros.cli.reconstruct import check_focal_length, destinations_in, load_body_of, save
from kouros.cli.usage import Flag, UsageError

if TYPE_CHECKING:
    from kouros.body import BodyModel
    from kouros.export.destinations import Destinations


@dataclass(frozen=True)
class Fit:
    """Fit bodies to 2D keypoints of another detector; no photo is needed.

    For each file: NAME.glb (rigged, all people in the camera), NAME.npz and NAME.json.
    """

    keypoints: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """OpenPose or COCO JSON files, each of one image."""
    image_size: tuple[int, int]
    """Width and height, pixels, of the image that the keypoints are from."""
    out: Path = Path("results")
    """Folder for the results; made where it is missing."""
    format: tuple[Literal["glb", "obj", "ply"], ...] = ("glb",)
    """Formats of the meshes; only GLB has a skeleton to pose."""
    focal_length: float | None = None
    """Focal length in pixels; without it the image's diagonal."""
    body: Path | None = None
    """A licensed SMPL file (.pkl or .npz); without it the free body."""
    quiet: Flag = False
    """Say nothing but errors."""
    json: Flag = False
    """One line of JSON a file on standard output, for programs."""
    traceback: Flag = False
    """Show where an unexpected error came from."""

    def run(self) -> int:
        """Do it; returns the exit status."""
        if not self.keypoints:
            raise UsageError("no keypoint file is given; name OpenPose or COCO JSON files.")
        if min(self.image_size) < 1:
            raise UsageError(f"--image-size must be two positive numbers of pixels, not {self.image_size}.")
        check_focal_length(self.focal_length)
        body = load_body_of(self.body)
        destinations = destinations_in(self.out, self.format, overlay=False)
        sources = dict.fromkeys(self.keypoints)
        jobs = [Job(p, lambda p=p: self._fit(p, body, destinations)) for p in sources]  # type: ignore[misc]
        return run_jobs(jobs, Reporting(self.quiet, self.json, self.traceback))

    def _fit(self, path: Path, body: "BodyModel | None", destinations: "Destinations") -> Done:
        from kouros.export.bundle import result_files
        from kouros.pipeline import fit

        keypoints, set_name = read_keypoints(path)
        try:
            people = fit(keypoints, set_name, image_size=self.image_size, focal_length=self.focal_length, body=body)
        except ValueError as error:
            raise JobError(f"{path}: {error}") from None
        if not people:
            raise JobError(f"{path}: the file holds no person's keypoints.")
        given = self.focal_length is not None
        files = result_files(
            people,
            self.format,
            image=destinations.reference_to(path),
            focal_source="--focal-length" if given else "none known: the image's diagonal is assumed",
        )
        return Done(len(people), save(files, path, destinations))
