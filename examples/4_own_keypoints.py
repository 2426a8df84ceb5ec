"""A detector whose points are in an order of its own: bring them into a set that kouros knows, by names.

Points that your detector does not have get confidence 0.
"""

import numpy as np

import kouros
from kouros.body.keypoints import keypoint_set

# What our imaginary detector calls its points, in its order, and what COCO calls them.
MINE = {
    "head": "nose", "r_sho": "right_shoulder", "r_elb": "right_elbow", "r_wri": "right_wrist",
    "l_sho": "left_shoulder", "l_elb": "left_elbow", "l_wri": "left_wrist",
    "r_hip": "right_hip", "r_kne": "right_knee", "r_ank": "right_ankle",
    "l_hip": "left_hip", "l_kne": "left_knee", "l_ank": "left_ankle",
}  # fmt: skip


def as_coco(points: np.ndarray) -> np.ndarray:
    """(13, 3) of ours (x, y in pixels, confidence) as COCO's (17, 3)."""
    coco = np.zeros((17, 3))
    for row, name in zip(points, MINE.values(), strict=True):
        coco[keypoint_set("coco17").index(name)] = row
    return coco


detected = np.array(
    [
        [640, 150, 0.9],
        *([600, 220, 0.9], [560, 300, 0.8], [550, 380, 0.7]),  # right arm
        *([680, 220, 0.9], [720, 300, 0.9], [730, 380, 0.6]),
        *([615, 400, 0.9], [610, 520, 0.9], [605, 640, 0.8]),  # right leg
        *([665, 400, 0.9], [670, 520, 0.9], [675, 640, 0.9]),
    ]
)
(person,) = kouros.fit(as_coco(detected), "coco17", image_size=(1280, 720))
apart = np.linalg.norm(person.keypoints_2d("coco17").numpy() - as_coco(detected)[:, :2], axis=1)
seen = as_coco(detected)[:, 2] > 0
print(f"the body's points lie {apart[seen].mean():.1f} pixels from the detected ones")
