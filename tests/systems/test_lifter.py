"""The learned start: its view, its body without a mesh, its answers."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from kouros.body import BodyModel
from kouros.body.keypoints import BLAZEPOSE33, keypoint_set
from kouros.body.skeleton import JOINT_NAMES, MIRROR
from kouros.fitting.terms.calibration import BLAZEPOSE_FRAMES, detector_tables
from kouros.geometry.cameras import PerspectiveCamera
from kouros.geometry.rotations import mirror_rotmat, random_rotmat, rotvec_to_rotmat
from kouros.systems.lifter import (
    BodyPoints,
    Lifted,
    Lifter,
    LifterConfig,
    View,
    load_weights,
    look_at,
    normalised_image,
    pelvis_of,
    placement_of,
    predict,
    save_weights,
    to_slots,
    view_of,
)

COUNT = 5


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(3)


@pytest.fixture(scope="module")
def network() -> Lifter:
    return load_weights()


def _turned(rotvec: list[float]) -> Tensor:
    return rotvec_to_rotmat(torch.tensor(rotvec))


def _view(rays_3d: Tensor, **landmarks: Tensor) -> View:
    """A view of points in camera space, the later ones less trusted."""
    confidence = torch.linspace(1.0, 0.2, 33).expand(len(rays_3d), 33)
    return view_of(rays_3d[..., :2] / rays_3d[..., 2:], confidence, torch.ones_like(confidence), **landmarks)


def _person(rng: torch.Generator) -> Tensor:
    return torch.randn(COUNT, 33, 3, generator=rng) * 0.4 + torch.tensor([0.1, 0.0, 5.0])


def _camera(count: int) -> PerspectiveCamera:
    return PerspectiveCamera(torch.full((count,), 800.0), torch.tensor([320.0, 240.0]).expand(count, 2))


def _keypoints(rng: torch.Generator, points: int = 33) -> Tensor:
    xy = torch.tensor([300.0, 200.0]) + 60 * torch.randn(COUNT, points, 2, generator=rng)
    return torch.cat([xy, torch.rand(COUNT, points, 1, generator=rng)], -1)


# --- What the network sees -------------------------------------------------------------------------------------


@pytest.mark.parametrize("rotvec", [[0.3, 0.0, 0.0], [0.0, -0.5, 0.0]])
def test_turning_the_camera_about_its_centre_leaves_size_and_distances(rotvec: list[float], rng: torch.Generator):
    person = _person(rng)
    before, after = _view(person), _view(person @ _turned(rotvec).mT)
    assert_close(after.size, before.size, rtol=1e-4, atol=1e-6)
    # What remains is a roll about the line of sight, of the points as a whole.
    assert_close(after.points.norm(dim=-1), before.points.norm(dim=-1), rtol=1e-3, atol=1e-4)
    assert_close(
        torch.cdist(after.points, after.points), torch.cdist(before.points, before.points), rtol=1e-3, atol=2e-3
    )


def test_looking_at_somebody_who_stands_aside_is_as_looking_straight_at_them(rng: torch.Generator):
    ahead = _person(rng)
    middle = torch.cat([torch.zeros(COUNT, 2), torch.ones(COUNT, 1)], -1)
    straight = _view(ahead @ _view(ahead).rotation.mT)  # the virtual camera itself
    assert_close(straight.points, _view(ahead).points, rtol=1e-3, atol=1e-4)
    assert_close(straight.rotation @ middle[..., None], middle[..., None], atol=1e-3, rtol=0)


def test_rolling_the_camera_rolls_the_points(rng: torch.Generator):
    person, roll = _person(rng), _turned([0.0, 0.0, 0.8])
    before, after = _view(person), _view(person @ roll.mT)
    assert_close(after.size, before.size, rtol=1e-4, atol=1e-6)
    assert_close(after.points, before.points @ roll[:2, :2].mT, rtol=1e-3, atol=1e-3)


def test_a_longer_lens_changes_size_but_hardly_the_points_of_somebody_far_away(rng: torch.Generator):
    far = _person(rng) + torch.tensor([0.0, 0.0, 95.0])
    zoomed = far * torch.tensor([2.0, 2.0, 1.0])
    before, after = _view(far), _view(zoomed)
    assert_close(after.size, 2 * before.size, rtol=1e-2, atol=0)
    assert_close(after.points, before.points, rtol=1e-2, atol=1e-2)


def test_look_at_turns_the_direction_to_the_axis(rng: torch.Generator):
    direction = torch.nn.functional.normalize(_person(rng)[:, 0] + torch.tensor([3.0, -2.0, 0.0]), dim=-1)
    rotation = look_at(direction)
    assert_close((rotation @ direction[..., None])[..., 0], torch.tensor([0.0, 0, 1]).expand(COUNT, 3))
    assert_close(rotation @ rotation.mT, torch.eye(3).expand(COUNT, 3, 3))
    axis = torch.linalg.cross(direction, torch.tensor([0.0, 0, 1]).expand(COUNT, 3))
    assert_close((rotation @ axis[..., None])[..., 0], axis)  # smallest: the axis is perpendicular to both


def test_landmarks_with_a_nan_are_not_used(rng: torch.Generator):
    landmarks = torch.randn(COUNT, 33, 3, generator=rng) * 0.3
    landmarks[2, 5, 1] = torch.nan
    view = _view(_person(rng), landmarks=landmarks)
    assert view.has_landmarks.tolist() == [1, 1, 0, 1, 1]
    assert (view.landmarks[2] == 0).all()
    assert_close(view.landmarks[0], landmarks[0])


@pytest.mark.parametrize("set_name", ["coco17", "openpose25", "h36m17", "spin49", "blazepose33"])
def test_points_of_a_set_go_to_the_slots_of_the_same_name(set_name: str):
    names = keypoint_set(set_name).names
    keypoints = torch.arange(1.0, 1 + 3 * len(names)).view(1, len(names), 3)
    slots, filled = to_slots(keypoints, set_name)
    for slot, name in enumerate(BLAZEPOSE33.names):
        if name in names:
            assert filled[slot] == 1
            assert_close(slots[0, slot], keypoints[0, names.index(name)])
        elif not filled[slot]:
            assert (slots[0, slot] == 0).all()


def test_other_names_for_nearly_the_same_point_fill_its_slot():
    lsp, _ = to_slots(torch.rand(1, 14, 3), "lsp14")
    _, filled_lsp = to_slots(torch.rand(1, 14, 3), "lsp14")
    assert lsp.shape == (1, 33, 3)
    assert {BLAZEPOSE33.names[i] for i in filled_lsp.nonzero()[:, 0].tolist()} == {
        f"{side}_{part}"
        for side in ("left", "right")
        for part in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
    }
    names = keypoint_set("openpose25").names
    keypoints = torch.rand(1, 25, 3)
    slots, _ = to_slots(keypoints, "openpose25")
    for side in ("left", "right"):
        assert_close(slots[0, BLAZEPOSE33.index(f"{side}_foot_index")], keypoints[0, names.index(f"{side}_big_toe")])


# --- Bodies without meshes -------------------------------------------------------------------------------------


def test_body_points_are_the_body_models_and_the_detectors_offsets(free_body: BodyModel, rng: torch.Generator):
    rotations, betas = random_rotmat((COUNT, 24), rng), torch.randn(COUNT, 10, generator=rng)
    frames, joints, keypoints = BodyPoints(free_body)(rotations, betas)
    body_pose, global_orient = rotations[:, 1:], rotations[:, :1]
    expected = free_body.joint_positions(betas, body_pose, global_orient, pose2rot=False)
    pelvis = expected[:, :1]
    assert_close(joints, expected - pelvis, atol=2e-5, rtol=0)
    # Each point moved by its offset, which turns with its joint: read off the two rest poses.
    tables = free_body.keypoint_tables("blazepose33")
    marked = detector_tables(tables, "blazepose33")
    pairs = len(tables.joint)
    offset = (frames[:, marked.joint[pairs:]] @ marked.anchor[pairs:, :, None])[..., 0]
    plain = free_body.keypoint_positions("blazepose33", betas, body_pose, global_orient, pose2rot=False)
    assert_close(keypoints, plain - pelvis + offset, atol=5e-5, rtol=0)
    assert set(BLAZEPOSE_FRAMES) == {n.split("_", 1)[-1] for n in BLAZEPOSE33.names}


def test_placement_and_pelvis_are_inverse(rng: torch.Generator):
    pelvis = torch.randn(COUNT, 3, generator=rng) + torch.tensor([0.0, 0.0, 6.0])
    size = torch.rand(COUNT, generator=rng) * 0.3 + 0.05
    assert_close(pelvis_of(placement_of(pelvis, size), size), pelvis)
    origin = torch.zeros(COUNT, 1, 3)
    seen = normalised_image(origin, placement_of(pelvis, size), size)[:, 0]
    assert_close(seen, pelvis[:, :2] / pelvis[:, 2:] / size[:, None])


# --- Answers ---------------------------------------------------------------------------------------------------


def _assert_proper(found: Lifted) -> None:
    assert torch.isfinite(found.answers.vector).all() and torch.isfinite(found.spread).all()
    assert (found.answers.betas.abs() <= 3).all()
    assert (found.spread > 0).all()


def test_mirrored_keypoints_give_mirrored_bodies(network: Lifter, free_body: BodyModel, rng: torch.Generator):
    keypoints = _keypoints(rng)
    landmarks = 0.3 * torch.randn(COUNT, 33, 3, generator=rng)
    order, flip = list(BLAZEPOSE33.mirror), torch.tensor([-1.0, 1.0, 1.0])
    reflected = keypoints[:, order] * flip + torch.tensor([640.0, 0.0, 0.0])
    one = predict(network, free_body, keypoints, "blazepose33", _camera(COUNT), landmarks)
    other = predict(network, free_body, reflected, "blazepose33", _camera(COUNT), landmarks[:, order] * flip)
    best, reflected_best = one.answers[:, 0], other.answers[:, 0]
    assert_close(reflected_best.rotations, mirror_rotmat(best.rotations[:, list(MIRROR)]), atol=2e-3, rtol=0)
    assert_close(reflected_best.betas, best.betas, atol=2e-3, rtol=0)
    assert_close(other.spread, one.spread[:, list(MIRROR)], atol=2e-3, rtol=1e-3)
    assert_close(reflected_best.transl, best.transl * flip, atol=5e-3, rtol=2e-3)


def _nowhere(k: Tensor) -> Tensor:
    return torch.full_like(k, torch.nan)


def _no_confidence(k: Tensor) -> Tensor:
    return k * torch.tensor([1.0, 1.0, 0.0])


def _one_point(k: Tensor) -> Tensor:
    return torch.cat([k[:, :1], 0 * k[:, 1:]], 1)


def _all_at_one_place(k: Tensor) -> Tensor:
    return torch.cat([0 * k[..., :2] + 100, 0 * k[..., 2:] + 1], -1)


def _absurd(k: Tensor) -> Tensor:
    return k * torch.tensor([1e30, -1e30, 1e9])


def _infinite(k: Tensor) -> Tensor:
    k = k.clone()
    k[:, ::2, 0] = torch.inf
    k[:, ::3, 2] = -torch.inf
    return k


@pytest.mark.parametrize("spoil", [_nowhere, _no_confidence, _one_point, _all_at_one_place, _absurd, _infinite])
@pytest.mark.parametrize("set_name", ["blazepose33", "coco17"])
def test_every_answer_is_a_body_whatever_the_keypoints(
    spoil, set_name: str, network: Lifter, free_body: BodyModel, rng: torch.Generator
):
    keypoints = spoil(_keypoints(rng, len(keypoint_set(set_name))))
    found = predict(network, free_body, keypoints, set_name, _camera(COUNT))
    _assert_proper(found)
    few = spoil in (_nowhere, _no_confidence, _one_point)
    assert found.usable.tolist() == [not few] * COUNT


def test_an_untrained_network_answers_with_somebody_who_faces_the_camera(free_body: BodyModel, rng: torch.Generator):
    torch.manual_seed(0)
    network = Lifter(LifterConfig(width=16, blocks=1, answers=2)).eval()
    found = predict(network, free_body, _keypoints(rng), "blazepose33", _camera(COUNT))
    _assert_proper(found)
    assert found.answers.pose.shape == (COUNT, 2, 72)
    orient = found.answers[:, 0].rotations[:, 0]
    up, ahead = orient[:, :, 1], orient[:, :, 2]
    assert (up[:, 1] < 0).all()  # body's up is the image's up: y is down
    assert (ahead[:, 2] < 0).all()


def test_the_packaged_network_finds_the_person_whose_keypoints_it_is_shown(network: Lifter, free_body: BodyModel):
    """Somebody who stands facing the camera 4 m away, arms hanging: joints within 15 cm, place within a metre."""
    pose = torch.zeros(1, 24, 3)
    pose[0, 0, 0] = torch.pi
    for side, sign in (("left", -1.0), ("right", 1.0)):
        pose[0, JOINT_NAMES.index(f"{side}_shoulder"), 2] = 1.2 * sign
    rotations = rotvec_to_rotmat(pose)
    _, joints, keypoints = BodyPoints(free_body)(rotations, torch.zeros(1, 10))
    camera = _camera(1)
    pixels = camera.project(keypoints + torch.tensor([0.0, 0.0, 4.0]))
    found = predict(network, free_body, torch.cat([pixels, torch.ones(1, 33, 1)], -1), "blazepose33", camera)
    placed = found.answers[:, 0].posed_by(free_body).joints
    assert (placed - placed[:, :1] - joints).norm(dim=-1).max() < 0.15
    assert (placed[0, 0] - torch.tensor([0.0, 0.0, 4.0])).norm() < 1.0
    shown = camera.project(placed)
    size = float(pixels[..., 1].max() - pixels[..., 1].min())
    assert (shown - camera.project(joints + torch.tensor([0.0, 0.0, 4.0]))).norm(dim=-1).mean() < 0.05 * size


# --- Weights ---------------------------------------------------------------------------------------------------


def test_weights_survive_the_file_to_half_precision(tmp_path: Path, free_body: BodyModel, rng: torch.Generator):
    torch.manual_seed(1)
    network = Lifter(LifterConfig(width=24, blocks=2, answers=3)).eval()
    save_weights(tmp_path / "w.npz", network)
    again = load_weights(tmp_path / "w.npz")
    assert again.config == network.config
    assert not again.training and not any(p.requires_grad for p in again.parameters())
    keypoints = _keypoints(rng)
    one, other = (predict(n, free_body, keypoints, "blazepose33", _camera(COUNT)) for n in (network, again))
    assert_close(other.answers.rotations, one.answers.rotations, atol=5e-3, rtol=0)


def test_missing_weights_say_how_to_make_some(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="kouros train lifter"):
        load_weights(tmp_path / "none.npz")
