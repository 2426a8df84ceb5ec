import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
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
from kouros.pipeline.upright import World, world_of
from kouros.systems.estimator import Estimate


@pytest.fixture(scope="module")
def world(people) -> World:
    return world_of(people)


@pytest.mark.parametrize(("write", "kind"), [(obj_bytes, "obj"), (ply_bytes, "ply")])
def test_meshes_read_back_as_all_people_where_they_stand(people, world: World, write, kind: str):
    mesh = trimesh.load(io.BytesIO(write(people, world)), file_type=kind, process=False, force="mesh")
    expected = np.concatenate([world.place(p.vertices, k).numpy() for k, p in enumerate(people)])
    faces = people[0].body.faces.numpy()
    both = np.concatenate([faces, faces + len(people[0].vertices)])
    assert_allclose(np.asarray(mesh.vertices)[mesh.faces], expected[both], atol=2e-6)
    flat = trimesh.load(io.BytesIO(write(people, World.of_camera(2))), file_type=kind, process=False, force="mesh")
    expected = np.concatenate([p.vertices.numpy() for p in people]) * [1, -1, -1]
    assert_allclose(np.asarray(flat.vertices)[flat.faces], expected[both], atol=2e-6)


def test_an_obj_has_the_bodys_texture_coordinates(people):
    lines = obj_bytes(people, World.of_camera(2)).decode().splitlines()
    coordinates = np.array([line.split()[1:] for line in lines if line.startswith("vt ")], dtype=float)
    corners = [[part.split("/") for part in line.split()[1:]] for line in lines if line.startswith("f ")]
    uv = coordinates[np.array(corners, dtype=int)[..., 1] - 1]
    body = people[0].body
    assert_allclose(uv, np.concatenate([body.uv.numpy()[body.uv_faces.numpy()]] * 2), atol=1e-6)


def test_npz_needs_no_pickle_and_holds_what_the_people_are(people, world: World):
    with np.load(io.BytesIO(npz_bytes(people, world)), allow_pickle=False) as arrays:
        assert arrays["betas"].shape == (2, 10) and arrays["pose"].shape == (2, 72)
        assert_allclose(arrays["pose"][1, :3], people[1].global_orient)
        assert_allclose(arrays["joints_3d"][0], people[0].joints)
        depth = arrays["joints_3d"][..., 2:]
        pixels = arrays["focal_length"] * arrays["joints_3d"][..., :2] / depth + arrays["principal_point"]
        assert_allclose(arrays["joints_2d"], pixels, atol=1e-3)
        assert arrays["image_size"].tolist() == [640, 480]
        placed = arrays["world_size"][:, None, None] * arrays["joints_3d"]
        placed = placed @ arrays["T_world_camera"][:3, :3].T + arrays["T_world_camera"][:3, 3]
        assert_allclose(arrays["joints_world"], placed, atol=1e-5)
        assert 0.01 < arrays["up_uncertainty"] < 0.3 and arrays["on_floor"].all()


def test_json_says_the_same_with_names(people, world: World):
    document, arrays = json.loads(json_bytes(people, world, image="a.jpg")), result_arrays(people, world)
    assert_allclose(document["world"]["T_world_camera"], arrays["T_world_camera"], atol=1e-5)
    assert document["world"]["up_uncertainty_degrees"] == pytest.approx(np.degrees(world.uncertainty), abs=1e-4)
    assert document["image"] == "a.jpg" and document["joint_names"] == list(JOINT_NAMES)
    for i, person in enumerate(document["people"]):
        assert_allclose(person["joints_3d"], arrays["joints_3d"][i], atol=1e-5)
        assert_allclose(person["joints_world"], arrays["joints_world"][i], atol=1e-5)
        assert_allclose(np.ravel(person["body_pose"]), arrays["pose"][i, 3:], atol=1e-5)
        assert len(document["keypoint_names"][person["keypoint_set"]]) == len(person["keypoints_2d"])


