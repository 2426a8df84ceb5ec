"""Files of a film's people say the same motion: read back by plain readers, joints lie where they were."""

import importlib.util
import io
import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pygltflib
import pytest
import torch
from scipy.spatial.transform import Rotation

from kouros.body.parameters import Bodies, BodyParameters
from kouros.body.skeleton import JOINT_NAMES, PARENTS
from kouros.data.mocap.amass import read_amass
from kouros.export.animation import animated_glb_bytes
from kouros.export.bvh import bvh_text, joint_names
from kouros.export.glb import RiggedMesh
from kouros.export.motions import Motion
from kouros.export.tracks import amass_bytes, joints_2d, joints_csv, json_lines, trc_text, video_arrays
from kouros.geometry.cameras import PerspectiveCamera
from kouros.geometry.tilt import upright_rotation
from kouros.pipeline.upright import World
from kouros.pipeline.video import Track, Video

FRAMES, RATE = 6, 20.0
SIZE = 1.1


@pytest.fixture(scope="module")
def track(free_body) -> Track:
    """Somebody who turns all joints and wanders, over frames of which one is missing."""
    rng = torch.Generator().manual_seed(0)
    pose = 0.4 * torch.randn(1, 72, generator=rng) + 0.05 * torch.randn(FRAMES, 72, generator=rng).cumsum(0)
    pose[:, :3] += torch.tensor([3.0, 0.0, 0.0])
    betas = torch.randn(1, 10, generator=rng).expand(FRAMES, -1)
    place = torch.tensor([0.2, -0.1, 4.0]) + 0.1 * torch.randn(FRAMES, 3, generator=rng).cumsum(0)
    camera = PerspectiveCamera(torch.full((FRAMES,), 500.0), torch.full((FRAMES, 2), 160.0))
    numbers = np.array([2, 3, 4, 6, 7, 8])
    return Track(
        number=0,
        frames=numbers,
        times=numbers / RATE,
        bodies=Bodies.of(BodyParameters(pose, betas, place), camera),
        keypoints=torch.zeros(FRAMES, 33, 3),
        keypoint_set="blazepose33",
        boxes=np.tile([10.0, 10.0, 90.0, 200.0], (FRAMES, 1)),
        scores=np.full(FRAMES, 0.9),
        image_size=(320, 320),
        body=free_body,
    )


@pytest.fixture(scope="module")
def world() -> World:
    """Of a camera that looks down, and somebody larger than the body model."""
    up = torch.tensor([0.1, -0.9, -0.3])
    return World(
        upright_rotation(up / up.norm()),
        torch.tensor([0.3, 1.7, -2.0]),
        torch.tensor([SIZE]),
        torch.ones(1).bool(),
        0.1,
    )


@pytest.fixture(scope="module")
def video(track, world) -> Video:
    camera = PerspectiveCamera(torch.tensor(500.0), torch.full((2,), 160.0))
    found = Video(np.arange(10) / RATE, RATE, (320, 320), camera, (track,), True)
    found.__dict__["world"] = world  # the one that people tell is no matter here
    return found


def _glb_joints(data: bytes, time_index: int) -> np.ndarray:
    """The nodes of the skin at a key of the first animation, by plain matrices."""
    gltf = pygltflib.GLTF2.load_from_bytes(data)
    blob = gltf.binary_blob()

    def array(accessor: int) -> np.ndarray:
        a = gltf.accessors[accessor]
        width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4, "MAT4": 16}[a.type]
        start = gltf.bufferViews[a.bufferView].byteOffset
        return np.frombuffer(blob, "<f4", a.count * width, start).reshape(a.count, width)

    moved: dict[tuple[int, str], np.ndarray] = {}
    animation = gltf.animations[0]
    assert animation.name == "motion"
    for channel in animation.channels:
        sampler = animation.samplers[channel.sampler]
        moved[channel.target.node, channel.target.path] = array(sampler.output)[time_index]
        np.testing.assert_allclose(array(sampler.input)[:, 0], np.array([0, 1, 2, 4, 5, 6]) / RATE, atol=1e-6)
    parents = {child: k for k, node in enumerate(gltf.nodes) for child in node.children or []}

    def matrix(node: int) -> np.ndarray:
        n = gltf.nodes[node]
        local = np.eye(4)
        rotation = moved.get((node, "rotation"), n.rotation if n.rotation is not None else [0, 0, 0, 1])
        translation = moved.get((node, "translation"), n.translation if n.translation is not None else [0, 0, 0])
        local[:3, :3], local[:3, 3] = Rotation.from_quat(rotation).as_matrix(), translation
        return matrix(parents[node]) @ local if node in parents else local

    names = [gltf.nodes[n].name for n in gltf.skins[0].joints]
    assert names[0] == "root" and abs(matrix(gltf.skins[0].joints[0])[1, 3]) < 1e-6  # on the floor
    return np.array([matrix(n)[:3, 3] for n in gltf.skins[0].joints[1:]])


