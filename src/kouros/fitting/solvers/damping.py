"""Nielsen's rule for the damping of Levenberg-Marquardt ("Damping parameter in Marquardt's method", 1999): a step that
was taken shrinks it by how well the quadratic model predicted the gain, failures grow it ever faster.

The compiled loop (`kouros.fitting.kernels.levenberg_marquardt`) follows the same rule person by person.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

GIVEN_UP = 64
"""A growth beyond this means that no step helps."""
_STRONGEST = 1 / 5
"""What one step takes off at most. Nielsen has a third."""
_RANGE = 1e-9, 1e9


def nielsen(
    damping: Float[Tensor, " batch"],
    growth: Float[Tensor, " batch"],
    taken: Bool[Tensor, " batch"],
    gain: Float[Tensor, " batch"],
    promised: Float[Tensor, " batch"],
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """Damping and growth for the next step.

    Args:
        damping: of the last step.
        growth: by which the next failure multiplies it; 2 at first.
        taken: whether the step lowered the cost.
        gain: how much it did.
        promised: how much the quadratic model said.
    """
    ratio = gain / promised.clamp(min=1e-30)
    shrink = (1 - (2 * ratio - 1) ** 3).clamp(min=_STRONGEST)
    changed = torch.where(taken, damping * shrink, damping * growth)
    return changed.clamp(*_RANGE), torch.where(taken, 2.0, growth * 2)
