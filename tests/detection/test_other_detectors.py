"""The same person as each detector writes them down: everywhere the same points come out."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kouros.body.keypoints import COCO17, KEYPOINT_SETS, OPENPOSE25
from kouros.body.layouts import LAYOUTS, Layout, layout
from kouros.detection import read_keypoints
from kouros.notes import collected

SIZE = (640, 480)
WHERE = {
    name: (40.0 + 37.0 * k % 500, 30.0 + 23.0 * k % 400)
    for k, name in enumerate(dict.fromkeys(n for s in KEYPOINT_SETS.values() for n in s.names))
}
"""A place in the picture for each point there is."""


def rows_of(known: Layout, confidence: float = 0.5) -> list[list[float]]:
    return [[*WHERE[n], confidence] if n else [1.0, 2.0, confidence] for n in known.points]


def flat(known: Layout, confidence: float = 0.5) -> list[float]:
    return [n for row in rows_of(known, confidence) for n in row]


def assert_found(path: Path, known: Layout, confidence: float = 0.5, **options: Any) -> None:
    (image,) = read_keypoints(path, **options)
    (person,) = image.people
    assert person.keypoint_set == known.target.name
    for name, row in zip(known.target.names, person.keypoints_2d, strict=True):
        expected = (*WHERE[name], confidence) if name in known.points else (0, 0, 0)
        np.testing.assert_allclose(row, expected, atol=1e-3, err_msg=name)


def written(folder: Path, content: object) -> Path:
    path = folder / "keypoints.json"
    path.write_text(json.dumps(content))
    return path


BODY25, BODY25B, COCO18, MPI15 = (LAYOUTS[n] for n in ("openpose25", "body25b", "coco18", "mpi15"))
COCO, WHOLE = LAYOUTS["coco17"], LAYOUTS["coco_wholebody133"]
HANDS = {"hand_left_keypoints_2d": [1.0] * 63, "hand_right_keypoints_2d": [1.0] * 63, "face_keypoints_2d": [1.0] * 210}


@pytest.mark.parametrize("known", [BODY25, COCO18, MPI15, LAYOUTS["body19"]], ids=lambda known: known.name)
@pytest.mark.parametrize("key", ["pose_keypoints_2d", "pose_keypoints"])
def test_openpose_models_are_told_apart_by_their_points(tmp_path: Path, known: Layout, key: str):
    people = [{"person_id": [-1], key: flat(known), **HANDS, "pose_keypoints_3d": []}]
    assert_found(written(tmp_path, {"version": 1.1, "people": people}), known)


def test_body_25b_is_read_when_it_is_named(tmp_path: Path):
    path = written(tmp_path, {"version": 1.3, "people": [{"pose_keypoints_2d": flat(BODY25B)}]})
    assert_found(path, BODY25B, keypoint_set="body25b")


def test_coco_results_with_float_ids_and_scores_and_nested_triples(tmp_path: Path):
    for keypoints in (flat(COCO), rows_of(COCO)):
        rows = [{"image_id": 785.0, "category_id": 1.0, "keypoints": keypoints, "score": 0.9}]
        assert_found(written(tmp_path, rows), COCO)
    content = {
        "images": [{"id": 1.0, "file_name": "a.jpg", "width": 640.0, "height": 480}],
        "annotations": [{"id": 3, "image_id": 1, "keypoints": rows_of(COCO)}],
    }
    path = written(tmp_path, content)
    assert_found(path, COCO)
    (image,) = read_keypoints(path)
    assert (image.name, image.size) == ("a.jpg", SIZE)


def test_whole_bodies_give_their_first_23_points(tmp_path: Path):
    feet = rows_of(LAYOUTS["coco_wholebody23"], 2)[17:]
    row = {"image_id": 1, "keypoints": flat(COCO, 2), "foot_kpts": [n for p in feet for n in p], "face_kpts": [0] * 204}
    content = {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [row]}
    assert_found(written(tmp_path, content), LAYOUTS["coco_wholebody23"], 1.0)
    assert_found(written(tmp_path, [{"image_id": 1, "category_id": 1, "keypoints": flat(WHOLE), "score": 1}]), WHOLE)


def _mmpose(known: Layout) -> dict[str, Any]:
    rows = rows_of(known)
    box = {"bbox": [[30.0, 20.0, 560.0, 440.0]], "bbox_score": 0.98}
    return {"keypoints": [r[:2] for r in rows], "keypoint_scores": [r[2] for r in rows], **box}


@pytest.mark.parametrize("known", [COCO, LAYOUTS["halpe26"], WHOLE, LAYOUTS["h36m17"]], ids=lambda known: known.name)
def test_mmpose_and_rtmpose_predictions(tmp_path: Path, known: Layout):
    options = {"keypoint_set": known.name} if known.name == "h36m17" else {}
    for content in (
        [_mmpose(known)],
        [[_mmpose(known)]],
        [{"frame_id": 0, "instances": [_mmpose(known)]}],
        {"meta_info": {"dataset_name": "x"}, "instance_info": [_mmpose(known)]},
        {"meta_info": {}, "instance_info": [{"frame_id": 1, "instances": [_mmpose(known)]}]},
    ):
        assert_found(written(tmp_path, content), known, **options)
    (image,) = read_keypoints(written(tmp_path, [_mmpose(known)]), **options)
    np.testing.assert_array_equal(image.people[0].box, [30, 20, 560, 440])


def test_frames_of_mmpose_are_pictures_of_their_own(tmp_path: Path):
    frames = [{"frame_id": k, "instances": [_mmpose(COCO)] * k} for k in range(3)]
    images = read_keypoints(written(tmp_path, frames))
    assert [(i.name, len(i.people)) for i in images] == [("frame_000000", 0), ("frame_000001", 1), ("frame_000002", 2)]


def test_alphapose_results_by_names_of_pictures(tmp_path: Path):
    halpe = LAYOUTS["halpe136"]
    row = {"category_id": 1, "score": 3.1, "box": [30.0, 20.0, 500.0, 400.0], "idx": [0.0]}
    rows = [{"image_id": f"{k}.jpg", "keypoints": flat(halpe), **row} for k in (1, 0)]
    images = read_keypoints(written(tmp_path, rows))
    assert [image.name for image in images] == ["1.jpg", "0.jpg"]
    assert_found(written(tmp_path, rows[:1]), halpe)
    assert_found(written(tmp_path, {"version": 0.1, "bodies": [{"joints": flat(COCO)}]}), COCO)


def test_mediapipe_landmarks_are_shares_of_the_picture(tmp_path: Path):
    known = LAYOUTS["blazepose33"]
    points = [{"x": x / SIZE[0], "y": y / SIZE[1], "z": 0.1, "visibility": c} for x, y, c in rows_of(known)]
    for content in (
        {"landmarks": [points], "worldLandmarks": [points]},
        {"pose_landmarks": [points]},
        {"poseLandmarks": points},
        {"landmark": points},
        [points],
        points,
    ):
        assert_found(written(tmp_path, content), known, image_size=SIZE)
    with pytest.raises(ValueError, match="--image-size"):
        read_keypoints(written(tmp_path, points))


def test_yolo_pose_in_pixels_and_normalised(tmp_path: Path):
    x, y, seen = (list(column) for column in zip(*rows_of(COCO), strict=True))
    box = {"x1": 30.0, "y1": 20.0, "x2": 560.0, "y2": 440.0}
    row = {"name": "person", "class": 0, "confidence": 0.9, "box": box, "keypoints": {"x": x, "y": y, "visible": seen}}
    assert_found(written(tmp_path, [row]), COCO)
    lost = {"x": [*x[:-1], 0.0], "y": [*y[:-1], 0.0], "visible": seen}  # a point that was not found is at the corner
    ((person,),) = (image.people for image in read_keypoints(written(tmp_path, [{**row, "keypoints": lost}])))
    assert person.keypoints_2d[-1].tolist() == [0, 0, 0] and (person.keypoints_2d[:-1, 2] > 0).all()
    wide = {"x": [v / SIZE[0] for v in x], "y": [v / SIZE[1] for v in y], "visible": seen}
    shares = {"x1": 0.1, "y1": 0.1, "x2": 0.9, "y2": 0.9}
    assert_found(written(tmp_path, [{**row, "box": shares, "keypoints": wide}]), COCO, image_size=SIZE)


def test_easymocap_annotations_know_their_size(tmp_path: Path):
    annots = [
        {"bbox": [30.0, 20.0, 560.0, 440.0, 0.9], "personID": 0, "keypoints": rows_of(BODY25), "isKeyframe": False}
    ]
    path = written(tmp_path, {"filename": "images/1/000000.jpg", "height": 480, "width": 640, "annots": annots})
    assert_found(path, BODY25)
    assert read_keypoints(path)[0].size == SIZE


def test_tables_like_deeplabcuts(tmp_path: Path):
    parts = {"leftShoulder": "left_shoulder", "right-shoulder": "right_shoulder", "Left Hip": "left_hip"}
    parts |= {"right_hip": "right_hip", "nose": "nose", "tail": None}
    known = Layout("x", tuple(name for name in parts.values() if name), COCO17)
    cells = [[repr(c) for c in (*(WHERE[name] if name else (1.0, 2.0)), 0.5)] for name in parts.values()]
    lines = [
        ",".join(["scorer", *["net"] * 18]),
        ",".join(["bodyparts", *(part for part in parts for _ in range(3))]),
        ",".join(["coords", *["x", "y", "likelihood"] * 6]),
        ",".join(["0", *(cell for row in cells for cell in row)]),
        ",".join(["1", *[""] * 18]),
    ]
    path = tmp_path / "video.csv"
    path.write_text("\n".join(lines))
    with collected() as notes:
        first, second = read_keypoints(path)
    assert "tail" in notes[0] and not second.people
    (person,) = first.people
    for name in known.points:
        np.testing.assert_allclose(person.keypoints_2d[KEYPOINT_SETS[person.keypoint_set].index(name), :2], WHERE[name])


def test_what_kouros_writes_it_reads(tmp_path: Path, free_body):
    import kouros
    from kouros.export.people import world_in
    from kouros.export.results import json_bytes, npz_bytes

    points = np.array(rows_of(COCO)) * (1, 1, 2)
    with collected():
        people = kouros.fit(points, "coco17", image_size=SIZE)
    world = world_in("world", people)
    (tmp_path / "a.json").write_bytes(json_bytes(people, world))
    (tmp_path / "a.npz").write_bytes(npz_bytes(people, world))
    for name in ("a.json", "a.npz"):
        assert_found(tmp_path / name, COCO, 1.0)
        assert read_keypoints(tmp_path / name)[0].size == SIZE


@pytest.mark.parametrize("name", ["crowdpose14", "aic14", "ochuman17"])
def test_sets_of_other_data_are_named(tmp_path: Path, name: str):
    path = written(tmp_path, [{"image_id": 1, "category_id": 1, "keypoints": flat(LAYOUTS[name]), "score": 1.0}])
    assert_found(path, LAYOUTS[name], keypoint_set=name)


@pytest.mark.parametrize("suffix", [".toml", ".json"])
def test_a_set_of_ones_own_names_its_points_by_ours(tmp_path: Path, suffix: str):
    names = ["left_knee", "", "right_knee", "left_hip", "right_hip", "left_big_toe"]
    own = tmp_path / f"own{suffix}"
    own.write_text(json.dumps({"points": names}) if suffix == ".json" else f"points = {json.dumps(names)}")
    known = layout(own)
    assert known.target is OPENPOSE25
    path = written(tmp_path, {"people": [{"pose_keypoints_2d": flat(known)}]})
    assert_found(path, known, keypoint_set=own)
    with pytest.raises(ValueError, match="has 6 points; coco17 has 17"):
        read_keypoints(path, keypoint_set="coco17")


@pytest.mark.parametrize(
    ("points", "said"),
    [
        (["left_knee", "patella"], "no point patella"),
        (["nose", "nose"], "named twice"),
        (["nose", "left_hip"], "needs four"),
        ("nose", "expected points"),
    ],
)
def test_a_bad_set_of_ones_own_is_explained(tmp_path: Path, points: object, said: str):
    own = tmp_path / "own.json"
    own.write_text(json.dumps({"points": points}))
    with pytest.raises(ValueError, match=said):
        layout(own)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([{"joints": [1, 2]}], "a list of 1 dict; the first has the keys joints"),
        ({"frames": {}}, "an object with the keys frames"),
        (3, "a single int"),
    ],
)
def test_other_files_are_told_what_they_look_like_and_what_is_read(tmp_path: Path, content: object, said: str):
    with pytest.raises(ValueError, match=said) as refused:
        read_keypoints(written(tmp_path, content))
    assert "Read are OpenPose" in str(refused.value)
