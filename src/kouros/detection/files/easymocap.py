"""EasyMocap's annotations, one file a frame: ``annots/CAMERA/000000.json``.

Format: https://github.com/zju3dv/EasyMocap/blob/master/doc/02_output.md (BODY_25's order; also
``body25`` beside hands).
"""

from typing import Any

from kouros.detection.files.found import FoundFile, FoundImage, FoundPerson, as_size, box_of, triples
from kouros.detection.usable import UnusableError

LOOKS_LIKE = 'EasyMocap: {"filename": ..., "height": ..., "width": ..., "annots": [{"keypoints": [[x, y, c], ...]}]}'


def recognises(content: Any) -> bool:
    """An object with ``annots``."""
    return isinstance(content, dict) and isinstance(content.get("annots"), list)


def read(content: Any) -> FoundFile:
    """The people of the one frame."""
    size = as_size(content.get("width"), content.get("height"))
    people = []
    for row in content["annots"]:
        given = row.get("keypoints", row.get("body25")) if isinstance(row, dict) else None
        points = UnusableError("has no keypoints.") if given is None else triples(given)
        people.append(FoundPerson(points, box=box_of(row.get("bbox"), corners=True) if given is not None else None))
    return FoundFile([FoundImage(people, None, size)])
