"""SPIN on people whose truth is known: it learns, its fits only improve, and each setting learns from what it may."""

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor
from torch.testing import assert_close

import kouros
from kouros.data.batch import Batch
from kouros.fitting.schedules.fits_store import Augmentation
from kouros.geometry.cameras import nominal_crop_camera
from kouros.geometry.rotations import rotvec_to_rotmat
from kouros.networks.blazepose import BlazePoseTrunk
from kouros.networks.estimates import Regressed
from kouros.networks.resnet import ResNet
from kouros.systems.backbone_weights import begin_backbone
from kouros.systems.estimator import CropNetwork
from kouros.systems.spin import Spin, SpinConfig, SpinStart
from kouros.systems.system import Step

COUNT, SIZE = 4, 64
SMALL = SpinConfig(crop_size=SIZE, backbone=18, learning_rate=1e-4, dropout=0.0)


@pytest.fixture(scope="module")
def batch(free_body) -> Batch:
    """People in the middle of crops of noise: each crop is another noise, which can be learned by heart."""
    generator = torch.Generator().manual_seed(0)
    pose = torch.cat(
        [torch.tensor([[math.pi, 0.0, 0.0]]).expand(COUNT, -1), 0.2 * torch.randn(COUNT, 69, generator=generator)],
        dim=-1,
    )
    betas = 0.5 * torch.randn(COUNT, 10, generator=generator)
    points = free_body.keypoint_positions("spin49", betas=betas, global_orient=pose[:, :3], body_pose=pose[:, 3:])
    pixels = nominal_crop_camera(COUNT, points).project(points + torch.tensor([0.0, 0.0, 50.0])) * (SIZE / 224)
    sure = torch.ones(COUNT, 49, 1)
    return Batch(
        image=torch.rand(COUNT, 3, SIZE, SIZE, generator=generator),
        index=torch.tensor([3, 0, 2, 1]),
        source=torch.zeros(COUNT, dtype=torch.long),
        keypoints_2d=torch.cat([pixels, sure], dim=-1),
        keypoints_3d=torch.cat([points, 0 * sure], dim=-1),
        pose=pose,
        has_pose=torch.zeros(COUNT, dtype=torch.bool),
        betas=betas,
        has_betas=torch.zeros(COUNT, dtype=torch.bool),
        augmentation=Augmentation(torch.zeros(COUNT), torch.zeros(COUNT, dtype=torch.bool)),
        crop_center=torch.full((COUNT, 2), 100.0),
        crop_side=torch.full((COUNT,), 200.0),
    )


def _built(body, config: SpinConfig = SMALL, count: int = COUNT) -> Spin:
    torch.manual_seed(0)
    return config.build(body, count)


def _train(system: Spin, batch: Batch, steps: int) -> list[Step]:
    (optimizer,) = system.optimizers()
    done = []
    for _ in range(steps):
        step = system.training_step(batch)
        optimizer.zero_grad()
        step.losses[0].backward()
        optimizer.step()
        done.append(step)
    return done


def _labelled(batch: Batch) -> Batch:
    known = torch.ones(COUNT, dtype=torch.bool)
    keypoints_3d = batch.keypoints_3d.clone()
    keypoints_3d[..., 3] = 1.0
    return replace(batch, has_pose=known, has_betas=known, keypoints_3d=keypoints_3d)


def test_it_learns_a_batch_by_heart_and_its_fits_only_get_better(free_body, batch):
    system = _built(free_body)
    (optimizer,) = system.optimizers()
    steps, fits = [], []
    for _ in range(15):
        step = system.training_step(batch)
        optimizer.zero_grad()
        step.losses[0].backward()
        optimizer.step()
        steps.append(step)
        fits.append(system.best_fits.fits.loss.clone())
    for name, factor in (("keypoints_2d", 0.3), ("pose", 0.5)):
        assert steps[-1].terms[name] < factor * steps[0].terms[name]
    assert steps[-1].losses[0] < 0.4 * steps[0].losses[0]
    for earlier, later in pairwise(fits):
        assert (later <= 1.01 * earlier + 0.01).all()
    assert steps[0].terms["fits improved"] == 1.0
    assert all(not value.requires_grad for value in steps[0].terms.values())


