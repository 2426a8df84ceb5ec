"""Training the learned start: samples are true, the loss falls, the engine trains it and goes on where it stopped."""

import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

pytest.importorskip("lightning")

from kouros.body.keypoints import BLAZEPOSE33
from kouros.cli import main
from kouros.data.detections import Detections, DetectionSource, write_detections
from kouros.data.mocap.recombination import Draws, PoseBank, drawn_poses
from kouros.data.mocap.source import MocapSource
from kouros.geometry.rotations import rotmat_to_rotvec, rotvec_to_rotmat
from kouros.pipeline.open import open_estimator
from kouros.systems.learned_start import LearnedStartConfig, limb_errors
from kouros.systems.lifter import BodyPoints, Lifter, LifterConfig, load_weights, losses, normalised_image
from kouros.systems.lifter_samples import (
    Seen,
    artificial_batch,
    measured_batch,
    seen_of,
    seen_through_cameras,
    spoiled,
    to_training,
)
from kouros.training.runs import load_run
from kouros.training.weights import read_weights

COUNT = 60
_SMALL = LifterConfig(width=32, blocks=1, answers=2)


@pytest.fixture
def rng() -> torch.Generator:
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
    draw = Draws(COUNT, generator)
    betas = draw.normal(10).clamp(-2.5, 2.5)
    return seen_through_cameras(drawn_poses(bank, COUNT, generator), betas, points, draw)[0]


def _assert_finite(value: object) -> None:
    for field in fields(value):  # type: ignore[arg-type]
        assert torch.isfinite(getattr(value, field.name)).all(), field.name


# --- Samples ---------------------------------------------------------------------------------------------------


def test_people_stand_in_front_of_the_camera_where_their_rays_point(
    bank: PoseBank, points: BodyPoints, rng: torch.Generator
):
    seen = _seen(bank, points, rng)
    _, _, keypoints = points(seen.rotations, seen.betas)
    there = keypoints + seen.pelvis[:, None]
    assert float(there[..., 2].min()) > 0.3
    assert_close(seen.rays * there[..., 2:], there[..., :2], atol=1e-4, rtol=1e-4)
    distance = seen.pelvis.norm(dim=-1)
    assert 1.0 < float(distance.min()) < 3 and 10 < float(distance.max()) < 26
    assert_close(seen.landmarks, keypoints - keypoints[:, 23:25].mean(1, keepdim=True))


def test_uncorrupted_samples_have_their_truth_where_the_view_sees_it(
    bank: PoseBank, points: BodyPoints, rng: torch.Generator
):
    seen = _seen(bank, points, rng)
    view, truth = to_training(seen, points, torch.ones(COUNT))
    seen_there = normalised_image(truth.keypoints, truth.placement, view.size)
    inside = (view.points.abs() < 8).all(-1)  # farther out the view clamps
    assert float(inside.float().mean()) > 0.95
    assert_close(seen_there[inside], view.points[inside], atol=2e-3, rtol=2e-3)


def test_athletic_people_spread_their_legs_as_the_recorded_do_not(bank: PoseBank, points: BodyPoints):
    ankles = [BLAZEPOSE33.index(f"{side}_ankle") for side in ("left", "right")]

    def spread(athletic: float) -> float:
        _, truth = artificial_batch(bank, points, 300, torch.Generator().manual_seed(3), athletic)
        one, two = (truth.keypoints[:, k] for k in ankles)
        return float((one - two).norm(dim=-1).quantile(0.8))

    assert spread(1.0) > 1.15 * spread(0.0)


def test_a_wrong_focal_length_moves_the_truth_to_where_the_size_is_right(
    bank: PoseBank, points: BodyPoints, rng: torch.Generator
):
    """Assumed longer than it is, the lens makes people look farther away; in the middle the picture still agrees."""
    seen = _seen(bank, points, rng)
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
    bank: PoseBank, points: BodyPoints, rng: torch.Generator
):
    view, truth = artificial_batch(bank, points, 500, rng)
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
    bank: PoseBank, points: BodyPoints, rng: torch.Generator
):
    seen = _seen(bank, points, rng)
    before = seen.rays.clone()
    found = spoiled(seen, points, Draws(COUNT, rng))
    assert torch.equal(seen.rays, before)
    for name in ("rotations", "betas", "pelvis"):
        assert torch.equal(getattr(found, name), getattr(seen, name))
    size = (seen.rays - seen.rays.mean(1, keepdim=True)).norm(dim=-1).mean(1)
    moved = (found.rays - seen.rays).norm(dim=-1).median(1).values / size
    assert 0.01 < float(moved.median()) < 0.3
    # Unlike the keypoints, landmarks are wrong by whole limbs.
    assert 0.01 < float((found.landmarks - seen.landmarks).norm(dim=-1).median()) < 0.3


