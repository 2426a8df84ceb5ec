"""AMASS: many mocap archives as SMPL-H motions (Mahmood et al., ICCV 2019), in its ``.npz`` files.

The world has z up there and y up here. SMPL-H's first 22 joints are SMPL's; the hands are left at rest. The
model's betas are SMPL-H's, of which the first ten are kept as the usual approximation. ``trans`` is the
model's translation, so the pelvis is off by its resting place, a constant of the subject.
"""

from pathlib import Path

import numpy as np

from kouros.data.importers.running import ImportReport, require
from kouros.data.mocap.importing import import_motions
from kouros.data.mocap.motion import Motion, load_arrays, turn_upright
from kouros.data.schema import DatasetError

_SPLITS = {
    "val": ("HumanEva", "MPI_HDM05", "SFU", "MPI_mosh"),
    "test": ("Transitions_mocap", "SSM_synced"),
}
"""Archives that are commonly held out; the others train."""


def read_amass(path: Path) -> Motion:
    """Read one ``*_poses.npz`` (SMPL-H) or ``*_stageii.npz`` (SMPL-X).

    Raises:
        DatasetError: the file is none.
    """
    arrays = load_arrays(path, ("poses", "trans"))
    rate = next((arrays[k] for k in ("mocap_framerate", "mocap_frame_rate") if k in arrays), None)
    poses = arrays["poses"]
    if rate is None or poses.ndim != 2 or poses.shape[1] not in (156, 165):
        raise DatasetError(
            f"{path}: expected AMASS's mocap_framerate and poses of shape (frames, 156), or (frames, 165); "
            f"it has "
            f"{', '.join(arrays)} and poses {poses.shape}."
        )
    smpl = np.zeros((len(poses), 72))
    smpl[:, :66] = poses[:, :66]
    smpl, trans = turn_upright(smpl, arrays["trans"].astype(np.float64))
    gender = arrays.get("gender")
    archive = path.parent.parent.name
    text = None if gender is None else gender.item()
    return Motion(
        poses=smpl.astype(np.float32),
        trans=trans.astype(np.float32),
        frame_rate=float(rate),
        betas=arrays["betas"].ravel()[:10].astype(np.float32) if "betas" in arrays else None,
        gender=text.decode() if isinstance(text, bytes) else text,
        subject=f"{archive}/{path.parent.name}",
        split=next((split for split, archives in _SPLITS.items() if archive in archives), "train"),
        label=path.stem.removesuffix("_poses").removesuffix("_stageii"),
        source="AMASS",
    )


def import_amass(source: Path, out: Path, *, frame_rate: float = 30.0) -> ImportReport:
    """Convert all motions below ``source`` (``<Subset>/<subject>/<motion>_poses.npz``), keeping the folders.

    Args:
        source: a folder above the motions.
        out: folder for the clips; made where it is missing.
        frame_rate: frames a second to keep.

    Raises:
        DatasetError: there are none.
    """
    files = sorted([*source.rglob("*_poses.npz"), *source.rglob("*_stageii.npz")])
    if not files:
        require("AMASS", source, "<Subset>/<subject>/<motion>_poses.npz")
    return import_motions(((f, f.relative_to(source)) for f in files), read_amass, out, frame_rate)
