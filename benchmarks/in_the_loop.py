"""What does the fit in the loop cost a training step of SPIN?

    python benchmarks/in_the_loop.py [--batch 16] [--backbone 50] [--crop 224] [--rounds 15] [--threads 2]

A step is forward, fit, losses, backward and Adam's update, as in training; without fitting it is the same step from
stored fits ("static-fits"). Both steps take turns, on the same people: bodies of the packaged pose prior, whose
keypoints are off by a few pixels, and a network whose estimates are off by what is said in the table: near the truth,
as late in training, or the mean pose, as at its start.
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import kouros
from kouros.body.model import BodyModel
from kouros.data.batch import Batch
from kouros.fitting.schedules.fits_store import Augmentation
from kouros.geometry.cameras import SPIN_CROP_SIZE, nominal_crop_camera
from kouros.geometry.rotations import rotvec_to_rotmat
from kouros.networks.estimates import NUM_BETAS, Regressed
from kouros.networks.hmr_regressor import HmrRegressor
from kouros.priors.gmm import load_gmm
from kouros.systems.spin import Spin, SpinConfig

NOISE_PIXELS = 2.0
SHARE_UNSEEN = 0.2
DEPTH = 50.0
LATE_NOISE = 0.1
"""Radians by which each number of a trained network's pose is off."""


def people(body: BodyModel, count: int, crop: int, generator: torch.Generator) -> Batch:
    """Bodies of the pose prior, upright, seen from all around."""
    heading = 2 * math.pi * torch.rand(count, generator=generator)
    half = torch.stack([torch.cos(heading / 2), torch.zeros(count), -torch.sin(heading / 2)], dim=-1)
    orient = math.pi * half  # half a turn about x after one by the heading about y
    pose = torch.cat([orient, load_gmm().sample(count, generator)], dim=-1)
    betas = torch.randn(count, NUM_BETAS, generator=generator)
    points = body.keypoint_positions("spin49", betas=betas, global_orient=pose[:, :3], body_pose=pose[:, 3:])
    pixels = nominal_crop_camera(count, points).project(points + torch.tensor([0.0, 0.0, DEPTH]))
    pixels = pixels + NOISE_PIXELS * torch.randn(pixels.shape, generator=generator)
    seen = (torch.rand(count, 49, 1, generator=generator) > SHARE_UNSEEN).float()
    nobody = torch.zeros(count, dtype=torch.bool)
    return Batch(
        image=torch.rand(count, 3, crop, crop, generator=generator),
        index=torch.arange(count),
        source=torch.zeros(count, dtype=torch.long),
        keypoints_2d=torch.cat([pixels * (crop / SPIN_CROP_SIZE), seen], dim=-1),
        keypoints_3d=torch.zeros(count, 49, 4),
        pose=pose,
        has_pose=nobody,
        betas=betas,
        has_betas=nobody,
        augmentation=Augmentation(torch.zeros(count), nobody),
        crop_center=torch.full((count, 2), 100.0),
        crop_side=torch.full((count,), 200.0),
    )


class AsTrained(nn.Module):
    """HMR's regressor at work, its answers moved to where a trained one's would be."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.regressor = HmrRegressor(num_features)
        self.answer: Regressed | None = None

    def forward(self, features: Tensor) -> tuple[Regressed, ...]:
        guesses = self.regressor(features)
        if self.answer is None:
            return guesses
        last, there = guesses[-1], self.answer
        moved = Regressed(
            last.rotations + (there.rotations - last.rotations).detach(),
            last.betas + (there.betas - last.betas).detach(),
            last.camera + (there.camera - last.camera).detach(),
        )
        return (*guesses[:-1], moved)


def estimates(batch: Batch, generator: torch.Generator) -> Regressed:
    """What a trained network might say."""
    pose = batch.pose + LATE_NOISE * torch.randn(batch.pose.shape, generator=generator)
    camera = torch.tensor([2 * 5000 / (SPIN_CROP_SIZE * DEPTH), 0.0, 0.0]).repeat(len(batch), 1)
    camera += 0.02 * torch.randn(camera.shape, generator=generator)
    return Regressed(rotvec_to_rotmat(pose.unflatten(-1, (24, 3))), torch.zeros_like(batch.betas), camera)


def step_of(system: Spin) -> Callable[[Batch], dict[str, float]]:
    """A step of training, as the engine does it."""
    (optimizer,) = system.optimizers()

    def step(batch: Batch) -> dict[str, float]:
        done = system.training_step(batch)
        optimizer.zero_grad()
        done.losses[0].backward()
        optimizer.step()
        return {name: float(value) for name, value in done.terms.items()}

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--backbone", type=int, default=50, choices=(18, 34, 50, 101))
    parser.add_argument("--crop", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--warm-up", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    body, generator = kouros.load_body(), torch.Generator().manual_seed(given.seed)
    table = Table(
        "estimates", "with fit, ms", "without, ms", "ratio", "quartiles", "fit alone, ms",
        title=f"SPIN's training step: ResNet-{given.backbone}, batch {given.batch}, crop {given.crop}",
    )  # fmt: skip
    for when in ("late in training", "at its start"):
        torch.manual_seed(given.seed)
        config = SpinConfig(crop_size=given.crop, backbone=given.backbone)
        fitting = config.build(body, given.batch, AsTrained)
        plain = replace(config, learn_from="static-fits").build(body, given.batch, AsTrained)
        steps = {"with": step_of(fitting), "without": step_of(plain)}
        seconds: dict[str, list[float]] = {"with": [], "without": [], "fit": []}
        for number in range(given.warm_up + given.rounds):
            batch = people(body, given.batch, given.crop, generator)
            answer = estimates(batch, generator) if when == "late in training" else None
            for system in (fitting, plain):
                assert isinstance(system.regressor, AsTrained)
                system.regressor.answer = answer
            fitting.best_fits.load_state_dict(plain.best_fits.state_dict())
            order = ("with", "without") if number % 2 else ("without", "with")
            taken = {}
            for name in order:
                began = time.perf_counter()
                terms = steps[name](batch)
                taken[name] = time.perf_counter() - began
                # A fast wrong answer is no result: the fits must have been made, or not.
                made = terms["fits improved"] == 1.0
                if made != (name == "with"):
                    raise SystemExit(f"{terms['fits improved']:.0%} of the fits were made {name} fitting")
            if number >= given.warm_up:
                for name, value in taken.items():
                    seconds[name].append(value)
                seconds["fit"].append(taken["with"] - taken["without"])
        ratios = [a / b for a, b in zip(seconds["with"], seconds["without"], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        medians = {name: 1000 * statistics.median(values) for name, values in seconds.items()}
        table.add_row(
            when, f"{medians['with']:.0f}", f"{medians['without']:.0f}", f"{middle:.3f}", f"{low:.3f}, {high:.3f}",
            f"{medians['fit']:.1f}",
        )  # fmt: skip
        print(
            json.dumps(
                {
                    "estimates": when,
                    "batch": given.batch,
                    "backbone": given.backbone,
                    "crop": given.crop,
                    "threads": given.threads,
                    "with_ms": medians["with"],
                    "without_ms": medians["without"],
                    "ratio": middle,
                    "quartiles": [low, high],
                }
            )
        )
    Console().print(table)


if __name__ == "__main__":
    main()
