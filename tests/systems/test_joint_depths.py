"""Depths of joints: what the truth is, and that points at their true depths are the person."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from kouros.body.keypoints import COCO17
from kouros.body.model import BodyModel
from kouros.cli import main
from kouros.data.detections import Detections, DetectionSource, write_detections
from kouros.detection.depths import load_depth_head
from kouros.geometry.alignment import align
from kouros.geometry.rotations import rotvec_to_rotmat
from kouros.networks.depth_head import DepthHead
from kouros.systems.joint_depths import LIMBS, FeaturedBatches, lifted, true_depths, true_points
from kouros.systems.lifter import BodyPoints, view_of
from kouros.training.runs import load_run


@pytest.fixture(scope="module")
def points(free_body: BodyModel) -> BodyPoints:
    return BodyPoints(free_body)


def people(body: BodyModel, points: BodyPoints, seed: int, count: int = 5) -> Detections:
    """Seen exactly, anywhere in front of the camera."""
    rng = torch.Generator().manual_seed(seed)
    pose = 0.4 * torch.randn(count, 72, generator=rng)
    pose[:, :3] = torch.tensor([np.pi, 0.0, 0.0]) + 0.3 * torch.randn(count, 3, generator=rng)
    betas = torch.randn(count, 10, generator=rng)
    pelvis = torch.tensor([0.0, 0.0, 5.0]) + torch.tensor([1.0, 0.7, 0.5]) * torch.randn(count, 3, generator=rng)
    placed = points(rotvec_to_rotmat(pose.unflatten(-1, (24, 3))), betas)[2] + pelvis[:, None]
    rays = placed[..., :2] / placed[..., 2:]
    middle = rays.mean(1)
    region = torch.cat([middle, 2.5 * (rays - middle[:, None]).abs().amax((1, 2))[:, None]], 1)
    keypoints = torch.cat([rays, torch.ones(count, 33, 1)], -1)
    return Detections(pose, betas, pelvis, keypoints, torch.zeros(count, 33, 3), region, torch.zeros(count, 17, 2))


@given(seed=st.integers(0, 2**31))
def test_points_at_their_true_depths_are_the_person(free_body: BodyModel, points: BodyPoints, seed: int):
    seen = people(free_body, points, seed)
    true = true_points(seen, points)
    found = lifted(seen, true_depths(true, seen.region[:, 2]))
    assert_close(align(found, true).apply(found), true, atol=1e-3, rtol=0)


def test_who_leans_towards_the_camera_has_a_nearer_head(free_body: BodyModel, points: BodyPoints):
    seen = people(free_body, points, 3, count=2)
    pose = torch.zeros(2, 72)
    pose[:, :3] = torch.tensor([[np.pi - 0.5, 0, 0], [np.pi + 0.5, 0, 0]])
    upright = Detections(
        pose, torch.zeros(2, 10), torch.tensor([[0.0, 0, 4], [0, 0, 4]]), *list(vars(seen).values())[3:]
    )
    depth = true_depths(true_points(upright, points), torch.ones(2))[:, COCO17.index("nose")]
    assert float(depth[0]) * float(depth[1]) < 0 and abs(float(depth[0] - depth[1])) > 0.1


def test_a_fresh_head_says_that_everything_is_as_far_as_the_hips():
    found = DepthHead(width=16, blocks=1)(torch.randn(3, 16, 16, 421))
    assert_close(found.depth, torch.zeros(3, 17))
    assert bool((found.spread > 0).all())


def test_what_the_start_sees_of_depths_does_not_depend_on_the_lens():
    rays = 0.1 * (torch.rand(2, 33, 2) - 0.5)
    ones, depths = torch.ones(2, 33), 0.05 * torch.rand(2, 17, 2) + 0.01
    near, far = (view_of(rays / f, ones, ones, depths=depths / f) for f in (1.0, 20.0))
    assert_close(near.depths, far.depths, rtol=0.02, atol=0)
    assert near.has_depths.tolist() == [1, 1]


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), 0.0])
def test_without_an_expected_error_there_are_no_depths(broken: float):
    depths = torch.full((2, 17, 2), 0.1)
    depths[0, 4, 1] = broken
    view = view_of(torch.rand(2, 33, 2), torch.ones(2, 33), torch.ones(2, 33), depths=depths)
    assert view.has_depths.tolist() == [0, 1] and not view.depths[0].any()


@pytest.fixture
def kept(tmp_path, free_body: BodyModel, points: BodyPoints):
    """Detections with features, in two files."""
    rng = np.random.default_rng(0)
    seen = people(free_body, points, 1, count=12)
    for number, rows in enumerate((range(5), range(5, 12))):
        features = [rng.normal(size=(16, 16, 421)).astype(np.float16) for _ in rows]
        write_detections(tmp_path / "people", number, "train", [seen[i] for i in rows], features)
    return tmp_path / "people" / "detections"


def test_features_belong_to_their_people(kept):
    source = DetectionSource(kept)
    files = [np.load(file) for file in sorted((kept / "features").glob("*.npy"))]
    together = np.concatenate(files)
    assert np.array_equal(source.features([11, 0, 5, 4]), together[[11, 0, 5, 4]])
    batch = FeaturedBatches().stream([source], None, 8, seed=3)[2]
    assert np.array_equal(batch.features.numpy(), together[batch.index].astype(np.float32))
    assert_close(batch.detections.betas, source.all.betas[batch.index])


def test_depths_are_trained_packed_and_read_again(kept, tmp_path):
    small = ["--width", "16", "--blocks", "1", "--batch-size", "4", "--max-steps", "3", "--workers", "0"]
    run = tmp_path / "run"
    assert main(["train", "depths", "--data", str(kept), "--val", str(kept), "--out", str(run), *small]) == 0
    assert main(["models", "pack", str(run), "--out", str(tmp_path / "depths.npz")]) == 0
    features = torch.from_numpy(DetectionSource(kept).features([0, 1])).float()
    one, other = load_depth_head(tmp_path / "depths.npz")(features), load_run(run).network(features)
    assert_close(one.depth, other.depth, atol=2e-2, rtol=0)


def test_detections_without_features_teach_no_depths(tmp_path, free_body: BodyModel, points: BodyPoints, capsys):
    seen = people(free_body, points, 2, count=3)
    write_detections(tmp_path / "people", 0, "train", [seen[i] for i in range(3)])
    where = tmp_path / "people" / "detections"
    assert main(["train", "depths", "--data", str(where), "--out", str(tmp_path / "run"), "--workers", "0"]) != 0
    assert "kouros synthesize --features" in capsys.readouterr().err


def test_limbs_are_the_twelve_points_from_shoulders_to_ankles():
    assert len(LIMBS) == 12 and all("ear" not in COCO17.names[k] and "eye" not in COCO17.names[k] for k in LIMBS)