def test_an_animated_glb_moves_its_bones_to_the_joints(track, world):
    data = animated_glb_bytes([track], world, start=float(track.times[0]))
    for frame in (0, 3, 5):
        np.testing.assert_allclose(_glb_joints(data, frame), track.in_world(world)[frame], atol=2e-5)
    gltf = pygltflib.GLTF2.load_from_bytes(data)
    assert [a.name for a in gltf.animations] == ["motion", "T-pose"] and len(gltf.meshes) == len(gltf.skins) == 1
    with pytest.raises(ValueError, match="nobody"):
        animated_glb_bytes([], world)


def _bvh_joints(text: str, frame: int) -> tuple[list[str], np.ndarray]:
    """A plain reader: walks the hierarchy and multiplies matrices in the channels' order."""
    words = text.split()
    names, offsets, parents, channels = [], [], [], []
    stack: list[int] = []
    at, joint = 1, -1
    while words[at] != "MOTION":
        word = words[at]
        if word in ("ROOT", "JOINT"):
            names.append(words[at + 1])
            parents.append(stack[-1] if stack else -1)
            joint = len(names) - 1
        elif word == "End":
            joint = -1
        elif word == "{":
            stack.append(joint)
        elif word == "}":
            stack.pop()
        elif word == "OFFSET" and joint >= 0:
            offsets.append([float(w) for w in words[at + 1 : at + 4]])
        elif word == "CHANNELS":
            channels.append(words[at + 2 : at + 2 + int(words[at + 1])])
        at += 1
    count = int(words[at + 2])
    assert float(words[at + 5]) == pytest.approx(1 / RATE)
    values = np.array([float(w) for w in words[at + 6 :]]).reshape(count, -1)[frame]
    world: list[np.ndarray] = []
    used = 0
    for k, names_of in enumerate(channels):
        local = np.eye(4)
        local[:3, 3] = offsets[k]
        for name in names_of:
            step = np.eye(4)
            if name.endswith("position"):
                step["XYZ".index(name[0]), 3] = values[used]
            else:
                step[:3, :3] = Rotation.from_euler(name[0].lower(), values[used], degrees=True).as_matrix()
            local = local @ step
            used += 1
        world.append(local if parents[k] < 0 else world[parents[k]] @ local)
    return names, np.array([m[:3, 3] for m in world])


def test_a_bvh_moves_its_joints_to_the_same_places_with_the_missing_frame_in_between(track, world):
    text = bvh_text(Motion.of(track, world), RATE)
    true = track.in_world(world)
    for row, frame in ((0, 0), (4, 3), (6, 5)):
        names, joints = _bvh_joints(text, row)
        order = [JOINT_NAMES.index(name) for name in names]
        np.testing.assert_allclose(joints, true[frame][order], atol=2e-5)
    _, between = _bvh_joints(text, 3)
    assert np.linalg.norm(between - 0.5 * (true[2] + true[3])[order], axis=1).max() < 0.03
    assert "Frames: 7" in text


def test_the_names_of_a_bvh_are_those_asked_for(track, world):
    motion = Motion.of(track, world)
    assert "ROOT mixamorig:Hips" in bvh_text(motion, RATE, "mixamo")
    assert "JOINT LowerBack" in bvh_text(motion, RATE, "cmu")


