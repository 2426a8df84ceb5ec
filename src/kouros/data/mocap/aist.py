"""AIST++: dances as SMPL motions (Li et al., ICCV 2021), in the pickles of its ``motions`` folder.

Motions are of the male body of mean shape, scaled: dividing the translation by the scale gives metres for an
unscaled body.
"""

import re
from pathlib import Path

import numpy as np

from kouros.data.importers.pickles import load_pickle
from kouros.data.importers.running import ImportReport, require
from kouros.data.mocap.importing import import_motions
from kouros.data.mocap.motion import Motion
from kouros.data.schema import DatasetError

_FRAME_RATE = 60.0


def read_aist(path: Path) -> Motion:
    """Read one motion; its poses may be (F, 72), as in the files, or (F, 24, 3), as the data set's code says.

    Raises:
        DatasetError: the file is none.
    """
    content = load_pickle(path)
    missing = [key for key in ("smpl_poses", "smpl_scaling", "smpl_trans") if key not in content]
    if missing:
        raise DatasetError(f"{path}: the motion has no {', '.join(missing)}.")
    poses = np.asarray(content["smpl_poses"], dtype=np.float32)
    scale = float(np.ravel(content["smpl_scaling"])[0])
    if not scale > 0:
        raise DatasetError(f"{path}: the motion's scale is {scale}; expected a positive number.")
    dancer = re.search(r"_(d\d+)_", path.stem)
    return Motion(
        poses=poses.reshape(len(poses), -1),
        trans=(np.asarray(content["smpl_trans"], dtype=np.float64) / scale).astype(np.float32),
        frame_rate=_FRAME_RATE,
        betas=np.zeros(10, dtype=np.float32),
        gender="male",
        label=path.stem,
        subject=None if dancer is None else f"aist_{dancer[1]}",
        source="AIST++",
    )


def import_aist(source: Path, out: Path, *, frame_rate: float = 30.0) -> ImportReport:
    """Convert ``motions/*.pkl`` but those named in ``ignore_list.txt``.

    Args:
        source: the folder with ``motions``.
        out: folder for the clips; made where it is missing.
        frame_rate: frames a second to keep.

    Raises:
        DatasetError: there are none.
    """
    folder = require("AIST++", source, "motions")
    ignored = source / "ignore_list.txt"
    skip = set(ignored.read_text().split()) if ignored.is_file() else set()
    files = [f for f in sorted(folder.glob("*.pkl")) if f.stem not in skip]
    if not files:
        require("AIST++", folder, "<sequence>.pkl")
    return import_motions(((f, Path(f"{f.stem}.npz")) for f in files), read_aist, out, frame_rate)
