"""What lies on the body's skin: part labels, UV atlas, Cartesian charts, geodesic distances.

Everything is derived from the body file at run time, so it fits any body with SMPL's 24 joints. May import
the rest of body and geometry.
"""

from kouros.body.surface.charts import build_charts, chart_points
from kouros.body.surface.geodesics import Geodesics
from kouros.body.surface.parts import PART_SETS, PartSet, face_labels, part_set, vertex_labels
from kouros.body.surface.skin import BodySurface, body_surface

__all__ = [
    "PART_SETS",
    "BodySurface",
    "Geodesics",
    "PartSet",
    "body_surface",
    "build_charts",
    "chart_points",
    "face_labels",
    "part_set",
    "vertex_labels",
]
