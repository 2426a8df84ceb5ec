"""From people in camera space to a world that stands upright."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.pipeline.people import person_of
from torch.testing import assert_close

from kouros.data.detections import Detections, write_detections
from kouros.data.synthetic.scenes import SceneConfig, draw_scene, pack
from kouros.files import npz_bytes, write_file
from kouros.geometry.cameras import PerspectiveCamera
from kouros.geometry.rotations import rotmat_to_rotvec
from kouros.geometry.tilt import tilt_of_up, up_of_tilt, upright_rotation
from kouros.networks.tilt_network import Tilt, mirrored_joints
from kouros.pipeline.person import Person
from kouros.pipeline.reconstructor import default_reconstructor
from kouros.pipeline.upright import (
    World,
    load_tilt_network,
    packaged_tilt_network,
    save_tilt_network,
    together,
    world_of,
)
from kouros.pipeline.upright_training import (
    TiltConfig,
    TiltExamples,
    drawn_people,
    examples_of,
    train_tilt_network,
)

CAMERA = PerspectiveCamera(torch.tensor(700.0), torch.tensor([320.0, 320.0]))
TILT = torch.tensor([math.radians(15), math.radians(-6)])
UP = up_of_tilt(TILT)
HEIGHT = 1.6
"""Of the camera."""
DOWN = math.radians(70)
"""By which arms hang, from the T-pose."""


def standing(body, place: tuple[float, float], *, size: float = 1.0, above: float = 0.0, turned: float = 0.0) -> Person:
    """Somebody who stands on the floor, or above it, before a camera that looks down a little and leans.

    Taken for an adult of the mean size: whoever is smaller seems to be farther away.

    Args:
        place: metres to the right of the camera and ahead of it, on the floor.
    """
    pose = torch.zeros(24, 3)
    pose[0, 1] = turned
    pose[16, 2], pose[17, 2] = -DOWN, DOWN
    rest = body(body_pose=pose[1:].reshape(1, 69), global_orient=pose[:1])
    sole = rest.vertices[0, :, 1].min()
    to_camera = upright_rotation(UP).T
    pelvis_at = torch.tensor([place[0], above - HEIGHT, -place[1]]) + torch.tensor([0.0, size, 0.0]) * (
        rest.joints[0, 0, 1] - sole
    )
    turn = to_camera @ torch.linalg.matrix_exp(turned * torch.tensor([[0.0, 0, 1], [0, 0, 0], [-1, 0, 0]]))
    pose[0] = rotmat_to_rotvec(turn[None])[0]
    transl = to_camera @ pelvis_at / size - body.joint_template[0]
    return person_of(pose, transl, CAMERA, body)


def angle(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(torch.rad2deg(torch.atan2(torch.linalg.cross(one, other).norm(), one @ other)))


def lowest(world: World, people: list[Person]) -> list[float]:
    return [float(world.place(p.vertices, k)[:, 1].min()) for k, p in enumerate(people)]


@pytest.mark.parametrize("turned", [0.0, 1.2, 3.0])
def test_somebody_who_stands_tells_how_the_camera_is_held(free_body, turned: float):
    people = [standing(free_body, (0.2, 4.0), turned=turned)]
    world = world_of(people)
    assert angle(world.up, UP) < 6 and angle(torch.tensor([0.0, -1.0, 0.0]), UP) > 16
    assert math.radians(1) < world.uncertainty < math.radians(9)
    assert lowest(world, people) == pytest.approx([0.0], abs=1e-4)
    assert float(world.translation[1]) == pytest.approx(HEIGHT, abs=0.35)


def test_people_who_stand_far_apart_tell_more_than_one_does(free_body):
    people = [standing(free_body, place) for place in ((-0.6, 3.0), (0.3, 5.0), (1.5, 8.0))]
    alone, world = world_of(people[:1]), world_of(people)
    assert angle(world.up, UP) < 1.5 and world.uncertainty < alone.uncertainty / 1.5
    assert world.on_floor.all() and float(world.translation[1]) == pytest.approx(HEIGHT, abs=0.2)
    assert lowest(world, people) == pytest.approx([0.0, 0.0, 0.0], abs=1e-3)
    middle = torch.stack([world.place(p.joints, k)[0] for k, p in enumerate(people)]).mean(0)
    assert_close(middle[[0, 2]], torch.zeros(2), atol=1e-4, rtol=0)


def test_nothing_moves_in_the_picture(free_body):
    people = [standing(free_body, place) for place in ((-0.6, 3.0), (0.5, 4.5))]
    people.append(standing(free_body, (1.2, 4.0), size=0.93))
    world = world_of(people)
    assert float((world.sizes - 1).abs().max()) > 0.02
    for k, person in enumerate(people):
        seen = (world.place(person.vertices, k) - world.translation) @ world.rotation
        assert_close(CAMERA.project(seen), CAMERA.project(person.vertices), atol=5e-3, rtol=0)


def test_a_child_who_was_taken_for_an_adult_gets_its_size(free_body):
    people = [standing(free_body, place) for place in ((-0.8, 3.0), (0.0, 5.0), (1.3, 6.0))]
    people.append(standing(free_body, (0.7, 3.5), size=0.65))
    world = world_of(people)
    assert float(world.sizes[3]) == pytest.approx(0.65, abs=0.05)
    assert world.on_floor.all()
    assert_close(world.sizes[:3], torch.ones(3), atol=0.1, rtol=0)


def test_whoever_jumps_stays_in_the_air(free_body):
    people = [standing(free_body, place) for place in ((-0.8, 3.0), (0.0, 5.0), (1.3, 6.0))]
    people.append(standing(free_body, (0.7, 3.5), above=0.8))
    world = world_of(people)
    assert world.on_floor.tolist() == [True, True, True, False] and float(world.sizes[3]) == 1.0
    assert lowest(world, people)[3] == pytest.approx(0.8, abs=0.2)


def test_feet_outside_of_the_picture_say_little_of_the_floor(free_body):
    near = standing(free_body, (0.0, 1.6))
    others = [standing(free_body, (-0.6, 4.0)), standing(free_body, (0.4, 6.0))]
    wrong = near.moved(replace(near.parameters, transl=1.3 * near.transl))

    def turned(size: tuple[int, int]) -> float:
        one, other = ([replace(p, image_size=size) for p in (first, *others)] for first in (near, wrong))
        return angle(world_of(one).up, world_of(other).up)

    cut, whole = turned((640, 640)), turned((640, 1400))
    assert cut < 0.85 * whole and whole > 0.3


def test_camera_space_is_a_world_too():
    world = World.of_camera(2)
    points = torch.tensor([[0.1, 0.2, 3.0]])
    assert_close(world.place(points, 1), torch.tensor([[0.1, -0.2, -3.0]]))
    assert_close(world.T_world_camera, torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0])))
    assert math.isnan(world.uncertainty)


def test_nobody_tells_nothing():
    with pytest.raises(ValueError, match="at least one person"):
        world_of([])


def test_the_prior_counts_once_and_the_unsure_count_little():
    prior = torch.tensor([[0.1, 0.0], [0.3, 0.2]])
    told = torch.tensor([0.3, -0.1]), torch.tensor([0.06, 0.05])  # what two people told apart from the prior

    def with_prior(mean: torch.Tensor, spread: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        weight = spread**-2 + prior[1] ** -2
        return (mean * spread**-2 + prior[0] * prior[1] ** -2) / weight, weight**-0.5

    one = with_prior(*told)
    twice = together(Tilt(torch.stack([one[0]] * 2), torch.stack([one[1]] * 2)), prior)
    mean, spread = with_prior(told[0], told[1] / math.sqrt(2))
    assert_close(twice.mean, mean)
    assert_close(twice.spread, spread)
    alone = together(Tilt(one[0][None], one[1][None]), prior)
    assert_close(alone.mean, one[0])
    unsure = Tilt(torch.stack([one[0], torch.tensor([2.0, 2.0])]), torch.stack([one[1], torch.tensor([5.0, 5.0])]))
    assert_close(together(unsure, prior).mean, one[0], atol=0.02, rtol=0)


def test_a_mirrored_person_tells_the_mirrored_tilt(free_body):
    network = packaged_tilt_network()
    joints = standing(free_body, (0.4, 3.0), turned=0.7).joints[None]
    inside = torch.ones(1, 24, dtype=torch.bool)
    one, other = network.evenly(joints, inside), network.evenly(*mirrored_joints(joints, inside))
    assert_close(other.mean, one.mean * torch.tensor([1.0, -1.0]))
    assert_close(other.spread, one.spread)


def test_weights_come_back_from_their_file_and_other_files_are_refused(tmp_path: Path):
    network = packaged_tilt_network()
    save_tilt_network(tmp_path / "tilt.npz", network)
    again = load_tilt_network(tmp_path / "tilt.npz")
    for name, value in network.state_dict().items():
        assert_close(again.state_dict()[name], value)
    write_file(tmp_path / "other.npz", npz_bytes({"x": np.zeros(3)}))
    with pytest.raises(ValueError, match="no weights of the tilt network"):
        load_tilt_network(tmp_path / "other.npz")


def synthetic_folder(folder: Path, body, count: int) -> list:
    """Scenes, and in place of what the detector saw the true points."""
    scenes = [draw_scene(5, index, body, None, SceneConfig(size=256)) for index in range(count)]
    write_file(folder / "scenes" / "000000.npz", npz_bytes(pack(scenes)))
    people = []
    for scene in scenes:
        parts = [torch.from_numpy(a) for a in (scene.betas, scene.pose[:, 3:], scene.pose[:, :3], scene.transl)]
        output = body(*parts)
        points = body.keypoints_3d(output, "blazepose33")
        for k in range(len(scene)):
            rays = points[k] / points[k, :, 2:]
            hips = points[k, 23:25].mean(0)
            people.append(
                Detections(
                    pose=torch.from_numpy(scene.pose[k]),
                    betas=torch.from_numpy(scene.betas[k]),
                    pelvis=output.joints[k, 0],
                    keypoints=torch.cat([rays[:, :2], torch.ones(33, 1)], -1),
                    landmarks=points[k] - hips,
                    region=torch.tensor([0.0, 0.0, 0.5]),
                    depths=torch.zeros(17, 2),
                )
            )
    write_detections(folder, 0, "train", people[::-1])
    return scenes


def test_detected_people_are_known_again_in_their_scenes(free_body, tmp_path: Path):
    scenes = synthetic_folder(tmp_path, free_body, 3)
    people = drawn_people(tmp_path, default_reconstructor())
    assert len(people) == sum(len(scene) for scene in scenes)
    assert [p.scene.index for p in people] == sorted((p.scene.index for p in people), reverse=True)
    for person in people:
        betas = person.scene.betas[person.number]
        assert sum(np.array_equal(betas, scene.betas[k]) for scene in scenes for k in range(len(scene))) == 1
        assert_close(person.up.norm(), torch.tensor(1.0), atol=1e-5, rtol=0)
    found, drawn = examples_of(tmp_path, default_reconstructor())
    assert len(found.up) == 2 * len(people) and len(drawn.up) == len(people)
    assert_close(found.up[::2], drawn.up)
    moved = (found.joints[::2] - drawn.joints).norm(dim=-1)
    assert float(moved.median()) < 0.5  # true points, and the true camera


def test_detections_of_other_scenes_are_refused(free_body, tmp_path: Path):
    synthetic_folder(tmp_path, free_body, 2)
    other = [draw_scene(6, index, free_body, None, SceneConfig(size=256)) for index in range(2)]
    write_file(tmp_path / "scenes" / "000000.npz", npz_bytes(pack(other)))
    with pytest.raises(ValueError, match="not of its scenes"):
        drawn_people(tmp_path, default_reconstructor())


def test_training_learns_the_tilt_from_drawn_bodies(free_body):
    generator = torch.Generator().manual_seed(0)
    upright = standing(free_body, (0.0, 4.0))
    tilts = torch.randn(400, 2, generator=generator) * torch.tensor([0.25, 0.1]) + torch.tensor([0.2, 0.0])
    ups = up_of_tilt(tilts)
    turns = torch.stack([upright_rotation(up).T @ upright_rotation(UP) for up in ups])
    joints = upright.joints @ turns.mT
    examples = TiltExamples(joints, torch.ones(400, 24, dtype=torch.bool), ups)
    network = train_tilt_network(examples, examples, config=TiltConfig(width=32, steps=800, batch_size=64))
    told = network(joints, examples.inside)
    miss = (tilt_of_up(ups) - told.mean).abs()
    assert float(miss.mean()) < 0.04 < float((tilts - tilts.mean(0)).abs().mean()) / 2
    kept_back = ((tilt_of_up(ups) - network.evenly(joints, examples.inside).mean)[:40]).square().mean(0).sqrt()
    assert_close(network.evenly(joints, examples.inside).spread[:40].mean(0), kept_back, rtol=0.5, atol=0.01)
