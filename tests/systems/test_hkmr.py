"""HKMR's losses against numbers known beforehand, and the system as engine and judges see it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

import kouros
from kouros.body.keypoints import SPIN49
from kouros.data.batch import Batch
from kouros.fitting.schedules.fits_store import Augmentation
from kouros.geometry.cameras import WeakPerspectiveCamera
from kouros.geometry.rotations import rotvec_to_rotmat
from kouros.networks.estimates import Regressed
from kouros.networks.kinematic_regressor import KinematicConfig, KinematicRegressor
from kouros.priors.gmm import load_gmm
from kouros.systems.estimator import CropNetwork
from kouros.systems.hkmr import (
    Hkmr,
    HkmrConfig,
    HkmrStart,
    HkmrWeights,
    keypoint_loss_2d,
    keypoint_loss_3d,
    parameter_loss,
    read_real_poses,
)
from kouros.systems.spin import SpinConfig

SIZE = 32
SMALL = HkmrConfig(crop_size=SIZE, backbone=18)
ANNOTATED = 24
"""Of SPIN's 49 points, the last."""


def people(body, count: int = 4, seed: int = 0, size: int = SIZE) -> Batch:
    """Bodies in front of random pictures, all of them known."""
    generator = torch.Generator().manual_seed(seed)
    orient = torch.tensor([torch.pi, 0.0, 0.0]) + 0.2 * torch.randn(count, 3, generator=generator)
    pose = torch.cat([orient, load_gmm().sample(count, generator)], 1)
    betas = torch.randn(count, 10, generator=generator)
    space = body.keypoint_positions(SPIN49.name, betas=betas, body_pose=pose[:, 3:], global_orient=orient)
    camera = WeakPerspectiveCamera(torch.full((count,), 0.8), torch.tensor([[0.05, 0.2]]).expand(count, -1))
    ones = torch.ones(count, 49, 1)
    return Batch(
        image=torch.rand(count, 3, size, size, generator=generator),
        index=torch.arange(count),
        source=torch.zeros(count, dtype=torch.long),
        keypoints_2d=torch.cat([(camera.project(space) + 1) * size / 2, ones], -1),
        keypoints_3d=torch.cat([space - space[:, 27:29].mean(1, keepdim=True), ones], -1),
        pose=pose,
        has_pose=torch.ones(count, dtype=torch.bool),
        betas=betas,
        has_betas=torch.ones(count, dtype=torch.bool),
        augmentation=Augmentation(torch.zeros(count), torch.zeros(count, dtype=torch.bool)),
        crop_center=torch.zeros(count, 2),
        crop_side=torch.ones(count),
    )


def build(body, config: HkmrConfig = SMALL, seed: int = 0) -> Hkmr:
    torch.manual_seed(seed)
    return config.build(body, 0)


def gradients(system: Hkmr, batch: Batch) -> torch.Tensor:
    system.zero_grad()
    torch.manual_seed(0)
    system.training_step(batch).losses[0].backward()
    return torch.cat([p.grad.flatten() for p in system.parameters() if p.grad is not None])


# ---- losses


def test_keypoints_off_by_pixels_cost_their_share_of_half_the_crop():
    predicted = torch.zeros(2, 49, 2)
    observed = torch.cat([torch.full((2, 49, 2), SIZE / 2), torch.ones(2, 49, 1)], -1)
    assert keypoint_loss_2d(predicted, observed, SIZE) == 0
    observed[:, :, 0] += 4
    assert_close(keypoint_loss_2d(predicted, observed, SIZE), torch.tensor(4 / 16 / 2))  # y is right
    # Points that only a detector saw teach nothing, nor those of no confidence; half-sure ones count half.
    observed[:, :25] += 20
    observed[0, 25:, 2] = 0
    assert_close(keypoint_loss_2d(predicted, observed, SIZE), torch.tensor(4 / 16 / 2))
    observed[1, :, 2] = 0.5
    assert_close(keypoint_loss_2d(predicted, observed, SIZE), torch.tensor(4 / 16 / 4))
    observed[..., 2] = 0
    assert keypoint_loss_2d(predicted, observed, SIZE) == 0


