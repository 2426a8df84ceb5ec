"""Motion capture: toy files in the documented formats, and CMU's files against their published conversion."""

import pickle

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from kouros.body.skeleton import JOINT_NAMES, PARENTS
from kouros.data.mocap.aist import import_aist, read_aist
from kouros.data.mocap.amass import import_amass, read_amass
from kouros.data.mocap.asf_amc import INCH, bone_rotations, read_amc, read_asf
from kouros.data.mocap.cmu import import_cmu, read_cmu
from kouros.data.mocap.motion import Motion, read_motion, write_motion
from kouros.data.schema import DatasetError

ASF = """# a comment
:version 1.10
:name VICON
:units
  mass 1.0
  length 0.45
  angle deg
:documentation
   begin at the beginning
:root
   order TX TY TZ RX RY RZ
   axis XYZ
   position 0 0 0
   orientation 0 0 0
:bonedata
  begin
     id 1
     name stem
     direction 0 1 0
     length 4.5
     axis 0 0 0  XYZ
  end
  begin
     id 2
     name arm
     direction 1 0 7.62852e-016
     length 9.0
     axis 0 0 90   XYZ
    dof rx
    limits (-160.0 20.0)
  end
  begin
     id 3
     name hand
     direction 0 0 1
     length 0.9
     axis 0 0 0 XYZ
    dof rx ry rz
    limits (-1 1)
           (-1 1)
           (-1 1)
  end
:hierarchy
  begin
    root stem
    stem arm
    arm hand
  end
"""
AMC = """#!OML:ASF somewhere
:FULLY-SPECIFIED
:DEGREES
1
root 0 0 0 0 0 0
arm 0
hand 0 0 0
2
root 4.5 0 0 0 0 3.64024e-015
arm 90
hand 0 0 0
3
root 0 0 0 0 90 0
arm 0
hand 0 0 90
"""


def acclaim(folder, asf: str = ASF, amc: str = AMC):
    (folder / "01.asf").write_bytes(asf.replace("\n", "\r\n").encode())
    (folder / "01_01.amc").write_text(amc)
    return folder / "01.asf", folder / "01_01.amc"


def test_rest_pose_is_the_sum_of_directions_times_lengths(tmp_path):
    asf, amc = acclaim(tmp_path)
    skeleton = read_asf(asf)
    _, places = bone_rotations(skeleton, read_amc(amc, skeleton))
    unit = INCH / 0.45
    assert [b.name for b in skeleton.bones] == ["stem", "arm", "hand"] and skeleton.bone("stem").dof == ()
    np.testing.assert_allclose(places["stem"][0], [0, 4.5 * unit, 0])
    np.testing.assert_allclose(places["arm"][0], [9 * unit, 4.5 * unit, 0], atol=1e-12)
    np.testing.assert_allclose(places["hand"][0], [9 * unit, 4.5 * unit, 0.9 * unit], atol=1e-12)


def test_bones_turn_about_their_own_axes_and_the_root_moves_all(tmp_path):
    asf, amc = acclaim(tmp_path)
    skeleton = read_asf(asf)
    turns, places = bone_rotations(skeleton, read_amc(amc, skeleton))
    unit = INCH / 0.45
    # The arm's x axis, turned by 90 degrees about z, is the world's y: 90 degrees about it take x to -z.
    np.testing.assert_allclose(places["arm"][1], [4.5 * unit, 4.5 * unit, -9 * unit], atol=1e-12)
    np.testing.assert_allclose(places["hand"][1], [5.4 * unit, 4.5 * unit, -9 * unit], atol=1e-12)
    # The root's quarter turn about y takes x to -z and z to x; the hand then turns about its own z.
    np.testing.assert_allclose(places["arm"][2], [0, 4.5 * unit, -9 * unit], atol=1e-12)
    np.testing.assert_allclose(turns["hand"][2].apply([0, 0, 1]), [1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(turns["hand"][2].apply([1, 0, 0]), [0, 1, 0], atol=1e-12)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("arm 90", "arm 90 1", "line 10: arm has 2 numbers; expected 1"),
        ("arm 90", "leg 90", "line 10: leg has 1 numbers; expected no such bone"),
        ("arm 90", "arm ninety", "line 10: 'arm ninety' is not all numbers"),
        ("hand 0 0 90\n", "", "frame 3 lacks bones"),
        (AMC[AMC.index("1\n") :], "", "there are no frames"),
    ],
)
def test_broken_motions_are_explained(tmp_path, old: str, new: str, message: str):
    asf, amc = acclaim(tmp_path, amc=AMC.replace(old, new))
    with pytest.raises(DatasetError, match=message):
        read_amc(amc, read_asf(asf))


@pytest.mark.parametrize("text", ["", "hello", ASF.replace("length 9.0", ""), ASF.replace("stem arm", "")])
def test_broken_skeletons_are_explained(tmp_path, text: str):
    asf, _ = acclaim(tmp_path, asf=text)
    with pytest.raises(DatasetError, match="no ASF skeleton"):
        read_asf(asf)


