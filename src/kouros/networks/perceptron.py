"""Residual perceptrons: on numbers that are no picture."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import gelu


class ResidualLayer(nn.Module):
    """Two layers beside a shortcut, normalised before them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, width)
        self.down = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        """The sum of shortcut and layers."""
        return x + self.down(gelu(self.up(self.norm(x))))


class Neck(nn.Module):
    """Between a held backbone, which cannot learn what it is needed for, and a regressor that is nearly linear.

    Args:
        num_features: of the backbone.
        width: numbers that it makes of them.
        blocks: residual layers.
        dropout: share of the backbone's numbers that training leaves out.
    """

    def __init__(self, num_features: int, width: int, blocks: int = 2, dropout: float = 0.2) -> None:
        super().__init__()
        # A held backbone's numbers differ in size by orders of magnitude; they are to count alike.
        self.alike = nn.BatchNorm1d(num_features, affine=False)
        self.forget = nn.Dropout(dropout)
        self.first = nn.Linear(num_features, width)
        self.blocks = nn.Sequential(*(ResidualLayer(width) for _ in range(blocks)))
        self.norm = nn.LayerNorm(width)

    def forward(self, features: Float[Tensor, "batch features"]) -> Float[Tensor, "batch width"]:
        """What the regressor goes on from."""
        x: Tensor = self.norm(self.blocks(self.first(self.forget(self.alike(features)))))
        return x
