"""SMPLify's and SPIN's schedules on bodies whose truth is known, and on input that makes no sense."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

import kouros
from kouros.body.parameters import BodyParameters
from kouros.fitting.schedules.placement import upright_headings
from kouros.fitting.schedules.smplify import SMPLIFY_STAGES, Smplify, SmplifyConfig, Stage
from kouros.fitting.terms.evidence import Evidence
from kouros.geometry.alignment import align
from kouros.geometry.cameras import PerspectiveCamera
from kouros.priors.gmm import load_gmm

COUNT = 6


def _camera(count: int) -> PerspectiveCamera:
    return PerspectiveCamera(torch.full((count,), 5000.0), torch.full((count, 2), 112.0))


@pytest.fixture(scope="module")
def fitter() -> Smplify:
    return Smplify(kouros.load_body(), "spin49", load_gmm())


@pytest.fixture(scope="module")
def truth() -> BodyParameters:
    generator = torch.Generator().manual_seed(0)
    orient = upright_headings(COUNT, torch.zeros(1))[0]
    pose = torch.cat([orient, load_gmm().sample(COUNT, generator)], dim=-1)
    betas = 0.7 * torch.randn(COUNT, 10, generator=generator)
    return BodyParameters(pose, betas, torch.tensor([0.1, 0.0, 45.0]).expand(COUNT, 3))


@pytest.fixture(scope="module")
def evidence(fitter: Smplify, truth: BodyParameters) -> Evidence:
    pixels = _camera(COUNT).project(fitter.kinematics.points(truth))
    return Evidence(torch.cat([pixels, torch.ones_like(pixels[..., :1])], dim=-1), "spin49", _camera(COUNT))


def _pa_error(fitter: Smplify, fitted: BodyParameters, truth: BodyParameters) -> torch.Tensor:
    ours, real = fitter.kinematics.points(fitted), fitter.kinematics.points(truth)
    return (align(ours, real).apply(ours) - real).norm(dim=-1).mean(-1)


def test_from_the_mean_pose_fits_explain_the_keypoints_better_than_the_truth(fitter, truth, evidence):
    result = fitter.fit(evidence)
    assert (result.objective < fitter.objective(evidence, truth)).all()
    assert (result.reprojection_loss < 20).all()
    assert _pa_error(fitter, result.parameters, truth).median() < 0.07


def test_from_a_good_estimate_spins_single_stage_finds_the_body(fitter, truth, evidence):
    generator = torch.Generator().manual_seed(1)
    pose = truth.pose + 0.15 * torch.randn(COUNT, 72, generator=generator)
    start = BodyParameters(pose, torch.zeros(COUNT, 10), truth.transl + 0.3)
    result = fitter.refine(evidence, start)
    before, after = _pa_error(fitter, start, truth), _pa_error(fitter, result.parameters, truth)
    assert (after < before).all()
    assert after.mean() < 0.5 * before.mean()
    assert (result.reprojection_loss < 20).all()


def test_the_objective_is_spins(fitter, truth, evidence):
    """Eq. 2 written out, with autograd-free parts from the prior's own log-density form."""
    generator = torch.Generator().manual_seed(2)
    at = replace(truth, pose=truth.pose + 0.05 * torch.randn(COUNT, 72, generator=generator))
    away = evidence.camera.project(fitter.kinematics.points(at)) - evidence.keypoints_2d[..., :2]
    robust = (1e4 * away**2 / (1e4 + away**2)).sum(-1)
    kept = [i for i, n in enumerate(fitter.keypoints.names) if n not in fitter.config.ignored]
    mixture = fitter.prior.energy(at.pose[:, 3:]).energy
    angles = (at.pose[:, [55, 58, 12, 15]] * torch.tensor([1.0, -1.0, -1.0, -1.0])).exp() ** 2
    expected = robust[:, kept].sum(-1) + 4.78**2 * mixture + 15.2**2 * angles.sum(-1) + 5**2 * at.betas.square().sum(-1)
    assert_close(fitter.objective(evidence, at), expected, rtol=2e-3, atol=0.5)
    assert_close(fitter.reprojection_loss(evidence, at), robust[:, kept].sum(-1) / 49, rtol=1e-4, atol=1e-4)


