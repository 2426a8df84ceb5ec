"""What the real detector says of people whose pose is known: free bodies rendered, then looked at.

    python -m kouros.training.detections --mocap diverse_frames.npz --out runs/detections --minutes 6

Bodies in random poses and dyed clothes, under random light, on random backgrounds, behind random obstacles, partly
outside the picture; the landmark model looks at them as it does in photos. Each worker process writes shards
(``train*.npz``, ``val*.npz``) until the time is over; `kouros.training.lifter` reads them while they come.

A shard holds ``pose`` (N, 72) rotation vectors, root in camera space; ``betas`` (N, 10); ``pelvis`` (N, 3) metres,
camera space; ``keypoints`` (N, 33, 3) x and y at depth 1 and confidence; ``landmarks`` (N, 33, 3) metres.
"""

import argparse
import math
import multiprocessing
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from kouros.body import BodyModel, load_body
from kouros.body.keypoints import BLAZEPOSE33
from kouros.body.skeleton import JOINT_NAMES
from kouros.data.mocap.recombination import PoseBank, PoseConfig, drawn_poses, read_bank, recorded_poses
from kouros.detection import PoseDetector
from kouros.detection.regions import Pyramid, Region, upright_region
from kouros.geometry.cameras import PerspectiveCamera
from kouros.geometry.rotations import rotmat_to_rotvec
from kouros.render.shading import DirectionalLight, Lighting, shade
from kouros.systems.lifter import BodyPoints
from kouros.training.lifter import Dice, seen_through_cameras

_LEFT_HIP, _RIGHT_HIP = BLAZEPOSE33.index("left_hip"), BLAZEPOSE33.index("right_hip")
_DRESS_PARTS = (
    ("pelvis", "left_hip", "right_hip"),
    ("left_knee", "right_knee"),
    ("left_ankle", "right_ankle", "left_foot", "right_foot"),
    ("spine1", "spine2", "spine3", "left_collar", "right_collar"),
    ("left_shoulder", "right_shoulder"),
    ("left_elbow", "right_elbow"),
)
"""Joints whose skin one garment covers or leaves bare, from trousers to sleeves."""
_SKIN_TONES = ((0.96, 0.82, 0.72), (0.85, 0.66, 0.52), (0.66, 0.46, 0.34), (0.40, 0.27, 0.20), (0.25, 0.17, 0.13))


@dataclass(frozen=True)
class SceneConfig:
    """The pictures. Shares are probabilities."""

    side: int = 288
    """Pixels."""
    recorded: float = 0.5
    """Share of people in a recorded pose; the others' are recombined and drawn by rule."""
    occluded: float = 0.35
    min_flag: float = 0.4
    """Detections the model itself doubts more are left out, as the detector leaves them out."""
    look_again: float = 0.6
    """Share looked at a second time, from the region that the first look gives."""


def scene_poses(
    bank: PoseBank, count: int, generator: torch.Generator, config: SceneConfig, *, recorded_only: bool
) -> Tensor:
    """Poses for pictures, root in a world with y up."""
    recorded = recorded_poses(bank, count, generator)
    if recorded_only:
        return recorded
    mild = PoseConfig(recombined=0.3, posed_legs=0.35, posed_arms=0.35, noise=0.08, any_heading=0.04)
    drawn = drawn_poses(bank, count, generator, mild)
    take = Dice(count, generator).chance(config.recorded)[:, None, None, None]
    return torch.where(take, recorded, drawn)


