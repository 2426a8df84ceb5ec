"""Depths of joints from what MoveNet sees: how the head of `kouros.networks.depth_head` is trained.

From top to bottom: configuration, what a batch brings, the truth, the system, what it answers on photos. It learns from
synthetic people as the packaged detector sees them, whose features `kouros synthesize --features` keeps.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.optim import AdamW, Optimizer
from torch.utils.data import Dataset

from kouros.batched import Batched, concatenate
from kouros.body.keypoints import COCO17, KeypointSet
from kouros.body.model import BodyModel
from kouros.data.detections import Detections, DetectionSource
from kouros.data.sources import Source, source_name
from kouros.detection.depths import LEAST_SPREAD, joint_depths, save_depth_head
from kouros.detection.fusion import SHARED
from kouros.detection.movenet import Thunder
from kouros.detection.places import region_around
from kouros.detection.regions import Pyramid
from kouros.geometry.rotations import rotvec_to_rotmat
from kouros.networks.depth_head import DepthHead
from kouros.systems.batches import drawn_of_step
from kouros.systems.estimator import Estimate, PersonInPhoto
from kouros.systems.learned_start import limb_errors
from kouros.systems.lifter import BodyPoints, look_at, to_slots
from kouros.systems.measures import Best, Sum
from kouros.systems.recipe import Recipe
from kouros.systems.system import Step, System

# ---- configuration


@dataclass(frozen=True)
class JointDepthsConfig:
    """As for two processor cores."""

    recipe: ClassVar[Recipe] = Recipe(
        max_steps=4_000, batch_size=32, schedule="cosine", warmup=200, clip=1.0, ema=0.998
    )
    width: int = 128
    """Channels of the head."""
    blocks: int = 4
    """Residual ones."""
    learning_rate: float = 1e-3
    """AdamW's, at its highest."""
    weight_decay: float = 1e-2
    """Likewise."""
    forget: float = 0.1
    """Share of the features' channels that are left out in training."""

    def build(self, body: BodyModel, num_samples: int = 0) -> "JointDepthsSystem":
        """The system with fresh weights, from torch's global generator.

        Args:
            body: whose points lie at the depths that it learns: the free body.
            num_samples: as other systems need it; this one keeps nothing of its samples.
        """
        return JointDepthsSystem(self, body)


# ---- what a batch brings


@dataclass(frozen=True)
class FeaturedPeople(Batched):
    """Detections, and what the detector's network made of them."""

    index: Int[Tensor, " batch"]
    features: Float[Tensor, "batch 16 16 421"]
    detections: Detections

    def __len__(self) -> int:
        return len(self.index)


@dataclass(frozen=True)
class FeaturedBatches:
    """As `kouros.systems.batches.Batches`, from detections with features."""

    def stream(
        self,
        sources: Sequence[Source],
        ratios: Sequence[float] | None,
        batch_size: int,
        seed: int,
        *,
        rank: int = 0,
        world: int = 1,
    ) -> "FeaturedStream":
        """As in `kouros.systems.batches.Batches`; without ratios, sources count by their numbers of people."""
        known = [_known(source) for source in sources]
        shares = np.array([len(s) for s in known] if ratios is None else ratios, dtype=np.float64)
        return FeaturedStream(tuple(known), shares / shares.sum(), batch_size, seed, rank, world)

    def plain(self, source: Source, rows: Sequence[int], *, pictures: bool = True) -> FeaturedPeople:
        """As in `kouros.systems.batches.Batches`; there never are pictures."""
        known = _known(source)
        index = torch.tensor(rows, dtype=torch.long)
        return FeaturedPeople(index, torch.from_numpy(known.features(rows)).float(), known.rows(rows))


