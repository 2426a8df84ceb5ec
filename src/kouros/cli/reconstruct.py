"""``kouros reconstruct``: photos and films in; rigged and animated meshes, numbers and overlay pictures out."""

import sys
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property, lru_cache, partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from kouros.cli.batch import Done, Job, JobError, Outcome, Reporting, follow, run_job, worst_reprojection
from kouros.cli.cameras import CameraGiven, camera_given, check_heights_given
from kouros.cli.films import (
    SUFFIXES,
    FilmOptions,
    MotionFormat,
    part_of,
    reconstruct_film,
    reconstruct_live,
)
from kouros.cli.keypoints import check_keypoint_set, people_of_photo
from kouros.cli.outputs import check_out
from kouros.cli.usage import Flag, UsageError
from kouros.cli.workers import in_processes
from kouros.notes import collected

if TYPE_CHECKING:
    from kouros.body import BodyModel
    from kouros.export.destinations import Destinations
    from kouros.pipeline import Reconstructor


@dataclass(frozen=True)
class Reconstruct:
    """Find the people in photos and films and write posed, shaped 3D bodies of them.

    For each photo: NAME.glb (rigged, all people on one floor, with the photo's camera), NAME.overlay.png, NAME.npz
    and NAME.json; of a system that maps the skin or its parts (holopose, nbf), NAME.seen.png with what it saw.
    For each film (mp4, mov, mkv, avi, webm, a GIF that moves; with --fps a folder of numbered pictures):
    NAME.glb (animated), NAME.person_1.bvh, NAME.person_1_poses.npz (as AMASS has them), NAME.person_1.csv, NAME.jsonl,
    NAME.npz, NAME.json and NAME.overlay.mp4. A camera that is plugged in is a film until Ctrl-C.
    """

    images: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PHOTO|FILM|CAMERA")]
    """Photos, folders of photos (sub-folders are not searched), films; or a camera alone: 0, or the name of a
    device."""
    out: Path = Path("results")
    """Folder for the results; made where it is missing."""
    format: tuple[Literal["glb", "obj", "ply", "csv"], ...] = ("glb",)
    """Formats of the meshes, of which only GLB has a skeleton to pose; csv: a table of measures and joint angles."""
    space: Literal["world", "camera"] = "world"
    """Where the meshes stand: upright on a floor, y up, or in the photo's camera."""
    rig: Literal["smpl", "mixamo", "vrm", "unreal"] = "smpl"
    """Whose names the bones of a GLB have."""
    only_seen: Flag = False
    """Leave out of a photo's meshes what the photo does not show (the bones stay)."""
    colors: Literal["grey", "photo"] = "grey"
    """Of meshes: neutral, or the photo's where it shows the person."""
    overlay: bool = True
    """Draw the people over the photo, with a view from the side."""
    tiles: bool = True
    """Search overlapping parts of the photo too, which finds small people."""
    max_people: int | None = None
    """Keep only so many, the largest."""
    keypoints: Path | None = None
    """2D keypoints of another detector (as `kouros fit` reads them), in place of the built-in one; for one photo, or a
    file that has photos by their names."""
    keypoint_set: str | None = None
    """What they are, where their number does not tell: a name such as body25b, or a .toml or .json file that
    names them."""
    boxes: tuple[tuple[float, float, float, float], ...] = ()
    """Where people are, in place of the person detector: x0 y0 x1 y1 in pixels each; for one photo."""
    focal_length: float | None = None
    """Focal length in pixels; without it from EXIF, else the photo's diagonal."""
    camera: Annotated[tuple[str, ...], tyro.conf.arg(metavar="FX FY CX CY | FILE")] = ()
    """The camera, in place of --focal-length: four numbers in pixels of the photo, or a file of OpenCV's (YAML, XML,
    JSON) or Pose2Sim's (TOML; of several cameras FILE#NAME). If it distorts, results are of the straightened photo."""
    height: tuple[float, ...] = ()
    """How tall people are, metres, from left to right (or as --boxes has them), nan where it is not known; without it,
    size and distance are assumed."""
    system: str = "default"
    """Who estimates the bodies: a name that `kouros models list` prints, the folder of a training run, or a published
    checkpoint."""
    which: Literal["last", "best"] = "last"
    """Of a training run: its newest weights, or its best by validation."""
    refine: Flag = False
    """Fit the system's bodies to the detected keypoints (the default's are)."""
    dense: Flag = False
    """Fit them also to the map of their skin that HoloPose draws (DensePose)."""
    parts: Path | None = None
    """A part map that another parser made of the photo (PNG of labels, or in its palette), for a system that looks at
    parts (nbf), in place of its own; for one photo."""
    parts_format: str = "parts12"
    """How that map numbers the parts: lip, atr, pascal, bodypix, or one of ours (parts12, parts24, ...)."""
    body: Path | None = None
    """A licensed SMPL file (.pkl or .npz); without it the free body, or the run's."""
    fps: float | None = None
    """Pictures a second: folders are films then; of a film, in place of what its file says."""
    start: float = 0.0
    """Of films, seconds from which on they count."""
    end: float | None = None
    """Of films, seconds at which they end."""
    every: int = 1
    """Of films, take every so-manyth frame."""
    fast: Flag = False
    """Look once at each person, and search no parts of a photo: quicker, less exact; small people are missed."""
    smooth: bool = True
    """Of films, fit each person's frames together: one shape, no jumps, feet that stand."""
    motion: tuple[MotionFormat, ...] = ("glb", "bvh", "amass", "csv", "jsonl")
    """Of films, formats of the motion; trc is OpenSim's markers; usd (UsdSkel) needs kouros[usd]."""
    bvh_names: Literal["smpl", "mixamo", "cmu", "vrm", "unreal"] = "smpl"
    """Of films, whose names the joints of a BVH have."""
    side_by_side: Flag = False
    """Of films, show the people from their left beside the overlay."""
    preview: Flag = False
    """Of films and cameras, show what is seen, while it is seen, in a browser."""
    skip_existing: Flag = False
    """Leave photos alone whose results are all there already."""
    workers: int = 1
    """Processes that share the photos, each with one thread; worth it for many photos."""
    quiet: Flag = False
    """Say nothing but errors."""
    json: Flag = False
    """One line of JSON a photo on standard output, for programs."""
    traceback: Flag = False
    """Show where an unexpected error came from."""

    def run(self) -> int:
        """Do it; returns the exit status."""
        self._check()
        from kouros.data.images import ImageError, find_images
        from kouros.data.live import is_live
        from kouros.data.video import is_film

        if any(is_live(path) for path in self.images):
            return self._run_live()

        films = [p for p in dict.fromkeys(self.images) if (p.is_dir() and self.fps is not None) or is_film(p)]
        if films:
            self._check_films()
        sources: dict[Path, tuple[str, ...]] = {}
        failed = []
        for path in (p for p in self.images if p not in films):
            with collected() as notes:
                try:
                    found = find_images([path])
                except ImageError as error:
                    found = []
                    failed.append(Outcome(path, 0.0, None, str(error)))
            sources.update({p: tuple(notes) if k == 0 else () for k, p in enumerate(found) if p not in sources})
            if failed and failed[-1].source == path:
                failed[-1] = replace(failed[-1], notes=tuple(notes))
        if (self.boxes or self.parts) and len(sources) + len(failed) > 1:
            option = "--boxes" if self.boxes else "--parts"
            raise UsageError(f"{option} belongs to one photo, but {len(sources)} are given; name one photo.")
        destinations = destinations_in(self.out, self.format, overlay=self.overlay)
        photos = [_Photo(path, destinations.name_for(path), notes) for path, notes in sources.items()]
        if self.skip_existing:
            photos, all_photos = [p for p in photos if not destinations.are_there(p.name)], photos
            if len(photos) < len(all_photos) and not self.quiet:
                there = f"{len(all_photos) - len(photos)} of {len(all_photos)} photos"
                print(f"note: {there} have their results in {self.out} already.", file=sys.stderr)
        reporting = Reporting(self.quiet, self.json, self.traceback)
        workers = 1 if self.parts else min(self.workers, len(photos))
        if workers > 1:
            outcomes = in_processes(partial(_in_this_process, self), photos, workers, _lost)
        else:
            reconstructor = None if self.parts or not photos else self._reconstructor()
            outcomes = (self._outcome(photo, reconstructor, destinations) for photo in photos)
        alone = not photos and len(films) == 1  # then there is room for the frames' own progress
        moving = (self._film_outcome(film, alone, reporting) for film in films)
        return follow([*(p.path for p in photos), *films], chain(outcomes, moving), reporting, failed=failed)

    def _run_live(self) -> int:
        self._check_films()
        if len(self.images) > 1:
            raise UsageError(f"a camera is seen alone, but {len(self.images)} sources are given; name the camera only.")
        if self.fps is not None or self.start:
            raise UsageError(
                f"{'--fps' if self.fps is not None else '--start'} is for films; a camera is seen as it is."
            )
        (path,) = self.images
        reporting = Reporting(self.quiet, self.json, self.traceback)
        # Never another time's: a film that was taken cannot be taken again.
        place = self.out / datetime.now().strftime("camera_%Y%m%d_%H%M%S")
        run = partial(reconstruct_live, path, place, self._film_options(quiet=self.quiet or self.json))
        return follow([path], (run_job(job, reporting) for job in [Job(path, run)]), reporting)

    def _film_outcome(self, path: Path, alone: bool, reporting: Reporting) -> Outcome:
        from kouros.export.destinations import Destinations

        destinations = Destinations(self.out, SUFFIXES)
        options = self._film_options(quiet=self.quiet or self.json or not alone)
        place = self.out / destinations.name_for(path)
        run = partial(reconstruct_film, path, place, destinations.reference_to(path), options)
        return run_job(Job(path, run), reporting)

    def _film_options(self, *, quiet: bool) -> FilmOptions:
        return FilmOptions(
            part=part_of(self.start, self.end, self.every),
            frame_rate=self.fps,
            camera=self._camera,
            body=load_body_of(self.body),
            max_people=self.max_people,
            tiles=self.tiles,
            fast=self.fast,
            smooth=self.smooth,
            overlay=self.overlay,
            side_by_side=self.side_by_side,
            formats=self.motion,
            rig=self.rig,
            bvh_names=self.bvh_names,
            preview=self.preview,
            quiet=quiet,
        )

    def _check_films(self) -> None:
        part_of(self.start, self.end, self.every)
        if self.fps is not None and not 0 < self.fps < float("inf"):
            raise UsageError(f"--fps must be a positive number of frames a second, not {self.fps}.")
        of_photos = {
            "--keypoints": self.keypoints, "--boxes": self.boxes, "--parts": self.parts, "--height": self.height,
            "--refine": self.refine, "--dense": self.dense, "--only-seen": self.only_seen,
            "--system": self.system != "default",
        }  # fmt: skip
        if given := [name for name, value in of_photos.items() if value]:
            raise UsageError(f"{given[0]} is for photos; films are followed by the default system.")

    def _outcome(self, photo: "_Photo", reconstructor: "Reconstructor | None", destinations: "Destinations") -> Outcome:
        run = partial(self._reconstruct, photo, reconstructor, destinations)
        return run_job(Job(photo.path, run, photo.notes), Reporting(self.quiet, self.json, self.traceback))

    def _check(self) -> None:
        if not self.images:
            raise UsageError("no photo or film is given; name photos, folders of photos, or films.")
        if self.keypoints and self.boxes:
            raise UsageError("--keypoints and --boxes both say where the people are; give one of them.")
        if self.workers < 1:
            raise UsageError(f"--workers must be at least 1, not {self.workers}.")
        if self.dense and self.parts:
            raise UsageError("--dense and --parts both say what the skin looks like; give one of them.")
        if self.max_people is not None and self.max_people < 1:
            raise UsageError(f"--max-people must be at least 1, not {self.max_people}.")
        self._camera  # noqa: B018  what is wrong with it is said before anything is computed
        check_heights_given(self.height)
        check_keypoint_set(self.keypoint_set)

    @cached_property
    def _camera(self) -> CameraGiven:
        return camera_given(self.focal_length, self.camera)

    def _reconstructor(self) -> "Reconstructor":
        body = load_body_of(self.body)
        if self.system == "default" and not self.refine and not self.dense:
            from kouros.pipeline.reconstructor import default_reconstructor

            try:
                return default_reconstructor(body)
            except ValueError as error:
                raise UsageError(f"--body {self.body}: {error}") from None
        from kouros.pipeline.open import reconstructor_of

        try:
            return reconstructor_of(self.system, body, which=self.which, refine=self.refine, dense=self.dense)
        except (OSError, ValueError) as error:
            raise UsageError(f"--system {self.system}: {error}") from None

    def _on_parts(self, size: tuple[int, int]) -> "Reconstructor":
        from kouros.pipeline.open import reconstructor_on_parts

        assert self.parts is not None
        body, how = load_body_of(self.body), (self.parts, self.parts_format, size)
        try:
            return reconstructor_on_parts(self.system, *how, body, which=self.which, refine=self.refine)
        except OSError as error:
            raise JobError(f"--parts {self.parts}: this file cannot be read ({error.strerror or error}).") from None
        except ValueError as error:
            raise JobError(f"--parts: {error}") from None

    def _reconstruct(
        self, named: "_Photo", reconstructor: "Reconstructor | None", destinations: "Destinations"
    ) -> Done:
        import numpy as np

        from kouros.data.images import ImageError, read_image

        path = named.path
        try:
            photo = read_image(path)
        except ImageError as error:
            raise JobError(str(error)) from None
        if reconstructor is None:
            reconstructor = self._on_parts(photo.size)
        people_given = None
        if self.keypoints:
            people_given = people_of_photo(self.keypoints, path, photo.size, self.keypoint_set)
        boxes = np.array(self.boxes) if self.boxes else None
        try:
            lens = self._camera.of_photo(photo)
            people = reconstructor.reconstruct(
                photo,
                detected=people_given,
                boxes=boxes,
                camera=lens,
                height=self.height or None,
                max_people=self.max_people,
                tiles=self.tiles,
                fast=self.fast,
            )
        except ValueError as error:
            raise JobError(f"{path}: {error}") from None
        if not people:
            raise JobError(f"{path}: no person was found; try --boxes to say where one is, or a larger photo.")
        from kouros.export.bundle import result_files
        from kouros.pipeline.straightening import straightened_photo

        pixels = straightened_photo(photo, lens).pixels if self.overlay or self.colors == "photo" else None
        files = result_files(
            people,
            self.format,
            pixels=pixels if self.overlay else None,
            image=destinations.reference_to(path),
            focal_source=self._camera.source(photo.focal_source),
            space=self.space,
            rig=self.rig,
            only_seen=self.only_seen,
            coloured_by=pixels if self.colors == "photo" else None,
        )
        return Done(len(people), write(files, destinations.folder / named.name), worst_reprojection(people))


