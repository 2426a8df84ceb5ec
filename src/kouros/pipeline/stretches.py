"""What was seen of a film, kept on disk stretch by stretch, so that whoever was interrupted goes on.

A stretch is an ``.npz`` file of some hundred kilobytes, written whole or not at all: the numbers of its frames, and at
its end all that the next frames depend on. Going on after it gives what going through would have given, to the bit.
"""

from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kouros import __version__
from kouros.archives import ArchiveError, read_all_npz
from kouros.files import npz_bytes, write_file

if TYPE_CHECKING:
    from kouros.pipeline.video import VideoReconstructor

STRETCH = 128
"""Frames of a stretch; the last one is as long as what is left."""
_KEY = "key"


class Stretches:
    """The stretches of one film, in a folder of their own.

    Args:
        folder: made when the first one is finished.
        film: what tells the film from any other.
        options: likewise, how it is seen; stretches that were seen otherwise are of no use, and are replaced.
    """

    def __init__(self, folder: Path, film: str, options: Sequence[object]) -> None:
        self._folder = folder
        self._key = sha256("\n".join([__version__, film, *map(str, options)]).encode()).hexdigest()
        self._frames = 0

    def restore(self, reconstructor: "VideoReconstructor") -> int:
        """Let somebody who has seen nothing go on after the last stretch; returns how many frames that is."""
        stretches = []
        for path in self._files():
            try:
                arrays = read_all_npz(path)
                if str(arrays.pop(_KEY)) != self._key or int(path.stem) != self._frames + len(arrays["times"]):
                    break
            except (ArchiveError, OSError, KeyError):
                break
            stretches.append(arrays)
            self._frames = int(path.stem)
        for path in self._files()[len(stretches) :]:
            path.unlink(missing_ok=True)
        reconstructor.restore(stretches)
        return self._frames

    def add(self, reconstructor: "VideoReconstructor") -> None:
        """Keep what was seen since the last one.

        Raises:
            OSError: it cannot be written.
        """
        if reconstructor.frames == self._frames:
            return
        arrays = reconstructor.stretch(self._frames) | {_KEY: np.array(self._key)}
        self._frames = reconstructor.frames
        write_file(self._folder / f"{self._frames:09d}.npz", npz_bytes(arrays))

    def _files(self) -> list[Path]:
        return _files_in(self._folder)


def frames_kept(folder: Path) -> int:
    """How many frames the stretches in a folder have."""
    return max((int(path.stem) for path in _files_in(folder)), default=0)


def forget_stretches(folder: Path) -> None:
    """Remove the stretches of a film, and their folder if nothing else is in it."""
    with suppress(OSError):
        for path in _files_in(folder):
            path.unlink(missing_ok=True)
        if folder.is_dir():
            folder.rmdir()


def _files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.npz") if path.stem.isdecimal())
