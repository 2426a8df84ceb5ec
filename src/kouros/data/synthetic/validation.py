"""``synthetic-val``: the fixed 2,000 pictures that estimators are compared on, from parameters in the package.

Their poses come from the held-out split of the motion capture, and from families drawn by rule; they are stored with
the package, so that nothing else is needed to make the pictures again. Clothes, light and backgrounds follow from the
seed. `python -m kouros.data.synthetic.validation MOCAP` made the file; `synthetic_val.json` says what it and some of
the pictures must be.
"""

import hashlib
import json
import sys
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from kouros.data.mocap.recombination import read_bank
from kouros.data.synthetic.draw import Stage
from kouros.data.synthetic.generate import Order, finish
from kouros.data.synthetic.scenes import Scene, SceneConfig, draw_scene, pack, unpack
from kouros.data.synthetic.source import SyntheticSource
from kouros.documents import read_json
from kouros.files import npz_bytes, write_file

PICTURES = 2000
SEED = 1701
_FOLDER = Path(__file__).parent / "data"
_FILE, _SUMS = _FOLDER / "synthetic_val.npz", _FOLDER / "synthetic_val.json"
_CHECKED = (0, 999, 1999)
_THUMB = 8


def synthetic_val(folder: str | Path) -> SyntheticSource:
    """The fixed pictures, made into a folder where it does not hold them yet (a minute or two).

    Raises:
        ValueError: the folder holds other people, or the package's file is damaged.
        OSError: the folder cannot be written.
    """
    folder = Path(folder)
    if not (folder / "synthetic_val.parquet").is_file():
        order = Order(people=PICTURES, seed=SEED, split="val")
        finish(order, folder, packaged_scenes(), poses="packaged synthetic_val.npz")
    return SyntheticSource(folder)


def packaged_scenes() -> list[Scene]:
    """The stored parameters.

    Raises:
        ValueError: they are not what the package's checksum says.
    """
    content = _FILE.read_bytes()
    if hashlib.sha256(content).hexdigest() != sums()["parameters"]:
        raise ValueError(f"{_FILE} is damaged; install kouros again.")
    return unpack(content, str(_FILE))


@cache
def sums() -> dict[str, object]:
    """What ``synthetic_val.json`` says: a digest of the parameters, and thumbnails of some pictures."""
    return dict(read_json(_SUMS))


def thumbnail(picture: np.ndarray) -> list[int]:
    """8 x 8 colours: equal within rounding wherever a picture is rendered, and unlike any other picture's."""
    small = cv2.resize(picture, (_THUMB, _THUMB), interpolation=cv2.INTER_AREA)
    return [int(value) for value in small.ravel()]


def main(mocap: str) -> None:
    """Draw the parameters and write them and their checksums into the package."""
    stage, bank, config = Stage(), read_bank(Path(mocap), "val"), SceneConfig()
    scenes = [draw_scene(SEED, i, stage.body, bank, config) for i in range(PICTURES)]
    content = npz_bytes(pack(scenes))
    write_file(_FILE, content)
    scenes = unpack(bytes(content), str(_FILE))
    digest = hashlib.sha256(content).hexdigest()
    pictures = {str(i): thumbnail(stage.picture(scenes[i])) for i in _CHECKED}
    write_file(_SUMS, json.dumps({"parameters": digest, "pictures": pictures}).encode())


if __name__ == "__main__":
    main(sys.argv[1])
