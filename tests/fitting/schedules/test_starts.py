"""Flipped and turned bodies: where their joints go, and that fits from them find what one start does not."""

import math

import pytest
import torch
from torch.testing import assert_close

import kouros
from kouros.body.parameters import BodyParameters
from kouros.body.skeleton import JOINT_NAMES
from kouros.fitting.schedules.keypoint_fit import KeypointFitter
from kouros.fitting.schedules.starts import FLIPS, fit_from_several, flipped, several_starts, turned
from kouros.fitting.terms.evidence import Evidence
from kouros.fitting.terms.kinematics import KeypointKinematics
from kouros.geometry.cameras import PerspectiveCamera
from kouros.priors.gmm import load_gmm


@pytest.fixture(scope="module")
def body():
    return kouros.load_body(dtype=torch.float64)


@pytest.fixture(scope="module")
def joints(body):
    return KeypointKinematics(body, "smpl24").points


def _people(body, count: int) -> BodyParameters:
    """Far away on the optical axis, so that the plane across the line of sight is the image's."""
    generator = torch.Generator().manual_seed(0)
    pose = 0.4 * torch.randn(count, 72, generator=generator, dtype=torch.float64)
    pose[:, :3] = torch.tensor([2.8, 0.3, 0.4])
    pose[:, [12, 15]] = 0.9  # knees bend about x
    pose[:, 55], pose[:, 58] = -1.0, 1.0  # elbows about y
    betas = torch.randn(count, body.num_betas, generator=generator, dtype=torch.float64)
    transl = torch.tensor([0.0, 0.0, 1e5], dtype=torch.float64).expand(count, 3)
    return BodyParameters(pose, betas, transl)


@pytest.mark.parametrize("flip", [f for f in FLIPS if f != "body"])
def test_a_flipped_limb_is_the_same_in_the_picture_and_mirrored_in_depth(body, joints, flip):
    people = _people(body, 3)
    before, after = joints(people), joints(flipped(body, people, flip))
    side, part = flip.split("_")
    chain = ("shoulder", "elbow", "wrist") if part in ("arm", "forearm") else ("hip", "knee", "ankle")
    first, second, end = (JOINT_NAMES.index(f"{side}_{name}") for name in chain)
    picture = [first, second, end]
    assert_close(after[:, picture, :2], before[:, picture, :2], atol=1e-4, rtol=0)
    old_upper, upper = before[:, second, 2] - before[:, first, 2], after[:, second, 2] - after[:, first, 2]
    old_lower, lower = before[:, end, 2] - before[:, second, 2], after[:, end, 2] - after[:, second, 2]
    assert_close(lower, -old_lower, atol=1e-4, rtol=0)
    assert_close(upper, -old_upper if part in ("arm", "leg") else old_upper, atol=1e-4, rtol=0)
    elsewhere = [i for i, n in enumerate(JOINT_NAMES) if not n.startswith(side)]
    assert_close(after[:, elsewhere], before[:, elsewhere])


def test_a_limbs_bend_survives_a_flip_of_both_its_bones(body):
    people = _people(body, 3)
    after = flipped(body, people, "left_leg")
    # but for the little that keeps straight limbs well defined
    assert_close(after.pose[:, 12:15], people.pose[:, 12:15], atol=0.03, rtol=0)


def test_the_flipped_body_is_the_same_in_the_picture_and_mirrored_in_depth(body, joints):
    people = _people(body, 3)
    before, after = joints(people), joints(flipped(body, people, "body"))
    trunk = [JOINT_NAMES.index(n) for n in ("pelvis", "neck")]
    legs = [JOINT_NAMES.index(f"{s}_{n}") for s in ("left", "right") for n in ("knee", "ankle")]
    for old, new in ((before[:, trunk], after[:, trunk]), (before[:, legs], after[:, legs])):
        along_old, along_new = old[:, 1::2] - old[:, ::2], new[:, 1::2] - new[:, ::2]
        assert_close(along_new[..., :2], along_old[..., :2], atol=1e-4, rtol=0)
        assert_close(along_new[..., 2], -along_old[..., 2], atol=1e-4, rtol=0)


def test_a_full_turn_in_two_halves_changes_nothing_and_half_a_turn_faces_away(body, joints):
    people = _people(body, 2)
    half = turned(people, math.pi)
    assert_close(joints(turned(half, math.pi)), joints(people), atol=1e-4, rtol=0)
    hips = [1, 2]
    middle = joints(people)[:, :1]
    across = joints(people)[:, hips] - middle
    assert ((joints(half)[:, hips] - middle)[:, 0, 0] * across[:, 0, 0] < 0).all()


def test_starts_come_person_by_person_with_the_given_one_first(body):
    people = _people(body, 3)
    starts = several_starts(body, people, turns=(1.0, 2.0), flips=("left_arm",))
    assert len(starts.pose) == 3 * 4
    assert_close(starts.vector[::4], people.vector)
    assert_close(starts.pose[1::4, :3], turned(people, 1.0).pose[:, :3])


def test_a_straight_limb_that_points_at_the_camera_is_still_a_rotation(body):
    people = _people(body, 1)
    pose = torch.zeros_like(people.pose)
    for orient in ((0.0, math.pi / 2, 0.0), (math.pi, 0.0, 0.0), (math.pi / 2, 0.0, 0.0)):
        pose[:, :3] = torch.tensor(orient)
        for flip in FLIPS:
            found = flipped(body, BodyParameters(pose, people.betas, people.transl), flip)
            assert torch.isfinite(found.vector).all()


def test_several_starts_find_a_person_whom_a_flipped_start_loses():
    body = kouros.load_body()
    fitter = KeypointFitter(body, "blazepose33", load_gmm())
    pose = torch.cat([torch.tensor([math.pi, 0.0, 0.0]), fitter.prior.mean()])[None].repeat(2, 1)
    pose[:, [3, 12]] = torch.tensor([-1.2, 1.4])  # a knee lifted towards the camera
    truth = BodyParameters(pose, pose.new_zeros(2, body.num_betas), pose.new_tensor([[0.0, 0.0, 4.0]] * 2))
    camera = PerspectiveCamera(torch.full((2,), 700.0), torch.full((2, 2), 256.0))
    points = fitter.kinematics.points(truth)
    seen = torch.cat([camera.project(points), torch.ones_like(points[..., :1])], dim=-1)
    evidence = Evidence(seen, "blazepose33", camera)
    start = flipped(body, turned(truth, math.pi), "left_leg")

    def fit(persons, starts):
        result = fitter.fit(evidence[persons], starts)
        return result.parameters, result.cost

    def error(found: BodyParameters) -> torch.Tensor:
        away = fitter.kinematics.points(found) - points
        return (away - away.mean(1, keepdim=True)).norm(dim=-1).mean(-1)

    alone, alone_cost = fit(torch.arange(2), start)
    best, cost = fit_from_several(fit, body, start)
    assert (cost < alone_cost).all()
    assert (error(best) < 0.06).all() and (error(alone) > 0.1).all()
