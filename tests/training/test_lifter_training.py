"""Training the learned start: its samples are true, its loss falls, its runs go on where they stopped."""

import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from kouros.data.mocap.recombination import PoseBank, drawn_poses
from kouros.geometry.rotations import rotmat_to_rotvec, rotvec_to_rotmat
from kouros.systems.lifter import BodyPoints, Lifter, LifterConfig, load_weights, losses, normalised_image
from kouros.training.lifter import (
    Dice,
    Seen,
    Shards,
    TrainConfig,
    artificial_batch,
    limb_errors,
    measured_batch,
    seen_through_cameras,
    spoiled,
    to_training,
    train,
)

COUNT = 60
_SMALL = LifterConfig(width=32, blocks=1, answers=2)


@pytest.fixture
def dice() -> torch.Generator:
    return torch.Generator().manual_seed(11)


@pytest.fixture(scope="module")
def bank() -> PoseBank:
    generator = torch.Generator().manual_seed(1)
    return PoseBank(rotvec_to_rotmat(0.2 * torch.randn(12, 24, 3, generator=generator)))


@pytest.fixture(scope="module")
def points(free_body) -> BodyPoints:
    return BodyPoints(free_body)


@pytest.fixture
def mocap(tmp_path: Path, bank: PoseBank) -> Path:
    path = tmp_path / "frames.npz"
    poses = rotmat_to_rotvec(bank.rotations).flatten(1).numpy()
    np.savez(path, poses=poses, split=np.array(["train"] * 8 + ["val"] * 4))
    return path


def _seen(bank: PoseBank, points: BodyPoints, generator: torch.Generator) -> Seen:
    """People as they are, without a detector's errors."""
    dice = Dice(COUNT, generator)
    betas = dice.normal(10).clamp(-2.5, 2.5)
    return seen_through_cameras(drawn_poses(bank, COUNT, generator), betas, points, dice)[0]


def _assert_finite(value: object) -> None:
    for field in fields(value):  # type: ignore[arg-type]
        assert torch.isfinite(getattr(value, field.name)).all(), field.name


# --- Samples ---------------------------------------------------------------------------------------------------


def test_people_stand_in_front_of_the_camera_where_their_rays_point(
    bank: PoseBank, points: BodyPoints, dice: torch.Generator
):
    seen = _seen(bank, points, dice)
    _, _, keypoints = points(seen.rotations, seen.betas)
    there = keypoints + seen.pelvis[:, None]
    assert float(there[..., 2].min()) > 0.3
    assert_close(seen.rays * there[..., 2:], there[..., :2], atol=1e-4, rtol=1e-4)
    distance = seen.pelvis.norm(dim=-1)
    assert 1.0 < float(distance.min()) < 3 and 10 < float(distance.max()) < 26
    assert_close(seen.landmarks, keypoints - keypoints[:, 23:25].mean(1, keepdim=True))


def test_uncorrupted_samples_have_their_truth_where_the_view_sees_it(
    bank: PoseBank, points: BodyPoints, dice: torch.Generator
):
    seen = _seen(bank, points, dice)
    view, truth = to_training(seen, points, torch.ones(COUNT))
    seen_there = normalised_image(truth.keypoints, truth.placement, view.size)
    inside = (view.points.abs() < 8).all(-1)  # farther out the view clamps
    assert float(inside.float().mean()) > 0.95
    assert_close(seen_there[inside], view.points[inside], atol=2e-3, rtol=2e-3)


def test_a_wrong_focal_length_moves_the_truth_to_where_the_size_is_right(
    bank: PoseBank, points: BodyPoints, dice: torch.Generator
):
    """Assumed longer than it is, the lens makes people look farther away; in the middle the picture still agrees."""
    seen = _seen(bank, points, dice)
    error = torch.full((COUNT,), 1.5)
    _, plain = to_training(seen, points, torch.ones(COUNT))
    view, truth = to_training(seen, points, error)
    seen_there = normalised_image(truth.keypoints, truth.placement, view.size)
    far = seen.pelvis[:, 2] > 6
    assert int(far.sum()) > 5
    apart = (seen_there - view.points).norm(dim=-1)[far]
    assert float(apart.median()) < 0.1
    assert_close(truth.betas, plain.betas)


