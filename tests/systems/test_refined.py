"""The fit on top of an estimator explains the map of the skin, where somebody draws one."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from kouros.body.keypoints import COCO17, KeypointSet
from kouros.body.parameters import Bodies
from kouros.body.surface.skin import BodySurface, body_surface
from kouros.detection.people import DetectedPerson
from kouros.priors.gmm import load_gmm
from kouros.render.maps import DenseMaps, dense_maps
from kouros.systems.estimator import Estimate, PersonInPhoto, assumed_camera
from kouros.systems.refined import ANY_START, Refined

WIDTH, HEIGHT = 200, 240


class Answers:
    """An estimator that gives everybody the same answer."""

    needs_keypoints = False
    points_3d: KeypointSet | None = None
    points_2d: KeypointSet | None = None

    def __init__(self, body, answer: Estimate | None) -> None:
        self.body, self.name, self.answer = body, "known", answer

    def estimate(self, people: Sequence[PersonInPhoto]) -> list[Estimate | None]:
        return [self.answer for _ in people]


def drawn(body, surface: BodySurface, true: Bodies) -> DenseMaps:
    posed = true.map(lambda t: t[None]).posed_by(body)
    joints = body.keypoints_3d(posed, "lsp14")
    camera = true.map(lambda t: t[None]).camera
    return dense_maps(surface, posed.vertices, joints, posed.joints[:, 0], camera, (HEIGHT, HEIGHT), part_sets=())[0]


def test_the_skin_shows_where_arms_are_that_no_keypoint_tells(free_body):
    camera = assumed_camera(WIDTH, HEIGHT)
    mean = load_gmm().mean().float()
    bent = mean.clone()
    bent[3 * 16 : 3 * 16 + 3] += torch.tensor([0.0, 0.0, 0.7])  # right shoulder: `body_pose` has no root

    def body_of(pose: Tensor) -> Bodies:
        orient = torch.tensor([torch.pi, 0.0, 0.0])
        return Bodies(torch.cat([orient, pose]), torch.zeros(10), torch.tensor([0.0, 0.1, 3.0]), camera)

    true, begun = body_of(bent), body_of(mean)
    pixels = camera.project(true.map(lambda t: t[None]).keypoints_by(free_body, "coco17")[0]).numpy()
    confidence = np.ones((17, 1))
    confidence[[COCO17.index(f"right_{part}") for part in ("elbow", "wrist")]] = 0.0
    box = np.concatenate([pixels.min(0), pixels.max(0)]).astype(np.float64)
    detected = DetectedPerson(box, np.concatenate([pixels, confidence], axis=1), "coco17", 1.0)
    person = PersonInPhoto.found(detected, np.zeros((HEIGHT, WIDTH, 3), np.uint8), (WIDTH, HEIGHT))
    maps = drawn(free_body, body_surface(free_body), true)
    square = torch.tensor([HEIGHT / 2, HEIGHT / 2, float(HEIGHT)])
    start = Answers(free_body, Estimate(bodies=begun))
    skin = Answers(free_body, Estimate(dense=DenseMaps(iuv=maps.iuv), square=square))

    def wrist_off(refined: Refined) -> float:
        (answer,) = refined.estimate([person])
        found = answer.bodies.map(lambda t: t[None]).keypoints_by(free_body, "coco17")[0]
        wrist = COCO17.index("right_wrist")
        return float(np.linalg.norm(camera.project(found)[wrist].numpy() - pixels[wrist]))

    without, with_skin = wrist_off(Refined(start, ANY_START)), wrist_off(Refined(start, ANY_START, skin=skin))
    assert without > 15 and with_skin < 0.4 * without
    # Whoever has no map is fitted to the keypoints alone.
    assert abs(wrist_off(Refined(start, ANY_START, skin=Answers(free_body, None))) - without) < 5