def test_measured_detections_stay_true_when_mirrored_and_rolled(
    bank: PoseBank, points: BodyPoints, rng: torch.Generator
):
    """Exact detections, so the median point can only be off by the noise added, a twentieth of the person's size."""
    stored = _seen(bank, points, rng)
    far = stored.pelvis[:, 2] > 4
    stored = stored[far]
    rows = torch.randint(len(stored.betas), (400,), generator=rng)
    view, truth = measured_batch(stored[rows], points, rng)
    _assert_finite(view)
    _assert_finite(truth)
    seen_there = normalised_image(truth.keypoints, truth.placement, view.size)
    apart = (seen_there - view.points).norm(dim=-1)[view.present > 0]
    assert float(apart.median()) < 0.06
    # A left exchanged for a right would put limbs a whole body's width away.
    assert float(apart.quantile(0.9)) < 0.3


# --- Losses and errors -----------------------------------------------------------------------------------------


def test_errors_ignore_what_they_say_they_ignore(rng: torch.Generator):
    true = torch.randn(4, 12, 3, generator=rng)
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


def test_the_loss_of_the_truth_is_least(bank: PoseBank, points: BodyPoints, rng: torch.Generator):
    view, truth = to_training(_seen(bank, points, rng), points, torch.ones(COUNT))
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


def test_a_small_network_learns_a_few_people_by_heart(bank: PoseBank, points: BodyPoints, rng: torch.Generator):
    view, truth = to_training(_seen(bank, points, rng), points, torch.ones(COUNT))
    torch.manual_seed(0)
    network = Lifter(LifterConfig(width=64, blocks=1, answers=2))
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    history = []
    for _ in range(60):
        loss, apart = losses(network(view), truth, view, points)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append((float(loss.detach()), float(apart[:, 0].detach().mean())))
    assert history[-1][0] < 0.6 * history[0][0]
    assert history[-1][1] < 0.5 * history[0][1]


@pytest.fixture
def detections(tmp_path: Path, bank: PoseBank, points: BodyPoints, rng: torch.Generator) -> Path:
    """Exact ones, in two files."""
    seen = _seen(bank, points, rng)
    keypoints = torch.cat([seen.rays, seen.confidence[..., None]], -1)
    pose = rotmat_to_rotvec(seen.rotations).flatten(1)
    region = torch.ones(COUNT, 3)
    people = Detections(pose, seen.betas, seen.pelvis, keypoints, seen.landmarks, region, seen.depths)
    for number, rows in enumerate((range(20), range(20, COUNT))):
        write_detections(tmp_path / "people", number, "train", [people[i] for i in rows])
    return tmp_path / "people" / "detections"


def test_detections_come_back_as_they_were_written(
    detections: Path, bank: PoseBank, points: BodyPoints, rng: torch.Generator
):
    source = DetectionSource(detections)
    expected = _seen(bank, points, rng.manual_seed(11))
    found = seen_of(source.rows(range(COUNT)))
    assert len(source) == COUNT and source.info.split == "train"
    assert_close(found.rotations, expected.rotations, atol=1e-4, rtol=0)
    for name in ("betas", "pelvis", "rays", "landmarks", "depths"):
        assert_close(getattr(found, name), getattr(expected, name))
    with pytest.raises(ValueError, match="holds no detections"):
        DetectionSource(detections.parent)


def test_a_batch_follows_from_seed_and_step_and_brings_its_share_of_detections(mocap: Path, detections: Path):
    sources = [MocapSource(mocap), DetectionSource(detections)]
    batches = LearnedStartConfig(enough_measured=2 * COUNT).build(_body(), 0).batches
    whole = batches.stream(sources, None, 400, seed=3)[5]
    assert float(whole.measured.float().mean()) == pytest.approx(0.25, abs=0.07)  # half of half
    shares = [batches.stream(sources, None, 400, seed=3, rank=rank, world=2)[5] for rank in (0, 1)]
    for name in ("index", "measured", "poses"):
        assert torch.equal(torch.cat([getattr(s, name) for s in shares]), getattr(whole, name))
    assert not torch.equal(batches.stream(sources, None, 400, seed=3)[6].index, whole.index)
    mostly = batches.stream(sources, [1.0, 9.0], 400, seed=3)[5]
    assert float(mostly.measured.float().mean()) == pytest.approx(0.9, abs=0.05)
    numbers = whole.index[whole.measured] - len(sources[0])
    assert_close(whole.detections.betas[whole.measured], sources[1].all.betas[numbers])
    with pytest.raises(ValueError, match="at least; name diverse_frames"):
        batches.stream(sources[1:], None, 4, seed=0)


