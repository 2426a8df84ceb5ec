"""Angles of joints in degrees, with the names of the International Society of Biomechanics.

Joint coordinate systems after Grood and Suntay (1983) and the ISB's recommendations (Wu et al. 2002: ankle, hip, spine;
Wu et al. 2005: shoulder, elbow, wrist): the first angle is about the proximal segment's axis, the last about the distal
segment's, the second about the floating one. Segments have the axes of the T-pose, not those that landmarks on bones
would give; all angles but the shoulder's are zero there, where knees and elbows are straight and thumbs point to the
front. Left and right are mirror images: flexion, abduction and internal rotation are positive on both sides.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from kouros.body.skeleton import JOINT_NAMES
from kouros.geometry.rotations import rotvec_to_rotmat

_LEFT_RIGHT = ("left", "right")
_TRUNK = ("spine1", "spine2", "spine3")
_NECK = ("neck", "head")
_SINGULAR = 1e-3
"""Sine of the shoulder's elevation below which an arm that hangs straight down has no plane of elevation."""

ANGLE_NAMES: dict[str, tuple[str, ...]] = {
    "trunk": ("flexion", "lateral_bending", "axial_rotation"),
    "neck": ("flexion", "lateral_bending", "axial_rotation"),
    **{
        f"{side}_{joint}": names
        for joint, names in {
            "hip": ("flexion", "abduction", "internal_rotation"),
            "knee": ("flexion", "abduction", "internal_rotation"),
            "ankle": ("dorsiflexion", "abduction", "inversion"),
            "shoulder": ("plane_of_elevation", "elevation", "internal_rotation"),
            "elbow": ("flexion", "carrying_angle", "pronation"),
            "wrist": ("flexion", "ulnar_deviation"),
        }.items()
        for side in _LEFT_RIGHT
    },
}
"""What is said of each joint. Trunk: of the upper body against the pelvis; neck: of the head against the upper body;
bending and rotation are positive to the right and to the left. Shoulder: of the upper arm against the trunk; plane of
elevation 0 is sideways, 90 to the front; elevation 0 hangs, 90 is level. Pronation: of hand against upper arm."""

JointAngles = dict[str, dict[str, float]]
"""Degrees, by joint and name."""


def joint_angles(body_pose: Float[Tensor, "69"]) -> JointAngles:
    """Angles of one pose.

    Args:
        body_pose: rotation vectors of joints 1 to 23, each relative to its parent.
    """
    matrices = rotvec_to_rotmat(body_pose.detach().double().reshape(23, 3))
    rotations = dict(zip(JOINT_NAMES[1:], matrices, strict=True))
    found: dict[str, tuple[Tensor, ...]] = {
        "trunk": _column(_chain(rotations, _TRUNK)),
        "neck": _column(_chain(rotations, _NECK)),
    }
    flip = torch.diag(torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64))
    for side in _LEFT_RIGHT:

        def as_left(*joints: str, side: str = side) -> Tensor:
            turned = _chain(rotations, tuple(f"{side}_{joint}" for joint in joints))
            return turned if side == "left" else flip @ turned @ flip

        hip_x, hip_z, hip_y = _intrinsic(as_left("hip"), "xzy")
        knee_x, knee_z, knee_y = _intrinsic(as_left("knee"), "xzy")
        # A foot turns about its own long axis, which is z, last.
        ankle_x, ankle_y, ankle_z = _intrinsic(as_left("ankle", "foot"), "xyz")
        elbow_y, elbow_z, elbow_x = _intrinsic(as_left("elbow"), "yzx")
        wrist_z, wrist_y, wrist_x = _intrinsic(as_left("wrist", "hand"), "zyx")
        found |= {
            f"{side}_hip": (-hip_x, hip_z, -hip_y),
            f"{side}_knee": (knee_x, knee_z, -knee_y),
            f"{side}_ankle": (-ankle_x, ankle_y, ankle_z),
            f"{side}_shoulder": _shoulder(as_left("collar", "shoulder")),
            f"{side}_elbow": (-elbow_y, elbow_z, elbow_x + wrist_x),
            f"{side}_wrist": (-wrist_z, wrist_y),
        }
    return {
        joint: {name: float(torch.rad2deg(angle)) for name, angle in zip(names, found[joint], strict=True)}
        for joint, names in ANGLE_NAMES.items()
    }


def _chain(rotations: dict[str, Tensor], joints: tuple[str, ...]) -> Float[Tensor, "3 3"]:
    turned = torch.eye(3, dtype=torch.float64)
    for joint in joints:
        turned = turned @ rotations[joint]
    return turned


def _column(turned: Float[Tensor, "3 3"]) -> tuple[Tensor, Tensor, Tensor]:
    forward, right, left = _intrinsic(turned, "xzy")
    return forward, right, left


def _shoulder(turned: Float[Tensor, "3 3"]) -> tuple[Tensor, Tensor, Tensor]:
    """Of a left arm: about the trunk's vertical, away from it, about the upper arm (Wu et al. 2005: Y-X-Y)."""
    hanging = _about(2, torch.tensor(torch.pi / 2, dtype=torch.float64))  # from the arm that hangs to the T-pose's
    arm = turned @ hanging
    sine = torch.hypot(arm[0, 1], arm[2, 1])
    elevation = torch.atan2(sine, arm[1, 1])
    if float(sine) < _SINGULAR:  # only the sum of the two rotations is known
        plane = arm.new_zeros(())
        about_arm = torch.atan2(arm[0, 2], arm[0, 0] * torch.sign(arm[1, 1]))
    else:
        plane = torch.atan2(arm[2, 1], -arm[0, 1])
        about_arm = torch.atan2(arm[1, 2], arm[1, 0])
    return -plane, elevation, -about_arm


def _intrinsic(turned: Float[Tensor, "3 3"], order: str) -> tuple[Tensor, Tensor, Tensor]:
    """Angles about three different body axes, one after the other: ``turned = R1(a) R2(b) R3(c)``."""
    i, j, k = ("xyz".index(axis) for axis in order)
    sign = 1.0 if (j - i) % 3 == 1 else -1.0
    first = torch.atan2(-sign * turned[j, k], turned[k, k])
    second = torch.asin((sign * turned[i, k]).clamp(-1.0, 1.0))
    third = torch.atan2(-sign * turned[i, j], turned[i, i])
    return first, second, third


def _about(axis: int, angle: Tensor) -> Float[Tensor, "3 3"]:
    vector = torch.zeros(3, dtype=torch.float64)
    vector[axis] = angle
    return rotvec_to_rotmat(vector[None])[0]
