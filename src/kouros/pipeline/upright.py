"""An upright world from the people of a photo: which way is up, where the floor is, who stands on it.

The camera's tilt is read off each person's body (`kouros.networks.tilt_network`); people before one camera share it.
A floor on which all of them stand says more: a wrong tilt lifts those who are far away. Sizes are known from the camera
only up to a factor a person (somebody twice as tall, twice as far away, looks the same), so whoever floats a little, or
sinks, is made larger or smaller about the camera, until the feet touch: in the picture nothing moves.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kouros.archives import ArchiveError
from kouros.geometry.cameras import PerspectiveCamera
from kouros.geometry.tilt import up_of_tilt, upright_rotation
from kouros.network_files import read_network, write_network
from kouros.networks.tilt_network import Tilt, TiltNetwork
from kouros.pipeline.visibility import SEEN
from kouros.sentences import first_line

PACKAGED_WEIGHTS = Path(__file__).parent / "tilt.npz"
_WIDEST = 4096
_STATURE = 0.1
"""Standard deviation of people's sizes, as a share: of adults, and of what shapes in pictures tell of it."""
_KNOWN_STATURE = 0.015
"""The same where somebody has said how tall they are; such people keep their size."""
_CONTACT = 0.1
"""Standard deviation of the height of the body's lowest point over what carries it, metres."""
_UNSEEN_CONTACT = 0.25
"""Where the picture does not show that point, and so it is a guess."""
_OFF_THE_FLOOR = 3.0
"""So many standard deviations above the floor, people do not stand on it: they jump, or stand on something."""
_SMALLEST = 0.45
"""No person is made smaller than this: a child of 80 cm, who was taken for an adult."""
_LOWEST_CAMERA = 0.3
"""Metres above the floor; from lower cameras nothing is known of sizes."""
_ITERATIONS = 8


@runtime_checkable
class Upstanding(Protocol):
    """What is needed of a person; `kouros.Person` has it."""

    @property
    def joints(self) -> Float[Tensor, "24 3"]:
        """Camera space, metres."""

    @property
    def vertices(self) -> Float[Tensor, "vertices 3"]:
        """Camera space, metres."""

    @property
    def vertices_seen(self) -> Float[Tensor, " vertices"]:
        """In [0, 1], of each vertex: that the picture shows it."""

    @property
    def camera(self) -> PerspectiveCamera:
        """Of the whole image."""

    @property
    def image_size(self) -> tuple[int, int]:
        """Width and height, pixels."""

    @property
    def height_known(self) -> bool:
        """Whether the size is more than a guess."""


@dataclass(frozen=True, eq=False)
class World:
    """Where the camera is in a world of metres with y up and the floor at height 0; and which people stand in it."""

    rotation: Float[Tensor, "3 3"]
    """From camera space."""
    translation: Float[Tensor, "3"]
    """Where the camera is."""
    sizes: Float[Tensor, " people"]
    """By how much each person is larger here than in camera space, about the camera: in the picture it is the same."""
    on_floor: Bool[Tensor, " people"]
    """Who touches the floor."""
    uncertainty: float
    """Expected angle between `up` and what is really up, radians; NaN: nobody estimated it."""

    @staticmethod
    def of_camera(people: int) -> "World":
        """Camera space itself, in the axes that 3D files have: y up in the picture, the camera at the origin."""
        turn = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
        nobody = torch.zeros(people, dtype=torch.bool)
        return World(turn, torch.zeros(3), torch.ones(people), nobody, float("nan"))

    @property
    def up(self) -> Float[Tensor, "3"]:
        """Unit vector, camera space."""
        return self.rotation[1]

    @property
    def has_floor(self) -> bool:
        """Whether this is an upright world, and not camera space."""
        return math.isfinite(self.uncertainty)

    @property
    def T_world_camera(self) -> Float[Tensor, "4 4"]:
        """From camera space, of what has size 1."""
        matrix = torch.eye(4)
        matrix[:3, :3], matrix[:3, 3] = self.rotation, self.translation
        return matrix

    def place(self, points: Float[Tensor, "*points 3"], person: int) -> Float[Tensor, "*points 3"]:
        """Points of one of the people, from camera space to the world."""
        return self.sizes[person] * points @ self.rotation.T + self.translation

    def level(self, points: Float[Tensor, "*points 3"], person: int) -> Float[Tensor, "*points 3"]:
        """The same in the space of a level camera that is where the camera is: y down, z ahead."""
        return self.sizes[person] * points @ self.rotation.T * points.new_tensor([1.0, -1.0, -1.0])


