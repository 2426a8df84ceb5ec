"""What ``kouros reconstruct`` makes of a film: animations, tables, a film to look at."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from kouros.cli.batch import Done, JobError, worst_reprojection
from kouros.cli.usage import UsageError

if TYPE_CHECKING:
    import numpy as np

    from kouros.body import BodyModel
    from kouros.cli.cameras import CameraGiven
    from kouros.data.video import Film, Part
    from kouros.export.bvh import BvhNames
    from kouros.export.rigs import RigNames
    from kouros.pipeline.following import Followed
    from kouros.pipeline.person import Person
    from kouros.pipeline.video import Video

MotionFormat = Literal["glb", "bvh", "amass", "csv", "trc", "jsonl", "usd"]
SUFFIXES = (".glb", ".npz", ".jsonl", ".overlay.mp4")
"""Of a film's files beside the JSON, whoever is in it."""


@dataclass(frozen=True)
class FilmOptions:
    """How films are reconstructed, as the command line says."""

    part: "Part"
    frame_rate: float | None
    camera: "CameraGiven"
    body: "BodyModel | None"
    max_people: int | None
    tiles: bool
    fast: bool
    smooth: bool
    overlay: bool
    side_by_side: bool
    formats: tuple[MotionFormat, ...]
    rig: "RigNames"
    bvh_names: "BvhNames"
    preview: bool
    quiet: bool


def part_of(start: float, end: float | None, every: int) -> "Part":
    """Raises UsageError where the options name no part of a film."""
    from kouros.data.video import Part

    try:
        return Part(start, end, every)
    except ValueError as error:
        raise UsageError(f"--{error}") from None


def reconstruct_film(path: Path, place: Path, reference: str, options: FilmOptions) -> Done:
    """Reconstruct one film and write all results, ``place`` and a suffix each."""
    from kouros.data.video import open_film
    from kouros.pipeline.stretches import forget_stretches, frames_kept
    from kouros.pipeline.video import reconstruct_video

    unfinished = place.with_name(f"{place.name}.unfinished")
    try:
        with _in_sentences(path), _progress(path, options.quiet) as told:
            film = open_film(path, options.part, frame_rate=options.frame_rate)
            lens = options.camera.of(film.size)
            film = film if lens.is_pinhole else replace(film, lens=lens)
            with _watched(options) as watch:
                video = reconstruct_video(
                    film,
                    camera=lens.pinhole,
                    fast=options.fast,
                    smooth=options.smooth,
                    max_people=options.max_people,
                    tiles=options.tiles,
                    body=options.body,
                    progress=told("frames"),
                    watch=watch,
                    keep=unfinished,
                )
            if not video.tracks:
                forget_stretches(unfinished)
            done = _written(path, place, reference, options, film, video, told("drawn"))
            forget_stretches(unfinished)
            return done
    except KeyboardInterrupt:
        if kept := frames_kept(unfinished):
            said = f"{path}: {kept} frames are kept in {unfinished}; the same command goes on after them."
            print(said, file=sys.stderr)
        raise


