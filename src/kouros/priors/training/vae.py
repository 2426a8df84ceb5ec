"""Training of the pose autoencoder.

The loss is a negative evidence bound, in nats: errors of rotations and of joint positions in units of stated
standard deviations, plus the divergence of the latents.
Needs torch alone, so that a machine with an accelerator and little else can run it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from kouros.body.skeleton import forward_kinematics
from kouros.geometry.rotations import angle_between, rotvec_to_rotmat
from kouros.priors.body_pose import JOINTS, check_body_pose
from kouros.priors.draws import draw_categories
from kouros.priors.vae import PoseVAE, PoseVAEConfig, kl_from_standard_normal


@dataclass(frozen=True)
class VAETraining:
    """How the autoencoder is trained."""

    model: PoseVAEConfig = field(default_factory=PoseVAEConfig)
    steps: int = 9_000
    batch: int = 256
    learning_rate: float = 2e-3
    """Of Adam at the start; falls to zero along a half cosine."""
    rotation_sigma: float = math.radians(4.0)
    """Error of a joint's rotation, radians, that costs half a nat."""
    position_sigma: float = 0.02
    """Error of a joint's position along an axis, metres, that costs half a nat."""
    warmup: float = 0.1
    """Share of the steps over which the divergence's weight rises to 1: latents are learnt first."""


def train_vae(
    poses: Float[Tensor, "poses 69"],
    weights: Float[Tensor, " poses"],
    rest_joints: Float[Tensor, "24 3"],
    *,
    seed: int = 0,
    device: str = "cpu",
    training: VAETraining | None = None,
    report: Callable[[int, dict[str, float]], None] | None = None,
) -> PoseVAE:
    """Train an autoencoder; deterministic by seed on one device.

    Args:
        poses: rotation vectors, radians. Mirror images need not be among them: the model and the losses
            treat both alike.
        weights: how often each pose is drawn.
        rest_joints: skeleton on which positions are compared, metres.
        seed: of initial weights, batches and latents.
        device: where to train.
        training: settings.
        report: called every hundred steps with the step and its losses.

    Raises:
        ValueError: poses of a wrong shape or not finite.
    """
    check_body_pose(poses)
    if not torch.isfinite(poses).all():
        raise ValueError("The poses to train on have numbers that are not finite; leave those frames out.")
    training = training or VAETraining()
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vae = PoseVAE(training.model).to(device)
    rotations = rotvec_to_rotmat(poses.float().unflatten(-1, (len(JOINTS), 3)))
    rest = rest_joints.float().to(device)
    optimizer = torch.optim.Adam(vae.parameters(), lr=training.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, training.steps)
    for step in range(training.steps):
        chosen = draw_categories(weights, training.batch, generator)
        noise = torch.randn(training.batch, training.model.latent, generator=generator).to(device)
        losses = elbo_terms(vae, rotations[chosen].to(device), noise, rest, training)
        divergence_weight = min(1.0, (step + 1) / (training.warmup * training.steps + 1))
        loss = losses["rotations"] + losses["positions"] + divergence_weight * losses["divergence"]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 100.0)
        optimizer.step()
        schedule.step()
        if report is not None and step % 100 == 0:
            report(step, {name: float(value.detach()) for name, value in losses.items()})
    return vae.eval().requires_grad_(False)


def elbo_terms(
    vae: PoseVAE,
    rotations: Float[Tensor, "batch 23 3 3"],
    noise: Float[Tensor, "batch latents"],
    rest_joints: Float[Tensor, "24 3"],
    training: VAETraining,
) -> dict[str, Tensor]:
    """The loss's terms, nats, means over the batch."""
    mean, log_variance = vae.encode(rotations)
    decoded = vae.decode(mean + (0.5 * log_variance).exp() * noise)
    # |R - R'|^2 is 2 angle^2 for small angles.
    squares = (decoded - rotations).square().sum((1, 2, 3)) / 2
    away = joint_positions(decoded, rest_joints) - joint_positions(rotations, rest_joints)
    return {
        "rotations": 0.5 * squares.mean() / training.rotation_sigma**2,
        "positions": 0.5 * away.square().sum((1, 2)).mean() / training.position_sigma**2,
        "divergence": kl_from_standard_normal(mean, log_variance).mean(),
    }


def joint_positions(
    rotations: Float[Tensor, "batch 23 3 3"], rest_joints: Float[Tensor, "24 3"]
) -> Float[Tensor, "batch 24 3"]:
    """Joints of the posed skeleton, metres, upright pelvis."""
    root = torch.eye(3).to(rotations).expand(len(rotations), 1, 3, 3)
    rest = rest_joints.expand(len(rotations), -1, -1)
    return forward_kinematics(torch.cat([root, rotations], dim=1), rest)[1]


@dataclass(frozen=True)
class ReconstructionError:
    """How well an autoencoder (or anything else) gives poses back; means over poses and joints."""

    degrees: float
    """Of a joint's rotation."""
    millimetres: float
    """Of a joint's position, pelvis fixed."""


def reconstruction_error(
    given: Float[Tensor, "batch 23 3 3"],
    back: Float[Tensor, "batch 23 3 3"],
    rest_joints: Float[Tensor, "24 3"],
) -> ReconstructionError:
    """Compare rotations with what came back."""
    away = joint_positions(back, rest_joints) - joint_positions(given, rest_joints)
    return ReconstructionError(
        degrees=float(angle_between(given, back).mean().rad2deg()),
        millimetres=float(1000 * away.norm(dim=-1)[:, 1:].mean()),
    )
