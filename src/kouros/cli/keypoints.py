"""Keypoint files as the commands take them: the pictures of a file, the frames of a film, and a photo's people."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kouros.cli.batch import JobError
from kouros.cli.usage import UsageError
from kouros.sentences import some

if TYPE_CHECKING:
    from kouros.detection import DetectedPerson, ImageKeypoints
    from kouros.pipeline.sequence import VideoFrame


@dataclass(frozen=True)
class Reading:
    """How keypoint files are to be read."""

    keypoint_set: str | None = None
    """A name of a layout, or a file that describes one."""
    image_size: tuple[int, int] | None = None
    """Of pictures whose size the file does not say, pixels."""

    def images(self, path: Path) -> "list[ImageKeypoints]":
        """The pictures of one file.

        Raises:
            JobError: the file cannot be used.
        """
        from kouros.detection import read_keypoints

        with _one_sentence(path):
            return read_keypoints(path, keypoint_set=self.keypoint_set, image_size=self.image_size)


def check_keypoint_set(name: str | None) -> None:
    """Raises UsageError where there is no such set, or its description cannot be used."""
    if name is None:
        return
    from kouros.body.layouts import layout

    try:
        layout(name)
    except ValueError as error:
        raise UsageError(f"--keypoint-set {name}: {error}") from None


def people_of_photo(path: Path, photo: Path, size: tuple[int, int], keypoint_set: str | None) -> "list[DetectedPerson]":
    """The people whom a keypoint file has for a photo; of a file of several pictures, those of the photo's name.

    Raises:
        JobError: the file cannot be used, has nobody in this photo, or is about a picture of another size.
    """
    images = Reading(keypoint_set, size).images(path)
    if len(images) > 1:
        matching = [image for image in images if image.name and Path(image.name).name == photo.name]
        if not matching:
            matching = [image for image in images if image.name and Path(image.name).stem == photo.stem]
        if not matching:
            raise JobError(f"{path}: the file has keypoints of {len(images)} images, but none is called {photo.name}.")
        images = matching
    people = images[0].people if images else []
    if not people:
        raise JobError(f"{path}: the file holds no person's keypoints.")
    if images[0].size not in (None, size):
        raise JobError(
            f"{path}: its keypoints are of a picture of {_times(images[0].size)} pixels, but {photo} has "
            f"{_times(size)}; expected those of this very picture."
        )
    return list(people)


def size_of(path: Path, images: "Sequence[ImageKeypoints]") -> tuple[int, int]:
    """The one size of a film's pictures.

    Raises:
        JobError: nothing says it, or there are several.
    """
    sizes = {image.size for image in images if image.people}
    if None in sizes:
        raise JobError(f"{path} does not say how large the picture is; give --image-size WIDTH HEIGHT.")
    if len(sizes) > 1:
        raise JobError(
            f"{path}: the frames of a film have one size, but here are {some(sorted(map(_times, sizes)))}; photos "
            "of their own are fitted without --sequence."
        )
    return next(iter(sizes)) or (0, 0)


def read_video(source: Path | Sequence[Path], reading: Reading) -> "tuple[list[VideoFrame], tuple[int, int]]":
    """The frames of a film and their size: of a folder of files, one a frame, of such files, or of one file of several
    pictures.

    Frames are in the order of the last number in their names, and missing numbers are missing frames; where not every
    name has a number of its own, the order is that of the names and no frame is missing. Files that are none of
    keypoints, or that are damaged, are named in a note and passed over.

    Raises:
        JobError: there is no frame that can be used, or two have one name.
    """
    from kouros.pipeline.sequence import VideoFrame

    files = _files(source)
    found: dict[str, ImageKeypoints] = {}
    if len(files) == 1 and not (isinstance(source, Path) and source.is_dir()):
        for k, image in enumerate(reading.images(files[0])):
            found[image.name or f"{k:06}"] = image
    else:
        found = dict(_frames(files, reading))
    numbers = {name: _frame_number(name) for name in found}
    if None in numbers.values() or len(set(numbers.values())) < len(numbers):
        numbers = {name: k for k, name in enumerate(sorted(found, key=_natural))}
    order = sorted(found, key=lambda name: numbers[name] or 0)
    place = source if isinstance(source, Path) else files[0]
    if not any(image.people for image in found.values()):
        raise JobError(f"{place}: nobody has keypoints in any of the {len(found)} frames.")
    return [VideoFrame(name, numbers[name] or 0, found[name].people) for name in order], size_of(
        place, [*found.values()]
    )


def _files(source: Path | Sequence[Path]) -> list[Path]:
    """A folder's files that may be of keypoints; hidden ones (``._x.json``, as macOS leaves them) are noted."""
    from kouros.notes import note

    if not isinstance(source, Path):
        return list(source)
    if not source.is_dir():
        return [source]
    files = sorted(p for p in source.iterdir() if p.suffix.lower() == ".json")
    hidden = [p.name for p in files if p.name.startswith(".")]
    if hidden:
        note(f"{source}: hidden files were passed over: {some(hidden)}.")
    files = [p for p in files if p.name not in hidden]
    if not files:
        raise JobError(f"{source}: the folder holds no JSON file; expected one of keypoints a frame.")
    return files


def _frames(files: Sequence[Path], reading: Reading) -> "Iterator[tuple[str, ImageKeypoints]]":
    from kouros.notes import note

    problems, names = [], set()
    for path in files:
        if path.name in names:
            raise JobError(f"{path}: there are two frames of this name; a video's frames need names of their own.")
        names.add(path.name)
        try:
            images = reading.images(path)
        except JobError as error:
            problems.append(str(error))
            continue
        if len(images) != 1:
            problems.append(f"{path}: the file holds {len(images)} images; expected keypoints of one frame.")
            continue
        yield path.name, images[0]
    if len(problems) == len(files):
        raise JobError(problems[0])
    for problem in problems:
        note(f"passed over: {problem}")


def _times(size: tuple[int, int] | None) -> str:
    return "unknown size" if size is None else f"{size[0]} x {size[1]}"


def _frame_number(name: str) -> int | None:
    """The last number in a file's name: 12 of ``walk2_000000000012_keypoints.json``."""
    digits = re.findall(r"\d+", Path(name).stem)
    return int(digits[-1]) if digits else None


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that puts ``2`` before ``10``."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


@contextmanager
def _one_sentence(path: Path) -> Iterator[None]:
    """What goes wrong with a file, as one sentence that names it."""
    try:
        yield
    except FileNotFoundError:
        raise JobError(f"{path}: there is no such keypoint file.") from None
    except OSError as error:
        raise JobError(f"{path}: this file cannot be read ({error.strerror or error}).") from None
    except ValueError as error:
        text = str(error)
        raise JobError(text if str(path) in text else f"{path}: {text}") from None
