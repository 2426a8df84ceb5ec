"""Legs beyond the picture's edge stand; what is seen stays."""

import math
from dataclasses import replace

import pytest
import torch
from tests.pipeline.people import person_of
from torch.testing import assert_close

from kouros.body.keypoints import COCO17
from kouros.body.skeleton import JOINT_NAMES
from kouros.geometry.cameras import PerspectiveCamera
from kouros.geometry.rotations import rotmat_to_rotvec, rotvec_to_rotmat
from kouros.pipeline.cut_legs import with_standing_legs
from kouros.pipeline.person import Person

J = {name: joint for joint, name in enumerate(JOINT_NAMES)}
LEGS = [J[f"{side}_{joint}"] for side in ("left", "right") for joint in ("hip", "knee", "ankle", "foot")]
CAMERA = PerspectiveCamera(torch.tensor(1000.0), torch.tensor([320.0, 320.0]))


def squatting(body, *, seen_down_to: float, lean: float = 0.0, hip: float = 1.4, turned: float = 0.4) -> Person:
    """Somebody with bent hips and knees, of whom the picture shows what is above a level, metres below the pelvis.

    Args:
        lean: of the trunk, forward, degrees.
        hip: flexion, radians.
    """
    pose = torch.zeros(24, 3)
    pose[[J["left_hip"], J["right_hip"]], 0] = -hip
    pose[[J["left_knee"], J["right_knee"]], 0] = 1.6
    to_camera = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    facing = rotvec_to_rotmat(torch.tensor([0.0, turned, 0.0])) @ rotvec_to_rotmat(
        torch.tensor([math.radians(lean), 0.0, 0.0])
    )
    pose[0] = rotmat_to_rotvec(to_camera @ facing)
    # The level lies on the picture's lower edge, 320 pixels below its middle.
    transl = torch.tensor([0.0, 0.32 * 4.0 - seen_down_to, 4.0]) - body.joint_template[0]
    person = person_of(pose, transl, CAMERA, body)
    keypoints = torch.cat([person.keypoints_2d("coco17"), torch.ones(17, 1)], dim=1)
    unseen = [k for k, name in enumerate(COCO17.names) if name.split("_")[-1] in ("knee", "ankle")]
    if seen_down_to < 0:
        unseen += [COCO17.index("left_hip"), COCO17.index("right_hip")]
    keypoints[unseen, 2] = 0.02
    return replace(person, keypoints_detected=keypoints)


def from_down(person: Person, above: str, below: str) -> float:
    bone = person.joints[J[below]] - person.joints[J[above]]
    return math.degrees(math.acos(float(bone[1] / bone.norm())))


@pytest.mark.parametrize("lean", [-15.0, 0.0, 15.0])
def test_legs_below_the_edge_stand_and_the_rest_stays(free_body, lean: float):
    was = squatting(free_body, seen_down_to=-0.1, lean=lean)
    person = with_standing_legs(was)
    for side in ("left", "right"):
        # Up is between the trunk and what cameras are mostly held like.
        assert from_down(person, f"{side}_hip", f"{side}_knee") < 5 + abs(lean)
        assert 0 < person.joint_angles[f"{side}_knee"]["flexion"] < 10
        toes = person.joints[J[f"{side}_foot"]] - person.joints[J[f"{side}_ankle"]]
        assert toes @ was.joints[J[f"{side}_knee"]].sub(was.joints[J[f"{side}_hip"]]) > 0  # still to the front
    others = [joint for joint in range(24) if joint not in LEGS]
    assert torch.equal(person.parameters.pose.reshape(24, 3)[others], was.parameters.pose.reshape(24, 3)[others])
    assert torch.equal(person.transl, was.transl) and torch.equal(person.betas, was.betas)
    held_by_others = free_body.weights[:, others].sum(1) == 1
    assert_close(person.vertices[held_by_others], was.vertices[held_by_others], atol=2e-3, rtol=0)


def test_a_thigh_whose_hip_is_seen_stays_where_it_is(free_body):
    was = squatting(free_body, seen_down_to=0.25, hip=0.4)
    person = with_standing_legs(was)
    for joint in ("left_hip", "right_hip", "left_knee", "right_knee"):
        assert torch.equal(person.joints[J[joint]], was.joints[J[joint]])
    assert from_down(was, "left_knee", "left_ankle") > 60
    assert from_down(person, "left_knee", "left_ankle") < 10
    seated = squatting(free_body, seen_down_to=0.25, hip=1.4)  # thighs that leave the picture ahead
    assert with_standing_legs(seated) is seated


def test_who_bends_over_and_who_is_hidden_within_the_picture_stay(free_body):
    bent = squatting(free_body, seen_down_to=-0.1, lean=80.0)
    assert with_standing_legs(bent) is bent
    behind_a_table = squatting(free_body, seen_down_to=1.2)  # there is room for legs, which nobody saw
    assert with_standing_legs(behind_a_table) is behind_a_table


def test_legs_that_are_seen_stay(free_body):
    was = squatting(free_body, seen_down_to=-0.1)
    seen = replace(was, keypoints_detected=torch.cat([was.keypoints_detected[:, :2], torch.ones(17, 1)], 1))
    assert with_standing_legs(seen) is seen
