"""Dense targets that are drawn: those of the changed crop are the changed maps, and all kinds tell of one body."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from kouros.body.keypoints import COCO17, SMPL24, SPIN49
from kouros.body.surface.charts import chart_points
from kouros.body.surface.parts import PART_SETS
from kouros.data.augment import AugmentConfig, Spread, mirror_iuv, mirror_labels
from kouros.data.crops import CropTransform
from kouros.data.dense import HeatmapWants, Look, Wants
from kouros.data.occlusion import Occluder
from kouros.data.stream import StreamConfig, TrainingStream, plain_batch
from kouros.data.synthetic import SyntheticSource
from kouros.data.synthetic.draw import Stage
from kouros.data.synthetic.generate import Order, synthesize
from kouros.data.synthetic.scenes import SceneConfig, draw_scene
from kouros.render.maps import IMAGE_MAPS, UV_MAPS, uv_to_image

SIZE, FINE = 96, 5
"""Pixels of a picture's side, and samples along each of them in the reference."""
EVERYTHING = Wants(maps=(*IMAGE_MAPS, *UV_MAPS), parts=tuple(PART_SETS), uv_size=64)
CENTER = np.array([50.0, 47.0])
CHANGES = {
    "plain": CropTransform(CENTER, 64.0, 64),
    "quarter turn": CropTransform(CENTER, 64.0, 64, np.pi / 2),
    "mirror": CropTransform(CENTER, 64.0, 64, 0.0, True),
    "turned": CropTransform(CENTER, 64.0, 64, 0.6),
    "smaller": CropTransform(CENTER, 90.0, 64),
    "larger": CropTransform(CENTER, 41.0, 64),
    "shifted": CropTransform(np.add(CENTER, (7.3, -11.9)), 64.0, 64),
    "all": CropTransform(np.add(CENTER, (7.3, -5.9)), 52.0, 64, -0.4, True),
}


@pytest.fixture(scope="module")
def stage() -> Stage:
    return Stage()


@pytest.fixture(scope="module")
def people(stage):
    """Three people in the middle of pictures, some behind others and things."""
    found = []
    for index in range(20):
        scene = draw_scene(11, index, stage.body, None, SceneConfig(size=SIZE))
        maps = stage.maps([(scene, k) for k in range(len(scene))], [whole()] * len(scene), Wants(maps=("mask",)))
        seen = maps.mask[:, 20:76, 20:76].sum((1, 2))
        best = int(seen.argmax())
        if seen[best] > 250 and (len(scene) > 1 or scene.props):
            found.append((scene, best))
    assert len(found) >= 3
    return found[:3]


@pytest.fixture(scope="module")
def reference(stage, people):
    """The whole pictures' maps, five samples for a pixel along each side."""
    return stage.maps(people, [whole(FINE * SIZE)] * len(people), EVERYTHING)


@pytest.fixture(scope="module")
def sampler(stage):
    return stage.drawer.surface.sampler(EVERYTHING.uv_size)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> SyntheticSource:
    folder = tmp_path_factory.mktemp("people")
    synthesize(Order(people=30, seed=3, scene=SceneConfig(size=SIZE)), folder)
    return SyntheticSource(folder)


def whole(size: int = SIZE) -> Look:
    return Look(CropTransform(np.full(2, SIZE / 2), float(SIZE), size), (SIZE, SIZE))


def augmented(reference, person: int, crop: CropTransform) -> dict[str, np.ndarray]:
    """The reference's image maps of a person as the crop shows them: looked up, turned, mirrored."""
    x, y = np.meshgrid(np.arange(crop.size) + 0.5, np.arange(crop.size) + 0.5)
    column, row = np.floor(FINE * crop.points_back(np.stack([x, y], axis=-1))).astype(int).transpose(2, 0, 1)
    inside = (column >= 0) & (column < FINE * SIZE) & (row >= 0) & (row < FINE * SIZE)

    def looked_up(values: torch.Tensor, beyond: float = 0.0) -> np.ndarray:
        found = values[person].numpy()[row.clip(0, FINE * SIZE - 1), column.clip(0, FINE * SIZE - 1)]
        return np.where(inside[(...,) + (None,) * (found.ndim - 2)], found, np.array(beyond, found.dtype))

    maps = {name: looked_up(getattr(reference, name), np.inf if name == "depth" else 0) for name in IMAGE_MAPS}
    for name in ("location", "joint", "displacement", "normals"):
        maps[name] = crop.directions(maps[name])
    labels = {name: looked_up(values) for name, values in reference.labels.items()}
    if crop.flipped:
        maps["iuv"] = mirror_iuv(maps["iuv"])
        maps["uv"][..., 0] = np.where(maps["mask"], 1 - maps["uv"][..., 0], 0)
        labels = {name: mirror_labels(values, PART_SETS[name].mirror) for name, values in labels.items()}
    return maps | labels


