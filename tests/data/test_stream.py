"""Batches follow from seed and step alone, hold what the tables know, and survive what cannot be read."""

import pickle
import warnings
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from kouros.body.keypoints import BLAZEPOSE33, COCO17, H36M17, KEYPOINT_SETS, OPENPOSE25, SMPL24, SPIN49, KeypointSet
from kouros.data.augment import AugmentConfig, Spread
from kouros.data.batch import Batch
from kouros.data.crops import person_square
from kouros.data.dense import Wants
from kouros.data.images import ImageError
from kouros.data.occlusion import FILL
from kouros.data.schema import Sample, TableInfo
from kouros.data.sources import Source, require_fields
from kouros.data.spin_joints import from_pelvis, spin49_slots, to_spin49
from kouros.data.stream import StreamConfig, TrainingStream, plain_batch
from kouros.data.table_source import TableSource
from kouros.data.tables import TableError, write_table

STILL = AugmentConfig(flipped=0.0, turned=0.0, scale=Spread(0.0), colour=0.0)


def make_source(folder: Path, people: int = 6, points: KeypointSet | None = COCO17, **known) -> TableSource:
    """Photos 100 x 80 with one red pixel block at each person's first keypoint, and their table."""
    folder.mkdir(parents=True, exist_ok=True)
    samples = []
    for i in range(people):
        rng = np.random.default_rng(i)
        photo = np.full((80, 100, 3), 10 + 5 * i, np.uint8)
        xy = rng.integers(30, 60, 2)
        photo[xy[1] - 1 : xy[1] + 2, xy[0] - 1 : xy[0] + 2] = (0, 0, 255)
        cv2.imwrite(str(folder / f"{i}.png"), photo)
        fields = {"image_size": (100, 80), "box_center": np.array([50.0, 40.0]), "box_size": 80.0}
        if points is not None:
            keypoints = np.c_[rng.uniform(10, 70, (len(points), 2)), np.ones(len(points))]
            keypoints[0, :2] = xy + 0.5
            keypoints[-1] = 0
            fields["keypoints_2d"] = keypoints
        samples.append(Sample(f"{i}.png", **(fields | {k: v(i) for k, v in known.items()})))
    info = TableInfo("made", "train", str(folder), points, *((SMPL24, "camera") if "keypoints_3d" in known else ()))
    write_table(folder / "train.parquet", info, samples)
    return TableSource(folder / "train.parquet")


def tensors(batch: Batch) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []
    batch.map(lambda tensor: found.append(tensor) or tensor)
    return found


def equal(first: Batch, second: Batch) -> bool:
    return all(torch.equal(a, b) for a, b in zip(tensors(first), tensors(second), strict=True))


POSES = {"pose": lambda i: 0.3 * np.random.default_rng(i).standard_normal(72), "betas": lambda i: np.full(10, 0.1 * i)}


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> TableSource:
    return make_source(tmp_path_factory.mktemp("made"), **POSES)


def test_a_table_is_a_source_that_travels_as_its_path(source):
    assert isinstance(source, Source)
    assert len(pickle.dumps(source)) < 500
    again = pickle.loads(pickle.dumps(source))
    assert np.array_equal(again.image(2), source.image(2)) and len(again) == 6
    assert again.has("keypoints_2d") and not again.has("keypoints_3d")


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(TableError, match=r"none\.parquet"):
        TableSource(tmp_path / "none.parquet")


def test_a_step_gives_the_same_bits_whenever_and_whoever_asks(source):
    config = StreamConfig(crop_size=48, augment=AugmentConfig(occluded=0.5), seed=3)
    stream = TrainingStream([source], None, 8, config)
    first = stream[5]
    stream[6], stream[0]
    assert equal(stream[5], first)
    assert equal(pickle.loads(pickle.dumps(stream))[5], first)
    assert not torch.equal(stream[6].image, first.image)
    other = TrainingStream([source], None, 8, StreamConfig(crop_size=48, seed=4))
    assert not torch.equal(other[5].image, first.image)
    assert first.image.shape == (8, 3, 48, 48) and first.image.min() >= 0 and first.image.max() <= 1


