"""What would a better start have to know, and does what the picture says beside it help any more?

    kouros synthesize --out people --mocap MOCAP --people 8000 --size 288 --seed 180001 --detections --features
    kouros synthesize --out held_out --mocap MOCAP --split val --people 1000 --size 288 --seed 1 --detections --features
    python benchmarks/what_starts_lack.py told held_out/detections
    python benchmarks/what_starts_lack.py photos MULTIVIEW --out OUT          # a folder with annotations.npz
    python benchmarks/what_starts_lack.py fused people/detections held_out/detections --look LOOK_B --out OUT
    python benchmarks/what_starts_lack.py looks LOOK_B --out OUT
    python benchmarks/what_starts_lack.py small held_out/detections runs/spin runs/hkmr

`told`: the learned start, told the true points or depths in place of those that were found; `photos`: the same of
people in photos, before and after the fit, by COCO's points as annotators mark them. `fused`: its joints plus
per joint and axis a share of how far BlazePose's landmarks and the points at the picture's depths lie from them; shares
depend on the confidence and are found by least squares on the first folder. `looks`: depths averaged over more of
Thunder's looks. `small`: runs of SPIN and HKMR that learned from detections, on others. LOOK_B and OUT as for
`benchmarks/default.py`. Twelve limb joints, millimetres.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from default import (
    FLAT,
    HIPS,
    LIMBS,
    Answered,
    Shown,
    errors,
    fitted,
    fitted_to_points,
    of_bodies,
    of_points,
    points_at_depths,
    shown_in,
)
from kouros.body.keypoints import BLAZEPOSE33, COCO17
from kouros.data.detections import DetectionSource
from kouros.data.spin_joints import TO_SPIN24
from kouros.detection.depths import packaged_depth_head
from kouros.detection.fusion import SHARED
from kouros.detection.movenet import Thunder
from kouros.detection.places import region_around
from kouros.detection.regions import Pyramid
from kouros.evaluation.metrics.pose import joint_errors, procrustes_errors
from kouros.fitting.schedules.keypoint_fit import KeypointFitter
from kouros.geometry.cameras import PerspectiveCamera
from kouros.pipeline.open import open_estimator
from kouros.pipeline.reconstructor import default_body
from kouros.priors.gmm import load_gmm
from kouros.systems.estimator import PersonInPhoto, in_photo_camera
from kouros.systems.hkmr import Hkmr
from kouros.systems.joint_crops import detected_people
from kouros.systems.joint_depths import true_depths, true_points
from kouros.systems.lifter import BodyPoints, LearnedStart, load_weights, predict
from kouros.systems.losses import ANNOTATED, regressed_keypoints
from kouros.systems.spin import Spin
from kouros.training.runs import load_run

FOCAL = 1000.0
SEEN = 0.6
_LEAST = 0.01
_TOLD = 0.95
"""Confidence of a point that is told."""
PARTS = ("hip", "knee", "ankle", "shoulder", "elbow", "wrist")
_LIMBS = (("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist"))
_BONES = [tuple(COCO17.index(f"{side}_{end}") for end in ends) for side in ("left", "right") for ends in _LIMBS]


@dataclass(frozen=True, eq=False)
class Told:
    """People by what was seen of them: joints about the hips, metres, camera axes."""

    start: Tensor
    landmarks: Tensor
    lifted: Tensor
    true: Tensor
    confidence: Tensor


def about_hips(points: Tensor) -> Tensor:
    return points - points[:, HIPS].mean(1, keepdim=True)


def said(found: Tensor, true: Tensor) -> str:
    aligned = 1000 * procrustes_errors(found, true).mean(-1)
    plain = 1000 * joint_errors(about_hips(found), about_hips(true)).mean(-1)
    return f"PA-MPJPE {aligned.mean():.1f}, median {aligned.median():.1f}, MPJPE {plain.mean():.1f}"


def started(keypoints: Tensor, landmarks: Tensor, depths: Tensor) -> Tensor:
    """The start's joints, of rays and what is relative to the hips' distance."""
    body, count = default_body(), len(keypoints)
    camera = PerspectiveCamera(torch.full((count,), FOCAL), torch.zeros(count, 2))
    pixels = keypoints * torch.tensor([FOCAL, FOCAL, 1.0])
    answer = predict(load_weights(), body, pixels, BLAZEPOSE33.name, camera, landmarks, depths * FOCAL).answers[:, 0]
    return about_hips((answer.keypoints_by(body, BLAZEPOSE33.name) - answer.transl[:, None])[:, LIMBS])


def told(folder: Path) -> None:
    """The start with the truth in place of what was found."""
    people, body = DetectionSource(folder).all, default_body()
    pose = people.pose
    placed = body.keypoint_positions(
        BLAZEPOSE33.name, betas=people.betas, body_pose=pose[:, 3:], global_orient=pose[:, :3]
    )
    true = about_hips(placed[:, LIMBS])
    pelvis = body.joint_positions(people.betas, pose[:, 3:], pose[:, :3], torch.zeros_like(people.pelvis))[:, :1]
    seen = placed - pelvis + people.pelvis[:, None]
    exact = torch.cat([seen[..., :2] / seen[..., 2:], torch.ones_like(seen[..., :1])], -1)
    side = people.region[:, 2:]
    deep = true_depths(true_points(people, BodyPoints(body)), side[:, 0]) * side
    depths = torch.stack([deep, torch.full_like(deep, 2 * _LEAST) * side], -1)
    clear = (people.keypoints[:, LIMBS, 2] > SEEN).float().mean(1) > 0.8
    for name, keypoints, depth in (
        ("as found", people.keypoints, people.depths),
        ("true points", exact, people.depths),
        ("true depths", people.keypoints, depths),
        ("true points and depths", exact, depths),
    ):
        found = started(keypoints, people.landmarks, depth)
        print(
            f"{name}: all {len(true)}: {said(found, true)}; seen {int(clear.sum())}: {said(found[clear], true[clear])}"
        )


def photos(folder: Path, out: Path) -> None:
    """People in calibrated photos, told the truth in part."""
    shown = shown_in(folder, 0, out.parent)
    people, body = [s.person for s in shown], default_body()
    true, start = torch.stack([s.joints for s in shown]), LearnedStart(body)
    alone = [replace(p, detected=replace(p.detected, landmarks_3d=None)) for p in people if p.detected]
    flat = [replace(p, detected=replace(p.detected, depths=None)) for p in people if p.detected]
    pairs = list(zip(people, shown, strict=True))
    points, deep = [told_points(p, s) for p, s in pairs], [told_depths(p, s) for p, s in pairs]
    both = [told_points(p, s) for p, s in zip(deep, shown, strict=True)]
    ways = {"as found": people, "no landmarks": alone, "no depths": flat}
    ways |= {"true points": points, "true depths": deep, "true points and depths": both}
    answers: dict[str, tuple[Answered, list[PersonInPhoto]]] = {}
    for name, given in ways.items():
        began = of_bodies(start.estimate(given), given)
        answers |= {f"{name}, alone": (began, given), f"{name}, fitted": (fitted(began, given, True), given)}
    began, _ = answers["as found, alone"]
    for share in (0.25, 0.5):
        evidence = Answered(with_depths(began, people, share))
        answers[f"{share:.0%} of the picture's depths"] = fitted_to_points(evidence, began, people, 0.03), people
    for name, (answer, given) in answers.items():
        aligned, plain = (np.nanmean(e) for e in errors(marked(answer, given), true))
        print(f"{name}: {len(true)} people, PA-MPJPE {aligned:.1f}, MPJPE {plain:.1f}")


def with_depths(start: Answered, people: Sequence[PersonInPhoto], share: float) -> Tensor:
    """(people, 33, 3): the start's points as the finder marks them, about the hips; COCO's of them moved by so much
    towards where the picture's depths have them."""
    kinematics = KeypointFitter(default_body(), BLAZEPOSE33.name, load_gmm()).kinematics
    found, hips = [], [LIMBS[k] for k in HIPS]
    assert start.estimates is not None
    for estimate, person in zip(start.estimates, people, strict=True):
        assert estimate is not None and person.detected is not None and person.detected.depths is not None
        bodies = in_photo_camera(estimate, person).bodies
        assert bodies is not None
        points = kinematics.points(bodies.map(lambda t: t[None]))[0]
        depth = 1 + torch.from_numpy(person.detected.depths[:, :1]).float() / person.camera.focal_length
        lifted = person.camera.rays(person.keypoints[SHARED, :2]) * depth * points[hips, 2].mean()
        lifted = lifted - lifted[[COCO17.index(f"{side}_hip") for side in ("left", "right")]].mean(0)
        points = points - points[hips].mean(0)
        points[SHARED] = (1 - share) * points[SHARED] + share * lifted
        found.append(points)
    return torch.stack(found)


