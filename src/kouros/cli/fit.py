"""``kouros fit``: 2D keypoints in, without a photo; the same meshes and numbers out, of one image or of a video."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from kouros.cli.batch import Done, Job, JobError, Reporting, run_jobs
from kouros.cli.keypoints import is_video, read_keypoints, read_video
from kouros.cli.reconstruct import check_focal_length, destinations_in, load_body_of, save
from kouros.cli.usage import Flag, UsageError

if TYPE_CHECKING:
    from kouros.body import BodyModel
    from kouros.export.destinations import Destinations
    from kouros.pipeline import Person
    from kouros.pipeline.sequence import FittedVideo


@dataclass(frozen=True)
class Fit:
    """Fit bodies to 2D keypoints of another detector; no photo is needed.

    For each image: NAME.glb (rigged, all people in the camera), NAME.npz and NAME.json. For each video: the same for
    every frame with people, in a folder NAME, and NAME.npz and NAME.json of the whole.
    """

    keypoints: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """OpenPose or COCO JSON files of one image each; or videos: folders with a JSON file a frame, or COCO files
    of several images."""
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
    sequence: Flag = False
    """The files are the frames of one video."""
    smooth: bool = True
    """Fit the frames of each person of a video together: one shape, and no jumps."""
    frame_rate: float = 30.0
    """Frames a second of videos; numbers missing in the names count as frames."""
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
        if not 0 < self.frame_rate < float("inf"):
            raise UsageError(f"--frame-rate must be a positive number of frames a second, not {self.frame_rate}.")
        sources = list(dict.fromkeys(self.keypoints))
        if self.sequence:
            if folders := [p for p in sources if p.is_dir()]:
                raise UsageError(f"--sequence takes the frames' files; the folder {folders[0]} is a video by itself.")
            name = sources[0].absolute().parent
            jobs = [Job(name, lambda: self._fit_video(name, sources, body, destinations))]
        else:
            jobs = [Job(p, lambda p=p: self._fit_source(p, body, destinations)) for p in sources]  # type: ignore[misc]
        return run_jobs(jobs, Reporting(self.quiet, self.json, self.traceback))

    def _fit_source(self, path: Path, body: "BodyModel | None", destinations: "Destinations") -> Done:
        if is_video(path):
            return self._fit_video(path, path, body, destinations)
        return self._fit_image(path, body, destinations)

    def _fit_video(
        self, source: Path, frames: Path | Sequence[Path], body: "BodyModel | None", destinations: "Destinations"
    ) -> Done:
        """Fit a video; ``source`` names its results."""
        from kouros.export.destinations import Destinations
        from kouros.pipeline.sequence import fit_video

        read = read_video(frames)
        try:
            video = fit_video(
                read,
                image_size=self.image_size,
                focal_length=self.focal_length,
                frame_rate=self.frame_rate,
                smooth=self.smooth,
                body=body,
            )
        except ValueError as error:
            raise JobError(f"{source}: {error}") from None
        folder = source if source.is_dir() else source.parent
        outputs = save(_video_files(video, destinations.reference_to(source)), source, destinations)
        of_frames = Destinations(outputs[0].with_suffix(""), [".npz", *(f".{name}" for name in self.format)])
        for k, name in enumerate(video.names):
            if people := video.people_of(k):
                place = folder / name
                outputs += save(self._files(people, of_frames.reference_to(place)), place, of_frames)
        return Done(len(video.tracks), outputs)

    def _fit_image(self, path: Path, body: "BodyModel | None", destinations: "Destinations") -> Done:
        from kouros.pipeline import fit

        keypoints, set_name = read_keypoints(path)
        try:
            people = fit(keypoints, set_name, image_size=self.image_size, focal_length=self.focal_length, body=body)
        except ValueError as error:
            raise JobError(f"{path}: {error}") from None
        if not people:
            raise JobError(f"{path}: the file holds no person's keypoints.")
        files = self._files(people, destinations.reference_to(path))
        return Done(len(people), save(files, path, destinations))

    def _files(self, people: "list[Person]", image: str) -> dict[str, bytes]:
        from kouros.export.bundle import result_files

        given = self.focal_length is not None
        return result_files(
            people,
            self.format,
            image=image,
            focal_source="--focal-length" if given else "none known: the image's diagonal is assumed",
        )


def _video_files(video: "FittedVideo", source: str) -> dict[str, bytes]:
    """The whole video's numbers, and who is in which frame as text."""
    import io

    import numpy as np

    buffer = io.BytesIO()
    np.savez(buffer, **video.arrays())  # type: ignore[arg-type]
    document = {
        "image": source,  # what names the source in every results file
        "frame_rate": video.frame_rate,
        "smoothed": video.smoothed,
        "frames": list(video.names),
        "people": [
            {"name": f"person_{k + 1}", "frames": [video.names[frame] for frame in track.frames]}
            for k, track in enumerate(video.tracks)
        ],
    }
    return {".npz": buffer.getvalue(), ".json": (json.dumps(document, indent=1) + "\n").encode("utf-8")}
