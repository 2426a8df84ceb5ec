"""Parts of error messages. Imports nothing of kouros."""

import errno
from collections.abc import Iterable

_ADVICE = {
    errno.ENOSPC: "free some space, or choose another disk for what is written",
    errno.EDQUOT: "free some space, or choose another disk for what is written",
    errno.EROFS: "choose a folder that can be written to",
    errno.EACCES: "choose a place that you may read or write",
    errno.EPERM: "choose a place that you may read or write",
    errno.ENAMETOOLONG: "give the source a shorter name",
}
_NAMED = 3
_LONGEST = 120


def some(names: Iterable[str]) -> str:
    """The first few names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def first_line(error: BaseException) -> str:
    """What another library says went wrong, without its pages of advice."""
    return (str(error).splitlines() or [type(error).__name__])[0][:_LONGEST]


def explained(error: BaseException) -> str:
    """What went wrong, for the person who gave the command: of a system's error the file and what to do, no numbers."""
    if isinstance(error, OSError) and error.errno is not None and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        advice = _ADVICE.get(error.errno)
        return f"{where}{error.strerror}" + (f"; {advice}." if advice else ".")
    return str(error) or type(error).__name__