@dataclass(frozen=True)
class FeaturedStream(Dataset[FeaturedPeople]):
    """People by step."""

    sources: tuple[DetectionSource, ...]
    shares: np.ndarray
    batch_size: int
    seed: int
    rank: int
    world: int

    def __getitem__(self, step: int) -> FeaturedPeople:
        chosen, places = drawn_of_step(self.shares, self.batch_size, self.seed, step, self.rank, self.world)
        chosen, places = np.sort(chosen), places[:, 0]  # by source: the order within a batch means nothing
        firsts = np.cumsum([0, *(len(source) for source in self.sources)])
        parts = []
        for k in np.unique(chosen):
            rows = (places[chosen == k] * len(self.sources[k])).astype(np.int64)
            part = FeaturedBatches().plain(self.sources[k], rows.tolist())
            parts.append(FeaturedPeople(part.index + int(firsts[k]), part.features, part.detections))
        return concatenate(parts)


def _known(source: Source) -> DetectionSource:
    if not isinstance(source, DetectionSource) or not source.has_features:
        raise ValueError(
            f"{source_name(source)} has no features of detected people, from which depths are learned; name the folder "
            "`detections` of people made with kouros synthesize --features."
        )
    return source


# ---- the truth

_HIPS = [COCO17.index(f"{side}_hip") for side in ("left", "right")]
LIMBS = [k for k, name in enumerate(COCO17.names) if k >= COCO17.index("left_shoulder")]
"""The twelve points of the limbs, of COCO's."""


def true_points(people: Detections, points: BodyPoints) -> Float[Tensor, "batch 17 3"]:
    """COCO's points in the axes of a camera that looks at the middle of the square; metres from the photo's camera."""
    rotations = rotvec_to_rotmat(people.pose.unflatten(-1, (24, 3)))
    placed = points(rotations, people.betas)[2][:, SHARED] + people.pelvis[:, None]
    return placed @ _turn(people).mT


def _turn(people: Detections) -> Float[Tensor, "batch 3 3"]:
    middle = torch.cat([people.region[:, :2], torch.ones_like(people.region[:, :1])], -1)
    return look_at(torch.nn.functional.normalize(middle, dim=-1))


def true_depths(true: Float[Tensor, "batch 17 3"], side: Float[Tensor, " batch"]) -> Float[Tensor, "batch 17"]:
    """Of `true_points`, as the network is to answer; ``side`` is the square's, at depth 1."""
    depth = true[..., 2]
    hips = depth[:, _HIPS].mean(1, keepdim=True)
    return (depth / hips - 1) / side[:, None]


def lifted(people: Detections, depths: Float[Tensor, "batch 17"]) -> Float[Tensor, "batch 17 3"]:
    """The detected points at the depths that were found, about the middle of the hips: of any size."""
    rays = people.keypoints[:, SHARED]
    turned = torch.cat([rays[..., :2], torch.ones_like(rays[..., :1])], -1) @ _turn(people).mT
    depth = 1 + depths * people.region[:, 2:]
    return turned / turned[..., 2:].clamp(min=0.05) * depth[..., None]


# ---- the system


