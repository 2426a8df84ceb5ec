"""What all pose priors promise: both forms agree, derivatives are right, mirror images are as likely."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from kouros.geometry.rotations import rotvec_to_rotmat
from kouros.priors.body_pose import mirror_body_pose
from kouros.priors.gmm import GaussianMixture, load_gmm
from kouros.priors.limits import AnglePrior, load_limits
from kouros.priors.rotation_experts import RotationExperts, load_experts
from kouros.priors.vae import PoseVAE, load_vae


def _vae(dtype: torch.dtype) -> PoseVAE:
    vae = PoseVAE(load_vae().config)
    vae.load_state_dict(load_vae().state_dict())
    return vae.to(dtype)


LOADERS = {
    "gmm": lambda dtype: load_gmm().to(torch.empty(0, dtype=dtype)),
    "limits": lambda dtype: load_limits().to(torch.empty(0, dtype=dtype)),
    "angles": lambda dtype: AnglePrior(),
    "experts": lambda dtype: load_experts().to(torch.empty(0, dtype=dtype)),
    "vae": _vae,
}


@pytest.fixture(params=list(LOADERS))
def load(request: pytest.FixtureRequest):
    return LOADERS[request.param]


def test_jacobian_is_autograds(load, poses: Tensor):
    prior = load(torch.float64)
    jacobian = torch.stack(
        [torch.autograd.functional.jacobian(lambda x: _residuals(prior, x[None])[0], pose) for pose in poses[:2]]
    )
    assert_close(prior.energy(poses[:2]).jacobian, jacobian, atol=1e-8, rtol=1e-8)


def _residuals(prior, pose: Tensor) -> Tensor:
    """The residuals as a differentiable function; some priors' energies are made without a graph."""
    if isinstance(prior, PoseVAE):
        return prior.encode(rotvec_to_rotmat(pose.unflatten(-1, (23, 3))))[0]
    if isinstance(prior, RotationExperts):
        return prior.excess(pose) / prior.softness
    return prior.energy(pose).residuals


def test_energy_is_half_the_sum_of_squares(load, poses: Tensor):
    energy = load(torch.float64).energy(poses)
    assert energy.residuals.shape[:1] + energy.jacobian.shape[:1] == (24, 24)
    assert_close(energy.energy, 0.5 * energy.residuals.square().sum(-1))
    doubled = energy.weighted(2.0)
    assert_close(doubled.energy, 0.5 * doubled.residuals.square().sum(-1))
    assert_close(doubled.energy, 2 * energy.energy)


def test_gradient_of_the_density_is_the_energys(load, poses: Tensor):
    prior = load(torch.float64)
    poses = poses.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(prior.log_density(poses).sum(), poses)
    energy = prior.energy(poses.detach())
    expected = -torch.einsum("brn,br->bn", energy.jacobian, energy.residuals)
    if isinstance(prior, GaussianMixture):
        # The density's gradient also hears the other components; where one rules, it is the energy's.
        log = prior.log_density(poses.detach()) - prior._log_peaks.max() + energy.energy
        alone = log < 1e-9
        assert alone.sum() >= 5
        gradient, expected = gradient[alone], expected[alone]
    assert_close(gradient, expected, atol=1e-6, rtol=1e-6)


def test_gradient_passes_gradcheck(load, poses: Tensor):
    prior = load(torch.float64)
    assert torch.autograd.gradcheck(prior.log_density, poses[:1].clone().requires_grad_(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_mirror_images_are_equally_likely(load, poses: Tensor, dtype: torch.dtype):
    prior, poses = load(dtype), poses.to(dtype)
    image = mirror_body_pose(poses)
    assert (image - poses).abs().max() > 0.5
    for form in (prior.log_density, lambda p: prior.energy(p).energy):
        assert_close(form(image), form(poses), atol=1e-5, rtol=1e-5)


def test_items_of_a_batch_do_not_influence_one_another(load, poses: Tensor):
    prior = load(torch.float64)
    broken = poses.clone()
    broken[3] = torch.nan
    energy = prior.energy(broken)
    others = [i for i in range(len(poses)) if i != 3]
    assert not energy.energy[3].isfinite()
    assert_close(energy.energy[others], prior.energy(poses).energy[others])
    assert_close(energy.jacobian[others], prior.energy(poses).jacobian[others])
    assert_close(prior.log_density(broken)[others], prior.log_density(poses)[others])


def test_one_pose_alone_and_no_pose_at_all(load, poses: Tensor):
    prior = load(torch.float64)
    assert_close(prior.energy(poses[:1]).energy, prior.energy(poses).energy[:1])
    assert prior.log_density(poses[:0]).shape == (0,)
    assert prior.energy(poses[:0]).jacobian.shape[-1] == 69


@pytest.mark.parametrize("name", ["limits", "angles", "experts", "vae"])  # the mixture's pairs tie there
def test_derivatives_hold_at_the_rest_pose(name: str):
    prior = LOADERS[name](torch.float64)
    steps = 1e-6 * torch.eye(69, dtype=torch.float64)
    differences = (prior.energy(steps).residuals - prior.energy(-steps).residuals) / 2e-6
    assert_close(prior.energy(torch.zeros_like(steps[:1])).jacobian[0], differences.T, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["gmm", "vae"])
def test_held_out_poses_are_likelier_than_shuffled_ones(name: str, held_out: Tensor, shuffled: Tensor):
    prior = LOADERS[name](torch.float32)
    gain = prior.log_density(held_out) - prior.log_density(shuffled)
    assert gain.mean() > 2.0
    assert (gain > 0).float().mean() > 0.6


@pytest.mark.parametrize(
    ("shape", "message"),
    [((2, 72), "Leave out the first three"), ((69,), r"\(69,\)"), ((2, 23, 3), r"\(batch, 69\)")],
)
def test_wrong_shapes_are_named(unchecked: None, load, shape: tuple[int, ...], message: str):
    prior = load(torch.float32)
    for form in (prior.log_density, prior.energy):
        with pytest.raises(ValueError, match=message):
            form(torch.zeros(shape))
