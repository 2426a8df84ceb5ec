"""The command line: one module a command, each a dataclass whose fields are its options and whose ``run``
does it.

Only tyro is imported here; a command loads what it needs when it runs, so that ``--help`` answers at once.
May import: everything below.
"""

import contextlib
import errno
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, TextIO

import tyro

from kouros import __version__
from kouros.cli.body import Body
from kouros.cli.compare import Compare
from kouros.cli.data import Data
from kouros.cli.demo import Demo
from kouros.cli.evaluate import Evaluate
from kouros.cli.fit import Fit
from kouros.cli.importing import Import
from kouros.cli.late import late_rules
from kouros.cli.models import Models
from kouros.cli.reconstruct import Reconstruct
from kouros.cli.surface import Surface
from kouros.cli.synthesize import Synthesize
from kouros.cli.train import Train
from kouros.cli.usage import UsageError
from kouros.cli.warmup import Warmup
from kouros.sentences import explained, first_line

Command = (
    Annotated[Reconstruct, tyro.conf.subcommand("reconstruct")]
    | Annotated[Compare, tyro.conf.subcommand("compare")]
    | Annotated[Fit, tyro.conf.subcommand("fit")]
    | Annotated[Body, tyro.conf.subcommand("body")]
    | Annotated[Demo, tyro.conf.subcommand("demo")]
    | Annotated[Warmup, tyro.conf.subcommand("warmup")]
    | Annotated[Surface, tyro.conf.subcommand("surface")]
    | Annotated[Import, tyro.conf.subcommand("import")]
    | Annotated[Data, tyro.conf.subcommand("data")]
    | Annotated[Synthesize, tyro.conf.subcommand("synthesize")]
    | Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Models, tyro.conf.subcommand("models")]
)

_DESCRIPTION = (
    "Photos in, posed 3D people out. `kouros COMMAND --help` explains a command; `kouros --version` prints the version."
)
_INTERRUPTED = 130  # as shells have it: 128 + SIGINT


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status.

    0: all went well; 1: something failed, and standard error says what; 2: the command was not understood;
    130: it was interrupted.
    """
    _open_streams()
    try:
        status = _run(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()  # here, where what is said of it can still be heard
        return status
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:  # whoever read our output has left
        _silence(sys.stdout)
        return 1
    except Exception as error:  # of ours or of a library; what was written is whole, and the rest can be done again
        return _said(error)


def _run(arguments: list[str]) -> int:
    if arguments == ["--version"]:
        print(f"kouros {__version__}")
        return 0
    try:
        command = tyro.cli(
            Command,
            prog="kouros",
            description=_DESCRIPTION,
            args=arguments,
            config=(tyro.conf.OmitSubcommandPrefixes,),
            registry=late_rules(arguments),
        )
        return command.run()
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.status
    except SystemExit as ended:  # tyro has said what it did not understand, or has printed the help
        return ended.code if isinstance(ended.code, int) else 2


def _said(error: Exception) -> int:
    if os.environ.get("KOUROS_TRACEBACK"):
        traceback.print_exception(error)
    if isinstance(error, OSError) and error.filename is None and error.errno in (errno.ENOSPC, errno.EIO, errno.EBADF):
        _silence(sys.stdout)  # what is left of the output would fail once more, after the last word
    expected = isinstance(error, (OSError, ValueError, ImportError, MemoryError))
    what = explained(error) if expected else f"an unexpected {type(error).__name__} ({first_line(error)}) stopped this"
    end = "" if isinstance(error, OSError) else " KOUROS_TRACEBACK=1 before the command shows where."
    with contextlib.suppress(OSError):  # nobody may be there to hear it
        print(f"error: {what.rstrip('.')}.{end}", file=sys.stderr)
    return 1


def _open_streams() -> None:
    """Give a place to go to what is printed where a stream is closed."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115 - a device, to the end


def _silence(stream: TextIO) -> None:
    with contextlib.suppress(OSError, ValueError):  # a stream of tests has no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
