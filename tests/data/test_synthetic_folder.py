"""Folders of synthetic people: the same whoever makes them, resumed, and read as a source."""

import hashlib
import pickle
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from torch.testing import assert_close

from kouros.body.parameters import BodyParameters
from kouros.data.detections import DetectionSource
from kouros.data.inspection import contact_sheet
from kouros.data.sources import Source
from kouros.data.synthetic import SyntheticSource
from kouros.data.synthetic.generate import Order, OrderError, synthesize
from kouros.data.synthetic.scenes import SceneConfig

ORDER = Order(people=110, seed=3, scene=SceneConfig(size=64))


def digests(folder: Path, pattern: str) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.glob(pattern))}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("people")
    made = synthesize(ORDER, out)
    assert made.rows is not None
    assert made.rows > 60
    return out


def test_the_folder_is_a_source(folder):
    source = SyntheticSource(folder)
    assert isinstance(source, Source)
    sample = source.sample(0)
    assert source.image(0).shape == (64, 64, 3)
    assert sample.has("pose")
    assert source.has("keypoints_3d")
    assert not source.has("dense_points")
    assert source.info.provenance["seed"] == 3


def test_a_pickled_source_draws_the_same_picture(folder):
    source = SyntheticSource(folder)
    last = len(source) - 1
    there = pickle.loads(pickle.dumps(source))
    expected = source.image(last)
    there.image(0)
    np.testing.assert_array_equal(there.image(last), expected)


def test_drawing_leaves_opencv_its_threads_and_is_the_same_with_any_number(folder):
    threads = cv2.getNumThreads()
    try:
        pictures = []
        for count in (3, 1):
            cv2.setNumThreads(count)
            pictures.append(SyntheticSource(folder).image(0))
            assert cv2.getNumThreads() == count
    finally:
        cv2.setNumThreads(threads)
    np.testing.assert_array_equal(*pictures)


def test_a_killed_run_goes_on_and_ends_the_same(folder, tmp_path):
    synthesize(ORDER, tmp_path)
    before = digests(tmp_path, "scenes/*.npz")
    assert before == digests(folder, "scenes/*.npz")
    (tmp_path / "rows" / "000001.parquet").unlink()
    broken = tmp_path / "scenes" / "000001.npz"
    broken.write_bytes(broken.read_bytes()[:500])
    made = synthesize(ORDER, tmp_path)
    assert made.made_shards == 1
    assert digests(tmp_path, "scenes/*.npz") == before


def test_another_order_is_not_mixed_in(folder):
    with pytest.raises(OrderError, match="seed"):
        synthesize(Order(people=110, seed=4, scene=SceneConfig(size=64)), folder)


@pytest.mark.parametrize("order", [Order(people=0), Order(people=5, seed=-1), Order(5, scene=SceneConfig(size=3))])
def test_orders_that_make_no_sense_are_refused(order, tmp_path):
    with pytest.raises(OrderError):
        synthesize(order, tmp_path)


def test_missing_motion_capture_is_named(tmp_path):
    with pytest.raises(OrderError, match="diverse_frames"):
        synthesize(Order(people=5, mocap=tmp_path), tmp_path)


def test_a_folder_without_people_says_so(tmp_path):
    with pytest.raises(ValueError, match="kouros synthesize"):
        SyntheticSource(tmp_path)


@pytest.mark.slow
def test_ranks_and_processes_make_the_same_people(folder, tmp_path):
    assert synthesize(ORDER, tmp_path, rank=1, world=2).rows is None
    made = synthesize(ORDER, tmp_path, rank=0, world=2)
    assert made.rows == len(SyntheticSource(folder))
    assert digests(tmp_path, "scenes/*.npz") == digests(folder, "scenes/*.npz")
    several = tmp_path / "several"
    synthesize(ORDER, several, workers=2)
    assert digests(several, "scenes/*.npz") == digests(folder, "scenes/*.npz")


@pytest.mark.slow
def test_written_pictures_are_those_rendered(tmp_path, folder):
    order = Order(people=20, seed=3, images=True, scene=SceneConfig(size=64))
    synthesize(order, tmp_path)
    written, rendered = SyntheticSource(tmp_path), SyntheticSource(folder)
    difference = np.abs(written.image(0).astype(int) - rendered.image(0))
    assert difference.mean() < 6


@pytest.mark.slow
def test_the_detector_looks_at_people_made_before_and_sees_them_where_they_are(tmp_path, free_body):
    order = Order(people=14, seed=5, scene=SceneConfig(size=192, occluded=0.0))
    synthesize(order, tmp_path)
    before = digests(tmp_path, "scenes/*.npz")
    looked = replace(order, detections=True)
    assert synthesize(looked, tmp_path).made_shards == 1
    assert synthesize(looked, tmp_path).made_shards == 0
    whole = digests(tmp_path, "*/*.npz")
    (file,) = (tmp_path / "detections").glob("*.npz")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert synthesize(looked, tmp_path).made_shards == 1
    assert digests(tmp_path, "*/*.npz") == whole
    assert digests(tmp_path, "scenes/*.npz") == before
    seen = DetectionSource(tmp_path / "detections").all
    assert 5 <= len(seen.betas) <= len(SyntheticSource(tmp_path))
    rest = free_body.joint_positions(seen.betas)[:, 0]
    true = BodyParameters(seen.pose, seen.betas, seen.pelvis - rest).keypoints_by(free_body, "blazepose33")
    rays = true[..., :2] / true[..., 2:]
    size = (rays - rays.mean(1, keepdim=True)).norm(dim=-1).mean(1, keepdim=True)
    away = (seen.keypoints[..., :2] - rays).norm(dim=-1) / size
    assert float(away[seen.keypoints[..., 2] > 0.8].median()) < 0.12
    synthesize(replace(looked, split="val"), tmp_path / "again")
    again = DetectionSource(tmp_path / "again" / "detections").all
    assert_close(again.keypoints, seen.keypoints, rtol=0, atol=0)


@pytest.mark.slow
def test_synthetic_val_is_what_the_package_says(tmp_path):
    from kouros.data.synthetic.draw import Stage
    from kouros.data.synthetic.validation import PICTURES, packaged_scenes, sums, thumbnail

    scenes = packaged_scenes()
    assert len(scenes) == PICTURES
    stage = Stage()
    for index, expected in sums()["pictures"].items():
        difference = np.abs(np.array(thumbnail(stage.picture(scenes[int(index)]))) - expected)
        assert difference.max() <= 3


def test_a_contact_sheet_shows_people_whose_pictures_are_not_written(folder):
    source = SyntheticSource(folder)
    sheet = contact_sheet(source.table, people=4, columns=4, side=64, source=source)
    files = contact_sheet(source.table, people=4, columns=4, side=64)
    colours = [len(np.unique(picture.reshape(-1, 3), axis=0)) for picture in (sheet, files)]
    assert colours[0] > 20 * colours[1]  # grey squares that say so
