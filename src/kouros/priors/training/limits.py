"""Joint limits: quantiles of motion capture, widened by a margin and by what anatomy is known to allow."""

import numpy as np
from jaxtyping import Float

from kouros.priors.body_pose import JOINTS, index
from kouros.priors.training.poses import mirrored, with_mirror_images

QUANTILE = 0.0005
"""Share of the frames left outside at each end before widening: the capture's own errors."""
MARGIN = np.radians(10.0)
"""Added to every quantile."""

# Degrees that healthy joints reach (American Academy of Orthopaedic Surgeons' ranges; collar bones: Ludewig
# et al. 2009; knuckles taken as one joint), for the left side, where the recorded subjects did not: their
# collar bones hardly move and their hands not at all.
REACHED: dict[tuple[str, str], tuple[float, float]] = {
    ("left_hip", "x"): (-120, 30),
    ("left_hip", "z"): (-30, 45),
    ("left_knee", "x"): (0, 145),
    ("left_foot", "x"): (-60, 40),
    ("left_collar", "x"): (-10, 10),
    ("left_collar", "y"): (-20, 20),
    ("left_collar", "z"): (-10, 30),
    ("left_elbow", "y"): (-150, 0),
    ("left_wrist", "z"): (-80, 70),
    ("left_wrist", "y"): (-30, 20),
    ("left_hand", "x"): (-5, 5),
    ("left_hand", "y"): (-15, 15),
    ("left_hand", "z"): (-80, 20),
}

# Degrees at which a hinge stops, whatever was measured beyond: straight plus slack, and fully bent.
HINGES: dict[tuple[str, str], tuple[float, float]] = {
    ("left_knee", "x"): (-5, 160),
    ("left_elbow", "y"): (-155, 5),
}


def fit_limits(
    poses: Float[np.ndarray, "frames 69"],
) -> tuple[Float[np.ndarray, " 69"], Float[np.ndarray, " 69"]]:
    """Lower and upper limits of ``body_pose``, radians; mirror images of each other.

    Args:
        poses: without their mirror images.
    """
    both = with_mirror_images(poses)
    lower = np.quantile(both, QUANTILE, axis=0) - MARGIN
    upper = np.quantile(both, 1 - QUANTILE, axis=0) + MARGIN
    for (joint, axis), (least, most) in REACHED.items():
        number = index(joint, axis)
        lower[number] = min(lower[number], np.radians(least))
        upper[number] = max(upper[number], np.radians(most))
    for (joint, axis), (least, most) in HINGES.items():
        lower[index(joint, axis)], upper[index(joint, axis)] = np.radians([least, most])
    return _with_right_side(lower, upper)


def _with_right_side(lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The left side's limits, mirrored onto the right; the middle's made symmetric."""
    images = np.stack([mirrored(lower), mirrored(upper)])
    image_lower, image_upper = images.min(0), images.max(0)
    names = np.repeat(JOINTS, 3)
    right = np.char.startswith(names, "right_")
    middle = ~right & ~np.char.startswith(names, "left_")
    lower = np.where(right, image_lower, np.where(middle, np.minimum(lower, image_lower), lower))
    upper = np.where(right, image_upper, np.where(middle, np.maximum(upper, image_upper), upper))
    return lower, upper
