"""MediaPipe's pose landmarks as JSON: of its tasks in Python and JavaScript, or of the older solution by MessageToDict.

Format: https://ai.google.dev/edge/mediapipe/solutions/vision/pose_landmarker (a list of people, each 33 objects with
``x``, ``y``, ``z``, ``visibility``; x and y are shares of the picture). The landmarks in space are passed over.
"""

from typing import Any

from kouros.detection.files.found import FoundFile, FoundImage, FoundPerson, triples

LOOKS_LIKE = 'MediaPipe: {"landmarks": [[{"x": ..., "y": ..., "visibility": ...}, ...]]}'
_KEYS = ("pose_landmarks", "poseLandmarks", "landmarks", "landmark")


def recognises(content: Any) -> bool:
    """33 points that are objects, of one person or of several, maybe below a key."""
    return bool(_people(content))


def read(content: Any) -> FoundFile:
    """The people of the one picture."""
    return FoundFile([FoundImage([_person(points) for points in _people(content)])])


def _people(content: Any) -> list[list[dict[str, Any]]]:
    if isinstance(content, dict):
        inner = [content[key] for key in _KEYS if key in content]
        return _people(inner[0]) if inner else []
    if not isinstance(content, list) or not content:
        return []
    if _is_person(content):
        return [content]
    people = [_people(one) for one in content if isinstance(one, list | dict)]
    return [person for found in people for person in found] if len(people) == len(content) else []


def _is_person(points: list[Any]) -> bool:
    return len(points) == 33 and all(isinstance(p, dict) and "x" in p and "y" in p for p in points)


def _person(points: list[dict[str, Any]]) -> FoundPerson:
    rows = [[p["x"], p["y"], p.get("visibility", p.get("presence", 1.0))] for p in points]
    found = triples(rows)
    # Some tools write pixels under the same names; shares of a picture are small numbers.
    scaled = not isinstance(found, Exception) and bool((abs(found[:, :2]) < 8).all())
    return FoundPerson(found, scaled=scaled, layout="blazepose33")
