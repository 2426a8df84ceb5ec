"""Children: the free body's betas beyond the first ten, which are of adults, and the body of a child of some height."""

from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from kouros.archives import read_npz
from kouros.body.files import DEFAULT_BETAS, FREE_BODY, shared_body
from kouros.body.model import BodyModel

GROWN = 1.35
"""Metres: whoever is smaller is taken for a child. Nine-year-olds are so tall, and hardly any adult is smaller."""


def child_body() -> BodyModel:
    """The free body with the betas of growth after the first ten; read once in a process."""
    return shared_body(None, DEFAULT_BETAS + _curve()[0].shape[1])


def child_betas(height: float) -> Float[Tensor, " betas"]:
    """Betas of `child_body` for the mean child of a height, metres; of newborns' heights on, to `GROWN`."""
    betas, statures, _ = _curve()
    growing = torch.tensor([float(_line(height, statures, column)) for column in betas.T])
    return torch.cat([torch.zeros(DEFAULT_BETAS), growing])


def age_of(height: float) -> float:
    """Years at which children are so tall, metres, on the mean of boys and girls; at least 0."""
    _, statures, ages = _curve()
    return max(0.0, float(_line(height, statures, ages)))


def _line(at: float, places: np.ndarray, values: np.ndarray) -> float:
    """Linear between the places and beyond them."""
    k = int(np.clip(np.searchsorted(places, at), 1, len(places) - 1))
    share = (at - places[k - 1]) / (places[k] - places[k - 1])
    return values[k - 1] + share * (values[k] - values[k - 1])


@cache
def _curve() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Betas, statures and ages along growth."""
    shapes = {"growth_betas": (None, None), "growth_statures": (None,), "growth_ages": (None,)}
    arrays = read_npz(FREE_BODY, {name: (shape, "float64") for name, shape in shapes.items()})
    return arrays["growth_betas"], arrays["growth_statures"], arrays["growth_ages"]
