"""Rotation experts: Euler angles against scipy, the softmax mixture, the hulls, and their training."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.testing import assert_close

from kouros.geometry.rotations import random_rotmat, rotmat_to_rotvec
from kouros.priors.body_pose import JOINTS, mirror_body_pose
from kouros.priors.rotation_experts import (
    RotationExperts,
    euler_order,
    euler_to_rotmat,
    load_experts,
    rotmat_to_euler,
)
from kouros.priors.training.experts import fit_experts, hull_error_degrees, nearest_in_hull
from kouros.priors.training.poses import with_mirror_images


def test_euler_angles_are_scipys():
    rotations = random_rotmat((40, 23), torch.Generator().manual_seed(0)).double()
    euler = rotmat_to_euler(rotations)
    for joint, name in enumerate(JOINTS):
        peer = Rotation.from_matrix(rotations[:, joint].numpy()).as_euler(euler_order(name).upper())
        assert_close(euler[:, joint], torch.from_numpy(peer), atol=1e-6, rtol=0)
    assert_close(euler_to_rotmat(euler), rotations, atol=1e-6, rtol=0)


def test_one_large_logit_chooses_its_expert():
    experts = load_experts()
    logits = torch.zeros(1, 23, experts.experts)
    logits[..., 5] = 100.0
    assert_close(experts.euler(logits)[0], experts.centres[:, 5])
    assert_close(experts.rotations(logits), euler_to_rotmat(experts.centres[None, :, 5]))


def test_equal_logits_give_the_mean_and_a_gradient():
    experts = load_experts()
    logits = torch.zeros(2, 23, experts.experts, requires_grad=True)
    euler = experts.euler(logits)
    assert_close(euler[0], experts.centres.mean(1), atol=1e-5, rtol=0)
    (gradient,) = torch.autograd.grad(experts.rotations(logits).square().sum() + euler.sum(), logits)
    assert gradient.isfinite().all()


def test_whatever_a_network_says_lies_in_the_hull():
    experts = load_experts()
    logits = 4 * torch.randn(200, 23, experts.experts, generator=torch.Generator().manual_seed(0))
    inside = experts._beyond_faces(experts.euler(logits))
    assert inside.max() < -0.5 * experts.slack


def test_real_poses_lie_almost_in_the_hull(held_out: Tensor):
    experts = load_experts()
    assert (experts.excess(held_out) > 0.05).float().mean() < 0.05
    error = hull_error_degrees(experts, held_out[::40])
    assert error.mean() < 0.6


def test_poses_of_the_hull_are_their_own_nearest():
    experts = load_experts()
    logits = torch.randn(3, 23, experts.experts, generator=torch.Generator().manual_seed(0))
    rotations = experts.rotations(logits)
    back = nearest_in_hull(experts, rotmat_to_rotvec(rotations).flatten(1))
    assert_close(back, rotations, atol=2e-4, rtol=0)


def test_hyperextended_knees_are_outside():
    experts = load_experts()
    pose = torch.zeros(1, 69)
    pose[0, 3 * JOINTS.index("left_knee")] = -0.5
    excess = experts.excess(pose)[0]
    assert excess[JOINTS.index("left_knee")] > 0.2
    assert excess[JOINTS.index("right_knee")] == 0
    assert_close(experts.excess(mirror_body_pose(pose))[0, JOINTS.index("right_knee")], excess.max())


def test_k_means_finds_the_clusters_of_each_joint():
    rng = np.random.default_rng(0)
    # Rotations about each joint's first Euler axis only, so that angles are known.
    turned = torch.zeros(300, 23, 3, dtype=torch.float64)
    turned[..., 0] = torch.from_numpy(rng.choice([-0.5, 0.5], size=(300, 23)))
    poses = rotmat_to_rotvec(euler_to_rotmat(turned)).flatten(1).numpy()
    found = fit_experts(with_mirror_images(poses), 2, rng)
    assert isinstance(found, RotationExperts)
    knee = found.centres[JOINTS.index("left_knee"), :, 0].sort().values
    assert_close(knee, torch.tensor([-0.5, 0.5]).double(), atol=1e-3, rtol=0)
    with pytest.raises(ValueError, match="at least 2"):
        fit_experts(poses, 1, rng)


def test_bad_logits_are_named(unchecked: None):
    with pytest.raises(ValueError, match=r"expected \(batch, 23, 64\)"):
        load_experts().euler(torch.zeros(1, 24, 64))


def test_experts_go_where_their_network_goes_and_are_not_saved(held_out: torch.Tensor):
    network = torch.nn.Sequential(load_experts())
    assert network.state_dict() == {}
    excess = network[0].excess(held_out[:50])
    assert excess.max() > 0.01
    moved = network.double()[0].excess(held_out[:50].double())
    assert moved.dtype == torch.float64
    assert_close(moved.float(), excess, atol=1e-5, rtol=0)
    assert load_experts().centres.dtype == torch.float32  # others' are their own