def test_what_is_drawn_as_target_is_the_best_fit_where_the_keypoints_are(free_body, batch):
    step = _built(free_body).training_step(batch)
    assert step.target is not None
    drawn = step.target.camera.project(step.target.keypoints_by(free_body, "spin49")) * (SIZE / 224)
    assert (drawn - batch.keypoints_2d[..., :2]).norm(dim=-1).mean() < 1.0
    assert not step.target.betas.requires_grad and not step.predicted.bodies.betas.requires_grad


def _pose_gradient(system: Spin, batch: Batch) -> tuple[Step, Tensor]:
    """How strongly the parameters' own losses pull: with keypoints' weights at zero."""
    weights = replace(system.config.weights, keypoints=0.0, camera=0.0)
    system.config = replace(system.config, weights=weights)
    step = system.training_step(batch)
    (gradient,) = torch.autograd.grad(step.losses[0], system.regressor.decpose.weight)
    return step, gradient.abs().sum()


def test_rejected_fits_teach_keypoints_only(free_body, batch):
    wild = batch.keypoints_2d.clone()
    wild[..., :2] = SIZE * torch.rand(COUNT, 49, 2, generator=torch.Generator().manual_seed(1))
    step, pull = _pose_gradient(_built(free_body), replace(batch, keypoints_2d=wild))
    assert step.terms["fits trusted"] == 0
    assert step.terms["keypoints_2d"] > 0
    assert pull == 0
    _, pull = _pose_gradient(_built(free_body), batch)
    assert pull > 0


@pytest.mark.parametrize("learn_from", ["static-fits", "reprojection"])
def test_without_the_loop_no_fit_is_made_in_training(free_body, batch, learn_from):
    system = _built(free_body, replace(SMALL, learn_from=learn_from))
    system.begin([batch])
    before = system.best_fits.state_dict()["pose"].clone()
    assert system.best_fits.fits.exists.all() == (learn_from == "static-fits")
    _train(system, batch, 2)
    assert torch.equal(system.best_fits.fits.pose, before)
    _, pull = _pose_gradient(system, batch)
    assert (pull > 0) == (learn_from == "static-fits")


def test_ground_truth_takes_the_place_of_fits_but_not_in_the_unpaired_setting(free_body, batch):
    labelled = _labelled(batch)
    paired = _built(free_body)
    step = paired.training_step(labelled)
    assert not paired.best_fits.fits.exists.any()  # nobody needed a fit
    assert_close(step.target.rotations[:, 1:], rotvec_to_rotmat(batch.pose.view(-1, 24, 3))[:, 1:], atol=1e-5, rtol=0)
    assert_close(step.target.betas, batch.betas)
    assert step.terms["keypoints_3d"] > 0

    unpaired, none_known = (_built(free_body, replace(SMALL, paired=False)) for _ in range(2))
    with_truth, without = unpaired.training_step(labelled), none_known.training_step(batch)
    assert "keypoints_3d" not in with_truth.terms
    assert_close(with_truth.losses[0], without.losses[0])
    assert unpaired.best_fits.fits.exists.all()


def test_turned_and_mirrored_crops_come_back_as_the_same_fits(free_body, batch):
    """A fit found in a changed picture supervises the plain one, and the other way round."""
    how = Augmentation(torch.full((COUNT,), 0.5), torch.ones(COUNT, dtype=torch.bool))
    changed = how.apply(batch.pose)
    points = free_body.keypoint_positions(
        "spin49", betas=batch.betas, global_orient=changed[:, :3], body_pose=changed[:, 3:]
    )
    pixels = nominal_crop_camera(COUNT, points).project(points + torch.tensor([0.0, 0.0, 50.0])) * (SIZE / 224)
    turned = replace(batch, keypoints_2d=torch.cat([pixels, torch.ones(COUNT, 49, 1)], dim=-1), augmentation=how)
    system = _built(free_body)
    found = system.training_step(turned).target
    system.config = replace(system.config, learn_from="static-fits")
    again = system.training_step(turned).target
    assert_close(again.body_pose, found.body_pose, atol=1e-4, rtol=0)
    assert_close(again.global_orient, found.global_orient, atol=1e-4, rtol=0)
    plain = system.training_step(batch)
    assert plain.terms["fits trusted"] == 1.0
    known = rotvec_to_rotmat(system.best_fits.read(batch.index).pose.view(-1, 24, 3))
    assert_close(plain.target.rotations[:, 0], known[:, 0], atol=1e-4, rtol=0)


