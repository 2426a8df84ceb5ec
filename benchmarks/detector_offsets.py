"""How far from the body's own keypoints does the detector mark its points?

Renders of free bodies whose truth is known, in held-out motion-capture poses, as `kouros synthesize` shows them to it:

    kouros synthesize --out people --split val --mocap MOCAP --people 1500 --size 288 --detections
    python benchmarks/detector_offsets.py people/detections

Prints, for every point, the constant offset in the frame of one joint that best explains the detections (robust
least squares on the picture plane, left and right together in mirror image), and how much of the error it removes.
These offsets are the table in `kouros.fitting.terms.calibration`.
"""

import json
import sys
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

import kouros
from kouros.body.keypoints import BLAZEPOSE33
from kouros.body.skeleton import JOINT_NAMES, forward_kinematics
from kouros.data.detections import DetectionSource
from kouros.fitting.terms.calibration import BLAZEPOSE_FRAMES
from kouros.geometry.rotations import rotvec_to_rotmat

CONFIDENT = 0.5
ROBUST = 0.03  # metres


def offset_of(
    turns: torch.Tensor, points: torch.Tensor, seen: torch.Tensor, confident: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The offset, metres, and the errors before and after, metres at the points' depth."""
    depth = points[:, 2:]
    error = (seen - points[:, :2] / depth) * depth
    # Moving a point by d moves its image by (d_xy - xy / z d_z) / z.
    plane = torch.cat([torch.eye(2).double().expand(len(points), 2, 2), -(points[:, :2] / depth)[..., None]], dim=-1)
    design = plane @ turns
    weight = confident.double()
    offset = torch.zeros(3).double()
    for _ in range(20):
        rows = (design * weight[:, None, None].sqrt()).flatten(0, 1)
        offset = torch.linalg.lstsq(rows, (error * weight[:, None].sqrt()).flatten()[:, None]).solution[:, 0]
        left = (error - design @ offset).norm(dim=-1)
        weight = confident.double() * (ROBUST**2 / (ROBUST**2 + left**2)) ** 2
    return offset, error.norm(dim=-1)[confident], left[confident]


def main(folder: Path) -> None:
    data = {name: tensor.double() for name, tensor in vars(DetectionSource(folder).all).items()}
    body = kouros.load_body(dtype=torch.float64)
    rotations = rotvec_to_rotmat(data["pose"].unflatten(-1, (24, 3)))
    out = body(betas=data["betas"], body_pose=data["pose"][:, 3:], global_orient=data["pose"][:, :3])
    shift = (data["pelvis"] - out.joints[:, 0])[:, None]
    points = body.keypoints_3d(out, BLAZEPOSE33.name) + shift
    turns, _ = forward_kinematics(rotations, out.joints)
    table = Table("point", "frame", "offset of the left one, mm", "median error before, mm", "after, mm")
    for part, frame in BLAZEPOSE_FRAMES.items():
        names = [part] if part in BLAZEPOSE33.names else [f"left_{part}", f"right_{part}"]
        collected = []
        for name in names:
            side, place = name.partition("_")[0], BLAZEPOSE33.index(name)
            joint = JOINT_NAMES.index(frame.format(side=side))
            # A right point's offset is the left one's in the mirror: turn the frame's x axis around.
            flip = torch.diag(torch.tensor([-1.0 if side == "right" else 1.0, 1.0, 1.0]).double())
            seen = data["keypoints"][:, place]
            collected.append((turns[:, joint] @ flip, points[:, place], seen[:, :2], seen[:, 2] > CONFIDENT))
        offset, before, after = offset_of(*(torch.cat(c) for c in zip(*collected, strict=True)))
        millimetres = [round(1000 * v) for v in offset.tolist()]
        cells = 1000 * float(before.median()), 1000 * float(after.median())
        table.add_row(part, frame, str(millimetres), f"{cells[0]:.0f}", f"{cells[1]:.0f}")
        print(
            json.dumps(
                {
                    "point": part,
                    "frame": frame,
                    "offset_mm": millimetres,
                    "before_mm": cells[0],
                    "after_mm": cells[1],
                }
            )
        )
    Console().print(table, f"{len(points)} renders")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
