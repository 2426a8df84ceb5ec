"""``kouros fit``: 2D keypoints in, without a photo; the same meshes and numbers out, of one image or of a video."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from kouros.cli.batch import Done, Job, JobError, Outcome, Reporting, run_jobs, worst_reprojection
from kouros.cli.cameras import CameraGiven, camera_given, check_heights_given
from kouros.cli.keypoints import Reading, check_keypoint_set, read_video
from kouros.cli.reconstruct import destinations_in, load_body_of, save
from kouros.cli.usage import Flag, UsageError

if TYPE_CHECKING:
    from kouros.body import BodyModel
    from kouros.detection import ImageKeypoints
    from kouros.export.destinations import Destinations
    from kouros.pipeline import Person
    from kouros.pipeline.sequence import FittedVideo


@dataclass(frozen=True)
class Fit:
    """Fit bodies to 2D keypoints of another detector, or to 3D joints; no photo is needed.

    Whose files they are is told by what is in them. 3D joints are an NPZ with joints_3d (people, joints, 3): metres, x
    right, y down, z forward, NaN where one is missing. For each image: NAME.glb (rigged, all people on one floor),
    NAME.npz and NAME.json. For each film: the same for every frame with people, in a folder NAME, and NAME.npz and
    NAME.json of the whole.
    """

    keypoints: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Keypoint files of OpenPose, COCO, mmpose, AlphaPose, MediaPipe, YOLO, EasyMocap, DeepLabCut or kouros, of one
    image or of many; or films: folders with a JSON file a frame."""
    image_size: tuple[int, int] | None = None
    """Width and height, pixels, of the image that the keypoints are from, where the file does not say."""
    keypoint_set: str | None = None
    """What the points are, where their number does not tell: a name such as body25b or crowdpose14, or a .toml or .json
    file that names them by ours."""
    out: Path = Path("results")
    """Folder for the results; made where it is missing."""
    format: tuple[Literal["glb", "obj", "ply", "csv"], ...] = ("glb",)
    """Formats of the meshes, of which only GLB has a skeleton to pose; csv: a table of measures and joint angles."""
    space: Literal["world", "camera"] = "world"
    """Where the meshes stand: upright on a floor, y up, or in the camera; the frames of a film in the camera always."""
    rig: Literal["smpl", "mixamo", "vrm", "unreal"] = "smpl"
    """Whose names the bones of a GLB have."""
    focal_length: float | None = None
    """Focal length in pixels; without it the image's diagonal."""
    camera: Annotated[tuple[str, ...], tyro.conf.arg(metavar="FX FY CX CY | FILE")] = ()
    """The camera, in place of --focal-length, as for kouros reconstruct; keypoints are of the picture as it
    was taken."""
    height: tuple[float, ...] = ()
    """How tall people are, metres, in the order of the file, nan where it is not known; for images, not films."""
    body: Path | None = None
    """A licensed SMPL file (.pkl or .npz); without it the free body."""
    sequence: Flag = False
    """The files are the frames of one film, or the one file's images are."""
    smooth: bool = True
    """Fit the frames of each person of a film together: one shape, and no jumps."""
    frame_rate: float = 30.0
    """Frames a second of films; numbers missing in the names count as frames."""
    quiet: Flag = False
    """Say nothing but errors."""
    json: Flag = False
    """One line of JSON a file on standard output, for programs."""
    traceback: Flag = False
    """Show where an unexpected error came from."""

    def run(self) -> int:
        """Do it; returns the exit status."""
        if not self.keypoints:
            raise UsageError("no keypoint file is given; name files of keypoints, or folders with one a frame.")
        if self.image_size is not None and min(self.image_size) < 1:
            raise UsageError(f"--image-size must be two positive numbers of pixels, not {self.image_size}.")
        self._camera  # noqa: B018  what is wrong with it is said before anything is computed
        check_heights_given(self.height)
        check_keypoint_set(self.keypoint_set)
        body = load_body_of(self.body)
        destinations = destinations_in(self.out, self.format, overlay=False)
        if not 0 < self.frame_rate < float("inf"):
            raise UsageError(f"--frame-rate must be a positive number of frames a second, not {self.frame_rate}.")
        sources = list(dict.fromkeys(self.keypoints))
        jobs: list[Job] = []
        failed: list[Outcome] = []
        if self.sequence:
            if folders := [p for p in sources if p.is_dir()]:
                raise UsageError(f"--sequence takes the frames' files; the folder {folders[0]} is a video by itself.")
            name = sources[0] if len(sources) == 1 else sources[0].absolute().parent
            jobs = [Job(name, lambda: self._fit_video(name, sources, body, destinations))]
        else:
            for path in sources:
                self._plan(path, body, destinations, jobs, failed)
        return run_jobs(jobs, Reporting(self.quiet, self.json, self.traceback), failed=failed)

    @cached_property
    def _camera(self) -> CameraGiven:
        return camera_given(self.focal_length, self.camera)

    @property
    def _reading(self) -> Reading:
        return Reading(self.keypoint_set, self.image_size)

    def _plan(
        self,
        path: Path,
        body: "BodyModel | None",
        destinations: "Destinations",
        jobs: list[Job],
        failed: list[Outcome],
    ) -> None:
        """One job for a film, and one for each image of a file."""
        from kouros.notes import collected, note

        if path.is_dir():
            jobs.append(Job(path, lambda: self._fit_video(path, path, body, destinations)))
            return
        from kouros.pipeline.joints import holds_joints

        if holds_joints(path):
            jobs.append(Job(path, lambda: self._fit_joints(path, body, destinations)))
            return
        with collected() as notes:
            try:
                images = self._reading.images(path)
            except JobError as error:
                failed.append(Outcome(path, 0.0, None, str(error)))
                return
            somebody = [image for image in images if image.people]
            if len(somebody) < len(images) and somebody:
                note(f"{path}: {len(images) - len(somebody)} of {len(images)} images have nobody.")
        if not somebody:
            failed.append(Outcome(path, 0.0, None, f"{path}: the file holds no person's keypoints."))
        for k, image in enumerate(somebody):
            # The pictures of a file lie, as it were, in it: names of different files' pictures stay apart.
            place = path if len(images) == 1 else path / (image.name or f"{k:06}")
            run = partial(self._fit_image, place, image, body, destinations)
            jobs.append(Job(place, run, tuple(notes) if k == 0 else ()))

    def _fit_video(
        self, source: Path, frames: Path | Sequence[Path], body: "BodyModel | None", destinations: "Destinations"
    ) -> Done:
        """Fit a film; ``source`` names its results."""
        from kouros.export.destinations import Destinations
        from kouros.pipeline.sequence import fit_video

        read, size = read_video(frames, self._reading)
        try:
            video = fit_video(
                read,
                image_size=size,
                camera=self._camera.of(size),
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
                # Each frame alone would tell another up.
                files = self._files(people, of_frames.reference_to(place), "camera")
                outputs += save(files, place, of_frames)
        everybody = [person for track in video.tracks for person in track.people]
        return Done(len(video.tracks), outputs, worst_reprojection(everybody))

    def _fit_image(
        self, place: Path, image: "ImageKeypoints", body: "BodyModel | None", destinations: "Destinations"
    ) -> Done:
        from kouros.pipeline.reconstructor import default_reconstructor

        if image.size is None:
            raise JobError(f"{place} does not say how large the picture is; give --image-size WIDTH HEIGHT.")
        try:
            people = default_reconstructor(body).fit_detected(
                image.people, image_size=image.size, camera=self._camera.of(image.size), height=self.height or None
            )
        except ValueError as error:
            raise JobError(f"{place}: {error}") from None
        files = self._files(people, destinations.reference_to(place), self.space)
        return Done(len(people), save(files, place, destinations), worst_reprojection(people))

    def _fit_joints(self, path: Path, body: "BodyModel | None", destinations: "Destinations") -> Done:
        """Fit the people of a file of 3D joints."""
        from kouros.pipeline.joints import people_from_joints, read_joints

        try:
            people = people_from_joints(read_joints(path, self.keypoint_set), body)
        except ValueError as error:
            raise JobError(str(error) if str(path) in str(error) else f"{path}: {error}") from None
        except OSError as error:
            raise JobError(f"{path}: this file cannot be read ({error.strerror or error}).") from None
        files = self._files(people, destinations.reference_to(path), self.space)
        return Done(len(people), save(files, path, destinations), worst_reprojection(people))

    def _files(self, people: "Sequence[Person]", image: str, space: Literal["world", "camera"]) -> dict[str, bytes]:
        from kouros.export.bundle import result_files

        return result_files(
            people,
            self.format,
            image=image,
            focal_source=self._camera.source(),
            space=space,
            rig=self.rig,
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