def test_keypoints_that_are_no_numbers_are_not_seen(free_body, batch):
    holes, unseen = batch.keypoints_2d.clone(), batch.keypoints_2d.clone()
    holes[0, ::3] = torch.nan
    unseen[0, ::3, 2] = 0.0
    holes[1], unseen[1, :, 2] = torch.nan, 0.0
    steps = [_built(free_body).training_step(replace(batch, keypoints_2d=k)) for k in (holes, unseen)]
    assert torch.isfinite(steps[0].losses[0])
    assert_close(steps[0].losses[0], steps[1].losses[0])
    assert steps[0].terms["fits trusted"] == 0.75


def test_a_network_that_has_gone_wild_is_seen_in_the_loss(free_body, batch):
    system = _built(free_body)
    with torch.no_grad():
        system.regressor.decpose.bias[7] = torch.nan
    assert not torch.isfinite(system.training_step(batch).losses[0])
    assert not system.best_fits.fits.exists.any()


def test_the_same_seed_gives_the_same_weights(free_body, batch):
    config = replace(SMALL, dropout=0.5)
    runs = []
    for _ in range(2):
        system = _built(free_body, config)
        _train(system, batch, 2)
        runs.append((system.state_dict(), system.best_fits.state_dict()))
    for first, second in zip(*runs, strict=True):
        assert all(torch.equal(first[name], second[name]) for name in first)