@dataclass(frozen=True)
class _Photo:
    """One of a run's photos."""

    path: Path
    name: str
    """Of its results."""
    notes: tuple[str, ...]
    """What there was to say before it."""


def _in_this_process(command: Reconstruct, photo: _Photo) -> Outcome:
    """One photo, in one of several processes."""
    return command._outcome(photo, *_prepared(command))


@lru_cache(maxsize=1)
def _prepared(command: Reconstruct) -> tuple["Reconstructor", "Destinations"]:
    return command._reconstructor(), destinations_in(command.out, command.format, overlay=command.overlay)


def _lost(photo: _Photo) -> Outcome:
    return Outcome(
        photo.path,
        0.0,
        None,
        f"{photo.path}: the process that did this photo ended of a sudden, perhaps for want of memory; try fewer "
        "--workers.",
    )


def load_body_of(path: Path | None) -> "BodyModel | None":
    """The body that ``--body`` names; None stands for the free body.

    Raises:
        UsageError: the file cannot be used; without it nothing can be done.
    """
    if path is None:
        return None
    from kouros.body import load_body

    try:
        return load_body(path)
    except FileNotFoundError:
        raise UsageError(f"--body {path}: there is no such file.") from None
    except OSError as error:
        raise UsageError(f"--body {path}: this file cannot be read ({error.strerror or error}).") from None
    except ValueError as error:
        text = str(error)
        raise UsageError(text if str(path) in text else f"--body {path}: {text}") from None


def destinations_in(out: Path, formats: tuple[str, ...], *, overlay: bool) -> "Destinations":
    """Names for the results in ``--out``.

    Raises:
        UsageError: ``--out`` is something else than a folder, or nothing can be written there.
    """
    from kouros.export.destinations import Destinations

    check_out(out)
    suffixes = [".npz", *(f".{name}" for name in formats), *([".overlay.png", ".seen.png"] if overlay else [])]
    return Destinations(out, suffixes)


def save(files: dict[str, bytes], source: Path, destinations: "Destinations") -> tuple[Path, ...]:
    """Write the results of one source, all or none; returns where they are."""
    return write(files, destinations.folder / destinations.name_for(source))


def write(files: dict[str, bytes], place: Path) -> tuple[Path, ...]:
    """Write the files whose names are ``place`` and a suffix, all or none; returns where they are."""
    from kouros.files import write_files

    contents = {place.with_name(place.name + suffix): data for suffix, data in files.items()}
    write_files(contents)
    return tuple(contents)
