"""mmpose's and RTMPose's predictions: what `MMPoseInferencer` writes for a picture or a video, and what its demos save.

Format: ``split_instances`` and ``inferencer`` of https://github.com/open-mmlab/mmpose/blob/main/mmpose/structures/utils.py
and https://github.com/open-mmlab/mmpose/blob/main/mmpose/apis/inferencers/base_mmpose_inferencer.py; the demos put the
same below ``instance_info``, beside ``meta_info``.
"""

from typing import Any

from kouros.detection.files.found import FoundFile, FoundImage, FoundPerson, box_of, triples
from kouros.detection.usable import UnusableError

LOOKS_LIKE = 'mmpose, RTMPose: [{"keypoints": [[x, y], ...], "keypoint_scores": [...]}]'


def recognises(content: Any) -> bool:
    """A list of instances with scores of their own, of frames of such, or the demos' object."""
    if isinstance(content, dict):
        return isinstance(content.get("instance_info"), list)
    return isinstance(content, list) and any(_is_person(row) or _is_frame(row) for row in _flat(content))


def read(content: Any) -> FoundFile:
    """The people of a picture, or of each frame of a video."""
    rows = content["instance_info"] if isinstance(content, dict) else content
    rows = _flat(rows)
    if any(_is_frame(row) for row in rows):
        return FoundFile(
            [
                FoundImage([_person(one) for one in row["instances"]], f"frame_{row.get('frame_id', k):06}")
                for k, row in enumerate(rows)
                if _is_frame(row)
            ]
        )
    return FoundFile([FoundImage([_person(row) for row in rows])])


def _flat(rows: list[Any]) -> list[Any]:
    """Of one picture, the inferencer's own results are a list in a list."""
    return rows[0] if len(rows) == 1 and isinstance(rows[0], list) else rows


def _is_person(row: Any) -> bool:
    return isinstance(row, dict) and "keypoints" in row and "keypoint_scores" in row


def _is_frame(row: Any) -> bool:
    return isinstance(row, dict) and isinstance(row.get("instances"), list) and isinstance(row.get("frame_id", 0), int)


def _person(row: Any) -> FoundPerson:
    if not _is_person(row):
        return FoundPerson(UnusableError("has no keypoints with keypoint_scores."))
    return FoundPerson(triples(row["keypoints"], row["keypoint_scores"]), box=box_of(row.get("bbox"), corners=True))