def _half_a_step(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    batch = torch.load(f"{folder}/batch.pt", weights_only=False)
    system = _built(kouros.load_body())
    system.backbone.eval()
    loss = system.training_step(batch[slice(rank * COUNT // 2, (rank + 1) * COUNT // 2)]).losses[0]
    loss.backward()
    gradient = system.regressor.decpose.weight.grad
    dist.all_reduce(gradient)
    torch.save({"gradient": gradient / 2, **system.best_fits.state_dict()}, f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_take_the_step_of_one_with_the_whole_batch(free_body, batch, tmp_path: Path):
    """One person with ground truth, one whose keypoints fit nobody: each process has other samples to learn from."""
    labelled, wild = _labelled(batch), batch.keypoints_2d.clone()
    some = torch.tensor([True, False, False, False])
    wild[1, :, :2] = SIZE * torch.rand(49, 2, generator=torch.Generator().manual_seed(1))
    mixed = replace(labelled, has_pose=some, has_betas=some, keypoints_2d=wild)
    torch.save(mixed, tmp_path / "batch.pt")
    mp.start_processes(_half_a_step, (str(tmp_path),), nprocs=2, start_method="spawn")
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    system = _built(free_body)
    system.backbone.eval()
    system.training_step(mixed).losses[0].backward()
    expected = system.regressor.decpose.weight.grad
    # Fits of half a batch differ in their last digits; shares that were not counted together differ by tens of percent.
    assert (first["gradient"] - expected).norm() < 1e-3 * expected.norm()
    assert_close(first["loss"], system.best_fits.fits.loss, rtol=1e-3, atol=1e-3)


def test_half_precision_stays_within_the_networks(free_body, batch):
    """Rotations, keypoints and losses are computed in full precision from what a half-precise network says."""
    system = _built(free_body)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        step = system.training_step(batch)
    rotations = step.predicted.bodies.rotations[:, 1:]
    assert rotations.dtype == torch.float32
    assert_close(rotations @ rotations.mT, torch.eye(3).expand(COUNT, 23, 3, 3), atol=1e-5, rtol=0)
    exact = _built(free_body).training_step(batch)
    assert_close(step.losses[0], exact.losses[0], rtol=0.05, atol=0)
    assert_close(step.target.rotations, exact.target.rotations, atol=0.1, rtol=0)
    step.losses[0].backward()
    assert all(torch.isfinite(p.grad).all() for p in system.parameters())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_cpus_losses_and_fits(free_body, batch):
    here, there = _built(free_body), _built(free_body).to("cuda")
    expected, found = here.training_step(batch), there.training_step(batch.to("cuda"))
    assert_close(found.losses[0].cpu(), expected.losses[0], rtol=0.02, atol=1e-4)
    assert_close(found.target.rotations.cpu(), expected.target.rotations, atol=0.02, rtol=0)
    assert_close(there.best_fits.fits.loss, here.best_fits.fits.loss, atol=0.1, rtol=0.02)


def test_it_predicts_in_evaluation_mode_and_goes_on_training(free_body, batch):
    system = _built(free_body, replace(SMALL, dropout=0.5))
    assert isinstance(system, CropNetwork)
    first, second = system.predict(batch.image), system.predict(batch.image[:1])
    assert_close(first.bodies.rotations[:1], second.bodies.rotations, atol=1e-5, rtol=1e-4)
    assert not first.bodies.betas.requires_grad
    assert system.training and system.backbone.bn1.training


def test_a_checkpoint_holds_the_network_and_no_body(free_body):
    state = _built(free_body).state_dict()
    assert {name.split(".")[0] for name in state} == {"backbone", "regressor"}
    assert sum(v.numel() for v in state.values()) < 16e6


def test_moving_the_system_moves_what_it_works_with_and_not_the_callers_body(free_body, batch):
    system = _built(free_body).double()
    changed = {f: getattr(batch, f).double() for f in ("image", "keypoints_2d", "keypoints_3d", "pose", "betas")}
    with torch.no_grad():
        assert system(changed["image"])[-1].rotations.dtype == torch.float64
    assert system.body.v_template.dtype == torch.float64
    assert free_body.v_template.dtype == torch.float32


def test_training_begins_with_the_files_that_are_given(free_body, batch, tmp_path: Path):
    torch.manual_seed(5)
    torch.save(ResNet(18).state_dict(), tmp_path / "resnet18.pth")
    np.savez(tmp_path / "mean.npz", pose=np.arange(144.0), shape=np.ones(10), cam=np.array([0.8, 0.0, 0.1]))
    fits = torch.cat([batch.pose, batch.betas], dim=-1)[batch.index.argsort()]
    np.save(tmp_path / "fits.npy", fits.numpy())
    start = SpinStart(tmp_path / "resnet18.pth", tmp_path / "mean.npz", (tmp_path / "fits.npy",))
    system = _built(free_body, replace(SMALL, start=start))
    assert not system.best_fits.fits.exists.any()  # building reads nothing: a run is loaded without these files
    system.begin([])
    torch.manual_seed(5)
    assert torch.equal(system.backbone.conv1.weight, ResNet(18).conv1.weight)
    assert_close(system.regressor.init_shape, torch.ones(1, 10))
    assert_close(system.best_fits.read(batch.index).pose, batch.pose)
    with pytest.raises(ValueError, match="the data sets have 7"):
        _built(free_body, replace(SMALL, start=start), 7).begin([])


def test_blazepose_brings_its_own_weights_and_learns(free_body, batch):
    system = _built(free_body, replace(SMALL, backbone="blazepose", learn_from="reprojection"))
    fresh = BlazePoseTrunk()
    begin_backbone(fresh, None)
    assert not torch.equal(system.backbone.stem[0].weight, fresh.stem[0].weight)
    system.begin([])
    assert_close(system.backbone.state_dict(), fresh.state_dict())
    system.training_step(batch).losses[0].backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in system.backbone.parameters())


def test_any_regressor_of_the_protocol_can_take_hmrs_place(free_body, batch):
    class Constant(torch.nn.Module):
        def __init__(self, num_features: int) -> None:
            super().__init__()
            self.camera = torch.nn.Parameter(torch.tensor([0.5, 0.0, 0.0]))
            self.num_features = num_features

        def forward(self, features: Tensor) -> tuple[Regressed, ...]:
            upright = rotvec_to_rotmat(torch.tensor([math.pi, 0.0, 0.0]))
            rotations = torch.eye(3).repeat(len(features), 24, 1, 1)
            rotations[:, 0] = upright
            return (Regressed(rotations, torch.zeros(len(features), 10), self.camera.expand(len(features), 3)),)

    system = SMALL.build(free_body, COUNT, regressor=Constant)
    assert system.regressor.num_features == 512
    _train(system, batch, 2)
    assert system.regressor.camera[0] > 0.5  # the people are larger than that
    kinematic = _built(free_body, replace(SMALL, regressor="hkmr", dropout=SpinConfig.dropout))
    assert torch.isfinite(_train(kinematic, batch, 1)[0].losses[0])


def test_a_body_with_other_betas_is_refused():
    with pytest.raises(ValueError, match="this body has 5; load it with num_betas=10"):
        SMALL.build(kouros.load_body(num_betas=5), COUNT)


def test_samples_of_another_run_are_refused(free_body, batch):
    with pytest.raises(IndexError, match=r"there are fits of samples 0 \.\. 1"):
        _built(free_body, count=2).training_step(batch)
