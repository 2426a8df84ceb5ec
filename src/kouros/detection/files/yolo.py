"""Ultralytics' YOLO-pose: what ``Results.to_json()`` writes, in pixels or normalised.

Format: ``Results.summary`` of https://github.com/ultralytics/ultralytics/blob/main/ultralytics/engine/results.py.
"""

from typing import Any

import numpy as np

from kouros.detection.files.found import FoundFile, FoundImage, FoundPerson, box_of, triples
from kouros.detection.usable import UnusableError

LOOKS_LIKE = 'YOLO-pose: [{"box": {"x1": ...}, "keypoints": {"x": [...], "y": [...], "visible": [...]}}]'


def recognises(content: Any) -> bool:
    """A list of detections with the coordinates apart."""
    return isinstance(content, list) and any(_is_person(row) for row in content)


def read(content: Any) -> FoundFile:
    """The people of the one picture; detections without keypoints are other things."""
    return FoundFile([FoundImage([_person(row, k) for k, row in enumerate(content) if _is_person(row)])])


def _is_person(row: Any) -> bool:
    return isinstance(row, dict) and isinstance(row.get("keypoints"), dict) and {"x", "y"} <= set(row["keypoints"])


def _person(row: dict[str, Any], number: int) -> FoundPerson:
    columns = row["keypoints"]
    x, y = columns["x"], columns["y"]
    seen = columns.get("visible", [1.0] * len(x) if isinstance(x, list) else None)
    if not all(isinstance(column, list) and len(column) == len(x) for column in (x, y, seen)):
        return FoundPerson(UnusableError("has lists x, y and visible of different lengths."), number=number)
    # Points that were not found are put at the picture's corner.
    points = triples([[a, b, 0.0 if a == b == 0 else c] for a, b, c in zip(x, y, seen, strict=True)])
    corners = row.get("box", {})
    box = box_of(
        [corners.get(k) for k in ("x1", "y1", "x2", "y2")] if isinstance(corners, dict) else None, corners=True
    )
    # A normalised file's boxes end at 1; where there is none, all of many points would have to lie in one pixel.
    extent = box[2:].max() if box is not None else np.nan if isinstance(points, Exception) else points[:, :2].max()
    scaled = bool(extent <= 1.0 + 1e-6)
    return FoundPerson(points, scaled=scaled, box=None if scaled else box, number=number)
