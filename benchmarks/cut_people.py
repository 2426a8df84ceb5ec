"""What legs are people given whom the picture's edge cuts off?

    python benchmarks/cut_people.py MOCAP [--people 16] [--out FOLDER]

Draws people of held-out poses who stand, and some who sit, so that the edge cuts them at the chest, the waist, the
thighs or the knees, lets the default reconstruct them, with standing legs below upright trunks and without, and prints
how far thighs and shanks are from hanging straight down, the larger knee flexion, the share of squats (knees bent by
more than 45 degrees) and the error of the estimated up. MOCAP holds diverse_frames.npz; FOLDER gets the pictures.
"""

import argparse
import math
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from kouros.body.model import BodyModel
from kouros.body.skeleton import JOINT_NAMES
from kouros.data.mocap.recombination import PoseBank, read_bank
from kouros.data.synthetic.cameras import Shot, looking
from kouros.data.synthetic.draw import Stage
from kouros.data.synthetic.poses import draw_people
from kouros.data.synthetic.scenes import Scene, rng_of, rounded
from kouros.export.pictures import overlay_picture, png_bytes
from kouros.files import write_file
from kouros.pipeline.cut_legs import with_standing_legs
from kouros.pipeline.person import Person
from kouros.pipeline.reconstructor import default_reconstructor
from kouros.pipeline.upright import world_of
from kouros.systems.estimator import in_photo_camera

_J = {name: joint for joint, name in enumerate(JOINT_NAMES)}
_SIDE, _SEED, _TRIES = 448, 79, 20
_CUTS = {"recorded": ("chest", "waist", "thighs", "knees"), "seated": ("chest", "waist")}
_SQUAT = 45.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mocap", type=Path)
    parser.add_argument("--people", type=int, default=16)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    reconstructor, stage = default_reconstructor(), Stage()
    bank = read_bank(given.mocap / "diverse_frames.npz", "val")
    rows: dict[tuple[str, str, str], list[list[float]]] = defaultdict(list)
    for family, cuts in _CUTS.items():
        for cut, index in ((cut, index) for cut in cuts for index in range(given.people)):
            scene = _scene(index, cut, reconstructor.body, bank, family)
            picture = stage.picture(scene, stage.staged(scene))
            seen = reconstructor.see(picture, focal_length=scene.shot.focal)[:1]
            (answer,) = reconstructor.estimator.estimate(seen) if seen else [None]
            if answer is None:
                continue
            up = torch.from_numpy(scene.shot.world_to_camera[:, 1]).float()
            was = Person.of(in_photo_camera(answer, seen[0]), seen[0], reconstructor.body)
            for name, person in (("as fitted", was), ("standing", with_standing_legs(was))):
                rows[family, cut, name].append(_row(person, up))
            if given.out:
                data = png_bytes(overlay_picture(picture, [person], world_of([person])))
                write_file(given.out / f"{family}_{cut}_{index}.png", data)
    table = Table("people", "cut at", "legs", "number", "thighs", "shanks", "knees", "squat", "up off")
    for (family, cut, name), row in rows.items():
        numbers = np.array(row)
        squats = f"{100 * (numbers[:, 2] > _SQUAT).mean():.0f} %"
        thighs, shanks, knees, off = (f"{value:.1f}" for value in numbers.mean(axis=0))
        table.add_row(family, cut, name, str(len(row)), thighs, shanks, knees, squats, off)
    Console(width=110).print(table)


def _row(person: Person, up: torch.Tensor) -> list[float]:
    """Degrees: thighs and shanks from straight down, the more bent knee, the estimated up."""
    joints = person.joints

    def off(one: str, other: str) -> float:
        bones = [joints[_J[f"{s}_{one}"]] - joints[_J[f"{s}_{other}"]] for s in ("left", "right")]
        return float(np.mean([_angle(bone, up) for bone in bones]))

    knees = max(person.joint_angles[f"{s}_knee"]["flexion"] for s in ("left", "right"))
    return [off("hip", "knee"), off("knee", "ankle"), knees, _angle(world_of([person]).up, up)]


def _angle(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(torch.rad2deg(torch.atan2(torch.linalg.cross(one, other).norm(), one @ other)))


def _scene(index: int, cut: str, body: BodyModel, bank: PoseBank, family: str) -> Scene:
    """Somebody whom a camera at about the height of the picture's middle sees from the head down to the cut."""
    rng = rng_of(_SEED, index, 0)
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    for _ in range(_TRIES):
        rotations = draw_people(1, bank, body, generator, families=(family,)).rotations
        if family == "seated" or _stands(rotations, body):
            break
    betas = torch.from_numpy(np.clip(rng.normal(0, 1, (1, body.num_betas)), -2.5, 2.5)).float()
    posed = body(betas, rotations[:, 1:], rotations[:, 0], pose2rot=False)
    vertices, joints = posed.vertices[0].numpy().astype(np.float64), posed.joints[0].numpy().astype(np.float64)
    under = np.array([joints[0, 0], vertices[:, 1].min(), joints[0, 2]])
    vertices, joints = vertices - under, joints - under
    bottom, top = _level(cut, joints), float(vertices[:, 1].max())
    focal = _SIDE * float(np.exp(rng.uniform(np.log(0.9), np.log(2.5))))
    ahead = rotations[0, 0, :, 2].numpy()
    around = math.atan2(ahead[0], ahead[2]) + rng.uniform(-1.1, 1.1)
    above = np.deg2rad(np.clip(rng.normal(3, 6), -12, 20))
    middle = np.array([0.0, (bottom + top) / 2 + 0.04 * (top - bottom), 0.0])
    away = np.array([np.cos(above) * np.sin(around), np.sin(above), np.cos(above) * np.cos(around)])
    eye = middle + 1.12 * focal * (top - bottom) / _SIDE * away
    eye[1] = max(eye[1], 0.25)
    turn = looking(middle - eye, np.deg2rad(rng.normal(0, 2)))
    shot = Shot(focal, np.full(2, _SIDE / 2), np.column_stack([turn, -turn @ eye]))
    return rounded(_SEED, index, _SIDE, shot, rotations, betas, joints[None, 0], body, (family,), [])


def _stands(rotations: torch.Tensor, body: BodyModel) -> bool:
    joints = body.joint_positions(body_pose=rotations[:, 1:], global_orient=rotations[:, 0], pose2rot=False)[0]

    def rise(low: str, high: str) -> float:
        bone = joints[_J[high]] - joints[_J[low]]
        return float(bone[1] / bone.norm())

    sides = ("left", "right")
    legs = [rise(f"{s}_knee", f"{s}_hip") > 0.9 and rise(f"{s}_ankle", f"{s}_knee") > 0.85 for s in sides]
    return all(legs) and rise("pelvis", "neck") > 0.95


def _level(cut: str, joints: np.ndarray) -> float:
    """How high above the floor the picture's lower edge is."""
    hip, knee = joints[_J["left_hip"], 1], min(joints[_J["left_knee"], 1], joints[_J["right_knee"], 1])
    chest = 0.6 * joints[_J["spine3"], 1] + 0.4 * joints[_J["neck"], 1] - 0.05
    levels = {"chest": chest, "waist": joints[0, 1] + 0.06, "thighs": (hip + knee) / 2, "knees": knee + 0.03}
    return float(levels[cut])


if __name__ == "__main__":
    with torch.no_grad():
        main()