class Studio:
    """One process's body, detector and dice."""

    def __init__(self, bank: PoseBank, seed: int, config: SceneConfig | None = None) -> None:
        self.config = config or SceneConfig()
        self.bank = bank
        self.body: BodyModel = load_body()
        self.points = BodyPoints(self.body)
        self.detector = PoseDetector(threads=1)
        self.torch_dice = torch.Generator().manual_seed(seed)
        self.dice = np.random.default_rng(seed)
        owner = self.body.weights.argmax(dim=1)
        self._owner = owner.numpy()
        head = self.body.joint_template[JOINT_NAMES.index("head")]
        self._crown = (self.body.v_template[:, 1] > head[1] + 0.09).numpy()

    def shard(self, count: int, *, recorded_only: bool) -> dict[str, np.ndarray]:
        """``count`` people, less those that the detector misses."""
        dice = Dice(count, self.torch_dice)
        world = scene_poses(self.bank, count, self.torch_dice, self.config, recorded_only=recorded_only)
        betas = dice.normal(10).clamp(-2.5, 2.5)
        seen, _ = seen_through_cameras(world, betas, self.points, dice)
        rest = self.body.joint_template[0] + betas @ self.body.joint_shapedirs[0].T
        rows: dict[str, list[np.ndarray]] = {k: [] for k in ("pose", "betas", "pelvis", "keypoints", "landmarks")}
        for k in range(count):
            vertices = self.body(
                betas=betas[k : k + 1],
                body_pose=seen.rotations[k : k + 1, 1:],
                global_orient=seen.rotations[k : k + 1, :1],
                transl=(seen.pelvis[k] - rest[k])[None],
                pose2rot=False,
            ).vertices
            rays = seen.rays[k].numpy().astype(np.float64)
            focal, centre = self._framing(rays)
            found = self._look(self._picture(vertices, focal, centre), rays * focal + centre)
            if found is None:
                continue
            points, confidence, metric = found
            rows["pose"].append(rotmat_to_rotvec(seen.rotations[k]).flatten().numpy())
            rows["betas"].append(betas[k].numpy())
            rows["pelvis"].append(seen.pelvis[k].numpy())
            rows["keypoints"].append(np.column_stack([(points - centre) / focal, confidence]))
            rows["landmarks"].append(metric)
        return {name: np.array(values, dtype=np.float32) for name, values in rows.items()}

    def _framing(self, rays: Float[np.ndarray, "33 2"]) -> tuple[float, Float[np.ndarray, " 2"]]:
        """Focal length and principal point, pixels, of a crop in which the person is mostly whole."""
        low, high = rays.min(0), rays.max(0)
        share = self.dice.uniform(0.5, 0.85) if self.dice.random() < 0.75 else self.dice.uniform(0.85, 1.4)
        focal = share * self.config.side / float((high - low).max())
        middle = 0.5 * (low + high) * focal
        wander = 0.1 if share < 0.85 else 0.3
        at = self.config.side * (0.5 + self.dice.uniform(-wander, wander, 2))
        return focal, at - middle

    def _picture(
        self, vertices: Tensor, focal: float, centre: Float[np.ndarray, " 2"]
    ) -> UInt8[np.ndarray, "side side 3"]:
        side, dice = self.config.side, self.dice
        camera = PerspectiveCamera(torch.tensor([focal]), torch.from_numpy(centre).float()[None])
        colours = torch.from_numpy(self._clothes()).float()
        faces, light = self.body.faces, self._light()
        lit = shade(vertices, faces, camera, (side, side), colours, lighting=light, supersample=1)[0].numpy()
        picture = self._background() * (1 - lit[..., 3:]) + lit[..., :3]
        if dice.random() < self.config.occluded:
            self._occlude(picture)
        picture = picture * dice.uniform(0.75, 1.2) + dice.normal(0, dice.uniform(0, 0.03), picture.shape)
        if dice.random() < 0.5:
            picture = cv2.GaussianBlur(picture, (0, 0), dice.uniform(0.4, 1.2))
        return (255 * np.clip(picture, 0, 1)).astype(np.uint8)

    def _clothes(self) -> Float[np.ndarray, "verts 3"]:
        dice, template = self.dice, self.body.v_template.numpy()
        skin = np.array(_SKIN_TONES[dice.integers(len(_SKIN_TONES))]) * dice.uniform(0.85, 1.1)
        colours = np.tile(skin, (len(template), 1))
        lower, upper, shoes = dice.uniform(0.02, 0.95, (3, 3))
        if dice.random() < 0.15:
            lower = upper
        long_legs, sleeves = dice.random() < 0.65, dice.integers(3)
        worn = (lower, lower if long_legs else None, shoes, upper,
                upper if sleeves > 0 else None, upper if sleeves > 1 else None)  # fmt: skip
        for names, colour in zip(_DRESS_PARTS, worn, strict=True):
            if colour is None:
                continue
            covered = np.isin(self._owner, [JOINT_NAMES.index(n) for n in names])
            colours[covered] = colour
            if dice.random() < 0.3:
                axis, wide = dice.integers(2), dice.uniform(0.02, 0.1)
                stripes = np.sin(2 * np.pi * template[covered, axis] / wide) > 0
                colours[np.flatnonzero(covered)[stripes]] = dice.uniform(0, 1, 3)
        if dice.random() < 0.9:
            colours[self._crown] = dice.uniform(0.02, 0.5) * np.array([1.0, 0.8, 0.6])
        return np.clip(colours, 0, 1)

    def _light(self) -> Lighting:
        dice = self.dice
        lights = tuple(
            DirectionalLight(
                (float(dice.normal()), -float(dice.uniform(0.1, 2)), -float(dice.uniform(-0.3, 1.5))),
                _colour(dice.uniform(0.1, 0.9) * dice.uniform(0.8, 1.0, 3)),
            )
            for _ in range(dice.integers(1, 3))
        )
        sky = _colour(dice.uniform(0.2, 0.7) * dice.uniform(0.85, 1.0, 3))
        ground = _colour(dice.uniform(0.1, 0.5) * dice.uniform(0.85, 1.0, 3))
        return Lighting(sky=sky, ground=ground, lights=lights)

    def _background(self) -> Float[np.ndarray, "side side 3"]:
        """A floor and a wall, blotches of several sizes, some shapes."""
        side, dice = self.config.side, self.dice
        saturation = dice.uniform(0, 0.7)
        picture = np.empty((side, side, 3))
        horizon = int(side * dice.uniform(0.3, 1.0))
        picture[:horizon], picture[horizon:] = dice.uniform(0, 1, 3), dice.uniform(0, 1, 3)
        for cells in (3, 12, 60):
            blotches = dice.normal(0, dice.uniform(0, 0.15), (cells, cells, 3))
            picture += cv2.resize(blotches, (side, side), interpolation=cv2.INTER_CUBIC)
        for _ in range(dice.integers(0, 10)):
            self._shape(picture, dice.uniform(0.05, 0.4))
        picture = saturation * picture + (1 - saturation) * picture.mean(axis=2, keepdims=True)
        return np.clip(picture, 0, 1)

    def _occlude(self, picture: Float[np.ndarray, "side side 3"]) -> None:
        for _ in range(self.dice.integers(1, 4)):
            self._shape(picture, self.dice.uniform(0.05, 0.3))

    def _shape(self, picture: Float[np.ndarray, "side side 3"], size: float) -> None:
        side, dice = self.config.side, self.dice
        centre = dice.uniform(0, side, 2)
        reach = side * size * dice.uniform(0.3, 1.0, 2)
        colour = tuple(float(c) for c in dice.uniform(0, 1, 3))
        box = cv2.boxPoints((tuple(centre), tuple(reach), float(dice.uniform(0, 180)))).astype(np.int32)
        if dice.random() < 0.5:
            cv2.fillConvexPoly(picture, box, colour)
        else:
            axes = tuple(int(r / 2) + 1 for r in reach)
            cv2.ellipse(picture, tuple(int(c) for c in centre), axes, 0, 0, 360, colour, -1)

    def _look(
        self, picture: UInt8[np.ndarray, "side side 3"], true: Float[np.ndarray, "33 2"]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        image, dice = Pyramid(picture), self.dice
        look = self.detector.look(image, self._first_region(true))
        if look.flag >= self.config.min_flag and dice.random() < self.config.look_again:
            look = self.detector.look(image, look.next_region)
        if look.flag < self.config.min_flag or not np.isfinite(look.points).all():
            return None
        return look.points, look.confidence, look.metric

    def _first_region(self, true: Float[np.ndarray, "33 2"]) -> Region:
        """Where the person detector would send the landmark model, give or take."""
        dice = self.dice
        hips = 0.5 * (true[_LEFT_HIP] + true[_RIGHT_HIP])
        reach = np.linalg.norm(true - hips, axis=1).max() * 1.05
        chest = 0.5 * (true[BLAZEPOSE33.index("left_shoulder")] + true[BLAZEPOSE33.index("right_shoulder")])
        spine = chest - hips
        angle = math.atan2(spine[1], spine[0]) + dice.normal(0, 0.1)
        above = hips + reach * math.exp(dice.normal(0, 0.08)) * np.array([math.cos(angle), math.sin(angle)])
        wander = dice.normal(0, 0.04 * reach, 2)
        return upright_region(hips + wander, above + wander)


def _colour(rgb: Float[np.ndarray, " 3"]) -> tuple[float, float, float]:
    red, green, blue = rgb.tolist()
    return red, green, blue


def work(mocap: Path, out: Path, name: str, split: str, seed: int, until: float, size: int, most: int) -> None:
    """One worker: shards of one split until the time (`time.time`) is over or ``most`` are written."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    os.nice(5)
    studio = Studio(read_bank(mocap, split), seed)
    for number in range(most):
        if time.time() >= until:
            break
        arrays: dict[str, Any] = studio.shard(size, recorded_only=split == "val")
        aside = out / f".{name}_{number:04d}.npz"
        np.savez(aside, **arrays)
        aside.rename(out / f"{name}_{number:04d}.npz")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mocap", type=Path, required=True, help="diverse_frames.npz")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=6.0)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--shard-size", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    until = time.time() + 60 * given.minutes
    context = multiprocessing.get_context("spawn")
    workers = []
    for index in range(given.workers):
        # The first two begin with what is held out, then all write what is trained on.
        jobs = [("val", 1000, 4)] if index < 2 else []
        jobs.append(("train", 0, 10**6))
        workers.append(
            context.Process(
                target=_jobs, args=(given.mocap, given.out, index, jobs, given.seed, until, given.shard_size)
            )
        )
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def _jobs(
    mocap: Path, out: Path, index: int, jobs: list[tuple[str, int, int]], seed: int, until: float, size: int
) -> None:
    for split, offset, most in jobs:
        work(mocap, out, f"{split}{index:02d}", split, 100_000 * seed + offset + index, until, size, most)


if __name__ == "__main__":
    main()
