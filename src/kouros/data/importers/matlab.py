"""MATLAB's two file formats: version 5, which scipy reads, and 7.3, which is HDF5 with its axes reversed."""

from pathlib import Path
from typing import Any

import numpy as np

from kouros.data.schema import DatasetError
from kouros.isolated import IsolatedError, isolated


def load_mat(path: Path, *variables: str, squeeze: bool = False, optional: tuple[str, ...] = ()) -> dict[str, Any]:
    """Variables of a version-5 file, structs as objects with attributes; the optional ones where they are there.

    Raises:
        DatasetError: the file is missing, of another kind, or lacks a variable.
    """
    try:
        content = isolated(read_version5, str(path), squeeze, variables + optional, seconds=seconds_for(path))
    except FileNotFoundError:
        raise DatasetError(f"{path}: there is no such file.") from None
    except (IsolatedError, OSError) as error:
        if getattr(error, "kind", "") == "NotImplementedError":
            raise DatasetError(f"{path}: this is a MATLAB 7.3 file; the data set's own is of version 5.") from None
        raise DatasetError(f"{path}: this is no readable MATLAB file ({error}).") from None
    return _with(path, content, variables)


def load_mat73(path: Path, *variables: str) -> dict[str, np.ndarray]:
    """Array variables of a version-7.3 file, axes as HDF5 has them (reversed); needs h5py.

    Raises:
        DatasetError: the file is missing, of another kind, or lacks a variable.
    """
    try:
        import h5py  # noqa: F401 - the other process needs it
    except ImportError:
        raise ImportError(f"{path}: MATLAB 7.3 files need h5py: pip install 'kouros[train]'.") from None
    try:
        content = isolated(read_version73, str(path), variables, seconds=seconds_for(path))
    except FileNotFoundError:
        raise DatasetError(f"{path}: there is no such file.") from None
    except (IsolatedError, OSError) as error:
        raise DatasetError(f"{path}: this is no readable MATLAB 7.3 (HDF5) file ({error}).") from None
    return _with(path, content, variables)


def read_version5(path: str, squeeze: bool, variables: tuple[str, ...]) -> dict[str, Any]:
    """What scipy makes of a file; damaged ones end its process, so this runs in another one."""
    import scipy.io

    return scipy.io.loadmat(path, struct_as_record=False, squeeze_me=squeeze, variable_names=variables)


def read_version73(path: str, variables: tuple[str, ...]) -> dict[str, Any]:
    """What h5py makes of a file, likewise."""
    import h5py

    with h5py.File(path, "r") as file:
        return {key: file[key][()] for key in variables if key in file}


def seconds_for(path: Path) -> float:
    """How long reading a file may take: a minute for each six megabytes, of structs that scipy makes one by one.

    Raises:
        OSError: there is no such file.
    """
    return 15 + 10 * path.stat().st_size / 2**20


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
