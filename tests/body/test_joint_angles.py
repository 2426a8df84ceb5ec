import math

import pytest
import torch
from scipy.spatial.transform import Rotation

from kouros.body.joint_angles import ANGLE_NAMES, _intrinsic, joint_angles
from kouros.body.skeleton import JOINT_NAMES, MIRROR


def pose(**turns: tuple[float, float, float]) -> torch.Tensor:
    """Rotation vectors in degrees, by joint; body space: x to the left, y up, z to the front."""
    rotvecs = torch.zeros(24, 3)
    for name, turn in turns.items():
        rotvecs[JOINT_NAMES.index(name)] = torch.deg2rad(torch.tensor(turn))
    return rotvecs[1:].flatten()


def test_the_t_pose_is_zero_but_for_the_shoulders():
    angles = joint_angles(pose())
    assert {joint: tuple(names) for joint, names in angles.items()} == ANGLE_NAMES
    for joint, values in angles.items():
        expected = {"elevation": 90.0} if joint.endswith("shoulder") else {}
        for name, value in values.items():
            assert value == pytest.approx(expected.get(name, 0.0), abs=1e-4), (joint, name)


@pytest.mark.parametrize(
    ("turns", "joint", "name", "degrees"),
    [
        ({"left_hip": (-40, 0, 0)}, "left_hip", "flexion", 40),  # the thigh comes to the front
        ({"left_hip": (0, 0, 25)}, "left_hip", "abduction", 25),  # to the left
        ({"right_hip": (0, 0, -25)}, "right_hip", "abduction", 25),  # to the right
        ({"right_hip": (0, 15, 0)}, "right_hip", "internal_rotation", 15),  # the toes to the left
        ({"left_hip": (0, -15, 0)}, "left_hip", "internal_rotation", 15),
        ({"right_knee": (70, 0, 0)}, "right_knee", "flexion", 70),  # the shank goes back
        ({"left_ankle": (-20, 0, 0)}, "left_ankle", "dorsiflexion", 20),  # the toes go up
        ({"left_elbow": (0, -80, 0)}, "left_elbow", "flexion", 80),  # the forearm comes to the front
        ({"right_elbow": (0, 80, 0)}, "right_elbow", "flexion", 80),
        ({"left_wrist": (0, 0, -30)}, "left_wrist", "flexion", 30),  # the palm, which looks down, comes nearer
        ({"left_wrist": (40, 0, 0)}, "left_elbow", "pronation", 40),  # the thumb goes from the front down
        ({"right_wrist": (40, 0, 0)}, "right_elbow", "pronation", 40),
        ({"spine1": (15, 0, 0), "spine3": (15, 0, 0)}, "trunk", "flexion", 30),
        ({"spine2": (0, 0, 20)}, "trunk", "lateral_bending", 20),  # to the right
        ({"spine2": (0, 20, 0)}, "trunk", "axial_rotation", 20),  # to the left
        ({"neck": (20, 0, 0), "head": (5, 0, 0)}, "neck", "flexion", 25),
        ({"left_shoulder": (0, 0, -60)}, "left_shoulder", "elevation", 30),  # the arm goes down
        ({"right_shoulder": (0, 0, 60)}, "right_shoulder", "elevation", 30),
        ({"left_shoulder": (0, -90, 0)}, "left_shoulder", "plane_of_elevation", 90),  # to the front
        ({"right_shoulder": (0, 90, 0)}, "right_shoulder", "plane_of_elevation", 90),
    ],
)
def test_single_turns_have_their_names_and_signs(turns, joint: str, name: str, degrees: float):
    angles = joint_angles(pose(**turns))
    assert angles[joint][name] == pytest.approx(degrees, abs=1e-3)
    for other, value in angles[joint].items():
        rest = 90.0 if other == "elevation" else 0.0
        assert other == name or value == pytest.approx(rest, abs=1e-3)


@pytest.mark.parametrize("order", ["xzy", "xyz", "yzx", "zyx"])
def test_angles_about_three_axes_match_scipy(order: str):
    rotation = Rotation.random(20, random_state=0)
    for one in rotation:
        ours = torch.stack(_intrinsic(torch.from_numpy(one.as_matrix()), order)).numpy()
        assert ours == pytest.approx(one.as_euler(order.upper()), abs=1e-9)


def test_the_shoulders_angles_make_the_arm_again():
    for one in Rotation.random(20, random_state=1):
        turn = torch.zeros(24, 3)
        turn[JOINT_NAMES.index("left_shoulder")] = torch.from_numpy(one.as_rotvec()).float()
        angles = joint_angles(turn[1:].flatten())["left_shoulder"]
        plane, elevation, internal = (math.radians(value) for value in angles.values())
        again = Rotation.from_euler("YZY", [-plane, elevation, -internal]) * Rotation.from_euler("Z", -math.pi / 2)
        assert (again * one.inv()).magnitude() == pytest.approx(0.0, abs=1e-4)


def test_an_arm_that_hangs_straight_down_is_rotated_and_in_no_plane():
    hang = Rotation.from_euler("Z", -90, degrees=True)
    turn = Rotation.from_euler("Y", -35, degrees=True) * hang  # of the left arm: to the inside
    angles = joint_angles(pose(left_shoulder=tuple(turn.as_rotvec(degrees=True))))["left_shoulder"]
    assert list(angles.values()) == pytest.approx([0.0, 0.0, 35.0], abs=0.1)


def test_a_mirrored_pose_has_the_other_sides_angles():
    generator = torch.Generator().manual_seed(3)
    rotvecs = 0.6 * torch.randn(24, 3, generator=generator)
    mirrored = rotvecs[list(MIRROR)] * torch.tensor([1.0, -1.0, -1.0])
    one, other = joint_angles(rotvecs[1:].flatten()), joint_angles(mirrored[1:].flatten())
    for joint, values in one.items():
        if joint.startswith("left_"):
            assert other[joint.replace("left", "right")] == pytest.approx(values, abs=1e-3)
    assert other["trunk"]["flexion"] == pytest.approx(one["trunk"]["flexion"], abs=1e-3)
    assert other["trunk"]["lateral_bending"] == pytest.approx(-one["trunk"]["lateral_bending"], abs=1e-3)
