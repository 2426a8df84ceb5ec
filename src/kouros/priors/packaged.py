"""Where trained priors lie in the package, and how such a file is read and written."""

import json
from pathlib import Path

import numpy as np

from kouros.archives import ArchiveError, as_wanted, read_all_npz
from kouros.files import npz_bytes, write_file

FOLDER = Path(__file__).parent / "data"


def read_arrays(path: Path, shapes: dict[str, tuple[int | None, ...]]) -> dict[str, np.ndarray]:
    """Arrays of a prior's file, checked.

    Args:
        path: an ``.npz`` file.
        shapes: the arrays wanted; ``None`` for sizes that are the file's choice.

    Raises:
        ValueError: not an ``.npz`` file, an array is missing or of another shape, or not finite.
        OSError: the file cannot be read.
    """
    try:
        found = {name: array for name, array in read_all_npz(path).items() if name in shapes}
    except ArchiveError as error:
        raise ValueError(
            f"{path} is not an .npz file of a prior ({error}); train one with `kouros train prior`."
        ) from error
    for name, shape in shapes.items():
        if name not in found:
            raise ValueError(f"{path} has no array {name!r}; expected {', '.join(shapes)}.")
        actual = found[name].shape
        if len(actual) != len(shape) or any(w not in (None, a) for w, a in zip(shape, actual, strict=True)):
            raise ValueError(f"{name!r} of {path} has shape {actual}; expected {shape} (None: any size).")
        try:  # in float32, in which priors compute
            as_wanted(found[name], (shape, "float32"))
        except ArchiveError:
            raise ValueError(f"{name!r} of {path} has numbers that are not finite; train the prior again.") from None
    return found


def write_arrays(path: Path, arrays: dict[str, np.ndarray], provenance: dict[str, object]) -> None:
    """Write a prior's file, whole or not at all; ``provenance`` goes in as JSON under ``meta``."""
    write_file(path, npz_bytes({"meta": np.array(json.dumps(provenance)), **arrays}))
