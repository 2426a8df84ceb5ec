"""The fit on top of an estimator: what it believes of the start, of keypoints far from it, and of the skin's map."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from kouros.body.keypoints import COCO17, KeypointSet
from kouros.body.parameters import Bodies
from kouros.body.surface.skin import BodySurface, body_surface
from kouros.data.mocap.recombination import about
from kouros.detection.people import DetectedPerson
from kouros.fitting.schedules.keypoint_fit import FitConfig
from kouros.geometry.rotations import rotmat_to_rotvec, rotvec_to_rotmat
from kouros.priors.gmm import load_gmm
from kouros.render.maps import DenseMaps, dense_maps
from kouros.systems.estimator import Estimate, PersonInPhoto, assumed_camera
from kouros.systems.refined import ANY_START, DETECTED, Refined

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


class Unsure(Answers):
    """One that also says what else it may be."""

    def __init__(self, body, answer: Estimate, others: list[Estimate]) -> None:
        super().__init__(body, answer)
        self._others = others

    def others(self, people: Sequence[PersonInPhoto]) -> list[list[Estimate]]:
        return [self._others for _ in people]


def bodies_of(pose: Tensor, turned: float = 0.0) -> Bodies:
    """Somebody in the middle of the picture, who faces the camera or has turned about the vertical."""
    orient = rotmat_to_rotvec(rotvec_to_rotmat(torch.tensor([torch.pi, 0.0, 0.0])) @ about(1, torch.tensor(turned)))
    place = torch.tensor([0.0, 0.1, 3.0])
    return Bodies(torch.cat([orient, pose]), torch.zeros(10), place, assumed_camera(WIDTH, HEIGHT))


def seen_as(body, true: Bodies) -> PersonInPhoto:
    """What a detector without errors says of somebody."""
    pixels = true.camera.project(true.map(lambda t: t[None]).keypoints_by(body, "coco17")[0]).numpy()
    box = np.concatenate([pixels.min(0), pixels.max(0)]).astype(np.float64)
    points = np.concatenate([pixels, np.ones((17, 1))], axis=1)
    detected = DetectedPerson(box, points, "coco17", 1.0)
    return PersonInPhoto.found(detected, np.zeros((HEIGHT, WIDTH, 3), np.uint8), (WIDTH, HEIGHT))


def joints_off(body, refined: Refined, person: PersonInPhoto, true: Bodies) -> Tensor:
    """How far COCO's points are from where they are, about the hips, metres."""
    (answer,) = refined.estimate([person])
    assert answer is not None and answer.bodies is not None
    found, real = (b.map(lambda t: t[None]).keypoints_by(body, "coco17")[0] for b in (answer.bodies, true))
    return ((found - found[11:13].mean(0)) - (real - real[11:13].mean(0))).norm(dim=-1)


def test_a_leg_far_from_the_start_is_brought_to_its_keypoints(free_body):
    mean = load_gmm().mean().float()
    spread = mean.clone()
    spread[2] += 0.4  # left hip, outwards
    true, begun = bodies_of(spread), Estimate(bodies=bodies_of(mean))
    person = seen_as(free_body, true)
    ankle = COCO17.index("left_ankle")

    def ankle_off(config: FitConfig) -> float:
        return float(joints_off(free_body, Refined(Answers(free_body, begun), config), person, true)[ankle])

    assert ankle_off(DETECTED) < 0.08 < 0.2 < ankle_off(replace(DETECTED, first_outlier=None))


def test_who_is_seen_from_behind_and_was_taken_to_face_us_gets_another_answer(free_body):
    pose = load_gmm().mean().float()
    true, front = bodies_of(pose, turned=torch.pi), bodies_of(pose)
    person = seen_as(free_body, true)
    alone = Refined(Answers(free_body, Estimate(bodies=front)), DETECTED)
    several = Refined(
        Unsure(free_body, Estimate(bodies=front), [Estimate(bodies=front), Estimate(bodies=true)]), DETECTED
    )
    assert float(joints_off(free_body, several, person, true).mean()) < 0.02
    assert float(joints_off(free_body, alone, person, true).mean()) > 0.1


def test_other_answers_change_nobody_whose_keypoints_the_first_explains(free_body):
    pose = load_gmm().mean().float()
    true = bodies_of(pose)
    person, first, other = seen_as(free_body, true), Estimate(bodies=true), Estimate(bodies=bodies_of(pose, torch.pi))
    answers = (Answers(free_body, first), Unsure(free_body, first, [other, other]), Unsure(free_body, first, []))
    (one,), (two,), (three,) = (Refined(start, DETECTED).estimate([person]) for start in answers)
    assert torch.equal(one.bodies.pose, two.bodies.pose) and torch.equal(one.bodies.pose, three.bodies.pose)


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
