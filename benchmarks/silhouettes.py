"""Would silhouettes tell how stout people are? Girths from keypoints alone, and with the outline added.

    python benchmarks/silhouettes.py --people 40

Draws adults of random shapes in postures of held-out motion capture, fits their keypoints (noise of 1.5 % of their
height, known lens), then moves betas and place by Gauss-Newton so that keypoints and the trunk's outline agree. The
outline is the true one, with the fit's posture or the true one; or one that clothes widen by 2 % of the height. It is
trusted as much as was best on other people. Prints how far girths are off, as shares of the person's height, which no
picture tells.
"""

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
import torch

import kouros
from common import show
from kouros.body.files import shared_body
from kouros.body.free_body import DEFAULT_MOCAP, read_poses
from kouros.body.measurements import measure
from kouros.body.parameters import BodyParameters
from kouros.geometry.cameras import PerspectiveCamera
from kouros.render.rasterize import rasterize

SIDE, FOCAL, NOISE, CLOTHES = 128, 200.0, 0.015, 0.02
GIRTHS = ("chest_girth", "waist_girth", "hip_girth")
TRUST = (0.0, 0.1, 0.3, 1.0)
STEPS = 4
SET = "openpose25"
CAMERA = PerspectiveCamera(torch.tensor([FOCAL]), torch.tensor([[SIDE / 2, SIDE / 2]]))


Drawn = tuple[BodyParameters, BodyParameters, np.ndarray]
"""Somebody, the fit to their keypoints, and these."""


def outline(parameters: BodyParameters) -> np.ndarray:
    """The body's mask, softened, so that it changes smoothly."""
    body = shared_body()
    mask = rasterize(parameters.posed_by(body).vertices, body.faces, CAMERA, (SIDE, SIDE)).mask[0]
    return cv2.GaussianBlur(mask.numpy().astype(np.float32), (0, 0), 1.5)


def pixels_of(parameters: BodyParameters) -> np.ndarray:
    """Keypoints in the picture."""
    return CAMERA.project(parameters.keypoints_by(shared_body(), SET))[0].double().numpy()


def changed(parameters: BodyParameters, step: np.ndarray) -> BodyParameters:
    """With other betas and another place."""
    moved = torch.from_numpy(step).float()[None]
    return BodyParameters(parameters.pose, parameters.betas + moved[:, :10], parameters.transl + moved[:, 10:])


def trunk_window(keypoints: np.ndarray) -> np.ndarray:
    """Where the trunk is and what is beside it: from shoulders to hips, and as wide again on either side."""
    right, left, right_hip, left_hip = (keypoints[k] for k in (2, 5, 9, 12))
    across = np.array([left - right, left_hip - right_hip])
    corners = [right - across[0] / 2, left + across[0] / 2, left_hip + across[1], right_hip - across[1]]
    window = np.zeros((SIDE, SIDE), np.float32)
    cv2.fillConvexPoly(window, cv2.convexHull(np.round(np.array(corners)).astype(np.int32)), 1.0)
    return window


def refined(start: BodyParameters, keypoints: np.ndarray, wanted: np.ndarray, trust: float) -> BodyParameters:
    """The body that explains both; without trust in the outline the one that it begins with."""
    if not trust:
        return start
    sigma = NOISE * np.ptp(keypoints[:, 1])
    window = trust * trunk_window(keypoints)
    scale = np.r_[np.full(10, 0.5), np.full(3, 0.01)]

    def residuals(at: BodyParameters) -> np.ndarray:
        points = (pixels_of(at) - keypoints) / sigma
        return np.concatenate([points.ravel(), (window * (outline(at) - wanted)).ravel(), at.betas.numpy().ravel()])

    best = start
    for _ in range(STEPS):
        now = residuals(best)
        slopes = np.stack([residuals(changed(best, d)) - now for d in np.diag(scale)], axis=1)
        step = np.linalg.lstsq(np.r_[slopes, 1e-3 * np.eye(13)], np.r_[-now, np.zeros(13)], rcond=None)[0]
        better = changed(best, scale * np.clip(step, -2, 2))
        if (residuals(better) ** 2).sum() >= (now**2).sum():
            break
        best = better
    return best