def test_keypoints_in_space_are_compared_about_the_hips():
    predicted = torch.randn(2, 49, 3)
    known = torch.cat([predicted + torch.tensor([1.0, 2.0, 3.0]), torch.ones(2, 49, 1)], -1)
    assert_close(keypoint_loss_3d(predicted, known), torch.tensor(0.0), atol=1e-6, rtol=0)
    known[0, SPIN49.index("left_knee"), :3] += torch.tensor([0.3, -0.3, 0.3])
    assert_close(keypoint_loss_3d(predicted, known), torch.tensor(0.3 / (2 * ANNOTATED)), atol=1e-6, rtol=0)
    known[0, SPIN49.index("left_hip_lsp"), 3] = 0  # a person without hips has no middle
    assert_close(keypoint_loss_3d(predicted, known), torch.tensor(0.0), atol=1e-6, rtol=0)


def test_parameters_cost_squares_over_all_numbers_of_those_who_have_them():
    rotations, betas = torch.eye(3).expand(2, 24, 3, 3), torch.zeros(2, 10)
    predicted = Regressed(rotations, betas, torch.zeros(2, 3))
    yes, no, first = torch.tensor([True, True]), torch.tensor([False, False]), torch.tensor([True, False])
    half_turn = rotvec_to_rotmat(torch.tensor([torch.pi, 0, 0])).expand(2, 24, 3, 3)  # two numbers off by 2
    assert parameter_loss(predicted, rotations, betas, yes, yes) == 0
    assert_close(parameter_loss(predicted, rotations, betas + 1, yes, yes), torch.tensor(10 / 226))
    assert_close(parameter_loss(predicted, half_turn, betas, yes, yes), torch.tensor(24 * 8 / 226))
    assert_close(parameter_loss(predicted, half_turn, betas + 1, no, first), torch.tensor(10 / 226))
    assert parameter_loss(predicted, half_turn * torch.nan, betas, no, yes) == 0


def test_losses_add_up_over_the_outer_iterations(free_body):
    """With answers of zero all iterations are alike, and T of them cost T times one."""
    totals = {}
    for outer in (1, 3):
        system = build(free_body, replace(SMALL, regressor=KinematicConfig(outer_iterations=outer)))
        with torch.no_grad():
            for name, p in system.regressor.named_parameters():
                if "from_embedding" in name or "answer" in name or name.endswith("bias"):
                    p.zero_()
        step = system.training_step(people(free_body))
        weights = {"parameters": 60.0, "keypoints_3d": 60.0, "keypoints_2d": 60.0, "kl": 0.01}
        assert_close(step.losses[0], outer * sum(w * step.terms[n] for n, w in weights.items()))
        totals[outer] = step.losses[0]
    assert_close(totals[3], 3 * totals[1])


def test_the_true_bodies_cost_nothing_but_the_prior(free_body):
    batch, system = people(free_body), build(free_body)
    camera = torch.tensor([[0.8, 0.05, 0.2]]).expand(4, -1)
    truth = Regressed(rotvec_to_rotmat(batch.pose.unflatten(1, (24, 3))), batch.betas, camera)
    terms = system._supervision(batch, truth)
    assert set(terms) == {"parameters", "keypoints_3d", "keypoints_2d"}
    for name, term in terms.items():
        assert_close(term, torch.tensor(0.0), atol=1e-6, rtol=0, msg=name)


def test_a_pose_whose_latents_are_standard_normal_has_no_kl_loss(free_body):
    system, batch = build(free_body), people(free_body)
    assert system.training_step(batch).terms["kl"] > 10
    for head in (system.vae.latent_mean, system.vae.latent_log_variance):
        head.weight.zero_(), head.bias.zero_()
    assert_close(system.training_step(batch).terms["kl"], torch.tensor(0.0), atol=1e-6, rtol=0)


def test_the_kl_loss_makes_poses_likelier_and_leaves_the_prior_as_it_is(free_body):
    only = HkmrWeights(parameters=0.0, keypoints_3d=0.0, keypoints_2d=0.0, kl=1.0)
    system, batch = build(free_body, replace(SMALL, weights=only, learning_rate=1e-4)), people(free_body)
    prior = [p.clone() for p in system.vae.buffers()]
    before = system.training_step(batch).terms["kl"]
    (optimizer,) = system.optimizers()
    for _ in range(6):
        optimizer.zero_grad()
        system.training_step(batch).losses[0].backward()
        optimizer.step()
    assert system.training_step(batch).terms["kl"] < before - 1
    assert all(torch.equal(a, b) for a, b in zip(prior, system.vae.buffers(), strict=True))


