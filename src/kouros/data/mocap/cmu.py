"""The CMU motion capture database on the 24-joint tree: its ASF/AMC files retargeted to the T-pose that poses
refer to.

CMU's figure rests with its legs 20 degrees apart, so each bone is first turned, by the smallest rotation,
from where the T-pose has it to where CMU's rest pose has it; the source's own turns follow. The upper arm is
also turned about itself until the elbow's hinges agree, and elbow and wrist share the forearm's pronation.
The neck stands halfway between chest and head, because CMU's three neck bones zigzag.
"""

from functools import partial
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from kouros.body.skeleton import JOINT_NAMES, PARENTS
from kouros.data.importers.running import ImportReport, require
from kouros.data.mocap.asf_amc import Skeleton, bone_rotations, read_amc, read_asf
from kouros.data.mocap.importing import import_motions
from kouros.data.mocap.motion import Motion
from kouros.data.schema import DatasetError

_HIPS_BELOW_PELVIS = 0.09
"""Metres: where the T-pose's pelvis joint lies above the middle of the hips."""
_FOOT_DIRECTION = np.array([0.0, -0.045, 0.13])
"""From the T-pose's ankle to the ball of its foot."""
_DOWN, _FORWARD = np.array([0.0, -1.0, 0.0]), np.array([0.0, 0.0, 1.0])
_BONES = frozenset({"lowerback", "upperback", "thorax", "head"}) | {
    side + name
    for side in "lr"
    for name in (
        "hipjoint", "femur", "tibia", "foot", "toes", "clavicle", "humerus", "radius", "wrist", "hand"
    )
}  # fmt: skip
_SOURCE = "CMU Graphics Lab Motion Capture Database, mocap.cs.cmu.edu, created with funding from NSF EIA-0196217"


def read_cmu(amc: Path, asf: Path, *, frame_rate: float = 120.0, head_pitch: float = 0.0) -> Motion:
    """Read a trial of the database.

    Args:
        frame_rate: frames a second, which the files do not say: 120 but for a few subjects with 60.
        head_pitch: degrees that the subject's head marker set looks up in excess; taken off.

    Raises:
        DatasetError: a file is broken or the skeleton is not CMU's.
    """
    skeleton = read_asf(asf)
    missing = _BONES - {bone.name for bone in skeleton.bones}
    if missing:
        raise DatasetError(f"{asf}: CMU's skeletons have bones that this one lacks: {', '.join(sorted(missing))}.")
    turns, places = bone_rotations(skeleton, read_amc(amc, skeleton))
    world = _joint_rotations(skeleton, turns, head_pitch)
    parents = [world[JOINT_NAMES[p]] if p >= 0 else Rotation.identity() for p in PARENTS]
    local = [parent.inv() * world[name] for name, parent in zip(JOINT_NAMES, parents, strict=True)]
    poses = np.concatenate([joint.as_rotvec() for joint in local], axis=1)
    hips = [skeleton.bone(f"{side}hipjoint") for side in "lr"]
    middle = sum(hip.direction * hip.length for hip in hips) / 2
    trans = places["root"] + turns["root"].apply(middle - _HIPS_BELOW_PELVIS * _DOWN)
    return Motion(
        poses=poses.astype(np.float32),
        trans=trans.astype(np.float32),
        frame_rate=frame_rate,
        label=amc.stem,
        subject=f"cmu{asf.stem}",
        source=_SOURCE,
    )


def import_cmu(source: Path, out: Path, *, frame_rate: float = 30.0, source_rate: float = 120.0) -> ImportReport:
    """Convert all ``<subject>_<trial>.amc`` below ``source`` that lie beside their ``<subject>.asf``.

    Args:
        source: a folder above the trials.
        out: folder for the clips; made where it is missing.
        frame_rate: frames a second to keep.
        source_rate: frames a second of the recordings, which the files do not say: 120 but for a few subjects with 60.

    Raises:
        DatasetError: there are none.
    """
    trials = [(amc, amc.with_name(f"{amc.stem.split('_')[0]}.asf")) for amc in sorted(source.rglob("*.amc"))]
    skeletons = dict(trials)
    if not any(asf.is_file() for asf in skeletons.values()):
        require("CMU motion capture", source, "subjects/01/01.asf and subjects/01/01_01.amc")

    def convert(amc: Path) -> Motion:
        return read_cmu(amc, skeletons[amc], frame_rate=source_rate)

    files = ((amc, Path(f"cmu_{amc.stem}.npz")) for amc, _ in trials)
    return import_motions(files, convert, out, frame_rate, {"source_rate": source_rate})


