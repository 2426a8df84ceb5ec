"""Small variants on what the packaged networks say of joints: the same square in training and on photos."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

import kouros
from kouros.body.keypoints import BLAZEPOSE33, SPIN49
from kouros.body.model import BodyModel
from kouros.body.parameters import Bodies
from kouros.cli import main
from kouros.data.detections import Detections, DetectionSource, write_detections
from kouros.data.mocap.source import MocapSource
from kouros.data.spin_joints import TO_SPIN24
from kouros.detection import DetectedPerson
from kouros.detection.depths import packaged_depth_head
from kouros.detection.movenet import Thunder
from kouros.detection.regions import Pyramid, Region
from kouros.geometry.cameras import nominal_crop_camera
from kouros.geometry.rotations import rotvec_to_rotmat
from kouros.networks.joint_features import MoveNetJoints, joint_features
from kouros.systems.backbone_weights import begin_backbone
from kouros.systems.batches import CropBatches
from kouros.systems.estimator import Estimate, PersonInPhoto
from kouros.systems.hkmr import HkmrConfig
from kouros.systems.joint_crops import JointBatches, JointCropEstimator, detected_people
from kouros.systems.lifter import BodyPoints
from kouros.systems.spin import SpinConfig

SMALL = ["--backbone", "movenet-joints", "--neck", "16", "--hold-backbone", "--batch-size", "4", "--workers", "0"]


def test_the_backbone_sees_what_the_finder_sees():
    """Torch's networks against LiteRT's."""
    photo = np.array(Image.open(Path(kouros.__file__).parent / "data" / "demo" / "people.jpg").convert("RGB"))
    crop = np.array(Image.fromarray(photo).crop((320, 240, 700, 620)).resize((256, 256)))  # around one of the people
    seen = Thunder(threads=1).look(Pyramid(crop), Region(128.0, 128.0, 256.0))
    network = MoveNetJoints().eval()
    begin_backbone(network, None)
    with torch.no_grad():
        ours = network(torch.from_numpy(crop).permute(2, 0, 1)[None].float() / 255)
        theirs = joint_features(packaged_depth_head(), torch.from_numpy(seen.features).float()[None])
    assert ours.shape == (1, network.num_features)
    assert_close(ours, theirs, atol=0.02, rtol=0.02)
    # Whoever Thunder is sure of lies where it says, to within a place.
    sure = seen.confidence > 0.5
    assert sure.sum() > 5
    away = np.abs((ours[0, :34].reshape(17, 2).numpy() + 1) * 128 - seen.points)[sure]
    assert np.median(away) < 16


@pytest.fixture
def detections(tmp_path: Path, free_body: BodyModel) -> Path:
    """People who are seen exactly; the first lies on a side."""
    rng, count = torch.Generator().manual_seed(2), 8
    pose = 0.3 * torch.randn(count, 72, generator=rng)
    pose[:, :3] = torch.tensor([np.pi, 0.0, 0.0])
    pose[0, :3] = torch.tensor([np.pi / 2**0.5, np.pi / 2**0.5, 0.0])
    betas, pelvis = torch.randn(count, 10, generator=rng), torch.tensor([0.3, 0.2, 5.0]).repeat(count, 1)
    placed = BodyPoints(free_body)(rotvec_to_rotmat(pose.unflatten(-1, (24, 3))), betas)[2] + pelvis[:, None]
    rays = placed[..., :2] / placed[..., 2:]
    region = torch.cat([rays.mean(1), 2.5 * (rays - rays.mean(1, keepdim=True)).abs().amax((1, 2))[:, None]], 1)
    keypoints = torch.cat([rays, torch.ones(count, 33, 1)], -1)
    seen = Detections(pose, betas, pelvis, keypoints, torch.zeros(count, 33, 3), region, torch.zeros(count, 17, 2))
    noise = np.random.default_rng(0)
    features = [noise.uniform(0, 1, (16, 16, 421)).astype(np.float16) for _ in range(count)]
    write_detections(tmp_path, 0, "train", [seen[i] for i in range(count)], features)
    return tmp_path / "detections"


def test_people_stand_upright_in_their_squares(detections: Path):
    batch = detected_people(DetectionSource(detections), 256)
    coco = [25 + slot for slot in TO_SPIN24["coco17"]]
    shoulders, hips = (batch.keypoints_2d[:, [coco[k] for k in pair], :2].mean(1) for pair in ((5, 6), (11, 12)))
    above = shoulders - hips
    assert bool((above[:, 1] < -10).all())
    assert float(batch.augmentation.rotation[0].abs()) > 1.3  # who lies was turned by a right angle
    # Points in space and in the picture are of one body: depth apart, a metre is as large in both.
    space = batch.keypoints_3d[:, coco, :2] - batch.keypoints_3d[:, coco, :2].mean(1, keepdim=True)
    flat = batch.keypoints_2d[:, coco, :2] - batch.keypoints_2d[:, coco, :2].mean(1, keepdim=True)
    cosine = (space * flat).sum((1, 2)) / (space.norm(dim=(1, 2)) * flat.norm(dim=(1, 2)))
    assert bool((cosine > 0.97).all())


class Looks:
    """A network that answers with one body whatever it is shown, and keeps what it was shown."""

    crop_size, points_3d, points_2d = 64, None, None

    def __init__(self) -> None:
        self.shown = torch.zeros(0)

    def predict(self, image: torch.Tensor) -> Estimate:
        self.shown = image
        count = len(image)
        pose = torch.zeros(count, 72)
        pose[:, :3] = torch.tensor([np.pi - 0.2, 0.1, 0.3])
        transl = torch.tensor([0.1, -0.2, 40.0]).repeat(count, 1)
        return Estimate(bodies=Bodies(pose, torch.zeros(count, 10), transl, nominal_crop_camera(count, pose)))


def test_a_photo_on_its_side_gives_the_body_on_its_side(free_body: BodyModel):
    size, rng = 128, np.random.default_rng(3)
    photo = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
    points = np.column_stack([rng.uniform(40, 88, (33, 2)), np.ones(33)])
    for name, y in (("shoulder", 45.0), ("hip", 75.0)):
        for side, x in (("left", 72.0), ("right", 56.0)):
            points[BLAZEPOSE33.index(f"{side}_{name}"), :2] = x, y
    turned = np.column_stack([size - points[:, 1], points[:, 0], points[:, 2]])  # by a right angle, clockwise
    network = Looks()
    estimator = JointCropEstimator(network, free_body, "looks")
    answers, shown = [], []
    for pixels, where in ((photo, points), (np.ascontiguousarray(np.rot90(photo, -1)), turned)):
        box = np.array([30.0, 30.0, 98.0, 98.0])
        person = PersonInPhoto.found(DetectedPerson(box, where, "blazepose33", 1.0), pixels, (size, size))
        (answer,) = estimator.estimate([person])
        assert answer is not None and answer.bodies is not None
        answers.append(answer.bodies)
        shown.append(network.shown)
    assert_close(shown[0], shown[1], atol=0.02, rtol=0)
    joints = [_batched(bodies).keypoints_by(free_body, SPIN49.name) for bodies in answers]
    quarter = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    assert_close(joints[1], joints[0] @ quarter.T, atol=1e-3, rtol=0)


def _batched(bodies: Bodies) -> Bodies:
    return Bodies(bodies.pose[None], bodies.betas[None], bodies.transl[None], bodies.camera)


@pytest.mark.parametrize(
    ("name", "options"),
    [("hkmr", []), pytest.param("spin", ["--learn-from", "reprojection"], marks=pytest.mark.slow)],
)
def test_small_variants_learn_from_detections_and_are_packed_without_their_backbone(
    name: str, options: list[str], detections: Path, tmp_path: Path, capsys
):
    run, packed = tmp_path / "run", tmp_path / "packed"
    command = ["train", name, "--data", str(detections), "--out", str(run), *SMALL, *options, "--max-steps", "2"]
    assert main(command) == 0
    assert main(["models", "pack", str(run), "--out", str(packed)]) == 0
    with np.load(packed / "weights.npz", allow_pickle=False) as arrays:
        names = arrays.files
    assert any(n.startswith("neck.") for n in names) and not any(n.startswith("backbone.") for n in names)


def test_published_systems_have_no_neck(free_body: BodyModel):
    for config in (SpinConfig(backbone=18), HkmrConfig(backbone=18)):
        assert not any(name.startswith("neck") for name in config.build(free_body, 0).state_dict())


def test_detections_and_others_are_not_mixed(detections: Path, tmp_path: Path):
    np.savez(tmp_path / "diverse_frames.npz", poses=np.zeros((3, 72), np.float32), split=np.array(["train"] * 3))
    sources = [DetectionSource(detections), MocapSource(tmp_path / "diverse_frames.npz")]
    with pytest.raises(ValueError, match="cannot be mixed"):
        JointBatches(CropBatches(64)).stream(sources, None, 2, 0)
