"""Tables like DeepLabCut's: CSV with a row a frame, and above it whose coordinate of which body part a column is.

Format: https://deeplabcut.github.io/DeepLabCut/docs/standardDeepLabCut_UserGuide.html (rows ``scorer``, in multi-animal
projects ``individuals``, ``bodyparts``, ``coords``; coordinates ``x``, ``y``, ``likelihood``). Body parts go by our
names, spaces, case and hyphens aside; others are passed over.
"""

import csv
import re

import numpy as np

from kouros.body.keypoints import KEYPOINT_SETS
from kouros.body.layouts import Layout, layout_of_names
from kouros.detection.files.found import FoundFile, FoundImage, FoundPerson
from kouros.sentences import some

LOOKS_LIKE = "DeepLabCut-like CSV: rows bodyparts and coords (x, y, likelihood), then a row a frame"
_HEADS = ("scorer", "individuals", "bodyparts", "coords")
_OURS = {name for points in KEYPOINT_SETS.values() for name in points.names}


def recognises(text: str) -> bool:
    """One of the first lines begins with ``bodyparts``."""
    return any(line.split(",")[0].strip().lower() == "bodyparts" for line in text.splitlines()[:4])


def read(text: str) -> tuple[FoundFile, Layout]:
    """The frames, and the layout of the body parts that are ours.

    Raises:
        ValueError: the table is not such a one, or fewer than four parts are ours.
    """
    rows = list(csv.reader(text.splitlines()))
    heads = {name: row for row in rows[:4] if row and (name := row[0].strip().lower()) in _HEADS}
    if "coords" not in heads:
        raise ValueError("there is no row 'coords' under 'bodyparts'.")
    parts, coords = heads["bodyparts"], [c.strip().lower() for c in heads["coords"]]
    owners = heads.get("individuals", [""] * len(parts))
    names = {part: _ours(part) for part in dict.fromkeys(parts[1:])}
    layout = layout_of_names("its body parts", [name for name in names.values() if name])
    columns: dict[str, dict[tuple[str, str], int]] = {}
    for k in range(1, len(coords)):
        ours = names.get(parts[k]) if k < min(len(parts), len(owners)) else None
        if ours:
            columns.setdefault(owners[k], {})[ours, coords[k]] = k
    images = []
    for row in rows[max(rows.index(head) for head in heads.values()) + 1 :]:
        if not row:
            continue
        people = [FoundPerson(_points(row, where, layout)) for where in columns.values()]
        # Whoever is not in a frame has empty cells there.
        present = [p for p in people if isinstance(p.points, np.ndarray) and np.isfinite(p.points).any()]
        images.append(FoundImage(present, row[0].strip() or None))
    strangers = [part for part, name in names.items() if name is None]
    notes = (f"body parts that are none of ours were passed over: {some(strangers)}.",) if strangers else ()
    return FoundFile(images, notes=notes), layout


def _ours(part: str) -> str | None:
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", part.strip())
    name = re.sub(r"[\s\-.]+", "_", words).lower()
    return name if name in _OURS else None


def _points(row: list[str], where: dict[tuple[str, str], int], layout: Layout) -> np.ndarray:
    found = np.full((len(layout), 3), np.nan)
    for k, name in enumerate(layout.points):
        for column, coordinate in enumerate(("x", "y", "likelihood")):
            place = where.get((name or "", coordinate))
            if place is None:
                found[k, column] = 1.0 if coordinate == "likelihood" else np.nan
            elif place < len(row):
                found[k, column] = _cell(row[place])
    return found


def _cell(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