def told_points(person: PersonInPhoto, shown: Shown) -> PersonInPhoto:
    """With the limbs' points where they were annotated."""
    assert person.detected is not None and shown.marks is not None
    keypoints = person.detected.keypoints_2d.copy()
    for place, mark in zip(LIMBS, shown.marks.numpy(), strict=True):
        if np.isfinite(mark).all():
            keypoints[place] = (*mark, _TOLD)
    return replace(person, detected=replace(person.detected, keypoints_2d=keypoints))


def told_depths(person: PersonInPhoto, shown: Shown) -> PersonInPhoto:
    """With the limbs' depths as they are, to two centimetres."""
    assert person.detected is not None and person.detected.depths is not None
    depths, focal = person.detected.depths.copy(), float(person.camera.focal_length)
    hips = float(shown.joints[HIPS, 2].mean())
    for place, depth in zip(FLAT, shown.joints[:, 2].tolist(), strict=True):
        if np.isfinite(depth):
            depths[place] = ((depth / hips - 1) * focal, 2 * _LEAST / hips * focal)
    return replace(person, detected=replace(person.detected, depths=depths))


def marked(answer: Answered, people: Sequence[PersonInPhoto]) -> Tensor:
    """(people, 33, 3): bodies' COCO points of the limbs, in BlazePose's places, as annotators mark them."""
    assert answer.estimates is not None
    points, body = answer.points.clone(), default_body()
    for i, estimate in enumerate(answer.estimates):
        if estimate is not None and estimate.bodies is not None:
            one = in_photo_camera(estimate, people[i]).bodies
            assert one is not None
            points[i, LIMBS] = one.map(lambda t: t[None]).keypoints_by(body, COCO17.name)[0, FLAT]
    return points