def test_amass_s_form_is_read_back_as_the_same_motion(track, world, free_body, tmp_path: Path):
    path = tmp_path / "clip.person_1_poses.npz"
    path.write_bytes(amass_bytes(track, Motion.of(track, world), RATE))
    read = read_amass(path)
    assert read.frame_rate == RATE and len(read.poses) == 7
    np.testing.assert_allclose(read.betas, track.betas, atol=1e-6)
    rows = [0, 1, 2, 4, 5, 6]
    poses = torch.from_numpy(read.poses[rows])
    # AMASS moves the model in a world with z up, where it rests as it does with y up.
    rest = (free_body.joint_template[0] + free_body.joint_shapedirs[0] @ torch.from_numpy(read.betas)).numpy()
    turned = rest @ Rotation.from_euler("x", -90, degrees=True).as_matrix().T
    betas = torch.from_numpy(read.betas).expand(len(rows), -1)
    joints = free_body.joint_positions(betas, poses[:, 3:], poses[:, :3]).numpy()
    joints += (read.trans[rows] + turned - rest)[:, None]
    np.testing.assert_allclose(SIZE * joints[:, :22], track.in_world(world)[:, :22], atol=1e-4)


def test_tables_hold_the_joints_in_the_world(track, world):
    motion, true = Motion.of(track, world), track.in_world(world)
    table = [line.split(",") for line in joints_csv(track, motion, true).splitlines()]
    assert table[0][:3] == ["frame", "time", "pelvis_x"] and [row[0] for row in table[1:]] == [
        "2",
        "3",
        "4",
        "6",
        "7",
        "8",
    ]
    numbers = np.array(table[1:], dtype=float)[:, 2:].reshape(FRAMES, 2, 24, 3)
    np.testing.assert_allclose(numbers[:, 0], true, atol=1e-5)
    turns = Rotation.from_euler("XYZ", numbers[:, 1].reshape(-1, 3), degrees=True).as_matrix()
    np.testing.assert_allclose(turns.reshape(FRAMES, 24, 3, 3)[:, 1:], track.bodies.rotations[:, 1:].numpy(), atol=1e-5)
    markers = trc_text(motion, true, RATE, "a.trc").splitlines()
    assert markers[2].split("\t")[2:5] == ["6", "24", "mm"]
    np.testing.assert_allclose(np.array(markers[6].split("\t"), float)[2:].reshape(24, 3), 1e3 * true[0], atol=1e-3)


def test_lines_of_json_and_arrays_hold_every_frame_and_nothing_of_who_is_not_there(video, track):
    lines = [json.loads(line) for line in json_lines(video)]
    assert [line["frame"] for line in lines] == list(range(10))
    assert [len(line["people"]) for line in lines] == [0, 0, 1, 1, 1, 0, 1, 1, 1, 0]
    np.testing.assert_allclose(lines[6]["people"][0]["joints_3d"], track.joints[3], atol=1e-5)
    arrays = video_arrays(video)
    np.save(io.BytesIO(), arrays["joints_3d"], allow_pickle=False)
    assert arrays["seen"][:, 0].tolist() == [bool(line["people"]) for line in lines]
    np.testing.assert_allclose(arrays["joints_world"][6, 0], track.in_world(video.world)[3], atol=1e-6)
    assert np.isnan(arrays["pose"][5]).all() and not arrays["contacts"][5].any()
    camera = np.concatenate([arrays["joints_3d"][6, 0] * SIZE, np.ones((24, 1))], axis=1)
    np.testing.assert_allclose(camera @ arrays["T_world_camera"][:3].T, arrays["joints_world"][6, 0], atol=1e-5)


def test_a_motion_of_one_frame_stays_one(track, world):
    motion = Motion.of(track, world)
    one = replace(motion, times=motion.times[:1], turns=motion.turns[:1], pelvis=motion.pelvis[:1]).even(RATE)
    assert len(one.times) == len(one.turns) == 1
    assert len(PARENTS) == one.turns.shape[1]


