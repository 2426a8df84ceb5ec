"""Reading films: upright RGB frames one after the other, each with its time; never more than one is held.

PyAV decodes (the ``video`` extra), so mp4, mov, mkv, avi, webm and gif are read alike. Numbered pictures in a folder
are a film too, once somebody says how fast they were taken. Films come from strangers: what can be decoded is, the rest
is said in a note, and a file that is no film ends in a `VideoError` of one sentence.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from jaxtyping import UInt8

from kouros.data.calibration import Calibration
from kouros.data.images import MAX_PIXELS, MIN_SIDE, ImageError, find_images, read_image
from kouros.notes import note
from kouros.sentences import first_line, some

if TYPE_CHECKING:
    from fractions import Fraction

    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".avi", ".webm", ".mkv", ".mpg", ".mpeg", ".ts", ".mts", ".wmv", ".flv", ".3gp", ".ogv"}
)
"""What is taken for a film by its name; a GIF is one if it moves."""
_RATES = (0.01, 1000.0)
"""Frames a second between which a file's own word is believed."""
_UNKNOWN_RATE = 30.0
_SAME_SHAPE = 0.02
"""By how much the ratio of the sides may change within a film."""
_END = 2**16
_CUT = 1.5
"""Frames that may be missing at the end without a word."""


class VideoError(ValueError):
    """A film that cannot be used; the message is one sentence for the person who named it."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a film."""

    pixels: UInt8[np.ndarray, "height width 3"]
    """RGB, upright, square pixels."""
    time: float
    """Seconds since the film's beginning, whatever of it is read; increasing."""
    name: str
    """Of the picture's file, or the frame's time."""


@dataclass(frozen=True)
class Part:
    """Which frames of a film are wanted."""

    start: float = 0.0
    """Seconds."""
    end: float | None = None
    """Seconds; None: to the last frame."""
    every: int = 1
    """Take every so-manyth frame."""

    def __post_init__(self) -> None:
        if not (isfinite(self.start) and self.start >= 0):
            raise ValueError(f"start must be a number of seconds, at least 0, not {self.start}.")
        if self.end is not None and not self.end > self.start:
            raise ValueError(f"end must come after start ({self.start} s), not at {self.end} s.")
        if self.every < 1:
            raise ValueError(f"every must be at least 1, not {self.every}.")