def reconstruct_live(path: Path, place: Path, options: FilmOptions) -> Done:
    """Follow people before a camera until it is interrupted, keep what it took as a film, and go on as with that one.

    Writes ``place.mp4``, without sound, beside the results.
    """
    from kouros.data.live import LiveCamera
    from kouros.data.video import VideoError, open_film
    from kouros.export.films import recording
    from kouros.pipeline.video import FAST, VideoConfig, VideoReconstructor

    film_path = place.with_name(f"{place.name}.mp4")
    with _in_sentences(path), _progress(path, options.quiet) as told, ExitStack() as ended:
        camera = ended.enter_context(closing(LiveCamera(str(path))))
        lens = options.camera.of(camera.size)
        base = FAST if options.fast else VideoConfig()
        reconstructor = VideoReconstructor(
            camera=lens.pinhole,
            max_people=options.max_people,
            tiles=options.tiles,
            body=options.body,
            config=replace(base, smooth=options.smooth),
        )
        progress = told("frames")
        with _until_interrupted(camera.stop), _watched(options) as watch, recording(film_path) as film:
            if not options.quiet:
                print(f"{path}: seen until Ctrl-C, or for as long as --end says.", file=sys.stderr)
            for frame in camera.frames(options.part):
                pixels = lens.straightened_picture(frame.pixels)
                film.add(pixels, frame.time)
                reconstructor.push(pixels[: pixels.shape[0] // 2 * 2, : pixels.shape[1] // 2 * 2], frame.time)
                if progress is not None:
                    progress(reconstructor.frames, None)
                if watch is not None:
                    watch(pixels, reconstructor.followed)
            if not reconstructor.frames:
                raise VideoError(f"{path}: the camera was interrupted before it gave a picture.")
        reconstructor.finish()
        taken = open_film(film_path)
        done = _written(path, place, film_path.name, options, taken, reconstructor.video(), told("drawn"))
        return replace(done, outputs=(film_path, *done.outputs))


def _written(
    path: Path,
    place: Path,
    reference: str,
    options: FilmOptions,
    film: "Film",
    video: "Video",
    progress: Callable[[int, int | None], None] | None,
) -> Done:
    """All results of a film."""
    from kouros.export.films import write_overlay_film
    from kouros.files import write_files

    if not video.tracks:
        raise JobError(f"{path}: nobody was found in the {len(video.times)} frames.")
    contents = {Path(f"{place}{suffix}"): data for suffix, data in film_files(video, reference, options).items()}
    written = tuple(contents)
    if options.overlay:
        over = Path(f"{place}.overlay.mp4")
        write_overlay_film(over, film, video, side_by_side=options.side_by_side, progress=progress)
        written += (over,)
    write_files(contents)
    return Done(len(video.tracks), written, worst_reprojection(_examples(video)))


@contextmanager
def _in_sentences(path: Path) -> Iterator[None]:
    """What cannot be done with a film is one sentence with its name."""
    from kouros.data.video import VideoError

    try:
        yield
    except (VideoError, ImportError, ValueError) as error:
        raise JobError(str(error) if str(path) in str(error) else f"{path}: {error}") from None


@contextmanager
def _until_interrupted(stop: Callable[[], None]) -> Iterator[None]:
    """Let an interrupt end what is seen, and not what is made of it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, lambda *_: stop())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _watched(options: FilmOptions) -> "Iterator[Callable[[np.ndarray, Sequence[Followed]], None] | None]":
    """Shows frames in a browser while they are seen, where that is wanted."""
    if not options.preview:
        yield None
        return
    from kouros.cli.preview import preview
    from kouros.export.seen import followed_picture

    with preview() as (page, opened):
        said = "is shown in the browser" if opened else "can be looked at in a browser of this computer"
        print(f"preview: what is seen {said}: {page.url}", file=sys.stderr)

        def watch(pixels: "np.ndarray", people: "Sequence[Followed]") -> None:
            seen = [(f.track, f.person.keypoints_2d, f.person.keypoint_set) for f in people]
            page.show(followed_picture(pixels, seen))

        yield watch


def film_files(video: "Video", reference: str, options: FilmOptions) -> dict[str, bytes]:
    """Contents of the files by their suffix."""
    import json

    from kouros.export.animation import animated_glb_bytes
    from kouros.export.bvh import bvh_text
    from kouros.export.motions import Motion
    from kouros.export.tracks import amass_bytes, joints_csv, json_lines, trc_text, video_arrays
    from kouros.files import npz_bytes

    world, rate, start = video.world, video.frame_rate, float(video.times[0])
    files: dict[str, bytes] = {}
    if "glb" in options.formats:
        files[".glb"] = animated_glb_bytes(video.tracks, world, options.rig, start=start)
    if "usd" in options.formats:
        from kouros.export.usd import usd_bytes

        files[".usd"] = usd_bytes(video.tracks, world, rate, options.rig, start=start)
    for track in video.tracks:
        name, motion = f".person_{track.number + 1}", Motion.of(track, world)
        joints = track.in_world(world)
        if "glb" in options.formats and len(video.tracks) > 1:
            files[f"{name}.glb"] = animated_glb_bytes([track], world, options.rig, start=start)
        if "bvh" in options.formats:
            files[f"{name}.bvh"] = bvh_text(motion, rate, options.bvh_names).encode()
        if "amass" in options.formats:
            files[f"{name}_poses.npz"] = bytes(amass_bytes(track, motion, rate))
        if "csv" in options.formats:
            files[f"{name}.csv"] = joints_csv(track, motion, joints).encode()
        if "trc" in options.formats:
            files[f"{name}.trc"] = trc_text(motion, joints, rate, f"{name[1:]}.trc").encode()
    if "jsonl" in options.formats:
        files[".jsonl"] = "".join(f"{line}\n" for line in json_lines(video)).encode()
    files[".npz"] = bytes(npz_bytes(video_arrays(video)))
    document = {
        "image": reference,  # what names the source in every results file
        "frame_rate": rate,
        "frames": len(video.times),
        "seconds": [start, float(video.times[-1])],
        "smoothed": video.smoothed,
        "focal_length_source": options.camera.source(),
        "people": [
            {
                "name": f"person_{t.number + 1}",
                "frames": len(t),
                "first": int(t.frames[0]),
                "last": int(t.frames[-1]),
                "betas": [round(float(b), 5) for b in t.betas],
                "size": round(float(world.sizes[t.number]), 4),
            }
            for t in video.tracks
        ],
    }
    files[".json"] = (json.dumps(document, indent=1) + "\n").encode()
    return files


def _examples(video: "Video") -> "list[Person]":
    """A few frames of each person, to say how well keypoints are explained."""
    from kouros.pipeline.misfit import with_reprojection

    return [with_reprojection(t.person(row)) for t in video.tracks for row in sorted({0, len(t) // 2, len(t) - 1})]


@contextmanager
def _progress(path: Path, quiet: bool) -> Iterator[Callable[[str], Callable[[int, int | None], None] | None]]:
    """Bars with frames a second and the time left, where somebody watches."""
    if quiet or not sys.stderr.isatty():
        yield lambda what: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:.1f} frames/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:

        def bar(what: str) -> Callable[[int, int | None], None]:
            task, begun = progress.add_task(f"{path.name} {what}", total=None, rate=0.0), time.perf_counter()

            def tell(done: int, total: int | None) -> None:
                progress.update(task, completed=done, total=total, rate=done / (time.perf_counter() - begun))

            return tell

        yield bar
