"""Accumulators give, batch by batch and rank by rank, what the functions give on everything at once."""

import math

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.testing import assert_close

from kouros.body.keypoints import COCO17, MPII16
from kouros.evaluation.metrics import (
    area_under_pck,
    area_under_rcp,
    confusion_matrix,
    failure_rate,
    joint_errors,
    procrustes_errors,
    quaternion_errors,
    segmentation_scores,
)
from kouros.evaluation.metrics.accumulate import (
    MPJPE,
    PCK2D,
    PCK3D,
    AccelerationError,
    DensePoseRCP,
    MeanError,
    ProcrustesMPJPE,
    QuaternionError,
    Segmentation,
    pckh_mpii,
)
from kouros.geometry.rotations import random_rotmat


def points(batch: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    target = torch.randn(batch, 14, 3, generator=generator)
    predicted = target + 0.1 * torch.randn(batch, 14, 3, generator=generator)
    return predicted, target, torch.rand(batch, 14, generator=generator) < 0.8


def test_ragged_batches_weigh_every_point_the_same():
    predicted, target, valid = points(10, 0)
    mpjpe, pa = MPJPE(), ProcrustesMPJPE()
    for rows in (slice(0, 4), slice(4, 8), slice(8, 10), slice(10, 10)):  # short, then empty
        mpjpe.update(predicted[rows], target[rows], valid[rows])
        pa.update(predicted[rows], target[rows], valid[rows])
    assert_close(mpjpe.compute(), joint_errors(predicted, target)[valid].double().mean())
    assert_close(pa.compute(), procrustes_errors(predicted, target, valid)[valid].double().mean())


def test_a_million_small_errors_keep_their_digits():
    metric = MeanError()
    for _ in range(20):
        metric.update(torch.full((1000, 50), 0.1))
    assert float(metric.compute()) == pytest.approx(0.1, rel=1e-7)


@pytest.mark.parametrize(
    "metric",
    [MPJPE(), PCK3D(), PCK2D(COCO17, 0.2), Segmentation(7), DensePoseRCP(), QuaternionError()],
    ids=lambda metric: type(metric).__name__,
)
@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_nothing_seen_is_an_error_not_a_number(metric):
    with pytest.raises(ValueError, match=r"has seen no|counts no pixels"):
        metric.compute()


def test_reset_forgets():
    metric = MeanError()
    metric.update(torch.ones(1, 3))
    metric.reset()
    metric.update(torch.full((1, 3), 5.0))
    assert metric.compute() == 5


def test_mean_quaternion_and_acceleration_errors_equal_the_functions():
    generator = torch.Generator().manual_seed(1)
    first, second = random_rotmat((5, 24), generator), random_rotmat((5, 24), generator)
    quaternions = QuaternionError()
    quaternions.update(first[:3], second[:3])
    quaternions.update(first[3:], second[3:])
    assert_close(quaternions.compute(), quaternion_errors(first, second).double().mean())

    clip = torch.zeros(1, 4, 1, 3)
    clip[0, :, 0, 0] = torch.tensor([0.0, 0.0, 0.1, 0.4])  # second differences 0.1 and 0.2
    acceleration = AccelerationError(frame_rate=10.0)
    acceleration.update(clip, torch.zeros_like(clip))
    assert_close(acceleration.compute(), torch.tensor(15.0, dtype=torch.float64), atol=1e-5, rtol=0)


def test_pckh_leaves_pelvis_and_thorax_out_of_the_mean():
    target = torch.zeros(1, 16, 2)
    predicted = torch.zeros(1, 16, 2)
    predicted[0, MPII16.index("pelvis_mpii")] = 1000.0
    predicted[0, MPII16.index("left_wrist")] = 1000.0
    valid = torch.ones(1, 16, dtype=torch.bool)
    valid[0, MPII16.index("right_ankle")] = False
    metric = pckh_mpii(MPII16)
    metric.update(predicted, target, valid, torch.tensor([20.0]))
    scores = metric.compute()
    assert_close(scores.mean, torch.tensor(12 / 13))  # 14 counted, one not annotated, the wrist wrong
    assert scores.per_keypoint[MPII16.index("pelvis_mpii")] == 0
    assert math.isnan(scores.per_keypoint[MPII16.index("right_ankle")])


def test_pck_weighs_keypoints_by_how_often_they_are_annotated():
    target = torch.zeros(3, 17, 2)
    predicted = torch.zeros(3, 17, 2)
    predicted[:, 0] = 99.0
    valid = torch.zeros(3, 17, dtype=torch.bool)
    valid[:, 0] = True  # the nose, annotated three times and always wrong
    valid[0, 1] = True  # one eye, once and right
    metric = PCK2D(COCO17, 0.2)
    metric.update(predicted, target, valid, torch.full((3,), 50.0))
    assert metric.compute().mean == 0.25


def test_wrong_keypoint_set_is_named():
    metric = PCK2D(COCO17, 0.2)
    with pytest.raises(ValueError, match="Got 16 keypoints a person, but this metric's set has 17"):
        metric.update(torch.zeros(1, 16, 2), torch.zeros(1, 16, 2), torch.ones(1, 16, dtype=torch.bool), torch.ones(1))


def test_pooled_curves_equal_the_functions_on_everything():
    generator = torch.Generator().manual_seed(2)
    errors = torch.rand(7, 14, generator=generator) * 0.3
    pck = PCK3D()
    pck.update(errors[:5])
    pck.update(errors[5:])
    scores = pck.compute()
    assert_close(scores.pck, (errors < 0.15).float().mean())
    assert_close(scores.auc, area_under_pck(errors).double())

    distances = torch.rand(101, generator=generator) * 0.5
    rcp = DensePoseRCP()
    for chunk in (distances[:1], distances[1:1], distances[1:]):
        rcp.update(chunk)
    dense = rcp.compute()
    assert_close(dense.auc10, area_under_rcp(distances, 0.1).double())
    assert_close(dense.auc30, area_under_rcp(distances, 0.3).double())
    assert_close(dense.fr10, failure_rate(distances))
    assert_close(dense.rcp[10] + dense.fr10, torch.tensor(1.0))
    assert dense.rcp[0] == 0 and (dense.rcp.diff() >= 0).all()


def test_segmentation_pools_pixels_of_images_of_different_sizes():
    generator = torch.Generator().manual_seed(3)
    small = torch.randint(0, 7, (2, 1, 4, 5), generator=generator)
    large = torch.randint(0, 7, (2, 1, 30, 20), generator=generator)
    metric = Segmentation(7)
    metric.update(*small)
    metric.update(*large)
    flat = [torch.cat([small[i].flatten(), large[i].flatten()])[None, None] for i in (0, 1)]
    expected = segmentation_scores(confusion_matrix(*flat, 7))
    assert_close(metric.compute().f1, expected.f1)
    assert_close(metric.compute().accuracy, expected.accuracy)


def _rank(rank: int, store: str, results: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    predicted, target, valid = points(9, 4)
    rows = slice(0, 7) if rank == 0 else slice(7, 9)  # uneven, as the end of a data set is
    distances = torch.linspace(0, 0.4, 11)
    mpjpe, rcp, segmentation = MPJPE(), DensePoseRCP(), Segmentation(2)
    mpjpe.update(predicted[rows], target[rows], valid[rows])
    rcp.update(distances if rank == 0 else distances[:0])  # a rank without a single point
    labels = torch.tensor([[[0, 1, 1]]])
    segmentation.update(labels, torch.full_like(labels, rank))
    torch.save(
        {"mpjpe": mpjpe.compute(), "auc30": rcp.compute().auc30, "accuracy": segmentation.compute().accuracy},
        f"{results}/{rank}.pt",
    )
    dist.barrier()  # or torch 2.6 may wait for ever for the thread that still frees the last gathered tensors
    dist.destroy_process_group()


def test_two_processes_agree_with_one(tmp_path):
    store = str(tmp_path / "store")
    other = mp.get_context("spawn").Process(target=_rank, args=(1, store, str(tmp_path)))
    other.start()
    _rank(0, store, str(tmp_path))
    other.join()
    assert other.exitcode == 0
    predicted, target, valid = points(9, 4)
    for rank in (0, 1):
        got = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert_close(got["mpjpe"], joint_errors(predicted, target)[valid].double().mean())
        assert_close(got["auc30"], area_under_rcp(torch.linspace(0, 0.4, 11), 0.3).double())
        assert float(got["accuracy"]) == pytest.approx(0.5)
