"""Where the finder marks BlazePose's points, against where anatomy puts them.

Its "hip" lies inward of the hip joint and before it, its "ankle" above the ankle. The offsets were measured on rendered
free bodies whose truth is known: the constant vector in the frame of a joint that best explains the detections on
11,721 renders of training poses, left and right together in mirror image. `benchmarks/detector_offsets.py found` prints
the table anew. What COCO's annotators mark is in the body itself: `kouros.body.free.keypoints.MARKS`.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from kouros.body.keypoints import BLAZEPOSE33, keypoint_set
from kouros.body.skeleton import JOINT_NAMES
from kouros.body.tables import KeypointTables

_FACE, _HAND, _FOOT = "head", "{side}_wrist", "{side}_ankle"
# Point: joint whose frame it is measured in, and the left point's offset in millimetres, body axes.
_BLAZEPOSE = {
    "nose": (_FACE, (0, 7, -23)),
    "eye_inner": (_FACE, (-5, 0, -7)),
    "eye": (_FACE, (-7, -2, -16)),
    "eye_outer": (_FACE, (-11, -3, -17)),
    "ear": (_FACE, (-28, 1, 17)),
    "mouth": (_FACE, (-8, 4, -20)),
    "shoulder": ("spine3", (-21, 10, -1)),
    "elbow": ("{side}_elbow", (-4, 3, 15)),
    "wrist": (_HAND, (8, 0, 1)),
    "pinky": (_HAND, (-13, -6, 28)),
    "index": (_HAND, (-23, -9, -17)),
    "thumb": (_HAND, (8, 12, -28)),
    "hip": ("pelvis", (-17, 5, 28)),
    "knee": ("{side}_knee", (-4, -6, 4)),
    "ankle": (_FOOT, (1, 22, 7)),
    "heel": (_FOOT, (-3, 14, 22)),
    "foot_index": (_FOOT, (-9, 14, -36)),
}  # fmt: skip


BLAZEPOSE_FRAMES = {part: frame for part, (frame, _) in _BLAZEPOSE.items()}
"""The joint, left or right, in whose frame each point's offset is given."""


def detector_tables(tables: KeypointTables, set_name: str) -> KeypointTables:
    """Tables of the points as the set's detector marks them; sets without a measured detector stay as they are.

    An offset in a joint's frame is one more pair with no weight of its own: it turns with the joint and that is all.
    """
    if set_name != BLAZEPOSE33.name:
        return tables
    joints, offsets = _blazepose_offsets(tables.anchor)
    count = len(joints)
    return KeypointTables(
        keypoint=torch.cat([tables.keypoint, torch.arange(count, device=joints.device)]),
        joint=torch.cat([tables.joint, joints]),
        anchor=torch.cat([tables.anchor, offsets]),
        shape=torch.cat([tables.shape, tables.shape.new_zeros(count, *tables.shape.shape[1:])]),
        pose=torch.cat([tables.pose, tables.pose.new_zeros(count, *tables.pose.shape[1:])]),
        weight=torch.cat([tables.weight, tables.weight.new_zeros(count)]),
        num_keypoints=tables.num_keypoints,
    )


def _blazepose_offsets(like: Tensor) -> tuple[Tensor, Float[Tensor, "33 3"]]:
    joints, offsets = [], []
    for name in keypoint_set(BLAZEPOSE33.name).names:
        side, _, part = name.partition("_")
        frame, (x, y, z) = _BLAZEPOSE[part or name]
        joints.append(JOINT_NAMES.index(frame.format(side=side)))
        offsets.append((-x if side == "right" else x, y, z))
    return torch.tensor(joints, device=like.device), like.new_tensor(offsets) / 1000