def test_artificial_batches_are_finite_and_their_rotations_valid(
    bank: PoseBank, points: BodyPoints, dice: torch.Generator
):
    view, truth = artificial_batch(bank, points, 500, dice)
    _assert_finite(view)
    _assert_finite(truth)
    eye = torch.eye(3).expand_as(truth.rotations)
    assert_close(truth.rotations @ truth.rotations.mT, eye, atol=1e-4, rtol=0)
    assert ((view.confidence >= 0) & (view.confidence <= 1)).all()
    assert set(view.present.unique().tolist()) == {0.0, 1.0}
    assert (view.points[view.present == 0] == 0).all()
    assert (view.landmarks[view.has_landmarks == 0] == 0).all()
    assert 0.2 < float(view.has_landmarks.mean()) < 0.8


def test_corruption_moves_keypoints_and_landmarks_but_not_the_truth(
    bank: PoseBank, points: BodyPoints, dice: torch.Generator
):
    seen = _seen(bank, points, dice)
    before = seen.rays.clone()
    found = spoiled(seen, points, Dice(COUNT, dice))
    assert torch.equal(seen.rays, before)
    for name in ("rotations", "betas", "pelvis"):
        assert torch.equal(getattr(found, name), getattr(seen, name))
    size = (seen.rays - seen.rays.mean(1, keepdim=True)).norm(dim=-1).mean(1)
    moved = (found.rays - seen.rays).norm(dim=-1).median(1).values / size
    assert 0.01 < float(moved.median()) < 0.3
    # Unlike the keypoints, landmarks are wrong by whole limbs.
    assert 0.01 < float((found.landmarks - seen.landmarks).norm(dim=-1).median()) < 0.3


def test_measured_detections_stay_true_when_mirrored_and_rolled(
    bank: PoseBank, points: BodyPoints, dice: torch.Generator
):
    """Exact detections, so the median point can only be off by the noise added, a twentieth of the person's size."""
    stored = _seen(bank, points, dice)
    far = stored.pelvis[:, 2] > 4
    stored = Seen(*(getattr(stored, f.name)[far] for f in fields(stored)))
    view, truth = measured_batch(stored, points, 400, dice)
    _assert_finite(view)
    _assert_finite(truth)
    seen_there = normalised_image(truth.keypoints, truth.placement, view.size)
    apart = (seen_there - view.points).norm(dim=-1)[view.present > 0]
    assert float(apart.median()) < 0.06
    # A left exchanged for a right would put limbs a whole body's width away.
    assert float(apart.quantile(0.9)) < 0.3


def test_shards_are_read_as_they_appear(tmp_path: Path, bank: PoseBank, points: BodyPoints, dice: torch.Generator):
    seen = _seen(bank, points, dice)
    keypoints = torch.cat([seen.rays, seen.confidence[..., None]], -1)
    arrays = {"betas": seen.betas, "pelvis": seen.pelvis, "keypoints": keypoints, "landmarks": seen.landmarks}
    arrays["pose"] = rotmat_to_rotvec(seen.rotations).flatten(1)
    shards = Shards(tmp_path, "train", torch.device("cpu"))
    assert shards.look() == 0
    for number in range(2):
        np.savez(tmp_path / f"train{number}.npz", **{k: v.numpy() for k, v in arrays.items()})  # type: ignore[arg-type]
        np.savez(tmp_path / f"val{number}.npz", broken=np.zeros(1))
        assert shards.look() == shards.look() == (number + 1) * COUNT
    assert shards.seen is not None
    assert_close(shards.seen.rotations[COUNT:], seen.rotations, atol=1e-4, rtol=0)
    assert_close(shards.seen.rays[:COUNT], seen.rays)


# --- Losses and errors -----------------------------------------------------------------------------------------


