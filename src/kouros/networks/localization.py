"""From maps to points: maxima of heatmaps, expectations over volumes, and what a map says at a point.

Points are in crop coordinates, -1 to 1 from one border of the crop to the other, whatever the maps' resolution.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import grid_sample, pad


def peaks(heatmaps: Float[Tensor, "batch joints rows columns"]) -> Float[Tensor, "batch joints 3"]:
    """Where each heatmap is highest, x and y, and how high; a map with NaN has no height.

    The place is the mean of the highest cell and its eight neighbours, each counting as much as its height above zero,
    so that it is finer than a cell. Without gradients: a maximum has none.
    """
    with torch.no_grad():
        broken = heatmaps.isnan().any(-1).any(-1)
        clean = torch.where(broken[..., None, None], 0.0, heatmaps)
        rows, columns = clean.shape[-2:]
        height, cell = clean.flatten(2).max(-1)
        padded = pad(clean, (1, 1, 1, 1)).clamp(min=0).flatten(2)
        row, column = cell // columns, cell % columns
        steps = torch.arange(3, device=cell.device)
        near = ((row[..., None] + steps)[..., :, None] * (columns + 2)) + (column[..., None] + steps)[..., None, :]
        weight = padded.gather(2, near.flatten(2)).unflatten(2, (3, 3))
        total = weight.sum((-2, -1)).clamp(min=1e-9)
        off = (steps - 1).to(clean)
        x = column + 0.5 + (weight.sum(-2) * off).sum(-1) / total
        y = row + 0.5 + (weight.sum(-1) * off).sum(-1) / total
        found = torch.stack([2 * x / columns - 1, 2 * y / rows - 1, torch.where(broken, -torch.inf, height)], dim=-1)
        return found.to(heatmaps)


def expected_points(scores: Float[Tensor, "batch joints depth rows columns"]) -> Float[Tensor, "batch joints 3"]:
    """The mean place in each volume by its softmax: x, y, and depth, each from -1 to 1, far is positive.

    Integral regression (Sun et al., ECCV 2018, Eq. 3): unlike a maximum it can be learned through.
    """
    chances = scores.flatten(2).softmax(-1).unflatten(2, scores.shape[2:])
    along = (chances.sum((2, 3)), chances.sum((2, 4)), chances.sum((3, 4)))
    return torch.stack([(share * _centres(share)).sum(-1) for share in along], dim=-1)


def values_at(
    maps: Float[Tensor, "batch channels rows columns"], points: Float[Tensor, "batch points 2"]
) -> Float[Tensor, "batch points channels"]:
    """What maps say at points, bilinearly; beyond the maps it falls to zero."""
    return grid_sample(maps, points[:, :, None].to(maps), align_corners=False)[..., 0].mT


def _centres(like: Float[Tensor, "*batch cells"]) -> Float[Tensor, " cells"]:
    cells = like.shape[-1]
    return 2 * (torch.arange(cells, dtype=like.dtype, device=like.device) + 0.5) / cells - 1
