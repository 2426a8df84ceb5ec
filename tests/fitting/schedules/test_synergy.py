"""The synergy objective: its derivatives, its bound on betas, what it recovers, and learning through its layer."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

import kouros
from kouros.body.parameters import BodyParameters
from kouros.evaluation.metrics.pose import joint_errors
from kouros.fitting.schedules.keypoint_fit import FitConfig
from kouros.fitting.schedules.synergy import Cues, Synergy, SynergyConfig
from kouros.fitting.terms.densepose import DenseEvidence, SurfaceKinematics, points_on_mesh
from kouros.fitting.terms.evidence import Evidence
from kouros.fitting.terms.kinematics import KeypointKinematics
from kouros.geometry.cameras import PerspectiveCamera
from kouros.priors.gmm import load_gmm

SET = "coco17"


@pytest.fixture(scope="module")
def synergy():
    return Synergy(
        kouros.load_body(dtype=torch.float64), SET, load_gmm(), SynergyConfig(FitConfig(landmark_scale=(1.0, 1.0)))
    )


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _scene(synergy: Synergy, count: int, points: int = 60) -> tuple[BodyParameters, Cues]:
    """Bodies near the prior's mean that face the camera, and what is seen of them without noise."""
    pose = torch.cat([torch.tensor([3.0, 0.3, 0.1]).double(), synergy.prior.mean()]) + 0.1 * _random(count, 72)
    place = torch.tensor([0.1, 0.0, 4.0], dtype=torch.float64).expand(count, 3)
    truth = BodyParameters(pose, 0.7 * _random(count, synergy.body.num_betas, seed=1), place)
    camera = PerspectiveCamera(torch.full((count,), 600.0).double(), torch.full((count, 2), 112.0).double())
    keypoints = synergy.kinematics.points(truth)
    seen = torch.cat([camera.project(keypoints), torch.ones_like(keypoints[..., :1])], dim=-1)
    generator = torch.Generator().manual_seed(2)
    face = torch.randint(len(synergy.body.faces), (count, points), generator=generator)
    surface = points_on_mesh(synergy.body, face, torch.full((count, points, 3), 1 / 3).double())
    skin = camera.project(SurfaceKinematics(synergy.body).points(surface, truth))
    evidence = Evidence(seen, SET, camera, keypoints - keypoints.mean(1, keepdim=True))
    return truth, Cues(evidence, DenseEvidence(surface, skin, torch.ones_like(skin[..., 0])))


def _near(truth: BodyParameters) -> BodyParameters:
    noise = 0.1 * _random(*truth.pose.shape, seed=3)
    return BodyParameters(truth.pose + noise, torch.zeros_like(truth.betas), truth.transl * 1.03)


def test_the_objectives_gradient_is_autograds(synergy):
    truth, cues = _scene(synergy, 2)
    start = _near(truth).vector
    start[:, 72:74] = torch.tensor([2.5, -3.0])  # beyond the bound
    linear = synergy.residuals(cues)(start)
    vector = start.clone().requires_grad_()
    (expected,) = torch.autograd.grad(synergy.residuals(cues)(vector).cost.sum(), vector)
    assert_close((linear.residuals[:, None] @ linear.jacobian)[:, 0], expected, atol=1e-6, rtol=1e-6)
    normal = synergy.objective(cues)(start)
    assert_close(normal.cost, linear.cost)
    assert_close(normal.gradient, expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("solver", ["conjugate_gradients", "levenberg_marquardt"])
def test_all_cues_together_bring_the_body_near(synergy, solver):
    truth, cues = _scene(synergy, 3)
    start = _near(truth)
    result = synergy.refine(cues, start, solver=solver)
    smpl24 = KeypointKinematics(synergy.body, "smpl24")

    def error(at: BodyParameters) -> torch.Tensor:
        found, real = smpl24.points(at), smpl24.points(truth)
        return joint_errors(found, real, predicted_root=found[:, 0], target_root=real[:, 0]).mean(-1)

    assert (error(result.parameters) < 0.5 * error(start)).all()
    assert_close(result.cost, synergy.objective(cues)(result.parameters.vector).cost, rtol=1e-6, atol=1e-6)


def test_dense_points_tell_what_keypoints_cannot(synergy):
    """How a forearm is twisted shows on the skin alone."""
    truth, cues = _scene(synergy, 1, points=400)
    twisted = truth.pose.clone()
    twisted[:, 54] += 0.5  # the left elbow about the bone, which lies along x at rest
    start = replace(truth, pose=twisted)
    with_skin = synergy.refine(cues, start).parameters
    without = synergy.refine(Cues(cues.evidence), start).parameters

    def skin_error(at: BodyParameters) -> torch.Tensor:
        found = cues.evidence.camera.project(synergy.surface.points(cues.dense.surface, at))
        return (found - cues.dense.pixels).norm(dim=-1).mean()

    assert skin_error(with_skin) < 0.5 * skin_error(without)


def test_a_network_can_learn_through_twenty_iterations(synergy):
    truth, cues = _scene(synergy, 2)
    start = _near(truth).vector.requires_grad_()
    evidence, dense = cues.evidence, cues.dense
    pixels, skin = evidence.keypoints_2d.clone().requires_grad_(), dense.pixels.clone().requires_grad_()
    space = evidence.landmarks_3d.clone().requires_grad_()
    seen = Cues(replace(evidence, keypoints_2d=pixels, landmarks_3d=space), replace(dense, pixels=skin))
    fitted = synergy.layer(seen, BodyParameters.from_vector(start), iterations=20).unknowns
    loss = (synergy.kinematics.points(BodyParameters.from_vector(fitted)) - synergy.kinematics.points(truth)).square()
    for gradient in torch.autograd.grad(loss.sum(), (start, pixels, skin, space)):
        assert torch.isfinite(gradient).all() and (gradient != 0).any()


def test_the_layers_gradient_is_that_of_finite_differences(synergy):
    truth, cues = _scene(synergy, 1, points=10)
    start = _near(truth)

    def elbow(skin: torch.Tensor) -> torch.Tensor:
        seen = Cues(cues.evidence, replace(cues.dense, pixels=skin))
        fitted = BodyParameters.from_vector(synergy.layer(seen, start, iterations=3).unknowns)
        return synergy.kinematics.points(fitted)[0, 7, 0]

    skin = cues.dense.pixels.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(elbow(skin), skin)
    direction = _random(*skin.shape, seed=9)
    with torch.no_grad():
        difference = (elbow(skin + 1e-4 * direction) - elbow(skin - 1e-4 * direction)) / 2e-4
    assert difference.abs() > 1e-7
    assert_close((gradient * direction).sum(), difference, rtol=1e-4, atol=1e-9)


def test_persons_do_not_influence_one_another(synergy):
    truth, cues = _scene(synergy, 3)
    start = _near(truth)
    together = synergy.refine(cues, start).parameters.vector
    one = torch.tensor([1])
    assert_close(together[1:2], synergy.refine(cues[one], start[one]).parameters.vector, atol=1e-6, rtol=1e-6)


def test_cues_without_a_usable_number_leave_a_finite_body(synergy):
    truth, cues = _scene(synergy, 1)
    bad = replace(cues.evidence, keypoints_2d=torch.full_like(cues.evidence.keypoints_2d, torch.nan), landmarks_3d=None)
    dark = Cues(bad, replace(cues.dense, confidence=torch.zeros_like(cues.dense.confidence)))
    for solver in ("conjugate_gradients", "levenberg_marquardt"):
        assert torch.isfinite(synergy.refine(dark, _near(truth), solver=solver).parameters.vector).all()
