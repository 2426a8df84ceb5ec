"""Cameras that photograph synthetic people: near to far, wide to tele, from all around, with a little roll."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True, eq=False)
class Shot:
    """A pinhole and where it stands."""

    focal: float
    """Pixels."""
    center: Float[np.ndarray, " 2"]
    """Principal point, pixels."""
    world_to_camera: Float[np.ndarray, "3 4"]
    """The world has y up and its floor at height 0; metres."""

    def to_camera(self, points: Float[np.ndarray, "*points 3"]) -> Float[np.ndarray, "*points 3"]:
        """World points in camera space."""
        return points @ self.world_to_camera[:, :3].T + self.world_to_camera[:, 3]

    @property
    def eye(self) -> Float[np.ndarray, " 3"]:
        """Where the camera is, world."""
        return -self.world_to_camera[:, :3].T @ self.world_to_camera[:, 3]


def drawn_shot(
    framed: Float[np.ndarray, "points 3"],
    heading: float,
    size: int,
    lens: tuple[float, float],
    rng: np.random.Generator,
) -> Shot:
    """A camera that sees given points in about the picture's middle.

    Args:
        framed: of the people who are to be seen, world.
        heading: where the first person looks, radians about the vertical from +z.
        size: of the square picture, pixels.
        lens: shortest and longest focal length, in sides of the picture.
    """
    low, high = framed.min(axis=0), framed.max(axis=0)
    middle = (low + high) / 2
    focal = size * float(np.exp(rng.uniform(*np.log(lens))))
    # Photographers mostly stand where they see faces.
    around = heading + (rng.uniform(-1.3, 1.3) if rng.random() < 0.55 else rng.uniform(-np.pi, np.pi))
    above = np.deg2rad(np.clip(rng.normal(8, 10) if rng.random() < 0.85 else rng.uniform(15, 60), -12, 65))
    extent = max(high[1] - low[1], 0.8 * np.hypot(*(high - low)[[0, 2]]), 0.5)
    share = np.exp(rng.uniform(np.log(0.5), np.log(0.95)))
    if rng.random() < 0.2:
        share = rng.uniform(0.95, 1.7)
    distance = max(focal * extent / (share * size), 0.5 * float(np.linalg.norm(high - low)) + 0.5)
    away = np.array([np.cos(above) * np.sin(around), np.sin(above), np.cos(above) * np.cos(around)])
    eye = middle + distance * away
    eye[1] = max(eye[1], 0.25)
    roll = np.deg2rad(rng.normal(0, 3.0))
    rotation = looking(middle - eye, roll)
    slack = max(0.0, 1 - share)
    aim = size * (0.5 + np.clip(rng.normal(0, 0.25, 2) * slack + rng.normal(0, 0.02, 2), -0.3, 0.3))
    if share > 0.95:  # of people cut by the picture's edge, mostly the head's end is seen
        aim[1] = size * (0.5 + (share - 0.9) * rng.uniform(-0.1, 0.5))
    # The lens stays centred: the camera turns so that the people's middle comes to lie at the aim.
    offset = (aim - size / 2) / focal
    rotation = _turned(rotation, offset)
    return Shot(focal, np.full(2, size / 2), np.column_stack([rotation, -rotation @ eye]))


def looking(ahead: Float[np.ndarray, " 3"], roll: float) -> Float[np.ndarray, "3 3"]:
    """Rows: the camera's x (right), y (down) and z (forward), world."""
    z = ahead / np.linalg.norm(ahead)
    x = np.cross(z, [0.0, 1.0, 0.0])
    x /= np.linalg.norm(x)
    y = np.cross(z, x)
    c, s = np.cos(roll), np.sin(roll)
    return np.stack([c * x + s * y, c * y - s * x, z])


def _turned(rotation: Float[np.ndarray, "3 3"], offset: Float[np.ndarray, " 2"]) -> Float[np.ndarray, "3 3"]:
    """Panned and tilted so that what was seen straight ahead is seen in the direction (offset, 1)."""
    pan, tilt = np.arctan(offset[0]), np.arctan(offset[1])
    cp, sp, ct, st = np.cos(pan), np.sin(pan), np.cos(tilt), np.sin(tilt)
    around_y = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
    around_x = np.array([[1, 0, 0], [0, ct, st], [0, -st, ct]])
    return around_x @ around_y @ rotation
