"""HMR's factorised discriminator of bodies, and its least-squares losses (Kanazawa et al., CVPR 2018, Sec. 3.2-3.3).

One judge for each joint's rotation, one for all rotations together and one for the shape: each sees little enough to
be learned from few bodies. HKMR's ablation "Discriminator" has it in place of the variational autoencoder.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kouros.networks.estimates import NUM_BETAS
from kouros.priors.body_pose import JOINTS

NUM_JUDGES = len(JOINTS) + 2
_FEATURES = 32
_HIDDEN = 1024


class PoseDiscriminator(nn.Module):
    """Scores of bodies: 1 for real ones, 0 for regressed ones. Sizes as published."""

    def __init__(self) -> None:
        super().__init__()
        # The published 1x1 convolutions over a row of joints: the same layers for each joint's nine numbers.
        self.shared = nn.Sequential(nn.Linear(9, _FEATURES), nn.ReLU(), nn.Linear(_FEATURES, _FEATURES), nn.ReLU())
        self.joint_weight = nn.Parameter(torch.empty(len(JOINTS), _FEATURES))
        self.joint_bias = nn.Parameter(torch.zeros(len(JOINTS)))
        nn.init.xavier_uniform_(self.joint_weight)
        self.whole_pose = nn.Sequential(
            nn.Linear(len(JOINTS) * _FEATURES, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, _HIDDEN), nn.ReLU(),
            nn.Linear(_HIDDEN, 1),
        )  # fmt: skip
        self.shape = nn.Sequential(nn.Linear(NUM_BETAS, 10), nn.ReLU(), nn.Linear(10, 5), nn.ReLU(), nn.Linear(5, 1))

    def forward(
        self, body_pose: Float[Tensor, "batch 23 3 3"], betas: Float[Tensor, "batch 10"]
    ) -> Float[Tensor, "batch 25"]:
        """The judges' scores: of each joint, of the whole pose, of the shape."""
        features = self.shared(body_pose.flatten(2))
        joints = (features * self.joint_weight).sum(-1) + self.joint_bias
        return torch.cat([joints, self.whole_pose(features.flatten(1)), self.shape(betas)], dim=1)


def adversarial_loss(fake: Float[Tensor, "batch judges"]) -> Float[Tensor, ""]:
    """What regressed bodies are pulled by: ``sum_i E[(D_i - 1)^2]``."""
    return (fake - 1).square().sum(-1).mean()


def discriminator_loss(real: Float[Tensor, "real judges"], fake: Float[Tensor, "fake judges"]) -> Float[Tensor, ""]:
    """What the judges learn from: ``sum_i E[(D_i(real) - 1)^2] + E[D_i(fake)^2]``."""
    return (real - 1).square().sum(-1).mean() + fake.square().sum(-1).mean()
