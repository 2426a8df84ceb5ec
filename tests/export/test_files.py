import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh
from numpy.testing import assert_allclose
from PIL import Image

from kouros.body.skeleton import JOINT_NAMES
from kouros.export.bundle import result_files
from kouros.export.destinations import Destinations
from kouros.export.meshes import obj_bytes, ply_bytes
from kouros.export.pictures import overlay_picture
from kouros.export.results import json_bytes, npz_bytes, result_arrays
from kouros.files import write_files


@pytest.mark.parametrize(("write", "kind"), [(obj_bytes, "obj"), (ply_bytes, "ply")])
def test_meshes_read_back_as_all_people_y_up(people, write, kind: str):
    mesh = trimesh.load(io.BytesIO(write(people)), file_type=kind, process=False, force="mesh")
    expected = np.concatenate([p.vertices.numpy() for p in people]) * [1, -1, -1]
    faces = people[0].body.faces.numpy()
    both = np.concatenate([faces, faces + len(people[0].vertices)])
    assert_allclose(np.asarray(mesh.vertices)[mesh.faces], expected[both], atol=2e-6)


def test_npz_needs_no_pickle_and_holds_what_the_people_are(people):
    with np.load(io.BytesIO(npz_bytes(people)), allow_pickle=False) as arrays:
        assert arrays["betas"].shape == (2, 10) and arrays["pose"].shape == (2, 72)
        assert_allclose(arrays["pose"][1, :3], people[1].global_orient)
        assert_allclose(arrays["joints_3d"][0], people[0].joints)
        depth = arrays["joints_3d"][..., 2:]
        pixels = arrays["focal_length"] * arrays["joints_3d"][..., :2] / depth + arrays["principal_point"]
        assert_allclose(arrays["joints_2d"], pixels, atol=1e-3)
        assert arrays["image_size"].tolist() == [640, 480]


def test_json_says_the_same_with_names(people):
    document, arrays = json.loads(json_bytes(people, image="a.jpg")), result_arrays(people)
    assert document["image"] == "a.jpg" and document["joint_names"] == list(JOINT_NAMES)
    for i, person in enumerate(document["people"]):
        assert_allclose(person["joints_3d"], arrays["joints_3d"][i], atol=1e-5)
        assert_allclose(np.ravel(person["body_pose"]), arrays["pose"][i, 3:], atol=1e-5)
        assert len(document["keypoint_names"][person["keypoint_set"]]) == len(person["keypoints_2d"])


def test_people_with_different_keypoint_sets_are_padded_with_confidence_zero(people):
    other = replace(people[1], keypoint_set="openpose25", keypoints_detected=people[1].joints.new_ones(25, 3))
    arrays = result_arrays([people[0], other])
    assert arrays["keypoints_2d"].shape == (2, 25, 3)
    assert not arrays["keypoints_2d"][0, 17:].any()
    assert arrays["keypoint_set"].tolist() == ["coco17", "openpose25"]


def test_people_of_different_photos_are_not_mixed(people):
    with pytest.raises(ValueError, match="one photo"):
        npz_bytes([people[0], replace(people[1], image_size=(64, 64))])


def test_json_refuses_numbers_that_are_none(people):
    broken = people[0].moved(people[0].parameters.map(lambda t: t * float("nan")))
    with pytest.raises(ValueError):
        json_bytes([broken])


def test_the_overlay_leaves_the_photo_where_nobody_is_and_fits_a_large_one(people):
    photo = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)
    before = photo.copy()
    picture = overlay_picture(photo, people)
    np.testing.assert_array_equal(photo, before)
    changed = (picture[:, :640] != photo).any(-1)
    rows, columns = np.nonzero(changed)
    seen = np.concatenate([p.camera.project(p.vertices).numpy() for p in people])
    assert 0.02 < changed.mean() < 0.6
    assert columns.min() >= seen[:, 0].min() - 2 and rows.min() >= seen[:, 1].min() - 2
    small = overlay_picture(photo, people, max_side=160)
    assert small.shape[0] == 120


def test_a_bundle_has_the_formats_asked_for(people):
    photo = np.zeros((480, 640, 3), np.uint8)
    files = result_files(people, ("glb", "obj"), pixels=photo, image="a.jpg")
    assert set(files) == {".glb", ".obj", ".overlay.png", ".npz", ".json"}
    assert Image.open(io.BytesIO(files[".overlay.png"])).size[1] == 480


def test_files_appear_together_or_not_at_all(tmp_path: Path):
    kept = tmp_path / "a.txt"
    kept.write_bytes(b"before")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError):
        write_files({kept: b"after", tmp_path / "new.txt": b"x", tmp_path / "file" / "inside.txt": b"x"})
    assert kept.read_bytes() == b"before"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.txt", "file"]
    write_files({kept: b"after", tmp_path / "deep" / "new.txt": b"x"})
    assert kept.read_bytes() == b"after" and (tmp_path / "deep" / "new.txt").read_bytes() == b"x"


def test_an_interrupt_while_writing_leaves_nothing(tmp_path: Path):
    class Interrupting(dict):
        def items(self):
            yield tmp_path / "first.txt", b"x"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_files(Interrupting())
    assert list(tmp_path.iterdir()) == []


def test_two_photos_of_one_name_get_two_results_in_every_run(people, tmp_path: Path):
    first, second = tmp_path / "x" / "photo.jpg", tmp_path / "y" / "photo.jpg"
    out = tmp_path / "out"

    def run(*sources: Path) -> list[str]:
        destinations = Destinations(out, (".glb",))
        names = []
        for source in sources:
            name = destinations.name_for(source)
            document = json_bytes(people, image=destinations.reference_to(source))
            write_files({out / f"{name}.json": document, out / f"{name}.glb": b""})
            names.append(name)
        return names

    assert run(first) == ["photo"]
    assert run(second) == ["y_photo"]  # a later run, too
    assert run(first, second) == ["photo", "y_photo"]  # and the same photo replaces its own


def test_a_file_that_is_no_result_is_not_replaced(tmp_path: Path):
    (tmp_path / "photo.json").write_text('{"people": []}')
    (tmp_path / "scan.obj").write_text("v 0 0 0")
    destinations = Destinations(tmp_path, (".obj",))
    assert destinations.name_for(tmp_path / "in" / "photo.jpg") == "in_photo"
    assert destinations.name_for(tmp_path / "in" / "scan.jpg") == "in_scan"
