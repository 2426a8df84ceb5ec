"""The default fit on bodies whose truth is known: motion-capture-like poses seen by a pinhole camera."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

import kouros
from kouros.body.parameters import BodyParameters
from kouros.fitting.schedules.keypoint_fit import KeypointFitter
from kouros.fitting.schedules.placement import orientation_of_torso, translation_to_see, upright_headings
from kouros.fitting.terms.evidence import Evidence
from kouros.geometry.alignment import align
from kouros.geometry.cameras import PerspectiveCamera
from kouros.geometry.rotations import angle_between, random_rotmat, rotmat_to_rotvec, rotvec_to_rotmat
from kouros.priors.gmm import load_gmm

COUNT = 6


def _camera(count: int) -> PerspectiveCamera:
    return PerspectiveCamera(torch.full((count,), 700.0), torch.tensor([320.0, 240.0]).expand(count, 2))


@pytest.fixture(scope="module")
def fitter() -> KeypointFitter:
    return KeypointFitter(kouros.load_body(), "blazepose33", load_gmm())


@pytest.fixture(scope="module")
def truth() -> BodyParameters:
    """People standing around in likely poses, turned to all sides, four metres away."""
    generator = torch.Generator().manual_seed(0)
    body_pose = load_gmm().sample(COUNT, generator)
    orient = upright_headings(COUNT, torch.zeros(1))[0]
    betas = 0.7 * torch.randn(COUNT, 10, generator=generator)
    transl = torch.tensor([0.2, 0.0, 4.0]).expand(COUNT, 3)
    return BodyParameters(torch.cat([orient, body_pose], dim=-1), betas, transl)


def _seen(fitter: KeypointFitter, truth: BodyParameters, *, landmarks: bool) -> Evidence:
    points = fitter.kinematics.points(truth)
    camera = _camera(len(points))
    pixels = camera.project(points)
    keypoints = torch.cat([pixels, torch.ones_like(pixels[..., :1])], dim=-1)
    hips = points[:, [23, 24]].mean(1, keepdim=True)
    return Evidence(keypoints, "blazepose33", camera, points - hips if landmarks else None)


def _pa_error(fitter: KeypointFitter, fitted: BodyParameters, truth: BodyParameters) -> torch.Tensor:
    ours, real = fitter.kinematics.points(fitted), fitter.kinematics.points(truth)
    return (align(ours, real).apply(ours) - real).norm(dim=-1).mean(-1)


def test_exact_evidence_gives_the_body_back(fitter, truth):
    result = fitter.fit(_seen(fitter, truth, landmarks=True))
    assert (result.reprojection_error < 5).all()
    errors = _pa_error(fitter, result.parameters, truth)
    assert errors.median() < 0.035  # priors pull, and the landmarks' depth is trusted little
    assert (errors < 0.13).all()


def test_without_landmarks_nobody_is_turned_around(fitter, truth):
    result = fitter.fit(_seen(fitter, truth, landmarks=False))
    turned = angle_between(rotvec_to_rotmat(result.parameters.pose[:, :3]), rotvec_to_rotmat(truth.pose[:, :3]))
    assert (turned < math.radians(60)).float().mean() >= 5 / 6
    assert (result.reprojection_error < 5).all()


def test_one_wrong_keypoint_does_not_move_the_others(fitter, truth):
    evidence = _seen(fitter, truth, landmarks=True)
    keypoints = evidence.keypoints_2d.clone()
    keypoints[:, 15, :2] += 200  # left wrist
    clean, spoilt = fitter.fit(evidence), fitter.fit(replace(evidence, keypoints_2d=keypoints))
    others = [k for k in range(33) if k not in (15, 17, 19, 21)]
    moved = fitter.kinematics.points(spoilt.parameters) - fitter.kinematics.points(clean.parameters)
    assert moved.norm(dim=-1)[:, others].mean() < 0.05


def test_a_person_in_a_batch_is_fitted_as_if_alone(fitter, truth):
    evidence = _seen(fitter, truth, landmarks=True)
    together = fitter.fit(evidence)
    alone = fitter.fit(evidence[torch.tensor([3])])
    assert_close(
        fitter.kinematics.points(together.parameters)[3],
        fitter.kinematics.points(alone.parameters)[0],
        atol=1e-3,
        rtol=0,
    )


def test_result_is_finite_whatever_is_seen(fitter):
    @settings(max_examples=15, deadline=None)
    @given(st.integers(0, 2**31 - 1), st.sampled_from([1e-3, 1.0, 1e4]), st.sampled_from([0.0, 0.02, 1.0]))
    def check(seed: int, spread: float, share_seen: float) -> None:
        generator = torch.Generator().manual_seed(seed)
        keypoints = torch.randn(1, 33, 3, generator=generator) * spread
        keypoints[..., 2] = (torch.rand(1, 33, generator=generator) < share_seen).float()
        result = fitter.fit(Evidence(keypoints, "blazepose33", _camera(1)))
        assert torch.isfinite(result.parameters.vector).all()
        assert (result.parameters.transl[:, 2] > 0).all()

    check()


def test_placement_finds_where_rigid_points_are():
    generator = torch.Generator().manual_seed(2)
    points = torch.randn(4, 12, 3, generator=generator)
    transl = torch.tensor([[0.3, -0.2, 6.0], [0.0, 0.0, 4.0], [-2.0, 1.0, 20.0], [1.0, 1.0, 8.0]])
    camera = _camera(4)
    found = translation_to_see(points, camera.project(points + transl[:, None]), torch.ones(4, 12), camera)
    assert_close(found, transl, atol=2e-3, rtol=1e-3)


def test_torso_orientation_is_the_rotation_that_was_applied():
    generator = torch.Generator().manual_seed(4)
    rest = torch.tensor([[0.2, 0.5, 0.0], [-0.2, 0.5, 0.0], [0.1, 0.0, 0.02], [-0.1, 0.0, 0.02]])
    turn = random_rotmat((5,), generator)
    assert_close(orientation_of_torso(rest, rest @ turn.mT), rotmat_to_rotvec(turn), atol=1e-4, rtol=1e-4)


def test_upright_people_have_their_head_at_the_top_of_the_picture():
    up = rotvec_to_rotmat(upright_headings(8, torch.zeros(3))) @ torch.tensor([0.0, 1.0, 0.0])
    assert_close(up, torch.tensor([0.0, -1.0, 0.0]).expand_as(up), atol=1e-6, rtol=0)
