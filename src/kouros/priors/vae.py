"""A variational autoencoder of body poses (HKMR, Georgakis et al. 2020, Sec. 3.2).

The encoder maps the 23 joints' rotations to a Gaussian over 32 latent numbers, the decoder maps latents to
rotations, as in VPoser (Pavlakos et al. 2019); poses people take have latents near N(0, I). HKMR trains its
regressor against the encoder (`PoseVAE.kl_loss`); a fit can instead move the latents, whose prior is the
plainest sum of squares (`PoseVAE.latent_energy`), or charge a pose for the distance of its own latents
(`PoseVAE.energy`).

Beyond the papers: a pose's mirror image has the same latents, the second half with opposite signs, by
construction (each network sees pose and image and is averaged), so that images are exactly as likely.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from kouros.geometry.rotations import rot6d_to_rotmat, rotmat_to_rot6d, rotmat_to_rotvec, rotvec_to_rotmat
from kouros.priors.body_pose import JOINTS, MIRROR_JOINTS, check_body_pose, joint_derivatives
from kouros.priors.energy import PriorEnergy, diagonal, sum_of_squares
from kouros.priors.packaged import FOLDER, read_arrays

SLOPE = 0.2
"""Of the leaky rectifiers."""


@dataclass(frozen=True)
class PoseVAEConfig:
    """Sizes; the defaults are VPoser's published ones."""

    hidden: int = 512
    latent: int = 32


