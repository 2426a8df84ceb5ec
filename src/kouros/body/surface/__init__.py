"""What lies on the body's skin: part labels, UV atlas, Cartesian charts, geodesic distances.

Everything is derived from the body file at run time, so it fits any body with SMPL's 24 joints. May import
the rest of body and geometry.
"""
