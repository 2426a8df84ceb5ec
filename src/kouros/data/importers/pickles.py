"""Pickles of arrays, as some data sets are distributed, read without running what a stranger may have put in
them.

Only numpy arrays and plain Python values come out; see `kouros.body.unpickling`.
"""

from pathlib import Path
from typing import Any

from kouros.body.unpickling import as_plain, read_pickle
from kouros.data.schema import DatasetError


def load_pickle(path: Path) -> dict[str, Any]:
    """The dict of arrays in a pickle of Python 2 or 3.

    Raises:
        DatasetError: the file is missing, broken, no dict, or holds more than arrays and plain values.
    """
    try:
        with path.open("rb") as file:
            content = as_plain(read_pickle(file))
    except OSError as error:
        raise DatasetError(f"{path}: this file cannot be read ({error.strerror}).") from None
    except Exception as error:  # a broken pickle can raise anything
        raise DatasetError(f"{path}: this pickle cannot be read: {error}.") from None
    if not isinstance(content, dict):
        raise DatasetError(f"{path}: this pickle holds a {type(content).__name__}, expected a dict.")
    return content
