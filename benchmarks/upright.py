"""How well do the people of a photo tell which way is up, and how well do they stand on its floor?

    python benchmarks/upright.py drawn PEOPLE [--weights tilt.npz] [--assumed]
    python benchmarks/upright.py photos FOLDER [--weights tilt.npz] [--assumed]

PEOPLE is a folder that `kouros synthesize --detections` made, of poses that the network was not trained on: prints the
angle between the true and the estimated up, of single people by what they do, and of all detected people of a picture
together; how far from the floor their lowest point is; how far the pelvis is from where it really is; and by how much
bodies, moved rigidly as near to the true ones as can be, are tipped over. FOLDER holds calibrated photos as in
`benchmarks/multiview.py`, with the world's up in the camera's axes. With --assumed the focal length is unknown.
"""

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from kouros.geometry.alignment import align
from kouros.geometry.tilt import tilt_of_up
from kouros.networks.tilt_network import TiltNetwork
from kouros.pipeline.person import Person
from kouros.pipeline.reconstructor import default_reconstructor
from kouros.pipeline.upright import load_tilt_network, packaged_tilt_network, world_of
from kouros.pipeline.upright_training import DrawnPerson, drawn_joints, drawn_people, estimated


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("drawn", "photos"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--assumed", action="store_true")
    given = parser.parse_args()
    network = packaged_tilt_network() if given.weights is None else load_tilt_network(given.weights)
    with torch.no_grad():
        rows = (on_drawn if given.what == "drawn" else on_photos)(given.folder, network, given.assumed)
    table = Table("who", "number", "mean, degrees", "median", "worst", "expected", *_METRES)
    for name, row in rows.items():
        table.add_row(name, str(len(row)), *(f"{value:.2f}" for value in _summary(np.array(row))))
    Console(width=150).print(table)


_METRES = ("depth, cm", "placed, cm", "off the floor, cm", "bodies turned, degrees")
_STEEP = 15.0
"""Degrees between a camera's pitch and what cameras are mostly held like."""


def on_drawn(folder: Path, network: TiltNetwork | None, assumed: bool) -> dict[str, list[list[float]]]:
    """Angle, expected angle, distance of pelvises before and after they are placed, height over the floor."""
    reconstructor = default_reconstructor()
    scenes: dict[int, list[tuple[DrawnPerson, Person]]] = defaultdict(list)
    for drawn, person in estimated(drawn_people(folder, reconstructor), reconstructor, assumed=assumed):
        scenes[drawn.scene.index].append((drawn, person))
    rows: dict[str, list[list[float]]] = defaultdict(list)
    for pairs in scenes.values():
        for pair in pairs:
            family = pair[0].scene.family[pair[0].number]
            rows[f"one {family}"].append(_row([pair], network))
            rows["one, anything"].append(rows[f"one {family}"][-1])
            if family == "standing":
                pitch = float(torch.rad2deg(tilt_of_up(pair[0].up)[0] - packaged_tilt_network().prior[0, 0]))
                camera = "steep" if abs(pitch) > _STEEP else "usual"
                rows[f"one standing, {camera} camera"].append(rows["one standing"][-1])
        rows[f"{len(pairs)} in a picture"].append(_row(pairs, network))
        standing = [p for p in pairs if p[0].scene.family[p[0].number] == "standing"]
        if len(standing) > 1:
            rows[f"{len(standing)} standing"].append(_row(standing, network))
    return dict(sorted(rows.items()))


def _row(pairs: Sequence[tuple[DrawnPerson, Person]], network: TiltNetwork | None) -> list[float]:
    world = world_of([person for _, person in pairs], network)
    up, shot = pairs[0][0].up, pairs[0][0].scene.shot
    before, after, floor, turned = [], [], [], []
    for k, (drawn, person) in enumerate(pairs):
        scene, i = drawn.scene, drawn.number
        true = torch.from_numpy(scene.transl[i]) - person.transl
        before.append(float(true.norm()))
        after.append(float((torch.from_numpy(scene.transl[i]) - world.sizes[k] * person.transl).norm()))
        joints = drawn_joints(scene, person.body)[i][None]
        turned.append(_angle(align(joints, person.joints[None]).rotation[0] @ up, up))
        floor.append(abs(float((world.sizes[k] * person.vertices @ up).min()) + float(shot.eye[1])))
    return [
        _angle(world.up, up),
        np.degrees(world.uncertainty),
        *(100 * float(np.mean(a)) for a in (before, after, floor)),
        float(np.mean(turned)),
    ]


def on_photos(folder: Path, network: TiltNetwork | None, assumed: bool) -> dict[str, list[list[float]]]:
    """Angle and expected angle of each photo."""
    truth = np.load(folder / "annotations.npz")
    reconstructor = default_reconstructor()
    rows: dict[str, list[list[float]]] = defaultdict(list)
    for image in sorted(set(map(str, truth["image"]))):
        first = int(np.flatnonzero(truth["image"] == image)[0])
        focal = None if assumed else float(truth["intrinsics"][first][:2].mean())
        people = reconstructor.reconstruct(folder / image, focal_length=focal)
        up = torch.from_numpy(truth["up"][first]).float()
        for person in people:
            alone = world_of([person], network)
            rows["one person"].append([_angle(alone.up, up), np.degrees(alone.uncertainty)])
        world = world_of(people, network)
        rows["photo"].append([_angle(world.up, up), np.degrees(world.uncertainty)])
        rows["level camera"].append([_angle(torch.tensor([0.0, -1.0, 0.0]), up), float("nan")])
    print("by photo:", [round(row[0], 1) for row in rows["photo"]])
    return rows


def _angle(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(torch.rad2deg(torch.atan2(torch.linalg.cross(one, other).norm(), one @ other)))


def _summary(rows: np.ndarray) -> list[float]:
    angle = rows[:, 0]
    return [angle.mean(), float(np.median(angle)), angle.max(), *rows[:, 1:].mean(axis=0)]


if __name__ == "__main__":
    main()
