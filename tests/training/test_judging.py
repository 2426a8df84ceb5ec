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
from kouros.systems.measures import Best, Sum
from kouros.systems.system import CropSystem
from kouros.training.judging import Scores, judge

_UPRIGHT = torch.diag(torch.tensor([1.0, -1.0, -1.0]))[None]


class _AtRest(CropSystem):
    """Sees everyone at rest in the middle of the crop."""

    crop_size = 32
    points_3d = points_2d = None

    def __init__(self) -> None:
        super().__init__()
        self.body = body()

    def optimizers(self):
        return ()

    def training_step(self, batch):
        raise AssertionError("it has learned everything")

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
    return judge(_AtRest(), source, torch.device("cpu"), batch_size=2, workers=0)


def test_the_truth_has_no_errors():
    scores = _judged(_Rest())
    # Photos are taken from afar here, the nominal crop from some 50 metres: a tenth of a pixel.
    assert scores.values == pytest.approx({"mpjpe": 0, "pa_mpjpe": 0, "keypoints_2d": 0}, abs=0.1)


def test_size_counts_in_mpjpe_alone_and_pixels_are_those_of_224():
    scores = _judged(_Rest(grown=1.1, moved=2.0)).values
    assert scores["pa_mpjpe"] == pytest.approx(0, abs=0.05)
    points = body().keypoint_positions("spin49", global_orient=_UPRIGHT, pose2rot=False)[0]
    common = [25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 43]  # ankles to neck, and the head
    away = 0.1 * (points[common] - points[SPIN49.index("pelvis_mpii")]).norm(dim=-1).mean()
    assert scores["mpjpe"] == pytest.approx(1e3 * float(away), rel=1e-3)
    assert scores["keypoints_2d"] == pytest.approx(2 * 224 / 64, abs=0.1)


def test_without_3d_the_2d_error_decides():
    scores = _judged(replace(_Rest(), known=0.0))
    assert set(scores.values) == {"keypoints_2d"}
    assert scores.decisive(CropSystem.best_by) == (Best("keypoints_2d"), scores.values["keypoints_2d"])
    assert str(scores) == "2D error 0.1 px"


def test_the_scores_of_a_set_do_not_depend_on_how_it_is_shared():
    """A mean over points, and an IoU, which is no mean of means."""
    rng = np.random.default_rng(0)
    both, either = torch.tensor(rng.integers(0, 9, (6, 3))), torch.tensor(rng.integers(9, 20, (6, 3)))
    either[:, 2] = both[:, 2] = 0  # a class that nobody has
    parts = [Sum(b, e) for b, e in zip(both, either, strict=True)]
    whole = parts[0] + parts[1] + parts[2] + parts[3] + parts[4] + parts[5]
    expected = (both.sum(0) / either.sum(0))[:2].mean()
    assert whole.value == pytest.approx(float(expected))
    values = torch.tensor([[1.0, 2.0, torch.nan], [torch.nan, 6.0, 7.0]])
    there = torch.isfinite(values)
    one, two = (Sum.over(values[i], there[i], 1e3) for i in (0, 1))
    assert (one + two).value == pytest.approx(4000)
    assert Sum.over(values[:0]).value is None


@pytest.mark.parametrize(("which", "better"), [("least", 1.0), ("most", 3.0)])
def test_the_best_is_what_its_measure_says(which: str, better: float):
    best = Best("iou", which)  # type: ignore[arg-type]
    assert best.beats(2.0, None) and best.beats(better, 2.0)
    assert not best.beats(2.0, 2.0) and not best.beats(2.0, better)
