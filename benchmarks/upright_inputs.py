"""What would the tilt network need to see to tell better which way is up?

    python benchmarks/upright_inputs.py PEOPLE HELD_OUT

Both are folders that `kouros synthesize --detections` made, HELD_OUT of poses of the other split. Networks like
`kouros.networks.tilt_network` are trained alike (seed 0) on the estimated people of PEOPLE, with the camera's focal
length and with the assumed one, and judged on HELD_OUT's by the angle between the estimated and the true up, degrees:
shown the joints, as kouros has it; also how sure each joint is; also the 2D keypoints and their confidences; also
BlazePose's 3D landmarks and MoveNet's depths; and trained and judged on the joints as they were drawn.
"""

import argparse
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from kouros.body.keypoints import BLAZEPOSE33, COCO17
from kouros.body.skeleton import MIRROR
from kouros.geometry.rotations import rotvec_to_rotmat
from kouros.geometry.tilt import up_of_tilt
from kouros.pipeline.reconstructor import Reconstructor, default_reconstructor
from kouros.pipeline.upright import inside_picture
from kouros.pipeline.upright_training import drawn_joints, drawn_people, estimated, train_averaged, unlikeliness

_STEPS, _BATCH, _WIDTH = 4_000, 256, 96
_INPUTS = {
    "the joints": "",
    "and their uncertainty": "u",
    "and 2D keypoints": "uk",
    "and landmarks and depths": "ukd",
    "the joints as drawn": "t",
}
People = Mapping[str, Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("people", type=Path)
    parser.add_argument("held_out", type=Path)
    given = parser.parse_args()
    reconstructor = default_reconstructor()
    with torch.no_grad():
        known, standing = _people(given.held_out, reconstructor, assumed=False)
        parts = [_people(given.people, reconstructor, assumed=assumed)[0] for assumed in (False, True)]
    learned = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    table = Table("shown", f"{len(standing)} people", "median", f"{int(standing.sum())} standing", "median")
    for name, inputs in _INPUTS.items():
        angle = _angles(_trained(learned, inputs), known, inputs)
        numbers = [f(rows) for rows in (angle, angle[standing]) for f in (np.mean, np.median)]
        table.add_row(name, *(f"{value:.2f}" for value in numbers))
    Console(width=110).print(table)


def _people(folder: Path, reconstructor: Reconstructor, *, assumed: bool) -> tuple[People, np.ndarray]:
    rows: list[dict[str, Tensor]] = []
    standing = []
    for drawn, person in estimated(drawn_people(folder, reconstructor), reconstructor, assumed=assumed):
        seen, keypoints = drawn.seen.detected, person.keypoints_detected
        assert seen is not None and seen.landmarks_3d is not None and seen.depths is not None
        uncertainty = person.uncertainty
        assert uncertainty is not None
        focal = float(drawn.seen.camera.focal_length)
        rows.append(
            {
                "joints": person.joints,
                "true": drawn_joints(drawn.scene, reconstructor.body)[drawn.number],
                "inside": inside_picture(person.joints, person.camera, person.image_size).float(),
                "up": drawn.up,
                "sure": torch.stack([uncertainty.log() / 2 + 1.5, person.visibility]),
                "rays": person.camera.rays(keypoints[:, :2]),
                "confidence": keypoints[:, 2],
                "landmarks": torch.from_numpy(seen.landmarks_3d).float(),
                "depths": torch.from_numpy(seen.depths).float() / focal,
            }
        )
        standing.append(drawn.scene.family[drawn.number] == "standing")
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}, np.array(standing)


def _features(people: People, inputs: str) -> Tensor:
    joints = people["true"] if inputs == "t" else people["joints"]
    pelvis = joints[:, :1]
    depth = pelvis[:, 0, 2:].clamp(min=0.1)
    ray = pelvis[:, 0, :2] / depth
    found = [(joints - pelvis)[:, 1:].flatten(1) / 0.5, people["inside"], ray.clamp(-3, 3)]
    if "u" in inputs:
        found.append(people["sure"].flatten(1))
    if "k" in inputs:
        flat = people["rays"][..., :2] / people["rays"][..., 2:].clamp(min=0.05)
        there = (people["confidence"] > 0).float()[..., None]
        found += [(((flat - ray[:, None]) * depth[..., None]).clamp(-3, 3) * there).flatten(1), people["confidence"]]
    if "d" in inputs:
        found += [2 * people["landmarks"].flatten(1), (people["depths"] * depth[..., None]).clamp(-3, 3).flatten(1)]
    return torch.cat(found, dim=1)


def _mirrored(people: People) -> dict[str, Tensor]:
    flip = torch.tensor([-1.0, 1.0, 1.0])
    joints, points = list(MIRROR), list(BLAZEPOSE33.mirror)
    return {
        "joints": people["joints"][:, joints] * flip,
        "true": people["true"][:, joints] * flip,
        "inside": people["inside"][:, joints],
        "up": people["up"] * flip,
        "sure": people["sure"][..., joints],
        "rays": people["rays"][:, points] * flip,
        "confidence": people["confidence"][:, points],
        "landmarks": people["landmarks"][:, points] * flip,
        "depths": people["depths"][:, list(COCO17.mirror)],
    }


def _changed(people: People, generator: torch.Generator) -> dict[str, Tensor]:
    """Half of them mirrored; cameras held a little otherwise, as in `kouros.pipeline.upright_training`."""
    count = len(people["up"])
    mirror, other = torch.rand(count, generator=generator) < 0.5, _mirrored(people)
    found = {
        name: torch.where(mirror.reshape(-1, *[1] * (value.dim() - 1)), other[name], value)
        for name, value in people.items()
    }
    far = torch.where(torch.rand(count, generator=generator) < 0.25, 16.0, 3.0).deg2rad()
    pitch, roll = math.radians(12) * torch.randn(count, generator=generator), torch.randn(count, generator=generator)
    nothing = torch.zeros(count)
    turn = rotvec_to_rotmat(torch.stack([pitch, nothing, nothing], -1)) @ rotvec_to_rotmat(
        torch.stack([nothing, nothing, far * roll], -1)
    )
    for name in ("joints", "true", "rays"):
        found[name] = found[name] @ turn.mT
    found["up"] = (turn @ found["up"][..., None])[..., 0]
    return found


def _trained(people: People, inputs: str) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    size = _features({name: value[:2] for name, value in people.items()}, inputs).shape[1]
    network = nn.Sequential(
        nn.Linear(size, _WIDTH), nn.GELU(), nn.Linear(_WIDTH, _WIDTH), nn.GELU(), nn.Linear(_WIDTH, 4)
    )

    def loss() -> Tensor:
        rows = torch.randint(len(people["up"]), (_BATCH,), generator=generator)
        batch = _changed({name: value[rows] for name, value in people.items()}, generator)
        out = network(_features(batch, inputs))
        return unlikeliness(batch["up"], out[:, :2], out[:, 2:].clamp(-4.5, 0.5).exp())

    train_averaged(network, loss, _STEPS, 3e-3, 1e-2)
    return network.eval()


@torch.no_grad()
def _angles(network: nn.Module, people: People, inputs: str) -> np.ndarray:
    tilt, other = network(_features(people, inputs))[:, :2], network(_features(_mirrored(people), inputs))[:, :2]
    up, true = up_of_tilt((tilt + other * torch.tensor([1.0, -1.0])) / 2), people["up"]
    angle = torch.atan2(torch.linalg.cross(up, true).norm(dim=-1), (up * true).sum(-1))
    return torch.rad2deg(angle).numpy()


if __name__ == "__main__":
    main()
