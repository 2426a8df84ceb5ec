"""The picture to look at first: the photo with the people drawn over it, and beside it the people from their left, as
they stand in the world."""

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from kouros.export.people import PosedPerson, colour_of, require_people
from kouros.pipeline.upright import World
from kouros.render.shading import Colour, overlay, side_view

MAX_SIDE = 1024
"""The photo's longer side in the picture, pixels: enough to judge a body by, at a fraction of 12
megapixels' time."""
_GAP = 6
_PALE: Colour = (0.95, 0.95, 0.96)
_HIDDEN, _SEEN = 0.25, 0.5
"""Below the first, what is drawn is as pale as can be; above the second, in full colour."""


def overlay_picture(
    pixels: UInt8[np.ndarray, "height width 3"],
    people: Sequence[PosedPerson],
    world: World,
    *,
    max_side: int = MAX_SIDE,
) -> UInt8[np.ndarray, "drawn_height drawn_width 3"]:
    """Overlay on the left, view from the side on the right, at most ``max_side`` pixels a panel.

    The people are drawn by the first one's camera, in the colours that they have in the meshes; parts of them that the
    photo does not show, and that were completed, are pale.

    Raises:
        ValueError: there is nobody.
    """
    require_people(people)
    photo, factor = photo_to_draw_on(pixels, max_side)
    height, width = photo.shape[:2]
    camera = people[0].camera.scaled(factor)
    meshes = [(person.vertices, person.body.faces) for person in people]
    colours = [_shown(person, colour_of(i)) for i, person in enumerate(people)]
    over = overlay(photo, meshes, camera, colours)
    meshes = [(world.level(person.vertices, k), person.body.faces) for k, person in enumerate(people)]
    side = side_view(meshes, camera, (height, _side_width(width, height)), colours)
    gap = np.full((height, _GAP, 3), 255, dtype=np.uint8)
    return np.concatenate([over, gap, side], axis=1)


def _shown(person: PosedPerson, colour: Colour) -> Float[np.ndarray, "vertices 3"]:
    """A person's colour at each vertex."""
    seen = person.vertices_seen.numpy(force=True)[:, None]
    known = np.clip((seen - _HIDDEN) / (_SEEN - _HIDDEN), 0.0, 1.0)
    pale = 0.25 * np.array(colour) + 0.75 * np.array(_PALE)
    return known * np.array(colour) + (1 - known) * pale


def photo_to_draw_on(
    pixels: UInt8[np.ndarray, "height width 3"], max_side: int
) -> tuple[UInt8[np.ndarray, "drawn_height drawn_width 3"], float]:
    """The photo, made smaller where its longer side is above ``max_side``, and by which factor."""
    height, width = pixels.shape[:2]
    factor = min(1.0, max_side / max(height, width))
    if factor == 1.0:
        return np.ascontiguousarray(pixels), factor
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8), factor


def _side_width(width: int, height: int) -> int:
    """A wide photo's people are seen along the photo's width, where they take less room."""
    return min(width, height)


def png_bytes(pixels: UInt8[np.ndarray, "height width 3"]) -> bytes:
    """A PNG file, compressed fast rather than small: OpenCV's defaults, 45 ms for two panels of 1280 x 853
    pixels."""
    done, data = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    if not done:  # OpenCV says so by a flag only
        raise OSError("The picture could not be encoded as PNG.")
    return data.tobytes()
