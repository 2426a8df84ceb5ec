"""HoloPose: what losses and agreement do to bodies whose answer is known, that it learns, and what bad input is."""

import json
import warnings
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import kouros
from kouros.body.keypoints import SPIN49
from kouros.body.surface.charts import chart_points
from kouros.data.batch import Batch
from kouros.data.dense import DensePoints
from kouros.data.images import read_image
from kouros.detection.people import DetectedPerson
from kouros.fitting.schedules.fits_store import Augmentation
from kouros.geometry.cameras import SPIN_CROP_SIZE
from kouros.geometry.rotations import rotvec_to_rotmat
from kouros.networks.estimates import Regressed
from kouros.networks.part_pictures import heatmaps
from kouros.notes import InputWarning
from kouros.priors.gmm import load_gmm
from kouros.priors.rotation_experts import load_experts
from kouros.render.maps import DenseMaps
from kouros.systems.estimator import Estimator, PersonInPhoto
from kouros.systems.holopose import (
    POINTS,
    Agreement,
    HoloPose,
    HoloPoseConfig,
    HoloPoseEstimator,
    HoloPoseLosses,
    Seen,
    crop_scale,
    dense_loss,
    excess_betas,
    heatmap_loss,
)
from kouros.systems.losses import regressed_keypoints
from kouros.systems.table import SYSTEMS
from kouros.training.runs import RunFolder, load_run, write_config
from kouros.training.weights import Weights, learned_state, load_learned, save_weights

CROP = 64
SMALL = HoloPoseConfig(
    backbone=18,
    width=16,
    heads="light",
    head_width=32,
    crop_size=CROP,
    coarse_stride=8,
    depth=8,
    features=16,
    dense_points=20,
    pooled_at="annotated",
    losses=HoloPoseLosses(rotations=20.0, betas=0.1),
    learning_rate=3e-3,
)


@pytest.fixture(scope="module")
def charts(free_body):
    return SMALL.build(free_body).charts


def bodies(free_body, count: int = 3, seed: int = 0) -> Regressed:
    """Plausible ones that face the crop's camera and fill most of it."""
    generator = torch.Generator().manual_seed(seed)
    orient = torch.tensor([torch.pi, 0.0, 0.0]) + 0.2 * torch.randn(count, 3, generator=generator)
    pose = torch.cat([orient, load_gmm().sample(count, generator)], 1)
    betas = 0.5 * torch.randn(count, 10, generator=generator)
    camera = torch.tensor([0.8, 0.0, 0.2]).repeat(count, 1)
    return Regressed(rotvec_to_rotmat(pose.unflatten(1, (24, 3))), betas, camera)


def skin(charts, count: int, points: int = 20) -> tuple[Tensor, Tensor]:
    """Parts and places on their charts."""
    generator = torch.Generator().manual_seed(1)
    part = torch.randint(1, 25, (count, points), generator=generator)
    for _ in range(50):
        uv = torch.rand(count, points, 2, generator=generator)
        on = charts.covers(part, uv)
        part, kept = torch.where(on, part, torch.randint(1, 25, part.shape, generator=generator)), uv
    return torch.where(charts.covers(part, kept), part, 0), kept


def people(free_body, charts, count: int = 3, seed: int = 0) -> Batch:
    """The bodies as a batch brings them: crops and IUV maps are noise, which losses do not mind."""
    generator = torch.Generator().manual_seed(seed)
    true = bodies(free_body, count, seed)
    keypoints = regressed_keypoints(free_body, true)
    ones = torch.ones(count, 49, 1)
    part, uv = skin(charts, count)
    at = true.bodies
    space = chart_points(free_body, charts, part.clamp(min=1), uv, at.betas, at.body_pose, at.global_orient, at.transl)
    pixels = at.camera.project(space) * (CROP / SPIN_CROP_SIZE)
    labels = torch.randint(25, (count, 4, 4), generator=generator).repeat_interleave(4, 1).repeat_interleave(4, 2)
    iuv = torch.cat([labels[..., None].float(), torch.rand(count, 16, 16, 2, generator=generator)], dim=-1)
    return Batch(
        image=torch.rand(count, 3, CROP, CROP, generator=generator),
        index=torch.arange(count),
        source=torch.zeros(count, dtype=torch.long),
        keypoints_2d=torch.cat([(keypoints.picture + 1) * CROP / 2, ones], -1),
        keypoints_3d=torch.cat([keypoints.space - keypoints.space[:, 39:40], ones], -1),
        pose=at.pose,
        has_pose=torch.ones(count, dtype=torch.bool),
        betas=at.betas,
        has_betas=torch.ones(count, dtype=torch.bool),
        augmentation=Augmentation(torch.zeros(count), torch.zeros(count, dtype=torch.bool)),
        crop_center=torch.zeros(count, 2),
        crop_side=torch.ones(count),
        dense=DenseMaps(iuv=iuv),
        dense_known={"iuv": torch.ones(count, dtype=torch.bool)},
        dense_points=DensePoints(pixels, part, uv, part > 0),
    )


