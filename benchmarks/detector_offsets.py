r"""How far from the body's own keypoints do detectors mark their points?

Renders of free bodies whose truth is known, as `kouros synthesize` shows them:

    kouros synthesize --out people --split val --mocap MOCAP --people 1500 --size 288 --detections
    python benchmarks/detector_offsets.py found people/detections
    kouros synthesize --out dressed --mocap MOCAP --people 16000 --size 288 --seed 280001 --athletic 0.25 \
        --wardrobe ASSETS
    python benchmarks/detector_offsets.py marks dressed [--people 1600]

Prints, for every point, the constant offset in the frame of one joint that best explains what was marked (robust
least squares on the picture plane, left and right together in mirror image), and how much of the error it removes.
`found`: the finder's points; these offsets are the table in `kouros.fitting.terms.calibration`. `marks`: MoveNet
Thunder's, shown where people are; it has learned what COCO's annotators mark: `kouros.body.free.keypoints.MARKS`.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import kouros
from kouros.body.keypoints import BLAZEPOSE33, COCO17, KeypointSet
from kouros.body.skeleton import JOINT_NAMES, forward_kinematics
from kouros.data.detections import DetectionSource
from kouros.data.synthetic.source import SyntheticSource
from kouros.detection.movenet import Thunder
from kouros.detection.places import region_around
from kouros.detection.regions import Pyramid
from kouros.fitting.terms.calibration import BLAZEPOSE_FRAMES
from kouros.geometry.rotations import rotvec_to_rotmat

CONFIDENT = 0.5
"""Of the finder's points, from which confidence on they count."""
SURE = 0.6
"""The same of Thunder's own."""
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


@dataclass(frozen=True)
class Marked:
    """People of known pose, and points that were marked on them."""

    pose: torch.Tensor
    betas: torch.Tensor
    pelvis: torch.Tensor
    points: torch.Tensor
    """(people, points, 3): x and y at depth 1, and confidence."""


def found(folder: Path) -> Marked:
    """By the finder."""
    people = DetectionSource(folder).all
    return Marked(*(t.double() for t in (people.pose, people.betas, people.pelvis, people.keypoints)))


def marked_by_thunder(folder: Path, count: int) -> Marked:
    """By MoveNet's single look at the square around the true points, of people throughout the folder."""
    source, thunder = SyntheticSource(folder), Thunder()
    rows: list[tuple[np.ndarray, ...]] = []
    for row in range(0, len(source), max(1, len(source) // count)):
        true, sample = source.points([row], COCO17)[0], source.sample(row)
        region = region_around(true[:, :2].astype(np.float64), np.isfinite(true[:, 0]).astype(np.float64))
        if region is None:
            continue
        seen = thunder.look(Pyramid(source.image(row)), region)
        focal, _, *center = np.asarray(sample.intrinsics, dtype=np.float64).tolist()
        marks = np.column_stack([(seen.points - center) / focal, seen.confidence])
        rows.append((*(np.asarray(known) for known in (sample.pose, sample.betas, sample.transl)), marks))
    pose, betas, transl, points = (torch.from_numpy(np.stack(column)).double() for column in zip(*rows, strict=True))
    root = kouros.load_body(dtype=torch.float64).joint_positions(betas)[:, 0]
    return Marked(pose, betas, transl + root, points)


def measured(people: Marked, points_of: KeypointSet, frames: Mapping[str, str], confident: float) -> None:
    """Print the table."""
    body = kouros.load_body(dtype=torch.float64)
    rotations = rotvec_to_rotmat(people.pose.unflatten(-1, (24, 3)))
    joints = body.joint_positions(people.betas, people.pose[:, 3:], people.pose[:, :3])
    shift = (people.pelvis - joints[:, 0])[:, None]
    # The body's own: joints, and points on its skin, before anybody has marked them.
    own = body.keypoint_positions(BLAZEPOSE33.name, people.betas, people.pose[:, 3:], people.pose[:, :3]) + shift
    turns, _ = forward_kinematics(rotations, joints)
    table = Table("point", "frame", "offset of the left one, mm", "median error before, mm", "after, mm")
    for part, frame in frames.items():
        names = [part] if part in points_of.names else [f"left_{part}", f"right_{part}"]
        collected = []
        for name in names:
            side, place = name.partition("_")[0], points_of.index(name)
            joint = JOINT_NAMES.index(frame.format(side=side))
            # A right point's offset is the left one's in the mirror: turn the frame's x axis around.
            flip = torch.diag(torch.tensor([-1.0 if side == "right" else 1.0, 1.0, 1.0]).double())
            seen = people.points[:, place]
            collected.append(
                (turns[:, joint] @ flip, own[:, BLAZEPOSE33.index(name)], seen[:, :2], seen[:, 2] > confident)
            )
        offset, before, after = offset_of(*(torch.cat(c) for c in zip(*collected, strict=True)))
        millimetres = [round(1000 * v) for v in offset.tolist()]
        cells = 1000 * float(before.median()), 1000 * float(after.median())
        table.add_row(part, frame, str(millimetres), f"{cells[0]:.0f}", f"{cells[1]:.0f}")
        row = {"point": part, "frame": frame, "offset_mm": millimetres, "before_mm": cells[0], "after_mm": cells[1]}
        print(json.dumps(row))
    Console().print(table, f"{len(own)} renders")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("found").add_argument("folder", type=Path)
    marks = commands.add_parser("marks")
    marks.add_argument("folder", type=Path)
    marks.add_argument("--people", type=int, default=1600)
    given = parser.parse_args()
    if given.command == "found":
        measured(found(given.folder), BLAZEPOSE33, BLAZEPOSE_FRAMES, CONFIDENT)
        return
    shown = {name.removeprefix("left_").removeprefix("right_") for name in COCO17.names}
    frames = {part: frame for part, frame in BLAZEPOSE_FRAMES.items() if part in shown}
    measured(marked_by_thunder(given.folder, given.people), COCO17, frames, SURE)


if __name__ == "__main__":
    main()
