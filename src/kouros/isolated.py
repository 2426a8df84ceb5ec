"""Calls of libraries that damaged files crash or hang, in a process of their own that has a deadline.

One such process is kept and serves one call after the other; where it dies or takes too long the next call starts
another. It ends with ours.

Imports nothing of kouros.
"""

import atexit
import contextlib
import importlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

_MAX_BYTES = 4 * 2**30
"""Of the process's memory, where the system can limit it."""
_PATIENCE = 4


class IsolatedError(Exception):
    """The call failed, crashed or took too long; `kind` is the name of the exception, where there was one."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def isolated(function: Callable[..., Any], *arguments: Any, seconds: float) -> Any:
    """What a module's function returns, called in another process; its answer must be of plain values and arrays.

    Its seconds are those that it works: on a busy machine a sound file must not be taken for a damaged one.

    Raises:
        IsolatedError: it raised something, crashed, or did not answer within ``seconds``.
    """
    with _LOCK:
        child = _child()
        try:
            child.send((function.__module__, function.__name__, arguments))
            if not child.answers_within(seconds):
                child.end()
                raise IsolatedError("", f"reading it did not end within {seconds:.0f} s")
            kind, answer = child.answers.recv()
        except (EOFError, OSError):
            code = child.end()
            raise IsolatedError("", f"reading it crashed (status {code})") from None
        except BaseException:  # an interrupt: the answer to come would be taken for another call's
            child.end()
            raise
    if kind is not None:
        raise IsolatedError(kind, answer)
    return answer


class _Child:
    def __init__(self) -> None:
        reading, theirs_to_write = os.pipe()
        theirs_to_read, writing = os.pipe()
        self.pid = os.getpid()
        self.answers = Connection(reading, writable=False)
        self.requests = Connection(writing, readable=False)
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", "import sys, kouros.isolated as i; i.serve(int(sys.argv[1]), int(sys.argv[2]))",
             str(theirs_to_read), str(theirs_to_write)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment,
            pass_fds=(theirs_to_read, theirs_to_write),
        )  # fmt: skip
        os.close(theirs_to_read)
        os.close(theirs_to_write)
        if not self.answers.poll(60):
            self.end()
            raise RuntimeError("Python could not be started in a process of its own.")
        self.answers.recv()

    def send(self, request: Any) -> None:
        self.requests.send(request)

    def answers_within(self, seconds: float) -> bool:
        """Whether it answers in so many seconds of its own, or four times as many in which it may wait for others."""
        begun, used = time.monotonic(), self._seconds_used()
        while not self.answers.poll(min(seconds, 0.5)):
            passed, now = time.monotonic() - begun, self._seconds_used()
            if passed > seconds and (
                now is None or used is None or now - used > seconds or passed > _PATIENCE * seconds
            ):
                return False
        return True

    def _seconds_used(self) -> float | None:
        """Of a processor; None where the system does not say."""
        try:
            fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except (OSError, ValueError, IndexError, AttributeError):
            return None

    def end(self) -> int:
        """Kill it; returns its status."""
        global _CHILD
        _CHILD = None
        with contextlib.suppress(OSError):
            self.requests.close()
            self.answers.close()
        if self.pid == os.getpid():
            self._process.kill()
            return self._process.wait()
        return 0


_CHILD: _Child | None = None
_LOCK = threading.Lock()


def _child() -> _Child:
    global _CHILD
    if _CHILD is None or _CHILD.pid != os.getpid():  # a forked process must not speak to its parent's
        _CHILD = _Child()
    return _CHILD


@atexit.register
def _end() -> None:
    if _CHILD is not None:
        _CHILD.end()


def serve(requests: int, answers: int) -> None:
    """Answer calls until the other end is closed; this runs in the other process."""
    with contextlib.suppress(ImportError, ValueError, OSError):  # not on Windows; or a lower limit is set already
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MAX_BYTES, _MAX_BYTES))
    receiver, sender = Connection(requests, writable=False), Connection(answers, readable=False)
    sender.send("ready")
    while True:
        try:
            module, name, arguments = receiver.recv()
        except EOFError:
            return
        answer: tuple[str | None, Any]
        try:
            answer = (None, getattr(importlib.import_module(module), name)(*arguments))
        except Exception as error:  # damaged files make the libraries raise anything
            answer = (type(error).__name__, str(error)[:300])
        try:
            sender.send(answer)
        except Exception as error:  # an answer that cannot be sent
            sender.send((type(error).__name__, str(error)[:300]))
