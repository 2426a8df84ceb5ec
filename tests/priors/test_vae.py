"""The pose autoencoder: what it gives back, its divergence, its training."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from torch.testing import assert_close

from kouros.geometry.rotations import mirror_rotmat, random_rotmat, rotvec_to_rotmat
from kouros.priors.body_pose import MIRROR_JOINTS, mirror_body_pose
from kouros.priors.limits import load_limits
from kouros.priors.packaged import FOLDER
from kouros.priors.training.poses import read_rest_joints
from kouros.priors.training.vae import VAETraining, reconstruction_error, train_vae
from kouros.priors.vae import PoseVAE, PoseVAEConfig, kl_from_standard_normal, load_vae, read_vae


def _matrices(body_pose: Tensor) -> Tensor:
    return rotvec_to_rotmat(body_pose.unflatten(-1, (23, 3)))


def test_held_out_poses_come_back(held_out: Tensor, samples: Path):
    vae, given = load_vae(), _matrices(held_out[::4])
    error = reconstruction_error(given, vae.decode(vae.encode(given)[0]), read_rest_joints(samples / "mocap"))
    assert error.degrees < 4.0
    assert error.millimetres < 15.0


def test_divergence_is_torchs():
    generator = torch.Generator().manual_seed(0)
    mean, log_variance = torch.randn(2, 5, 7, generator=generator)
    peer = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(torch.zeros(7), torch.ones(7))).sum(-1)
    assert_close(kl_from_standard_normal(mean, log_variance), peer)


def test_real_poses_diverge_less_than_shuffled_and_random_ones(held_out: Tensor, shuffled: Tensor):
    vae = load_vae()
    real, mixed = vae.kl_loss(_matrices(held_out)), vae.kl_loss(_matrices(shuffled))
    random = vae.kl_loss(random_rotmat((200, 23), torch.Generator().manual_seed(0)))
    assert real.mean() < mixed.mean() < random.mean()


def test_latents_of_real_poses_are_nearly_standard_normal(held_out: Tensor):
    mean, log_variance = load_vae().encode(_matrices(torch.cat([held_out, mirror_body_pose(held_out)])))
    spread = mean.var(0) + log_variance.exp().mean(0)
    assert 0.7 < spread.mean() < 1.4
    assert mean.mean(0).abs().max() < 0.6


def test_samples_are_poses_that_joints_allow():
    vae = load_vae()
    latents = torch.randn(300, vae.config.latent, generator=torch.Generator().manual_seed(1))
    excess = load_limits().excess(vae.decode_body_pose(latents)).unflatten(-1, (23, 3)).abs().amax(-1)
    assert (excess > 0.2).float().mean() < 0.01


def test_a_mirrored_pose_decodes_from_mirrored_latents(held_out: Tensor):
    vae, given = load_vae(), _matrices(held_out[:50])
    image = mirror_rotmat(given[:, list(MIRROR_JOINTS)])
    back, back_image = (vae.decode(vae.encode(x)[0]) for x in (given, image))
    assert_close(mirror_rotmat(back[:, list(MIRROR_JOINTS)]), back_image, atol=1e-5, rtol=0)
    assert_close(vae.kl_loss(image), vae.kl_loss(given), atol=1e-4, rtol=1e-5)


def test_latent_energy_is_half_the_square():
    energy = load_vae().latent_energy(torch.full((2, 32), 2.0))
    assert_close(energy.energy, torch.tensor([64.0, 64.0]))
    assert_close(energy.jacobian, torch.eye(32).expand(2, 32, 32))


def test_bad_input_is_named(unchecked: None):
    with pytest.raises(ValueError, match=r"expected \(batch, 23, 3, 3\)"):
        load_vae().encode(torch.zeros(2, 24, 3, 3))
    with pytest.raises(ValueError, match=r"expected \(batch, 32\)"):
        load_vae().decode(torch.zeros(2, 16))
    with pytest.raises(ValueError, match="not finite"):
        train_vae(torch.full((2, 69), torch.nan), torch.ones(2), torch.zeros(24, 3))


def test_a_file_of_other_sizes_is_refused(tmp_path: Path):
    with np.load(FOLDER / "vae.npz") as arrays:
        changed = {**arrays, "decoder.4.bias": np.zeros(7)}
    np.savez(tmp_path / "vae.npz", **changed)
    with pytest.raises(ValueError, match=r"'decoder.4.bias' .* expected \(138,\)"):
        read_vae(tmp_path / "vae.npz")


def _toy_training(seed: int) -> PoseVAE:
    generator = torch.Generator().manual_seed(0)
    line = torch.randn(1, 69, generator=generator) * torch.randn(200, 1, generator=generator) * 0.3
    small = VAETraining(model=PoseVAEConfig(hidden=32, latent=4), steps=60, batch=32, learning_rate=1e-2)
    rest = torch.randn(24, 3, generator=generator) * 0.3
    vae = train_vae(line, torch.ones(200), rest, seed=seed, training=small)
    given = _matrices(line)
    after = reconstruction_error(given, vae.decode(vae.encode(given)[0]), rest)
    resting = reconstruction_error(given, torch.eye(3).expand_as(given), rest)
    assert after.degrees < 0.7 * resting.degrees
    return vae


def test_training_learns_and_repeats_by_seed():
    state = torch.random.get_rng_state()
    first, again, other = (_toy_training(seed).state_dict() for seed in (0, 0, 1))
    for name in first:
        assert_close(first[name], again[name], rtol=0, atol=0)
    assert (first["encoder.0.weight"] - other["encoder.0.weight"]).abs().max() > 0.01
    assert torch.equal(state, torch.random.get_rng_state())