@pytest.mark.slow  # the processes' start
def test_workers_make_the_same_batches(source):
    stream = TrainingStream([source], None, 4, StreamConfig(crop_size=32))
    loader = DataLoader(stream, None, sampler=range(3), num_workers=2, multiprocessing_context="forkserver")
    assert all(equal(made, stream[step]) for step, made in enumerate(loader))


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_share_one_batch(source, world):
    config = StreamConfig(crop_size=32)
    whole = TrainingStream([source], None, 6, config)[9]
    share = 6 // world
    for rank in range(world):
        part = TrainingStream([source], None, 6, config, rank=rank, world=world)[9]
        assert equal(part, whole[slice(rank * share, (rank + 1) * share)])


def test_ratios_decide_how_often_a_source_comes(source, tmp_path):
    other = make_source(tmp_path / "other", people=2)
    config = StreamConfig(crop_size=16, augment=STILL)
    by_ratio = TrainingStream([source, other], [1.0, 3.0], 200, config)[0].source
    assert abs(by_ratio.float().mean() - 0.75) < 0.1
    by_size = TrainingStream([source, other], None, 200, config)[0]
    assert abs(by_size.source.float().mean() - 0.25) < 0.1
    never = TrainingStream([source, other], [0.0, 1.0], 50, config)
    assert (never[0].source == 1).all() and set(never[0].index.tolist()) == {6, 7} and never.num_samples == 8
    assert by_size.index[by_size.source == 0].max() == 5


@pytest.mark.parametrize("ratios", [[1.0], [1.0, -1.0], [0.0, 0.0], [float("nan"), 1.0], [1.0, 1.0, 1.0]])
def test_ratios_that_do_not_fit_are_refused(source, ratios):
    with pytest.raises(ValueError, match="ratios"):
        TrainingStream([source, source], ratios, 4, StreamConfig())


@pytest.mark.parametrize(("batch", "rank", "world"), [(5, 0, 2), (4, 2, 2), (4, -1, 2), (0, 0, 1)])
def test_batches_that_cannot_be_shared_are_refused(source, batch, rank, world):
    with pytest.raises(ValueError, match=r"rank|shared"):
        TrainingStream([source], None, batch, StreamConfig(), rank=rank, world=world)


def test_nothing_to_learn_from_is_refused(source, tmp_path):
    empty = make_source(tmp_path, people=0)
    with pytest.raises(ValueError, match="no sample"):
        TrainingStream([empty], None, 2, StreamConfig())
    with pytest.raises(ValueError, match=r"train\.parquet has no samples"):
        TrainingStream([source, empty], [1.0, 1.0], 2, StreamConfig())
    with pytest.raises(ValueError, match=r"train\.parquet has no samples"):
        require_fields([empty], ())


def test_fields_that_a_system_needs_are_asked_for_by_name(source, tmp_path):
    require_fields([source], ("keypoints_2d", "pose"))
    bare = make_source(tmp_path, points=None)
    with pytest.raises(ValueError, match=r"train\.parquet knows no keypoints_2d and no pose.*import"):
        require_fields([source, bare], ("keypoints_2d", "pose", "box_size"))


def test_a_table_without_keypoints_gives_batches_that_know_none(tmp_path):
    batch = TrainingStream([make_source(tmp_path, points=None)], None, 3, StreamConfig(crop_size=32))[0]
    assert not batch.keypoints_2d.any() and not batch.keypoints_3d.any()
    assert not batch.has_pose.any() and not batch.has_betas.any()


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000))
def test_keypoints_lie_on_what_the_crop_shows(source, step):
    """COCO's nose is SPIN's nose, on the only red spot of the photo, turned and mirrored as it may be."""
    batch = TrainingStream([source], None, 1, StreamConfig(crop_size=160, augment=AugmentConfig(colour=0.0)))[step]
    x, y, confidence = batch.keypoints_2d[0, SPIN49.index("nose")].tolist()
    image = batch.image[0].numpy()
    redness = np.clip(image[0] - image[1] - image[2] - 0.2, 0, None)
    if min(x, y) < 12 or max(x, y) > 148:
        return  # the crop may cut the spot
    rows, columns = np.mgrid[:160, :160] + 0.5
    at = np.array([(redness * columns).sum(), (redness * rows).sum()]) / redness.sum()
    assert confidence == 1 and np.abs(at - [x, y]).max() < 0.4


