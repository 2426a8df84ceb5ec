"""Which of several: drawn with given shares, the same of a seed in every release and build of torch."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def draw_categories(shares: Float[Tensor, " some"], count: int, generator: torch.Generator) -> Int[Tensor, " count"]:
    """``count`` of several, each drawn with its share, independently.

    Args:
        shares: not negative, not all 0; they need not sum to 1.
    """
    if count != 1:
        return torch.multinomial(shares, count, replacement=True, generator=generator)
    # Of a single draw torch's multinomial, too, is the first of several exponential waits to end. But some of its
    # builds take them from MKL, so that a seed means something else there.
    uniform = torch.rand(shares.shape, generator=generator, dtype=torch.float64, device=shares.device)
    return (shares / -torch.log1p(-uniform).to(shares.dtype)).argmax()[None]
