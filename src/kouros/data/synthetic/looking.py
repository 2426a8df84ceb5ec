"""The packaged detector, looking at synthetic people as it looks at photos."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float16, UInt8
from torch import Tensor

from kouros.body import BodyModel
from kouros.body.keypoints import BLAZEPOSE33, COCO17
from kouros.body.parameters import BodyParameters
from kouros.data.detections import Detections
from kouros.data.synthetic.scenes import Scene
from kouros.detection import PoseDetector
from kouros.detection.find import MIN_PRESENCE
from kouros.detection.fusion import BODY, SHARED
from kouros.detection.places import KEYPOINT_MARGIN, Place
from kouros.detection.regions import Pyramid, Region

_LOOKS = 5
"""Stream of a scene's random numbers; those before are its places, clothes, light, background and lens."""
_CROPS = (1, 2, 6)
"""Over how many crops BlazePose's landmarks are averaged: as in haste, as seldom, and as usual."""
_SOMEBODY_ELSE = 0.3
"""Of a person's size: of keypoints that lie further off than this in the median, somebody else has drawn the look."""
_SHOULDERS = [COCO17.index(f"{side}_shoulder") for side in ("left", "right")]
_HIPS = [COCO17.index(f"{side}_hip") for side in ("left", "right")]


@dataclass(frozen=True, eq=False)
class Looked:
    """One person."""

    detection: Detections
    features: Float16[np.ndarray, "16 16 421"]
    """What Thunder made of the person on the way."""


def look_at_people(
    scene: Scene, people: Sequence[int], picture: UInt8[np.ndarray, "size size 3"], body: BodyModel, eye: PoseDetector
) -> list[Looked]:
    """What the detector says of some of a scene's people, one for each whom it does not miss.

    Depends on the scene alone, whoever looks.
    """
    rng, image, shot = scene.rng(_LOOKS), Pyramid(picture), scene.shot
    pose, betas, transl = (torch.from_numpy(a) for a in (scene.pose, scene.betas, scene.transl))
    with torch.no_grad():
        placed = BodyParameters(pose, betas, transl).keypoints_by(body, BLAZEPOSE33.name)
        pelvis = body.joint_positions(betas, pose[:, 3:], pose[:, :3], transl)[:, 0]
    points = placed.numpy().astype(np.float64)
    found = []
    for k in people:
        true = (points[k, :, :2] / points[k, :, 2:] * shot.focal + shot.center)[SHARED]
        crops = int(rng.choice(_CROPS))
        find = eye.look_at(image, Place(_proposed(true, rng)), MIN_PRESENCE)
        if find is None or find.presence < MIN_PRESENCE or not _same(find.fused.points[SHARED], true):
            continue
        person = eye.look_closely(image, find, crops)
        keypoints = person.trusted_keypoints(image.width, image.height)
        rays = np.column_stack([(keypoints[:, :2] - shot.center) / shot.focal, keypoints[:, 2]])
        region = find.seen.region
        square = np.array([region.x - shot.center[0], region.y - shot.center[1], region.size]) / shot.focal
        depths = np.zeros((len(COCO17), 2)) if person.depths is None else person.depths / shot.focal
        seen = (_float32(a) for a in (rays, person.landmarks_3d, square, depths))
        found.append(Looked(Detections(pose[k], betas[k], pelvis[k], *seen), find.seen.features))
    return found


def _float32(array: np.ndarray | None) -> Tensor:
    return torch.from_numpy(np.asarray(array, dtype=np.float32))


def _proposed(true: Float[np.ndarray, "17 2"], rng: np.random.Generator) -> Region:
    """Where the finders would send the networks, give or take."""
    above = true[_SHOULDERS].mean(axis=0) - true[_HIPS].mean(axis=0)
    angle = math.atan2(above[0], -above[1]) + rng.normal(0, 0.1)
    low, high = true.min(axis=0), true.max(axis=0)
    side = float((high - low).max())
    x, y = ((low + high) / 2 + rng.normal(0, 0.04 * side, 2)).tolist()
    return Region(x, y, KEYPOINT_MARGIN * side * math.exp(rng.normal(0, 0.08)), angle)


def _same(found: Float[np.ndarray, "17 2"], true: Float[np.ndarray, "17 2"]) -> bool:
    """Whether points are the person's, sides perhaps exchanged."""
    size = max(float(np.ptp(true, axis=0).max()), 1e-6)
    ways = (true, true[list(COCO17.mirror)])
    return min(float(np.median(np.linalg.norm(found - way, axis=1)[BODY])) for way in ways) < _SOMEBODY_ELSE * size