def world_of(people: Sequence[Upstanding], network: TiltNetwork | None = None) -> World:
    """The world in which people stand who are seen by one camera that does not move: of a photo, or of some frames.

    The camera looks towards -z; the origin is on the floor below the middle of the people.

    Args:
        people: in camera space. Of a video a few frames of each person are enough: errors of one person repeat.
        network: default: the packaged one.

    Raises:
        ValueError: there is nobody.
    """
    if not people:
        raise ValueError("nobody is there to tell which way is up; expected at least one person.")
    with torch.no_grad():
        network = network or packaged_tilt_network()
        joints = torch.stack([person.joints.detach() for person in people])
        inside = torch.stack([inside_picture(j, p.camera, p.image_size) for p, j in zip(people, joints, strict=True)])
        shared = together(network.evenly(joints, inside), network.prior)
        soles = [_Soles.of(person) for person in people]
        tilt, height = _on_one_floor(soles, shared)
        up = up_of_tilt(tilt.mean)
        rotation = upright_rotation(up)
        sizes, on_floor = _sizes([sole.below(up) for sole in soles], height)
        middle = ((joints[:, 0] * sizes[:, None]) @ rotation.T).mean(0)
        translation = torch.tensor([-float(middle[0]), height, -float(middle[2])])
        # Of two independent normal angles, their mean distance from the truth is nearly this.
        return World(rotation, translation, sizes, on_floor, float(tilt.spread.square().mean().sqrt() * 1.25))


def together(tilts: Tilt, prior: Float[Tensor, "2 2"]) -> Tilt:
    """What all people tell of their one camera: the product of the distributions, in which the prior counts once.

    Args:
        prior: mean and spread of the angles, which each of the people's distributions contains.
    """
    weight = tilts.spread**-2
    prior_weight = prior[1] ** -2
    # Somebody of whom nothing is known must not come to stand against the prior.
    own = (weight - prior_weight).clamp(min=0.05 * prior_weight)
    towards = (weight * tilts.mean - prior_weight * prior[0]) / (weight - prior_weight)
    towards = torch.where(own > 0.05 * prior_weight, towards, tilts.mean)
    total = own.sum(0) + prior_weight
    return Tilt(((own * towards).sum(0) + prior_weight * prior[0]) / total, total**-0.5)


def inside_picture(
    points: Float[Tensor, "points 3"], camera: PerspectiveCamera, size: tuple[int, int]
) -> Bool[Tensor, " points"]:
    """Which points in camera space lie before the camera and in its picture.

    Args:
        size: of the picture: width and height, pixels.
    """
    pixels = camera.project(points)
    return ((pixels >= 0) & (pixels <= pixels.new_tensor(size))).all(-1) & (points[:, 2] > 0)


# ---- the floor


@dataclass(frozen=True)
class _Lowest:
    """The lowest point of a person, for some up."""

    point: Float[Tensor, "3"]
    """Camera space."""
    drop: float
    """Metres below the camera."""
    spread: float
    """Standard deviation of the drop from that of the floor where the person stands."""
    of_known_size: bool