@pytest.mark.parametrize("change", CHANGES)
def test_maps_of_the_changed_crop_are_the_changed_maps(stage, people, reference, change):
    """At each pixel, the drawn value lies among those that the changed reference has within one pixel of it."""
    crop = CHANGES[change]
    drawn = stage.maps(people, [Look(crop, (SIZE, SIZE))] * len(people), EVERYTHING)
    finer, around = 5, np.ones((11, 11), np.uint8)
    for person in range(len(people)):
        expected = augmented(reference, person, replace(crop, size=finer * crop.size))
        assert expected["mask"].mean() > 0.03
        for name, values in expected.items():
            ours = drawn.labels[name] if name in PART_SETS else getattr(drawn, name)
            ours = ours[person].numpy().astype(np.float32).reshape(64, 64, -1)
            values = values.astype(np.float32).reshape(*values.shape[:2], -1)
            if name == "depth":
                ours, values = (np.where(np.isinf(v), 0, v) for v in (ours, values))
            centers = np.s_[finer // 2 :: finer, finer // 2 :: finer]
            low, high = (f(values, around).reshape(values.shape)[centers] for f in (cv2.erode, cv2.dilate))
            outside = np.maximum(low - ours, ours - high)
            # The samples are 0.2 pixels apart, and miss some of what curves between them.
            assert (outside > 2e-3).mean() < 2e-3, name
            assert name in ("normals", "iuv", "uv") or outside.max() < 0.02, name
            if name in PART_SETS:  # where only one label is near, all that may differ is nothing
                alone = low == high
                assert alone.mean() > 0.5 and np.array_equal(ours[alone], low[alone]), name


@pytest.mark.parametrize("change", ["plain", "quarter turn", "mirror"])
def test_where_pixels_fall_on_samples_the_maps_are_equal(stage, people, reference, change):
    crop = CHANGES[change]
    drawn = stage.maps(people, [Look(crop, (SIZE, SIZE))] * len(people), EVERYTHING)
    for person in range(len(people)):
        for name, values in augmented(reference, person, crop).items():
            ours = (drawn.labels[name] if name in PART_SETS else getattr(drawn, name))[person].numpy()
            differs = ~np.isclose(ours, values, atol=1e-4)  # rounding at an edge
            assert differs.reshape(64, 64, -1).any(-1).sum() <= 3, name


@pytest.mark.parametrize("change", CHANGES)
def test_uv_space_holds_all_of_the_body_in_the_crops_axes(stage, people, reference, sampler, change):
    crop = CHANGES[change]
    drawn = stage.maps(people, [Look(crop, (SIZE, SIZE))] * len(people), EVERYTHING)
    valid, image = sampler.valid.numpy(), sampler.mirror.flatten().numpy()
    for name in ("uv_location", "uv_joint", "uv_displacement"):
        expected = crop.directions(getattr(reference, name).numpy())
        if crop.flipped:
            there = image >= 0
            expected = expected.reshape(len(people), -1, 3)[:, image] * there[:, None]
            expected, checked = expected.reshape(len(people), 64, 64, 3), there.reshape(64, 64)
        else:
            checked = valid
        assert checked.sum() > 0.9 * valid.sum() > 500
        ours = getattr(drawn, name).numpy()
        assert np.abs(ours - expected)[:, checked].max() < 1e-5 and not ours[:, ~valid].any()
    whole_body = np.ptp(drawn.uv_location.numpy()[:, valid], axis=1)
    assert (np.linalg.norm(whole_body, axis=-1) > 0.9).all()  # whatever is hidden
    assert 0.02 < drawn.uv_visible.float().mean() < 0.5 * valid.mean()


def test_what_covers_the_crop_hides_the_body_in_every_map(stage, people):
    for crop in (CHANGES["plain"], CHANGES["all"]):
        occluder = Occluder("circle", 5, (24.0, 30.0))
        plain, covered = (
            stage.maps(people, [Look(crop, (SIZE, SIZE), o)] * len(people), EVERYTHING) for o in (None, occluder)
        )
        mask = torch.from_numpy(occluder.mask(64))
        assert (plain.mask & mask).any()
        for name in (*IMAGE_MAPS, *PART_SETS):
            ours, bare = (m.labels[name] if name in PART_SETS else getattr(m, name) for m in (covered, plain))
            assert torch.equal(ours[:, ~mask], bare[:, ~mask])
            assert (ours[:, mask].isinf() if name == "depth" else ours[:, mask] == 0).all()
        assert torch.equal(covered.uv_location, plain.uv_location)
        assert (covered.uv_visible <= plain.uv_visible).all()
        # A texel that is still seen lies within a pixel of one that the cover leaves.
        left = torch.from_numpy(cv2.dilate((~mask).numpy().astype(np.uint8), np.ones((3, 3), np.uint8)) > 0)
        seen = covered.mask[:, left].any(dim=1)
        assert torch.equal(seen, covered.uv_visible.flatten(1).any(dim=1))
        assert covered.uv_visible.sum() < plain.uv_visible.sum()


def test_nothing_is_seen_beyond_the_photo(stage, people):
    crop = CropTransform(np.array([90.0, 48.0]), 96.0, 96, 0.3, True)
    within, anywhere = (
        stage.maps(people, [Look(crop, photo)] * len(people), Wants(maps=("mask",))).mask
        for photo in ((SIZE, SIZE), None)
    )
    x, y = np.meshgrid(np.arange(96) + 0.5, np.arange(96) + 0.5)
    place = crop.points_back(np.stack([x, y], axis=-1))
    inside = torch.from_numpy(((place >= 0) & (place < SIZE)).all(axis=-1))
    assert torch.equal(within, anywhere & inside)


def test_a_person_who_cannot_be_in_the_way_is_left_out_and_nothing_changes(stage, monkeypatch):
    scenes = [draw_scene(12, index, stage.body, None, SceneConfig(size=SIZE)) for index in range(16)]
    everyone = [(scene, k) for scene in scenes for k in range(len(scene)) if len(scene) > 1]
    looks = []
    for i, (scene, k) in enumerate(everyone):
        root = stage.staged(scene).bodies.joints[k, 0].numpy()
        middle = root[:2] / root[2] * scene.shot.focal + scene.shot.center
        looks.append(Look(CropTransform(middle.astype(float), 10.0 + 5 * (i % 9), 48, 0.1 * i), (SIZE, SIZE)))
    wants = Wants(maps=("mask", "depth"), parts=("parts24",))
    ours = stage.maps(everyone, looks, wants)
    kept = sum(len(stage._in_the_way(everyone[i : i + 8], looks[i : i + 8])) for i in range(0, len(everyone), 8))
    assert 0 < kept < 0.9 * sum(len(scene) - 1 for scene, _ in everyone)

    def others(self, people, looks):
        return [(i, scene, k) for i, (scene, p) in enumerate(people) for k in range(len(scene)) if k != p]

    monkeypatch.setattr(Stage, "_in_the_way", others)
    all_of_them = stage.maps(everyone, looks, wants)
    assert torch.equal(ours.depth, all_of_them.depth) and torch.equal(
        ours.labels["parts24"], all_of_them.labels["parts24"]
    )


# --- In batches ------------------------------------------------------------------------------------------------

STRONG = AugmentConfig(turned=1.0, shift=Spread(0.1), occluded=0.3)


@pytest.fixture(scope="module")
def batch(source):
    wants = replace(
        EVERYTHING, image=False, stride=2, uv_size=128, dense_points=40, heatmaps=HeatmapWants("smpl24", 1.0)
    )
    return TrainingStream([source], None, 10, StreamConfig(128, STRONG, wants))[0]


def test_locations_are_points_of_the_body_in_the_pose_of_the_batch(batch, free_body):
    """Turned and mirrored poses and turned and mirrored maps are made by different code."""
    assert batch.augmentation.flipped.any() and not batch.augmentation.flipped.all()
    posed = free_body(batch.betas, batch.pose[:, 3:], batch.pose[:, :3])
    for i in range(len(batch)):
        points = (posed.vertices[i] - posed.joints[i, 0]).numpy()
        near, _ = cKDTree(points).query(batch.dense.location[i][batch.dense.mask[i]].numpy())
        assert near.size == 0 or (near.max() < 0.045 and np.median(near) < 0.012)  # vertices are some 15 mm apart
        joints = posed.joints[i] - posed.joints[i, 0]
        near, _ = cKDTree(points).query(batch.dense.uv_location[i].flatten(0, 1).numpy())
        assert np.quantile(near[batch.dense.uv_location[i].flatten(0, 1).any(-1).numpy()], 0.99) < 0.03
        assert joints.abs().max() < 1.5


def test_all_kinds_of_maps_name_the_same_points(batch, free_body, source):
    dense, surface = batch.dense, source.stage.drawer.surface
    part, uv = dense.iuv[..., 0].long(), dense.iuv[..., 1:]
    assert torch.equal(part, dense.labels["densepose24"]) and torch.equal(part > 0, dense.mask)
    # Each is exact for its own halves of the body, which differ by some millimetres where they are mirrored.
    for i in range(len(batch)):
        if not dense.mask[i].any():
            continue
        there = dense.mask[i]
        pose = batch.pose[i : i + 1]
        root = free_body.joint_positions(batch.betas[i : i + 1], pose[:, 3:], pose[:, :3])[:, 0]
        placed = chart_points(
            free_body, surface.charts, part[i][there], uv[i][there], batch.betas[i : i + 1], pose[:, 3:], pose[:, :3]
        )
        gap = (placed[0] - root - dense.location[i][there]).norm(dim=-1)
        assert gap.quantile(0.99) < 0.02
    read = uv_to_image(dense.uv_location, dense.uv, dense.mask, surface.sampler(128).valid)
    gap = (read - dense.location).norm(dim=-1)[dense.mask]
    assert gap.quantile(0.98) < 0.02
    torch.testing.assert_close(dense.displacement, dense.location - dense.joint)


def test_heatmaps_of_any_set_peak_at_the_points(batch, source):
    """Those of the body's own joints, which the table does not have; against the hips and knees, which it has."""
    values, known = batch.heatmaps.values, batch.heatmaps.known
    assert batch.heatmaps.points == "smpl24" and values.shape == (10, 24, 64, 64)
    checked = 0
    for name in ("left_knee", "right_knee", "left_ankle", "right_elbow"):
        slot, joint = SPIN49.index(name), SMPL24.index(name)
        for i in range(10):
            x, y, confidence = batch.keypoints_2d[i, slot].tolist()
            if confidence > 0 and known[i, joint] and min(x, y) > 8 and max(x, y) < 120:
                row, column = divmod(int(values[i, joint].argmax()), 64)
                assert np.hypot(2 * column + 1 - x, 2 * row + 1 - y) < 8  # annotated knees lie a little elsewhere
                checked += 1
    assert checked > 10


def test_dense_points_are_pixels_of_the_iuv(batch):
    points = batch.dense_points
    assert points.pixels.shape == (10, 40, 2)
    for i in range(10):
        valid = points.valid[i]
        assert valid.sum() == min(40, int(batch.dense.mask[i].sum()))
        column, row = (points.pixels[i][valid] / 2).long().unbind(-1)
        expected = batch.dense.iuv[i, row, column]
        assert torch.equal(expected[:, 0].long(), points.part[i][valid]) and torch.equal(
            expected[:, 1:], points.uv[i][valid]
        )
        assert len(set(zip(column.tolist(), row.tolist(), strict=True))) == valid.sum()


def test_what_is_dense_changes_nothing_else(source, batch):
    config = StreamConfig(128, STRONG)
    bare = TrainingStream([source], None, 10, config)[0]
    for name in ("keypoints_2d", "keypoints_3d", "pose", "index", "crop_center", "crop_side"):
        assert torch.equal(getattr(batch, name), getattr(bare, name)), name
    assert bare.dense is None and not bare.dense_known and bare.dense_points is None and bare.heatmaps is None
    dressed = TrainingStream([source], None, 10, replace(config, wants=Wants(parts=("parts6",))))[0]
    assert torch.equal(dressed.image, bare.image)


def test_batches_without_colours_are_black_and_take_no_memory(batch):
    assert batch.image.shape == (10, 3, 128, 128) and not batch.image.any()
    assert batch.image.untyped_storage().nbytes() < 100


def test_dense_batches_follow_from_seed_and_step_and_are_shared_among_ranks(source, batch):
    wants = replace(EVERYTHING, image=False, stride=4, dense_points=5, heatmaps=HeatmapWants("coco17"))
    config = StreamConfig(64, STRONG, wants, seed=1)
    whole_batch = TrainingStream([source], None, 6, config)[3]
    for rank in range(3):
        part = TrainingStream([SyntheticSource(source.folder)], None, 6, config, rank=rank, world=3)[3]
        expected = whole_batch[2 * rank : 2 * rank + 2]
        gathered: list[list[torch.Tensor]] = [[], []]
        for values, found in zip((part, expected), gathered, strict=True):
            values.map(lambda tensor, found=found: found.append(tensor) or tensor)
        assert len(gathered[0]) > 30 and all(map(torch.equal, *gathered))


def test_plain_batches_carry_maps_too(source):
    plain = plain_batch(source, [2, 0], 64, Wants(parts=("parts24",), heatmaps=HeatmapWants(COCO17.name), stride=2))
    expected = source.maps(
        [2, 0], [replace(source.look(r), crop=source.look(r).at(32).crop) for r in (2, 0)], Wants(parts=("parts24",))
    )
    assert torch.equal(plain.dense.labels["parts24"], expected.labels["parts24"])
    assert plain.dense_known["parts24"].all()
    nose = plain.keypoints_2d[:, SPIN49.index("nose")].numpy()
    for i in range(2):
        if nose[i, 2] > 0:
            row, column = divmod(int(plain.heatmaps.values[i, 0].argmax()), 32)
            assert np.hypot(2 * column + 1 - nose[i, 0], 2 * row + 1 - nose[i, 1]) < 2