def told_of(folder: Path) -> Told:
    """From detections."""
    people, body = DetectionSource(folder).all, default_body()
    pose = people.pose
    placed = body.keypoint_positions(
        BLAZEPOSE33.name, betas=people.betas, body_pose=pose[:, 3:], global_orient=pose[:, :3]
    )
    rays = people.keypoints[:, SHARED]
    depth = 1 + people.depths[..., :1]
    points = torch.cat([rays[..., :2] * depth, depth], -1)
    bones = torch.stack([(points[:, a] - points[:, b]).norm(dim=-1) for a, b in _BONES], 1)
    true_bones = torch.stack([(placed[:, SHARED[a]] - placed[:, SHARED[b]]).norm(dim=-1).mean() for a, b in _BONES])
    points = points * (true_bones / bones.clamp(min=1e-6)).median(1).values[:, None, None]
    return Told(
        started(people.keypoints, people.landmarks, people.depths),
        about_hips(people.landmarks[:, LIMBS]),
        about_hips(points[:, FLAT]),
        about_hips(placed[:, LIMBS]),
        people.keypoints[:, LIMBS, 2],
    )


def told_by(shown: Sequence[Shown]) -> Told:
    """From people in pictures."""
    people = [s.person for s in shown]
    blazepose = open_estimator("blazepose")
    assert blazepose.points_3d is not None
    return Told(
        of_bodies(LearnedStart(default_body()).estimate(people), people).points[:, LIMBS],
        of_points(blazepose.estimate(people), blazepose.points_3d).points[:, LIMBS],
        of_points(points_at_depths().estimate(people), COCO17).points[:, LIMBS],
        about_hips(torch.stack([s.joints for s in shown])),
        torch.stack([p.keypoints[LIMBS, 2] for p in people]),
    )


def _evidence(people: Told) -> Tensor:
    """(people, 12, 3, numbers)."""
    parts = []
    for points in (people.landmarks, people.lifted):
        away = points - people.start
        weakest = people.confidence.amin(1)[:, None, None]
        parts += [away, away * people.confidence[..., None], away * weakest]
    return torch.stack(parts, -1)


def fused(learn: Path, held: Path, look: Path, out: Path, people: int) -> None:
    """Shares found on the first folder, judged on all."""
    sets = {
        "learned on": told_of(learn),
        "held out": told_of(held),
        "look B": told_by(shown_in(look, people, out.parent)),
    }
    given, wanted = _evidence(sets["learned on"]), sets["learned on"].true - sets["learned on"].start
    shares = torch.zeros(given.shape[1:])
    for joint in range(given.shape[1]):
        for axis in range(3):
            rows, target = given[:, joint, axis], wanted[:, joint, axis]
            near = (rows.abs().amax(1) < 1) & (target.abs() < 1)
            solved = torch.linalg.lstsq(rows[near].double(), target[near, None].double()).solution
            shares[joint, axis] = solved[:, 0].float()
    for name, set_ in sets.items():
        found = set_.start + (_evidence(set_) * shares).sum(-1)
        print(f"{name}: start {said(set_.start, set_.true)}; fused {said(found, set_.true)}")


