"""How far the distance from the camera can be trusted, which one picture does not show.

Distance is focal length times size over pixels. A person's size is a guess unless their height is known, and so is the
focal length unless the camera is.
"""

import math

from kouros.data.calibration import KnownFrom

_LENS: dict[KnownFrom, float] = {"given": 0.02, "in the file": 0.05, "assumed": 0.4}
"""Standard deviation of the logarithm of the focal length. Files give whole millimetres, and no crop or digital zoom.
The normal lens that is assumed stands for anything from a phone's (26 mm on 35 mm film: 0.5 below) to a portrait's
(85 mm: 0.7 above)."""
_STATURE = {True: 0.015, False: 0.06}
"""The same of a person's height, given or not. Adults of both sexes spread by 9.5 cm about 1.69 m (NCD-RisC, eLife
2016); children not counted."""


def distance_spread(lens: KnownFrom, *, height_known: bool) -> float:
    """Standard deviation of a distance as a share of it."""
    return math.hypot(_LENS[lens], _STATURE[height_known])
