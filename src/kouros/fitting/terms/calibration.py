"""Where a detector marks its points, against where anatomy puts them.

BlazePose's "hip" lies inward of and above the hip joint, its "ankle" above the ankle. The offsets were measured on
rendered free bodies whose truth is known (benchmarks/detector_offsets.py): the constant vector in the frame of a joint
that best explains the detections on 1,007 renders of held-out motion-capture poses, left and right together in mirror
image. `benchmarks/detector_offsets.py` prints the table anew.
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
    "nose": (_FACE, (0, 5, -33)),
    "eye_inner": (_FACE, (-7, -2, -20)),
    "eye": (_FACE, (-9, -4, -29)),
    "eye_outer": (_FACE, (-13, -5, -29)),
    "ear": (_FACE, (-27, 0, 26)),
    "mouth": (_FACE, (-8, 6, -20)),
    "shoulder": ("spine3", (-16, 11, -3)),
    "elbow": ("{side}_elbow", (-1, 1, 16)),
    "wrist": (_HAND, (12, 1, 2)),
    "pinky": (_HAND, (-10, -9, 31)),
    "index": (_HAND, (-22, -12, -16)),
    "thumb": (_HAND, (10, 9, -27)),
    "hip": ("pelvis", (-23, 18, 22)),
    "knee": ("{side}_knee", (-6, -15, -2)),
    "ankle": (_FOOT, (-1, 21, 12)),
    "heel": (_FOOT, (-5, 16, 23)),
    "foot_index": (_FOOT, (-16, 12, -33)),
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