def girths(betas: torch.Tensor) -> np.ndarray:
    """As shares of the height."""
    found = measure(shared_body(), betas).to_dict()
    return np.array([found[name] / found["stature"] for name in GIRTHS])


def person(pose: np.ndarray, rng: np.random.Generator) -> Drawn:
    """Draw somebody."""
    rotvec = torch.from_numpy(np.r_[[np.pi, 0, 0], pose[3:]]).float()
    turn = rng.uniform(-0.6, 0.6)
    rotvec[:3] = torch.tensor([np.pi * np.cos(turn), 0.0, np.pi * np.sin(turn)])
    betas = torch.from_numpy(rng.normal(size=10)).float()
    true = BodyParameters(rotvec[None], betas[None], torch.tensor([[0.0, 0.1, rng.uniform(3.4, 4.2)]]))
    clean = pixels_of(true)
    keypoints = clean + rng.normal(0, NOISE * np.ptp(clean[:, 1]), clean.shape)
    points = np.c_[keypoints, np.ones(len(keypoints))]
    (found,) = kouros.fit(points, SET, image_size=(SIDE, SIDE), focal_length=FOCAL)
    parameters = found.parameters.map(lambda t: t[None])
    return true, BodyParameters(parameters.pose, parameters.betas, parameters.transl), keypoints


def widened(mask: np.ndarray, keypoints: np.ndarray) -> np.ndarray:
    """As clothes would have it."""
    by = CLOTHES * np.ptp(keypoints[:, 1])
    away = cv2.distanceTransform((mask < 0.5).astype(np.uint8), cv2.DIST_L2, 5)
    return cv2.GaussianBlur((away <= by).astype(np.float32), (0, 0), 1.5)


def main() -> None:
    """The table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=40)
    parser.add_argument("--mocap", type=Path, default=DEFAULT_MOCAP)
    options = parser.parse_args()
    rng, poses = np.random.default_rng(0), read_poses(options.mocap, "val")
    half = options.people // 2
    everybody = [person(poses[k], rng) for k in rng.choice(len(poses), half + options.people, replace=False)]
    average = girths(torch.zeros(10))
    rows: list[dict[str, object]] = []

    def row(how: str, trust: float, errors: list[np.ndarray]) -> None:
        off = 100 * np.abs(np.array(errors)).mean(axis=0)
        rows.append({"what": "Girths off, % of the height", "how": how, "trust": trust})
        rows[-1] |= {name.removesuffix("_girth"): float(v) for name, v in zip(GIRTHS, off, strict=True)}
        print(json.dumps(rows[-1]), flush=True)

    judged = everybody[half:]
    row("the average body", 0.0, [average - girths(true.betas[0]) for true, _, _ in judged])
    row("keypoints", 0.0, [girths(fit.betas[0]) - girths(true.betas[0]) for true, fit, _ in judged])
    for how, dressed, posture_known in (
        ("and the outline", False, False),
        ("and an outline in clothes", True, False),
        ("and the outline, posture known", False, True),
    ):

        def errors(
            people: list[Drawn], trust: float, dressed: bool = dressed, posture_known: bool = posture_known
        ) -> list[np.ndarray]:
            found = []
            for true, fit, keypoints in people:
                start = BodyParameters(true.pose, torch.zeros(1, 10), true.transl) if posture_known else fit
                mask = widened(outline(true), keypoints) if dressed else outline(true)
                found.append(girths(refined(start, keypoints, mask, trust).betas[0]) - girths(true.betas[0]))
            return found

        means = {trust: float(np.abs(errors(everybody[:half], trust)).mean()) for trust in TRUST}
        trust = min(means, key=means.__getitem__)
        row(how, trust, errors(judged, trust))
    show(rows, 3)


if __name__ == "__main__":
    main()
