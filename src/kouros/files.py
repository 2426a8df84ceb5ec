"""Files that are written whole or not at all: aside in the same folder, flushed to disk, then renamed.

Imports nothing of kouros.
"""

import contextlib
import errno
import io
import os
import secrets
import stat
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np


def write_files(contents: Mapping[Path, bytes | memoryview]) -> None:
    """Write files that belong together; nobody ever sees one of them half-written.

    All are written aside first, so that a full disk or an interrupt on the way leaves none of them, and
    what was there before stays. Missing folders are made.

    Raises:
        OSError: a folder cannot be made or a file not written.
    """
    staged: dict[Path, Path] = {}
    for path in contents:
        path.parent.mkdir(parents=True, exist_ok=True)
        _check_name(path)
        remove_leftovers(path.parent)
    try:
        for path, data in contents.items():
            staged[path] = aside = aside_of(path)
            try:
                _write_through(aside, data)
            except OSError as error:  # a full disk's names no file
                raise OSError(error.errno, error.strerror or str(error), str(path)) from None
        for path, aside in staged.items():
            aside.replace(path)
    finally:
        for aside in staged.values():
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)


def write_file(path: Path, data: bytes | memoryview) -> None:
    """Write one file whole or not at all.

    Raises:
        OSError: the folder cannot be made or the file not written.
    """
    write_files({path: data})


def probe_folder(folder: Path) -> None:
    """Try whether files can be written in a folder, which may not exist yet; nothing is left of it.

    Raises:
        OSError: they cannot.
    """
    missing = [p for p in (folder, *folder.parents) if not p.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        aside = aside_of(folder / "probe")
        aside.touch()
        aside.unlink()
    finally:
        for made in missing:
            with contextlib.suppress(OSError):
                made.rmdir()


def aside_of(path: Path) -> Path:
    """A new name beside ``path``, to write to before the file is renamed to ``path``."""
    # In the target's own folder, because a rename is atomic only within one file system; a name of fixed
    # length, because the target's may be as long as the file system allows.
    return path.with_name(f".kouros-{secrets.token_hex(8)}.part")


def remove_leftovers(folder: Path) -> None:
    """Remove what killed runs have begun to write into a folder; looked for once by each process."""
    if folder in _LOOKED_AFTER:
        return
    _LOOKED_AFTER.add(folder)
    with contextlib.suppress(OSError):
        for aside in folder.glob(".kouros-*.part"):
            # A file that somebody is writing to just now has just been changed.
            if time.time() - aside.stat().st_mtime > _LEFT_SECONDS:
                aside.unlink(missing_ok=True)


_LEFT_SECONDS = 3600
_LOOKED_AFTER: set[Path] = set()


def _check_name(path: Path) -> None:
    """See that a rename to this name could work, before files that belong together are renamed one by one."""
    try:
        found = path.lstat()  # says so if the name is longer than the file system allows
    except FileNotFoundError:
        return
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, "there is a folder of this name", str(path))


def npy_bytes(array: np.ndarray) -> bytes:
    """A ``.npy`` file of an array."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npz_bytes(arrays: Mapping[str, np.ndarray], *, compressed: bool = True) -> memoryview:
    """The content of an ``.npz`` file."""
    buffer = io.BytesIO()
    save = np.savez_compressed if compressed else np.savez
    save(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getbuffer()


def _write_through(path: Path, data: bytes | memoryview) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