def test_results_say_what_was_completed_and_the_overlay_draws_it_pale(people):
    said = np.ones(24, dtype=np.float32)
    said[JOINT_NAMES.index("left_knee")] = 0.2
    hidden, whole = (
        replace(people[1], estimate=Estimate(visibility=torch.from_numpy(v))) for v in (0 * said, np.ones_like(said))
    )
    partly = replace(people[1], estimate=Estimate(visibility=torch.from_numpy(said)))
    (entry,) = json.loads(json_bytes([partly], world_of([partly])))["people"]
    assert entry["completed"] == ["left_knee"] and entry["visibility"][JOINT_NAMES.index("left_knee")] == 0.2
    assert_allclose(result_arrays([partly], world_of([partly]))["visibility"][0], said)
    black = np.zeros((480, 640, 3), np.uint8)
    pale, full = (overlay_picture(black, [p], world_of([p]))[:, :640].astype(float) for p in (hidden, whole))
    drawn = full.any(-1)
    assert pale[drawn].mean() > 1.2 * full[drawn].mean()
    assert np.ptp(pale[drawn], axis=1).mean() < 0.5 * np.ptp(full[drawn], axis=1).mean()  # hardly any colour


def test_people_with_different_keypoint_sets_are_padded_with_confidence_zero(people):
    other = replace(people[1], keypoint_set="openpose25", keypoints_detected=people[1].joints.new_ones(25, 3))
    arrays = result_arrays([people[0], other], World.of_camera(2))
    assert arrays["keypoints_2d"].shape == (2, 25, 3)
    assert not arrays["keypoints_2d"][0, 17:].any()
    assert arrays["keypoint_set"].tolist() == ["coco17", "openpose25"]


def test_people_of_different_photos_are_not_mixed(people):
    with pytest.raises(ValueError, match="one photo"):
        npz_bytes([people[0], replace(people[1], image_size=(64, 64))], World.of_camera(2))


def test_json_refuses_numbers_that_are_none(people):
    broken = people[0].moved(people[0].parameters.map(lambda t: t * float("nan")))
    with pytest.raises(ValueError):
        json_bytes([broken], World.of_camera(1))


def test_the_overlay_leaves_the_photo_where_nobody_is_and_fits_a_large_one(people):
    photo = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)
    before = photo.copy()
    picture = overlay_picture(photo, people, World.of_camera(2))
    np.testing.assert_array_equal(photo, before)
    changed = (picture[:, :640] != photo).any(-1)
    rows, columns = np.nonzero(changed)
    seen = np.concatenate([p.camera.project(p.vertices).numpy() for p in people])
    assert 0.02 < changed.mean() < 0.6
    assert columns.min() >= seen[:, 0].min() - 2 and rows.min() >= seen[:, 1].min() - 2
    small = overlay_picture(photo, people, World.of_camera(2), max_side=160)
    assert small.shape[0] == 120


def test_only_the_view_from_the_side_knows_of_the_world(people, world: World):
    photo = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)
    flat, upright = (overlay_picture(photo, people, w) for w in (World.of_camera(2), world))
    np.testing.assert_array_equal(upright[:, :640], flat[:, :640])
    assert (upright[:, 640:] != flat[:, 640:]).any()


def test_a_bundle_has_the_formats_asked_for(people):
    photo = np.zeros((480, 640, 3), np.uint8)
    files = result_files(people, ("glb", "obj"), pixels=photo, image="a.jpg")
    assert set(files) == {".glb", ".obj", ".overlay.png", ".npz", ".json"}
    assert Image.open(io.BytesIO(files[".overlay.png"])).size[1] == 480
    flat = result_files(people, ("glb", "obj"), pixels=photo, image="a.jpg", space="camera")
    assert flat[".obj"] != files[".obj"]
    assert json.loads(flat[".json"])["world"]["up_uncertainty_degrees"] is None


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
            document = json_bytes(people, World.of_camera(len(people)), image=destinations.reference_to(source))
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
