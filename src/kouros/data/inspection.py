"""What a table holds, at a glance: how many rows know each field, how numbers spread, and a sheet of people.

The sheet shows each person's crop with boxes and keypoints, which is where a wrong offset, a swapped side or a
box of another size is seen at once.
"""

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from jaxtyping import UInt8

from kouros.body.keypoints import LSP14, OPENPOSE25, SPIN49, KeypointSet
from kouros.data.images import ImageError, read_image
from kouros.data.schema import SAMPLE_FIELDS, Sample
from kouros.data.sources import Source
from kouros.data.tables import AnnotationTable

_MARGIN = 1.25
_LEFT, _RIGHT, _MIDDLE = (255, 96, 64), (64, 160, 255), (96, 230, 96)
_SQUARE, _TIGHT = (255, 220, 0), (255, 255, 255)
_EMPTY = 90


def counts(table: AnnotationTable) -> dict[str, int]:
    """Rows that know each field."""
    return {name: int(table.has(name).sum()) for name in SAMPLE_FIELDS}


@dataclass(frozen=True)
class Histogram:
    """How one number spreads over the rows that know it."""

    what: str
    bins: tuple[str, ...]
    """The values in each, as a text: ``3.2 - 4.5``, or whole numbers ``3 - 4``, both included."""
    counts: tuple[int, ...]


def histograms(table: AnnotationTable, bins: int = 8) -> list[Histogram]:
    """Box sizes, annotated points a person, distances from the camera; those that the table has."""
    values: dict[str, np.ndarray] = {}
    size = table.column("box_size")
    values["box side, pixels"] = size.values[size.has]
    if table.info.keypoints_2d is not None:
        points = table.column("keypoints_2d")
        values["annotated keypoints"] = (points.values[points.has][..., 2] > 0).sum(axis=1)
    if table.info.keypoints_3d is not None and table.info.keypoints_3d_origin == "camera":
        points = table.column("keypoints_3d")
        known = points.values[points.has]
        weight = known[..., 3] > 0
        some = weight.any(axis=1)
        depth = (known[..., 2] * weight).sum(axis=1)[some] / weight.sum(axis=1)[some]
        values["distance, metres"] = depth
    made = []
    for what, numbers in values.items():
        if len(numbers):
            made.append(_histogram(what, numbers, bins))
    return made


