"""Body parts and joints as pictures that a network can look at (Omran et al., 3DV 2018, Sec. 4.2 and 4.3): in colours,
or one number for each.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from kouros.body.keypoints import KeypointSet
from kouros.body.surface.parts import PARTS24, PartSet

_JOINT_WIDTH = 1 / 64
"""Standard deviation of a joint's heatmap, in sides of the picture."""


def in_colours(
    shares: Float[Tensor, "batch channels rows columns"], colours: Float[Tensor, "channels 3"]
) -> Float[Tensor, "batch 3 rows columns"]:
    """Each pixel in the mixture of the colours of what it is: of labels one colour, of probabilities their mean."""
    return torch.einsum("bnhw,nc->bchw", shares, colours.to(shares)).clamp(max=1.0)


def label_shares(
    labels: Int[Tensor, "batch rows columns"], parts: PartSet
) -> Float[Tensor, "batch labels rows columns"]:
    """One for the label that a pixel has, zero for the others.

    Raises:
        ValueError: a label that the set has not.
    """
    if int(labels.min()) < 0 or int(labels.max()) > len(parts):
        wrong = labels[(labels < 0) | (labels > len(parts))]
        raise ValueError(f"The part map holds the label {int(wrong[0])}; {parts.name} has 0 to {len(parts)}.")
    return one_hot(labels.long(), 1 + len(parts)).permute(0, 3, 1, 2).float()


def coloured_labels(labels: Int[Tensor, "batch rows columns"], parts: PartSet) -> Float[Tensor, "batch 3 rows columns"]:
    """A part map as it is painted.

    Raises:
        ValueError: as `label_shares`.
    """
    return in_colours(label_shares(labels, parts), part_colours(parts))


def heatmaps(
    points: Float[Tensor, "batch points 3"], size: int, width: float = _JOINT_WIDTH
) -> Float[Tensor, "batch points size size"]:
    """A Gaussian of height 1 around each known point, nothing of the others.

    Args:
        points: x, y in crop coordinates, and confidence.
        width: standard deviation, in sides of the picture.
    """
    at = (torch.arange(size, dtype=points.dtype, device=points.device) + 0.5) / size
    place, known = (points[..., :2] + 1) / 2, points[..., 2] > 0
    across, down = (torch.exp(-0.5 * ((at - place[..., i, None]) / width) ** 2) for i in (0, 1))
    return down[..., :, None] * across[..., None, :] * known[..., None, None]


def part_colours(parts: PartSet) -> Float[Tensor, "labels 3"]:
    """Red, green, blue in [0, 1] of the background and each part."""
    return torch.from_numpy(parts.colours).float() / 255


def joint_colours(points: KeypointSet) -> Float[Tensor, "points 3"]:
    """Red, green, blue in [0, 1]: each joint in its skin's colour."""
    names = [name.removesuffix("_lsp").replace("head_top", "head") for name in points.names]
    return part_colours(PARTS24)[[PARTS24.label(name) for name in names]]
