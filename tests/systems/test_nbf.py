"""Neural Body Fitting: what its layers and losses do to bodies whose answer is known, and that it learns."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.testing import assert_close

import kouros
from kouros.body.keypoints import LSP14, SPIN49
from kouros.body.surface.landmarks import surface_landmarks
from kouros.body.surface.parts import PARTS12, PARTS24
from kouros.body.surface.symmetry import mesh_mirror
from kouros.data.batch import Batch
from kouros.data.crops import CropTransform
from kouros.data.dense import Wants
from kouros.data.images import read_image
from kouros.data.parts_files import PartsError
from kouros.detection.people import DetectedPerson
from kouros.evaluation.metrics import confusion_matrix, segmentation_scores
from kouros.fitting.schedules.fits_store import Augmentation
from kouros.geometry.cameras import PerspectiveCamera
from kouros.geometry.rotations import random_rotmat, rotvec_to_rotmat
from kouros.networks.fixed_camera import STANDING, FixedCamera, Placement
from kouros.networks.part_pictures import heatmaps, in_colours, joint_colours, label_shares, part_colours
from kouros.priors.gmm import load_gmm
from kouros.render.maps import DenseMaps
from kouros.systems.chain import Chain
from kouros.systems.estimator import Estimate, Estimator, PersonInPhoto
from kouros.systems.nbf import (
    Answer,
    Jitter,
    Nbf,
    NbfConfig,
    NbfEstimator,
    NbfLosses,
    Parts,
    PartsConfig,
    grown,
    nearest_rotations,
    parameter_loss,
    point_loss,
)
from kouros.systems.table import SYSTEMS
from kouros.training.runs import load_run

CROP = 64
PER_METRE = 0.9
"""Crop coordinates: how large people are in the tests' crops."""
SMALL = NbfConfig(backbone=18, width=8, input_size=32, crop_size=CROP, jitter=Jitter(0.0, 0.0))
SMALL_PARTS = PartsConfig(network="light", backbone=18, width=16, crop_size=CROP, stride=2)