def test_weights_are_the_published_ones():
    assert SMPLIFY_STAGES[-1] == Stage(4.78, 5.0)
    assert SMPLIFY_STAGES[-1].angle_prior == pytest.approx(15.2, abs=0.05)


def test_a_held_translation_stays_where_the_camera_stage_left_it(truth, evidence):
    held = Smplify(kouros.load_body(), "spin49", load_gmm(), SmplifyConfig(hold_translation=True))
    short = replace(held.config, stages=SMPLIFY_STAGES[-1:], last_iterations=0)
    camera_only = Smplify(kouros.load_body(), "spin49", load_gmm(), short)
    start = replace(truth, transl=truth.transl + 0.2)
    assert_close(held.refine(evidence, start).parameters.transl, camera_only.refine(evidence, start).parameters.transl)


def test_a_person_in_a_batch_is_fitted_as_if_alone(fitter, evidence):
    together = fitter.fit(evidence)
    for person in (0, 4):
        alone = fitter.fit(evidence[torch.tensor([person])])
        assert_close(alone.objective[0], together.objective[person], rtol=2e-3, atol=0.1)


def test_a_person_is_refined_in_a_batch_as_alone_to_the_bit(fitter, truth, evidence):
    start = replace(truth, pose=truth.pose + 0.1 * torch.randn(COUNT, 72, generator=torch.Generator().manual_seed(3)))
    together = fitter.refine(evidence, start)
    for person in range(COUNT):
        one = torch.tensor([person])
        alone = fitter.refine(evidence[one], start[one])
        assert torch.equal(alone.parameters.vector, together.parameters.vector[one])
        assert torch.equal(alone.objective, together.objective[one])


def test_whatever_is_seen_the_result_is_finite_and_others_are_unmoved(fitter, evidence):
    """NaN, nothing, one joint, half outside the picture, absurdly large or small: beside a person who is
    well."""
    short = Smplify(fitter.body, "spin49", fitter.prior, replace(fitter.config, body_iterations=5, last_iterations=10))
    well = short.fit(evidence[torch.tensor([0])])

    @settings(max_examples=8, deadline=None)
    @given(
        st.integers(0, 2**31 - 1),
        st.sampled_from([1e-3, 1.0, 1e3, 1e20]),
        st.sampled_from([0, 1, 2, 20, 49]),
        st.sampled_from([0.0, float("nan"), float("inf"), -500.0]),
    )
    def check(seed: int, scale: float, seen: int, broken: float) -> None:
        generator = torch.Generator().manual_seed(seed)
        keypoints = evidence.keypoints_2d[:2].clone()
        keypoints[1, :, :2] = (keypoints[1, :, :2] - 112) * scale + 112
        order = torch.randperm(49, generator=generator)
        keypoints[1, order[seen:], 2] = 0.0
        keypoints[1, order[: seen // 2], 0] += broken
        result = short.fit(Evidence(keypoints, "spin49", _camera(2)))
        for value in (result.parameters.vector, result.objective, result.reprojection_loss):
            assert torch.isfinite(value).all()
        assert result.has_evidence[0]
        assert_close(result.objective[0], well.objective[0], rtol=5e-3, atol=0.1)

    check()


def test_nobody_seen_is_the_mean_pose_and_is_said(fitter, evidence):
    nothing = replace(evidence, keypoints_2d=torch.full_like(evidence.keypoints_2d, torch.nan))
    result = fitter.fit(nothing)
    assert not result.has_evidence.any()
    assert (result.reprojection_loss == 0).all()
    assert result.parameters.betas.abs().max() < 1e-3


def test_an_estimate_that_is_no_number_is_refused(fitter, truth, evidence):
    betas = truth.betas.clone()
    betas[2, 0] = torch.nan
    with pytest.raises(ValueError, match=r"estimates of items \[2\] are not finite; leave"):
        fitter.refine(evidence, replace(truth, betas=betas))
