"""OpenPose's JSON, one file a picture: any of its models, version 1.0 to 1.7; hands and faces beside are passed over.

Format: https://github.com/CMU-Perceptual-Computing-Lab/openpose/blob/master/doc/02_output.md (before 1.2 the key was
``pose_keypoints``). AlphaPose writes the same with ``--format open``, and ``bodies``/``joints`` with ``--format cmu``.
"""

from typing import Any

from kouros.detection.files.found import FoundFile, FoundImage, FoundPerson, triples
from kouros.detection.usable import UnusableError

LOOKS_LIKE = 'OpenPose: {"people": [{"pose_keypoints_2d": [x, y, c, ...]}]}'
_KEYS = ("pose_keypoints_2d", "pose_keypoints", "joints")


def recognises(content: Any) -> bool:
    """An object with a list of people."""
    return isinstance(content, dict) and "annotations" not in content and isinstance(_people(content), list)


def read(content: Any) -> FoundFile:
    """The people of the one picture."""
    return FoundFile([FoundImage([_person(person) for person in _people(content)])])


def _people(content: dict[str, Any]) -> Any:
    return content.get("people", content.get("bodies"))


def _person(person: Any) -> FoundPerson:
    for key in _KEYS:
        if isinstance(person, dict) and key in person:
            return FoundPerson(triples(person[key]))
    return FoundPerson(UnusableError(f"has no {_KEYS[0]}."))
