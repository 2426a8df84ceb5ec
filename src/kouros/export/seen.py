"""The picture of what a system saw in a photo, beside what it made of it: the skin's map or parts, and the joints."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from kouros.body.keypoints import keypoint_set
from kouros.body.surface.parts import DENSEPOSE24, part_set
from kouros.export.people import colour_of
from kouros.export.pictures import MAX_SIDE, photo_to_draw_on
from kouros.render.maps import DenseMaps

_MAP = 0.75
"""How much of a pixel's colour is the map's."""
_DOT = 160
"""The photo's longer side in radii of a joint's dot."""


@runtime_checkable
class Sight(Protocol):
    """What a system says that it saw; `kouros.systems.estimator.Estimate` does, and tells what is what."""

    @property
    def dense(self) -> DenseMaps | None:
        """What each pixel of the square shows."""

    @property
    def square(self) -> Tensor | None:
        """Its centre and side, pixels."""

    @property
    def points_2d(self) -> Tensor | None:
        """Joints, pixels."""

    @property
    def heatmaps(self) -> Tensor | None:
        """Where in the square each of them may be."""


@runtime_checkable
class SeeingPerson(Protocol):
    """A person of whom a system says what it saw; `kouros.Person` is one."""

    @property
    def estimate(self) -> Sight:
        """What it said."""


def who_was_seen(people: Sequence[object]) -> list[Sight]:
    """Estimates that hold a map of the skin or of its parts."""
    found = [person.estimate for person in people if isinstance(person, SeeingPerson)]
    return [e for e in found if e.dense is not None and _shown(e.dense) is not None and e.square is not None]


def seen_picture(
    pixels: UInt8[np.ndarray, "height width 3"], seen: Sequence[Sight], *, max_side: int = MAX_SIDE
) -> UInt8[np.ndarray, "drawn_height drawn_width 3"]:
    """Body parts in their set's colours and the joints that were found, over the photo.

    Of a map of the skin the parts are DensePose's, lighter where v is larger.

    Args:
        seen: each with a map of the skin, or of its parts, and its square.
    """
    drawn_on, factor = photo_to_draw_on(pixels, max_side)
    photo = drawn_on.copy()
    for estimate in seen:
        assert estimate.dense is not None and estimate.square is not None
        shown = _shown(estimate.dense)
        assert shown is not None
        _paint(photo, *shown, estimate.square.double().numpy() * factor)
    radius = max(2, round(max(photo.shape[:2]) / _DOT))
    for estimate in seen:
        if estimate.points_2d is not None:
            _mark(photo, estimate.points_2d.numpy() * factor, _heights(estimate), radius)
    return photo


_SURE = 0.3


def followed_picture(
    pixels: UInt8[np.ndarray, "height width 3"], people: Sequence[tuple[int, Float[np.ndarray, "points 3"], str]]
) -> UInt8[np.ndarray, "height width 3"]:
    """The keypoints of people over the picture they were found in, each person in the colour of their number.

    Args:
        people: of each the number, the keypoints (pixels, confidence) and the name of their set.
    """
    photo = np.ascontiguousarray(pixels).copy()
    width = max(2, round(max(photo.shape[:2]) / _DOT / 1.5))
    for number, keypoints, set_name in people:
        points_of = keypoint_set(set_name)
        colour = [255 * c for c in colour_of(number)]
        for edge in points_of.edges:
            ends = keypoints[[points_of.index(name) for name in edge]]
            if np.isfinite(ends).all() and ends[:, 2].min() > _SURE:
                a, b = ends[:, :2].round().astype(int).tolist()
                cv2.line(photo, a, b, colour, width, cv2.LINE_AA)
    return photo


def _shown(dense: DenseMaps) -> tuple[UInt8[np.ndarray, "rows columns 3"], Bool[np.ndarray, "rows columns"]] | None:
    """Colours of a map of the skin, else of the first map of parts, and where it shows somebody."""
    if dense.iuv is not None:
        iuv = dense.iuv.numpy()
        part = iuv[..., 0].round().astype(int)
        shade = (0.45 + 0.55 * iuv[..., 2])[..., None]
        return (DENSEPOSE24.colours[part] * shade).astype(np.uint8), part > 0
    for name, labels in dense.labels.items():
        part = labels.numpy()
        return part_set(name).colours[part], part > 0
    return None


def _paint(
    photo: UInt8[np.ndarray, "height width 3"],
    colours: UInt8[np.ndarray, "rows columns 3"],
    somebody: Bool[np.ndarray, "rows columns"],
    square: Float[np.ndarray, "3"],
) -> None:
    rows, columns = somebody.shape
    x, y, side = square
    to_photo = np.array([[side / columns, 0, x - side / 2], [0, side / rows, y - side / 2]])
    # OpenCV's pixels have their centres at whole numbers.
    to_photo[:, 2] += to_photo[:, :2].sum(1) * 0.5 - 0.5
    size = (photo.shape[1], photo.shape[0])
    drawn = cv2.warpAffine(colours, to_photo, size, flags=cv2.INTER_NEAREST)
    there = cv2.warpAffine(somebody.astype(np.uint8), to_photo, size, flags=cv2.INTER_NEAREST) > 0
    photo[there] = (_MAP * drawn[there] + (1 - _MAP) * photo[there]).astype(np.uint8)


def _mark(
    photo: UInt8[np.ndarray, "height width 3"],
    points: Float[np.ndarray, "points 2"],
    heights: Float[np.ndarray, " points"],
    radius: int,
) -> None:
    for (x, y), height in zip(points, heights, strict=True):
        if not (np.isfinite((x, y)).all() and height > 0):
            continue
        at = (round(float(x)), round(float(y)))
        marked = photo.copy()
        cv2.circle(marked, at, radius + 1, (255, 255, 255), -1, cv2.LINE_AA)
        cv2.circle(marked, at, radius, (20, 20, 20), -1, cv2.LINE_AA)
        cv2.addWeighted(marked, height, photo, 1 - height, 0, dst=photo)


def _heights(estimate: Sight) -> Float[np.ndarray, " points"]:
    """How sure the system is of each joint, in [0, 1]: how high its heatmap is."""
    assert estimate.points_2d is not None
    if estimate.heatmaps is None:
        return np.ones(len(estimate.points_2d))
    height: np.ndarray = estimate.heatmaps.flatten(-2).amax(-1).nan_to_num(0.0).clamp(0, 1).double().numpy()
    return height
