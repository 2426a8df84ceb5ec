"""How the network of `kouros.networks.tilt_network` is made: shown what kouros makes of people who were drawn.
    python -m kouros.pipeline.upright_training PEOPLE [PEOPLE ...] --out tilt.npz

PEOPLE are folders that `kouros synthesize --detections` made. Each person is reconstructed from what the detector saw,
with the camera's focal length and with the one that is assumed where none is known; a quarter of what the network sees
are the drawn bodies themselves. Cameras are turned a little further, and some rolled far: photographers do, too.
"""

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree
from torch import Tensor, nn

from kouros.batched import Batched, concatenate
from kouros.body.model import BodyModel
from kouros.body.parameters import BodyParameters
from kouros.data.detections import DetectionSource
from kouros.data.synthetic.scenes import PackedScenes, Scene
from kouros.detection import DetectedPerson
from kouros.detection.people import box_around
from kouros.geometry.cameras import PerspectiveCamera
from kouros.geometry.rotations import rotvec_to_rotmat
from kouros.geometry.tilt import tilt_of_up
from kouros.networks.tilt_network import TiltNetwork, mirrored_joints
from kouros.pipeline.person import Person
from kouros.pipeline.reconstructor import Reconstructor, default_reconstructor
from kouros.pipeline.upright import inside_picture, save_tilt_network
from kouros.systems.estimator import PersonInPhoto, assumed_camera

_AT_ONCE = 64
_SAME = 1e-3
"""Metres between a detected person's pelvis and the drawn one's: what rounding leaves."""


@dataclass(frozen=True)
class TiltConfig:
    """Training, as for one processor core: two minutes."""

    width: int = 96
    steps: int = 4_000
    batch_size: int = 256
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    drawn: float = 0.25
    """Share of people who are shown as they were drawn, not as they were estimated."""
    turned: tuple[float, float] = (12.0, 3.0)
    """Degrees, standard deviations: by how much further cameras are pitched and rolled."""
    rolled: tuple[float, float] = (0.25, 16.0)
    """Share of cameras that are rolled far, and by how much: degrees, standard deviation."""
    kept_back: float = 0.1
    """Share of the estimated people that the weights do not see: the spreads are made to agree with their errors."""


@dataclass(frozen=True)
class TiltExamples(Batched):
    """People and what is up."""

    joints: Float[Tensor, "*people 24 3"]
    """Camera space."""
    inside: Bool[Tensor, "*people 24"]
    """Who of them lies in the picture."""
    up: Float[Tensor, "*people 3"]


@dataclass(frozen=True, eq=False)
class DrawnPerson:
    """Somebody of a synthetic scene whom the detector found."""

    scene: Scene
    number: int
    """Of the person, in the scene."""
    seen: PersonInPhoto
    """With the camera that really saw."""

    @property
    def up(self) -> Float[Tensor, "3"]:
        """In camera space."""
        return torch.from_numpy(self.scene.shot.world_to_camera[:, 1]).float()


def drawn_people(folder: Path, reconstructor: Reconstructor) -> list[DrawnPerson]:
    """Who was detected in a folder of synthetic people.

    Raises:
        ValueError: there are no detections, or of other people.
    """
    detected = DetectionSource(folder / "detections").all
    scenes = [
        scene
        for file in sorted((folder / "scenes").glob("*.npz"))
        for scene in PackedScenes(file.read_bytes(), str(file))
    ]
    places = [(scene, k) for scene in scenes for k in range(len(scene))]
    pelvis = torch.cat([drawn_joints(scene, reconstructor.body)[:, 0] for scene in scenes])
    apart, which = cKDTree(pelvis.numpy()).query(detected.pelvis.numpy())
    if not len(apart) or float(apart.max()) > _SAME:
        raise ValueError(f"{folder}: its detections are not of its scenes; synthesize them again.")
    people = []
    for row, place in enumerate(which.tolist()):
        scene, number = places[place]
        shot, size = scene.shot, (scene.size, scene.size)
        flat = detected.keypoints[row].numpy().astype(np.float64)
        flat[:, :2] = flat[:, :2] * shot.focal + shot.center
        found = DetectedPerson(
            box_around(flat, float(scene.size), float(scene.size)),
            flat,
            "blazepose33",
            1.0,
            landmarks_3d=detected.landmarks[row].numpy().astype(np.float64),
            depths=detected.depths[row].numpy().astype(np.float64) * shot.focal,
        )
        camera = PerspectiveCamera(torch.tensor(shot.focal), torch.from_numpy(shot.center).float())
        people.append(DrawnPerson(scene, number, PersonInPhoto.found(found, None, size, camera)))
    return people


def estimated(
    people: Sequence[DrawnPerson], reconstructor: Reconstructor, *, assumed: bool = False
) -> Iterator[tuple[DrawnPerson, Person]]:
    """What is made of them, of whom anything is.

    Args:
        assumed: with the focal length that is assumed where none is known.
    """
    for start in range(0, len(people), _AT_ONCE):
        chunk = people[start : start + _AT_ONCE]
        seen = [p.seen if not assumed else replace(p.seen, known_camera=assumed_camera(*p.seen.size)) for p in chunk]
        for drawn, person in zip(chunk, reconstructor.people(seen), strict=True):
            if person is not None:
                yield drawn, person


