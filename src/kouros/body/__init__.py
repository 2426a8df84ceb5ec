"""The parametric body: model files, skinning, skeleton, keypoint sets, surface, and the free body.

May import: geometry.
"""

from kouros.body.files import BodyFileError, load_body
from kouros.body.keypoints import KEYPOINT_SETS, KeypointSet, keypoint_set
from kouros.body.model import BodyModel, BodyOutput
from kouros.body.tables import KeypointTables

__all__ = [
    "KEYPOINT_SETS",
    "BodyFileError",
    "BodyModel",
    "BodyOutput",
    "KeypointSet",
    "KeypointTables",
    "keypoint_set",
    "load_body",
]
