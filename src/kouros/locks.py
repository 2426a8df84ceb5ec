"""One process at a time: a lock beside what is written, which the system opens when its holder ends, also by a kill.

Imports nothing of kouros.
"""

import contextlib
import errno
import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

_BUSY = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)


class BusyError(OSError):
    """Another process is writing just there; the message is one sentence."""


@contextlib.contextmanager
def only_writer(path: Path) -> Iterator[None]:
    """Be the only one who writes ``path``, a file or folder, until the block ends. Its folder is made.

    Where a file system knows no locks, nobody is kept out.

    Raises:
        BusyError: another process, or another thread of this one, is in such a block.
        OSError: the folder cannot be written to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f".{path.name}.lock")
    file = _held(lock, path)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # while it is held, so that nobody holds a file that is gone
            lock.unlink()
        file.close()


def _held(lock: Path, path: Path) -> BinaryIO:
    while True:
        file = lock.open("ab")
        try:
            _lock(file)
        except OSError as error:
            file.close()
            if error.errno in _BUSY:
                raise BusyError(
                    f"{path}: another process is writing it just now; wait for it to end, or choose another name."
                ) from None
            return lock.open("ab")
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), lock.stat()):
                return file
        file.close()  # its holder has removed it since it was opened


def _lock(file: BinaryIO) -> None:
    if os.name == "nt":
        system: Any = importlib.import_module("msvcrt")
        system.locking(file.fileno(), system.LK_NBLCK, 1)
    else:
        system = importlib.import_module("fcntl")
        system.flock(file, system.LOCK_EX | system.LOCK_NB)
