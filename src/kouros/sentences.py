"""Parts of error messages. Imports nothing of kouros."""

from collections.abc import Iterable

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
