"""Which joints a photo shows and which were completed, by the system or else by the finder's confidence."""

from dataclasses import replace

import torch
from torch.testing import assert_close

from kouros.body.keypoints import COCO17, LSP14
from kouros.body.parameters import Bodies
from kouros.body.skeleton import JOINT_NAMES
from kouros.geometry.cameras import PerspectiveCamera
from kouros.pipeline.person import Person
from kouros.pipeline.visibility import by_confidence, evidence_of
from kouros.systems.estimator import Estimate


def points(names: tuple[str, ...], confidence: dict[str, float], otherwise: float = 1.0) -> torch.Tensor:
    return torch.tensor([[0.0, 0.0, confidence.get(name, otherwise)] for name in names])


def test_joints_have_the_confidence_of_their_point_or_of_those_nearest():
    seen = by_confidence(points(COCO17.names, {"left_hip": 0.2, "right_hip": 0.6, "left_ankle": 0.1}), "coco17")
    told = dict(zip(JOINT_NAMES, seen.tolist(), strict=True))
    assert abs(told["left_hip"] - 0.2) < 1e-6 and told["left_knee"] == 1.0
    assert abs(told["pelvis"] - 0.4) < 1e-6 and abs(told["spine1"] - 0.4) < 1e-6
    assert abs(told["left_foot"] - 0.1) < 1e-6 and told["right_foot"] == 1.0


def test_joints_that_no_point_tells_of_have_the_mean_of_the_others():
    seen = by_confidence(points(LSP14.names, {}, otherwise=0.5), "lsp14")
    assert_close(seen, torch.full((24,), 0.5))  # of the nose, which the head goes by, it has none


def person(free_body, x: float, estimate: Estimate | None = None) -> Person:
    camera = PerspectiveCamera(torch.tensor(600.0), torch.tensor([320.0, 240.0]))
    pose = torch.cat([torch.tensor([torch.pi, 0.0, 0.0]), torch.zeros(69)])
    made = Person(
        parameters=Bodies(pose, torch.zeros(10), torch.tensor([x, 0.1, 4.0]), camera),
        crop_box=torch.zeros(4),
        box=torch.zeros(4),
        score=0.9,
        keypoints_detected=points(COCO17.names, {}),
        keypoint_set="coco17",
        image_size=(640, 480),
        body=free_body,
    )
    return made if estimate is None else replace(made, estimate=estimate)


def test_what_lies_beyond_the_photo_is_not_seen_whoever_says_so(free_body):
    left = [i for i, name in enumerate(JOINT_NAMES) if name.startswith("left_")]
    for estimate in (None, Estimate(visibility=torch.ones(24))):
        assert_close(person(free_body, 0.0, estimate).visibility, torch.ones(24))
        # The person faces the camera: the left side is at the right edge of the photo, and beyond it.
        beyond = person(free_body, 2.12, estimate).visibility
        assert beyond[left].sum() == 0 and float(beyond.sum()) > 0


def test_a_systems_own_word_counts_more_than_the_finders_confidence(free_body):
    said = torch.linspace(0, 1, 24)
    assert_close(person(free_body, 0.0, Estimate(visibility=said)).visibility, said)


def test_vertices_are_seen_as_the_joints_that_they_follow(free_body):
    ankle = JOINT_NAMES.index("left_ankle")
    said = torch.ones(24)
    said[ankle] = 0.0
    seen = person(free_body, 0.0, Estimate(visibility=said)).vertices_seen
    follows = free_body.weights[:, ankle]
    assert_close(seen, 1 - follows, atol=1e-5, rtol=0)


def test_every_joint_is_visible_inferred_from_a_visible_one_or_guessed():
    seen = torch.ones(24)
    hidden = [JOINT_NAMES.index(f"left_{part}") for part in ("knee", "ankle", "foot")]
    seen[hidden] = 0.3
    told = dict(zip(JOINT_NAMES, evidence_of(seen), strict=True))
    assert (told["left_hip"], told["left_knee"]) == ("visible", "inferred")
    assert (told["left_ankle"], told["left_foot"]) == ("guessed", "guessed")
    assert set(evidence_of(torch.zeros(24))) == {"guessed"}
