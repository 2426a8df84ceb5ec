"""How far in front of the hips, or behind them, each joint of a person lies, from what MoveNet's trunk makes of them.

Points in a picture say nothing of depth, and networks that saw landmarks only guess it from the pose. The trunk has
seen real people, and what it knows of limbs that come forward, overlap or shorten is in its maps: a small head reads it
off them. For each joint it looks somewhere (an attention map), takes the depth that the place suggests, and corrects it
by what the whole suggests; as with integral regression (Sun et al., ECCV 2018), but in one dimension.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import dropout2d, interpolate, pixel_unshuffle

from kouros.batched import Batched

JOINTS = 17
"""COCO's points, in COCO's order."""
PLACES = 16
"""Rows and columns of the features."""
FINER, COARSEST = 281, 560
"""Numbers of a place at the features' own resolution, and of one at half of it."""
_GROUPS = 8


@dataclass(frozen=True)
class JointDepths(Batched):
    """In sides of the square that was looked at."""

    depth: Float[Tensor, "batch 17"]
    """Along the line of sight, relative to the middle of the hips; positive is farther away."""
    spread: Float[Tensor, "batch 17"]
    """Expected absolute error."""


class DepthHead(nn.Module):
    """From features of `kouros.networks.movenet.packed_features` to depths.

    Args:
        width: channels of everything inside.
        blocks: residual ones, of two 3 x 3 convolutions each.
    """

    def __init__(self, width: int = 128, blocks: int = 4) -> None:
        super().__init__()
        if width % _GROUPS:
            raise ValueError(f"width is {width}; expected a multiple of {_GROUPS}.")
        self.width = width
        self.finer = nn.Sequential(nn.Conv2d(FINER, width, 1, bias=False), nn.GroupNorm(_GROUPS, width))
        self.coarsest = nn.Sequential(nn.Conv2d(COARSEST, width, 1, bias=False), nn.GroupNorm(_GROUPS, width))
        self.blocks = nn.ModuleList(_Block(width) for _ in range(blocks))
        self.maps = nn.Conv2d(width, 3 * JOINTS, 1)
        self.whole = nn.Linear(width, 2 * JOINTS)
        # Begin with everything as far as the hips.
        with torch.no_grad():
            for parameter in (*self.maps.parameters(), *self.whole.parameters()):
                parameter.zero_()

    def forward(self, features: Float[Tensor, "batch 16 16 421"], forget: float = 0.0) -> JointDepths:
        """Depths of each person.

        Args:
            forget: share of the features' channels that are left out, to learn not to rely on single ones.
        """
        return self._looked(features, forget)[0]

    @property
    def num_described(self) -> int:
        """Numbers of `described`."""
        return JOINTS * (4 + self.width) + self.width

    def described(self, features: Float[Tensor, "batch 16 16 421"]) -> Float[Tensor, "batch numbers"]:
        """What the head has made of each joint, for others to go on from.

        Depths, logarithms of their spreads, and where the head looked for each joint (x and y from -1 to 1); what it
        has there, joint by joint; and the mean of that over all places.
        """
        found, where, x = self._looked(features, 0.0)
        there = where @ x.flatten(2).mT
        parts = (found.depth, found.spread.log(), where @ places_in_square(x), there, x.mean((2, 3)))
        return torch.cat([part.flatten(1) for part in parts], 1)

    def _looked(
        self, features: Float[Tensor, "batch 16 16 421"], forget: float
    ) -> tuple[JointDepths, Float[Tensor, "batch 17 places"], Float[Tensor, "batch width 16 16"]]:
        """Depths, where each was looked for, and what there is at each place."""
        seen = features.permute(0, 3, 1, 2)
        finer, coarsest = seen[:, :FINER], pixel_unshuffle(seen[:, FINER:], 2)
        if forget:
            finer, coarsest = dropout2d(finer, forget), dropout2d(coarsest, forget)
        x = torch.relu(self.finer(finer) + interpolate(self.coarsest(coarsest), scale_factor=2, mode="bilinear"))
        for block in self.blocks:
            x = block(x)
        where, depth, doubt = self.maps(x).flatten(2).split(JOINTS, dim=1)
        where = where.softmax(-1)
        depth, doubt = ((where * values).sum(-1) for values in (depth, doubt))
        more, doubted = self.whole(x.mean((2, 3))).split(JOINTS, dim=1)
        return JointDepths(depth + more, torch.exp((doubt + doubted).clamp(-4.0, 4.0) - 3.0)), where, x


def places_in_square(like: Tensor) -> Float[Tensor, "places 2"]:
    """x and y of each place, row by row, from -1 to 1 across the square."""
    along = torch.linspace(-1 + 1 / PLACES, 1 - 1 / PLACES, PLACES).to(like)
    return torch.stack(torch.meshgrid(along, along, indexing="xy"), -1).flatten(0, 1)


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.GroupNorm(_GROUPS, width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.GroupNorm(_GROUPS, width),
        )

    def forward(self, x: Float[Tensor, "batch width rows columns"]) -> Float[Tensor, "batch width rows columns"]:
        return torch.relu(x + self.residual(x))