@pytest.mark.parametrize("missing", ["keypoints_2d", "keypoints_3d", "pose", "betas"])
def test_what_is_not_known_teaches_nothing(free_body, missing: str):
    system, batch = build(free_body), people(free_body)

    def without(garbage: float) -> Batch:
        known = getattr(batch, missing).clone()
        known[1:3] = garbage
        if missing in ("pose", "betas"):
            flags = torch.tensor([True, False, False, True])
            return replace(batch, **{missing: known, f"has_{missing}": flags})
        known[..., -1] = batch.keypoints_2d[..., -1]
        known[1:3, :, -1] = 0
        return replace(batch, **{missing: known})

    usual = gradients(system, without(7.0))
    assert torch.equal(usual, gradients(system, without(torch.nan)))
    assert torch.isfinite(usual).all()
    assert not torch.equal(usual, gradients(system, batch))


def test_a_batch_of_which_nothing_is_known_has_only_the_prior(free_body):
    batch = people(free_body)
    nothing = replace(
        batch,
        keypoints_2d=torch.zeros(4, 49, 3),
        keypoints_3d=torch.full((4, 49, 4), torch.nan),
        has_pose=~batch.has_pose,
        has_betas=~batch.has_betas,
    )
    step = build(free_body).training_step(nothing)
    assert_close(step.losses[0], 3 * 0.01 * step.terms["kl"])


def test_it_learns_a_batch_by_heart(free_body):
    config = replace(SMALL, crop_size=64, learning_rate=3e-4)
    system, batch = build(free_body, config), people(free_body, 3, size=64)
    (optimizer,) = system.optimizers()
    steps = []
    for _ in range(18):
        optimizer.zero_grad()
        steps.append(system.training_step(batch))
        steps[-1].losses[0].backward()
        optimizer.step()
    first, last = steps[0].terms, steps[-1].terms
    for name, share in {"keypoints_2d": 0.25, "keypoints_3d": 0.4, "parameters": 0.35}.items():
        assert last[name] < share * first[name], name
    # Not one body for all: each is nearest to its own.
    predicted = steps[-1].predicted.bodies.rotations[:, 1:].flatten(1)
    true = rotvec_to_rotmat(batch.pose[:, 3:].unflatten(1, (23, 3))).flatten(1)
    assert torch.cdist(predicted, true).argmin(1).tolist() == [0, 1, 2]


# ---- discriminators in place of the autoencoder

ADVERSARIAL = replace(SMALL, pose_prior="discriminator")


def test_each_loss_moves_only_what_its_optimizer_holds(free_body):
    system = build(free_body, ADVERSARIAL)
    optimizers, step = system.optimizers(), system.training_step(people(free_body))
    assert len(step.losses) == len(optimizers) == 2
    held = [[p for g in o.param_groups for p in g["params"]] for o in optimizers]
    assert {id(p) for ps in held for p in ps} == {id(p) for p in system.parameters()}
    for own, other, loss in ((held[0], held[1], step.losses[0]), (held[1], held[0], step.losses[1])):
        system.zero_grad()
        loss.backward()
        assert all(p.grad is None for p in other)
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in own)


def test_the_discriminators_losses_are_hmrs(free_body):
    """Judges that always say 0.25: 25 times 0.75 squared, and for their own loss 0.25 squared besides."""
    system = build(free_body, ADVERSARIAL)
    judges = system.discriminator
    with torch.no_grad():
        for p in judges.parameters():
            p.zero_()
        for bias in (judges.joint_bias, judges.whole_pose[-1].bias, judges.shape[-1].bias):
            bias.fill_(0.25)
    step = system.training_step(people(free_body))
    assert "kl" not in step.terms
    assert_close(step.terms["adversarial"], torch.tensor(25 * 0.5625))
    assert_close(step.terms["discriminator"], torch.tensor(25 * (0.5625 + 0.0625)))
    assert_close(step.losses[1], step.terms["discriminator"])


def test_real_poses_come_from_the_training_rows_of_a_file(free_body, tmp_path: Path):
    rng = np.random.default_rng(0)
    poses, split = rng.normal(size=(6, 72)).astype(np.float32), np.array(["train", "val"] * 3)
    np.savez(tmp_path / "bank.npz", poses=poses, split=split)
    np.savez(tmp_path / "plain.npz", poses=poses)
    assert np.array_equal(read_real_poses(tmp_path / "bank.npz").numpy(), poses[::2, 3:])
    assert len(read_real_poses(tmp_path / "plain.npz")) == 6
    system = build(free_body, replace(ADVERSARIAL, real_poses=tmp_path / "bank.npz"))
    drawn = {tuple(row) for row in system._draw_poses(50).numpy().tolist()}
    assert drawn == {tuple(row) for row in poses[::2, 3:].tolist()}


