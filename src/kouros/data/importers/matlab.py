"""MATLAB's two file formats: version 5, which scipy reads, and 7.3, which is HDF5 with its axes reversed."""

from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from kouros.data.schema import DatasetError


def load_mat(path: Path, *variables: str, squeeze: bool = False, optional: tuple[str, ...] = ()) -> dict[str, Any]:
    """Variables of a version-5 file, structs as objects with attributes; the optional ones where they are there.

    Raises:
        DatasetError: the file is missing, of another kind, or lacks a variable.
    """
    try:
        content = scipy.io.loadmat(
            str(path), struct_as_record=False, squeeze_me=squeeze, variable_names=variables + optional
        )
    except FileNotFoundError:
        raise DatasetError(f"{path}: there is no such file.") from None
    except NotImplementedError:
        raise DatasetError(f"{path}: this is a MATLAB 7.3 file; the data set's own is of version 5.") from None
    except Exception as error:  # scipy raises many kinds on damaged files
        raise DatasetError(f"{path}: this is no readable MATLAB file ({error}).") from None
    return _with(path, content, variables)


def load_mat73(path: Path, *variables: str) -> dict[str, np.ndarray]:
    """Array variables of a version-7.3 file, axes as HDF5 has them (reversed); needs h5py.

    Raises:
        DatasetError: the file is missing, of another kind, or lacks a variable.
    """
    try:
        import h5py
    except ImportError:
        raise ImportError(f"{path}: MATLAB 7.3 files need h5py: pip install 'kouros[train]'.") from None
    try:
        with h5py.File(path, "r") as file:
            content = {key: file[key][()] for key in variables if key in file}
    except OSError as error:
        raise DatasetError(f"{path}: this is no readable MATLAB 7.3 (HDF5) file ({error}).") from None
    return _with(path, content, variables)


def _with(path: Path, content: dict[str, Any], variables: tuple[str, ...]) -> dict[str, Any]:
    missing = [name for name in variables if name not in content]
    if missing:
        raise DatasetError(f"{path}: the file has no variable {', '.join(missing)}.")
    return content


def many(value: Any) -> list[Any]:
    """The elements of a struct array, which squeezing makes a lone struct, or an empty array of none."""
    if value is None:
        return []
    return list(value.ravel()) if isinstance(value, np.ndarray) else [value]


def number(value: Any) -> float | None:
    """A scalar field of a struct; None where it is missing or empty."""
    array = np.asarray(value if value is not None else [])
    return float(array.ravel()[0]) if array.size == 1 and array.dtype.kind in "uifb" else None
