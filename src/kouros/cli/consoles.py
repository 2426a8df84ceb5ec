"""Where commands print their tables."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

_FILE_WIDTH = 120
"""Characters of a line where output goes to a file."""


def table_console(*, stderr: bool = False) -> "Console":
    """As wide as the terminal, or as a file may be."""
    from rich.console import Console

    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console.width = _FILE_WIDTH
    return console
