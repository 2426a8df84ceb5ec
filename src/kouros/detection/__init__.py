"""People and their keypoints in images: the built-in detector, and files of other detectors.

The built-in one runs MediaPipe Pose's two networks, without MediaPipe. May import: networks, body, geometry.
"""

from kouros.detection.find import PoseDetector, default_detector, find_people, landmarks_in_boxes
from kouros.detection.keypoint_files import ImageKeypoints, read_coco, read_keypoints, read_openpose
from kouros.detection.people import DetectedPerson, PersonMask

__all__ = [
    "DetectedPerson",
    "ImageKeypoints",
    "PersonMask",
    "PoseDetector",
    "default_detector",
    "find_people",
    "landmarks_in_boxes",
    "read_coco",
    "read_keypoints",
    "read_openpose",
]