def _joint_rotations(skeleton: Skeleton, turns: dict[str, Rotation], head_pitch: float) -> dict[str, Rotation]:
    """Rotation of each joint in the world."""
    world = {"pelvis": turns["root"]}
    for joint, name in (("spine1", "lowerback"), ("spine2", "upperback"), ("spine3", "thorax")):
        world[joint] = turns[name]
    world["head"] = turns["head"] * Rotation.from_euler("x", -head_pitch, degrees=True)
    to_head = (world["spine3"].inv() * world["head"]).as_rotvec()
    world["neck"] = world["spine3"] * Rotation.from_rotvec(to_head / 2)
    for side, s in (("left", "l"), ("right", "r")):
        bone = partial(_bone_direction, skeleton, s)
        hip = _smallest_turn(_DOWN, bone("femur"))
        knee = _smallest_turn(_DOWN, bone("tibia"))
        ankle = knee * _smallest_turn(_FOOT_DIRECTION, knee.inv().apply(bone("foot")))
        toes = knee * _smallest_turn(_FORWARD, knee.inv().apply(bone("toes")))
        rests = {"hip": hip, "knee": knee, "ankle": ankle, "foot": toes}
        for joint, name in (("hip", "femur"), ("knee", "tibia"), ("ankle", "foot"), ("foot", "toes")):
            world[f"{side}_{joint}"] = turns[s + name] * rests[joint]
        outward = np.array([1.0 if s == "l" else -1.0, 0.0, 0.0])
        # The T-pose's elbows bend about -y (left) and +y (right), the source's about the x of the forearm's
        # frame.
        hinge = skeleton.bone(f"{s}radius").axis.apply([1.0, 0.0, 0.0])
        upper = _frame(bone("humerus"), hinge) * _frame(outward, outward[0] * _DOWN).inv()
        lower = _frame(bone("radius"), hinge) * _frame(outward, outward[0] * _DOWN).inv()
        wrist = turns[f"{s}hand"] * _smallest_turn(outward, bone("hand"))
        unturned = turns[f"{s}radius"] * lower
        pronation = _twist(unturned.inv() * turns[f"{s}wrist"], outward)
        world[f"{side}_collar"] = turns[f"{s}clavicle"]
        world[f"{side}_shoulder"] = turns[f"{s}humerus"] * upper
        world[f"{side}_elbow"] = unturned * Rotation.from_rotvec(pronation[:, None] / 2 * outward)
        world[f"{side}_wrist"] = world[f"{side}_hand"] = wrist
    return world


def _bone_direction(skeleton: Skeleton, side: str, name: str) -> np.ndarray:
    return skeleton.bone(side + name).direction


def _smallest_turn(start: np.ndarray, end: np.ndarray) -> Rotation:
    """The smallest rotation that lays ``start``'s direction on ``end``'s; they must not be opposite."""
    start, end = start / np.linalg.norm(start), end / np.linalg.norm(end)
    axis, cosine = np.cross(start, end), float(start @ end)
    sine = float(np.linalg.norm(axis))
    if sine < 1e-12:
        if cosine < 0:
            raise DatasetError("A bone of the skeleton rests opposite to where a person's is.")
        return Rotation.identity()
    return Rotation.from_rotvec(axis / sine * np.arctan2(sine, cosine))


def _frame(along: np.ndarray, hinge: np.ndarray) -> Rotation:
    """The frame whose x is a bone and whose y is its hinge, as far as it is across."""
    across = hinge - (hinge @ along) * along
    across /= np.linalg.norm(across)
    return Rotation.from_matrix(np.stack([along, across, np.cross(along, across)], axis=1))


def _twist(turns: Rotation, axis: np.ndarray) -> np.ndarray:
    """Angles of the part of each rotation that turns about ``axis``, in (-pi, pi]."""
    quat = turns.as_quat()
    angle = 2 * np.arctan2(quat[:, :3] @ axis, quat[:, 3])
    return (angle + np.pi) % (2 * np.pi) - np.pi
