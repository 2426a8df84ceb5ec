"""The Best of Both Worlds: what its warps, losses and networks do to known bodies, and that it learns."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from kouros.body.keypoints import LSP14, SPIN49
from kouros.data.batch import Batch
from kouros.data.crops import CropTransform
from kouros.data.dense import Look, Wants
from kouros.data.dense_drawn import MapDrawer
from kouros.data.mocap.source import MocapSource
from kouros.data.schema import Sample, TableInfo
from kouros.fitting.schedules.fits_store import Augmentation
from kouros.geometry.cameras import (
    SPIN_CROP_SIZE,
    WeakPerspectiveCamera,
    nominal_crop_camera,
    perspective_translation,
)
from kouros.geometry.rotations import rotvec_to_rotmat
from kouros.networks.inverse_kinematics import GikNet, IkSizes, JointRefiner
from kouros.networks.unet import LightUNet
from kouros.notes import InputWarning
from kouros.priors.gmm import load_gmm
from kouros.render.maps import DenseMaps
from kouros.systems.batches import CropBatches
from kouros.systems.best_of_both_worlds import (
    Dmp,
    DmpConfig,
    IkConfig,
    UviConfig,
    UvSpace,
    consistency_loss,
    fitted_camera,
    joints_2d_loss,
    symmetry_loss,
    warped,
)
from kouros.systems.chain import Chain
from kouros.systems.estimator import Estimate, PersonInPhoto
from kouros.systems.system import Start
from kouros.systems.table import SYSTEMS
from kouros.training.packed_weights import packed_tensors
from kouros.training.runs import load_run
from kouros.training.starting import read_starts
from kouros.training.weights import Weights, learned_state, save_weights

CROP, SCALE = 64, 0.9
SMALL_MAPS = DmpConfig(backbone=18, width=16, crop_size=CROP, stride=2)
SMALL_IK = IkSizes(refiner_width=32, refiner_blocks=1, width=64, blocks=1, coding="6d")
SMALL = UviConfig(maps=SMALL_MAPS, ik=SMALL_IK, width=16, local=8)


@pytest.fixture(scope="module")
def drawer(free_body) -> MapDrawer:
    return MapDrawer(free_body)


def people(drawer: MapDrawer, wants: Wants, count: int = 3, seed: int = 0, crop: int = CROP) -> Batch:
    """Known bodies in the middle of crops of noise, and their true maps."""
    body = drawer.body
    generator = torch.Generator().manual_seed(seed)
    orient = torch.tensor([torch.pi, 0.0, 0.0]) + 0.2 * torch.randn(count, 3, generator=generator)
    pose = torch.cat([orient, load_gmm().sample(count, generator)], 1)
    betas = torch.randn(count, 10, generator=generator)
    root = body.joint_positions(betas=betas)[:, 0]
    place = perspective_translation(WeakPerspectiveCamera(torch.full((count,), SCALE), torch.zeros(count, 2)))
    posed = drawer.posed(wants.joints, pose.numpy(), betas.numpy(), (place - root).numpy())
    middle = np.full(2, SPIN_CROP_SIZE / 2)
    looks = [Look(CropTransform(middle, float(SPIN_CROP_SIZE), crop)) for _ in range(count)]
    maps = drawer.maps(posed, nominal_crop_camera(count, betas), looks, wants)
    space = body.keypoint_positions(SPIN49.name, betas, pose[:, 3:], orient, place - root)
    flat = nominal_crop_camera(count, betas).project(space) * (crop / SPIN_CROP_SIZE)
    ones, yes = torch.ones(count, 49, 1), torch.ones(count, dtype=torch.bool)
    return Batch(
        image=torch.rand(count, 3, crop, crop, generator=generator),
        index=torch.arange(count),
        source=torch.zeros(count, dtype=torch.long),
        keypoints_2d=torch.cat([flat, ones], -1),
        keypoints_3d=torch.cat([space - space[:, :1], ones], -1),
        pose=pose,
        has_pose=yes,
        betas=betas,
        has_betas=yes,
        augmentation=Augmentation(torch.zeros(count), ~yes),
        crop_center=torch.zeros(count, 2),
        crop_side=torch.ones(count),
        dense=maps,
    )


def true_joints(batch: Batch, body) -> Tensor:
    given = (batch.betas, batch.pose[:, 3:], batch.pose[:, :3])
    return body.keypoint_positions("lsp14", *given) - body.joint_positions(*given)[:, :1]


def build(config, body, seed: int = 0):
    torch.manual_seed(seed)
    return config.build(body)


def known() -> Tensor:
    return torch.ones(3, len(LSP14), dtype=torch.bool)


# ---- UV space


def test_joints_spread_over_their_parts_are_what_is_read_off_again(free_body):
    space = UvSpace(free_body, "lsp14", 64)
    joints = torch.randn(3, 14, 3, generator=torch.Generator().manual_seed(0))
    everything = torch.ones(3, 64, 64)
    read, seen = space.joints(space.spread(joints), everything)
    assert_close(read, joints)
    assert bool(seen.all())


def test_a_joint_is_the_mean_over_the_texels_of_its_part_that_are_seen(free_body):
    space = UvSpace(free_body, "lsp14", 64)
    knee = LSP14.index("left_knee")
    part = (space.assignment == knee).nonzero()
    uv_joint, weight = torch.full((1, 64, 64, 3), 9.0), torch.zeros(1, 64, 64)
    for (row, column), value in zip(part[:3].tolist(), (1.0, 2.0, 6.0), strict=True):
        uv_joint[0, row, column], weight[0, row, column] = value, 1.0
    read, seen = space.joints(uv_joint, weight)
    assert_close(read[0, knee], torch.full((3,), 3.0))
    assert seen[0].nonzero()[:, 0].tolist() == [knee]
    assert_close(read[0, LSP14.index("right_knee")], torch.zeros(3))  # hidden: at the root


def test_true_maps_warped_by_true_correspondence_give_the_joints_that_are_seen(free_body, drawer):
    batch = people(drawer, Wants(maps=("mask", "uv", "location", "joint", "displacement")), crop=224)
    space = UvSpace(free_body, "lsp14", 64)
    there = warped(batch.dense, space)
    joints, seen = space.joints(there.joint, there.weight)
    apart = (joints - true_joints(batch, free_body)).norm(dim=-1)[seen]
    assert int(seen.sum()) > 30  # of 42
    # Texels at the borders of parts hold two joints mixed.
    assert float(apart.mean()) < 0.02
    assert_close(there.displacement, there.location - there.joint, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("stride", "least"), [(1, 0.5), (8, 0.25)])
def test_what_a_cover_hides_is_not_seen(free_body, drawer, stride: int, least: float):
    batch = people(drawer, Wants(maps=("mask", "uv", "location", "joint", "displacement"), stride=stride), crop=224)
    space, rows = UvSpace(free_body, "lsp14", 64), 224 // stride
    lower = torch.zeros(rows, rows, dtype=torch.bool)
    lower[: rows // 2] = True
    there = warped(replace(batch.dense, mask=batch.dense.mask & lower), space)
    _, seen = space.joints(there.joint, there.weight)
    ankles = [LSP14.index(f"{side}_ankle") for side in ("left", "right")]
    assert not bool(seen[:, ankles].any())
    assert bool(seen[:, LSP14.index("neck_lsp")].all())
    visible = space.visible_joints(there.weight, free_body, rows)
    assert float(visible[:, 7:9].max()) == 0.0 and float(visible[:, 12].min()) > least  # ankles, neck


def test_places_within_a_part_stay_and_others_come_to_its_nearest_texel(free_body):
    space = UvSpace(free_body, "lsp14", 64)
    parts = torch.arange(14)
    everywhere = torch.rand(500, 14, 2, generator=torch.Generator().manual_seed(0))
    moved = space.within(parts.expand(500, 14), everywhere)
    assert bool((space.part_of(moved) == parts).all())
    assert_close(space.within(parts.expand(500, 14), moved), moved)
    there = space.part_of(everywhere) == parts
    assert_close(moved[there], everywhere[there])
    # The nearest: no texel of the part is nearer, but for half a texel that places are apart from texels' middles.
    row, column = (space.assignment == 3).nonzero().unbind(1)
    middles = torch.stack([(column + 0.5) / 64, 1 - (row + 0.5) / 64], -1)
    nearest = torch.cdist(everywhere[:, 3], middles).amin(1)
    assert bool(((moved[:, 3] - everywhere[:, 3]).norm(dim=-1) <= nearest + 1.5 / 64).all())


# ---- losses


def test_the_symmetry_loss_is_how_much_farther_one_side_is_from_its_joint(free_body):
    space = UvSpace(free_body, "lsp14", 128)
    displacement = torch.full((1, 128, 128, 3), 0.1)
    assert float(symmetry_loss(displacement, space.mirror)) < 1e-6
    displacement[:, :, :64] *= 3  # lengths are 0.1 sqrt(3) to the right, three times that to the left
    assert float(symmetry_loss(displacement, space.mirror)) == pytest.approx(0.2 * 3**0.5, rel=1e-3)


def test_true_displacements_of_a_symmetric_body_cost_nothing(free_body, drawer):
    batch = people(drawer, Wants(maps=("uv_displacement",)))
    space = UvSpace(free_body, "lsp14", 128)
    true = symmetry_loss(batch.dense.uv_displacement, space.mirror)
    one_sided = batch.dense.uv_displacement * torch.cat([torch.full((64,), 1.5), torch.ones(64)])[:, None]
    assert float(true.max()) < 0.012  # poses are not symmetric, and skin gives
    assert bool((symmetry_loss(one_sided, space.mirror) > 2 * true).all())


def test_true_surfaces_are_consistent_and_a_moved_camera_costs_what_it_moves(free_body, drawer):
    batch = people(drawer, Wants(maps=("mask", "uv", "uv_location")), crop=224)
    space = UvSpace(free_body, "lsp14", 128)
    given = (batch.dense.uv_location, space.valid, batch.dense.uv, batch.dense.mask)
    camera = torch.tensor([[SCALE, 0.0, 0.0]]).expand(3, 3)
    true = consistency_loss(*given, camera)
    assert float(true.max()) < 0.01  # a pixel is 0.009 wide
    moved = consistency_loss(*given, camera + torch.tensor([0.0, 0.5, 0.0]))
    assert_close(moved, torch.full((3,), SCALE * 0.5 / 2), atol=0.01, rtol=0)  # of x alone


def test_the_fitted_camera_is_the_true_one(drawer):
    batch = people(drawer, Wants(maps=("mask", "location")), crop=224)
    otherwise = torch.tensor([[0.5, 0.1, 0.2]]).expand(3, 3)
    found = fitted_camera(batch.dense.location, batch.dense.mask, otherwise)
    assert_close(found, torch.tensor([[SCALE, 0.0, 0.0]]).expand(3, 3), atol=0.01, rtol=0)
    assert_close(fitted_camera(batch.dense.location, batch.dense.mask & False, otherwise), otherwise)


def test_the_2d_loss_is_the_mean_absolute_difference_of_points_that_are_seen(free_body, drawer):
    joints = true_joints(people(drawer, Wants()), free_body)
    camera = torch.tensor([[0.8, 0.1, -0.2]]).expand(3, 3)
    flat = 0.8 * (joints[..., :2] + torch.tensor([0.1, -0.2]))
    seen = torch.cat([flat, torch.ones(3, 14, 1)], -1)
    assert_close(joints_2d_loss(joints, camera, seen), torch.zeros(3))
    seen[:, 0, 0] += 0.7
    assert_close(joints_2d_loss(joints, camera, seen), torch.full((3,), 0.7 / 2 / 14))
    seen[:, 0, 2] = 0.0
    assert_close(joints_2d_loss(joints, camera, seen), torch.zeros(3))


# ---- the networks


def test_the_refiner_has_the_papers_size_and_begins_by_leaving_joints_where_they_are():
    refiner = JointRefiner(14).eval()
    assert 380_000 < sum(p.numel() for p in refiner.parameters()) < 440_000
    joints = torch.randn(3, 14, 3)
    assert_close(refiner(joints, known()), joints)


def test_what_missing_joints_hold_does_not_matter():
    refiner = JointRefiner(14).eval()
    torch.nn.init.normal_(refiner.network[-1].weight)
    joints, there = torch.randn(3, 14, 3), known()
    there[:, 4] = False
    other = joints.clone()
    other[:, 4] = torch.nan
    assert_close(refiner(joints, there), refiner(other, there))
    assert not torch.allclose(refiner(joints, there), refiner(joints, known()))


@pytest.mark.parametrize("coding", ["rotvec", "6d"])
def test_rotations_told_from_upright_come_back(coding: str):
    net = GikNet(14, 32, 1, coding)
    rotations = rotvec_to_rotmat(torch.randn(3, 24, 3, generator=torch.Generator().manual_seed(0)))
    from_upright = net.from_upright(rotations)
    numbers = {"6d": lambda r: r[..., :2].flatten(-2), "rotvec": lambda r: _rotvec(r)}[coding](from_upright)
    assert_close(net.rotations(numbers), rotations, atol=1e-5, rtol=0)
    facing = torch.zeros(1, 24, 3) if coding == "rotvec" else torch.eye(3)[:, :2].flatten().expand(1, 24, 6)
    assert_close(net.rotations(facing)[0, 0], rotvec_to_rotmat(torch.tensor([torch.pi, 0.0, 0.0])), atol=1e-6, rtol=0)


def _rotvec(rotations: Tensor) -> Tensor:
    from scipy.spatial.transform import Rotation

    flat = Rotation.from_matrix(rotations.flatten(0, 1).numpy()).as_rotvec()
    return torch.from_numpy(flat).float().unflatten(0, rotations.shape[:2])


def test_the_unet_doubles_the_resolution_and_begins_with_nothing():
    x = torch.randn(2, 5, 64, 64)
    net = LightUNet(5, 9, width=16)
    assert_close(net(x), torch.zeros(2, 9, 128, 128))
    with pytest.raises(ValueError, match="multiple of 16"):
        LightUNet(5, 9, width=20)


# ---- learning


def test_full_size_maps_take_a_step_that_reaches_every_weight(free_body, drawer):
    config = DmpConfig()
    system = build(config, free_body)
    assert (config.backbone, system.crop_size) == (50, 224)
    step = system.training_step(people(drawer, system.wants, 2, crop=224))
    step.losses[0].backward()
    assert set(step.terms) == {"mask", "uv", "location", "joint", "displacement", "camera"}
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in system.parameters())
    (optimizer,) = system.optimizers()
    optimizer.step()


def test_the_full_size_whole_takes_a_step_and_leaves_the_first_two_modules_as_they_are(free_body, drawer):
    system = build(UviConfig(), free_body).train()
    before = {n: p.clone() for n, p in system.state_dict().items()}
    (optimizer,) = system.optimizers()
    system.training_step(people(drawer, system.wants, 2, crop=224)).losses[0].backward()
    optimizer.step()
    changed = {n for n, p in system.state_dict().items() if not torch.equal(p, before[n])}
    assert changed and not any(n.startswith(("maps.", "ik.")) for n in changed)


_SLOW = [
    pytest.param(change, marks=pytest.mark.slow)
    for change in ({"joints": "smpl24"}, {"correspondence": "parts"}, {"correspondence": "parts", "pooled": 32})
]


@pytest.mark.parametrize("change", [{}, *_SLOW])
def test_small_maps_learn_the_people_they_are_shown(free_body, drawer, change: dict):
    system = build(replace(SMALL_MAPS, learning_rate=3e-3, **change), free_body)
    batch = people(drawer, system.wants, 2)
    (optimizer,) = system.optimizers()
    first = system.training_step(batch).losses[0].item()
    for _ in range(25):
        optimizer.zero_grad()
        step = system.training_step(batch)
        step.losses[0].backward()
        optimizer.step()
    assert step.losses[0].item() < 0.5 * first


def test_inverse_kinematics_learns_from_motion_capture(free_body, samples: Path):
    system = build(IkConfig(network=SMALL_IK, surface="points", learning_rate=3e-3), free_body)
    source = MocapSource(samples / "mocap")
    stream = system.batches.stream([source], None, 64, 0)
    (optimizer,) = system.optimizers()
    losses = []
    for step in range(60):
        optimizer.zero_grad()
        loss = system.training_step(stream[step]).losses[0]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])
    measured = system.measures(system.batches.plain(source, range(32)))
    assert measured["missing_mpjpe"].value > 0 and measured["given_mpjpe"].value > 0


def test_joints_are_spoiled_as_much_as_is_said(free_body, samples: Path):
    system = build(IkConfig(network=SMALL_IK, noise=0.05, moved=0.0, masked=0.4), free_body)
    batch = system.batches.stream([MocapSource(samples / "mocap")], None, 400, 0)[0]
    sample = system.sample(batch, torch.Generator().manual_seed(0))
    assert float((~sample.known).float().mean()) == pytest.approx(0.4, abs=0.03)
    assert float((sample.joints - sample.true_joints).std()) == pytest.approx(0.05, rel=0.05)


def test_inverse_kinematics_learns_from_what_the_first_module_finds_too(free_body, drawer, samples: Path):
    config = IkConfig(network=SMALL_IK, maps=SMALL_MAPS, first=Path("runs/maps"), surface="points", pictured=0.5)
    system = build(config, free_body).train()
    torch.nn.init.constant_(system.maps.head.answer.bias, 0.3)
    torch.nn.init.normal_(system.maps.head.answer.weight, std=0.1)
    assert not system.maps.training
    step = system.training_step(people(drawer, Wants()))
    step.losses[0].backward()
    assert all(p.grad is None for p in system.maps.parameters())
    assert system.network.gik.network[0].weight.grad.abs().sum() > 0
    stream = system.batches.stream([MocapSource(samples / "mocap"), TwoPeople()], None, 16, 0)
    kinds = [type(stream[step]) for step in range(12)]
    assert kinds.count(Batch) in range(2, 11)
    assert len(next(b for b in map(stream.__getitem__, range(12)) if isinstance(b, Batch))) == 2  # of 16


def test_features_of_crops_teach_inverse_kinematics_what_the_crops_do(free_body, drawer):
    config = IkConfig(network=SMALL_IK, maps=SMALL_MAPS, first=Path("runs/maps"), pictured=1.0)
    system = build(config, free_body).eval()
    assert isinstance(system.batches, CropBatches)
    system.hold_backbone()
    torch.nn.init.constant_(system.maps.head.answer.bias, 0.3)
    torch.nn.init.normal_(system.maps.head.answer.weight, std=0.1)
    batch = people(drawer, Wants())
    kept = replace(batch, image=torch.zeros_like(batch.image), features=system.features(batch.image))
    assert_close(system.sample(kept).joints, system.sample(batch).joints)
    with pytest.raises(ValueError, match="no backbone"):
        build(IkConfig(network=SMALL_IK), free_body).hold_backbone()


def test_crops_in_which_nobody_is_seen_teach_inverse_kinematics_nothing(free_body, drawer):
    config = IkConfig(network=SMALL_IK, maps=SMALL_MAPS, first=Path("runs/maps"))
    system = build(config, free_body).train()
    torch.nn.init.constant_(system.maps.head.answer.bias, -9.0)
    step = system.training_step(people(drawer, Wants()))
    step.losses[0].backward()
    assert step.losses[0].item() == 0.0
    assert all(not p.grad.any() for p in system.network.parameters())


def test_features_of_crops_are_judged_as_the_crops_are(free_body, drawer):
    system = build(SMALL, free_body)
    batch = people(drawer, system.wants)
    kept = replace(batch, image=torch.zeros_like(batch.image), features=system.features(batch.image))
    for judged in (system, system.maps):
        theirs = judged.measures(batch)
        for name, ours in judged.measures(kept).items():
            assert ours.value == pytest.approx(theirs[name].value, rel=1e-4, nan_ok=True)


def test_where_nothing_is_seen_the_aligned_error_is_how_far_joints_are_from_their_middle(free_body, drawer):
    system = build(SMALL_MAPS, free_body)
    torch.nn.init.constant_(system.head.answer.bias, -9.0)
    batch = people(drawer, system.wants)
    joints = true_joints(batch, free_body)
    expected = 1000 * (joints - joints.mean(1, keepdim=True)).norm(dim=-1).mean().item()
    assert system.measures(batch)["seen"].value == 0
    assert system.measures(batch)["pa_mpjpe"].value == pytest.approx(expected, rel=1e-4)


class TwoPeople:
    """Grey pictures of two people of whom only the pose is known."""

    info = TableInfo("grey", "train", "")

    def __len__(self) -> int:
        return 2

    def sample(self, row: int) -> Sample:
        pose = np.full(72, 0.1 * row, np.float32)
        box = {"box_center": np.array([32.0, 32.0]), "box_size": 60.0}
        return Sample(str(row), image_size=(64, 64), pose=pose, betas=np.zeros(10, np.float32), **box)

    def image(self, row: int) -> np.ndarray:
        return np.full((64, 64, 3), 128, np.uint8)

    def has(self, name: str) -> bool:
        return name in ("pose", "betas")


def test_the_mesh_begins_as_that_of_inverse_kinematics(free_body):
    system = build(SMALL, free_body)
    image = torch.rand(2, 3, CROP, CROP, generator=torch.Generator().manual_seed(0))
    _, both, answer = system.answer(image)
    mesh = system.mesh(both, answer)
    assert_close(mesh.vertices, both.posed.vertices)
    assert_close(answer.joints, both.ik.joints, atol=1e-5, rtol=0)


@pytest.mark.parametrize("change", [{"see_ik": False}, {"see_maps": False}, {}])
def test_inpainting_learns_the_people_it_is_shown_with_one_world_or_both(free_body, drawer, change: dict):
    system = build(replace(SMALL, learning_rate=3e-3, **change), free_body).train()
    batch = people(drawer, system.wants, 2)
    (optimizer,) = system.optimizers()
    first = system.training_step(batch).losses[0].item()
    for _ in range(20):
        optimizer.zero_grad()
        step = system.training_step(batch)
        step.losses[0].backward()
        optimizer.step()
    assert step.losses[0].item() < 0.7 * first
    assert set(step.terms) == {"maps", "joints_3d", "joints_2d", "symmetry", "consistency"}
    errors = system.errors(batch)
    assert errors["uvi"].shape == (2, 14) and errors["uvi_mesh"].shape == (2, 7000)


def test_who_is_not_known_teaches_nothing(free_body, drawer):
    system = build(SMALL_MAPS, free_body).eval()
    batch = people(drawer, system.wants, 2)
    nobody = torch.tensor([True, False])
    unknown = dict.fromkeys(system.wants.maps, nobody)
    spoiled = replace(
        batch,
        dense_known=unknown,
        has_pose=nobody,
        dense=batch.dense.map(lambda t: torch.where(nobody.view(-1, *(1,) * (t.ndim - 1)), t, torch.zeros_like(t))),
        pose=torch.where(nobody[:, None], batch.pose, torch.nan),
    )
    both = system.losses(spoiled, system(batch.image))
    first = system.losses(batch[:1], system(batch.image[:1]))
    for name, term in first.items():
        assert_close(both[name], term, atol=1e-5, rtol=1e-4)


# ---- answering


def test_the_first_two_modules_in_a_chain_make_bodies(free_body):
    maps = build(SMALL_MAPS, free_body)
    torch.nn.init.constant_(maps.head.answer.bias, 0.3)  # everything is seen
    ik = build(IkConfig(network=SMALL_IK, maps=SMALL_MAPS), free_body)
    answer = Chain([maps, ik]).predict(torch.rand(2, 3, CROP, CROP))
    assert answer.bodies is not None and answer.bodies.pose.shape == (2, 72)
    assert answer.visibility is not None and answer.visibility.shape == (2, 24)


def test_the_whole_stands_where_its_own_maps_see_it(free_body, drawer):
    system = build(SMALL, free_body)
    torch.nn.init.constant_(system.maps.head.answer.bias, 0.3)
    answer = system.predict(torch.rand(2, 3, CROP, CROP))
    assert answer.bodies is None and answer.vertices.shape == (2, 7000, 3)
    seen = answer.camera.project(answer.vertices)
    assert bool(seen.isfinite().all()) and float(answer.joints[..., 2].min()) > 1.0
    assert answer.dense.uv_location.shape == (2, 128, 128, 3)


def photo(size: int = 96) -> PersonInPhoto:
    image = np.zeros((size, size, 3), np.uint8)
    box = np.array([20.0, 10.0, 70.0, 90.0])
    return PersonInPhoto(image, (size, size), np.array([45.0, 50.0]), 90.0, box)


def test_a_square_without_anybody_is_told_and_has_no_answer(free_body):
    system = build(SMALL, free_body)
    torch.nn.init.constant_(system.maps.head.answer.bias, -9.0)
    with pytest.warns(InputWarning, match="sees nobody in 1 of 1"):
        assert system.estimator(free_body, "both").estimate([photo()]) == [None]
    torch.nn.init.constant_(system.maps.head.answer.bias, 9.0)
    (answer,) = system.estimator(free_body, "both").estimate([photo()])
    assert answer is not None and answer.vertices.shape == (7000, 3)


# ---- what does not fit together


def test_weights_of_another_bodys_uv_image_are_refused(free_body):
    for system in (build(SMALL_MAPS, free_body), build(SMALL, free_body)):
        space = system.space if isinstance(system, Dmp) else system.finer
        space.trained.copy_(space.trained.flip(0))
        with pytest.raises(ValueError, match="UV image of another body"):
            system.predict(torch.rand(1, 3, CROP, CROP))


def test_stages_that_go_on_from_nothing_say_so(free_body):
    ik = build(IkConfig(network=SMALL_IK), free_body)
    with pytest.raises(ValueError, match="chain it behind"):
        ik.predict(torch.rand(1, 3, CROP, CROP))
    with pytest.raises(ValueError, match="found none"):
        ik.go_on(torch.rand(1, 3, CROP, CROP), Estimate(dense=DenseMaps(mask=torch.ones(1, 8, 8, dtype=torch.bool))))
    with pytest.raises(ValueError, match="--first"):
        build(SMALL, free_body).begin()
    with pytest.raises(ValueError, match="motion capture at least"):
        ik.batches.stream([], None, 8, 0)


def test_runs_that_do_not_fit_together_are_named(free_body, tmp_path: Path):
    maps, ik = build(SMALL_MAPS, free_body), build(IkConfig(network=SMALL_IK), free_body)
    first, second = tmp_path / "maps.pt", tmp_path / "ik.pt"
    save_weights(first, Weights("best-of-both-worlds-maps", 1, learned_state(maps)))
    save_weights(second, Weights("best-of-both-worlds-ik", 1, learned_state(ik)))
    fits = build(replace(SMALL, first=first, second=second), free_body, seed=1)
    assert fits.starts() == (Start(first, {"maps.": ""}), Start(second, {"ik.": "network."}))
    read_starts(fits, None)
    assert_close(fits.maps.head.answer.weight, maps.head.answer.weight)
    assert_close(fits.ik.gik.network[0].weight, ik.network.gik.network[0].weight)
    goes_on = build(IkConfig(network=SMALL_IK, maps=SMALL_MAPS, first=first, recorded=second), free_body, seed=1)
    read_starts(goes_on, None)
    assert_close(goes_on.maps.head.answer.weight, maps.head.answer.weight)
    assert_close(goes_on.network.gik.network[0].weight, ik.network.gik.network[0].weight)
    parts = build(replace(SMALL_MAPS, correspondence="parts", decoder=first), free_body, seed=1)
    read_starts(parts, None)
    assert_close(parts.head.narrow[0][0].weight, maps.head.narrow[0][0].weight)
    assert len(parts.head.answer.weight) == 1 + 14 * 3 + 9 and len(maps.head.answer.weight) == 12
    other = replace(SMALL, first=first, second=second, ik=replace(SMALL_IK, width=32))
    with pytest.raises(ValueError, match="does not fit this system"):
        read_starts(build(other, free_body), None)
    with pytest.raises(ValueError, match="lacks"):
        read_starts(build(replace(SMALL, first=second, second=first), free_body), None)


def test_the_packaged_whole_answers(free_body):
    system = load_run(SYSTEMS["best-of-both-worlds"].packaged, free_body)
    answer = system.predict(torch.rand(1, 3, 192, 192, generator=torch.Generator().manual_seed(0)))
    assert answer.vertices is not None and answer.vertices.shape == (1, len(free_body.v_template), 3)
    assert bool(answer.vertices.isfinite().all()) and answer.dense is not None
    assert answer.dense.need("mask").shape == (1, 24, 24)


def test_maps_begin_with_what_the_packaged_holopose_has_learned_to_draw(free_body):
    packaged = SYSTEMS["holopose"].packaged
    config = DmpConfig(backbone="movenet", width=96, crop_size=64, stride=8, correspondence="parts", drawn=packaged)
    maps = build(config, free_body)
    before = maps.head.answer.weight.clone()
    (taken,) = read_starts(maps, None)
    theirs = packed_tensors(packaged / "weights.npz")
    # Maps finer than the answer's are left out: HoloPose's second is our first.
    assert_close(maps.head.narrow[0][0].weight, theirs["heads.fine.narrow.1.0.weight"].float())
    assert_close(maps.head.refine[0].mix.weight, theirs["heads.fine.refine.0.mix.weight"].float())
    assert_close(maps.head.draw.mix.weight, theirs["heads.fine.draw.mix.weight"].float())
    assert_close(maps.head.answer.weight, before)
    assert "head.answer.weight" in taken.fresh and len(maps.head.narrow) == 4


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: DmpConfig(pooled=64), "correspondence parts"),
        (lambda: DmpConfig(decoder=Path("a"), drawn=Path("b")), "name one"),
        (lambda: UviConfig(see_maps=False, see_ik=False), "keep one"),
        (lambda: UviConfig(maps=DmpConfig(joints="smpl24")), "lsp14"),
        (lambda: IkConfig(masked=1.0), "shares from 0 to 1"),
        (lambda: IkConfig(noise=-1.0), "0 or more"),
        (lambda: DmpConfig(crop_size=225), "multiple"),
    ],
)
def test_configurations_that_make_no_sense_are_refused(make, match: str):
    with pytest.raises(ValueError, match=match):
        make()
