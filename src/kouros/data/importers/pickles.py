"""Pickles of arrays, as some data sets are distributed, read without running what a stranger may have put in
them.

Only numpy arrays and plain Python values are built; every other class a pickle names is refused.
"""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from kouros.data.importers.running import DatasetError

_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")
# Asked of numpy itself, because the module they live in was renamed in numpy 2.
_reconstruct, _scalar = np.zeros(0).__reduce__()[0], np.float64(0).__reduce__()[0]
_frombuffer = np.zeros(1).__reduce_ex__(5)[0]


def _encode_latin1(text: str, encoding: str = "latin1") -> bytes:
    """What Python 3 writes into protocol-2 pickles for bytes."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"it encodes text as {encoding}")
    return text.encode("latin1")


_ALLOWED: dict[tuple[str, str], Any] = {
    **{(module, "_reconstruct"): _reconstruct for module in _MULTIARRAY},
    **{(module, "scalar"): _scalar for module in _MULTIARRAY},
    **{(module, "_frombuffer"): _frombuffer for module in ("numpy.core.numeric", "numpy._core.numeric")},
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _encode_latin1,
    ("collections", "OrderedDict"): dict,
}


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it holds a {module}.{name}, only arrays are read") from None


def load_pickle(path: Path) -> dict[str, Any]:
    """The dict of arrays in a pickle of Python 2 or 3.

    Raises:
        DatasetError: the file is missing, broken, no dict, or holds more than arrays and plain values.
    """
    try:
        content = _ArraysOnly(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    except OSError as error:
        raise DatasetError(f"{path}: this file cannot be read ({error.strerror}).") from None
    except Exception as error:  # a broken pickle can raise anything
        raise DatasetError(f"{path}: this pickle cannot be read: {error}.") from None
    if not isinstance(content, dict):
        raise DatasetError(f"{path}: this pickle holds a {type(content).__name__}, expected a dict.")
    return content