@pytest.mark.parametrize("content", [b"", b"not an archive", "wrong name", "wrong size", "not finite", "none left"])
def test_files_without_real_poses_are_refused_before_training(free_body, tmp_path: Path, content):
    path = tmp_path / "bank.npz"
    arrays = {
        "wrong name": {"pose": np.zeros((3, 72))},
        "wrong size": {"poses": np.zeros((3, 70))},
        "not finite": {"poses": np.full((3, 72), np.nan)},
        "none left": {"poses": np.zeros((3, 72)), "split": np.array(["val"] * 3)},
    }
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.savez(path, **arrays[content])
    system = build(free_body, replace(ADVERSARIAL, real_poses=path))
    with pytest.raises(ValueError, match=r"bank\.npz.*expected an \.npz with `poses` \(N, 72\)"):
        system.begin()


def test_real_poses_that_nobody_would_look_at_are_refused():
    with pytest.raises(ValueError, match="set pose_prior"):
        HkmrConfig(real_poses=Path("bank.npz"))


# ---- as engine and judges see it


def test_it_estimates_each_person_alone_and_goes_on_training(free_body):
    system, image = build(free_body), people(free_body).image
    assert isinstance(system, CropNetwork) and system.crop_size == SIZE
    together, alone = system.predict(image), system.predict(image[2:3])
    assert system.training and not together.bodies.pose.requires_grad
    assert_close(together[2:3].bodies.rotations, alone.bodies.rotations, atol=1e-5, rtol=0)
    assert_close(together[2:3].bodies.transl, alone.bodies.transl, atol=1e-5, rtol=1e-5)


def test_the_same_seed_gives_the_same_step(free_body):
    def step(seed: int) -> torch.Tensor:
        return torch.stack(build(free_body, ADVERSARIAL, seed).training_step(people(free_body)).losses).detach()

    assert torch.equal(step(1), step(1))
    assert not torch.equal(step(1), step(2))


def test_checkpoints_hold_the_networks_and_nothing_else(free_body):
    system = build(free_body, ADVERSARIAL)
    assert {name.split(".")[0] for name in system.state_dict()} == {"backbone", "regressor", "discriminator"}
    other = build(free_body, ADVERSARIAL, seed=1)
    other.load_state_dict(system.state_dict())
    image = people(free_body).image
    assert torch.equal(system.predict(image).bodies.pose, other.predict(image).bodies.pose)


def test_all_that_training_needs_moves_with_it(free_body):
    system = build(free_body).double()
    batch = people(free_body).map(lambda t: t.double() if t.is_floating_point() else t)
    assert system.training_step(batch).losses[0].dtype == torch.float64
    assert free_body.v_template.dtype == torch.float32  # the caller's own body stays


def test_mixed_precision_changes_the_losses_little(free_body):
    system, batch = build(free_body), people(free_body)
    exact = system.training_step(batch).losses[0]
    with torch.autocast("cpu", torch.bfloat16):
        mixed = system.training_step(batch).losses[0]
    assert mixed.dtype == torch.float32
    assert_close(mixed, exact, atol=0, rtol=0.02)


def test_a_body_of_other_betas_is_refused():
    with pytest.raises(ValueError, match="num_betas=10"):
        SMALL.build(kouros.load_body(num_betas=4), 0)


def test_weights_of_another_backbone_are_refused(free_body, tmp_path: Path):
    torch.save({"conv1.weight": torch.zeros(3)}, tmp_path / "weights.pth")
    system = build(free_body, replace(SMALL, start=HkmrStart(backbone=tmp_path / "weights.pth")))
    with pytest.raises(ValueError, match="ResNet-18"):
        system.begin()


def test_in_the_loop_it_is_spin_with_this_regressor(free_body):
    torch.manual_seed(0)
    config = KinematicConfig(outer_iterations=2)
    system = SpinConfig(crop_size=SIZE, backbone=18).build(free_body, 4, regressor=config.build)
    assert isinstance(system.regressor, KinematicRegressor) and system.regressor.config is config
    batch = people(free_body)
    system.training_step(batch).losses[0].backward()
    assert all(p.grad is not None for p in system.regressor.parameters())
