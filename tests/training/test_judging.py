"""Judging while training: errors that are known beforehand."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

pytest.importorskip("lightning")

from tests.training.toy import body

from kouros.body.keypoints import SPIN49
from kouros.body.parameters import Bodies
from kouros.data.schema import Sample, TableInfo
from kouros.geometry.cameras import WeakPerspectiveCamera, nominal_crop_camera, perspective_translation
from kouros.systems.estimator import Estimate
from kouros.training.judging import Judge, Scores

_UPRIGHT = torch.diag(torch.tensor([1.0, -1.0, -1.0]))[None]


class _AtRest:
    """Sees everyone at rest in the middle of the crop."""

    crop_size = 32
    points_3d = points_2d = None

    def predict(self, image: torch.Tensor) -> Estimate:
        pose = torch.zeros(len(image), 72)
        pose[:, 0] = torch.pi
        weak = WeakPerspectiveCamera(torch.full((len(image),), 0.8), torch.zeros(len(image), 2))
        camera = nominal_crop_camera(len(image), image)
        return Estimate(bodies=Bodies(pose, torch.zeros(len(image), 10), perspective_translation(weak), camera))


@dataclass(frozen=True)
class _Rest:
    """Five such people, in photos of 64 pixels; how far they are from that is told."""

    grown: float = 1.0
    moved: float = 0.0
    known: float = 1.0

    info = TableInfo("toy", "val", ".", SPIN49, SPIN49, "camera")

    def __len__(self) -> int:
        return 5

    def sample(self, row: int) -> Sample:
        points = body().keypoint_positions("spin49", global_orient=_UPRIGHT, pose2rot=False)[0].numpy()
        flat = np.concatenate([32 * (1 + 0.8 * points[:, :2]) + [self.moved, 0], np.ones((49, 1))], 1)
        space = np.concatenate([self.grown * points + [1, 2, 3], np.full((49, 1), self.known)], 1)
        arrays = {"keypoints_2d": flat.astype(np.float32), "keypoints_3d": space.astype(np.float32)}
        return Sample("none", box_center=np.array([32.0, 32.0]), box_size=64.0, **arrays)

    def image(self, row: int) -> np.ndarray:
        return np.zeros((64, 64, 3), np.uint8)

    def has(self, name: str) -> bool:
        return True


def _judged(source: _Rest) -> Scores:
    return Judge(source, body(), 32, batch_size=2, workers=0)(_AtRest(), torch.device("cpu"))


def test_the_truth_has_no_errors():
    scores = _judged(_Rest())
    assert scores.mpjpe == pytest.approx(0, abs=0.05) and scores.pa_mpjpe == pytest.approx(0, abs=0.05)
    assert scores.keypoints_2d == pytest.approx(0, abs=0.1)


def test_size_counts_in_mpjpe_alone_and_pixels_are_those_of_224():
    scores = _judged(_Rest(grown=1.1, moved=2.0))
    assert scores.pa_mpjpe == pytest.approx(0, abs=0.05)
    points = body().keypoint_positions("spin49", global_orient=_UPRIGHT, pose2rot=False)[0]
    common = [25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 43]  # ankles to neck, and the head
    away = 0.1 * (points[common] - points[SPIN49.index("pelvis_mpii")]).norm(dim=-1).mean()
    assert scores.mpjpe == pytest.approx(1e3 * float(away), rel=1e-3)
    assert scores.keypoints_2d == pytest.approx(2 * 224 / 64, rel=1e-3)


def test_without_3d_the_2d_error_decides():
    scores = _judged(replace(_Rest(), known=0.0))
    assert scores.mpjpe is None and scores.pa_mpjpe is None
    assert scores.decisive == scores.keypoints_2d
    assert str(scores) == "2D error 0.1 px"