def test_mirrored_crops_exchange_the_sides_of_keypoints(source):
    plain, mirrored = (
        TrainingStream([source], None, 4, StreamConfig(augment=AugmentConfig(f, 0.0, colour=0.0), crop_size=64))[2]
        for f in (0.0, 1.0)
    )
    assert torch.allclose(mirrored.image.flip(-1), plain.image, atol=2.5 / 255)
    expected = plain.keypoints_2d[:, list(SPIN49.mirror)]
    known = expected[..., 2] > 0
    assert torch.equal(known, mirrored.keypoints_2d[..., 2] > 0)
    assert torch.allclose(64 - expected[..., 0][known], mirrored.keypoints_2d[..., 0][known], atol=1e-4)
    assert torch.equal(plain.betas, mirrored.betas)
    # And once more gives the poses of the plain crops.
    assert torch.allclose(mirrored.augmentation.apply(mirrored.pose), plain.pose, atol=1e-5)


def test_poses_come_back_by_undoing_the_augmentation(source):
    batch = TrainingStream([source], None, 12, StreamConfig(crop_size=16))[1]
    given = torch.stack([torch.from_numpy(source.sample(i).pose.copy()) for i in batch.index.tolist()])
    assert torch.allclose(batch.augmentation.undo(batch.pose), given, atol=1e-5)
    assert batch.augmentation.flipped.any() and (batch.augmentation.rotation != 0).any()
    assert torch.allclose(batch.betas, 0.1 * batch.index[:, None].float().expand(-1, 10), atol=1e-6)


def test_3d_keypoints_are_relative_to_the_pelvis_and_turn_with_the_pose(tmp_path, free_body):
    def space(i):
        pose = torch.from_numpy(POSES["pose"](i)).float()[None]
        points = free_body.joint_positions(global_orient=pose[:, :3], body_pose=pose[:, 3:])[0] + torch.tensor(
            [1, 2, 5]
        )
        return np.c_[points.numpy(), np.ones(24)]

    source = make_source(tmp_path, **POSES, keypoints_3d=space)
    batch = TrainingStream([source], None, 12, StreamConfig(crop_size=16))[0]
    joints = free_body.joint_positions(global_orient=batch.pose[:, :3], body_pose=batch.pose[:, 3:])
    for name in ("left_knee", "right_wrist", "left_openpose_hip", "openpose_neck", "openpose_mid_hip"):
        slot = SPIN49.index(name)
        joint = {"openpose_neck": "neck", "openpose_mid_hip": "pelvis"}.get(name, name.replace("openpose_", ""))
        expected = joints[:, SMPL24.index(joint)] - joints[:, 0]
        assert (batch.keypoints_3d[:, slot, 3] == 1).all()
        assert (batch.keypoints_3d[:, slot, :3] - expected).abs().max() < 0.01  # the body's halves differ by some mm


def test_3d_keypoints_without_a_pelvis_are_known_only_where_they_have_a_root():
    hips = np.zeros((49, 4))
    hips[SPIN49.index("left_hip_lsp")], hips[SPIN49.index("right_hip_lsp")] = [1, 2, 3, 1], [3, 2, 1, 1]
    assert np.allclose(from_pelvis(hips, False)[SPIN49.index("left_hip_lsp")], [-1, 0, 1, 1])
    wrist = np.zeros((49, 4))
    wrist[SPIN49.index("left_wrist")] = [1, 2, 3, 1]
    assert not from_pelvis(wrist, False).any()
    assert np.array_equal(from_pelvis(wrist, True), wrist)