def looks(look: Path, out: Path, people: int) -> None:
    """Depths of several looks."""
    shown = shown_in(look, people, out.parent)
    seen, true = [s.person for s in shown], torch.stack([s.joints for s in shown])
    thunder, head, mirror = Thunder(threads=1), packaged_depth_head(), list(COCO17.mirror)
    ways = {"plain": {}, "mirrored": {"mirrored": True}, "turned": {"scale": 1.12, "turn": 0.12, "mirrored": True}}
    found: dict[str, list[np.ndarray | None]] = {}
    for name, way in ways.items():
        found[name] = []
        for person in seen:
            assert person.detected is not None and person.image is not None
            points = person.detected.keypoints_2d[SHARED]
            region = region_around(points[:, :2], points[:, 2])
            if region is None:
                found[name].append(None)
                continue
            region = region.varied(**way)  # type: ignore[arg-type]
            with torch.no_grad():
                answer = head(torch.from_numpy(thunder.look(Pyramid(person.image), region).features).float()[None])
            depth = torch.stack([answer.depth[0], answer.spread[0] + _LEAST], -1).numpy() * region.size
            found[name].append(depth[mirror] if region.mirrored else depth)
    for names in ((), ("plain",), ("plain", "mirrored"), ("plain", "turned"), ("plain", "mirrored", "turned")):
        people_told = []
        for i, person in enumerate(seen):
            each = [one for n in names if (one := found[n][i]) is not None]
            depths = np.mean(each, axis=0) if each else None
            assert person.detected is not None
            people_told.append(replace(person, detected=replace(person.detected, depths=depths)))
        start = of_bodies(LearnedStart(default_body()).estimate(people_told), people_told)
        for what, answer_ in (("start", start), ("fitted", fitted(start, people_told, True))):
            aligned, plain = errors(answer_.points, true)
            label = " + ".join(names) or "no depths"
            print(f"{label}, {what}: PA-MPJPE {np.nanmean(aligned):.1f}, MPJPE {np.nanmean(plain):.1f}")


def small(folder: Path, runs: Sequence[Path]) -> None:
    """Regressors on kept features."""
    names = [f"{side}_{joint}" for side in ("left", "right") for joint in PARTS]
    limbs = [ANNOTATED.start + TO_SPIN24[COCO17.name][COCO17.index(name)] for name in names]
    hips = [names.index("left_hip"), names.index("right_hip")]
    for run in runs:
        system = load_run(run)
        assert isinstance(system, Spin | Hkmr)
        people = detected_people(DetectionSource(folder), system.crop_size)
        with torch.no_grad():
            answer = system.regressor(system.neck(people.features))[-1]
            space = regressed_keypoints(system.body, answer).space
        points = (p[:, limbs] for p in (space, people.keypoints_3d[..., :3]))
        found, true = (p - p[:, hips].mean(1, keepdim=True) for p in points)
        aligned = 1000 * procrustes_errors(found, true).mean(-1)
        plain = 1000 * joint_errors(found, true).mean()
        print(f"{run}: PA-MPJPE {aligned.mean():.1f}, median {aligned.median():.1f}, MPJPE {plain:.1f}")


def main() -> None:
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("told").add_argument("folder", type=Path)
    photographed = commands.add_parser("photos")
    photographed.add_argument("folder", type=Path)
    photographed.add_argument("--out", type=Path, required=True)
    fusing = commands.add_parser("fused")
    fusing.add_argument("learn", type=Path)
    fusing.add_argument("held", type=Path)
    fusing.add_argument("--look", type=Path, required=True)
    looking = commands.add_parser("looks")
    looking.add_argument("look", type=Path)
    learned = commands.add_parser("small")
    learned.add_argument("folder", type=Path)
    learned.add_argument("runs", type=Path, nargs="+")
    for each in (fusing, looking):
        each.add_argument("--out", type=Path, required=True)
        each.add_argument("--people", type=int, default=130)
    given = parser.parse_args()
    if given.command == "told":
        told(given.folder)
    elif given.command == "photos":
        photos(given.folder, given.out)
    elif given.command == "fused":
        fused(given.learn, given.held, given.look, given.out, given.people)
    elif given.command == "small":
        small(given.folder, given.runs)
    else:
        looks(given.look, given.out, given.people)


if __name__ == "__main__":
    main()