def _body():
    import kouros

    return kouros.load_body()


_COMMAND = ["train", "lifter", "--network.width", "32", "--network.blocks", "1", "--network.answers", "2",
            "--batch-size", "32", "--workers", "0", "--warmup", "1", "--checkpoint-every", "3"]  # fmt: skip


def test_a_seed_gives_the_weights_again_and_a_broken_run_too(mocap: Path, detections: Path, tmp_path: Path, capsys):
    """To the bit; and what the run is judged by is printed."""
    data = ["--data", str(mocap), str(detections), "--val", str(mocap), str(detections)]
    for name, steps in (("one", "6"), ("two", "6"), ("short", "3")):
        # A constant rate, since a longer cosine is another one from the beginning.
        command = [*_COMMAND, *data, "--out", str(tmp_path / name), "--max-steps", steps, "--schedule", "constant"]
        assert main(command) == 0
    said = capsys.readouterr()
    assert "frames: 2D only" not in said.out and "frames: PA-MPJPE" in said.out and "detections: PA-MPJPE" in said.out
    command[command.index("--max-steps") + 1] = "6"
    assert main([*command, "--resume"]) == 0
    one, two, short = (read_weights(tmp_path / n / "weights.pt").tensors for n in ("one", "two", "short"))
    assert one.keys() == {f"network.{name}" for name in Lifter(_SMALL).state_dict()}
    for name in one:
        assert torch.equal(one[name], two[name]) and torch.equal(one[name], short[name]), name
    config = json.loads((tmp_path / "one" / "config.json").read_text())
    assert config["system"] == "learned-start" and config["config"]["network"]["width"] == 32


def test_runs_are_averaged_packed_and_used(mocap: Path, tmp_path: Path, free_body, capsys):
    for name, more in (("first", []), ("second", ["--start", str(tmp_path / "first"), "--seed", "1"])):
        command = [*_COMMAND, "--data", str(mocap), "--out", str(tmp_path / name), "--max-steps", "2"]
        assert main([*command, *more]) == 0
    folders = [str(tmp_path / name) for name in ("first", "second")]
    assert main(["models", "average", *folders, "--share", "0.7", "--out", str(tmp_path / "mixed")]) == 0
    first, second, mixed = (read_weights(tmp_path / n / "weights.pt").tensors for n in ("first", "second", "mixed"))
    for name, tensor in mixed.items():
        assert_close(tensor, 0.3 * first[name] + 0.7 * second[name])
    assert main(["models", "average", *folders, "--share", "2", "--out", str(tmp_path / "x")]) == 2
    assert main(["models", "average", *folders, "--share", "1", "--out", str(tmp_path / "mixed")]) == 1
    assert "holds a run already" in capsys.readouterr().err

    assert main(["models", "pack", str(tmp_path / "mixed"), "--out", str(tmp_path / "lifter.npz")]) == 0
    packed, network = load_weights(tmp_path / "lifter.npz"), load_run(tmp_path / "mixed").network
    for ours, theirs in zip(packed.parameters(), network.parameters(), strict=True):
        assert_close(ours, theirs, atol=1e-3, rtol=1e-3)
    assert packed.config == _SMALL
    estimator = open_estimator(tmp_path / "mixed")
    assert estimator.needs_keypoints and estimator.name == "mixed" and estimator.body is not None


def test_data_that_it_cannot_learn_from_are_refused(tmp_path: Path, mocap: Path, capsys):
    (tmp_path / "empty").mkdir()
    command = [*_COMMAND, "--data", str(tmp_path / "missing.npz"), "--out", str(tmp_path / "run")]
    assert main(command) == 1
    assert "missing.npz" in capsys.readouterr().err
    np.savez(tmp_path / "val_only.npz", poses=np.zeros((3, 72)), split=np.array(["val"] * 3))
    assert main([*_COMMAND, "--data", str(tmp_path / "val_only.npz"), "--out", str(tmp_path / "run")]) == 1
    assert "holds no poses of the split 'train'" in capsys.readouterr().err
