"""What every metric asks of its numbers: that they are finite wherever they count."""

import torch
from torch import Tensor


def require_finite(what: str, values: Tensor, valid: Tensor | None = None) -> None:
    """Stop on NaN or infinity instead of reporting a score made of it.

    Args:
        what: name of the values, for the message.
        values: any shape.
        valid: the places that count, of ``values``' leading shape; default: all.

    Raises:
        ValueError: a value that counts is not finite.
    """
    bad = ~torch.isfinite(values)
    if valid is not None:
        bad &= valid.reshape(valid.shape + (1,) * (values.ndim - valid.ndim))
    if bad.any():
        where = tuple(int(i) for i in bad.nonzero()[0])
        raise ValueError(
            f"{what} is {float(values[where])} at index {where} (first of {int(bad.sum())}); metrics need "
            f"finite "
            f"numbers: mark missing ground truth in `valid`, and score failed predictions as what they cost."
        )
