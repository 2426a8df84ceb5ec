"""Pictures for the log: crops, and drawn over them what was predicted and what that was pulled to."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import interpolate

from kouros.body.model import BodyModel
from kouros.body.parameters import Bodies
from kouros.geometry.cameras import SPIN_CROP_SIZE, SPIN_FOCAL_LENGTH, PerspectiveCamera
from kouros.render.shading import PERSON_COLOURS, overlay

_GAP = 4
"""White pixels between pictures."""


@torch.no_grad()
def people_sheet(
    image: Float[Tensor, "batch 3 size size"],
    predicted: Bodies,
    target: Bodies | None,
    body: BodyModel,
    people: int = 8,
) -> UInt8[np.ndarray, "height width 3"]:
    """One row for each of the first people: the crop, the prediction, and the target where there is one.

    Args:
        body: that both are of, where they are.
    """
    people = min(people, len(image))
    crops = (image[:people].detach().float().cpu().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    columns = [list(crops)]
    for bodies, colour in ((predicted, PERSON_COLOURS[0]), (target, PERSON_COLOURS[1])):
        if bodies is not None:
            columns.append(_drawn(list(crops), bodies, body, colour))
    return _stacked([_stacked(list(row), axis=1) for row in zip(*columns, strict=True)], axis=0)


@torch.no_grad()
def sheet(columns: Sequence[Float[Tensor, "batch 3 _rows _columns"]]) -> UInt8[np.ndarray, "height width 3"]:
    """One row for each person, of pictures in [0, 1] side by side; all are as large as those of the first column."""
    size = columns[0].shape[-1]
    drawn = [interpolate(c.detach().float().cpu(), size=(size, size), mode="nearest-exact") for c in columns]
    pixels = [(255 * d.clamp(0, 1)).round().byte().permute(0, 2, 3, 1).numpy() for d in drawn]
    return _stacked([_stacked(list(row), axis=1) for row in zip(*pixels, strict=True)], axis=0)


def _drawn(crops: list[np.ndarray], bodies: Bodies, body: BodyModel, colour: tuple[float, float, float]) -> list:
    size = crops[0].shape[0]
    posed = bodies[: len(crops)].map(lambda t: t.detach().float()).posed_by(body).vertices.cpu()
    faces = body.faces.cpu()
    camera = PerspectiveCamera(
        torch.tensor(SPIN_FOCAL_LENGTH * size / SPIN_CROP_SIZE), torch.tensor([size / 2, size / 2])
    )
    pictures = []
    for crop, vertices in zip(crops, posed, strict=True):
        # Early predictions may stand behind the camera, where there is nothing to draw.
        visible = bool(torch.isfinite(vertices).all()) and float(vertices[:, 2].min()) > 0
        pictures.append(overlay(crop, [(vertices, faces)], camera, [colour], alpha=0.8) if visible else crop)
    return pictures


def _stacked(pictures: list[np.ndarray], axis: int) -> np.ndarray:
    shape = list(pictures[0].shape)
    shape[axis] = _GAP
    gap = np.full(shape, 255, dtype=np.uint8)
    return np.concatenate([part for p in pictures for part in (gap, p)][1:], axis=axis)