def people(body, count: int = 3, seed: int = 0, *, rows: int = CROP // 2) -> Batch:
    """Known bodies in the middle of crops of noise; their part maps are noise too, which losses do not mind."""
    generator = torch.Generator().manual_seed(seed)
    orient = torch.tensor([torch.pi, 0.0, 0.0]) + 0.2 * torch.randn(count, 3, generator=generator)
    pose = torch.cat([orient, load_gmm().sample(count, generator)], 1)
    betas = torch.randn(count, 10, generator=generator)
    space = body.keypoint_positions(SPIN49.name, betas=betas, body_pose=pose[:, 3:], global_orient=orient)
    ones = torch.ones(count, 49, 1)
    labels = {
        name: torch.randint(parts + 1, (count, rows // 4, rows // 4), generator=generator)
        .repeat_interleave(4, 1)
        .repeat_interleave(4, 2)
        for name, parts in (("parts12", 12), ("parts24", 24), ("parts1", 1))
    }
    return Batch(
        image=torch.rand(count, 3, CROP, CROP, generator=generator),
        index=torch.arange(count),
        source=torch.zeros(count, dtype=torch.long),
        keypoints_2d=torch.cat([(PER_METRE * space[..., :2] + 1) * CROP / 2, ones], -1),
        keypoints_3d=torch.cat([space - space[:, :1], ones], -1),
        pose=pose,
        has_pose=torch.ones(count, dtype=torch.bool),
        betas=betas,
        has_betas=torch.ones(count, dtype=torch.bool),
        augmentation=Augmentation(torch.zeros(count), torch.zeros(count, dtype=torch.bool)),
        crop_center=torch.zeros(count, 2),
        crop_side=torch.ones(count),
        dense=DenseMaps(labels=labels),
    )


def build(body, config: NbfConfig = SMALL, seed: int = 0) -> Nbf:
    torch.manual_seed(seed)
    return config.build(body)


def truth(batch: Batch) -> Answer:
    return Answer(rotvec_to_rotmat(batch.pose.unflatten(1, (24, 3))), batch.betas)


def as_loss(system: Nbf, batch: Batch, answer: Answer) -> dict[str, Tensor]:
    return system.losses(batch, system.placement(batch), torch.ones(len(batch)), answer)


# ---- rotations


def test_a_rotation_is_its_own_nearest_and_a_scale_changes_nothing():
    generator = torch.Generator().manual_seed(0)
    rotations = rotvec_to_rotmat(2 * torch.randn(50, 3, generator=generator, dtype=torch.double))
    assert_close(nearest_rotations(rotations), rotations)
    assert_close(nearest_rotations(7.5 * rotations), rotations)


def test_the_nearest_rotation_is_nearer_than_others_and_never_a_reflection():
    generator = torch.Generator().manual_seed(0)
    matrices = torch.randn(100, 3, 3, generator=generator, dtype=torch.double)
    nearest = nearest_rotations(matrices)
    assert_close(torch.linalg.det(nearest), torch.ones(100, dtype=torch.double))
    assert_close(nearest @ nearest.mT, torch.eye(3, dtype=torch.double).expand(100, 3, 3))
    others = random_rotmat((100, 200), generator).double()
    distance = (others - matrices[:, None]).square().sum((2, 3)).amin(1)
    assert bool(((nearest - matrices).square().sum((1, 2)) <= distance).all())


def test_gradients_of_the_nearest_rotation_are_right_and_finite_where_there_is_none():
    ordinary = torch.randn(4, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(nearest_rotations, ordinary)
    flat = torch.diag(torch.tensor([1.0, 0.0, 0.0]))
    mirror = torch.diag(torch.tensor([1.0, 1.0, -1.0]))
    degenerate = torch.stack([torch.zeros(3, 3), flat, mirror, torch.ones(3, 3)]).requires_grad_()
    rotations = nearest_rotations(degenerate)
    (rotations * torch.randn(4, 3, 3, generator=torch.Generator().manual_seed(1))).sum().backward()
    assert bool(rotations.isfinite().all()) and bool(degenerate.grad.isfinite().all())
    assert_close(torch.linalg.det(rotations.detach()), torch.ones(4))


# ---- the fixed camera


def test_a_standing_mean_person_is_as_high_as_the_paper_has_it(free_body):
    camera = FixedCamera(free_body)
    seen = camera.project(free_body.v_template[None])[0, :, 1]
    assert (seen.max() - seen.min()) / 2 == pytest.approx(440 / 512, rel=3e-3)  # in sides of the picture
    assert STANDING == 440 / 512


@pytest.mark.parametrize(("scale", "shift"), [(1.0, (0.0, 0.0)), (0.6, (0.2, -0.3)), (1.7, (-0.4, 0.1))])
def test_crops_of_any_scale_are_brought_to_what_the_camera_sees(free_body, scale: float, shift: tuple):
    """By the true body exactly; the middle of the keypoints' box comes to the middle of the picture."""
    camera = FixedCamera(free_body)
    space = free_body.keypoint_positions("spin49", betas=torch.zeros(1, 10))
    crop = scale * camera.per_metre * space[..., :2] + torch.tensor(shift)
    keypoints = torch.cat([crop, torch.ones(1, 49, 1)], -1)
    placement = camera.by_body(keypoints, space)
    assert_close(placement.scale, torch.tensor([1 / scale]), atol=1e-4, rtol=1e-4)
    placed = placement.points(crop)
    assert_close((placed.amin(1) + placed.amax(1)) / 2, torch.zeros(1, 2), atol=1e-5, rtol=0)
    assert_close(placement.points_back(placed), crop)
    # From limbs alone the mean person in the T-pose, which no foreshortening spoils, is found as well.
    assert_close(camera.by_keypoints(keypoints, "spin49").scale, placement.scale, atol=1e-3, rtol=1e-3)


def test_who_shows_no_limbs_keeps_the_crops_scale(free_body):
    camera = FixedCamera(free_body)
    placement = camera.by_keypoints(torch.zeros(1, 49, 3), "spin49")
    assert_close(placement.scale, torch.ones(1))
    assert_close(placement.offset, torch.zeros(1, 2))
    eyes = torch.zeros(1, 17, 3)
    eyes[0, 1:3] = torch.tensor([[0.1, 0.2, 1.0], [0.3, 0.2, 1.0]])
    placement = camera.by_keypoints(eyes, "coco17")
    assert_close(placement.scale, torch.ones(1))
    assert_close(placement.offset, torch.tensor([[-0.2, -0.2]]))


def test_pictures_are_moved_as_points_are():
    crop = torch.zeros(1, 1, 40, 40)
    crop[0, 0, 10:20, 25:35] = 1
    placement = Placement(torch.tensor([0.5]), torch.tensor([[0.25, -0.1]]))
    corners = placement.points(torch.tensor([[[0.25, -0.5], [0.75, 0.0]]]))[0]  # of the white square
    for labels in (True, False):
        seen = placement.picture(crop, 80, labels=labels)[0, 0]
        rows, columns = torch.nonzero(seen > 0.5, as_tuple=True)
        found = torch.tensor([[columns.min(), rows.min()], [columns.max() + 1, rows.max() + 1]]) / 40 - 1
        assert_close(found, corners, atol=0.026, rtol=0)  # a pixel
        assert seen[0, 0] == 0  # beyond the crop


def test_the_estimate_stands_in_the_crop_where_the_body_was_seen(free_body):
    """A network that knows the truth gives bodies whose keypoints lie where they were seen, in any crop."""
    batch, system = people(free_body), build(free_body)
    placement = system.placement(batch)
    answer = system._answer(truth(batch), placement, system._in_crop(batch))
    bodies = answer.bodies
    pixels = bodies.camera.project(bodies.keypoints_by(free_body, "spin49")) * (CROP / 224)
    assert_close(pixels, batch.keypoints_2d[..., :2], atol=0.3, rtol=0)  # weak against full perspective
    assert_close(bodies.betas, batch.betas)


# ---- what it is shown


def test_parts_and_joints_have_their_colours():
    labels = torch.tensor([[[0, 3], [12, 3]]])
    shares = label_shares(labels, PARTS12)
    assert shares.shape == (1, 13, 2, 2) and bool((shares.sum(1) == 1).all())
    picture = in_colours(shares, part_colours(PARTS12))
    assert_close((picture[0].permute(1, 2, 0) * 255).round().byte(), torch.from_numpy(PARTS12.colours)[labels[0]])
    half = 0.5 * (label_shares(labels, PARTS12) + label_shares(torch.zeros_like(labels), PARTS12))
    assert_close(in_colours(half, part_colours(PARTS12)), picture / 2)
    with pytest.raises(ValueError, match=r"holds the label 13; parts12 has 0 to 12"):
        label_shares(torch.tensor([[[13]]]), PARTS12)
    colours = joint_colours(LSP14)
    assert_close(colours[LSP14.index("left_hip_lsp")], part_colours(PARTS24)[PARTS24.label("left_hip")])
    assert len({tuple(c.tolist()) for c in colours}) == 14


def test_heatmaps_are_highest_at_their_joints_and_unknown_joints_have_none():
    points = torch.tensor([[[0.5, -0.25, 1.0], [0.0, 0.0, 0.0]]])
    maps = heatmaps(points, 64)
    assert_close(maps[0, 0].max(), torch.tensor(0.25).neg().exp())  # half a pixel off, either way
    row, column = divmod(int(maps[0, 0].argmax()), 64)
    assert abs(column + 0.5 - 48) <= 0.5 and abs(row + 0.5 - 24) <= 0.5
    assert not maps[0, 1].any()


@pytest.mark.parametrize(
    ("shown", "coding", "channels"),
    [
        ("rgb", "colours", 3), ("parts1", "colours", 3), ("parts12", "colours", 3), ("parts12", "numbers", 13),
        ("parts24", "numbers", 25), ("joints14", "colours", 3), ("joints14", "numbers", 14),
        ("joints24", "colours", 3), ("joints24", "numbers", 24),
    ],
)  # fmt: skip
def test_every_row_of_table_1_can_be_trained(free_body, shown: str, coding: str, channels: int):
    batch = people(free_body)
    system = build(free_body, replace(SMALL, shown=shown, coding=coding))
    seen = system.shown(batch, system.placement(batch))
    assert seen.shape == (3, channels, 32, 32)
    assert float(seen.min()) >= 0 and float(seen.max()) <= 1 and float(seen.std()) > 0
    step = system.training_step(batch)
    step.losses[0].backward()
    assert all(bool(p.grad.isfinite().all()) for p in system.network.parameters())
    assert step.predicted.bodies.pose.shape == (3, 72)


def test_joints_are_shown_where_parts_are(free_body):
    """A 24-joint heatmap is at the true joint in the jittered picture as in the plain one."""
    batch = people(free_body)
    system = build(free_body, replace(SMALL, shown="joints24", coding="numbers"))
    placement = system.placement(batch)
    moved = Placement(placement.scale * 1.2, placement.offset * 1.2 + 0.1)
    plain, jittered = system._joints(batch, placement), system._joints(batch, moved)
    assert_close(jittered[..., :2], moved.points(placement.points_back(plain[..., :2])), atol=1e-5, rtol=1e-5)
    # The same points as keypoints have: the left knee is one of SPIN's.
    annotated = moved.keypoints(system._in_crop(batch))
    knee = annotated[:, SPIN49.index("left_knee"), :2] - jittered[:, 4, :2]
    assert float(knee.norm(dim=-1).max()) < 0.06


def test_probabilities_beyond_the_crop_are_background(free_body):
    system = build(free_body, replace(SMALL, coding="numbers"))
    found = torch.zeros(1, 13, CROP, CROP)
    found[:, 5] = 1
    seen = system.shown_parts(found, Placement(torch.tensor([0.5]), torch.zeros(1, 2)))[0]
    assert_close(seen.sum(0), torch.ones(32, 32))
    assert seen[0, 0, 0] == 1 and seen[5, 16, 16] == 1
    with pytest.raises(ValueError, match="made for parts12; it cannot use a map of 25 labels"):
        system.shown_parts(torch.zeros(1, 25, 8, 8), Placement(torch.ones(1), torch.zeros(1, 2)))


# ---- losses


def test_parameters_cost_the_absolute_differences_of_all_numbers():
    true = Answer(torch.eye(3).expand(2, 24, 3, 3), torch.zeros(2, 10))
    half_turn = rotvec_to_rotmat(torch.tensor([torch.pi, 0, 0])).expand(2, 24, 3, 3)  # two numbers off by 2
    off = Answer(half_turn, torch.full((2, 10), 0.5))
    yes, first = torch.tensor([True, True]), torch.tensor([True, False])
    assert_close(parameter_loss(true, true, yes, yes), torch.zeros(2))
    assert_close(parameter_loss(off, true, yes, yes), torch.full((2,), 24 * 4 + 5.0))
    assert_close(parameter_loss(off, true, first, yes), torch.tensor([24 * 4 + 5.0, 5.0]))
    assert_close(parameter_loss(off, true, yes, first), torch.tensor([24 * 4 + 5.0, 24 * 4.0]))


def test_points_cost_squares_where_they_weigh():
    apart = torch.zeros(2, 3, 2)
    apart[0, 1] = torch.tensor([0.3, 0.4])
    weight = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 1.0]])
    assert_close(point_loss(apart, torch.zeros(2, 3, 2), weight), torch.tensor([0.25, 0.0]))


@pytest.mark.parametrize("points", ["joints24", "landmarks91"])
def test_the_true_body_costs_nothing(free_body, points: str):
    batch = people(free_body)
    system = build(free_body, replace(SMALL, points=points))
    terms = as_loss(system, batch, truth(batch))
    assert set(terms) == {"parameters", "points_3d", "points_2d"}
    for name, term in terms.items():
        assert_close(term, torch.tensor(0.0), atol=1e-6, rtol=0, msg=name)


def test_a_bent_knee_costs_what_it_moves(free_body):
    batch = people(free_body)
    system = build(free_body)
    answer = truth(batch)
    answer.rotations[1, 4] = answer.rotations[1, 4] @ rotvec_to_rotmat(torch.tensor([0.5, 0.0, 0.0]))
    posed = [
        free_body.joint_positions(
            betas=a.betas, global_orient=a.rotations[:, 0], body_pose=a.rotations[:, 1:], pose2rot=False
        )
        for a in (answer, truth(batch))
    ]
    apart = posed[0] - posed[1]
    terms = as_loss(system, batch, answer)
    assert_close(terms["points_3d"], apart.square().sum() / 3)
    # From 44 metres away the picture's plane is nearly all that 2D sees.
    assert_close(terms["points_2d"], apart[..., :2].square().sum() / 3, rtol=0.05, atol=1e-5)
    expected = (answer.rotations - truth(batch).rotations).abs().sum() / 3
    assert_close(terms["parameters"], expected)


def unknown(batch: Batch, row: int) -> Batch:
    """The batch with a person whose body is not known: its numbers are NaN."""
    pose, betas, space = batch.pose.clone(), batch.betas.clone(), batch.keypoints_3d.clone()
    pose[row], betas[row] = torch.nan, torch.nan
    has = batch.has_pose.clone()
    has[row] = False
    return replace(batch, pose=pose, betas=betas, keypoints_3d=space, has_pose=has, has_betas=has)


def test_each_sample_counts_with_what_it_has_and_with_nothing_else(free_body):
    """Eq. 9: a sample without a body adds its keypoints' losses, and the others' losses stay what they were."""
    batch = people(free_body)
    system = build(free_body)
    wrong = Answer(random_rotmat((3, 24), torch.Generator().manual_seed(1)), torch.zeros(3, 10))
    each = [as_loss(system, batch[i : i + 1], wrong[i : i + 1]) for i in range(3)]
    together = as_loss(system, batch, wrong)
    for name in together:
        assert_close(together[name], torch.stack([e[name] for e in each]).mean())

    partly = unknown(batch, 1)
    terms = as_loss(system, partly, wrong)
    alone = as_loss(system, partly[1:2], wrong[1:2])
    assert alone["parameters"] == 0 and alone["points_2d"] > 0 and alone["points_3d"] > 0
    for name in terms:
        assert_close(terms[name], (each[0][name] + each[2][name] + alone[name]) / 3)

    nothing = replace(
        partly,
        keypoints_2d=torch.where(torch.arange(3)[:, None, None] == 1, torch.nan, partly.keypoints_2d),
        keypoints_3d=torch.where(torch.arange(3)[:, None, None] == 1, torch.nan, partly.keypoints_3d),
    )
    terms = as_loss(system, nothing, wrong)
    for name in terms:
        assert_close(terms[name], (each[0][name] + each[2][name]) / 3)


def test_who_is_not_shown_teaches_nothing(free_body):
    """A source without part maps gives black ones, and says so."""
    batch, system = people(free_body), build(free_body)
    wrong = Answer(random_rotmat((3, 24), torch.Generator().manual_seed(1)), torch.zeros(3, 10))
    each = [as_loss(system, batch[i : i + 1], wrong[i : i + 1]) for i in range(3)]
    partly = replace(batch, dense_known={"parts12": torch.tensor([True, False, True])})
    for name, term in as_loss(system, partly, wrong).items():
        assert_close(term, (each[0][name] + each[2][name]) / 3)
    segmenter = SMALL_PARTS.build(free_body)
    segmenter.eval()
    alone = torch.stack([segmenter.training_step(batch[i : i + 1]).losses[0] for i in (0, 2)]).mean()
    assert_close(segmenter.training_step(partly).losses[0], alone)


def test_systems_ask_for_what_they_look_at():
    assert PartsConfig(parts="parts6").wants == Wants(parts=("parts6",))
    assert NbfConfig().wants == Wants(image=False, parts=("parts12",))
    assert NbfConfig(shown="rgb").wants == Wants()
    assert NbfConfig(shown="joints14").wants == Wants(image=False)
    with pytest.raises(ValueError, match="Crops of 512 pixels have no maps of stride 3"):
        PartsConfig(stride=3)


def test_unknown_numbers_reach_no_gradient(free_body):
    batch = unknown(people(free_body), 1)
    batch = replace(batch, keypoints_2d=torch.where(torch.arange(3)[:, None, None] == 1, torch.nan, batch.keypoints_2d))
    system = build(free_body)
    step = system.training_step(batch)
    step.losses[0].backward()
    assert bool(step.losses[0].isfinite())
    assert all(bool(p.grad.isfinite().all()) for p in system.network.parameters())


def test_keypoints_teach_in_place_of_bodies_as_bodies_would(free_body):
    """The true answer costs a person nothing that is known by keypoints alone."""
    batch = people(free_body)
    system = build(free_body)
    by_keypoints = replace(batch, has_pose=torch.zeros(3, dtype=torch.bool), has_betas=torch.zeros(3, dtype=torch.bool))
    placement = system.placement(batch)  # limbs alone would say it less exactly
    terms = system.losses(by_keypoints, placement, torch.ones(3), truth(batch))
    assert terms["parameters"] == 0
    assert_close(terms["points_3d"], torch.tensor(0.0), atol=1e-6, rtol=0)
    assert terms["points_2d"] < 24 * 0.01**2  # a centimetre each: weak against full perspective


@pytest.mark.parametrize("share", [0.0, 0.01, 0.2, 0.5, 1.0])
def test_a_share_of_the_samples_is_learned_from_in_3d(free_body, share: float):
    system = build(free_body, replace(SMALL, share_3d=share))
    learned = system._learned_in_3d(torch.arange(10_000))
    assert float(learned.float().mean()) == pytest.approx(share, abs=2e-3)
    batch = people(free_body)
    wrong = Answer(random_rotmat((3, 24), torch.Generator().manual_seed(1)), torch.zeros(3, 10))
    terms = as_loss(system, batch, wrong)
    where = system._learned_in_3d(batch.index)
    each = [as_loss(build(free_body), batch[i : i + 1], wrong[i : i + 1]) for i in range(3)]
    for name in terms:
        rows = [e[name] for e, w in zip(each, where.tolist(), strict=True) if w or name == "points_2d"]
        assert_close(terms[name], torch.stack([*rows, torch.tensor(0.0)]).sum() / 3)


def test_losses_that_weigh_nothing_are_left_out(free_body):
    batch = people(free_body)
    for wanted in ("parameters", "points_3d", "points_2d"):
        weights = {"parameters": 0.0, "points_3d": 0.0, "points_2d": 0.0, wanted: 2.0}
        system = build(free_body, replace(SMALL, losses=NbfLosses(**weights)))
        step = system.training_step(batch)
        assert list(step.terms) == [wanted]
        assert_close(step.losses[0].detach(), 2 * step.terms[wanted])
    with pytest.raises(ValueError, match="expected numbers of 0 or more, not all 0"):
        NbfLosses(0.0, 0.0, 0.0)


# ---- larger people, landmarks


@pytest.mark.parametrize("larger", [0.9, 1.1])
def test_betas_say_how_large_a_person_is(free_body, larger: float):
    betas = torch.randn(5, 10, generator=torch.Generator().manual_seed(0))
    growth = build(free_body).growth
    root = free_body.joint_positions(betas=betas)[:, :1]
    scaled = larger * (free_body(betas=betas).vertices - root)
    grew = grown(betas, torch.full((5,), larger), growth)
    found = free_body(betas=grew).vertices - free_body.joint_positions(betas=grew)[:, :1]
    plain = free_body(betas=betas).vertices - root
    assert float((found - scaled).norm(dim=-1).mean()) < 0.012
    assert float((plain - scaled).norm(dim=-1).mean()) > 0.05  # what there was to explain
    assert_close(grown(betas, torch.ones(5), growth), betas)


def test_jitter_moves_the_picture_and_scales_the_betas(free_body):
    system = build(free_body, replace(SMALL, jitter=Jitter(0.1, 0.1)))
    torch.manual_seed(0)
    plain = Placement(torch.full((500,), 2.0), torch.full((500, 2), 0.5))
    moved, larger = system.jittered(plain)
    assert 0.9 <= float(larger.min()) < 0.91 and 1.09 < float(larger.max()) <= 1.1
    assert_close(moved.scale, 2 * larger)
    shift = moved.offset - 0.5 * larger[:, None]
    assert 0.19 < float(shift.abs().max()) <= 0.2001
    batch = people(free_body)
    doubled = system._true(batch, torch.full((3,), 1.05))
    assert_close(doubled.betas, grown(batch.betas, torch.full((3,), 1.05), system.growth))


def test_landmarks_are_91_vertices_all_over_the_body_and_symmetric(free_body):
    chosen = surface_landmarks(free_body)
    assert len(set(chosen.tolist())) == 91
    mirror = torch.from_numpy(mesh_mirror(free_body).vertex)
    assert set(mirror[chosen].tolist()) == set(chosen.tolist())
    distance = torch.cdist(free_body.v_template, free_body.v_template[chosen]).amin(1)
    assert float(distance.max()) < 0.16
    with pytest.raises(ValueError, match="cannot be 0 landmarks"):
        surface_landmarks(free_body, 0)


# ---- the second stage


def overfit(system: Nbf | Parts, batch: Batch, steps: int) -> None:
    """Steps with a learning rate that falls to nothing, so that running statistics catch up."""
    (optimizer,) = system.optimizers()
    highest = optimizer.param_groups[0]["lr"]
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = highest * (1 - step / steps)
        optimizer.zero_grad()
        system.training_step(batch).losses[0].backward()
        optimizer.step()


def test_it_overfits_two_people(free_body):
    batch = people(free_body, 2)
    system = build(free_body, replace(SMALL, learning_rate=2e-3, weight_decay=0.0, input_size=64))
    before = {name: float(e.mean()) for name, e in system.errors(batch).items()}
    overfit(system, batch, 60)
    after = {name: float(e.mean()) for name, e in system.errors(batch).items()}
    assert after["joints"] < 0.3 * before["joints"]
    assert after["rotations"] < 0.5 * before["rotations"]
    assert after["pckh"] > before["pckh"] + 0.2


def test_errors_of_the_truth_are_none_and_unknown_ones_are_nan(free_body, monkeypatch: pytest.MonkeyPatch):
    batch, system = people(free_body), build(free_body)
    monkeypatch.setattr(system.network, "forward", lambda seen: (truth(batch).rotations, batch.betas))
    errors = system.errors(unknown(batch, 1))
    assert_close(errors["joints"][[0, 2]], torch.zeros(2), atol=1e-5, rtol=0)
    assert_close(errors["rotations"][[0, 2]], torch.zeros(2), atol=2e-3, rtol=0)
    assert_close(errors["pckh"][[0, 2]], torch.ones(2))
    assert bool(errors["joints"][1].isnan()) and bool(errors["rotations"][1].isnan())


def test_validation_adds_up_what_errors_and_confusions_say(free_body):
    batch, system = people(free_body), build(free_body)
    errors, measures = system.errors(batch), system.measures(batch)
    assert measures["joints"].value == pytest.approx(1000 * float(errors["joints"].mean()), rel=1e-5)
    assert measures["pckh"].value == pytest.approx(100 * float(errors["pckh"].mean()), rel=1e-5)
    assert system.measures(unknown(batch, 1))["rotations"].count == 2
    torch.manual_seed(0)
    segmenter = SMALL_PARTS.build(free_body).eval()
    halves = [segmenter.measures(batch[rows]) for rows in (slice(0, 1), slice(1, 3))]
    found = segmenter.predict(batch.image).dense.labels["parts12"]
    scores = segmentation_scores(confusion_matrix(found, batch.dense.labels["parts12"], 13))
    total = {name: halves[0][name] + halves[1][name] for name in ("iou", "f1")}
    assert total["iou"].value == pytest.approx(100 * float(scores.iou_per_class[1:].nanmean()))
    assert total["f1"].value == pytest.approx(100 * float(scores.f1_per_class[1:].nanmean()))


def test_runs_are_looked_at_in_pictures(free_body):
    batch = people(free_body)
    for system in (SMALL_PARTS.build(free_body), build(free_body)):
        for picture in system.pictures(batch, system.training_step(batch)).values():
            assert picture.shape[0] >= 3 * 32 and picture.std() > 0


def test_a_held_backbone_stays_as_it_is(free_body):
    batch = people(free_body)
    for system in (SMALL_PARTS.build(free_body), build(free_body)):
        system.hold_backbone()
        before = {name: value.clone() for name, value in system.backbone.state_dict().items()}
        overfit(system, batch, 1)
        assert all(torch.equal(before[name], value) for name, value in system.backbone.state_dict().items())


def test_a_body_is_in_no_checkpoint(free_body):
    system = build(free_body, replace(SMALL, points="landmarks91"))
    assert all(name.startswith("network.") for name in system.state_dict())


def test_it_moves_with_what_it_needs(free_body):
    """All that `to` must carry: seen by moving it to another type."""
    system = build(free_body, replace(SMALL, points="landmarks91")).double()
    assert system.growth.dtype == system.colours.dtype == system.body.v_template.dtype == torch.double
    assert system.landmarks.dtype == torch.long


def test_configurations_that_make_no_sense_are_refused(free_body):
    with pytest.raises(ValueError, match=r"share_3d is 1\.5; expected a number from 0 to 1"):
        NbfConfig(share_3d=1.5)
    with pytest.raises(ValueError, match="rgb pictures are shown as they are"):
        NbfConfig(shown="rgb", coding="numbers")
    with pytest.raises(ValueError, match="blazepose looks at pictures, not at parts12"):
        NbfConfig(backbone="blazepose")
    with pytest.raises(ValueError, match="a ResNet of width 64 that sees colours"):
        NbfConfig(width=32, imagenet=Path("resnet50.pth"))
    with pytest.raises(ValueError, match="has no labels of parts6"):
        build(free_body, replace(SMALL, shown="parts6")).training_step(people(free_body))
    with pytest.raises(ValueError, match="This network sees parts12, not pictures"):
        build(free_body).predict(torch.zeros(1, 3, CROP, CROP))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("config", "count"), [(NbfConfig(), 2), (PartsConfig(), 1)])
