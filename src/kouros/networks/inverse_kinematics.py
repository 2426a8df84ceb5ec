"""From 3D joints to a body: multi-layer perceptrons that fill in joints, and that tell rotations and shape from them.

Their form is the residual network of Martinez et al. (ICCV 2017); what they are for is Best of Both Worlds (Wang et
al. 2022, Sec. 3.2, Fig. 6), which names their layers.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from kouros.geometry.rotations import rot6d_to_rotmat, rotmat_to_rot6d, rotvec_to_rotmat
from kouros.networks.estimates import NUM_BETAS, MeanParameters

_ROTATIONS = 24
Coding = Literal["rotvec", "6d"]
"""How rotations are regressed: rotation vectors, as the paper has them, or 6D, which have no jumps."""


@dataclass(frozen=True)
class IkSizes:
    """Of both networks; those of the first are the paper's, which gives none for the second."""

    refiner_width: int = 256
    refiner_blocks: int = 3
    """Of two layers each."""
    width: int = 1024
    """Of GIK-Net."""
    blocks: int = 2
    coding: Coding = "rotvec"
    dropout: float = 0.1
    """After each layer of the first network; the paper does not say how much."""


class ResidualBlock(nn.Module):
    """Two fully connected layers, each with batch normalisation, ReLU and dropout, beside an identity."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        layers = [[nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(dropout)] for _ in range(2)]
        self.layers = nn.Sequential(*layers[0], *layers[1])

    def forward(self, x: Float[Tensor, "batch width"]) -> Float[Tensor, "batch width"]:
        """The sum of both."""
        return x + self.layers(x)


def _perceptron(inputs: int, width: int, blocks: int, outputs: int, dropout: float) -> nn.Sequential:
    begin = [nn.Linear(inputs, width), nn.BatchNorm1d(width), nn.ReLU()]
    return nn.Sequential(*begin, *(ResidualBlock(width, dropout) for _ in range(blocks)), nn.Linear(width, outputs))


class JointRefiner(nn.Module):
    """Fills in joints that are not known, and corrects those that are.

    With the paper's numbers some 420,000 weights. Ours: a joint that is known is corrected, which is easier to learn
    than to say it anew, and the network is told which joints those are.

    Args:
        joints: how many there are.
    """

    def __init__(self, joints: int, width: int = 256, blocks: int = 3, dropout: float = 0.1) -> None:
        super().__init__()
        self.network = _perceptron(4 * joints, width, blocks, 3 * joints, dropout)
        answer = self.network[-1]
        assert isinstance(answer, nn.Linear)
        nn.init.zeros_(answer.weight)  # begins by leaving joints where they are
        nn.init.zeros_(answer.bias)

    def forward(
        self, joints: Float[Tensor, "batch joints 3"], known: Bool[Tensor, "batch joints"]
    ) -> Float[Tensor, "batch joints 3"]:
        """All joints, metres from the root.

        Args:
            joints: metres from the root; what is not known may be anything, NaN too.
        """
        given = torch.where(known[..., None], joints, 0.0)
        seen = torch.cat([given, known[..., None].to(given)], dim=-1)
        return given + self.network(seen.flatten(1)).unflatten(-1, (-1, 3))


class GikNet(nn.Module):
    """The global inverse-kinematics network: all joints at once to all rotations and the shape.

    Rotations of people who face the camera are half a turn about x, exactly where rotation vectors jump. So the root's
    are told from there.
    """

    upright: Tensor

    def __init__(self, joints: int, width: int = 1024, blocks: int = 2, coding: Coding = "rotvec") -> None:
        super().__init__()
        self.coding = coding
        numbers = 3 if coding == "rotvec" else 6
        self.network = _perceptron(3 * joints, width, blocks, numbers * _ROTATIONS + NUM_BETAS, 0.0)
        self.register_buffer("upright", torch.diag(torch.tensor([1.0, -1.0, -1.0])), persistent=False)
        answer = self.network[-1]
        assert isinstance(answer, nn.Linear)
        with torch.no_grad():  # begins at the mean pose: near rotations that people have
            answer.weight.mul_(0.1)
            answer.bias.zero_()
            if coding == "6d":
                mean = rot6d_to_rotmat(MeanParameters.packaged().pose.unflatten(0, (_ROTATIONS, 6)))
                mean[0] = torch.eye(3)
                answer.bias[: 6 * _ROTATIONS] = rotmat_to_rot6d(mean).flatten()

    def forward(
        self, joints: Float[Tensor, "batch joints 3"]
    ) -> tuple[Float[Tensor, "batch 24 numbers"], Float[Tensor, "batch 24 3 3"], Float[Tensor, "batch 10"]]:
        """The rotations as they are regressed, the root's from upright; all as matrices, the root's against the camera;
        and betas.

        Args:
            joints: metres from the root, camera axes.
        """
        numbers, betas = self.network(joints.flatten(1)).float().split([self._numbers, NUM_BETAS], dim=-1)
        numbers = numbers.unflatten(-1, (_ROTATIONS, -1))
        return numbers, self.rotations(numbers), betas

    @property
    def _numbers(self) -> int:
        return _ROTATIONS * (3 if self.coding == "rotvec" else 6)

    def rotations(self, numbers: Float[Tensor, "batch 24 numbers"]) -> Float[Tensor, "batch 24 3 3"]:
        """Matrices of rotations as they are regressed."""
        turned = rotvec_to_rotmat(numbers) if self.coding == "rotvec" else rot6d_to_rotmat(numbers)
        return torch.cat([self.upright @ turned[:, :1], turned[:, 1:]], dim=1)

    def from_upright(self, rotations: Float[Tensor, "batch 24 3 3"]) -> Float[Tensor, "batch 24 3 3"]:
        """Rotations against the camera with the root's from upright: what is regressed, as matrices."""
        return torch.cat([self.upright.mT @ rotations[:, :1], rotations[:, 1:]], dim=1)