def _histogram(what: str, numbers: np.ndarray, bins: int) -> Histogram:
    if numbers.dtype.kind in "iu":
        first, last = int(numbers.min()), int(numbers.max())
        step = -(-(last - first + 1) // bins)
        starts = range(first, last + 1, step)
        names = [f"{s}" if step == 1 else f"{s} - {s + step - 1}" for s in starts]
        heights = np.bincount((numbers - first) // step, minlength=len(starts))
    else:
        heights, edges = np.histogram(numbers, bins=bins)
        names = [f"{low:.4g} - {high:.4g}" for low, high in pairwise(edges)]
    return Histogram(what, tuple(names), tuple(heights.tolist()))


def contact_sheet(
    table: AnnotationTable,
    *,
    people: int = 24,
    columns: int = 6,
    side: int = 256,
    seed: int = 0,
    source: Source | None = None,
) -> UInt8[np.ndarray, "height width 3"]:
    """Crops of people drawn at random, in the table's order, with boxes and keypoints.

    The square box is yellow, the data set's own box white; the person's left is red, the right blue, the rest
    green; hidden points are rings. A picture that cannot be read leaves a grey square that says so.

    Args:
        source: of the pictures, for a table whose pictures are drawn on demand; default: the table's files.

    Raises:
        ValueError: the table has no rows.
    """
    if not len(table):
        raise ValueError(f"{table.path}: the table has no rows; import the data set again.")
    rows = np.sort(np.random.default_rng(seed).permutation(len(table))[:people])
    columns = min(columns, len(rows))
    height = -(-len(rows) // columns)
    sheet = np.full((height * side, columns * side, 3), _EMPTY, dtype=np.uint8)
    for place, row in enumerate(rows):
        down, along = divmod(place, columns)
        tile = _tile(table, source, int(row), side)
        sheet[down * side : (down + 1) * side, along * side : (along + 1) * side] = tile
    return sheet


def _tile(table: AnnotationTable, source: Source | None, row: int, side: int) -> UInt8[np.ndarray, "side side 3"]:
    sample = table[row]
    try:
        pixels = read_image(table.image_file(sample)).pixels if source is None else source.image(row)
    except ImageError:
        tile = np.full((side, side, 3), _EMPTY, dtype=np.uint8)
        reason = "video" if sample.frame is not None else "no picture"
        _write(tile, f"{row}: {reason}")
        return tile
    center, extent = _region(sample, pixels.shape[1], pixels.shape[0])
    scale = side / (_MARGIN * extent)
    # Pixel centres lie at halves in the table, at whole numbers in OpenCV.
    offset = side / 2 - scale * center
    to_tile = np.c_[np.eye(2) * scale, offset + 0.5 * scale - 0.5]
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    warped = cv2.warpAffine(pixels, to_tile, (side, side), flags=method, borderValue=(_EMPTY,) * 3)
    tile = np.asarray(warped, dtype=np.uint8)
    if sample.bbox is not None:
        _rectangle(tile, scale * sample.bbox.reshape(2, 2) + offset, _TIGHT)
    if sample.box_center is not None and sample.box_size is not None:
        half = sample.box_size / 2
        _rectangle(tile, scale * (sample.box_center + np.array([[-half], [half]])) + offset, _SQUARE)
    if sample.keypoints_2d is not None and table.info.keypoints_2d is not None:
        points = np.c_[scale * sample.keypoints_2d[:, :2] + offset, sample.keypoints_2d[:, 2]]
        _skeleton(tile, table.info.keypoints_2d, points, sample.visible)
    _write(tile, str(row))
    return tile


def _region(sample: Sample, width: int, height: int) -> tuple[np.ndarray, float]:
    """Centre and side of what a tile shows: the person's box, or else the whole picture."""
    if sample.box_center is not None and sample.box_size is not None:
        return np.asarray(sample.box_center, dtype=np.float64), float(sample.box_size)
    if sample.bbox is not None:
        low, high = sample.bbox.reshape(2, 2).astype(np.float64)
        return (low + high) / 2, max(float((high - low).max()), 1.0)
    return np.array([width / 2, height / 2]), float(max(width, height))


def _skeleton(tile: np.ndarray, points_of: KeypointSet, points: np.ndarray, visible: np.ndarray | None) -> None:
    known = points[:, 2] > 0
    places = [(round(float(x) - 0.5), round(float(y) - 0.5)) for x, y in points[:, :2]]
    colours = [_colour(name) for name in points_of.names]
    for ends in _edges(points_of):
        a, b = (points_of.index(name) for name in ends)
        if known[a] and known[b]:
            colour = colours[a] if colours[a] == colours[b] else _MIDDLE
            cv2.line(tile, places[a], places[b], colour, 1, cv2.LINE_AA)
    for index in np.flatnonzero(known):
        filled = visible is None or visible[index]
        cv2.circle(tile, places[index], 3, colours[index], -1 if filled else 1, cv2.LINE_AA)


def _edges(points: KeypointSet) -> tuple[tuple[str, str], ...]:
    """Lines to draw; SPIN's set, which is of two halves, has none of its own but those of its parts."""
    if points.edges or points.names != SPIN49.names:
        return points.edges
    detected = (tuple(SPIN49.names[OPENPOSE25.index(name)] for name in ends) for ends in OPENPOSE25.edges)
    return (*((a, b) for a, b in detected), *LSP14.edges)


def _colour(name: str) -> tuple[int, int, int]:
    if name.startswith("left"):
        return _LEFT
    return _RIGHT if name.startswith("right") else _MIDDLE


def _rectangle(tile: np.ndarray, corners: np.ndarray, colour: tuple[int, int, int]) -> None:
    (x0, y0), (x1, y1) = np.round(corners - 0.5).astype(int).tolist()
    cv2.rectangle(tile, (x0, y0), (x1, y1), colour, 1)


def _write(tile: np.ndarray, text: str) -> None:
    for colour, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(tile, text, (5, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, thickness, cv2.LINE_AA)
