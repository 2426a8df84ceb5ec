"""The tree, its mirror, and forward kinematics against plain matrix products and scipy."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch.testing import assert_close

from kouros.body.skeleton import JOINT_NAMES, MIRROR, PARENTS, forward_kinematics, mirror_permutation
from kouros.geometry.rotations import mirror_rotmat, random_rotmat


def rest(seed: int = 0) -> torch.Tensor:
    return torch.randn(24, 3, generator=torch.Generator().manual_seed(seed))


def test_tree_is_smpls():
    # kintree_table of SMPL's model files.
    expected = "-1 0 0 0 1 2 3 4 5 6 7 8 9 9 9 12 13 14 16 17 18 19 20 21"
    assert " ".join(map(str, PARENTS)) == expected
    assert len(set(JOINT_NAMES)) == 24
    assert all(parent < joint for joint, parent in enumerate(PARENTS))


def test_mirror_is_the_fields_flip_of_smpl_joints():
    expected = "0 2 1 3 5 4 6 8 7 9 11 10 12 14 13 15 17 16 19 18 21 20 23 22"
    assert " ".join(map(str, MIRROR)) == expected


def test_mirror_of_the_tree_is_the_tree():
    for joint, parent in enumerate(PARENTS):
        if parent >= 0:
            assert PARENTS[MIRROR[joint]] == MIRROR[parent]


def test_side_without_partner_is_refused():
    with pytest.raises(ValueError):
        mirror_permutation(("pelvis", "left_hip"))


def test_without_rotation_everything_stays():
    rotations, positions = forward_kinematics(torch.eye(3).expand(24, 3, 3), rest())
    assert_close(positions, rest())
    assert_close(rotations, torch.eye(3).expand(24, 3, 3))


def test_turning_the_root_turns_the_body_about_it():
    local = torch.eye(3).repeat(24, 1, 1)
    local[0] = torch.from_numpy(Rotation.from_rotvec([0.3, 1.2, -2.0]).as_matrix()).float()
    _, positions = forward_kinematics(local, rest())
    assert_close(positions, rest()[0] + (rest() - rest()[0]) @ local[0].T)


def test_bent_elbow_moves_the_forearm_and_nothing_else():
    joints = torch.zeros(24, 3)
    elbow, wrist, hand = (JOINT_NAMES.index(f"left_{name}") for name in ("elbow", "wrist", "hand"))
    joints[elbow], joints[wrist], joints[hand] = torch.tensor([[0.5, 1, 0], [0.75, 1, 0], [0.85, 1, 0]])
    local = torch.eye(3).repeat(24, 1, 1)
    local[elbow] = torch.tensor([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])  # -90 degrees about y
    _, positions = forward_kinematics(local, joints)
    assert_close(positions[elbow], joints[elbow])
    assert_close(positions[wrist], torch.tensor([0.5, 1.0, 0.25]))
    assert_close(positions[hand], torch.tensor([0.5, 1.0, 0.35]))
    others = [j for j in range(24) if j not in (wrist, hand)]
    assert_close(positions[others], joints[others])


def test_matches_products_of_4x4_matrices_down_each_chain():
    local = random_rotmat((24,), torch.Generator().manual_seed(1)).double()
    joints = rest().double()
    rotations, positions = forward_kinematics(local, joints)
    for joint in range(24):
        chain = [joint]
        while PARENTS[chain[-1]] >= 0:
            chain.append(PARENTS[chain[-1]])
        matrix = np.eye(4)
        for link in reversed(chain):
            step = np.eye(4)
            step[:3, :3] = local[link].numpy()
            step[:3, 3] = (joints[link] - (joints[PARENTS[link]] if PARENTS[link] >= 0 else 0)).numpy()
            matrix = matrix @ step
        np.testing.assert_allclose(rotations[joint], matrix[:3, :3], atol=1e-12)
        np.testing.assert_allclose(positions[joint], matrix[:3, 3], atol=1e-12)


def test_bones_keep_their_lengths_in_any_batch_shape():
    local = random_rotmat((2, 3, 24), torch.Generator().manual_seed(2))
    _, positions = forward_kinematics(local, rest().expand(2, 3, 24, 3))
    parents = list(PARENTS[1:])
    moved = (positions[..., 1:, :] - positions[..., parents, :]).norm(dim=-1)
    kept = (rest()[1:] - rest()[parents]).norm(dim=-1)
    assert_close(moved, kept.expand(2, 3, 23))


def test_mirrored_pose_of_a_mirrored_body_is_the_mirrored_figure():
    flip = torch.tensor([-1.0, 1.0, 1.0])
    order = list(MIRROR)
    local = random_rotmat((24,), torch.Generator().manual_seed(3))
    _, positions = forward_kinematics(local, rest())
    _, mirrored = forward_kinematics(mirror_rotmat(local)[order], (rest() * flip)[order])
    assert_close(mirrored, (positions * flip)[order], atol=1e-5, rtol=0)


def test_gradient_of_positions():
    local = random_rotmat((4,), torch.Generator().manual_seed(4)).double().requires_grad_()
    joints = rest()[:4].double().requires_grad_()
    assert torch.autograd.gradcheck(lambda r, j: forward_kinematics(r, j, (-1, 0, 1, 1))[1], (local, joints))