def test_the_published_size_is_built_and_steps_once(free_body, config: NbfConfig | PartsConfig, count: int):
    batch = people(free_body, count, rows=512)
    pixels = batch.keypoints_2d * torch.tensor([512 / CROP, 512 / CROP, 1.0])
    batch = replace(batch, image=torch.rand(count, 3, 512, 512), keypoints_2d=pixels)
    torch.manual_seed(0)
    system = config.build(free_body)
    (optimizer,) = system.optimizers()
    step = system.training_step(batch)
    step.losses[0].backward()
    before = [p.detach().clone() for p in system.parameters()]
    optimizer.step()
    assert bool(step.losses[0].isfinite())
    changed = [not torch.equal(b, p) for b, p in zip(before, system.parameters(), strict=True)]
    assert sum(changed) > 0.9 * len(changed)


def test_pictures_can_be_seen_through_a_trunk_that_has_seen_people(free_body):
    system = build(free_body, replace(SMALL, shown="rgb", backbone="blazepose"))
    before = system.network.backbone.stem[0].weight.clone()
    system.begin([])  # the packaged weights
    assert not torch.equal(system.network.backbone.stem[0].weight, before)
    assert system.predict(people(free_body, 1).image).bodies.pose.shape == (1, 72)


# ---- the first stage