def test_errors_ignore_what_they_say_they_ignore(dice: torch.Generator):
    true = torch.randn(4, 12, 3, generator=dice)
    plain, aligned = limb_errors(true + 5.0, true)
    assert_close(plain, torch.zeros(4), atol=1e-2, rtol=0)
    turned = 1.3 * true @ rotvec_to_rotmat(torch.tensor([0.4, 1.0, 0.2])).mT
    plain, aligned = limb_errors(turned, true)
    assert float(plain.min()) > 100
    assert_close(aligned, torch.zeros(4), atol=1e-2, rtol=0)
    off = true.clone()
    off[:, 0, 0] += 0.12
    # Centring takes a twelfth off the point that moved and gives it to the eleven others.
    assert_close(limb_errors(off, true)[0], torch.full((4,), 120.0 * (11 / 12 + 11 / 12) / 12), atol=1e-2, rtol=0)


def test_the_loss_of_the_truth_is_least(bank: PoseBank, points: BodyPoints, dice: torch.Generator):
    view, truth = to_training(_seen(bank, points, dice), points, torch.ones(COUNT))
    torch.manual_seed(0)
    answers = Lifter(_SMALL)(view)
    perfect = replace(
        answers,
        rotations=truth.rotations[:, None].expand(-1, 2, -1, -1, -1),
        betas=truth.betas[:, None].expand(-1, 2, -1),
        placement=truth.placement[:, None].expand(-1, 2, -1),
    )
    worst, _ = losses(answers, truth, view, points)
    best, apart = losses(perfect, truth, view, points)
    assert float(apart.max()) < 1e-4
    assert float(best.detach()) < float(worst.detach()) - 1


# --- Runs ------------------------------------------------------------------------------------------------------


def test_a_small_network_learns_a_few_people_by_heart(bank: PoseBank, points: BodyPoints, dice: torch.Generator):
    view, truth = to_training(_seen(bank, points, dice), points, torch.ones(COUNT))
    torch.manual_seed(0)
    network = Lifter(LifterConfig(width=64, blocks=1, answers=2))
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    history = []
    for _ in range(60):
        loss, apart = losses(network(view), truth, view, points)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append((float(loss), float(apart[:, 0].mean())))
    assert history[-1][0] < 0.6 * history[0][0]
    assert history[-1][1] < 0.5 * history[0][1]


@pytest.fixture
def few_people_to_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    """Judging 4,096 people takes longer than these runs."""
    from kouros.training import lifter

    monkeypatch.setattr(lifter.validation_sets, "__defaults__", (32, 99))


def _run(mocap: Path, out: Path, **given) -> Lifter:
    config = TrainConfig(minutes=1.0, batch=64, max_steps=4, warmup_steps=1)
    return train(mocap, out, None, config, torch.device("cpu"), **given)


def test_a_run_leaves_weights_and_a_log_and_another_goes_on_from_them(
    mocap: Path, tmp_path: Path, few_people_to_judge: None
):
    first = _run(mocap, tmp_path / "one", network_config=_SMALL)
    assert (tmp_path / "one" / "done").exists()
    saved = load_weights(tmp_path / "one" / "lifter.npz")
    for ours, theirs in zip(first.parameters(), saved.parameters(), strict=True):
        assert_close(theirs, ours, atol=1e-3, rtol=1e-3)
    line = json.loads((tmp_path / "one" / "log.jsonl").read_text().splitlines()[-1])
    assert line["step"] == 4 and line["samples"] == 256
    assert set(line) >= {"loss", "clean_2d", "noisy_2d", "noisy_2d_3d"}
    assert line["clean_2d"]["best_mpjpe"] <= line["clean_2d"]["mpjpe"]

    # Four more steps change the weights by steps' lengths; a fresh start would differ by an initialisation.
    second = _run(mocap, tmp_path / "two", start=tmp_path / "one" / "lifter.npz")
    assert second.config == _SMALL
    apart = max(float((a - b).abs().max()) for a, b in zip(saved.parameters(), second.parameters(), strict=True))
    assert 0 < apart < 4 * 4 * TrainConfig.learning_rate
