"""The photo's colours on the bodies: each vertex that the photo shows has the colour of the pixel in which it shows."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from kouros.export.people import PosedPerson
from kouros.export.pictures import MAX_SIDE, photo_to_draw_on
from kouros.pipeline.visibility import SEEN
from kouros.render.attributes import vertex_normals
from kouros.render.rasterize import rasterize

GREY = 0.6
"""sRGB, of what nobody has seen."""
_FACING = 0.2
"""Cosine between the skin's normal and the line of sight: what is seen more from the side is mostly background."""
_BEHIND = 0.03
"""Metres behind the nearest skin of a pixel at which a vertex still is that skin."""
_EDGE = 3
"""Pixels: no colour is taken from nearer to a silhouette, which is a little off everywhere."""


def photo_colours(
    pixels: UInt8[np.ndarray, "height width 3"], people: Sequence[PosedPerson], *, max_side: int = MAX_SIDE
) -> list[Float[np.ndarray, "vertices 3"]]:
    """Of each person's vertices, sRGB in [0, 1]: the photo's where it shows them, `GREY` elsewhere.

    Not shown is what faces away, what lies behind somebody else or behind the person's own limbs, beyond the picture's
    edge, or was completed (`PosedPerson.vertices_seen`). Light and shadow of the photo stay in the colours.

    Args:
        pixels: the photo, straightened as the people's camera has it.
        people: all of them, of one camera.
        max_side: of the photo that colours are taken from, its longer side, pixels.
    """
    photo, factor = photo_to_draw_on(pixels, max_side)
    height, width = photo.shape[:2]
    camera = people[0].camera.scaled(factor)
    vertices = [person.vertices.detach().cpu().float() for person in people]
    starts = np.cumsum([0, *(len(v) for v in vertices)])
    faces = [person.body.faces.cpu().long() + int(start) for person, start in zip(people, starts, strict=False)]
    depth = rasterize(torch.cat(vertices)[None], torch.cat(faces), camera, (height, width)).depth[0].numpy()
    found = []
    for person, points in zip(people, vertices, strict=True):
        shown, at = _shown(person, points, camera.project(points), depth)
        colours = np.full((len(points), 3), GREY)
        colours[shown] = _sampled(photo, at[shown])
        found.append(colours)
    return found


def _shown(
    person: PosedPerson, points: Float[Tensor, "vertices 3"], pixels: Float[Tensor, "vertices 2"], depth: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Which vertices the photo shows; and where, pixels."""
    height, width = depth.shape
    at = pixels.double().numpy()
    inside = (at >= 0).all(axis=1) & (at < (width, height)).all(axis=1) & (points[:, 2].numpy() > 0)
    columns, rows = (np.where(inside, at[:, k], 0).astype(np.int64) for k in (0, 1))
    covered = np.pad(np.isfinite(depth).astype(np.uint8), 1, mode="edge")
    within = cv2.erode(covered, np.ones((2 * _EDGE + 1, 2 * _EDGE + 1), np.uint8))[1:-1, 1:-1] > 0
    normals = vertex_normals(points, person.body.faces.cpu())
    facing = -(normals * torch.nn.functional.normalize(points, dim=1)).sum(1).numpy()
    seen = person.vertices_seen.detach().cpu().numpy() >= SEEN
    nearest = points[:, 2].numpy() < depth[rows, columns] + _BEHIND
    return inside & within[rows, columns] & (facing > _FACING) & seen & nearest, at


def _sampled(photo: UInt8[np.ndarray, "height width 3"], at: Float[np.ndarray, "points 2"]) -> np.ndarray:
    """The photo between pixels, in [0, 1]."""
    if not len(at):
        return np.zeros((0, 3))
    # OpenCV's pixels have their centres at whole numbers.
    places = (at - 0.5).astype(np.float32)
    taken = cv2.remap(
        photo, places[:, None, :1], places[:, None, 1:], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return taken.reshape(-1, 3).astype(np.float64) / 255
