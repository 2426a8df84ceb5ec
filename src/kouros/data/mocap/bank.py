"""A bank of single poses from imported motions: what synthetic people and learned starts draw their poses from.

Recordings linger: of each, a frame is taken only where some joint has turned since the last one taken.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial.transform import Rotation

from kouros.data.importers.running import ImportReport, Problem, require
from kouros.data.mocap.motion import read_motion
from kouros.data.mocap.source import BANK_NAME, splits_of
from kouros.data.schema import DatasetError
from kouros.files import npz_bytes, write_file
from kouros.locks import only_writer


def make_pose_bank(
    source: Path, out: Path, *, turned: float = 15.0, poses: int = 500_000, seed: int = 0
) -> ImportReport:
    """Write ``diverse_frames.npz``: ``poses`` (N, 72), ``split``, and the motion and frame that each comes from; of
    all motions ``keys`` and ``splits``.

    Motions without a split of their own are divided by their people, a tenth of whom validate.

    Args:
        source: folder of motion files, as imported; searched with its sub-folders.
        out: folder for the bank; made where it is missing.
        turned: degrees by which some joint must have turned since the last pose taken.
        poses: at most so many are kept, drawn at random.
        seed: of that draw, where there are more.

    Raises:
        DatasetError: there are no motions, not one can be read, or another bank has the place.
        BusyError: another process is writing that bank.
    """
    files = [f for f in sorted(source.rglob("*.npz")) if f.name != BANK_NAME]
    if not files:
        require("Motions", source, "<motion>.npz (made by `kouros import amass`, aist or cmu)")
    problems: list[Problem] = []
    taken: list[np.ndarray] = []
    frames: list[np.ndarray] = []
    read: list[tuple[str, str, str | None]] = []
    for file in files:
        try:
            motion = read_motion(file)
        except DatasetError as error:
            problems.append(Problem(str(file), str(error)))
            continue
        valid = np.arange(len(motion.poses)) if motion.valid is None else np.flatnonzero(motion.valid)
        rows = valid[moved(motion.poses[valid], np.radians(turned))]
        taken.append(motion.poses[rows])
        frames.append(rows)
        key = file.relative_to(source).with_suffix("").as_posix()
        read.append((key, motion.subject or key, motion.split))
    count = sum(len(rows) for rows in frames)
    if not count:
        raise DatasetError(f"{source}: no motion could be read. The first problem: {problems[0].what}")
    splits = splits_of(read)
    sequence = np.repeat(np.arange(len(frames), dtype=np.int32), [len(rows) for rows in frames])
    chosen = np.sort(np.random.default_rng(seed).permutation(count)[:poses])
    arrays = {
        "poses": np.concatenate(taken)[chosen].astype(np.float32),
        "split": np.array(splits)[sequence[chosen]],
        "sequence": sequence[chosen],
        "frame": np.concatenate(frames)[chosen].astype(np.int32),
        "keys": np.array([key for key, _, _ in read]),
        "splits": np.array(splits),
    }
    path = out / BANK_NAME
    content = npz_bytes(arrays)
    with only_writer(path):
        if path.exists() and path.read_bytes() != content:
            raise DatasetError(
                f"{path} is there already, of other motions or options; name another --out, or remove it."
            )
        write_file(path, content)
    return ImportReport(path, len(chosen), tuple(problems), 0)


def moved(poses: Float[np.ndarray, "frames 72"], radians: float) -> Int[np.ndarray, " taken"]:
    """Frames with some joint turned since the last one taken; the whole body's turn counts too.

    Args:
        poses: rotation vectors, radians.
        radians: least turn.
    """
    quaternions = Rotation.from_rotvec(poses.reshape(-1, 3)).as_quat().reshape(-1, 24, 4)
    half_cosine = np.cos(radians / 2)
    rows: list[int] = []
    for row in range(len(poses)):
        # |q . q'| is the cosine of half the angle between two rotations.
        if not rows or np.abs((quaternions[row] * quaternions[rows[-1]]).sum(axis=1)).min() < half_cosine:
            rows.append(row)
    return np.array(rows, dtype=np.int64)
