"""The film to look at first: every frame with the people drawn over it, and the film's own sound.

The frames are decoded anew, so that none has to be kept; a thread of its own draws and one encodes while the next frame
is read.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any

import numpy as np
from jaxtyping import UInt8

from kouros.data.video import Film, pyav
from kouros.export.people import colour_of
from kouros.export.pictures import photo_to_draw_on
from kouros.files import aside_of
from kouros.pipeline.video import SeenFrame, Video
from kouros.render.shading import overlay, side_view

FILM_SIDE = 640
"""The frame's longer side in the film, pixels."""
_WAITING = 4
_QUALITY = "23"


def write_overlay_film(
    path: Path,
    film: Film,
    video: Video,
    *,
    side_by_side: bool = False,
    max_side: int = FILM_SIDE,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write an mp4 of a film's people over its frames, whole or not at all.

    Args:
        film: as it was reconstructed.
        side_by_side: beside it, the people from their left.
        max_side: of the frames in it, pixels.
        progress: told how many frames are drawn, of how many.

    Raises:
        OSError: the film cannot be written.
        ImportError: PyAV is missing.
    """
    with _written_whole(path) as container:
        _Encoder(container, video, side_by_side, max_side).encode(film, progress)


@contextmanager
def recording(path: Path) -> Iterator["PictureStream"]:
    """Write pictures as an mp4 while they come: whole once all have come, or not at all.

    Raises:
        OSError: the film cannot be written.
        ImportError: PyAV is missing.
    """
    with _written_whole(path) as container:
        stream = PictureStream(container, 30.0, {"crf": _QUALITY, "preset": "ultrafast"})
        yield stream
        stream.end()


@contextmanager
def _written_whole(path: Path) -> Iterator[Any]:
    """A container that has its name once it is complete."""
    av = pyav()
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = aside_of(path)
    try:
        with av.open(str(aside), "w", format="mp4") as container:
            yield container
        aside.replace(path)
    except av.error.FFmpegError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        with suppress(OSError):
            aside.unlink(missing_ok=True)


class PictureStream:
    """The pictures of a film that is written."""

    def __init__(self, container: Any, frame_rate: float, options: dict[str, str]) -> None:
        self._container, self._options = container, options
        self._rate = Fraction(max(frame_rate, 0.01)).limit_denominator(1001)
        self._base, self._last = Fraction(1, 90000), -1
        self._stream: Any = None

    def begin(self, pixels: UInt8[np.ndarray, "height width 3"]) -> bool:
        """Make room for pictures of that size; returns whether there was none yet."""
        if self._stream is not None:
            return False
        self._stream = self._container.add_stream("libx264", rate=self._rate, options=self._options)
        self._stream.width, self._stream.height = pixels.shape[1] // 2 * 2, pixels.shape[0] // 2 * 2  # for 4:2:0
        self._stream.pix_fmt, self._stream.time_base = "yuv420p", self._base
        self._stream.codec_context.time_base = self._base
        return True

    def add(self, pixels: UInt8[np.ndarray, "height width 3"], seconds: float) -> None:
        """The next picture and its time; of an odd side, the last pixels are left out."""
        self.begin(pixels)
        even = pixels[: self._stream.height, : self._stream.width]
        frame = pyav().VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
        self._last = max(round(seconds / self._base), self._last + 1)
        frame.pts, frame.time_base = self._last, self._base
        self._container.mux(self._stream.encode(frame))

    def end(self) -> None:
        """All have come."""
        if self._stream is not None:
            self._container.mux(self._stream.encode(None))


class _Encoder:
    """Reads, draws and encodes, each in a thread of its own."""

    def __init__(self, container: Any, video: Video, side_by_side: bool, max_side: int) -> None:
        self._container, self._video = container, video
        self._side_by_side, self._max_side = side_by_side, max_side
        self._stream = PictureStream(container, video.frame_rate, {"crf": _QUALITY})

    def encode(self, film: Film, progress: Callable[[int, int], None] | None) -> None:
        waiting: Queue[tuple[int, np.ndarray] | None] = Queue(_WAITING)
        problems: list[BaseException] = []

        def read() -> None:
            try:
                for number, frame in enumerate(film.frames()):
                    waiting.put((number, frame.pixels))
            except BaseException as error:
                problems.append(error)
            finally:
                waiting.put(None)

        reader = Thread(target=read, daemon=True)
        reader.start()
        sound = _Sound.of(film, self._container)
        try:
            while (item := waiting.get()) is not None:
                number, pixels = item
                if number >= len(self._video.times):
                    continue
                self._add(number, self._drawn(self._video.frame(number), pixels), sound)
                if progress is not None:
                    progress(number + 1, len(self._video.times))
        finally:
            while reader.is_alive():  # somebody who waits to hand over the next frame
                with suppress(Exception):
                    waiting.get(timeout=0.05)
        if problems:
            raise problems[0]
        self._stream.end()
        if sound is not None:
            sound.copy(self._container)

    def _drawn(self, frame: SeenFrame, pixels: UInt8[np.ndarray, "height width 3"]) -> np.ndarray:
        photo, factor = photo_to_draw_on(pixels, self._max_side)
        camera = self._video.camera.scaled(factor)
        meshes = [(person.vertices, person.body.faces) for _, person in frame.people]
        colours = [colour_of(number) for number, _ in frame.people]
        over = overlay(photo, meshes, camera, colours, supersample=1) if meshes else photo
        if self._side_by_side:
            size = over.shape[0], min(over.shape[:2])
            beside = np.full((*size, 3), 255, np.uint8)
            if meshes:
                level = [(self._video.world.level(p.vertices, k), p.body.faces) for k, p in frame.people]
                beside = side_view(level, camera, size, colours)
            over = np.concatenate([over, beside], axis=1)
        return over

    def _add(self, number: int, pixels: np.ndarray, sound: "_Sound | None") -> None:
        if self._stream.begin(pixels) and sound is not None:
            sound.announce(self._container)
        self._stream.add(pixels, float(self._video.times[number] - self._video.times[0]))


class _Sound:
    """The packets of a film's sound, as they are, from where its part begins."""

    def __init__(self, source: Any, start: float, end: float | None) -> None:
        self._source, self._start, self._end = source, start, end
        self._out: Any = None

    @staticmethod
    def of(film: Film, container: Any) -> "_Sound | None":
        """None where there is none, or an mp4 cannot hold it."""
        if film.pictures is not None or film.given_rate is not None:
            return None
        source = pyav().open(str(film.path))
        if not source.streams.audio or source.streams.audio[0].codec_context.name not in ("aac", "mp3", "ac3", "opus"):
            source.close()
            return None
        return _Sound(source, film.part.start, film.part.end)

    def announce(self, container: Any) -> None:
        self._out = container.add_stream_from_template(self._source.streams.audio[0])

    def copy(self, container: Any) -> None:
        """All of it, after the pictures: players find their way by the times."""
        with self._source, suppress(pyav().error.FFmpegError):  # damaged sound is no reason to lose the pictures
            stream = self._source.streams.audio[0]
            for packet in self._source.demux(stream):
                if packet.dts is None or self._out is None:
                    continue
                time = float(packet.pts * packet.time_base)
                if (self._start and time < self._start) or (self._end is not None and time >= self._end):
                    continue
                shift = round(self._start / packet.time_base)
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = self._out
                container.mux(packet)
