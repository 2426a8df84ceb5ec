"""Poses that nothing of kouros has learned from, as a bank to synthesize people of: acrobatics, fights, crawling.

    pip download --no-deps --no-binary :all: pybullet==3.2.7
    tar xzf pybullet-3.2.7.tar.gz --wildcards '*/data/motions/humanoid3d_*.txt'
    python benchmarks/unseen_poses.py FOLDER_OF_THESE --out unseen/diverse_frames.npz

The files are those of DeepMimic (Peng et al. 2018; MIT): backflip, cartwheel, crawl, two dances, two ways to get up,
jump, kick, punch, roll, run, spin, spin kick, walk. A frame is a root, turns of chest, neck, hips, ankles and shoulders
as quaternions (w, x, y, z), and angles of knees and elbows, for a figure that looks along +x with its right at +z and
rests with its arms hanging. Writes them on kouros's tree (`kouros.data.mocap`), half as recorded and half recombined:
arms of one frame, legs of a second, trunk of a third.
"""

import argparse
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from kouros.body.skeleton import JOINT_NAMES, PARENTS
from kouros.data.mocap.bank import moved
from kouros.documents import read_json
from kouros.files import npz_bytes, write_file

_J = {name: index for index, name in enumerate(JOINT_NAMES)}
_TO_OURS = np.array([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
"""Left, up, ahead from their ahead, up, right."""
_FRAME = 44
_EVERY_DEGREES = 12.0
"""Frames are taken that have turned some joint by as much since the last."""


def global_turns(frames: np.ndarray) -> dict[str, Rotation]:
    """What each part's bone has turned by since it rested, in their world."""

    def ball(first: int) -> Rotation:
        return Rotation.from_quat(frames[:, [first + 1, first + 2, first + 3, first]])

    def hinge(place: int) -> Rotation:
        return Rotation.from_rotvec(frames[:, place, None] * np.array([0.0, 0.0, 1.0]))

    turns = {"root": ball(4)}
    turns["chest"] = turns["root"] * ball(8)
    turns["neck"] = turns["chest"] * ball(12)
    for side, hip, shoulder in (("right", 16, 25), ("left", 30, 39)):
        turns[f"{side}_hip"] = turns["root"] * ball(hip)
        turns[f"{side}_knee"] = turns[f"{side}_hip"] * hinge(hip + 4)
        turns[f"{side}_ankle"] = turns[f"{side}_knee"] * ball(hip + 5)
        turns[f"{side}_shoulder"] = turns["chest"] * ball(shoulder)
        turns[f"{side}_elbow"] = turns[f"{side}_shoulder"] * hinge(shoulder + 4)
    return turns


def poses_of(frames: np.ndarray) -> np.ndarray:
    """(frames, 72) rotation vectors on kouros's tree; world with y up."""
    turns = {
        name: Rotation.from_matrix(_TO_OURS @ t.as_matrix() @ _TO_OURS.T) for name, t in global_turns(frames).items()
    }
    # Ours rest with arms held out sideways, theirs with arms hanging.
    for side, angle in (("left", -90.0), ("right", 90.0)):
        for part in ("shoulder", "elbow"):
            turns[f"{side}_{part}"] = turns[f"{side}_{part}"] * Rotation.from_euler("z", angle, degrees=True)
    bend = (turns["root"].inv() * turns["chest"]).as_rotvec()
    nod = (turns["chest"].inv() * turns["neck"]).as_rotvec()
    world = {"pelvis": turns["root"]}
    for k, name in enumerate(("spine1", "spine2", "spine3"), start=1):
        world[name] = turns["root"] * Rotation.from_rotvec(bend * k / 3)
    world["neck"] = turns["chest"] * Rotation.from_rotvec(nod / 2)
    world["head"] = turns["neck"]
    for side in ("left", "right"):
        world |= {f"{side}_{part}": turns[f"{side}_{part}"] for part in ("hip", "knee", "ankle", "shoulder", "elbow")}
    local = np.zeros((len(frames), len(JOINT_NAMES), 3))
    for joint, name in enumerate(JOINT_NAMES):
        if name not in world:
            continue  # collars, wrists, hands and toes do not turn
        above = PARENTS[joint]
        while above >= 0 and JOINT_NAMES[above] not in world:
            above = PARENTS[above]
        turn = world[name] if above < 0 else world[JOINT_NAMES[above]].inv() * world[name]
        local[:, joint] = turn.as_rotvec()
    return local.reshape(len(frames), -1).astype(np.float32)


def recombined(poses: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As many, each with the arms of another frame and the legs of a third."""
    new = poses[rng.permutation(len(poses))].reshape(len(poses), -1, 3)
    for parts in (("collar", "shoulder", "elbow", "wrist", "hand"), ("hip", "knee", "ankle", "foot")):
        joints = [_J[f"{side}_{part}"] for side in ("left", "right") for part in parts]
        new[:, joints] = poses[rng.permutation(len(poses))].reshape(len(poses), -1, 3)[:, joints]
    return new.reshape(len(poses), -1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    poses: list[np.ndarray] = []
    names: list[str] = []
    sequence: list[int] = []
    for path in sorted(given.folder.rglob("humanoid3d_*.txt")):
        frames = np.array(read_json(path)["Frames"], dtype=np.float64)
        if frames.shape[1] != _FRAME:
            raise SystemExit(f"{path} has {frames.shape[1]} numbers a frame; expected {_FRAME}, DeepMimic's humanoid.")
        found = poses_of(frames)
        rows = moved(found, np.radians(_EVERY_DEGREES))
        poses.append(found[rows])
        sequence += [len(names)] * len(rows)
        names.append(path.stem.removeprefix("humanoid3d_"))
        print(f"{names[-1]}: {len(rows)} of {len(found)} frames")
    recorded = np.concatenate(poses)
    both = np.concatenate([recorded, recombined(recorded, np.random.default_rng(given.seed))])
    arrays = {
        "poses": both,
        "split": np.full(len(both), "val"),
        "sequence": np.array(sequence + [len(names)] * len(recorded)),
        "keys": np.array([*names, "recombined"]),
    }
    given.out.parent.mkdir(parents=True, exist_ok=True)
    write_file(given.out, npz_bytes(arrays))
    print(f"{given.out}: {len(both)} poses")


if __name__ == "__main__":
    main()