@pytest.mark.parametrize("network", ["refinenet", "deeplab", "light"])
def test_every_segmenter_steps(free_body, network: str):
    torch.manual_seed(0)
    system = replace(SMALL_PARTS, network=network).build(free_body)
    batch = people(free_body, 2)
    step = system.training_step(batch)
    step.losses[0].backward()
    assert float(step.losses[0].detach()) == pytest.approx(2.6, abs=1.5)  # near log 13, knowing nothing
    assert all(p.grad is not None for p in system.parameters() if p.requires_grad)
    estimate = system.predict(batch.image)
    assert estimate.bodies is None
    labels = estimate.dense.labels["parts12"]
    assert labels.shape == (2, 32, 32) and int(labels.max()) <= 12
    assert_close(estimate.dense.mask, labels > 0)
    assert_close(system.probabilities(batch.image).sum(1), torch.ones(2, 32, 32))


def test_the_light_segmenter_overfits_two_pictures(free_body):
    torch.manual_seed(0)
    batch = people(free_body, 2)
    system = replace(SMALL_PARTS, learning_rate=3e-3, weight_decay=0.0).build(free_body)
    overfit(system, batch, 40)
    right = (system(batch.image).argmax(1) == batch.dense.labels["parts12"]).float().mean()
    assert float(right) > 0.9