def examples_of(folder: Path, reconstructor: Reconstructor) -> tuple[TiltExamples, TiltExamples]:
    """The people of a folder as they were estimated, with either camera, and as they were drawn.

    Whoever is estimated with one camera and with the other comes twice, side by side.

    Raises:
        ValueError: as `drawn_people`.
    """
    people = drawn_people(folder, reconstructor)
    ways = (estimated(people, reconstructor, assumed=assumed) for assumed in (False, True))
    found = [
        TiltExamples(p.joints, inside_picture(p.joints, p.camera, p.image_size), drawn.up)
        for pair in zip(*ways, strict=True)
        for drawn, p in pair
    ]
    truth = []
    for drawn in people:
        joints = drawn_joints(drawn.scene, reconstructor.body)[drawn.number]
        truth.append(TiltExamples(joints, inside_picture(joints, drawn.seen.camera, drawn.seen.size), drawn.up))
    return _rows(found), _rows(truth)


def unlikeliness(
    up: Float[Tensor, "batch 3"], mean: Float[Tensor, "batch 2"], spread: Float[Tensor, "batch 2"]
) -> Tensor:
    """Of the true angles: minus the logarithm of a Gaussian's density, but for a constant."""
    miss = (tilt_of_up(up) - mean) / spread
    return (spread.log() + miss.square() / 2).mean()


def train_averaged(
    network: nn.Module, loss: Callable[[], Tensor], steps: int, learning_rate: float, weight_decay: float
) -> None:
    """Train by AdamW in one cycle; what stays is the average of the weights along the last steps."""
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, steps)
    average = {name: value.clone() for name, value in network.state_dict().items()}
    for _ in range(steps):
        missed = loss()
        optimizer.zero_grad()
        missed.backward()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            for name, value in network.state_dict().items():
                average[name].lerp_(value, min(1.0, 8 / steps))
    network.load_state_dict(average)


def train_tilt_network(
    estimated: TiltExamples, drawn: TiltExamples, seed: int = 0, config: TiltConfig | None = None
) -> TiltNetwork:
    """The average of the weights along the last steps; the likelihood of the true angles is what is learned from.

    Spreads that fit what was learned from are too small for other people, so a factor for each angle is found on some
    who were kept back.
    """
    config = config or TiltConfig()
    apart = round(config.kept_back * len(estimated.up))
    kept_back, estimated = estimated[:apart], estimated[apart:]
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    network = TiltNetwork(config.width)
    prior = tilt_of_up(_turned(concatenate([estimated] * 4), config, generator).up)
    network.prior.copy_(torch.stack([prior.mean(0), prior.std(0)]))

    def loss() -> Tensor:
        share = round(config.drawn * config.batch_size)
        batch = concatenate([_drawn(estimated, config.batch_size - share, generator), _drawn(drawn, share, generator)])
        batch = _turned(batch, config, generator)
        tilt = network(batch.joints, batch.inside)
        return unlikeliness(batch.up, tilt.mean, tilt.spread)

    train_averaged(network, loss, config.steps, config.learning_rate, config.weight_decay)
    network.eval().requires_grad_(False)
    tilt = network.evenly(kept_back.joints, kept_back.inside)
    miss = (tilt_of_up(kept_back.up) - tilt.mean) / tilt.spread
    network.widen(miss.square().mean(0).sqrt())
    return network


def main() -> None:
    """Train from folders, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("people", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    reconstructor = default_reconstructor()
    parts = [examples_of(folder, reconstructor) for folder in given.people]
    found, drawn = (concatenate([part[k] for part in parts]) for k in (0, 1))
    print(f"{len(drawn.up)} people")
    save_tilt_network(given.out, train_tilt_network(found, drawn, given.seed))


def drawn_joints(scene: Scene, body: BodyModel) -> Float[Tensor, "people 24 3"]:
    """Of the people of a scene, camera space, metres."""
    parts = (torch.from_numpy(array) for array in (scene.pose, scene.betas, scene.transl))
    return BodyParameters(*parts).keypoints_by(body, "smpl24")


def _rows(people: Sequence[TiltExamples]) -> TiltExamples:
    return TiltExamples(*(torch.stack([getattr(p, name) for p in people]) for name in ("joints", "inside", "up")))


def _drawn(people: TiltExamples, count: int, generator: torch.Generator) -> TiltExamples:
    rows: Int[Tensor, " count"] = torch.randint(len(people.up), (count,), generator=generator)
    return people[rows]


def _turned(people: TiltExamples, config: TiltConfig, generator: torch.Generator) -> TiltExamples:
    """Half of them mirrored; cameras held a little otherwise, some of them rolled far."""
    count = len(people.up)

    def normal() -> Tensor:
        return torch.randn(count, generator=generator)

    def chance(share: float) -> Tensor:
        return torch.rand(count, generator=generator) < share

    mirror = chance(0.5)
    joints, inside = mirrored_joints(people.joints, people.inside)
    joints = torch.where(mirror[:, None, None], joints, people.joints)
    inside = torch.where(mirror[:, None], inside, people.inside)
    up = torch.where(mirror[:, None], people.up * people.up.new_tensor([-1.0, 1.0, 1.0]), people.up)
    far = torch.where(chance(config.rolled[0]), config.rolled[1], config.turned[1])
    nothing = torch.zeros(count)
    pitch = torch.stack([math.radians(config.turned[0]) * normal(), nothing, nothing], -1)
    roll = torch.stack([nothing, nothing, far.deg2rad() * normal()], -1)
    turn = rotvec_to_rotmat(pitch) @ rotvec_to_rotmat(roll)
    return TiltExamples(joints @ turn.mT, inside, (turn @ up[..., None])[..., 0])


if __name__ == "__main__":
    main()
