"""Fits in the training loop, on bodies whose truth is known."""

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from kouros.body.keypoints import SPIN49
from kouros.body.parameters import BodyParameters
from kouros.fitting.schedules.fits_store import Augmentation, FitsStore
from kouros.fitting.schedules.in_the_loop import FitInTheLoop, Photographed, read_spin_fits
from kouros.fitting.schedules.smplify import SmplifyConfig
from kouros.geometry.cameras import nominal_crop_camera
from kouros.geometry.rotations import rotmat_to_rotvec, rotvec_to_rotmat

COUNT = 4


@pytest.fixture(scope="module")
def truth() -> BodyParameters:
    """People who stand, sit and reach, 45 to 60 metres away from a camera of focal length 5000."""
    generator = torch.Generator().manual_seed(3)
    yaw = torch.tensor([0.0, 0.6, -1.0, 2.5])
    turn = rotvec_to_rotmat(torch.stack([torch.zeros(COUNT), yaw, torch.zeros(COUNT)], dim=-1))
    orient = rotmat_to_rotvec(rotvec_to_rotmat(torch.tensor([math.pi, 0.0, 0.0])) @ turn)
    pose = torch.cat([orient, 0.15 * torch.randn(COUNT, 69, generator=generator)], dim=-1)
    transl = torch.tensor([[0.05, 0.2, 50.0], [-0.1, 0.3, 45.0], [0.0, 0.25, 60.0], [0.2, 0.1, 48.0]])
    return BodyParameters(pose, 0.5 * torch.randn(COUNT, 10, generator=generator), transl)


def _keypoints(body, at: BodyParameters, crop_size: int = 224) -> Tensor:
    points = body.keypoint_positions(
        "spin49", betas=at.betas, global_orient=at.pose[:, :3], body_pose=at.pose[:, 3:], transl=at.transl
    )
    pixels = nominal_crop_camera(len(points), points).project(points) * (crop_size / 224)
    return torch.cat([pixels, torch.ones_like(pixels[..., :1])], dim=-1)


def _unchanged(count: int = COUNT) -> Augmentation:
    return Augmentation(torch.zeros(count), torch.zeros(count, dtype=torch.bool))


def _seen(keypoints: Tensor, crop_size: int = 224, augmentation: Augmentation | None = None) -> Photographed:
    return Photographed(torch.arange(len(keypoints)), keypoints, crop_size, augmentation or _unchanged(len(keypoints)))


@pytest.fixture
def loop(free_body) -> FitInTheLoop:
    return FitInTheLoop(free_body, FitsStore.empty(COUNT))


@pytest.fixture
def seen(free_body, truth) -> Photographed:
    return _seen(_keypoints(free_body, truth))


def _near(truth: BodyParameters, away: float, seed: int = 0) -> BodyParameters:
    noise = away * torch.randn(truth.pose.shape, generator=torch.Generator().manual_seed(seed))
    return BodyParameters(truth.pose + noise, torch.zeros_like(truth.betas), truth.transl)


def _points(body, pose: Tensor, betas: Tensor) -> Tensor:
    joints = body.joint_positions(betas=betas, global_orient=pose[:, :3], body_pose=pose[:, 3:])
    return joints - joints[:, :1]


def test_a_fit_from_an_estimate_is_trusted_kept_and_nearer_the_truth(loop, seen, truth, free_body):
    estimate = _near(truth, 0.15)
    found = loop.improve(seen, estimate)
    assert found.improved.all()
    assert found.supervision.trusted.all()
    assert (found.loss < 10).all()
    kept = loop.store.fits
    assert_close(kept.pose, found.supervision.pose, atol=1e-5, rtol=0)
    target = _points(free_body, truth.pose, truth.betas)
    before = (_points(free_body, estimate.pose, estimate.betas) - target).norm(dim=-1).mean(-1)
    after = (_points(free_body, found.supervision.pose, found.supervision.betas) - target).norm(dim=-1).mean(-1)
    assert (after < before).all()


def test_fits_in_one_picture_only_ever_get_better(loop, seen, truth):
    losses = [loop.improve(seen, _near(truth, away, seed)).loss for seed, away in enumerate((0.8, 0.1, 0.5, 0.3))]
    for earlier, later in pairwise(losses):
        assert (later <= 1.01 * earlier + 0.01).all()  # to how exactly an old fit can be placed again
    assert (losses[0] > losses[-1] + 1).any()
    assert_close(loop.recall(seen).loss, losses[-1], atol=0.01, rtol=0.01)


def test_a_worse_fit_leaves_the_better_one(loop, seen, truth):
    good = loop.improve(seen, _near(truth, 0.1))
    turned = replace(truth, pose=torch.cat([truth.pose[:, :3] * 0.5, 1.5 * torch.ones(COUNT, 69)], dim=-1))
    again = loop.improve(seen, turned)
    assert not again.improved.any()
    assert_close(again.supervision.pose, good.supervision.pose, atol=1e-4, rtol=0)


def test_the_crops_size_changes_nothing(free_body, truth):
    fits = []
    for size in (64, 224, 256):
        loop = FitInTheLoop(free_body, FitsStore.empty(COUNT))
        fits.append(loop.improve(_seen(_keypoints(free_body, truth, size), size), _near(truth, 0.1)))
    for other in fits[1:]:
        assert_close(other.loss, fits[0].loss, atol=0.05, rtol=0.02)
        assert_close(other.supervision.pose, fits[0].supervision.pose, atol=0.02, rtol=0)


