"""Does a start that is shown what the networks saw of each joint, and not only points and depths, know more?

    kouros synthesize --out people --mocap MOCAP --people 16000 --size 288 --seed 280001 --athletic 0.25 \
        --wardrobe ASSETS --detections --features
    kouros synthesize --out held_out --mocap MOCAP --split val --people 1000 --size 288 --seed 1 --detections --features
    python benchmarks/feature_start.py MOCAP people/detections held_out/detections [--steps 1500]

From the packaged start, twice with the same batches (seed 0; 112 people of motion capture with artificial errors and
144 detections a step): as it is, and with `kouros.networks.joint_features` beside, brought to 160 numbers, of the
detections (but for 15 %, so that it learns to do without). Prints PA-MPJPE and MPJPE of the twelve limb points of
held-out people, millimetres, of all and of those who are clearly seen.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from common.learning import Learning
from common.started import clearly_seen
from kouros.batched import concatenate
from kouros.body.files import shared_body
from kouros.data.detections import Detections, DetectionSource
from kouros.data.mocap.recombination import Draws, PoseBank
from kouros.data.mocap.source import MocapSource
from kouros.detection.depths import packaged_depth_head
from kouros.geometry.rotations import rotvec_to_rotmat
from kouros.networks.joint_features import joint_features
from kouros.systems.learned_start import limb_errors
from kouros.systems.lifter import Answers, BodyPoints, Lifter, View, features, load_weights, losses
from kouros.systems.lifter_samples import LIMB_KEYPOINTS, artificial_batch, as_other_sets, seen_of, to_training

RECORDED, DETECTED = 112, 144
RATE, WITHOUT, ATHLETIC = 4e-4, 0.15, 0.25
TOGETHER = 64


class FeatureStart(nn.Module):
    """The learned start, and features that are added to what its first layer makes of the view."""

    def __init__(self, start: Lifter, seen: Tensor, width: int = 160) -> None:
        super().__init__()
        self.start = start
        self.mean, self.spread = seen.float().mean(0), seen.float().std(0) + 1e-3
        self.squeeze = nn.Sequential(nn.Dropout(0.3), nn.Linear(seen.shape[1], width), nn.ReLU(), nn.Dropout(0.2))
        self.into = nn.Linear(width, start.config.width)
        # Begin as the start is.
        nn.init.zeros_(self.into.weight)
        nn.init.zeros_(self.into.bias)

    def forward(self, view: View, seen: Tensor, known: Tensor) -> Answers:
        """Answers; of those of whom features are known, by them as well."""
        more = self.into(self.squeeze(((seen.float() - self.mean) / self.spread).clamp(-6, 6)))
        x = self.start.first(features(view)) + known[:, None] * more
        for block in self.start.blocks:
            x = block(x)
        return self.start._answers(self.start.last(self.start.norm(x)).float())


@torch.no_grad()
def features_of(source: DetectionSource) -> Tensor:
    """(people, numbers), in half precision."""
    head, parts = packaged_depth_head(), []
    for first in range(0, len(source), TOGETHER):
        rows = range(first, min(first + TOGETHER, len(source)))
        parts.append(joint_features(head, torch.from_numpy(source.features(rows)).float()).half())
    return torch.cat(parts)


def trained(
    mocap: MocapSource, people: Detections, seen: Tensor, points: BodyPoints, steps: int, *, shown: bool
) -> FeatureStart:
    """With features or without, otherwise the same; the running average of the weights."""
    torch.manual_seed(0)
    draw = torch.Generator().manual_seed(0)
    network = FeatureStart(load_weights().requires_grad_(True), seen)
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=1e-3, betas=(0.9, 0.98))
    learning = Learning(network, optimizer, steps, warmup=50, decay=0.997)
    for _ in range(steps):
        with torch.no_grad():
            rows = torch.randint(len(mocap), (2 * RECORDED,), generator=draw).tolist()
            poses = torch.as_tensor(mocap.poses(rows)).float().unflatten(-1, (24, 3))
            recorded = artificial_batch(PoseBank(rotvec_to_rotmat(poses)), points, RECORDED, draw, ATHLETIC)
            chosen = torch.randint(len(people.betas), (DETECTED,), generator=draw)
            spoiled = as_other_sets(seen_of(people[chosen]), Draws(DETECTED, draw))
            detected = to_training(spoiled, points, torch.ones(DETECTED))
            view, truth = concatenate([recorded[0], detected[0]]), concatenate([recorded[1], detected[1]])
            known = torch.cat([torch.zeros(RECORDED), (torch.rand(DETECTED, generator=draw) > WITHOUT).float()])
            given = torch.cat([torch.zeros(RECORDED, seen.shape[1], dtype=seen.dtype), seen[chosen]])
        loss, _ = losses(network(view, given, known * shown), truth, view, points)
        learning.step(loss)
    module = learning.average
    assert isinstance(module, FeatureStart)
    return module.eval()


@torch.no_grad()
def row(network: FeatureStart, people: Detections, seen: Tensor, points: BodyPoints, *, shown: bool) -> list[str]:
    """Errors of answer 0, straight and not in a mirror."""
    view, truth = to_training(seen_of(people), points, torch.ones(len(people.betas)))
    answers = network(view, seen, torch.full((len(seen),), float(shown)))
    found = points(answers.rotations[:, 0], answers.betas[:, 0])[2]
    plain, aligned = limb_errors(found[:, LIMB_KEYPOINTS], truth.keypoints[:, LIMB_KEYPOINTS])
    return [f"{errors[of].mean():.1f}" for of in (slice(None), clearly_seen(people)) for errors in (aligned, plain)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mocap", type=Path)
    parser.add_argument("people", type=Path)
    parser.add_argument("held_out", type=Path)
    parser.add_argument("--steps", type=int, default=1500)
    given = parser.parse_args()
    torch.set_num_threads(1)
    mocap, points = MocapSource(given.mocap / "diverse_frames.npz"), BodyPoints(shared_body())
    learned, judged = DetectionSource(given.people), DetectionSource(given.held_out)
    seen, held = features_of(learned), features_of(judged)
    table = Table(
        "start", "PA-MPJPE", "MPJPE", "seen: PA-MPJPE", "MPJPE", title=f"{len(held)} of {len(seen)} learned from"
    )
    rows: Sequence[tuple[str, FeatureStart, bool]] = (
        ("as packaged", FeatureStart(load_weights(), seen).eval(), False),
        ("trained on, points and depths", trained(mocap, learned.all, seen, points, given.steps, shown=False), False),
        ("trained on, features too", trained(mocap, learned.all, seen, points, given.steps, shown=True), True),
    )
    for name, network, shown in rows:
        table.add_row(name, *row(network, judged.all, held, points, shown=shown))
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
