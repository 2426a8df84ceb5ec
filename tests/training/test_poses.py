"""Poses drawn without end: valid, human, and as many as asked."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from kouros.body.skeleton import JOINT_NAMES, NUM_JOINTS, forward_kinematics
from kouros.data.mocap.recombination import (
    Draws,
    PoseBank,
    PoseConfig,
    athletic_poses,
    drawn_poses,
    read_bank,
    recorded_poses,
)
from kouros.geometry.rotations import rotmat_to_rotvec, rotvec_to_rotmat
from kouros.priors.limits import load_limits

COUNT = 400
_J = {name: index for index, name in enumerate(JOINT_NAMES)}
_QUIET = PoseConfig(0.0, 0.0, 0.0, 0.0, 0.0)


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(7)


@pytest.fixture(scope="module")
def bank() -> PoseBank:
    generator = torch.Generator().manual_seed(1)
    return PoseBank(rotvec_to_rotmat(0.3 * torch.randn(12, NUM_JOINTS, 3, generator=generator)))


@pytest.fixture(scope="module")
def t_pose() -> PoseBank:
    return PoseBank(torch.eye(3).expand(1, NUM_JOINTS, 3, 3))


@pytest.fixture(scope="module")
def rest(free_body) -> Tensor:
    return free_body.joint_template


def _assert_rotations(rotations: Tensor) -> None:
    assert_close(rotations @ rotations.mT, torch.eye(3).expand_as(rotations), atol=1e-4, rtol=0)
    assert_close(torch.linalg.det(rotations), torch.ones(rotations.shape[:-2]), atol=1e-4, rtol=0)


def _joints(rotations: Tensor, rest: Tensor) -> Tensor:
    """In the pelvis's own frame: x to the left, y up, z ahead."""
    rotations = rotations.clone()
    rotations[:, 0] = torch.eye(3)
    return forward_kinematics(rotations, rest.expand(len(rotations), NUM_JOINTS, 3))[1]


def _bend(joints: Tensor, chain: tuple[str, str, str]) -> Tensor:
    """Angle at the middle joint between its bones, radians: 0 is straight."""
    a, b, c = (joints[:, _J[name]] for name in chain)
    one, two = torch.nn.functional.normalize(b - a, dim=-1), torch.nn.functional.normalize(c - b, dim=-1)
    return (one * two).sum(-1).clamp(-1, 1).acos()


@pytest.mark.parametrize(
    "config",
    [PoseConfig(), PoseConfig(recombined=1.0), PoseConfig(posed_legs=1.0, posed_arms=1.0), PoseConfig(any_heading=1.0),
     PoseConfig(athletic=1.0)],
)  # fmt: skip
def test_drawn_poses_are_rotations(config: PoseConfig, bank: PoseBank, rng: torch.Generator):
    rotations = drawn_poses(bank, COUNT, rng, config)
    assert rotations.shape == (COUNT, NUM_JOINTS, 3, 3)
    _assert_rotations(rotations)


def test_drawing_leaves_the_bank_as_it_was(bank: PoseBank, rng: torch.Generator):
    before = bank.rotations.clone()
    drawn_poses(bank, COUNT, rng)
    assert torch.equal(bank.rotations, before)


