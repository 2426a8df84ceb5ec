"""Systems side by side: a column each, the photo with its bodies above, the same bodies from the side below."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from jaxtyping import UInt8

from kouros.export.people import colour_of
from kouros.export.pictures import photo_to_draw_on
from kouros.pipeline.person import Person
from kouros.render.shading import overlay, side_view

_GAP, _TITLE = 6, 34
COLUMN = 640
"""Longer side of a system's photo, pixels."""


def comparison_picture(
    pixels: UInt8[np.ndarray, "height width 3"], people: Mapping[str, Sequence[Person | None]]
) -> UInt8[np.ndarray, "drawn_height drawn_width 3"]:
    """The same people as each system has them, in the same colours.

    Args:
        pixels: the photo, RGB.
        people: by the system's name, all in one order.

    Raises:
        ValueError: there is no system.
    """
    if not people:
        raise ValueError("There is no system to compare; expected at least one.")
    columns = [_column(pixels, name, list(found)) for name, found in people.items()]
    gap = np.full((columns[0].shape[0], _GAP, 3), 255, dtype=np.uint8)
    return np.concatenate([part for column in columns for part in (gap, column)][1:], axis=1)


def _column(pixels: np.ndarray, name: str, found: list[Person | None]) -> np.ndarray:
    shown = [(person, colour_of(i)) for i, person in enumerate(found) if person is not None]
    photo, factor = photo_to_draw_on(pixels, COLUMN)
    height, width = photo.shape[:2]
    side = np.full_like(photo, 244)
    if shown:
        camera = shown[0][0].camera.scaled(factor)
        meshes = [(person.vertices, person.body.faces) for person, _ in shown]
        colours = [colour for _, colour in shown]
        photo = overlay(photo, meshes, camera, colours)
        side = side_view(meshes, camera, (height, width), colours)
    title = np.full((_TITLE, width, 3), 255, dtype=np.uint8)
    cv2.putText(title, name, (6, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (30, 30, 30), 1, cv2.LINE_AA)
    gap = np.full((_GAP, width, 3), 255, dtype=np.uint8)
    return np.concatenate([title, photo, gap, side], axis=0)
