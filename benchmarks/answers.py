"""Is it known which of the learned start's answers is right?

    kouros synthesize --out people --mocap MOCAP --people 16000 --size 288 --seed 280001 --athletic 0.25 \
        --wardrobe ASSETS --detections
    kouros synthesize --out held_out --mocap MOCAP --split val --people 1000 --size 288 --seed 1 --detections
    python benchmarks/answers.py people/detections held_out/detections

The network's four answers, and of the three others those that it gives in a mirror: seven. A small network is shown how
far each is from the keypoints, from the picture's depths and from BlazePose's landmarks, and learns on 6,000 of the
first folder's people (seed 0) how probable each is to be the nearest to the truth. Prints, of the second folder's, the
errors of answer 0, of the most probable one, of all weighed by their probabilities, and of the best one, which only the
truth tells (twelve limb points, millimetres); and how often the most probable one is the best, as said and as it is.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from kouros.body.files import shared_body
from kouros.body.keypoints import BLAZEPOSE33, COCO17
from kouros.data.detections import Detections, DetectionSource
from kouros.detection.fusion import SHARED
from kouros.systems.learned_start import limb_errors
from kouros.systems.lifter import (
    Answers,
    BodyPoints,
    Lifter,
    View,
    load_weights,
    mirrored_answers,
    mirrored_view,
    normalised_image,
    pelvis_of,
)
from kouros.systems.lifter_samples import LIMB_KEYPOINTS, seen_of, to_training

PEOPLE, STEPS, RATE = 6_000, 800, 1e-2
SOFT = 8.0
"""Millimetres by which an answer is better that is to be e times as probable."""
_LIMBS = slice(COCO17.index("left_shoulder"), None)
_HIPS, _FLAT_HIPS = ([names.index(f"{s}_hip") for s in ("left", "right")] for names in (BLAZEPOSE33, COCO17))


@dataclass(frozen=True, eq=False)
class Judged:
    """Of people and their answers."""

    points: Tensor
    """(people, answers, 33, 3), metres about the pelvis."""
    true: Tensor
    signs: Tensor
    """(people, answers, signs): what is known without the truth."""
    aligned: Tensor
    """(people, answers): PA-MPJPE, millimetres."""


@torch.no_grad()
def judged(people: Detections, network: Lifter, points: BodyPoints) -> Judged:
    """All answers of everybody."""
    view, truth = to_training(seen_of(people), points, torch.ones(len(people.betas)))
    straight, mirrored = network(view), mirrored_answers(network(mirrored_view(view)))
    chosen = [(straight, k) for k in range(4)] + [(mirrored, k) for k in range(1, 4)]
    found = [_one(answers, k, view, points) for answers, k in chosen]
    places, signs = (torch.stack(parts, 1) for parts in zip(*found, strict=True))
    true = truth.keypoints
    aligned = [limb_errors(places[:, k, LIMB_KEYPOINTS], true[:, LIMB_KEYPOINTS])[1] for k in range(len(chosen))]
    return Judged(places, true, signs, torch.stack(aligned, 1))


def _one(answers: Answers, k: int, view: View, points: BodyPoints) -> tuple[Tensor, Tensor]:
    """An answer's points, and its signs."""
    found, placement = points(answers.rotations[:, k], answers.betas[:, k])[2], answers.placement[:, k]
    missed = (normalised_image(found, placement, view.size) - view.points).norm(dim=-1)
    weight = view.confidence * view.present
    picture = (weight * missed)[:, LIMB_KEYPOINTS].sum(1) / weight[:, LIMB_KEYPOINTS].sum(1).clamp(min=1e-3)
    robust = (weight * missed.square() / (missed.square() + 0.05**2)).sum(1) / weight.sum(1).clamp(min=1e-3)
    depth = (found + pelvis_of(placement, view.size)[:, None])[..., SHARED, 2]
    hips = depth[:, _FLAT_HIPS].mean(1, keepdim=True)
    off = ((depth / hips - 1) / view.size[:, None] - view.depths[..., 0]).abs() / view.depths[..., 1].clamp(min=1e-3)
    about = found - found[:, _HIPS].mean(1, keepdim=True)
    landmarks = (about - view.landmarks).norm(dim=-1)[:, LIMB_KEYPOINTS].mean(1)
    farthest = off[:, _LIMBS].topk(3, dim=1).values.mean(1)
    numbers = torch.stack([robust, picture, off[:, _LIMBS].mean(1), farthest, landmarks], 1)
    return found, torch.cat([numbers, numbers.log1p()], 1)


def learned(people: Judged) -> nn.Module:
    """From signs to a score of each answer."""
    torch.manual_seed(0)
    flat = people.signs.flatten(0, 1)
    network = Scores(flat.mean(0), flat.std(0) + 1e-6)
    target = torch.softmax(-people.aligned / SOFT, 1)
    optimizer = torch.optim.Adam(network.parameters(), RATE)
    for _ in range(STEPS):
        loss = -(target * network(people.signs).log_softmax(1)).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network


class Scores(nn.Module):
    """Two layers, the same for all answers, and what it is worth to be the first."""

    def __init__(self, mean: Tensor, spread: Tensor) -> None:
        super().__init__()
        self.mean, self.spread = mean, spread
        self.layers = nn.Sequential(nn.Linear(len(mean), 16), nn.ReLU(), nn.Linear(16, 1))
        self.first = nn.Parameter(torch.zeros(()))

    def forward(self, signs: Tensor) -> Tensor:
        """(people, answers)."""
        scores = self.layers((signs - self.mean) / self.spread)[..., 0]
        return scores + self.first * (torch.arange(scores.shape[1]) == 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("people", type=Path)
    parser.add_argument("held_out", type=Path, nargs="+")
    given = parser.parse_args()
    torch.set_num_threads(1)
    network, points = load_weights(), BodyPoints(shared_body())
    scores = learned(judged(DetectionSource(given.people).all[:PEOPLE], network, points))
    table = Table("people", "answer 0", "most probable", "all, weighed", "best", "is the best", "as said")
    for folder in given.held_out:
        people = judged(DetectionSource(folder).all, network, points)
        with torch.no_grad():
            share = scores(people.signs).softmax(1)
        everybody, likely, best = torch.arange(len(share)), share.argmax(1), people.aligned.argmin(1)
        weighed = (share[..., None, None] * people.points).sum(1)
        ways = [people.points[:, 0], people.points[everybody, likely], weighed, people.points[everybody, best]]
        errors = [limb_errors(way[:, LIMB_KEYPOINTS], people.true[:, LIMB_KEYPOINTS]) for way in ways]
        cells = [f"{aligned.mean():.1f}, {plain.mean():.1f}" for plain, aligned in errors]
        hits, said = 100 * (likely == best).float().mean(), 100 * share.amax(1).mean()
        table.add_row(f"{folder.parent.name}, {len(share)}", *cells, f"{hits:.0f} %", f"{said:.0f} %")
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