def test_usd_has_the_joints_and_the_skin_where_they_are(track, world, tmp_path: Path):
    pxr = pytest.importorskip("pxr", reason="usd-core is not installed")
    from pxr import Usd, UsdGeom, UsdSkel

    from kouros.export.usd import usd_bytes

    path = tmp_path / "a.usd"
    path.write_bytes(usd_bytes([track], world, RATE, "mixamo", start=float(track.times[0])))
    stage = Usd.Stage.Open(str(path))
    assert UsdGeom.GetStageUpAxis(stage) == "Y" and UsdGeom.GetStageMetersPerUnit(stage) == 1
    assert (stage.GetTimeCodesPerSecond(), stage.GetStartTimeCode(), stage.GetEndTimeCode()) == (RATE, 0, 6)
    cache, root = UsdSkel.Cache(), UsdSkel.Root(stage.GetPrimAtPath("/film/person_1"))
    assert cache.Populate(root, Usd.PrimDefaultPredicate)
    skeleton = cache.GetSkelQuery(UsdSkel.Skeleton(stage.GetPrimAtPath("/film/person_1/skeleton")))
    assert list(skeleton.GetJointOrder())[1] == "mixamorig_Root/mixamorig_Hips"
    mesh = stage.GetPrimAtPath("/film/person_1/mesh")
    skinning, points = cache.GetSkinningQuery(mesh), UsdGeom.Mesh(mesh).GetPointsAttr().Get()
    for row in (0, 3, 5):
        code = round(float(track.times[row] - track.times[0]) * RATE)
        placed = np.array(skeleton.ComputeJointSkelTransforms(code))
        np.testing.assert_allclose(placed[1:, 3, :3], track.in_world(world)[row], atol=2e-5)
        moved = type(points)(points)
        assert skinning.ComputeSkinnedPoints(skeleton.ComputeSkinningTransforms(code), moved, code)
        # Without the blend shapes of the pose, which no skeleton moves, the skin is the body's to some centimetres.
        skin = world.place(track.person(row).vertices, 0).numpy()
        corners = RiggedMesh.of(track.body).source
        away = np.linalg.norm(np.array(moved) - skin[corners], axis=1)
        assert np.median(away) < 0.005 and away.max() < 0.08
    camera = UsdGeom.Camera(stage.GetPrimAtPath("/film/camera"))
    frustum = camera.GetCamera(0).frustum
    # What is in the middle of the frustum's window at a joint's place is the joint in the picture.
    view, projection = np.array(frustum.ComputeViewMatrix()), np.array(frustum.ComputeProjectionMatrix())
    at = np.append(track.in_world(world)[0, 15], 1.0) @ view @ projection
    seen = joints_2d(track)[0, 15]
    np.testing.assert_allclose((at[:2] / at[3] * [0.5, -0.5] + 0.5) * 320, seen, atol=0.01)
    assert pxr is not None
    with pytest.raises(ValueError, match="nobody"):
        usd_bytes([], world, RATE)


@pytest.mark.slow
@pytest.mark.parametrize("names", ["smpl", "mixamo", "cmu", "vrm", "unreal"])
def test_blender_sees_the_joints_where_they_are(names: str, track, world, tmp_path: Path):
    """Wants a Python with bpy, in an environment of its own: ``KOUROS_BLENDER_PYTHON=that/bin/python``."""
    python = os.environ.get("KOUROS_BLENDER_PYTHON")
    if not python:
        pytest.skip("KOUROS_BLENDER_PYTHON names no Python with bpy")
    motion, start = Motion.of(track, world), float(track.times[0])
    rig = "smpl" if names == "cmu" else names
    files = {tmp_path / "a.bvh": (bvh_text(motion, RATE, names).encode(), names)}
    files[tmp_path / "a.glb"] = animated_glb_bytes([track], world, rig, start=start), rig
    if importlib.util.find_spec("pxr") is not None:
        from kouros.export.usd import usd_bytes

        files[tmp_path / "a.usd"] = usd_bytes([track], world, RATE, rig, start=start), rig
    for path, (data, _) in files.items():
        path.write_bytes(data)
    script = Path(__file__).with_name("blender_joints.py")
    seconds = (track.times - track.times[0]).tolist()
    ran = subprocess.run(
        [python, script, str(RATE), ",".join(map(str, seconds)), *files],
        capture_output=True,
        text=True,
        check=True,
        timeout=200,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
    )
    answers = [
        json.loads(line.removeprefix("JOINTS ")) for line in ran.stdout.splitlines() if line.startswith("JOINTS")
    ]
    assert len(answers) == len(files)
    for frames, (path, (_, called)) in zip(answers, files.items(), strict=True):
        joints = [name.replace(":", "_") if path.suffix == ".usd" else name for name in joint_names(called)]
        seen = np.array([[places[name] for name in joints] for places in frames])
        np.testing.assert_allclose(seen, track.in_world(world), atol=1e-3, err_msg=path.name)