def test_a_skeleton_that_is_not_cmus_is_listed(tmp_path):
    acclaim(tmp_path)
    with pytest.raises(DatasetError, match="bones that this one lacks: head, lclavicle"):
        import_cmu(tmp_path, tmp_path / "out")
    with pytest.raises(DatasetError, match=r"expected subjects/01/01.asf and"):
        import_cmu(tmp_path / "out", tmp_path / "out2")


@pytest.mark.samples
@pytest.mark.parametrize("trial", ["02_01", "02_03"])
def test_cmu_trials_match_their_published_conversion(samples, trial: str):
    raw = samples / "mocap/raw"
    motion = read_cmu(raw / f"{trial}.amc", raw / "02.asf", head_pitch=-13.39).every(4)
    expected = read_motion(samples / f"mocap/sequences/cmu_{trial}.npz")
    assert motion.frame_rate == expected.frame_rate == 30
    np.testing.assert_allclose(motion.trans, expected.trans, atol=1e-5)
    rotations = [Rotation.from_rotvec(m.poses.reshape(-1, 3)) for m in (motion, expected)]
    degrees = np.degrees((rotations[0].inv() * rotations[1]).magnitude()).reshape(-1, 24).max(axis=0)
    feet = [j for j, name in enumerate(JOINT_NAMES) if "ankle" in name or "foot" in name]
    assert degrees[feet].max() < 2.5  # the conversion rests both feet alike, this importer as the file has each
    assert np.delete(degrees, feet).max() < 0.02


@pytest.mark.samples
def test_limbs_of_a_retargeted_trial_point_where_cmus_do(samples):
    raw = samples / "mocap/raw"
    motion = read_cmu(raw / "02_03.amc", raw / "02.asf")
    skeleton = read_asf(raw / "02.asf")
    turns, _ = bone_rotations(skeleton, read_amc(raw / "02_03.amc", skeleton))
    local = Rotation.from_rotvec(motion.poses.reshape(-1, 3)).as_matrix().reshape(-1, 24, 3, 3)
    world = [local[:, 0]]
    for joint in range(1, 24):
        world.append(world[PARENTS[joint]] @ local[:, joint])
    for side, s, out in (("left", "l", 1.0), ("right", "r", -1.0)):
        for joint, bone, rest in (
            ("hip", "femur", [0, -1.0, 0]),
            ("knee", "tibia", [0, -1.0, 0]),
            ("shoulder", "humerus", [out, 0, 0]),
            ("elbow", "radius", [out, 0, 0]),
        ):
            ours = world[JOINT_NAMES.index(f"{side}_{joint}")] @ rest
            theirs = turns[s + bone].apply(skeleton.bone(s + bone).direction)
            np.testing.assert_allclose(ours, theirs, atol=1e-5, err_msg=f"{side} {joint}")


@pytest.mark.samples
def test_cmu_folder_is_converted_thinned_and_resumed(samples, tmp_path):
    report = import_cmu(samples / "mocap/raw", tmp_path)
    assert (report.rows, report.problems, report.resumed_units) == (86 + 44, (), 0)
    assert read_motion(tmp_path / "cmu_02_01.npz").frame_rate == 30
    (tmp_path / "cmu_02_03.npz").unlink()
    assert import_cmu(samples / "mocap/raw", tmp_path).resumed_units == 1


def toy_motion() -> Motion:
    rng = np.random.default_rng(0)
    return Motion(
        poses=rng.normal(0, 1, (9, 72)).astype(np.float32),
        trans=rng.normal(0, 1, (9, 3)).astype(np.float32),
        frame_rate=120.0,
        valid=np.arange(9) != 4,
        betas=np.arange(10, dtype=np.float32),
        gender="female",
        label="walk",
        license="free",
    )


def test_motions_come_back_as_written(tmp_path):
    motion = toy_motion()
    write_motion(tmp_path / "a/m.npz", motion)
    again = read_motion(tmp_path / "a/m.npz")
    for name in ("poses", "trans", "valid", "betas"):
        np.testing.assert_array_equal(getattr(again, name), getattr(motion, name))
    assert (again.frame_rate, again.gender, again.label, again.license) == (120, "female", "walk", "free")
    assert again.subject is None


@pytest.mark.parametrize(("wanted", "frames", "rate"), [(30, 3, 30), (50, 5, 60), (25, 3, 30), (500, 9, 120)])
def test_thinning_leaves_out_whole_frames(wanted: float, frames: int, rate: float):
    thin = toy_motion().at_most(float(wanted))
    assert len(thin.poses) == len(thin.trans) == len(thin.valid) == frames and thin.frame_rate == rate


