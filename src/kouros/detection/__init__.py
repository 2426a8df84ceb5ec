"""People and their keypoints in images: the built-in detector (MediaPipe Pose's networks), and files of other detectors.

May import geometry, body, networks.
"""

from kouros.detection.find import PoseDetector, default_detector, find_people, landmarks_in_boxes
from kouros.detection.people import DetectedPerson, PersonMask

__all__ = [
    "DetectedPerson",
    "PersonMask",
    "PoseDetector",
    "default_detector",
    "find_people",
    "landmarks_in_boxes",
]
