"""The packaged detector, looking at synthetic people as it looks at photos."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8

from kouros.body import BodyModel
from kouros.body.keypoints import BLAZEPOSE33
from kouros.body.parameters import BodyParameters
from kouros.data.detections import Detections
from kouros.data.synthetic.scenes import Scene
from kouros.detection import PoseDetector
from kouros.detection.regions import Pyramid, Region, upright_region

_LOOKS = 5
"""Stream of a scene's random numbers; those before are its places, clothes, light, background and lens."""
_DOUBTED = 0.4
"""People of whom the model itself is less sure are left out, as the detector leaves them out."""
_AGAIN = 0.6
"""Share looked at a second time, from the region that the first look gives."""
_LEFT_HIP, _RIGHT_HIP = BLAZEPOSE33.index("left_hip"), BLAZEPOSE33.index("right_hip")
_SHOULDERS = (BLAZEPOSE33.index("left_shoulder"), BLAZEPOSE33.index("right_shoulder"))


def look_at_people(
    scene: Scene, people: Sequence[int], picture: UInt8[np.ndarray, "size size 3"], body: BodyModel, eye: PoseDetector
) -> list[Detections]:
    """What the detector says of some of a scene's people, one row for each whom it does not miss.

    Depends on the scene alone, whoever looks.
    """
    dice, image, shot = scene.dice(_LOOKS), Pyramid(picture), scene.shot
    pose, betas, transl = (torch.from_numpy(a) for a in (scene.pose, scene.betas, scene.transl))
    with torch.no_grad():
        placed = BodyParameters(pose, betas, transl).keypoints_by(body, BLAZEPOSE33.name)
        pelvis = body.joint_positions(betas, pose[:, 3:], pose[:, :3], transl)[:, 0]
    points = placed.numpy().astype(np.float64)
    found = []
    for k in people:
        true = points[k, :, :2] / points[k, :, 2:] * shot.focal + shot.center
        look = eye.look(image, _first_region(true, dice))
        again = dice.random() < _AGAIN
        if again and look.flag >= _DOUBTED:
            look = eye.look(image, look.next_region)
        if look.flag < _DOUBTED or not np.isfinite(look.points).all():
            continue
        rays = np.column_stack([(look.points - shot.center) / shot.focal, look.confidence])
        seen = (torch.from_numpy(np.asarray(a, dtype=np.float32)) for a in (rays, look.metric))
        found.append(Detections(pose[k], betas[k], pelvis[k], *seen))
    return found


def _first_region(true: Float[np.ndarray, "33 2"], dice: np.random.Generator) -> Region:
    """Where the person finder would send the landmark model, give or take."""
    hips = 0.5 * (true[_LEFT_HIP] + true[_RIGHT_HIP])
    reach = np.linalg.norm(true - hips, axis=1).max() * 1.05
    spine = true[list(_SHOULDERS)].mean(axis=0) - hips
    angle = math.atan2(spine[1], spine[0]) + dice.normal(0, 0.1)
    above = hips + reach * math.exp(dice.normal(0, 0.08)) * np.array([math.cos(angle), math.sin(angle)])
    wander = dice.normal(0, 0.04 * reach, 2)
    return upright_region(hips + wander, above + wander)
