"""The losses that systems share, and SPIN's, on cases worked out by hand."""

import math

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.testing import assert_close

from kouros.body.keypoints import SPIN49
from kouros.geometry.rotations import rotvec_to_rotmat
from kouros.networks.estimates import Regressed
from kouros.systems.losses import betas_loss, mean_where, regressed_keypoints, rotation_loss
from kouros.systems.spin import LossWeights, camera_loss, keypoint_loss_2d, keypoint_loss_3d


def _seen(count: int = 2) -> torch.Tensor:
    """All in the middle of a crop of 100 pixels."""
    seen = torch.full((count, 49, 3), 50.0)
    seen[..., 2] = 1.0
    return seen


def test_keypoints_in_the_picture_are_weighed_by_confidence_and_only_annotated_ones_count():
    predicted = torch.zeros(2, 49, 2)
    predicted[:, :25] = 7.0  # OpenPose's: not learned from
    predicted[0, 30] = torch.tensor([0.3, -0.4])
    seen = _seen()
    seen[0, 30, 2] = 0.5
    expected = 0.5 * 0.25 / (2 * 49 * 2)
    assert_close(keypoint_loss_2d(predicted, seen, 100), torch.tensor(expected))
    assert keypoint_loss_2d(predicted, seen, 100, LossWeights(openpose=0.1)) > 1


def test_places_are_crop_coordinates_whatever_the_crops_size():
    predicted = torch.rand(2, 49, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    small, large = (torch.cat([(predicted + 1.5) / 2 * size, torch.ones(2, 49, 1)], dim=-1) for size in (64, 224))
    loss = keypoint_loss_2d(predicted, small, 64)
    assert_close(loss, torch.tensor(0.25 * 24 / 49))
    assert_close(keypoint_loss_2d(predicted, large, 224), loss)


@pytest.mark.parametrize("broken", [torch.nan, torch.inf, 1e30])
def test_keypoints_that_are_no_numbers_teach_nothing(broken: float):
    predicted = torch.zeros(2, 49, 2, requires_grad=True)
    seen = _seen()
    seen[0, 30:, 0] = broken
    loss = keypoint_loss_2d(predicted, seen, 100)
    loss.backward()
    assert loss == 0
    assert torch.isfinite(predicted.grad).all()

    points = torch.zeros(2, 49, 3, requires_grad=True)
    known = torch.zeros(2, 49, 4)
    known[..., 3] = 1.0
    known[0, 40, 1] = broken if broken != 1e30 else torch.nan
    loss = keypoint_loss_3d(points, known)
    loss.backward()
    assert loss == 0
    assert torch.isfinite(points.grad).all()


def test_keypoints_in_space_are_relative_to_the_hips_and_the_mean_is_over_who_has_them():
    generator = torch.Generator().manual_seed(0)
    predicted = torch.randn(3, 49, 3, generator=generator)
    known = torch.cat([predicted + torch.tensor([5.0, -3.0, 50.0]), torch.ones(3, 49, 1)], dim=-1)
    assert_close(keypoint_loss_3d(predicted, known), torch.tensor(0.0), atol=1e-9, rtol=0)
    known[0, 44, :3] += torch.tensor([0.3, 0.0, 0.4])
    known[2, :, 3] = 0.0
    assert_close(keypoint_loss_3d(predicted, known), torch.tensor(0.25 / (24 * 3) / 2), rtol=1e-4, atol=1e-9)
    known[0, SPIN49.index("left_hip_lsp"), 3] = 0.0  # nothing to be relative to
    assert_close(keypoint_loss_3d(predicted, known), torch.tensor(0.0), atol=1e-9, rtol=0)


def test_parameters_teach_only_where_they_are_known():
    rotations = rotvec_to_rotmat(torch.zeros(3, 24, 3)).requires_grad_()
    target = rotvec_to_rotmat(torch.tensor([0.0, 0.0, math.pi]).expand(3, 24, 3)).clone()
    target[2] = torch.nan
    where = torch.tensor([True, False, False])
    loss = rotation_loss(rotations, target, where)
    assert_close(loss, torch.tensor(8 / 9))  # two diagonal entries of nine differ by 2
    loss.backward()
    assert (rotations.grad[0] != 0).any()
    assert (rotations.grad[1:] == 0).all()
    betas = torch.ones(3, 10)
    assert_close(betas_loss(betas, 3 * betas, torch.tensor([True, True, False])), torch.tensor(4.0))
    assert betas_loss(betas, betas * torch.nan, torch.zeros(3, dtype=torch.bool)) == 0


def test_a_camera_behind_the_body_is_expensive():
    def loss(scale: float) -> float:
        camera = torch.tensor([[scale, 0.0, 0.0]])
        return camera_loss(Regressed(torch.eye(3).expand(1, 24, 3, 3), torch.zeros(1, 10), camera)).item()

    assert loss(0.9) < 1e-7
    assert loss(0.0) == 1.0
    assert loss(-0.1) == pytest.approx(math.exp(-10 * -0.1) ** 2)


def test_the_sum_has_the_published_weights():
    terms = {n: torch.tensor(1.0) for n in ("keypoints_2d", "keypoints_3d", "pose", "betas", "camera")}
    assert_close(LossWeights().total(terms), torch.tensor(60 * (5 + 5 + 1 + 0.001 + 1)))
    assert_close(LossWeights().total({"pose": torch.tensor(2.0)}), torch.tensor(120.0))


def test_keypoints_are_where_the_weak_camera_sees_them(free_body):
    """SPIN's pinhole stands so far away that it sees nearly what the weak-perspective camera sees."""
    generator = torch.Generator().manual_seed(0)
    rotations = rotvec_to_rotmat(0.3 * torch.randn(3, 24, 3, generator=generator))
    camera = torch.tensor([[0.9, 0.0, 0.0], [0.7, 0.1, -0.2], [1.1, -0.1, 0.3]])
    regressed = Regressed(rotations, torch.randn(3, 10, generator=generator), camera)
    points = regressed_keypoints(free_body, regressed)
    assert_close(points.picture, regressed.weak_perspective.project(points.space), atol=0.03, rtol=0)
    mesh = free_body(betas=regressed.betas, global_orient=rotations[:, 0], body_pose=rotations[:, 1:], pose2rot=False)
    assert_close(points.space, free_body.keypoints_3d(mesh, "spin49"), atol=1e-4, rtol=0)
    bodies = regressed.bodies
    pixels = bodies.camera.project(bodies.keypoints_by(free_body, "spin49"))
    assert_close(2 * pixels / 224 - 1, points.picture, atol=1e-4, rtol=0)


def _mean_of_mine(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    values = torch.tensor([1.0, 2.0, 30.0]) if rank == 0 else torch.tensor([6.0, 50.0, 70.0])
    where = torch.tensor([True, True, False]) if rank == 0 else torch.tensor([True, False, False])
    answers = torch.stack([mean_where(values, where), mean_where(values, where & False)])
    torch.save(answers, f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def test_the_mean_of_the_processes_answers_is_the_mean_over_all_samples(tmp_path):
    mp.start_processes(_mean_of_mine, (str(tmp_path),), nprocs=2, start_method="fork")
    answers = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    assert_close(sum(answers) / 2, torch.tensor([3.0, 0.0]))
