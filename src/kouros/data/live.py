"""Cameras that are plugged in, and whatever else gives pictures as time passes.

A camera goes by its number or its name on Linux (``0``, ``/dev/video2``) and is opened by OpenCV: PyAV's wheels for
Linux have no cameras. What ffmpeg calls a device goes by its format and name and is opened by PyAV: ``x11grab::0`` is a
screen, ``lavfi:testsrc,realtime`` a picture to try things with, ``dshow:video=NAME`` a camera of Windows.
"""

import re
import time
from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Condition, Thread

import cv2
import numpy as np
from jaxtyping import UInt8

from kouros.data.images import MAX_PIXELS, MIN_SIDE
from kouros.data.video import Frame, Part, VideoError, pyav
from kouros.sentences import first_line

Pictures = Generator[UInt8[np.ndarray, "height width 3"], None, None]
_FORMATS = ("v4l2", "avfoundation", "dshow", "gdigrab", "x11grab", "lavfi")
_WAIT = 0.1
_FIRST = 15.0
"""Seconds within which a camera must give its first picture."""


def is_live(name: str | Path) -> bool:
    """Whether a name is that of a camera: a number, unless a file is called so; ``/dev/video2``; or ``FORMAT:NAME``."""
    name = str(name)
    if re.fullmatch(r"\d{1,3}", name):
        return not Path(name).exists()
    return re.fullmatch(r"/dev/video\d+", name) is not None or name.partition(":")[0] in _FORMATS


class LiveCamera:
    """A camera that is open. Whoever is slower than it misses frames, and none wait.

    Args:
        name: as `is_live` has them.

    Raises:
        VideoError: nothing of that name can be opened, or it gives no picture.
        ImportError: PyAV is missing and a device is named that it opens.
    """

    def __init__(self, name: str) -> None:
        self._pictures = _by_number(name) if re.fullmatch(r"(/dev/video)?\d+", name) else _by_format(name)
        self._condition = Condition()
        self._latest: tuple[float, UInt8[np.ndarray, "height width 3"]] | None = None
        self._closed = self._ended = False
        self._problem: Exception | None = None
        self._thread = Thread(target=self._read, daemon=True)
        self._thread.start()
        with self._condition:
            self._condition.wait_for(lambda: self._latest is not None or self._ended, _FIRST)
        if isinstance(self._problem, VideoError | ImportError):
            raise self._problem
        if self._latest is None:
            self.close()
            raise VideoError(f"{name}: the camera gives no picture; does another program use it?")
        height, width = self._latest[1].shape[:2]
        self.size: tuple[int, int] = (width, height)
        if width * height > MAX_PIXELS or min(self.size) < MIN_SIDE:
            self.close()
            raise VideoError(f"{name}: pictures of {width} x {height} pixels cannot be used.")

    def frames(self, part: Part) -> Iterator[Frame]:
        """The newest picture whenever somebody asks, with the seconds since the first; until ``stop``, the part's end,
        or the camera's."""
        first, number = None, 0
        while not self._closed:
            with self._condition:
                self._condition.wait_for(lambda: self._latest is not None or self._ended, _WAIT)
                taken, self._latest = self._latest, None
            if taken is None:
                if self._ended:
                    return
                continue
            at, pixels = taken
            first = at if first is None else first
            if part.end is not None and at - first >= part.end:
                return
            number += 1
            if (number - 1) % part.every == 0 and (pixels.shape[1], pixels.shape[0]) == self.size:
                yield Frame(pixels, at - first, f"{at - first:.3f}")

    def stop(self) -> None:
        """Let the frames end; may be called by a signal's handler."""
        self._closed = True

    def close(self) -> None:
        """Let go of the camera; nothing comes of it any more."""
        self.stop()
        self._thread.join(timeout=2.0)

    def _read(self) -> None:
        try:
            for pixels in self._pictures:
                with self._condition:
                    self._latest = time.monotonic(), pixels
                    self._condition.notify_all()
                if self._closed:
                    break
        except Exception as error:  # of a thread: said by whoever waits for pictures
            self._problem = error
        finally:
            with suppress(Exception):
                self._pictures.close()
            with self._condition:
                self._ended = True
                self._condition.notify_all()


def _by_number(name: str) -> Pictures:
    logging = cv2.utils.logging
    before = logging.getLogLevel()
    logging.setLogLevel(logging.LOG_LEVEL_SILENT)  # OpenCV would print to the terminal what is said here
    try:
        capture = cv2.VideoCapture(int(name.removeprefix("/dev/video")))
    finally:
        logging.setLogLevel(before)
    try:
        if not capture.isOpened():
            raise VideoError(f"{name}: there is no such camera, or another program uses it; 0 is the first one.")
        while True:
            read, pixels = capture.read()
            if not read:
                return
            yield np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), dtype=np.uint8)
    finally:
        capture.release()


def _by_format(name: str) -> Pictures:
    av = pyav()
    kind, _, device = name.partition(":")
    if kind not in av.formats_available:
        raise VideoError(f"{name}: PyAV cannot open {kind} devices here; a camera's number may do, such as 0.")
    try:
        with av.open(device, format=kind) as container:
            if not container.streams.video:
                raise VideoError(f"{name}: this device gives no pictures.")
            for frame in container.decode(video=0):
                yield frame.to_ndarray(format="rgb24")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        if isinstance(error, VideoError):
            raise
        raise VideoError(f"{name}: this device cannot be opened ({first_line(error)}).") from None
