"""How tall bodies are, and the shape of a body of a given height."""

import torch
from jaxtyping import Float
from torch import Tensor

from kouros.body.model import BodyModel

_ROUNDS = 4
"""Newton steps; height is all but linear in betas."""


def stature(body: BodyModel, betas: Float[Tensor, "people betas"]) -> Float[Tensor, " people"]:
    """From sole to crown in the rest pose, metres."""
    upright = body.v_template[:, 1] + torch.einsum("vb,nb->nv", body.shapedirs[:, 1], betas)
    return upright.amax(-1) - upright.amin(-1)


def of_stature(
    body: BodyModel, betas: Float[Tensor, "people betas"], height: Float[Tensor, " people"]
) -> Float[Tensor, "people betas"]:
    """The nearest shapes (by the betas' standard deviations) that are so tall, metres."""
    nearest = betas.clone()
    for _ in range(_ROUNDS):
        upright = body.v_template[:, 1] + torch.einsum("vb,nb->nv", body.shapedirs[:, 1], nearest)
        slope = body.shapedirs[upright.argmax(-1), 1] - body.shapedirs[upright.argmin(-1), 1]
        missing = height - (upright.amax(-1) - upright.amin(-1))
        nearest = nearest + missing[:, None] * slope / slope.square().sum(-1, keepdim=True)
    return nearest
