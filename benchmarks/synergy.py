"""What does each cue of HoloPose's synergy bring, and which solver gets there in fewer iterations?

Held-out motion capture seen by random cameras; each body has an estimate as a network might give it, and is refined
from noisy 2D keypoints, 3D keypoints and dense points (HoloPose, Sec. 4 and Table 3). Noise: 2 px of a 224-pixel crop
and a tenth missing in 2D; 25 mm an axis in 3D; dense points on visible skin alone, 2 px and 20 mm along the skin, and
15 % of them elsewhere on their patch. Prints tables, then a JSON line for each row.

``python benchmarks/synergy.py --mocap ../shared/data/mocap [--poses 200] [--only cues iterations]``
"""

import argparse
import json
import math
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

import kouros
from common import show
from kouros.body import BodyModel
from kouros.body.parameters import BodyParameters
from kouros.body.surface import build_charts
from kouros.body.surface.charts import Charts
from kouros.evaluation.metrics.pose import joint_errors, procrustes_errors
from kouros.fitting.schedules.keypoint_fit import FitConfig
from kouros.fitting.schedules.synergy import Cues, Synergy, SynergyConfig
from kouros.fitting.terms.densepose import DenseEvidence, dense_evidence, points_on_mesh
from kouros.fitting.terms.evidence import Evidence
from kouros.fitting.terms.kinematics import KeypointKinematics
from kouros.geometry.cameras import PerspectiveCamera
from kouros.geometry.rotations import rotmat_to_rotvec, rotvec_to_rotmat
from kouros.priors.gmm import load_gmm
from kouros.priors.training.poses import read_poses
from kouros.render.rasterize import rasterize

SET, FOCAL, CROP, POINTS = "coco17", 5000.0, 224, 120
NOISE_PIXELS, SHARE_MISSING, NOISE_METRES, NOISE_SKIN, SHARE_WRONG = 2.0, 0.1, 0.025, 0.02, 0.15
OFF_2D, OFF_3D = 0.1, 1e6
"""Standard deviations that silence a cue; in 2D all but the place, which 3D keypoints do not tell."""


class Scene:
    """People, an estimate of each, all cues, and visible skin to judge by."""

    def __init__(self, synergy: Synergy, charts: Charts, poses: Tensor, generator: torch.Generator) -> None:
        self.truth, camera = random_views(poses, generator)
        count = len(poses)

        def normal(*shape: int) -> Tensor:
            return torch.randn(count, *shape, generator=generator)

        self.estimate = BodyParameters(
            self.truth.pose + 0.2 * normal(72), torch.zeros(count, 10), self.truth.transl * (1 + 0.03 * normal(1))
        )
        points = synergy.kinematics.points(self.truth)
        pixels = camera.project(points) + NOISE_PIXELS * normal(points.shape[1], 2)
        seen = (torch.rand(pixels.shape[:2], generator=generator) > SHARE_MISSING).float()
        space = points + NOISE_METRES * normal(*points.shape[1:])
        evidence = Evidence(torch.cat([pixels, seen[..., None]], -1), SET, camera, space)
        face, barycentric, where = visible_skin(synergy.body, self.truth, camera, generator)
        self.skin, self.skin_pixels = points_on_mesh(synergy.body, face, barycentric), where
        self.cues = Cues(evidence, noisy_dense(charts, face, barycentric, where, generator))


def random_views(poses: Tensor, generator: torch.Generator) -> tuple[BodyParameters, PerspectiveCamera]:
    """All headings, 20 degrees up or down, people 60 to 95 % of the crop."""
    count = len(poses)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=generator)

    zero = torch.zeros(count)
    heading = rotvec_to_rotmat(torch.stack([zero, uniform(-math.pi, math.pi), zero], dim=-1))
    tilt = rotvec_to_rotmat(torch.stack([uniform(-0.35, 0.35) + math.pi, zero, zero], dim=-1))
    depth = 2 * FOCAL / (CROP * uniform(0.6, 0.95))
    transl = torch.stack([uniform(-0.1, 0.1), uniform(-0.1, 0.1), depth], dim=-1)
    betas = torch.randn(count, 10, generator=generator)
    truth = BodyParameters(torch.cat([rotmat_to_rotvec(tilt @ heading), poses], dim=-1), betas, transl)
    return truth, PerspectiveCamera(torch.full((count,), FOCAL), torch.full((count, 2), CROP / 2))