@dataclass(frozen=True)
class Film:
    """A film that can be read, any number of times."""

    path: Path
    size: tuple[int, int]
    """Width and height of its frames, pixels."""
    frame_rate: float
    """Frames a second that `frames` gives, on average."""
    length: int | None
    """About how many; None: the file does not say."""
    part: Part
    pictures: tuple[Path, ...] | None = None
    """Of a folder: its files in order."""
    given_rate: float | None = None
    """Frames a second, all of them, that the user said in place of the file."""
    lens: Calibration | None = None
    """Of the camera; where it distorts, frames come as a pinhole would have taken them."""

    @property
    def fingerprint(self) -> str:
        """Tells the film, and the part of it, from any other: files by size, time of change and, of one, both ends."""
        said: list[object] = [self.path.resolve(), self.part, self.frame_rate, self.given_rate, self.lens]
        for file in self.pictures or (self.path,):
            found = file.stat()
            said += [file.name, found.st_size, found.st_mtime_ns]
        if self.pictures is None:
            with self.path.open("rb") as stream:
                said.append(sha256(stream.read(_END)).hexdigest())
                stream.seek(max(0, self.path.stat().st_size - _END))
                said.append(sha256(stream.read(_END)).hexdigest())
        return repr(said)

    def frames(self) -> Iterator[Frame]:
        """The frames of the part, in order; what could not be read is said in notes at the end.

        A frame of another size but the same shape is scaled to the first one's; where the shape changes, the film ends.
        """
        damage: list[str] = []
        if self.pictures is None:
            found: Iterable[Frame] = _decoded(self.path, self.part, damage, self.given_rate)
        else:
            found = _read(self.pictures, self.frame_rate * self.part.every, damage)
        last, kept, scaled = -np.inf, 0, False
        for frame in found:
            if self.part.end is not None and frame.time >= self.part.end:
                break
            if frame.time < self.part.start or frame.time <= last:
                continue
            last = frame.time
            kept += 1
            if (kept - 1) % self.part.every:
                continue
            pixels = frame.pixels
            if (pixels.shape[1], pixels.shape[0]) != self.size:
                if not self._has_shape(pixels):
                    damage.append(
                        f"the picture changes from {self.size[0]} x {self.size[1]} to {pixels.shape[1]} x "
                        f"{pixels.shape[0]} pixels after {frame.time:.2f} s; what follows was not read"
                    )
                    break
                scaled = True
                pixels = np.asarray(cv2.resize(pixels, self.size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
            if self.lens is not None:
                pixels = self.lens.straightened_picture(pixels)
            yield Frame(pixels, frame.time, frame.name)
        if scaled:
            damage.append(f"frames of other sizes were scaled to {self.size[0]} x {self.size[1]} pixels")
        if damage:
            note(f"{self.path}: {'; '.join(damage)}.")

    def _has_shape(self, pixels: np.ndarray) -> bool:
        ratio = pixels.shape[1] / pixels.shape[0] * self.size[1] / self.size[0]
        return abs(ratio - 1) <= _SAME_SHAPE


def open_film(path: str | Path, part: Part | None = None, *, frame_rate: float | None = None) -> Film:
    """A film's size and rate, and the way to its frames.

    Args:
        path: a file, or a folder of numbered pictures.
        part: which frames are wanted; default: all.
        frame_rate: pictures a second of a folder, which must be given; for a file, in place of what it says.

    Raises:
        VideoError: there is no such film, it cannot be decoded, or the part has no frame.
        ImportError: PyAV is missing.
    """
    path, part = Path(path), part or Part()
    if frame_rate is not None and not (isfinite(frame_rate) and frame_rate > 0):
        raise VideoError(f"{path}: the frame rate must be a positive number of frames a second, not {frame_rate}.")
    if path.is_dir():
        if frame_rate is None:
            raise VideoError(f"{path}: a folder of pictures does not say how fast they were taken; give --fps.")
        film = _folder(path, part, frame_rate)
    else:
        film = _file(path, part, frame_rate)
    width, height = film.size
    if width * height > MAX_PIXELS or min(film.size) < MIN_SIDE:
        raise VideoError(f"{path}: frames of {width} x {height} pixels cannot be used; scale the film first.")
    return film


def is_film(path: Path) -> bool:
    """Whether a file is to be read as a film: by its name; a GIF, if it has more than one picture."""
    if path.suffix.lower() != ".gif":
        return path.suffix.lower() in VIDEO_SUFFIXES
    try:
        from kouros.data.images import open_picture

        with open_picture(path) as image:
            return bool(getattr(image, "is_animated", False))
    except OSError:
        return False


# --- Folders ---------------------------------------------------------------------------------------------------


def _folder(path: Path, part: Part, rate: float) -> Film:
    try:
        pictures = tuple(find_images([path]))
    except ImageError as error:
        raise VideoError(str(error)) from None
    first = next(iter(_read(pictures, rate, [])), None)
    if first is None:
        raise VideoError(f"{path}: none of the folder's {len(pictures)} pictures can be read.")
    size = first.pixels.shape[1], first.pixels.shape[0]
    length = len(range(0, _frames_in(part, len(pictures) / rate, rate), part.every))
    if not length:
        raise VideoError(_nothing_left(path, part))
    return Film(path, size, rate / part.every, length, part, pictures)


def _read(pictures: tuple[Path, ...], rate: float, damage: list[str]) -> Iterator[Frame]:
    broken = []
    for number, file in enumerate(pictures):
        try:
            photo = read_image(file)
        except ImageError:
            broken.append(file.name)
            continue
        yield Frame(photo.pixels, number / rate, file.stem)
    if broken:
        damage.append(f"{len(broken)} of {len(pictures)} pictures cannot be read ({some(broken)}) and were left out")


# --- Files -----------------------------------------------------------------------------------------------------


def pyav() -> Any:
    """The module that reads and writes films, silent.

    Raises:
        ImportError: it is missing.
    """
    try:
        import av
    except ImportError:
        raise ImportError("Reading and writing films needs PyAV: pip install 'kouros[video]'.") from None
    av.logging.set_level(None)  # ffmpeg would print to the terminal what is said here in one sentence
    return av


def _file(path: Path, part: Part, given_rate: float | None) -> Film:
    with _opened(path) as container:
        stream = _stream_of(container, path)
        said = next((float(r) for r in (stream.average_rate, stream.guessed_rate) if r), _UNKNOWN_RATE)
        rate = said if _RATES[0] <= said <= _RATES[1] else _UNKNOWN_RATE
        seconds = _seconds_of(container, stream)
    frame = next(_decoded(path, Part(), [], given_rate), None)
    if frame is None:
        raise VideoError(f"{path}: the film has no frame that can be decoded.")
    if (part.start or part.end is not None) and next(_decoded(path, part, [], given_rate), None) is None:
        raise VideoError(_nothing_left(path, part))
    rate = given_rate or rate
    size = frame.pixels.shape[1], frame.pixels.shape[0]
    length = None if seconds is None else -(-_frames_in(part, seconds, rate) // part.every)
    return Film(path, size, rate / part.every, length, part, given_rate=given_rate)


def _opened(path: Path) -> "InputContainer":
    av = pyav()
    try:
        if not path.exists():
            raise VideoError(f"{path}: there is no such file.")
        if not path.is_file():
            raise VideoError(f"{path}: this is not a regular file.")
        if path.stat().st_size == 0:
            raise VideoError(f"{path}: the file is empty.")
        # Names that are no UTF-8 are no reason to stop; from PyAV 19 on they never are.
        lenient: dict[str, Any] = {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "replace"}
        # A local file only: playlists and the like could name others, or the network.
        return av.open(str(path.resolve()), options={"protocol_whitelist": "file"}, **lenient)
    except VideoError:
        raise
    except OSError as error:
        raise VideoError(f"{path}: this film cannot be read ({first_line(error)}).") from None
    except (ValueError, IndexError, RuntimeError, EOFError) as error:  # ffmpeg's complaints, or PyAV's own
        why = "it is damaged, cut short, or no film" if isinstance(error, ValueError | EOFError) else first_line(error)
        raise VideoError(f"{path}: this file cannot be read as a film: {why}.") from None


def _stream_of(container: "InputContainer", path: Path) -> "VideoStream":
    if not len(container.streams):
        raise VideoError(f"{path}: this file cannot be read as a film: it is damaged or cut short.")
    if not container.streams.video:
        raise VideoError(f"{path}: the file has no pictures; expected a film, and this is sound or something else.")
    return container.streams.video[0]


def _seconds_of(container: "InputContainer", stream: "VideoStream") -> float | None:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return container.duration / 1e6 if container.duration else None


def _decoded(path: Path, part: Part, damage: list[str], given_rate: float | None = None) -> Iterator[Frame]:
    """Frames from a little before the part's start; what is wrong with the rest goes into ``damage``."""
    av = pyav()
    with _opened(path) as container:
        stream = _stream_of(container, path)
        stream.thread_type = "AUTO"
        step = 1 / (given_rate or next((float(r) for r in (stream.average_rate, stream.guessed_rate) if r), 30.0))
        base = float(stream.time_base or 0)
        begin = (stream.start_time or 0) * base
        if part.start > 2 and base and given_rate is None:
            try:
                container.seek(int((begin + part.start) / base), stream=stream)
            except av.error.FFmpegError:  # then all of it is decoded
                container.seek(0, any_frame=False)
        lost, last, number = 0, None, 0
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                break
            except av.error.FFmpegError as error:
                damage.append(f"the file breaks off ({first_line(error)})")
                break
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                lost += 1
                continue
            for frame in frames:
                if frame.is_corrupt:
                    lost += 1
                    continue
                known = None if given_rate or frame.time is None else frame.time - begin
                time = number * step if known is None and last is None else known
                if time is None or (last is not None and time <= last):
                    time = (last or 0.0) + step
                last, number = time, number + 1
                if time >= part.start - 1e-9:
                    yield Frame(_upright(frame, stream.sample_aspect_ratio), max(time, 0.0), f"{time:.3f}")
        if lost:
            damage.append(f"{lost} damaged {'piece' if lost == 1 else 'pieces'} of the film could not be decoded")
        seconds = _seconds_of(container, stream)
        if seconds is not None and last is not None and given_rate is None and last + _CUT * step < seconds - step:
            damage.append(f"it should last {seconds:.2f} s, but its pictures end after {last + step:.2f} s")


def _upright(frame: "VideoFrame", aspect: "Fraction | None") -> UInt8[np.ndarray, "height width 3"]:
    """Turned as the file says, with pixels as wide as they are high."""
    pixels = frame.to_ndarray(format="rgb24")
    if aspect and abs(float(aspect) - 1) > _SAME_SHAPE:
        width = max(1, round(pixels.shape[1] * float(aspect)))
        pixels = np.asarray(cv2.resize(pixels, (width, pixels.shape[0])), dtype=np.uint8)
    turns = round(frame.rotation / 90) % 4  # degrees, counterclockwise as numpy's turns
    return np.ascontiguousarray(np.rot90(pixels, turns))


def _frames_in(part: Part, seconds: float, rate: float) -> int:
    end = seconds if part.end is None else min(part.end, seconds)
    return max(0, round((end - part.start) * rate))


def _nothing_left(path: Path, part: Part) -> str:
    until = "" if part.end is None else f" and before {part.end:g} s"
    return f"{path}: the film has no frame from {part.start:g} s on{until}."
