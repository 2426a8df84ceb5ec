"""Crops as the finder's Thunder sees people: how small variants on `kouros.networks.joint_features` learn and look.

Thunder's second look is at the square around a person's points, turned so that the trunk is upright. `kouros synthesize
--detections --features` keeps what it made of synthetic people there, so that nothing has to be drawn or looked at to
learn from them; and photos are looked at in the same square.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.data import Dataset

from kouros.batched import concatenate
from kouros.body.files import shared_body
from kouros.body.keypoints import SPIN49
from kouros.body.model import BodyModel
from kouros.body.parameters import BodyParameters
from kouros.data.batch import Batch
from kouros.data.crops import CropTransform
from kouros.data.detections import Detections, DetectionSource
from kouros.data.sources import Source, require_fields
from kouros.detection.depths import packaged_depth_head
from kouros.detection.fusion import SHARED
from kouros.detection.places import region_around, trunk_angle
from kouros.fitting.schedules.fits_store import Augmentation
from kouros.geometry.rotations import rotmat_to_rotvec, rotvec_to_rotmat
from kouros.networks.backbones import VectorBackbone, build_backbone
from kouros.networks.joint_features import MoveNetJoints, joint_features
from kouros.networks.perceptron import Neck
from kouros.systems.batches import Batches, CropBatches, Stream, drawn_of_step
from kouros.systems.estimator import CropEstimator, CropNetwork, Estimate, PersonInPhoto, in_photo
from kouros.systems.lifter import to_slots
from kouros.systems.system import CropSystem

_TOGETHER = 64
"""People whose features are read at once."""


class VectorSystem(CropSystem):
    """A crop system that needs one vector of features and no maps; on `MoveNetJoints` the small variant of it, which
    learns from detections and looks where the finder looks."""

    neck: nn.Module

    def build_features(self, backbone: VectorBackbone, neck: int) -> int:
        """Make backbone and neck, fresh; returns how many features come out.

        Args:
            neck: width of a residual perceptron behind the backbone; 0: none.
        """
        self.backbone = build_backbone(backbone)
        if self.of_joints:  # detections know poses, pictures are asked by `JointBatches`
            self.needs = ()
        features = int(self.backbone.num_features)
        self.neck = Neck(features, neck) if neck else nn.Identity()
        return neck or features

    @property
    def of_joints(self) -> bool:
        """Whether it is the small variant."""
        return isinstance(self.backbone, MoveNetJoints)

    @property
    def batches(self) -> Batches:
        """Crops; of the small variant, detections too."""
        crops = CropBatches(self.crop_size, self.augment, self.wants)
        return JointBatches(crops) if self.of_joints else crops

    def adapter(self, network: CropNetwork, body: BodyModel, name: str) -> CropEstimator:
        """As others', but for the small variant, which looks where the finder looks."""
        return (JointCropEstimator if self.of_joints else CropEstimator)(network, body, name)


# ---- to learn from


@dataclass(frozen=True)
class JointBatches:
    """As `kouros.systems.batches.Batches`: of detections with features, or of crops."""

    crops: CropBatches

    def stream(
        self,
        sources: Sequence[Source],
        ratios: Sequence[float] | None,
        batch_size: int,
        seed: int,
        *,
        rank: int = 0,
        world: int = 1,
    ) -> Stream:
        """As in `kouros.systems.batches.Batches`; detections and pictures are not mixed.

        Raises:
            ValueError: both kinds, or detections without features.
        """
        known = [source for source in sources if isinstance(source, DetectionSource)]
        if not known:
            require_fields(sources, ("keypoints_2d",))
            return self.crops.stream(sources, ratios, batch_size, seed, rank=rank, world=world)
        if len(known) < len(sources):
            raise ValueError("detections and pictures cannot be mixed; name folders `detections` alone, or none.")
        parts = [detected_people(source, self.crops.crop_size, number) for number, source in enumerate(known)]
        firsts = np.cumsum([0, *(len(part) for part in parts)])
        everybody = concatenate([replace(p, index=p.index + int(n)) for p, n in zip(parts, firsts, strict=False)])
        shares = np.array([len(part) for part in parts] if ratios is None else ratios, dtype=np.float64)
        return DetectedStream(
            everybody, self.crops.crop_size, firsts, shares / shares.sum(), batch_size, seed, rank, world
        )

    def plain(self, source: Source, rows: Sequence[int], *, pictures: bool = True) -> Batch:
        """As in `kouros.systems.batches.Batches`."""
        if isinstance(source, DetectionSource):
            chosen = detected_people(source, self.crops.crop_size)[torch.tensor(rows, dtype=torch.long)]
            return _with_black(chosen, self.crops.crop_size)
        return self.crops.plain(source, rows, pictures=pictures)


@dataclass(frozen=True)
class DetectedStream(Dataset[Batch]):
    """People by step, all of whom are in memory."""

    everybody: Batch
    """With pictures of one pixel."""
    crop_size: int
    firsts: np.ndarray
    shares: np.ndarray
    batch_size: int
    seed: int
    rank: int
    world: int

    def __getitem__(self, step: int) -> Batch:
        chosen, places = drawn_of_step(self.shares, self.batch_size, self.seed, step, self.rank, self.world)
        sizes = np.diff(self.firsts)[chosen]
        rows = torch.from_numpy(self.firsts[chosen] + (places[:, 0] * sizes).astype(np.int64))
        return _with_black(self.everybody[rows], self.crop_size)


