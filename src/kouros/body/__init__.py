"""The parametric body: model files, skinning, skeleton, keypoint sets, surface, and the free body.

May import geometry.
"""

from kouros.body.files import load_body
from kouros.body.model import BodyModel, BodyOutput

__all__ = ["BodyModel", "BodyOutput", "load_body"]