def build(free_body, config: HoloPoseConfig = SMALL, seed: int = 0) -> HoloPose:
    torch.manual_seed(seed)
    return config.build(free_body)


def seen_truth(system: HoloPose, batch: Batch, true: Regressed) -> Seen:
    """What heads say that know everything."""
    flat, space = system._true_points(batch)
    scale, _ = crop_scale(flat, space)
    parts = torch.full((len(batch), 25, 16, 16), -20.0)
    parts[:, 0] = 20.0
    uv = torch.zeros(len(batch), 24, 2, 16, 16)
    for person, (pixels, part, where) in enumerate(
        zip(batch.dense_points.pixels, batch.dense_points.part, batch.dense_points.uv, strict=True)
    ):
        for (x, y), label, place in zip(pixels.tolist(), part.tolist(), where, strict=True):
            row, column = int(y // 4), int(x // 4)
            if label and 0 <= row < 16 and 0 <= column < 16:
                parts[person, :, row, column] = -20.0
                parts[person, label, row, column] = 20.0
                uv[person, label - 1, :, row, column] = place
    return Seen(
        heatmaps=heatmaps(flat, 16, 1 / 16),
        joints=flat,
        points=torch.cat([flat[..., :2], scale[:, None, None] * space[..., 2:3]], dim=-1),
        parts=parts,
        uv=uv,
        features=torch.zeros(len(batch), 16, 8, 8),
        whole=torch.zeros(len(batch), system.regressor.norm.normalized_shape[0]),
    )


# ---- losses


def test_the_true_body_costs_nothing_and_another_one_what_it_is_off(free_body, charts):
    batch, true = people(free_body, charts), bodies(free_body)
    system = build(free_body)
    terms = system._body_losses(batch, true)
    for name in ("keypoints_2d", "keypoints_3d", "beta_bound", "rotations", "betas"):
        assert float(terms[name]) < 1e-4, name
    assert float(terms["dense"]) == pytest.approx(1e-3, abs=1e-3)  # the root's slope at zero
    moved = replace(true, camera=true.camera + torch.tensor([0.0, 0.1, 0.0]))
    terms = system._body_losses(batch, moved)
    assert float(terms["keypoints_2d"]) == pytest.approx(0.08, rel=0.01)  # 0.8 crop coordinates a metre, in x alone
    assert float(terms["dense"]) == pytest.approx(0.08, rel=0.02)
    assert float(terms["keypoints_3d"]) < 1e-4


def test_points_of_the_skin_that_are_on_no_chart_are_ignored(free_body, charts):
    """Points of the background, off the charts, or no numbers: with them the loss is what it is without them."""
    batch, moved = people(free_body, charts), replace(bodies(free_body), camera=torch.tensor([[0.7, 0.1, 0.2]] * 3))
    points = batch.dense_points
    at = 2 * points.pixels / CROP - 1
    part, uv = points.part.clone(), points.uv.clone()
    expected = dense_loss(free_body, charts, moved, at[:, 3:], part[:, 3:], uv[:, 3:])
    assert float(expected.detach()) > 0.01
    invalid = torch.nonzero(~charts.valid[0])[0]
    uv[:, 0], part[:, 0] = torch.tensor([invalid[1], invalid[0]]) / 31, 1
    assert not bool(charts.covers(part[:, :1], uv[:, :1]).any())
    part[:, 1], uv[:, 2] = 0, torch.nan
    assert_close(dense_loss(free_body, charts, moved, at, part, uv), expected)


def test_betas_are_free_up_to_two_and_pay_beyond():
    betas = torch.tensor([[0.0, 1.9, -2.0, 2.5, -4.0]])
    assert_close(excess_betas(betas), torch.tensor(2.5))


def test_an_empty_heatmap_costs_one_and_unknown_joints_nothing():
    true = torch.tensor([[[0.1, -0.2, 1.0], [0.5, 0.5, 0.0]]])
    found = torch.zeros(1, 2, 64, 64)
    found[0, 1] = 7.0
    assert_close(heatmap_loss(found, true, 2.0), torch.tensor(1.0), atol=1e-3, rtol=0)
    assert_close(heatmap_loss(heatmaps(true, 64, 2 / 64), true, 2.0), torch.tensor(0.0))


def test_a_metre_is_as_large_in_the_crop_as_its_points_say(free_body, charts):
    batch = people(free_body, charts)
    flat, space = build(free_body)._true_points(batch)
    scale, known = crop_scale(flat, space)
    assert_close(scale, torch.full((3,), 0.8), atol=2e-3, rtol=0)
    assert bool(known.all())
    flat[0, :, 2], flat[1, 1:, 2] = 0, 0
    assert crop_scale(flat, space)[1].tolist() == [False, False, True]


def test_each_sample_teaches_what_it_has(free_body, charts):
    """Without 3D, pose, betas and maps a sample still teaches heatmaps, 2D and what points of the skin say."""
    whole = people(free_body, charts)
    nothing = torch.zeros(3, dtype=torch.bool)
    flat = replace(
        whole,
        keypoints_3d=torch.full((3, 49, 4), torch.nan),
        pose=torch.full((3, 72), torch.nan),
        betas=torch.full((3, 10), torch.nan),
        has_pose=nothing,
        has_betas=nothing,
        dense_known={"iuv": nothing},
    )
    system = build(free_body)
    step = system.training_step(flat)
    step.losses[0].backward()
    assert all(bool(p.grad.isfinite().all()) for p in system.parameters() if p.grad is not None)
    for name in ("keypoints_3d", "rotations", "betas"):
        assert float(step.terms[name]) == 0.0
    for name in ("heatmaps", "keypoints_2d", "dense", "parts", "uv"):
        assert float(step.terms[name]) > 0.0


# ---- agreement


@pytest.mark.parametrize("solver", ["conjugate_gradients", "levenberg_marquardt"])
def test_a_body_that_is_off_comes_to_agree_with_the_heads(free_body, charts, solver: str):
    batch, true = people(free_body, charts), bodies(free_body)
    system = build(free_body, replace(SMALL, agreement=Agreement(solver=solver)))
    seen = seen_truth(system, batch, true)
    generator = torch.Generator().manual_seed(5)
    off = rotvec_to_rotmat(0.25 * torch.randn(3, 24, 3, generator=generator))
    start = replace(true, rotations=true.rotations @ off)
    refined = system.agreed(seen, start)

    def apart(of) -> Tensor:
        points = of.keypoints_by(free_body, SPIN49.name)[:, 25:]
        truth = true.bodies.keypoints_by(free_body, SPIN49.name)[:, 25:]
        return (points - points.mean(1, keepdim=True) - truth + truth.mean(1, keepdim=True)).norm(dim=-1).mean(1)

    assert bool((apart(refined) < 0.6 * apart(start.bodies)).all())
    still = replace(system.config, agreement=replace(system.config.agreement, iterations=0))
    assert_close(build(free_body, still).agreed(seen, start).pose, start.bodies.pose)


@pytest.mark.slow
def test_each_cue_can_be_left_out(free_body, charts):
    batch, true = people(free_body, charts, 2), bodies(free_body, 2)
    for cues in (("2d",), ("3d",), ("dense",), ("2d", "dense"), ("3d", "dense")):
        system = build(free_body, replace(SMALL, agreement=Agreement(iterations=3, cues=cues)))
        said = system.cues(seen_truth(system, batch, true), true.camera)
        assert (said.dense is not None) == ("dense" in cues)
        assert (said.evidence.landmarks_3d is not None) == ("3d" in cues)
        assert system.synergy.config.reprojection == ("2d" in cues)
        refined = system.agreed(seen_truth(system, batch, true), true)
        assert bool(refined.vector.isfinite().all())
        if cues == ("3d",):  # which tells no place
            assert_close(refined.transl, true.transl)
    with pytest.raises(ValueError, match="no cues to agree with"):
        Agreement(cues=())


def test_gradients_through_the_agreement_are_finite_and_reach_all_heads(free_body, charts):
    batch = people(free_body, charts, 2)
    system = build(free_body, replace(SMALL, threshold=0.001, agreement=Agreement(training=3)))
    system.heads.fine.answer.bias.data[24 + 2] = 5.0  # the trunk's patch all over the crop
    system.heads.fine.answer.bias.data[-48:] = 0.5
    step = system.training_step(batch)
    assert {"refined_keypoints_2d", "refined_keypoints_3d", "refined_dense"} <= set(step.terms)
    seen = system.look(system.layer_maps(batch.image))
    refined = system.learned_through(seen, system.regress(seen))
    terms = system._body_losses(batch, refined)
    torch.stack([terms[name] for name in ("keypoints_2d", "keypoints_3d", "dense")]).sum().backward()
    for name in ("heads.fine.answer.weight", "heads.coarse.answer.weight", "regressor.votes.others.weight"):
        gradient = system.get_parameter(name).grad
        assert bool(gradient.isfinite().all()) and bool(gradient.any()), name


# ---- training


def overfit(system: HoloPose, batch: Batch, steps: int) -> list[float]:
    (optimizer,) = system.optimizers()
    losses = []
    for _ in range(steps):
        step = system.training_step(batch)
        optimizer.zero_grad()
        step.losses[0].backward()
        optimizer.step()
        losses.append(float(step.losses[0].detach()))
    return losses


@pytest.mark.parametrize(
    "regressor", ["parts", *(pytest.param(name, marks=pytest.mark.slow) for name in ("whole", "hmr"))]
)
def test_every_regressor_overfits_two_people(free_body, charts, regressor: str):
    batch = people(free_body, charts, 2)
    rate = 5e-4 if regressor == "hmr" else 3e-3
    losses = overfit(build(free_body, replace(SMALL, regressor=regressor, learning_rate=rate)), batch, 40)
    assert losses[-1] < 0.6 * losses[0]


def test_the_first_stage_learns_keypoints_alone_and_the_second_begins_with_it(free_body, charts, tmp_path):
    batch = people(free_body, charts, 2)
    first = replace(SMALL, heads="deconvolution", head_width=16, coarse_stride=4, stage="keypoints")
    system = build(free_body, first)
    before = {name: p.detach().clone() for name, p in system.named_parameters()}
    step = system.training_step(batch)
    assert set(step.terms) == {"heatmaps", "volumes"} and not first.wants.maps
    overfit(system, batch, 1)
    changed = {name for name, p in system.named_parameters() if not torch.equal(p, before[name])}
    assert {name.split(".")[1] for name in changed if name.startswith("heads.")} == {"heatmaps", "volumes"}
    assert not any(name.startswith("regressor") for name in changed)
    save_weights(tmp_path / "weights.pt", Weights("holopose", 1, learned_state(system)))
    second = replace(first, stage="whole", first_stage=tmp_path / "weights.pt")
    (start,) = build(free_body, second).starts()
    assert start.weights == tmp_path / "weights.pt" and dict(start.take) == {"": ""}
    with pytest.raises(ValueError, match="leave it out of the first"):
        replace(first, first_stage=tmp_path / "weights.pt")


@pytest.mark.parametrize("heads", ["light", "deconvolution"])
def test_volumes_may_have_wider_heads_than_heatmaps(free_body, charts, heads: str):
    even = replace(SMALL, heads=heads, coarse_stride=8 if heads == "light" else 4)
    narrow, wide = (build(free_body, replace(even, coarse_width=width)) for width in (None, 48))

    def numbers(system: HoloPose, part: str) -> int:
        return sum(p.numel() for name, p in system.named_parameters() if name.startswith(f"heads.{part}"))

    fine, coarse = ("fine", "coarse") if heads == "light" else ("dense", "volumes")
    assert numbers(wide, fine) == numbers(narrow, fine)
    assert numbers(wide, coarse) > 1.3 * numbers(narrow, coarse)
    overfit(wide, people(free_body, charts, 2), 1)


def test_measures_of_the_first_stage_are_those_of_the_heads(free_body, charts):
    batch = people(free_body, charts, 2)
    whole, first = build(free_body), build(free_body, replace(SMALL, stage="keypoints"))
    assert set(first.measures(batch)) == {"head_pa_mpjpe", "head_2d"}
    found = whole.measures(batch)
    assert {"mpjpe", "pa_mpjpe", "head_pa_mpjpe", "parts"} <= set(found)
    assert all(best.name in found for best in whole.best_by)
    assert all(best.name in first.measures(batch) for best in first.best_by[:1])


def test_it_learns_from_features_what_it_learns_from_pictures(free_body, charts):
    config = replace(SMALL, backbone="movenet")
    system = build(free_body, config)
    system.begin()
    system.hold_backbone()
    batch = people(free_body, charts, 2)
    loss = system.training_step(batch).losses[0]
    seen = replace(batch, image=torch.zeros_like(batch.image), features=system.features(batch.image))
    assert_close(system.training_step(seen).losses[0], loss)
    with pytest.raises(ValueError, match="choose --heads light"):
        replace(config, heads="deconvolution")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_published_size_is_built_and_steps_once(free_body, charts):
    config = HoloPoseConfig()
    batch = people(free_body, charts, 2)
    larger = 256 / CROP
    iuv = batch.dense.iuv.repeat_interleave(4, 1).repeat_interleave(4, 2)
    batch = replace(
        batch,
        image=torch.rand(2, 3, 256, 256),
        keypoints_2d=batch.keypoints_2d * torch.tensor([larger, larger, 1.0]),
        dense=DenseMaps(iuv=iuv),
        dense_points=replace(batch.dense_points, pixels=batch.dense_points.pixels * larger),
    )
    system = build(free_body, config)
    seen = system.look(system.layer_maps(batch.image))
    assert seen.heatmaps.shape == (2, 24, 64, 64) and seen.uv.shape == (2, 24, 2, 64, 64)
    before = [p.detach().clone() for p in system.parameters()]
    losses = overfit(system, batch, 1)
    assert np.isfinite(losses[0])
    changed = [not torch.equal(b, p) for b, p in zip(before, system.parameters(), strict=True)]
    assert sum(changed) > 0.9 * len(changed)


# ---- prediction, and bad input


def in_a_photo(pixels: np.ndarray) -> PersonInPhoto:
    height, width = pixels.shape[:2]
    keypoints = np.concatenate([np.random.default_rng(0).uniform(20, 80, (17, 2)), np.ones((17, 1))], axis=1)
    detected = DetectedPerson(np.array([10.0, 10.0, 90.0, 90.0]), keypoints, "coco17", 1.0)
    return PersonInPhoto.found(detected, pixels, (width, height))


def test_an_estimate_has_a_body_points_heatmaps_and_the_skin(free_body):
    system = build(free_body, replace(SMALL, threshold=0.001)).eval()
    answer = system.predict(torch.rand(2, 3, CROP, CROP))
    assert answer.bodies.pose.shape == (2, 72) and bool(answer.bodies.vector.isfinite().all())
    assert answer.points_2d.shape == (2, len(POINTS), 2) and answer.points_3d.shape == (2, len(POINTS), 3)
    assert answer.dense.iuv.shape == (2, 16, 16, 3) and answer.heatmaps.shape == (2, 24, 16, 16)
    part = answer.dense.iuv[..., 0]
    assert bool(((part >= 0) & (part <= 24) & (part == part.round())).all())
    estimator = system.estimator(free_body, "holopose")
    assert isinstance(estimator, HoloPoseEstimator) and isinstance(estimator, Estimator)


def test_of_whom_no_joint_is_seen_the_body_rests_and_it_says_so(free_body):
    system = build(free_body, replace(SMALL, threshold=0.999)).eval()
    person = in_a_photo(np.zeros((100, 100, 3), dtype=np.uint8))
    with pytest.warns(InputWarning, match="person 0: no joint was seen in the crop; the body is in the resting pose"):
        (answer,) = system.estimator(free_body, "holopose").estimate([person])
    assert_close(answer.bodies.body_pose, torch.zeros(69))
    seen = build(free_body, replace(SMALL, threshold=0.001)).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        seen.estimator(free_body, "holopose").estimate([person])


def test_one_joint_moves_its_neighbourhood_and_nothing_else(free_body):
    system = build(free_body).eval()
    system.regressor.votes.others.weight.data.normal_()
    seen = system.seen_of(torch.rand(1, 3, CROP, CROP))
    there = torch.zeros(1, 24, dtype=torch.bool)
    there[0, POINTS.index("left_wrist")] = True
    with torch.no_grad():
        rotations = system.regress(seen, there=there).rotations[0]
    moved = (rotations[1:] - torch.eye(3)).abs().amax((1, 2)) > 1e-4
    turns = system.regressor.votes.experts.centres.abs().amax((1, 2)) > 0  # nobody recorded the hands
    assert torch.equal(moved, system.regressor.votes.near[1:, POINTS.index("left_wrist")] & turns)


def test_pictures_that_are_no_numbers_give_a_resting_body(free_body):
    system = build(free_body).eval()
    answer = system.predict(torch.full((1, 3, CROP, CROP), torch.nan))
    assert bool(answer.bodies.vector.isfinite().all())
    assert_close(answer.bodies.body_pose, torch.zeros(1, 69))
    assert_close(answer.bodies.betas, torch.zeros(1, 10))


def test_weights_with_another_number_of_experts_are_refused(free_body, tmp_path):
    system, experts = build(free_body), load_experts()
    np.savez(tmp_path / "few.npz", centres=experts.centres[:, :12].numpy(), middles=experts.middles.numpy())
    few = build(free_body, replace(SMALL, experts=tmp_path / "few.npz"))
    with pytest.raises(ValueError, match=r"regressor.votes.others.weight is \(\d+, 16, 12\), expected \(\d+, 16, 64\)"):
        load_learned(system, learned_state(few), "few.pt")


def test_a_run_comes_back_as_it_was(free_body, tmp_path):
    system = build(free_body)
    run = RunFolder(tmp_path)
    write_config(run, SMALL, {})
    assert json.loads(run.config.read_text())["system"] == "holopose"
    save_weights(run.weights, Weights("holopose", 1, learned_state(system)))
    image = torch.rand(1, 3, CROP, CROP)
    assert_close(load_run(tmp_path, free_body).predict(image).bodies.vector, system.predict(image).bodies.vector)


@pytest.mark.parametrize("changes", [{"hidden": 1.0}, {"threshold": 0.0}, {"crop_size": 66}, {"coarse_stride": 7}])
def test_configurations_that_make_no_sense_are_refused(changes: dict):
    with pytest.raises(ValueError, match="expected"):
        replace(SMALL, **changes)


def test_the_packaged_one_sees_a_head_above_a_trunk_in_a_portrait(free_body):
    system = load_run(SYSTEMS["holopose"].packaged, free_body)
    photo = read_image(Path(kouros.__file__).parent / "data" / "demo" / "astronaut.jpg").pixels
    crop = cv2.resize(photo, (system.crop_size, system.crop_size), interpolation=cv2.INTER_AREA)
    answer = system.predict(torch.from_numpy(crop).permute(2, 0, 1)[None] / 255)
    part = answer.dense.iuv[0, ..., 0]
    head, trunk = (
        torch.isin(part, torch.tensor(labels)).nonzero()[:, 0].float().mean() for labels in ([23.0, 24.0], [1.0, 2.0])
    )
    assert float(head) + 8 < float(trunk)
    nose, shoulder = (answer.points_2d[0, POINTS.index(name)] for name in ("nose", "left_shoulder"))
    assert float(nose[1]) + 20 < float(shoulder[1]) and float(nose[0]) < float(shoulder[0])
    assert bool(answer.bodies.vector.isfinite().all())
