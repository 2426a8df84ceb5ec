"""What is behind synthetic people: a floor and walls in perspective, with patterns and clutter, or photos."""

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float

from kouros.data.images import find_images, read_image


def drawn_background(
    world_to_camera: Float[np.ndarray, "3 4"],
    focal: float,
    center: Float[np.ndarray, " 2"],
    size: tuple[int, int],
    rng: np.random.Generator,
    *,
    room: float,
) -> Float[np.ndarray, "height width 3"]:
    """A floor at height 0 and a room's walls, values in [0, 1].

    Args:
        world_to_camera: the world has y up.
        focal: pixels, as is the principal point.
        size: (height, width).
        room: metres around the origin that are free of walls.
    """
    height, width = size
    rotation, eye = world_to_camera[:, :3], -world_to_camera[:, :3].T @ world_to_camera[:, 3]
    x = (np.arange(width, dtype=np.float32) + 0.5 - np.float32(center[0])) / np.float32(focal)
    y = (np.arange(height, dtype=np.float32) + 0.5 - np.float32(center[1])) / np.float32(focal)
    turn = rotation.T.astype(np.float32)
    rays = [turn[k, 0] * x[None] + turn[k, 1] * y[:, None] + turn[k, 2] for k in range(3)]
    yaw = rng.uniform(0, 2 * np.pi)
    to_wall = np.full((height, width), np.inf, dtype=np.float32)
    beside = np.zeros((height, width), dtype=np.float32)
    for side in range(4):
        out = np.array([np.sin(yaw + side * np.pi / 2), 0.0, np.cos(yaw + side * np.pi / 2)], dtype=np.float32)
        away = np.float32(max(room, float(out @ eye)) + rng.uniform(0.3, 4.0))
        closing = out[0] * rays[0] + out[2] * rays[2]
        with np.errstate(divide="ignore"):
            met = np.where(closing > 1e-4, (away - np.float32(out @ eye)) / closing, np.inf).astype(np.float32)
        nearer = met < to_wall
        to_wall = np.where(nearer, met, to_wall)
        far = to_wall.clip(max=1e3)
        along = out[2] * (np.float32(eye[0]) + far * rays[0]) - out[0] * (np.float32(eye[2]) + far * rays[2])
        beside = np.where(nearer, along + side * 3, beside)
    with np.errstate(divide="ignore"):
        to_floor = np.where(rays[1] < -1e-4, -np.float32(eye[1]) / rays[1], np.inf).astype(np.float32)
    floor = to_floor < to_wall
    reach = np.where(floor, to_floor, to_wall).clip(0, 1e3)
    px, py, pz = (np.float32(eye[k]) + reach * rays[k] for k in range(3))
    on_floor = _pattern(px, pz, rng)
    on_wall = _pattern(beside.clip(-1e3, 1e3), py, rng)
    picture = np.where(floor[..., None], on_floor, on_wall)
    saturation = np.float32(rng.uniform(0, 0.8))
    for _ in range(rng.integers(0, 6)):
        _clutter(picture, rng)
    for cells, most in ((3, 0.10), (12, 0.05), (48, 0.03)):
        spread = rng.uniform(0, most)
        blotches = rng.normal(0, spread, (cells, cells, 1)) + rng.normal(0, 0.2 * spread, (cells, cells, 3))
        picture += cv2.resize(blotches.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    grey = picture.mean(axis=2, keepdims=True)
    return np.clip(grey + saturation * (picture - grey), 0, 1)


def _pattern(a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Plain, planks, tiles or mottled, over two coordinates in metres."""
    first = rng.uniform(0.1, 0.95) * rng.uniform(0.7, 1.0, 3).astype(np.float32)
    second = np.clip(first * rng.uniform(0.55, 1.3), 0, 1)
    wide = rng.uniform(0.15, 1.0)
    kind = rng.integers(4)
    if kind == 0:
        share = np.zeros_like(a)
    elif kind == 1:
        share = (np.sin(a * (2 * np.pi / wide)) > 0.9).astype(np.float32)
    elif kind == 2:
        share = ((np.floor(a / wide) + np.floor(b / wide)) % 2).astype(np.float32)
    else:
        wave = rng.uniform(1, 6, 4)
        share = 0.5 + 0.5 * np.sin(wave[0] * a + np.sin(wave[1] * b) + wave[2]) * np.sin(wave[3] * b)
    return (first + share[..., None] * (second - first)).astype(np.float32)


def _clutter(picture: np.ndarray, rng: np.random.Generator) -> None:
    height, width = picture.shape[:2]
    at = (rng.uniform(0, width), rng.uniform(0, 0.8 * height))
    reach = max(height, width) * rng.uniform(0.05, 0.35) * rng.uniform(0.3, 1.0, 2)
    colour = tuple(float(c) for c in rng.uniform(0, 1, 3) * rng.uniform(0.3, 1))
    if rng.random() < 0.7:
        tilt = rng.choice([0.0, 0.0, rng.uniform(0, 180)])
        box = cv2.boxPoints((at, (reach[0], reach[1]), float(tilt))).astype(np.int32)
        cv2.fillConvexPoly(picture, box, colour)
    else:
        axes = tuple(int(r / 2) + 1 for r in reach)
        cv2.ellipse(picture, tuple(int(c) for c in at), axes, 0, 0, 360, colour, -1)


class PhotoBackgrounds:
    """The pictures of a folder, in a fixed order.

    Raises:
        kouros.data.images.ImageError: the folder holds no picture.
    """

    def __init__(self, folder: Path) -> None:
        self.paths = find_images([folder])

    def drawn(self, size: tuple[int, int], rng: np.random.Generator) -> Float[np.ndarray, "height width 3"]:
        """A region of one of them, stretched to (height, width); values in [0, 1].

        Raises:
            kouros.data.images.ImageError: the picture cannot be read.
        """
        photo = read_image(self.paths[rng.integers(len(self.paths))]).pixels
        height, width = size
        scale = min(photo.shape[0] / height, photo.shape[1] / width) * rng.uniform(0.5, 1.0)
        tall, wide = max(int(scale * height), 1), max(int(scale * width), 1)
        top = rng.integers(photo.shape[0] - tall + 1)
        left = rng.integers(photo.shape[1] - wide + 1)
        region = photo[top : top + tall, left : left + wide]
        if rng.random() < 0.5:
            region = region[:, ::-1]
        method = cv2.INTER_AREA if scale > 1 else cv2.INTER_LINEAR
        return cv2.resize(np.ascontiguousarray(region), (width, height), interpolation=method).astype(np.float32) / 255
