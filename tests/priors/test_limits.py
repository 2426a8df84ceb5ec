"""Joint limits on real poses and on joints bent the wrong way."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from kouros.body.skeleton import JOINT_NAMES
from kouros.priors.body_pose import index, mirror_body_pose
from kouros.priors.limits import AnglePrior, JointLimits, load_limits, read_limits


def _pose(joint: str, axis: str, degrees: float) -> Tensor:
    pose = torch.zeros(1, 69)
    pose[0, index(joint, axis)] = np.radians(degrees)
    return pose


def test_real_joints_are_within_the_limits(held_out: Tensor):
    joints = load_limits().excess(held_out).unflatten(-1, (23, 3)).abs().amax(-1)
    assert (joints > 0).float().mean() < 0.002


@pytest.mark.parametrize(
    ("joint", "axis", "wrong"),
    [("left_knee", "x", -1), ("right_knee", "x", -1), ("left_elbow", "y", 1), ("right_elbow", "y", -1)],
)
def test_hinges_bend_one_way_only(joint: str, axis: str, wrong: int):
    limits = load_limits()
    assert (limits.excess(_pose(joint, axis, -wrong * 100.0)) == 0).all()
    assert (limits.excess(_pose(joint, axis, wrong * 3.0)) == 0).all()
    excess = limits.excess(_pose(joint, axis, wrong * 30.0))[0, index(joint, axis)]
    assert_close(excess, torch.tensor(wrong * np.radians(25.0)).float())
    assert limits.energy(_pose(joint, axis, wrong * 30.0)).energy > 5


def test_the_rest_pose_is_within_the_limits():
    assert load_limits().log_density(torch.zeros(1, 69)) == 0


def test_limits_are_their_own_mirror_images():
    limits = load_limits()
    ends = torch.stack([mirror_body_pose(limits.lower), mirror_body_pose(limits.upper)])
    assert_close(ends.amin(0), limits.lower, rtol=0, atol=0)
    assert_close(ends.amax(0), limits.upper, rtol=0, atol=0)


def test_softness_scales_the_energy():
    limits = load_limits()
    pose = _pose("left_knee", "x", -30.0)
    softer = JointLimits(limits.lower, limits.upper, softness=2 * limits.softness)
    assert_close(limits.energy(pose).energy, 4 * softer.energy(pose).energy)


def test_angle_prior_watches_smpls_four_numbers():
    names = ["left_elbow", "right_elbow", "left_knee", "right_knee"]
    in_72 = [3 * JOINT_NAMES.index(n) + ("y" in a) for n, a in zip(names, "yyxx", strict=True)]
    assert in_72 == [55, 58, 12, 15]
    assert [n + 3 for n in AnglePrior().numbers] == in_72


def test_angle_prior_charges_wrong_bends_exponentially():
    prior = AnglePrior()
    assert_close(prior.energy(torch.zeros(1, 69)).energy, torch.tensor([2.0]))
    for joint, axis, wrong in (
        ("left_knee", "x", -90.0),
        ("right_elbow", "y", -90.0),
        ("left_elbow", "y", 90.0),
    ):
        residuals = prior.residuals(_pose(joint, axis, wrong))
        assert_close(residuals.max(), torch.tensor(np.exp(np.pi / 2)).float())
        assert_close(prior.residuals(_pose(joint, axis, -wrong)).min(), torch.tensor(np.exp(-np.pi / 2)).float())


def test_real_poses_cost_the_angle_prior_less_than_a_straight_body(held_out: Tensor):
    assert (AnglePrior().energy(held_out).energy < 2.0).float().mean() > 0.99


def test_a_file_with_crossed_limits_is_refused(tmp_path: Path):
    np.savez(tmp_path / "limits.npz", lower=np.ones(69), upper=np.zeros(69))
    with pytest.raises(ValueError, match="lower limits above upper"):
        read_limits(tmp_path / "limits.npz")
    np.savez(tmp_path / "limits.npz", lower=np.full(69, np.nan), upper=np.zeros(69))
    with pytest.raises(ValueError, match="not finite"):
        read_limits(tmp_path / "limits.npz")