def test_impossible_motions_are_refused(tmp_path):
    with pytest.raises(DatasetError, match=r"expected \(frames, 72\)"):
        Motion(np.zeros((2, 156)), np.zeros((2, 3)), 30.0)
    with pytest.raises(DatasetError, match="not finite"):
        Motion(np.full((2, 72), np.nan), np.zeros((2, 3)), 30.0)
    with pytest.raises(DatasetError, match="frame rate of 0"):
        Motion(np.zeros((2, 72)), np.zeros((2, 3)), 0.0)
    np.savez(tmp_path / "x.npz", poses=np.zeros((2, 72)))
    with pytest.raises(DatasetError, match="has no trans, mocap_framerate"):
        read_motion(tmp_path / "x.npz")


@pytest.mark.samples
def test_the_projects_own_clips_are_read(samples):
    motion = read_motion(samples / "mocap/sequences/cmu_55_01.npz")
    assert motion.poses.shape == (451, 72) and motion.subject == "cmu55"
    assert 0.5 < motion.trans[:, 1].mean() < 1.3  # a pelvis' height, y up


def amass(path, frames: int = 8, **changes):
    rng = np.random.default_rng(0)
    arrays = {
        "poses": rng.normal(0, 0.3, (frames, 156)),
        "trans": np.tile([1.0, 2.0, 0.9], (frames, 1)),
        "betas": np.arange(16.0),
        "dmpls": np.zeros((frames, 8)),
        "gender": np.array("male"),
        "mocap_framerate": np.array(120.0),
    } | changes
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{k: v for k, v in arrays.items() if v is not None})
    return arrays


@pytest.mark.parametrize("gender", [np.array("female"), np.array(b"female")])
def test_amass_stands_upright_with_hands_at_rest(tmp_path, gender: np.ndarray):
    arrays = amass(tmp_path / "CMU/01/01_01_poses.npz", gender=gender)
    motion = read_amass(tmp_path / "CMU/01/01_01_poses.npz")
    assert (motion.gender, motion.subject, motion.label) == ("female", "CMU/01", "01_01")
    np.testing.assert_allclose(motion.trans[0], [1, 0.9, -2], atol=1e-6)  # height is now y
    np.testing.assert_allclose(motion.poses[:, 3:66], arrays["poses"][:, 3:66], rtol=1e-6)
    assert (motion.poses[:, 66:] == 0).all()
    # What pointed up along z points up along y.
    before, after = (Rotation.from_rotvec(p[:, :3]) for p in (arrays["poses"], motion.poses))
    np.testing.assert_allclose(before.apply([0, 0, 1])[:, 2], after.apply([0, 0, 1])[:, 1], atol=1e-6)
    assert motion.betas.tolist() == list(range(10))


def test_amass_folders_are_kept_broken_files_listed_and_shapes_passed_over(tmp_path):
    amass(tmp_path / "amass/A/s1/walk_poses.npz")
    amass(tmp_path / "amass/A/s2/run_poses.npz", mocap_framerate=None)
    amass(tmp_path / "amass/A/s3/jump_stageii.npz", mocap_framerate=None, mocap_frame_rate=np.array(60.0))
    np.savez(tmp_path / "amass/A/s1/shape.npz", betas=np.zeros(16))
    report = import_amass(tmp_path / "amass", tmp_path / "out")
    assert sorted(p.relative_to(report.table).as_posix() for p in report.table.rglob("*.npz")) == [
        "A/s1/walk_poses.npz",
        "A/s3/jump_stageii.npz",
    ]
    assert report.rows == 2 + 4
    assert len(report.problems) == 1 and "s2/run_poses.npz" in report.problems[0].where
    with pytest.raises(DatasetError, match=r"AMASS: expected <Subset>/<subject>/<motion>_poses.npz in"):
        import_amass(tmp_path / "out2", tmp_path / "out")


def test_aist_of_either_shape_is_the_same_motion_in_metres(tmp_path):
    poses = np.random.default_rng(0).normal(0, 0.3, (4, 72))
    motions = []
    for shape in ((4, 72), (4, 24, 3)):
        content = {
            "smpl_poses": poses.reshape(shape),
            "smpl_scaling": np.array([90.0]),
            "smpl_trans": np.full((4, 3), 180.0),
            "smpl_loss": 0.1,
        }
        (tmp_path / "x.pkl").write_bytes(pickle.dumps(content, protocol=3))
        motions.append(read_aist(tmp_path / "x.pkl"))
    np.testing.assert_array_equal(motions[0].poses, motions[1].poses)
    assert (motions[0].trans == 2).all() and motions[0].frame_rate == 60 and motions[0].gender == "male"


def test_aist_ignores_what_its_list_ignores(tmp_path):
    (tmp_path / "motions").mkdir()
    content = {"smpl_poses": np.zeros((2, 72)), "smpl_scaling": np.ones(1), "smpl_trans": np.zeros((2, 3))}
    for name in ("good", "bad"):
        (tmp_path / f"motions/{name}.pkl").write_bytes(pickle.dumps(content))
    (tmp_path / "ignore_list.txt").write_text("bad\n")
    import_aist(tmp_path, tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["good.npz"]