def test_a_segmenter_on_movenet_learns_from_features_what_it_learns_from_pictures(free_body):
    torch.manual_seed(0)
    config = PartsConfig(network="light", backbone="movenet", crop_size=64, stride=4)
    system = config.build(free_body)
    system.begin()
    system.hold_backbone()
    batch = people(free_body, 2, rows=16)
    batch = replace(batch, image=torch.rand(2, 3, 64, 64))
    loss = system.training_step(batch).losses[0]
    seen = replace(batch, image=torch.zeros(2, 3, 64, 64), features=system.features(batch.image))
    assert_close(system.training_step(seen).losses[0], loss)
    assert system(batch.image).shape == (2, 13, 16, 16)
    with pytest.raises(ValueError, match="choose --network light"):
        PartsConfig(backbone="movenet")


# ---- both


def test_the_chain_gives_a_body_and_its_parts(free_body):
    torch.manual_seed(0)
    chain = Chain([SMALL_PARTS.build(free_body), build(free_body)])
    answer = chain.predict(people(free_body).image)
    assert answer.bodies.pose.shape == (3, 72)
    assert answer.dense.labels["parts12"].shape == (3, 32, 32)
    # Of crops of which nothing more is known, bodies stand in the middle.
    points = answer.bodies.keypoints_by(free_body, "spin49")[:, 25:]
    seen = answer.bodies.camera.project(points)
    assert_close((seen.amin(1) + seen.amax(1)) / 2, torch.full((3, 2), 112.0), atol=3.0, rtol=0)
    with pytest.raises(ValueError, match="sees parts12, but the stage before it found no parts"):
        build(free_body).go_on(torch.zeros(1, 3, CROP, CROP), Estimate())
    other = Chain([SMALL_PARTS.build(free_body), build(free_body, replace(SMALL, shown="parts24"))])
    with pytest.raises(ValueError, match="sees parts24, but the stage before it found parts12; take two"):
        other.predict(people(free_body).image)


