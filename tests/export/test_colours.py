"""The photo's colours on the meshes, by a photo whose colours say where they are."""

import io
from dataclasses import replace

import numpy as np
import pygltflib
import pytest
import torch
import trimesh

from kouros.export.bundle import result_files
from kouros.export.colours import GREY, photo_colours
from kouros.export.glb import glb_bytes
from kouros.pipeline.upright import World


@pytest.fixture(scope="module")
def people(people):
    """Of whom nothing is hidden."""
    sure = torch.ones(17, 3)
    return [replace(person, keypoints_detected=sure) for person in people]


@pytest.fixture(scope="module")
def ramp() -> np.ndarray:
    """Red grows to the right and green downwards; blue is full."""
    photo = np.full((480, 640, 3), 255, np.uint8)
    photo[..., 0] = (np.arange(640) * 0.39).astype(np.uint8)
    photo[..., 1] = (np.arange(480) * 0.52).astype(np.uint8)[:, None]
    return photo


def test_what_the_photo_shows_has_its_colour_and_the_back_is_grey(people, ramp):
    for person, colours in zip(people, photo_colours(ramp, people), strict=True):
        shown = colours[:, 2] == 1.0
        np.testing.assert_array_equal(colours[~shown], GREY)
        assert 0.15 < shown.mean() < 0.6
        pixels = person.camera.project(person.vertices).numpy()
        np.testing.assert_allclose(255 * colours[shown, 0], 0.39 * (pixels[shown, 0] - 0.5), atol=1.5)
        np.testing.assert_allclose(255 * colours[shown, 1], 0.52 * (pixels[shown, 1] - 0.5), atol=1.5)
        # Of what is shown, hardly anything lies behind the middle of the body's part there: the skin faces the camera.
        depth = person.vertices[:, 2].numpy()
        assert depth[shown].mean() < depth[~shown].mean() - 0.05


def test_who_stands_behind_somebody_does_not_get_their_colours(people, ramp):
    front = people[0]
    place = front.parameters.map(lambda t: t)
    behind = front.moved(type(place)(place.pose, place.betas, 1.5 * place.transl, place.camera))
    alone = photo_colours(ramp, [behind])[0][:, 2] == 1.0
    both = photo_colours(ramp, [front, behind])[1][:, 2] == 1.0
    assert alone.sum() > 1000 and both.sum() < 0.3 * alone.sum()


def test_files_hold_the_colours_and_are_grey_by_default(people, ramp):
    colours = photo_colours(ramp, people)
    files = result_files(people, ("glb", "obj", "ply"), space="camera", coloured_by=ramp)
    gltf = pygltflib.GLTF2.load_from_bytes(files[".glb"])
    primitive = gltf.meshes[1].primitives[0]
    assert gltf.materials[primitive.material].pbrMetallicRoughness.baseColorFactor == [1.0, 1.0, 1.0, 1.0]
    accessor = gltf.accessors[primitive.attributes.COLOR_0]
    view = gltf.bufferViews[accessor.bufferView]
    data = gltf.binary_blob()[view.byteOffset : view.byteOffset + view.byteLength]
    linear = np.frombuffer(data, "<f4").reshape(-1, 3)
    # Blue is full, or grey's.
    assert sorted(set(linear[:, 2].round(4).tolist())) == pytest.approx([0.3185, 1.0], abs=1e-3)
    rows = [line.split() for line in files[".obj"].decode().splitlines() if line.startswith("v ")]
    np.testing.assert_allclose(np.array(rows)[:, 4:].astype(float), np.concatenate(colours), atol=1e-4)
    mesh = trimesh.load(io.BytesIO(files[".ply"]), file_type="ply", process=False)
    np.testing.assert_allclose(mesh.visual.vertex_colors[:, :3] / 255, np.concatenate(colours), atol=0.5 / 255 + 1e-6)
    plain = pygltflib.GLTF2.load_from_bytes(glb_bytes(people, World.of_camera(2)))
    assert plain.meshes[0].primitives[0].attributes.COLOR_0 is None and len(plain.materials) == 1
