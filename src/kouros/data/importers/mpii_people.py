"""Lists of MPII's people, by which others divided its training images into training and validation.

Two forms are in use: ``train.h5`` and ``valid.h5`` of the stacked hourglass network's release (``imgname`` and
``center``), and ``mpii_train.json`` and ``mpii_val.json`` of HRNet's (objects with ``image`` and ``center``). Both
keep the centres of MPII's own file, by which a person is found again. A text file names whole images, one a line.
"""

from pathlib import Path

import numpy as np

from kouros.data.importers.matlab import load_mat73
from kouros.data.schema import DatasetError
from kouros.documents import read_json

_NEAR = 2.0
"""Pixels: how far a listed centre may be from the person's own."""


class PeopleList:
    """Which people of which images are wanted."""

    def __init__(self, path: Path) -> None:
        """Read a list.

        Raises:
            DatasetError: the file is missing or of another kind.
        """
        if not path.is_file():
            raise DatasetError(
                f"{path}: there is no such list of MPII's people; expected valid.h5, mpii_val.json or a text file of "
                "image names."
            )
        self._centers: dict[str, list[np.ndarray]] = {}
        self._whole = frozenset[str]()
        if path.suffix in (".h5", ".hdf5"):
            arrays = load_mat73(path, "imgname", "center")
            names = [_text(name) for name in arrays["imgname"]]
            centers = np.asarray(arrays["center"], dtype=np.float64)
        elif path.suffix == ".json":
            names, centers = _read_json(path)
        else:
            self._whole = frozenset(path.read_text().split())
            names, centers = [], np.zeros((0, 2))
        if centers.shape != (len(names), 2):
            raise DatasetError(f"{path}: centers have shape {centers.shape}; expected ({len(names)}, 2).")
        for name, center in zip(names, centers, strict=True):
            self._centers.setdefault(name, []).append(center)

    def __contains__(self, image: str) -> bool:
        return image in self._whole or image in self._centers

    def wants(self, image: str, center: np.ndarray) -> bool:
        """Whether the person of that centre (pixels, as in MPII's file) is listed."""
        listed = self._centers.get(image, [])
        return image in self._whole or any(float(np.linalg.norm(c - center)) < _NEAR for c in listed)


def _read_json(path: Path) -> tuple[list[str], np.ndarray]:
    try:
        people = read_json(path)
        names = [str(person["image"]) for person in people]
        centers = np.array([person["center"] for person in people], dtype=np.float64).reshape(-1, 2)
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{path}: expected a JSON list of people with `image` and `center` ({error!r}).") from None
    return names, centers


def _text(name: object) -> str:
    """A name, which HDF5 files hold as text, as bytes, or as character codes."""
    if isinstance(name, np.ndarray):
        return bytes(name.astype(np.uint8).tolist()).decode("latin1").strip("\0 ")
    return name.decode() if isinstance(name, bytes) else str(name)