def visible_skin(
    body: BodyModel, at: BodyParameters, camera: PerspectiveCamera, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Faces, barycentric coordinates and pixels of `POINTS` random visible points of each person."""
    face, barycentric, where = [], [], []
    for i in range(len(at.pose)):
        one = torch.tensor([i])
        person, eye = at[one], PerspectiveCamera(camera.focal_length[one], camera.principal_point[one])
        vertices = body(
            betas=person.betas, body_pose=person.pose[:, 3:], global_orient=person.pose[:, :3], transl=person.transl
        ).vertices
        drawn = rasterize(vertices, body.faces, eye, (CROP, CROP))
        rows, columns = torch.nonzero(drawn.face[0] >= 0, as_tuple=True)
        pick = torch.randint(len(rows), (POINTS,), generator=generator)
        rows, columns = rows[pick], columns[pick]
        face.append(drawn.face[0, rows, columns].long())
        barycentric.append(drawn.barycentric[0, rows, columns])
        where.append(torch.stack([columns, rows], dim=-1) + 0.5)
    return torch.stack(face), torch.stack(barycentric).float(), torch.stack(where).float()


def noisy_dense(
    charts: Charts, face: Tensor, barycentric: Tensor, where: Tensor, generator: torch.Generator
) -> DenseEvidence:
    """What a DensePose network might say of these pixels."""
    part = charts.face_part[face]
    uv = (barycentric[..., None] * charts.face_uv[face]).sum(-2)
    metres = charts.size[part - 1]
    uv = uv + NOISE_SKIN / metres * torch.randn(uv.shape, generator=generator)
    wrong = torch.rand(part.shape, generator=generator) < SHARE_WRONG
    uv = torch.where(wrong[..., None], torch.rand(uv.shape, generator=generator), uv).clamp(0, 1)
    return dense_evidence(charts, where + NOISE_PIXELS * torch.randn(where.shape, generator=generator), part, uv)


def errors(synergy: Synergy, scene: Scene, found: BodyParameters) -> dict[str, float]:
    """Joints in millimetres, root-aligned and after Procrustes; visible skin in pixels of the crop."""
    smpl24 = KeypointKinematics(synergy.body, "smpl24")
    joints, real = smpl24.points(found), smpl24.points(scene.truth)
    skin = synergy.surface.points(scene.skin, found)
    away = scene.cues.evidence.camera.project(skin) - scene.skin_pixels
    return {
        "mpjpe_mm": 1e3 * joint_errors(joints, real, predicted_root=joints[:, 0], target_root=real[:, 0]).mean().item(),
        "pa_mpjpe_mm": 1e3 * procrustes_errors(joints, real).mean().item(),
        "skin_px": away.norm(dim=-1).mean().item(),
        "skin_beyond_8px": (away.norm(dim=-1) > 8).float().mean().item(),
    }


def with_cues(synergy: Synergy, keypoints_2d: bool, keypoints_3d: bool) -> Synergy:
    config = synergy.config.keypoints
    config = replace(
        config,
        keypoint_sigma=config.keypoint_sigma if keypoints_2d else OFF_2D,
        landmark_sigma=config.landmark_sigma if keypoints_3d else (OFF_3D,) * 3,
    )
    return Synergy(synergy.body, SET, synergy.prior, replace(synergy.config, keypoints=config))


def cues(synergy: Synergy, scene: Scene) -> list[dict[str, object]]:
    """HoloPose's Table 3: which cues improve what."""
    rows: list[dict[str, object]] = [{"what": "cues", "cues": "estimate", **errors(synergy, scene, scene.estimate)}]
    kinds = ("2D", "3D", "DP", "2D+DP", "3D+DP", "2D+3D", "2D+3D+DP")
    for name in kinds:
        given = Cues(scene.cues.evidence, scene.cues.dense if "DP" in name else None)
        result = with_cues(synergy, "2D" in name, "3D" in name).refine(given, scene.estimate)
        rows.append({"what": "cues", "cues": name, **errors(synergy, scene, result.parameters)})
    return rows


def iterations(synergy: Synergy, scene: Scene) -> list[dict[str, object]]:
    """The same objective by both solvers, stopped after so many steps."""
    best = synergy.refine(scene.cues, scene.estimate, iterations=100).cost
    rows: list[dict[str, object]] = []
    for solver in ("conjugate_gradients", "levenberg_marquardt"):
        for limit in (0, 1, 2, 3, 5, 10, 20, 40):
            result = synergy.refine(scene.cues, scene.estimate, solver=solver, iterations=limit)
            excess = result.cost / best - 1
            rows.append(
                {"what": "iterations", "solver": solver, "iterations": limit,
                 "median_excess_objective": excess.median().item(),
                 "share_within_1_percent": (excess < 0.01).float().mean().item(),
                 **errors(synergy, scene, result.parameters)}
            )  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mocap", type=Path, required=True, help="motion capture; its held-out poses are used")
    parser.add_argument("--poses", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=("cues", "iterations"), default=("cues", "iterations"))
    parser.add_argument("--landmark-sigma", type=float, default=0.04, help="of the 3D keypoints in the fit, metres")
    parser.add_argument("--dense-sigma", type=float, default=SynergyConfig.dense_sigma)
    parser.add_argument("--dense-total", type=float, default=SynergyConfig.dense_total)
    parser.add_argument("--pose-prior", type=float, default=FitConfig.pose_prior)
    options = parser.parse_args()
    generator = torch.Generator().manual_seed(options.seed)
    poses = torch.from_numpy(read_poses(options.mocap, "val").diverse).float()
    poses = poses[torch.randperm(len(poses), generator=generator)[: options.poses]]
    body = kouros.load_body()
    config = SynergyConfig(
        keypoints=FitConfig(
            landmark_sigma=(options.landmark_sigma,) * 3, landmark_scale=(1.0, 1.0), pose_prior=options.pose_prior
        ),
        dense_sigma=options.dense_sigma,
        dense_total=options.dense_total,
    )
    synergy = Synergy(body, SET, load_gmm(), config)
    scene = Scene(synergy, build_charts(body), poses, generator)
    tables = {"cues": cues, "iterations": iterations}
    found = [tables[name](synergy, scene) for name in options.only]
    for rows in found:
        show(rows)
    print()
    for rows in found:
        for row in rows:
            print(json.dumps({"poses": len(poses), **row}))


if __name__ == "__main__":
    main()