def test_a_fit_of_a_turned_and_mirrored_picture_serves_the_plain_one(loop, seen, truth, free_body):
    how = Augmentation(torch.full((COUNT,), 0.4), torch.tensor([True, False, True, False]))
    changed = BodyParameters(how.apply(truth.pose), truth.betas, truth.transl)
    found = loop.improve(_seen(_keypoints(free_body, changed), augmentation=how), _near(changed, 0.1))
    assert found.improved.all()
    plain = loop.recall(seen)
    assert plain.supervision.trusted.all()
    assert_close(
        rotvec_to_rotmat(plain.supervision.pose.view(-1, 24, 3)),
        rotvec_to_rotmat(how.undo(found.supervision.pose).view(-1, 24, 3)),
        atol=1e-5,
        rtol=0,
    )
    # Seen in the plain picture, the fit is about as good as it was in the changed one.
    assert (plain.loss < found.loss + 10).all()


def test_who_is_not_seen_has_no_fit_and_keypoints_that_are_no_numbers_are_not_seen(loop, seen, truth):
    keypoints = seen.keypoints_2d.clone()
    keypoints[0] = torch.nan
    keypoints[1, [i for i, n in enumerate(SPIN49.names) if n not in SmplifyConfig().ignored], 2] = 0.0
    keypoints[2, ::2, 0] = torch.nan
    found = loop.improve(replace(seen, keypoints_2d=keypoints), _near(truth, 0.1))
    assert found.improved.tolist() == [False, False, True, True]
    assert found.supervision.trusted.tolist() == [False, False, True, True]
    assert loop.store.fits.exists.tolist() == [False, False, True, True]
    for value in (found.supervision.pose, found.supervision.betas):
        assert torch.isfinite(value).all()
    loop.improve(seen, _near(truth, 0.1))
    assert not loop.recall(replace(seen, keypoints_2d=keypoints)).supervision.trusted[:2].any()


def test_estimates_that_are_no_numbers_are_left_out_and_wild_ones_do_no_harm(loop, seen, truth):
    estimate = _near(truth, 0.1)
    pose, transl = estimate.pose.clone(), estimate.transl.clone()
    pose[0, 5] = torch.nan
    transl[1, 2] = torch.inf
    transl[2, 2] = -50.0  # a negative scale: behind the camera
    found = loop.improve(seen, replace(estimate, pose=pose, transl=transl))
    assert found.improved.tolist() == [False, False, True, True]
    assert found.supervision.trusted[2:].all()


def test_nobody_to_fit_is_fine(loop, seen, truth):
    found = loop.improve(seen, _near(truth, 0.1), skip=torch.ones(COUNT, dtype=torch.bool))
    assert not found.improved.any()
    assert not found.supervision.trusted.any()
    assert not loop.store.fits.exists.any()


def test_fits_that_contradict_the_picture_are_not_trusted(loop, seen, truth):
    """Keypoints thrown about at random: no body reprojects onto them."""
    wild = seen.keypoints_2d.clone()
    wild[0, :, :2] = 224 * torch.rand(49, 2, generator=torch.Generator().manual_seed(0))
    found = loop.improve(replace(seen, keypoints_2d=wild), _near(truth, 0.1))
    assert found.loss[0] > 100
    assert found.supervision.trusted.tolist() == [False, True, True, True]


def test_first_fits_come_from_the_mean_pose_and_only_for_who_has_none(free_body, seen, truth):
    loop = FitInTheLoop(free_body, FitsStore.empty(COUNT))
    some = replace(seen, index=seen.index[:1], keypoints_2d=seen.keypoints_2d[:1], augmentation=_unchanged(1))
    loop.improve(some, _near(truth, 0.05)[torch.tensor([0])])
    before = loop.store.fits.pose[0].clone()
    two = replace(seen, index=seen.index[:2], keypoints_2d=seen.keypoints_2d[:2], augmentation=_unchanged(2))
    loop.begin(two)
    assert torch.equal(loop.store.fits.pose[0], before)
    assert loop.store.fits.exists.tolist() == [True, True, False, False]
    assert loop.recall(two).supervision.trusted.all()


def test_bodies_are_placed_where_their_keypoints_are_seen(loop, seen, truth):
    assert_close(loop.place(seen, truth.pose, truth.betas), truth.transl, atol=0.02, rtol=2e-3)


def test_fits_made_elsewhere_are_measured_in_the_picture_before_they_are_trusted(
    free_body, seen, truth, tmp_path: Path
):
    rows = torch.cat([truth.pose, truth.betas], dim=-1)
    rows[1, :3] += 1.0
    np.save(tmp_path / "a_fits.npy", rows[:3].numpy())
    np.save(tmp_path / "b_fits.npy", rows[3:].numpy())
    store = read_spin_fits([tmp_path / "a_fits.npy", tmp_path / "b_fits.npy"], COUNT)
    found = FitInTheLoop(free_body, store).recall(seen)
    assert found.supervision.trusted.tolist() == [True, False, True, True]
    with pytest.raises(ValueError, match=r"of 4 samples, but the data sets have 5; give one file for each data set"):
        read_spin_fits([tmp_path / "a_fits.npy", tmp_path / "b_fits.npy"], 5)
    (tmp_path / "text.npy").write_text("none")
    with pytest.raises(ValueError, match="is not an array file"):
        read_spin_fits([tmp_path / "text.npy"], 5)


def test_autocast_does_not_make_fits_coarse(free_body, seen, truth):
    plain, half = (FitInTheLoop(free_body, FitsStore.empty(COUNT)) for _ in range(2))
    expected = plain.improve(seen, _near(truth, 0.1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = half.improve(seen, _near(truth, 0.1))
    assert_close(found.supervision.pose, expected.supervision.pose)
