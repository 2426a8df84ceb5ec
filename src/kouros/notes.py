"""What must be said of an input although the work goes on: a warning in Python, a line of a command's report.

Whoever leaves something out, clips it or doubts it says so by `note`; whoever does many things gathers the notes of
each by `collected`. Imports nothing of kouros.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


class InputWarning(UserWarning):
    """Something of an input was left out, changed or is doubtful; the message is one sentence that names it."""


def note(sentence: str) -> None:
    """Say it, and go on."""
    warnings.warn(InputWarning(sentence), stacklevel=3)


@contextmanager
def collected() -> Iterator[list[str]]:
    """The notes of the block, each once, in place of warnings; other warnings stay what they are."""
    found: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", InputWarning)
        try:
            yield found
        finally:
            texts = (str(w.message) for w in caught if issubclass(w.category, InputWarning))
            found.extend(dict.fromkeys(texts))
    for other in caught:
        if not issubclass(other.category, InputWarning):
            warnings.warn_explicit(other.message, other.category, other.filename, other.lineno)