def standing_in_a_photo(free_body) -> PersonInPhoto:
    """100 pixels are a metre where the person stands."""
    points = free_body.keypoint_positions(
        "coco17", betas=torch.zeros(1, 10), global_orient=torch.tensor([[torch.pi, 0.0, 0.0]])
    )
    camera = PerspectiveCamera(torch.tensor([500.0]), torch.tensor([[200.0, 150.0]]))
    pixels = camera.project(points + torch.tensor([0.3, 0.1, 5.0]))[0].numpy()
    box = np.concatenate([pixels.min(0), pixels.max(0)]).astype(np.float64)
    keypoints = np.concatenate([pixels, np.ones((17, 1))], axis=1)
    detected = DetectedPerson(box=box, keypoints_2d=keypoints, keypoint_set="coco17", score=1.0)
    image = np.random.default_rng(0).integers(0, 255, (300, 400, 3), dtype=np.uint8)
    return PersonInPhoto.found(detected, image, (400, 300))


def test_a_person_in_a_photo_is_squared_by_the_limbs_and_stands_on_the_keypoints(free_body):
    torch.manual_seed(0)
    estimator = Chain([SMALL_PARTS.build(free_body), build(free_body)]).estimator(free_body, "nbf")
    assert isinstance(estimator, NbfEstimator) and isinstance(estimator, Estimator)
    person = standing_in_a_photo(free_body)
    box, pixels = person.box, person.detected.keypoints_2d[:, :2]
    squared = estimator.squared(person)
    # 100 pixels are a metre there; the mean body's height is STANDING of the square.
    height = float(free_body.v_template[:, 1].max() - free_body.v_template[:, 1].min())
    assert squared.crop_side == pytest.approx(100 * height / STANDING, rel=0.03)
    assert squared.crop_center == pytest.approx((box[:2] + box[2:]) / 2, abs=1e-3)
    (answer,) = estimator.estimate([person])
    found = answer.bodies.map(lambda t: t[None]).keypoints_by(free_body, "coco17")
    seen = answer.bodies.camera.project(found[0]).numpy()
    assert seen.mean(0) == pytest.approx(pixels.mean(0), abs=1.5)
    assert estimator.squared(replace(person, detected=None)).crop_side == person.crop_side


