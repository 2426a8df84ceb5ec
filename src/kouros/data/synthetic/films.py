"""Films of people who move as recorded, before a camera that stands: pictures, and what is true in each.

Every frame is a scene (`kouros.data.synthetic.scenes`) of the same seed and number, so that clothes, light and room
stay what they are. Recorded places are those of another body: they are scaled to the legs of this one, so that feet
that stood still stand.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8

from kouros.body import BodyModel
from kouros.data.mocap.motion import Motion
from kouros.data.synthetic.cameras import Shot, looking
from kouros.data.synthetic.draw import Stage
from kouros.data.synthetic.scenes import Scene, rng_of
from kouros.geometry.rotations import rotmat_to_rotvec, rotvec_to_rotmat

_SHAPES, _CAMERA = 5, 6
"""Streams of random numbers beside those of a scene."""


@dataclass(frozen=True, eq=False)
class Played:
    """Who moves how, and where: one person of a film."""

    motion: Motion
    place: tuple[float, float] = (0.0, 0.0)
    """Where on the floor (x, z) the motion's middle lies, metres."""
    turn: float = 0.0
    """About the vertical, radians."""


@dataclass(frozen=True, eq=False)
class SyntheticFilm:
    """A film that can be drawn, frame by frame."""

    scenes: tuple[Scene, ...]
    frame_rate: float
    room: float
    """Metres around the origin that are free of walls."""

    def __len__(self) -> int:
        return len(self.scenes)

    def picture(self, stage: Stage, frame: int) -> UInt8[np.ndarray, "size size 3"]:
        """A frame, RGB."""
        return stage.picture(self.scenes[frame], room=self.room)

    def joints(self, body: BodyModel) -> Float[torch.Tensor, "frames people 24 3"]:
        """Where everybody's joints are, metres, camera space."""
        pose, betas, transl = (
            torch.from_numpy(np.concatenate([getattr(s, n) for s in self.scenes])) for n in ("pose", "betas", "transl")
        )
        return body.joint_positions(betas, pose[:, 3:], pose[:, :3], transl).unflatten(0, (len(self), -1))


@torch.no_grad()
def synthetic_film(
    people: Sequence[Played],
    body: BodyModel,
    *,
    seed: int,
    size: int,
    focal: float = 1.4,
    height: float = 1.5,
    around: float | None = None,
    share: float = 0.8,
) -> SyntheticFilm:
    """A film with as many frames as the shortest motion has, at the first one's rate.

    Args:
        seed: of shapes, clothes, light, room, and of where the camera stands.
        size: of the square pictures, pixels.
        focal: focal length over the picture's side.
        height: of the camera above the floor, metres.
        around: where the camera stands, radians about the vertical from +z; default: drawn.
        share: of the picture that everybody together takes at the widest.
    """
    frames = min(len(p.motion.poses) for p in people)
    rng = rng_of(seed, 0, _SHAPES)
    betas = torch.from_numpy(np.clip(rng.normal(0, 1, (len(people), body.num_betas)), -2, 2)).float()
    moved = [_on_the_floor(p, frames, body, betas[k]) for k, p in enumerate(people)]
    seen = np.concatenate([vertices.reshape(-1, 3) for _, _, vertices in moved])
    if around is None:
        around = float(rng_of(seed, 0, _CAMERA).uniform(-math.pi, math.pi))
    shot = _standing_camera(seen, size, focal * size, height, around, share)
    turn = torch.from_numpy(shot.world_to_camera[:, :3]).float()
    scenes = []
    for t in range(frames):
        poses, transl = [], []
        for k, (rotvecs, pelvis, _) in enumerate(moved):
            root = rotmat_to_rotvec(turn @ rotvec_to_rotmat(rotvecs[t, :3]))
            poses.append(torch.cat([root, rotvecs[t, 3:]]).numpy())
            rest = (body.joint_template[0] + body.joint_shapedirs[0] @ betas[k]).numpy()
            transl.append((shot.to_camera(pelvis[t]) - rest).astype(np.float32))
        scenes.append(
            Scene(seed, 0, size, shot, np.stack(poses), betas.numpy(), np.stack(transl), ("recorded",) * len(people))
        )
    room = float(np.abs(seen[..., [0, 2]]).max(initial=1.0))
    return SyntheticFilm(tuple(scenes), people[0].motion.frame_rate, room)


def _on_the_floor(
    played: Played, frames: int, body: BodyModel, betas: torch.Tensor
) -> tuple[torch.Tensor, Float[np.ndarray, "frames 3"], Float[np.ndarray, "frames points 3"]]:
    """Rotation vectors, the pelvis in the world, and some of the skin there."""
    motion = played.motion.between(0, frames)
    poses = torch.from_numpy(np.array(motion.poses, np.float32))
    turn = rotvec_to_rotmat(torch.tensor([0.0, played.turn, 0.0]))
    poses[:, :3] = rotmat_to_rotvec(turn @ rotvec_to_rotmat(poses[:, :3]))
    posed = body(betas.expand(frames, -1), poses[:, 3:], poses[:, :3])
    skin = (posed.vertices[:, ::40] - posed.joints[:, :1]).numpy().astype(np.float64)
    above = -(posed.vertices[..., 1].amin(1) - posed.joints[:, 0, 1]).numpy()
    recorded = motion.trans.astype(np.float64)
    # The recorded pelvis is as high above the floor as that person's legs are long.
    scale = float(np.median(above) / max(np.median(recorded[:, 1]), 0.2))
    pelvis = recorded * (scale if 0.5 < scale < 2 else 1.0)
    pelvis[:, 1] -= np.percentile(pelvis[:, 1] - above, 20)
    flat = turn.numpy().astype(np.float64)
    pelvis = (pelvis - [pelvis[:, 0].mean(), 0, pelvis[:, 2].mean()]) @ flat.T
    pelvis += [played.place[0], 0.0, played.place[1]]
    return poses, pelvis, skin + pelvis[:, None]


def _standing_camera(
    points: Float[np.ndarray, "points 3"], size: int, focal: float, height: float, around: float, share: float
) -> Shot:
    """As near as all points stay in the picture's middle share."""
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    away = np.array([math.sin(around), 0.0, math.cos(around)])
    near, far = 0.5, 100.0
    for _ in range(30):
        distance = math.sqrt(near * far)
        eye = middle + distance * away
        eye[1] = height
        rotation = looking(middle - eye, 0.0)
        shot = Shot(focal, np.full(2, size / 2), np.column_stack([rotation, -rotation @ eye]))
        seen = shot.to_camera(points)
        inside = seen[:, 2].min() > 0.3
        if inside:
            spread = np.abs(seen[:, :2] / seen[:, 2:]).max() * focal / (size / 2)
            inside = spread <= share
        near, far = (near, distance) if inside else (distance, far)
    return shot