@torch.no_grad()
def detected_people(source: DetectionSource, crop_size: int, number: int = 0) -> Batch:
    """Everybody of a folder of detections, in Thunder's square: with features, and pictures of one pixel.

    Args:
        crop_size: in whose pixels points are.
        number: of the source among all of a run.

    Raises:
        ValueError: it has no features.
    """
    if not source.has_features:
        raise ValueError(f"{source.path} has no features; make some: kouros synthesize --detections --features.")
    people, head = source.all, packaged_depth_head()
    groups = [range(k, min(k + _TOGETHER, len(source))) for k in range(0, len(source), _TOGETHER)]
    features = torch.cat([joint_features(head, torch.from_numpy(source.features(rows)).float()) for rows in groups])
    angle = torch.tensor([_turn_of(row) for row in people.keypoints[:, SHARED].double().numpy()]).float()
    augmentation = Augmentation(-angle, torch.zeros(len(angle), dtype=torch.bool))
    relative = _points_about_pelvis(people)
    seen = relative + people.pelvis[:, None]
    away = (seen[..., :2] / seen[..., 2:].clamp(min=0.05) - people.region[:, None, :2]) / people.region[:, None, 2:]
    ones = torch.ones_like(seen[..., :1])
    flat = torch.cat([away, torch.zeros_like(ones)], -1)
    turn = _about_axis(-angle)
    return Batch(
        image=torch.zeros(len(angle), 3, 1, 1),
        index=torch.arange(len(angle)),
        source=torch.full((len(angle),), number),
        keypoints_2d=torch.cat([((flat @ turn.mT)[..., :2] + 0.5) * crop_size, ones], -1),
        keypoints_3d=torch.cat([relative @ turn.mT, ones], -1),
        pose=augmentation.apply(people.pose),
        has_pose=torch.ones(len(angle), dtype=torch.bool),
        betas=people.betas,
        has_betas=torch.ones(len(angle), dtype=torch.bool),
        augmentation=augmentation,
        crop_center=people.region[:, :2],
        crop_side=people.region[:, 2],
        features=features,
    )


def _with_black(batch: Batch, crop_size: int) -> Batch:
    """With black crops of the right size, which take no memory."""
    return replace(batch, image=torch.zeros(()).expand(len(batch), 3, crop_size, crop_size))


def _turn_of(points: Float[np.ndarray, "17 3"]) -> float:
    return trunk_angle(points[:, :2], points[:, 2])


def _points_about_pelvis(people: Detections) -> Float[Tensor, "people 49 3"]:
    """SPIN's points, camera axes."""
    body = shared_body()
    still = BodyParameters(people.pose, people.betas, torch.zeros_like(people.pelvis))
    pelvis = body.joint_positions(people.betas, people.pose[:, 3:], people.pose[:, :3], still.transl)[:, :1]
    return still.keypoints_by(body, SPIN49.name) - pelvis


def _about_axis(angle: Float[Tensor, " people"]) -> Float[Tensor, "people 3 3"]:
    """Turns about the line of sight, from x towards y."""
    zero = torch.zeros_like(angle)
    return rotvec_to_rotmat(torch.stack([zero, zero, angle], -1))


# ---- on photos


class JointCropEstimator(CropEstimator):
    """A crop network that looks at Thunder's square of people whose points were detected; else at their own."""

    def estimate(self, people: Sequence[PersonInPhoto]) -> list[Estimate | None]:
        """All crops in one batch.

        Raises:
            ValueError: a person comes without the photo.
        """
        if not people:
            return []
        squares, angles = zip(*(_square_of(person) for person in people), strict=True)
        crops = [_crop(person, angle, self.network.crop_size) for person, angle in zip(squares, angles, strict=True)]
        answer = self.network.predict(torch.stack(crops)).to("cpu")
        size = self.network.crop_size
        return [in_photo(self._turned(answer[i], angles[i]), person, size) for i, person in enumerate(squares)]

    def _turned(self, answer: Estimate, angle: float) -> Estimate:
        """Back about the line of sight, through the crop's middle."""
        bodies, body = answer.bodies, self.body
        assert bodies is not None and body is not None
        turn = _about_axis(torch.tensor([angle], dtype=bodies.pose.dtype))[0]
        orient = rotmat_to_rotvec(turn @ rotvec_to_rotmat(bodies.pose[:3]))
        rest = body.joint_positions(bodies.betas[None], bodies.pose[None, 3:], bodies.pose[None, :3])[0, 0]
        pose = torch.cat([orient, bodies.pose[3:]])
        return replace(answer, bodies=replace(bodies, pose=pose, transl=turn @ (rest + bodies.transl) - rest))


def _square_of(person: PersonInPhoto) -> tuple[PersonInPhoto, float]:
    """The person in the square that the finder looks at, and by how much that is turned."""
    if person.detected is None:
        return person, 0.0
    slots, _ = to_slots(person.keypoints[None], person.detected.keypoint_set)
    points = slots[0, SHARED].numpy().astype(np.float64)
    region = region_around(points[:, :2], points[:, 2])
    if region is None:
        return person, 0.0
    return replace(person, crop_center=np.array([region.x, region.y]), crop_side=region.size), region.angle


def _crop(person: PersonInPhoto, angle: float, size: int) -> Float[Tensor, "3 size size"]:
    if person.image is None:
        raise ValueError("this system looks at pictures; keypoints alone tell it nothing. Give it the photo.")
    pixels = CropTransform(person.crop_center, person.crop_side, size, -angle).image(person.image)
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
