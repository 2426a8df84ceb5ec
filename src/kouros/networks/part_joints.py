"""One point in space for each part of a body, from what is seen where the part is and from the crop as a whole.

A pixel by itself hardly sees how deep it lies: that is told by how all parts lie to each other. So features are pooled
over each part by how likely pixels show it (part attention, as PARE has it: Kocabas et al., ICCV 2021), and one
perceptron sees all of them, with where they are.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

_NARROW = 32
"""Numbers that are kept of each part's features."""
_OVERALL = 96
"""And of the whole crop's."""
_BLOCKS = 2


class PartJoints(nn.Module):
    """A point for each part.

    Args:
        parts: how many there are.
        channels: of the features that are pooled.
        overall: numbers that describe the whole crop.
        width: of the perceptron.
    """

    def __init__(self, parts: int, channels: int, overall: int, width: int) -> None:
        super().__init__()
        self.parts = parts
        self.narrow = nn.Linear(channels, _NARROW)
        self.overall = nn.Sequential(nn.LayerNorm(overall), nn.Linear(overall, _OVERALL))
        self.begin = nn.Linear(parts * (_NARROW + 3) + _OVERALL, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, width)) for _ in range(_BLOCKS)
        )
        self.answer = nn.Sequential(nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, 3 * parts))

    def forward(
        self,
        features: Float[Tensor, "batch channels rows columns"],
        seen: Float[Tensor, "batch parts rows columns"],
        overall: Float[Tensor, "batch numbers"],
    ) -> Float[Tensor, "batch parts 3"]:
        """The points, in whatever unit is learned.

        Args:
            seen: how likely each pixel shows each part, in [0, 1]; nothing is learned through it.
        """
        weight = seen.detach().flatten(2)
        count = weight.sum(-1, keepdim=True)
        places = torch.cat([self._places(features), features.flatten(2)], dim=1)
        # Of a part that is not seen the means fade to 0.
        pooled = weight @ places.mT / (count + 1)
        where, what = pooled.split([2, pooled.shape[-1] - 2], dim=-1)
        share = count / (count + 1)
        numbers = torch.cat([self.narrow(what), where, share], dim=-1).flatten(1)
        x = self.begin(torch.cat([numbers, self.overall(overall)], dim=1))
        for block in self.blocks:
            x = x + block(x)
        answer: Tensor = self.answer(x)
        return answer.unflatten(1, (self.parts, 3))

    @staticmethod
    def _places(features: Float[Tensor, "batch channels rows columns"]) -> Float[Tensor, "batch 2 pixels"]:
        """Crop coordinates, x and y, of the pixels' centres."""
        rows, columns = ((2 * torch.arange(n, device=features.device) + 1) / n - 1 for n in features.shape[-2:])
        across, down = torch.broadcast_tensors(columns[None, :], rows[:, None])
        return torch.stack([across, down]).flatten(1).to(features).expand(len(features), -1, -1)