@dataclass(frozen=True, eq=False)
class _Soles:
    vertices: Float[Tensor, "vertices 3"]
    seen: Bool[Tensor, " vertices"]
    of_known_size: bool

    @staticmethod
    def of(person: Upstanding) -> "_Soles":
        vertices = person.vertices.detach()
        inside = inside_picture(vertices, person.camera, person.image_size)
        return _Soles(vertices, inside & (person.vertices_seen >= SEEN), person.height_known)

    def below(self, up: Float[Tensor, "3"]) -> _Lowest:
        heights = self.vertices @ up
        lowest = int(heights.argmin())
        drop = -float(heights[lowest])
        contact = _CONTACT if bool(self.seen[lowest]) else _UNSEEN_CONTACT
        size = _KNOWN_STATURE if self.of_known_size else _STATURE
        return _Lowest(self.vertices[lowest], drop, math.hypot(size * drop, contact), self.of_known_size)


def _on_one_floor(soles: Sequence[_Soles], tilt: Tilt) -> tuple[Tilt, float]:
    """The tilt with which most of the people stand on one floor, and how far below the camera that is, metres.

    Iteratively reweighted least squares of three unknowns: both angles, which the people's bodies have told, and the
    floor. Whoever is far off it counts little.
    """
    mean, precision = tilt.mean, torch.diag(tilt.spread**-2)
    found = [sole.below(up_of_tilt(mean)) for sole in soles]
    height = float(torch.tensor([low.drop for low in found]).median())
    if len(soles) == 1:
        return tilt, height
    information = precision
    for _ in range(_ITERATIONS):
        found = [sole.below(up_of_tilt(mean)) for sole in soles]
        points = torch.stack([low.point for low in found])
        slope = -(points @ torch.autograd.functional.jacobian(up_of_tilt, mean))
        miss = torch.tensor([low.drop for low in found]) - height
        spread = torch.tensor([low.spread for low in found])
        weight = (1 + (miss / (2 * spread)).square()) ** -2 / spread.square()  # Geman and McClure's
        rows = torch.cat([slope, -torch.ones(len(points), 1)], dim=1)
        normal = rows.T @ (weight[:, None] * rows)
        normal[:2, :2] += precision
        right = -(rows.T @ (weight * miss))
        right[:2] += precision @ (tilt.mean - mean)
        step = torch.linalg.solve(normal, right)
        mean, height = mean + step[:2], height + float(step[2])
        information = normal[:2, :2] - normal[:2, 2:] @ normal[2:, :2] / normal[2, 2]
    spread = torch.linalg.inv(information).diagonal().sqrt()
    return Tilt(mean, torch.minimum(spread, tilt.spread)), height


def _sizes(lowest: Sequence[_Lowest], height: float) -> tuple[Float[Tensor, " people"], Bool[Tensor, " people"]]:
    """By how much people must be larger for their lowest point to touch the floor, and who touches it."""
    sizes, touching = torch.ones(len(lowest)), torch.zeros(len(lowest), dtype=torch.bool)
    for i, low in enumerate(lowest):
        if min(low.drop, height) < _LOWEST_CAMERA:
            touching[i] = abs(low.drop - height) < _CONTACT
            continue
        above = height - low.drop
        if low.of_known_size:
            touching[i] = abs(above) < _OFF_THE_FLOOR * low.spread
            continue
        if above < _OFF_THE_FLOOR * low.spread and height / low.drop > _SMALLEST:
            sizes[i], touching[i] = height / low.drop, True
    return sizes, touching


# ---- the network that comes with kouros


def save_tilt_network(path: Path, network: TiltNetwork) -> None:
    """Write a network's weights as float16, whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    write_network(path, network, (network.width,))


def load_tilt_network(path: Path) -> TiltNetwork:
    """The network in a file that `save_tilt_network` wrote: float32, for evaluation.

    Raises:
        OSError: the file cannot be read.
        ValueError: it holds something else.
    """
    try:
        return read_network(path, TiltNetwork, sizes=1, largest=_WIDEST)
    except ArchiveError as error:
        raise ValueError(f"{path} holds no weights of the tilt network ({first_line(error)}).") from None


@cache
def packaged_tilt_network() -> TiltNetwork:
    """The one that comes with kouros."""
    return load_tilt_network(PACKAGED_WEIGHTS)