class PoseVAE(nn.Module):
    """Encoder and decoder of the rotations of 23 joints."""

    def __init__(self, config: PoseVAEConfig | None = None) -> None:
        super().__init__()
        self.config = config or PoseVAEConfig()
        hidden, latent, size = self.config.hidden, self.config.latent, 6 * len(JOINTS)
        self.encoder = nn.Sequential(
            nn.Linear(size, hidden), nn.LeakyReLU(SLOPE), nn.Linear(hidden, hidden), nn.LeakyReLU(SLOPE)
        )
        self.latent_mean = nn.Linear(hidden, latent)
        self.latent_log_variance = nn.Linear(hidden, latent)
        self.decoder = nn.Sequential(
            nn.Linear(latent, hidden), nn.LeakyReLU(SLOPE), nn.Linear(hidden, hidden), nn.LeakyReLU(SLOPE),
            nn.Linear(hidden, size),
        )  # fmt: skip

    def encode(
        self, rotations: Float[Tensor, "batch 23 3 3"]
    ) -> tuple[Float[Tensor, "batch latents"], Float[Tensor, "batch latents"]]:
        """Mean and logarithm of the variance of a pose's latents.

        Raises:
            ValueError: ``rotations`` is not ``(batch, 23, 3, 3)``.
        """
        if rotations.ndim != 4 or rotations.shape[1:] != (len(JOINTS), 3, 3):
            raise ValueError(
                f"rotations has shape {tuple(rotations.shape)}; expected (batch, {len(JOINTS)}, 3, 3): the "
                "body pose without global_orient."
            )
        # The identity becomes zero: most joints are near it, and a linear layer starts better there.
        rot6d = rotmat_to_rot6d(rotations - torch.eye(3).to(rotations))
        features = self.encoder(torch.cat([rot6d, _mirror_rot6d(rot6d)]).flatten(1))
        mean, image_mean = self.latent_mean(features).chunk(2)
        log_variance, image_log_variance = self.latent_log_variance(features).chunk(2)
        log_variance = 0.5 * (log_variance + image_log_variance)
        return 0.5 * (mean + self._mirror_latents(image_mean)), log_variance.clamp(-14.0, 14.0)

    def decode(self, latents: Float[Tensor, "batch latents"]) -> Float[Tensor, "batch 23 3 3"]:
        """Rotations of a pose.

        Raises:
            ValueError: the latents are not as many as the model's.
        """
        if latents.ndim != 2 or latents.shape[1] != self.config.latent:
            raise ValueError(f"latents has shape {tuple(latents.shape)}; expected (batch, {self.config.latent}).")
        identity = rotmat_to_rot6d(torch.eye(3).to(latents))
        both = self.decoder(torch.cat([latents, self._mirror_latents(latents)]))
        rot6d, image = both.unflatten(-1, (len(JOINTS), 6)).chunk(2)
        return rot6d_to_rotmat(0.5 * (rot6d + _mirror_rot6d(image)) + identity)

    def decode_body_pose(self, latents: Float[Tensor, "batch latents"]) -> Float[Tensor, "batch 69"]:
        """Rotation vectors of a pose, radians."""
        return rotmat_to_rotvec(self.decode(latents)).flatten(1)

    def kl_loss(self, rotations: Float[Tensor, "batch 23 3 3"]) -> Float[Tensor, " batch"]:
        """HKMR's ``L_KL`` of each pose: divergence of its latents from N(0, I), in nats."""
        return kl_from_standard_normal(*self.encode(rotations))

    def latent_energy(self, latents: Float[Tensor, "batch latents"]) -> PriorEnergy:
        """Least-squares form of ``z ~ N(0, I)``, for fits whose unknowns are latents."""
        return sum_of_squares(latents, diagonal(torch.ones_like(latents)))

    def log_density(self, body_pose: Float[Tensor, "batch 69"]) -> Float[Tensor, " batch"]:
        """Minus half the squared length of a pose's mean latents: N(0, I) at the encoder, not normalised."""
        return -0.5 * self._mean_of(body_pose).square().sum(-1)

    def energy(self, body_pose: Float[Tensor, "batch 69"]) -> PriorEnergy:
        """Least-squares form for fits whose unknowns are rotation vectors: residuals are the mean latents.

        The Jacobian carries no gradients of its own.

        Raises:
            ValueError: ``body_pose`` is not ``(batch, 69)``.
        """
        check_body_pose(body_pose)
        rot6d, derivatives = joint_derivatives(_rot6d_from_identity, body_pose)
        network = self._network_jacobian(rot6d).unflatten(-1, (len(JOINTS), 6))
        by_joint = torch.einsum("bljs,bjsa->blja", network, derivatives)
        return sum_of_squares(self._mean_of(body_pose), by_joint.flatten(2))

    def _network_jacobian(self, rot6d: Float[Tensor, "batch 23 6"]) -> Float[Tensor, "batch latents 138"]:
        """Derivatives of the mean latents by the 6D rotations: products of the layers' weights and slopes."""
        first, second = self.encoder[0], self.encoder[2]
        assert isinstance(first, nn.Linear) and isinstance(second, nn.Linear)
        before_first = first(torch.cat([rot6d, _mirror_rot6d(rot6d)]).flatten(1))
        before_second = second(nn.functional.leaky_relu(before_first, SLOPE))
        slopes = [torch.where(x > 0, 1.0, SLOPE).to(x)[:, None] for x in (before_first, before_second)]
        jacobian = ((self.latent_mean.weight * slopes[1]) @ second.weight * slopes[0]) @ first.weight
        own, image = jacobian.chunk(2)
        rows, joints = own.shape[:2], (len(JOINTS), 6)
        mirrored = _mirror_rot6d(image.flatten(0, 1).unflatten(-1, joints)).reshape(*rows, 6 * len(JOINTS))
        return 0.5 * (own + self._mirror_latents(mirrored.mT).mT)

    def sample(self, count: int, generator: torch.Generator) -> Float[Tensor, "count 23 3 3"]:
        """Poses decoded from latents drawn from N(0, I)."""
        weight = self.latent_mean.weight
        latents = torch.randn(count, self.config.latent, generator=generator, device=generator.device)
        return self.decode(latents.to(weight))

    def _mirror_latents(self, latents: Float[Tensor, "*batch latents"]) -> Float[Tensor, "*batch latents"]:
        kept, turned = latents.tensor_split([(self.config.latent + 1) // 2], dim=-1)
        return torch.cat([kept, -turned], dim=-1)

    def _mean_of(self, body_pose: Float[Tensor, "batch 69"]) -> Float[Tensor, "batch latents"]:
        check_body_pose(body_pose)
        return self.encode(rotvec_to_rotmat(body_pose.unflatten(-1, (len(JOINTS), 3))))[0]


def _rot6d_from_identity(body_pose: Float[Tensor, "batch 69"]) -> Float[Tensor, "batch 23 6"]:
    rotations = rotvec_to_rotmat(body_pose.unflatten(-1, (len(JOINTS), 3)))
    return rotmat_to_rot6d(rotations - torch.eye(3).to(body_pose))


def _mirror_rot6d(rot6d: Float[Tensor, "batch 23 6"]) -> Float[Tensor, "batch 23 6"]:
    """`mirror_rotmat` of a whole pose, in the 6D form; linear."""
    return rot6d[:, list(MIRROR_JOINTS)] * rot6d.new_tensor([1.0, -1.0, -1.0, 1.0, -1.0, 1.0])


def kl_from_standard_normal(
    mean: Float[Tensor, "batch latents"], log_variance: Float[Tensor, "batch latents"]
) -> Float[Tensor, " batch"]:
    """``KL(N(mean, variance) || N(0, I))``, nats (Kingma and Welling 2014, Appendix B)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(-1)


def read_vae(path: Path) -> PoseVAE:
    """A model from a file of `kouros.priors.training`, float32, in evaluation mode.

    Raises:
        ValueError: not such a file.
    """
    sizes = read_arrays(path, {"latent_mean.weight": (None, None)})["latent_mean.weight"].shape
    vae = PoseVAE(PoseVAEConfig(hidden=sizes[1], latent=sizes[0]))
    arrays = read_arrays(path, {name: tuple(value.shape) for name, value in vae.state_dict().items()})
    vae.load_state_dict({name: torch.from_numpy(value.astype(np.float32)) for name, value in arrays.items()})
    return vae.eval().requires_grad_(False)


@cache
def load_vae() -> PoseVAE:
    """The packaged model, float32; shared by all who ask, so convert a copy of it."""
    return read_vae(FOLDER / "vae.npz")