def test_the_same_seed_draws_the_same_poses(bank: PoseBank):
    one, two = (drawn_poses(bank, 20, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(one, two)


def test_a_mirrored_pose_puts_the_joints_in_mirror_image(rest: Tensor, rng: torch.Generator):
    pose = torch.zeros(1, NUM_JOINTS, 3)
    pose[0, _J["left_elbow"], 1] = -1.5
    pose[0, _J["left_knee"], 0] = 0.7
    pose[0, _J["spine2"], 2] = 0.4
    drawn = recorded_poses(PoseBank(rotvec_to_rotmat(pose)), COUNT, rng)
    joints = _joints(drawn, rest) - rest[0]
    mirror = [_J[n.replace("left", "*").replace("right", "left").replace("*", "right")] for n in JOINT_NAMES]
    left = joints[:, _J["left_wrist"], 2] > joints[:, _J["right_wrist"], 2]
    assert 0.35 < float(left.float().mean()) < 0.65
    as_recorded, reflected = joints[left][0], joints[~left][0]
    # The free body's rest joints are symmetric to a fraction of a millimetre.
    assert_close(reflected, as_recorded[mirror] * torch.tensor([-1.0, 1, 1]), atol=2e-3, rtol=0)


def test_headings_are_drawn_all_around_and_bodies_stay_upright(t_pose: PoseBank, rng: torch.Generator):
    root = recorded_poses(t_pose, COUNT, rng)[:, 0]
    assert_close(root[:, :, 1], torch.tensor([0.0, 1, 0]).expand(COUNT, 3), atol=1e-5, rtol=0)
    quarters = torch.atan2(root[:, 0, 2], root[:, 2, 2]).div(torch.pi / 2).floor()
    assert all(int((quarters == k).sum()) > COUNT / 8 for k in (-2, -1, 0, 1))


def test_recombined_limbs_are_whole_limbs_of_recorded_poses(rng: torch.Generator):
    """Each pose of the bank turns all its joints by an angle of its own."""
    angles = torch.tensor([0.1, 0.5, 0.9])
    bank = PoseBank(rotvec_to_rotmat(angles[:, None, None] * torch.tensor([1.0, 0, 0]).expand(3, NUM_JOINTS, 3)))
    drawn = drawn_poses(bank, COUNT, rng, PoseConfig(1.0, 0.0, 0.0, 0.0, 0.0))
    found = torch.atan2(drawn[..., 2, 1], drawn[..., 2, 2])[:, 1:]
    assert float((found[..., None] - angles).abs().amin(-1).max()) < 1e-4
    for limb in (("hip", "knee", "ankle", "foot"), ("collar", "shoulder", "elbow", "wrist", "hand")):
        for side in ("left", "right"):
            joints = found[:, [_J[f"{side}_{n}"] - 1 for n in limb]]
            assert float((joints - joints[:, :1]).abs().max()) < 1e-4
    assert float((found.amax(1) - found.amin(1) > 0.1).float().mean()) > 0.8


def test_athletic_poses_go_to_the_limits_of_joints_and_not_beyond(rest: Tensor, rng: torch.Generator):
    limits = load_limits()
    drawn = athletic_poses(Draws(COUNT, rng))
    pose = rotmat_to_rotvec(drawn[:, 1:]).flatten(1)
    assert float(limits.excess(pose).abs().max()) < 1e-3
    joints = _joints(drawn, rest)
    apart = (joints[:, _J["left_ankle"]] - joints[:, _J["right_ankle"]]).norm(dim=-1)
    assert float(apart.quantile(0.9)) > 1.1, "nobody does the splits"
    for side in ("left", "right"):
        wrist = drawn[:, 0].mT @ (joints[:, _J[f"{side}_wrist"]] - joints[:, _J["neck"]])[..., None]
        assert float((wrist[:, 1, 0] > 0.2).float().mean()) > 0.2, f"the {side} arm is never raised"
    upright = (drawn[:, 0, 1, 1] > 0.8).float().mean()
    assert 0.3 < float(upright) < 0.7


def test_a_share_of_drawn_poses_is_athletic_and_none_leaves_the_others_as_they_are(t_pose: PoseBank):
    plain = drawn_poses(t_pose, COUNT, torch.Generator().manual_seed(5), _QUIET)
    some = drawn_poses(t_pose, COUNT, torch.Generator().manual_seed(5), replace(_QUIET, athletic=0.3))
    changed = (some - plain).abs().flatten(1).amax(1) > 1e-6
    assert 0.15 < float(changed.float().mean()) < 0.45
    assert torch.equal(some[~changed], plain[~changed])


def test_posed_knees_bend_backward_and_hips_forward(t_pose: PoseBank, rest: Tensor, rng: torch.Generator):
    drawn = drawn_poses(t_pose, COUNT, rng, PoseConfig(0.0, 1.0, 0.0, 0.0, 0.0))
    joints = _joints(drawn, rest)
    for side in ("left", "right"):
        bend = _bend(joints, (f"{side}_hip", f"{side}_knee", f"{side}_ankle"))
        # The thigh's own frame: with the hip's rotation undone the shank may only swing backward.
        shank = joints[:, _J[f"{side}_ankle"]] - joints[:, _J[f"{side}_knee"]]
        local = (drawn[:, _J[f"{side}_hip"]].mT @ shank[..., None])[..., 0]
        bent = bend > 0.35
        assert int(bent.sum()) > COUNT / 2
        assert (local[bent, 2] < 0).all()
        assert float(bend.max()) < np.deg2rad(165)
        # Far more thighs point ahead than behind, and none far behind.
        thigh = torch.nn.functional.normalize(joints[:, _J[f"{side}_knee"]] - joints[:, _J[f"{side}_hip"]], dim=-1)
        assert float((thigh[:, 2] > 0.3).float().mean()) > 0.5
        assert float(thigh[:, 2].min()) > -0.5
        outward = thigh[:, 0] if side == "left" else -thigh[:, 0]
        assert float(outward.mean()) > 0


def test_posed_elbows_bend_the_way_elbows_bend(t_pose: PoseBank, rest: Tensor, rng: torch.Generator):
    drawn = drawn_poses(t_pose, COUNT, rng, PoseConfig(0.0, 0.0, 1.0, 0.0, 0.0))
    joints = _joints(drawn, rest)
    for side in ("left", "right"):
        bend = _bend(joints, (f"{side}_shoulder", f"{side}_elbow", f"{side}_wrist"))
        bent = bend > 0.6
        forearm = joints[:, _J[f"{side}_wrist"]] - joints[:, _J[f"{side}_elbow"]]
        local = (drawn[:, _J[f"{side}_shoulder"]].mT @ forearm[..., None])[..., 0]
        # In the T-pose, palms down, the forearm comes forward.
        assert int(bent.sum()) > COUNT / 3
        assert (local[bent, 2] > 0).all()
        assert float(bend.max()) < np.deg2rad(165)


def test_without_anything_asked_the_recorded_pose_comes_back(bank: PoseBank, rng: torch.Generator):
    drawn = drawn_poses(PoseBank(bank.rotations[:1]), 30, rng, _QUIET)
    same = (drawn[:, 1:] - bank.rotations[:1, 1:]).abs().amax((1, 2, 3)) < 1e-6
    assert 3 < int(same.sum()) < 27  # the others are its mirror image


def test_a_bank_reads_one_split(tmp_path: Path):
    path = tmp_path / "frames.npz"
    poses = np.zeros((3, 72), np.float32)
    poses[2, 3] = 0.5
    np.savez(path, poses=poses, split=np.array(["train", "train", "val"]))
    assert len(read_bank(path, "train").rotations) == 2
    assert_close(read_bank(path, "val").rotations[0, 1], rotvec_to_rotmat(torch.tensor([0.5, 0, 0])))
    with pytest.raises(ValueError, match="no pose of split 'test'"):
        read_bank(path, "test")
    with pytest.raises(FileNotFoundError, match=r"diverse_frames\.npz"):
        read_bank(tmp_path / "none.npz", "train")