@pytest.mark.parametrize("name", KEYPOINT_SETS)
def test_every_set_has_its_places_among_spins_points_and_keeps_sides(name):
    points = KEYPOINT_SETS[name]
    slots = spin49_slots(points)
    known = [s for s in slots if s is not None]
    assert len(set(known)) == len(known) >= 13
    for keypoint, slot in zip(points.names, slots, strict=True):
        if slot is not None and keypoint.startswith(("left_", "right_")):
            assert SPIN49.names[slot].startswith(keypoint.split("_")[0] + "_")
            assert slots[points.mirror[points.index(keypoint)]] == SPIN49.mirror[slot]


def test_openpose_fills_the_first_slots_and_blazepose_what_it_shares():
    assert spin49_slots(OPENPOSE25) == tuple(range(25))
    placed = to_spin49(np.c_[np.arange(33.0), np.ones((33, 2))], BLAZEPOSE33)
    assert placed[SPIN49.index("left_wrist"), 0] == BLAZEPOSE33.index("left_wrist")
    assert placed[SPIN49.index("right_openpose_heel"), 0] == BLAZEPOSE33.index("right_heel")
    assert not placed[SPIN49.index("head_top")].any()
    assert spin49_slots(H36M17)[0] == SPIN49.index("pelvis_mpii")


def test_a_set_that_shares_nothing_is_refused():
    with pytest.raises(ValueError, match="tail3 shares no point"):
        spin49_slots(KeypointSet("tail3", ("tail_a", "tail_b", "tail_c")))


def test_points_beyond_the_crop_keep_their_confidence(tmp_path):
    source = make_source(tmp_path, people=1, box_size=lambda i: 4.0)
    batch = plain_batch(source, [0], 32)
    outside = (batch.keypoints_2d[0, :, :2] < 0).any(-1) | (batch.keypoints_2d[0, :, :2] > 32).any(-1)
    assert (batch.keypoints_2d[0, outside, 2] == 1).sum() > 5


def test_plain_batches_are_the_square_as_photographed(source):
    batch = plain_batch(source, [4, 1], 80)
    assert batch.index.tolist() == [4, 1] and batch.crop_side.tolist() == [80, 80]
    photo = torch.from_numpy(source.image(4)[:, 10:90]).permute(2, 0, 1) / 255
    assert torch.allclose(batch.image[0], photo)
    assert not batch.augmentation.flipped.any() and not batch.augmentation.rotation.any()
    nose = source.sample(4).keypoints_2d[0, :2] - [10, 0]
    assert np.allclose(batch.keypoints_2d[0, SPIN49.index("nose"), :2], nose, atol=1e-4)
    assert torch.allclose(batch.pose[1], torch.from_numpy(source.sample(1).pose.copy()), atol=1e-6)


def test_all_but_the_pictures_is_known_without_them(tmp_path):
    source = make_source(tmp_path, people=3, **POSES)
    seen = plain_batch(source, [0, 1, 2], 16)
    for photo in tmp_path.glob("*.png"):
        photo.unlink()
    known = plain_batch(source, [0, 1, 2], 16, Wants(image=False))
    assert seen.image.any() and not known.image.any()
    assert equal(known, replace(seen, image=known.image))


def test_betas_of_gendered_bodies_are_not_learned(tmp_path):
    genders = ["female", "neutral", "male"]
    batch = plain_batch(make_source(tmp_path, people=3, **POSES, gender=genders.__getitem__), [0, 1, 2], 16)
    assert batch.has_betas.tolist() == [False, True, False] and batch.has_pose.all() and not batch.betas[2].any()


def test_boxes_come_from_what_is_known():
    points = np.array([[10.0, 20, 1], [30, 60, 1], [999, 999, 0]])
    assert person_square(Sample("a", box_center=np.ones(2), box_size=5.0, bbox=np.zeros(4)))[1] == 5
    center, side = person_square(Sample("a", bbox=np.array([0.0, 10, 20, 60]), keypoints_2d=points))
    assert center.tolist() == [10, 35] and side == pytest.approx(60)
    center, side = person_square(Sample("a", keypoints_2d=points))
    assert center.tolist() == [20, 40] and side == pytest.approx(48)
    for nobody in (Sample("a.jpg"), Sample("a.jpg", keypoints_2d=points[2:]), Sample("a.jpg", keypoints_2d=points[:1])):
        with pytest.raises(ImageError, match=r"a\.jpg.*where"):
            person_square(nobody)


