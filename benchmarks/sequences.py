"""What does fitting the frames of a video together bring over fitting each on its own?

Held-out motion-capture sequences, each by a still random camera, as OpenPose's keypoints with noise and a tenth of them
missing, people about 280 pixels high; every fifth sequence also misses a quarter of its frames. Prints MPJPE
(root-aligned), PA-MPJPE and the acceleration error in mm a frame squared at 30 frames a second (root-aligned and in
the camera), then a JSON line for each row.

``python benchmarks/sequences.py --mocap ../shared/data/mocap [--sequences 32] [--frames 60] [--noise 1 2 4]``
"""

import argparse
import json
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import kouros
from kouros.body import BodyModel
from kouros.body.parameters import BodyParameters
from kouros.detection.people import DetectedPerson, box_around
from kouros.evaluation.metrics.pose import acceleration_errors, joint_errors, procrustes_errors
from kouros.fitting.terms.kinematics import KeypointKinematics
from kouros.geometry.rotations import rotmat_to_rotvec, rotvec_to_rotmat
from kouros.pipeline.sequence import FittedVideo, VideoFrame, fit_video

SET, FOCAL, SIZE, DISTANCE, RATE = "openpose25", 1000.0, 1000, 6.0, 30.0
SHARE_MISSING = 0.1


def held_out(folder: Path, count: int) -> list[Path]:
    """Sequences of the validation split, spread over the activities."""
    found = []
    for path in sorted((folder / "sequences").glob("*.npz")):
        with np.load(path, allow_pickle=False) as clip:
            if str(clip["split"]) == "val":
                found.append(path)
    return [found[i] for i in np.linspace(0, len(found) - 1, min(count, len(found))).astype(int)]


def filmed(path: Path, frames: int, body: BodyModel, generator: torch.Generator) -> BodyParameters:
    """The middle of a sequence before a random camera, with a random body."""
    with np.load(path, allow_pickle=False) as clip:
        first = max(0, (len(clip["poses"]) - frames) // 2)
        poses = torch.from_numpy(clip["poses"][first : first + frames]).float()
        pelvis = torch.from_numpy(clip["trans"][first : first + frames]).float()
    betas = torch.randn(1, 10, generator=generator)
    heading, tilt = (torch.rand(2, generator=generator) - 0.5).tolist()
    towards = rotvec_to_rotmat(torch.tensor([math.pi + 0.5 * tilt, 0.0, 0.0]))
    camera = towards @ rotvec_to_rotmat(torch.tensor([0.0, 2 * math.pi * heading, 0.0]))
    orient = rotmat_to_rotvec(camera @ rotvec_to_rotmat(poses[:, :3]))
    rest = body.joint_template[0] + body.joint_shapedirs[0] @ betas[0]
    place = (pelvis - pelvis.mean(0)) @ camera.T + torch.tensor([0.0, 0.0, DISTANCE]) - rest
    return BodyParameters(torch.cat([orient, poses[:, 3:]], dim=1), betas.repeat(len(poses), 1), place)


def detected(points: Tensor, noise: float, gaps: bool, generator: torch.Generator) -> list[VideoFrame]:
    pixels = FOCAL * points[..., :2] / points[..., 2:] + SIZE / 2
    pixels = pixels + noise * torch.randn(pixels.shape, generator=generator)
    seen = (torch.rand(pixels.shape[:2], generator=generator) > SHARE_MISSING).float()
    gone = torch.rand(len(pixels), generator=generator) < (0.25 if gaps else 0.0)
    frames = []
    for t, keypoints in enumerate(torch.cat([pixels, seen[..., None]], dim=-1).double().numpy()):
        person = DetectedPerson(box_around(keypoints, SIZE, SIZE), keypoints, SET, 1.0)
        frames.append(VideoFrame(str(t), t, [] if gone[t] else [person]))
    return frames


def errors(video: FittedVideo, real: Tensor) -> list[float]:
    """Millimetres; accelerations at frames whose neighbours were found."""
    found = torch.full_like(real, math.nan)
    for track in video.tracks:
        found[list(track.frames)] = torch.stack([p.joints for p in track.people])
    seen = ~found.isnan().any(-1)
    there = seen.all(-1)
    a, b = found[there], real[there]
    centred, real_centred = found - found[:, :1], real - real[:, :1]
    results = [joint_errors(a, b, predicted_root=a[:, 0], target_root=b[:, 0]).mean(), procrustes_errors(a, b).mean()]
    for mine, theirs in ((centred, real_centred), (found, real)):
        away, inner = acceleration_errors(mine[None], theirs[None], seen[None], frame_rate=1.0)
        results.append(away[inner].mean())
    return [1e3 * float(r) for r in results]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mocap", type=Path, required=True)
    parser.add_argument("--sequences", type=int, default=32)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--noise", type=float, nargs="+", default=(1.0, 2.0, 4.0), help="pixels")
    options = parser.parse_args()
    body = kouros.load_body()
    points, joints = KeypointKinematics(body, SET), KeypointKinematics(body, "smpl24")
    rows = []
    names = ("mpjpe_mm", "pa_mpjpe_mm", "acceleration_mm", "acceleration_in_camera_mm")
    print(f"{'noise':>6} {'fit':>10} " + " ".join(f"{n:>26}" for n in names))
    for noise in options.noise:
        generator = torch.Generator().manual_seed(0)
        found: dict[str, list[list[float]]] = {"each frame": [], "together": []}
        for k, path in enumerate(held_out(options.mocap, options.sequences)):
            truth = filmed(path, options.frames, body, generator)
            frames = detected(points.points(truth), noise, k % 5 == 4, generator)
            for fit, smooth in (("each frame", False), ("together", True)):
                video = fit_video(
                    frames, image_size=(SIZE, SIZE), focal_length=FOCAL, frame_rate=RATE, smooth=smooth, body=body
                )
                found[fit].append(errors(video, joints.points(truth)))
        for fit, values in found.items():
            mean = np.mean(values, axis=0)
            print(f"{noise:6} {fit:>10} " + " ".join(f"{v:26.2f}" for v in mean))
            rows.append(
                {"what": "sequences", "noise_px": noise, "fit": fit, "sequences": len(values), "frames": options.frames}
                | dict(zip(names, map(float, mean), strict=True))
            )
    for row in rows:
        print(json.dumps(row))


if __name__ == "__main__":
    main()