class JointDepthsSystem(System):
    """Head and loss."""

    needs = ("pose",)
    judged_by = ("pose",)
    best_by = (Best("pa_mpjpe"),)

    def __init__(self, config: JointDepthsConfig, body: BodyModel) -> None:
        super().__init__()
        self.config = config
        self.network = DepthHead(config.width, config.blocks)
        self.points = BodyPoints(body)

    @property
    def batches(self) -> FeaturedBatches:
        """Of detections."""
        return FeaturedBatches()

    def begin(self, samples: Iterable[FeaturedPeople] = ()) -> None:
        """Nothing is read."""

    def optimizers(self) -> tuple[Optimizer, ...]:
        """AdamW."""
        config = self.config
        return (AdamW(self.network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay),)

    def training_step(self, batch: FeaturedPeople) -> Step:
        """Laplace's likelihood of the true depths."""
        true = true_points(batch.detections, self.points)
        wanted = true_depths(true, batch.detections.region[:, 2])
        found = self.network(batch.features, self.config.forget)
        apart, spread = (found.depth - wanted).abs(), found.spread + LEAST_SPREAD
        loss = (apart / spread + spread.log()).mean() + apart.mean()
        return Step((loss,), {"depth": apart[:, LIMBS].mean().detach()})

    def measures(self, batch: FeaturedPeople) -> Mapping[str, Sum]:
        """Of the twelve points of the limbs: depth, millimetres; what is expected of the error over what it is; and
        PA-MPJPE of the detected points at the depths found, at the true ones, and with no depth."""
        people, found = batch.detections, self.network(batch.features)
        true = true_points(people, self.points)
        wanted = true_depths(true, people.region[:, 2])
        metres = people.region[:, 2:] * true[:, _HIPS, 2].mean(1, keepdim=True)
        apart = (found.depth - wanted).abs()[:, LIMBS]
        sums = {
            "depth": Sum.over(apart * metres, scale=1000.0, said="depth {:.1f} mm"),
            "expected": Sum(found.spread[:, LIMBS].double().sum(), apart.double().sum(), "expected {:.2f} of it"),
        }
        ways = {"pa_mpjpe": found.depth, "true_depth_pa_mpjpe": wanted, "flat_pa_mpjpe": torch.zeros_like(wanted)}
        for name, depth in ways.items():
            _, aligned = limb_errors(lifted(people, depth)[:, LIMBS], true[:, LIMBS])
            sums[name] = Sum.over(aligned, said=f"{name.replace('_', ' ')} {{:.1f}} mm")
        return sums

    def pack(self, path: Path) -> None:
        """As in `kouros.systems.system.Packable`."""
        save_depth_head(path, self.network)

    def estimator(self, body: BodyModel, name: str) -> "PointsAtDepths":
        """COCO's points in space."""
        return PointsAtDepths(self.network, name)


# ---- on photos


class PointsAtDepths:
    """Detected points at the depths that the picture shows: COCO's in space, and no body.

    Args:
        network: trained.
        name: as tables print it.
    """

    needs_keypoints = True
    body: BodyModel | None = None
    points_3d: KeypointSet | None = COCO17
    points_2d: KeypointSet | None = None

    def __init__(self, network: DepthHead, name: str = "points at depths") -> None:
        self.network, self.name = network, name
        self._thunder = Thunder()

    def estimate(self, people: Sequence[PersonInPhoto]) -> list[Estimate | None]:
        """As large as the mean of their bones says; None for whom too few points are seen of.

        Raises:
            ValueError: a person comes without the photo.
        """
        return [self._of(person) for person in people]

    def _of(self, person: PersonInPhoto) -> Estimate | None:
        if person.image is None or person.detected is None:
            raise ValueError("depths are read off the picture; keypoints alone tell nothing. Give the photo.")
        slots, _ = to_slots(person.keypoints[None], person.detected.keypoint_set)
        keypoints = slots[0, SHARED].numpy().astype(np.float64)
        region = region_around(keypoints[:, :2], keypoints[:, 2])
        if region is None:
            return None
        seen = self._thunder.look(Pyramid(person.image), region)
        depth = torch.from_numpy(joint_depths(self.network, seen)[:, :1]).float()
        flat = torch.from_numpy(keypoints[:, :2]).float() - person.camera.principal_point
        placed = torch.cat([flat * (1 + depth / person.camera.focal_length), depth], dim=-1)
        bones = (placed[_BONES[:, 0]] - placed[_BONES[:, 1]]).norm(dim=-1)
        return Estimate(points_3d=placed * (_BONE_LENGTHS / bones.clamp(min=1e-6)).median())


_BONES = torch.tensor(
    [
        [COCO17.index(f"{side}_{part}") for part in pair]
        for side in ("left", "right")
        for pair in (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle"), ("shoulder", "hip"))
    ]
)
_BONE_LENGTHS = torch.tensor(2 * [0.28, 0.25, 0.41, 0.42, 0.50])
"""Metres, of the mean body."""