def test_somebody_elses_part_map_takes_the_place_of_the_first_stage(free_body, tmp_path):
    torch.manual_seed(0)
    second = build(free_body)
    estimator = Chain([SMALL_PARTS.build(free_body), second]).estimator(free_body, "nbf")
    person = standing_in_a_photo(free_body)
    labels = np.zeros((300, 400), dtype=np.uint8)
    labels[60:240, 200:260] = np.arange(180)[:, None] // 15 + 1
    Image.fromarray(labels).save(tmp_path / "map.png")
    on_parts = estimator.on_parts(tmp_path / "map.png", "parts12", (400, 300))
    assert isinstance(on_parts, Estimator)
    (answer,) = on_parts.estimate([person])
    # It sees the map as it lies in the person's square.
    square = estimator.squared(person)
    seen = CropTransform(square.crop_center, square.crop_side, CROP).labels(labels)
    assert np.array_equal(answer.dense.labels["parts12"].numpy(), seen)
    assert len(answer.dense.labels["parts12"].unique()) > 10
    told = second.body_of_parts(torch.from_numpy(seen).long()[None])
    assert_close(answer.bodies.pose, told.bodies.pose[0])
    elsewhere = replace(person, detected=None, crop_center=np.array([-500.0, 0.0]))
    assert on_parts.estimate([elsewhere]) == [None]
    with pytest.raises(PartsError, match="400x300 pixels, but the photo 40x30"):
        estimator.on_parts(tmp_path / "map.png", "parts12", (40, 30))
    with pytest.raises(PartsError, match="can be brought to parts"):
        estimator.on_parts(tmp_path / "map.png", "lip", (400, 300))
    rgb = build(free_body, replace(SMALL, shown="rgb")).estimator(free_body, "of colours")
    with pytest.raises(ValueError, match="of colours does not look at parts"):
        rgb.on_parts(tmp_path / "map.png", "parts12", (400, 300))


def test_the_packaged_one_has_head_above_trunk_in_a_portrait(free_body):
    chain = load_run(SYSTEMS["nbf"].packaged, free_body)
    assert isinstance(chain, Chain) and chain.crop_size == 256
    noise = chain.predict(torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(0)))
    assert noise.bodies.pose.shape == (1, 72) and bool(noise.bodies.pose.isfinite().all())
    photo = read_image(Path(kouros.__file__).parent / "data" / "demo" / "astronaut.jpg").pixels
    crop = cv2.resize(photo, (256, 256), interpolation=cv2.INTER_AREA)
    labels = chain.predict(torch.from_numpy(crop).permute(2, 0, 1)[None] / 255).dense.labels["parts12"][0]
    head, trunk = (1 + PARTS12.names.index(name) for name in ("head", "upper_torso"))
    middle = [float((labels == part).nonzero()[:, 0].float().mean()) for part in (head, trunk)]
    assert middle[0] + 10 < middle[1]