def test_occluders_cover_a_joint(source):
    config = StreamConfig(crop_size=64, augment=AugmentConfig(0.0, 0.0, scale=Spread(0.0), colour=0.0, occluded=1.0))
    batch = TrainingStream([source], None, 6, config)[0]
    grey = (batch.image * 255 == FILL[0]).all(dim=1)
    assert (grey.sum((1, 2)) > 5).all()
    without = TrainingStream([source], None, 6, StreamConfig(crop_size=64, augment=STILL))[0]
    assert torch.equal(
        without.image[~grey[:, None].expand_as(without.image)], batch.image[~grey[:, None].expand_as(batch.image)]
    )
    assert torch.equal(without.keypoints_2d, batch.keypoints_2d)


@pytest.mark.parametrize("harm", ["missing", "cut", "other size"])
def test_an_unreadable_picture_is_replaced_and_warned_of_once(tmp_path, harm):
    source = make_source(tmp_path)
    stream = TrainingStream([source], None, 40, StreamConfig(crop_size=16))
    stream[0]
    file = tmp_path / "3.png"
    if harm == "missing":
        file.unlink()
    elif harm == "cut":
        file.write_bytes(file.read_bytes()[:60])
    else:
        cv2.imwrite(str(file), np.zeros((50, 50, 3), np.uint8))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        batches = [stream[step] for step in range(3)]
    assert len(caught) == 1 and "3.png" in str(caught[0].message) and "takes its place" in str(caught[0].message)
    assert all(3 not in batch.index.tolist() and len(batch) == 40 for batch in batches)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again = TrainingStream([source], None, 40, StreamConfig(crop_size=16))
        assert equal(again[2], batches[2])


def test_training_stops_where_too_many_pictures_are_unreadable(tmp_path):
    source = make_source(tmp_path, points=None)
    (tmp_path / "3.png").unlink()
    stream = TrainingStream([source], None, 200, StreamConfig(crop_size=8))
    with pytest.warns(UserWarning, match=r"3\.png"), pytest.raises(ImageError, match=r"more than 1%.*3\.png"):
        for step in range(10):
            stream[step]


def test_a_source_without_a_single_picture_is_named_at_once(tmp_path):
    source = make_source(tmp_path)
    for file in tmp_path.glob("*.png"):
        file.unlink()
    with pytest.warns(UserWarning), pytest.raises(ImageError, match=r"train\.parquet.*cannot be used"):
        TrainingStream([source], None, 2, StreamConfig())[0]


def test_an_unreadable_picture_leaves_a_plain_batch_black_there(tmp_path):
    source = make_source(tmp_path, **POSES)
    (tmp_path / "1.png").unlink()
    with pytest.warns(UserWarning, match=r"1\.png"):
        batch = plain_batch(source, [0, 1], 16)
    assert batch.index.tolist() == [0, 1] and batch.has_pose.tolist() == [True, False]
    assert not batch.image[1].any() and not batch.keypoints_2d[1].any() and batch.keypoints_2d[0].any()


@pytest.mark.parametrize("given", [{"crop_size": 0}, {"seed": -1}])
def test_settings_that_make_no_sense_are_refused(given):
    with pytest.raises(ValueError, match="expected"):
        StreamConfig(**given)


def test_steps_count_from_0_without_end(source):
    stream = TrainingStream([source], None, 1, StreamConfig(crop_size=8))
    assert len(stream) > 10**12 and len(stream[10**11]) == 1
    with pytest.raises(IndexError):
        stream[-1]


def test_real_photos_become_crops(samples, tmp_path):
    from kouros.data.importers.coco import import_coco

    import_coco(samples / "coco_sample" / "annotations.json", tmp_path)
    source = TableSource(next(tmp_path.glob("*.parquet")))
    batch = TrainingStream([source], None, 8, StreamConfig())[0]
    assert batch.image.std(dim=(1, 2, 3)).min() > 0.05 and (batch.keypoints_2d[..., 2].sum(1) >= 1).all()
