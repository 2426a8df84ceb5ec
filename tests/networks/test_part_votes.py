"""HoloPose's votes: who votes for what, and Eq. 2 against its sums written out."""

import math

import pytest
import torch
from torch.testing import assert_close

from kouros.body.keypoints import SPIN49
from kouros.body.skeleton import JOINT_NAMES, MIRROR
from kouros.geometry.rotations import rot6d_to_rotmat
from kouros.networks.estimates import MeanParameters
from kouros.networks.part_votes import PartVotes, fused, joints_of_points, neighbourhoods
from kouros.priors.rotation_experts import euler_to_rotmat, load_experts

NAMES = SPIN49.names[25:]


@pytest.fixture(scope="module")
def near(free_body):
    rest = free_body.keypoint_positions("spin49", betas=torch.zeros(1, 10))[0, 25:]
    return neighbourhoods(joints_of_points(NAMES, rest, free_body.joint_template))


def voters(near: torch.Tensor, joint: str) -> set[str]:
    return {NAMES[i] for i in near[JOINT_NAMES.index(joint)].nonzero()[:, 0].tolist()}


def test_a_knee_hears_ankle_knee_and_hip_of_its_side(near):
    """The paper's own example (Fig. 3)."""
    assert voters(near, "left_knee") == {"left_ankle", "left_knee", "left_hip_lsp"}
    assert voters(near, "right_hand") == {"right_wrist"}
    assert voters(near, "right_elbow") == {"right_shoulder", "right_elbow", "right_wrist"}
    assert {"left_shoulder", "spine_h36m"} <= voters(near, "left_collar")
    assert not voters(near, "left_elbow") & {"right_wrist", "left_knee", "nose"}


def test_every_angle_has_voters_and_sides_mirror_each_other(near):
    assert bool(near.any(1).all()) and bool(near.any(0).all())
    swapped = [
        NAMES.index({"left": "right", "right": "left"}[n.split("_")[0]] + n[n.index("_") :])
        if n.startswith(("left_", "right_"))
        else NAMES.index(n)
        for n in NAMES
    ]
    assert torch.equal(near[list(MIRROR)][:, swapped], near)


def test_fused_votes_are_equation_2_written_out():
    generator = torch.Generator().manual_seed(0)
    votes = torch.randn(3, 2, 4, 5, generator=generator, dtype=torch.double)
    voting = torch.rand(3, 2, 4, generator=generator) > 0.4
    voting[0, 0] = False
    angles = torch.randn(2, 5, generator=generator, dtype=torch.double)
    weights = fused(votes, voting).softmax(-1)
    for b in range(3):
        for i in range(2):
            above = below = 0.0
            for k in range(5):
                for j in range(4):
                    if voting[b, i, j]:
                        above += math.exp(votes[b, i, j, k]) * float(angles[i, k])
                        below += math.exp(votes[b, i, j, k])
            if below:
                assert float((weights[b, i] * angles[i]).sum()) == pytest.approx(above / below)
    assert_close(fused(votes, voting)[0, 0], torch.zeros(5, dtype=torch.double))


def test_a_missing_joint_changes_nothing_and_with_all_missing_angles_rest(near):
    torch.manual_seed(0)
    votes = PartVotes(6, near, load_experts())
    votes.others.weight.data.normal_()
    votes.root.weight.data.normal_()
    features = torch.randn(2, 24, 6)
    seen = torch.ones(2, 24, dtype=torch.bool)
    wrist = NAMES.index("left_wrist")
    seen[:, wrist] = False
    other = features.clone()
    other[:, wrist] = 1e3
    one, two = votes(features, seen), votes(other, seen)
    assert_close(one.rotations, two.rotations)
    whole = votes(features, torch.ones_like(seen)).rotations
    heard = near[:, wrist]
    assert_close(whole[:, ~heard], one.rotations[:, ~heard])
    # The hand hears the wrist alone.
    hand = JOINT_NAMES.index("left_hand")
    assert not bool(one.heard[:, hand].any()) and torch.equal(one.rotations[:, hand], torch.eye(3).expand(2, 3, 3))
    elbow = JOINT_NAMES.index("left_elbow")
    assert bool(one.heard[:, elbow].all()) and not torch.allclose(whole[:, elbow], one.rotations[:, elbow])
    nobody = votes(features, torch.zeros_like(seen))
    assert not bool(nobody.heard.any())
    assert torch.equal(nobody.rotations[:, 1:], torch.eye(3).expand(2, 23, 3, 3))
    upright = rot6d_to_rotmat(MeanParameters.packaged().pose[:6])
    assert_close(nobody.rotations[:, 0], upright.expand(2, 3, 3))


def test_experts_stay_in_their_hull_however_loud_the_votes(near):
    torch.manual_seed(0)
    experts = load_experts()
    votes = PartVotes(6, near, experts)
    votes.others.weight.data.normal_(std=20.0)
    found = votes(torch.randn(8, 24, 6), torch.ones(8, 24, dtype=torch.bool)).rotations
    loudest = votes.others(torch.randn(8, 24, 6), torch.ones(8, 24, dtype=torch.bool))
    euler = experts.euler(fused(*loudest))
    low, high = experts.centres.amin(1), experts.centres.amax(1)
    assert bool(((euler >= low - 1e-5) & (euler <= high + 1e-5)).all())
    assert bool(found.isfinite().all())


@pytest.mark.parametrize("kind", ["experts", "euler", "rot6d"])
def test_gradients_are_finite_whoever_is_missing_and_features_that_are_no_numbers_are_not_seen(near, kind: str):
    torch.manual_seed(0)
    votes = PartVotes(6, near, load_experts(), kind)
    features = torch.randn(3, 24, 6)
    features[1, 3] = torch.nan
    features.requires_grad_()
    seen = torch.rand(3, 24) > 0.5
    seen[0] = False
    answer = votes(features, seen)
    assert bool(answer.rotations.isfinite().all())
    (answer.rotations * torch.randn_like(answer.rotations)).sum().backward()
    assert bool(features.grad.isfinite().all()) and bool(votes.others.weight.grad.isfinite().all())
    gone = seen.clone()
    gone[1, 3] = False
    assert_close(votes(torch.nan_to_num(features.detach()), gone).rotations, answer.rotations.detach())


def test_before_anything_is_learned_euler_angles_rest_and_6d_rotations_are_the_means(near):
    features, seen = torch.randn(1, 24, 6), torch.ones(1, 24, dtype=torch.bool)
    mean = rot6d_to_rotmat(MeanParameters.packaged().pose.unflatten(0, (24, 6)))
    resting = euler_to_rotmat(torch.zeros(1, 23, 3))
    for kind, expected in (("euler", resting[0]), ("rot6d", mean[1:])):
        votes = PartVotes(6, near, load_experts(), kind)
        torch.nn.init.zeros_(votes.others.weight)
        assert_close(votes(features, seen).rotations[0, 1:], expected, atol=1e-5, rtol=0)


def test_shares_say_whose_vote_counts(near):
    torch.manual_seed(0)
    votes = PartVotes(6, near, load_experts())
    features, seen = torch.randn(2, 24, 6), torch.rand(2, 24) > 0.3
    shares = votes.shares(features, seen)
    heard = votes(features, seen).heard
    assert_close(shares.sum(-1), heard.float())
    assert not bool(shares[~(near & seen[:, None])].any())
