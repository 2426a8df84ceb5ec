import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kouros.detection import read_coco, read_openpose
from kouros.notes import InputWarning, collected


def openpose(*people: object) -> str:
    return json.dumps({"version": 1.2, "people": list(people)})


def person(x: float, confidence: float = 0.5) -> dict[str, list[float]]:
    return {"pose_keypoints_2d": [n for k in range(25) for n in (x + k, 10.0 * k, confidence)]}


def coco(**changes: object) -> str:
    annotation = {
        "id": 5, "image_id": 7, "category_id": 1, "iscrowd": 0, "bbox": [10, 20, 30, 40],
        "keypoints": [12, 25, 2, 14, 26, 1, 15, 30, 2, 30, 50, 2, *[0] * 39], **changes,
    }  # fmt: skip
    images = [{"id": 7, "file_name": "a.jpg"}, {"id": 8, "file_name": "b.jpg"}]
    return json.dumps({"images": images, "annotations": [annotation]})


def write(folder: Path, text: str) -> Path:
    path = folder / "keypoints.json"
    path.write_text(text)
    return path


def test_openpose_people_come_left_to_right_with_their_points(tmp_path: Path):
    first, second = read_openpose(write(tmp_path, openpose(person(300), person(100))))
    assert first.keypoint_set == "openpose25"
    np.testing.assert_allclose(first.keypoints_2d[3], [103, 30, 0.5])
    np.testing.assert_allclose(second.keypoints_2d[0], [300, 0, 0.5])
    assert first.score == pytest.approx(0.5)


def test_openpose_points_not_found_do_not_count(tmp_path: Path):
    half = person(100)
    half["pose_keypoints_2d"][15:] = [0.0] * 60
    with pytest.warns(InputWarning, match="person 1 has 0 usable points"):
        nobody = {"pose_keypoints_2d": [0.0] * 75}
        (found,) = read_openpose(write(tmp_path, openpose(half, nobody)), image_size=(640, 480))
    assert (found.keypoints_2d[5:, 2] == 0).all()
    np.testing.assert_allclose(found.box, [96, 0, 108, 44])
    assert read_openpose(write(tmp_path, openpose())) == []


def test_coco_visibility_becomes_confidence(tmp_path: Path):
    people = read_coco(write(tmp_path, coco()))
    assert list(people) == ["a.jpg", "b.jpg"] and people["b.jpg"] == []
    (found,) = people["a.jpg"]
    np.testing.assert_allclose(found.box, [10, 20, 40, 60])
    np.testing.assert_allclose(
        found.keypoints_2d[:5], [[12, 25, 1], [14, 26, 0.5], [15, 30, 1], [30, 50, 1], [0, 0, 0]]
    )


def test_coco_crowds_and_unlabelled_people_are_left_out(tmp_path: Path):
    assert read_coco(write(tmp_path, coco(iscrowd=1)))["a.jpg"] == []
    assert read_coco(write(tmp_path, coco(keypoints=[0] * 51)))["a.jpg"] == []


def test_the_annotated_people_of_the_sample(samples: Path):
    people = read_coco(samples / "coco_sample" / "annotations.json")
    assert sorted(len(found) for found in people.values()) == [1, 2]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "not JSON"),
        ("[1, 2", "not JSON"),
        ("[]", "an empty list"),
        ("{}", "an empty object"),
        ('{"people": 3}', "the keys people"),
        (openpose([1, 2]), "person 0 has no pose_keypoints_2d"),
        (openpose({"pose_keypoints_2d": []}), "person 0 has no points"),
        (openpose({"pose_keypoints_2d": [1.0] * 55}), "55 numbers"),
        (openpose({"pose_keypoints_2d": [30.0 * k for k in range(63)]}), "21 points are of no set"),
        (openpose({"pose_keypoints_2d": [30.0 * k for k in range(42)]}), "lsp14 or crowdpose14 or aic14"),
        (openpose(person(float("nan"))), "0 usable points"),
        (openpose({"pose_keypoints_2d": ["a"] * 75}), "no numbers"),
        (openpose({"pose_keypoints_2d": [0.2, 0.4, 0.9] * 25}), "scaled to the picture"),
        (openpose({"pose_keypoints_2d": [20.0, 24.0, 0.9] * 25}), "spans 0.0 pixels"),
    ],
)
def test_an_openpose_file_of_nobody_usable_is_refused_with_what_is_wrong(tmp_path: Path, text: str, complaint: str):
    with pytest.raises(ValueError, match=complaint):
        read_openpose(write(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"people": []}', "no file of COCO"),
        ('{"annotations": []}', "'images' is missing"),
        (coco(image_id=9), "its image_id is not among"),
        (coco(keypoints=[1.0] * 34), "34 numbers"),
    ],
)
def test_a_bad_coco_file_is_refused_with_what_is_wrong(tmp_path: Path, text: str, complaint: str):
    with pytest.raises(ValueError, match=complaint):
        read_coco(write(tmp_path, text))


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({}, "person 1 has no pose_keypoints_2d"),
        ({"pose_keypoints_2d": []}, "person 1 has no points"),
        ({"pose_keypoints_2d": [9.0, 9.0, 1.0, *[0.0] * 72]}, "person 1 has 1 usable points"),
        (person(float("inf")), "person 1 has 0 usable points"),
        ("?", "person 1 has no pose"),
    ],
)
def test_a_bad_person_is_left_out_by_name_and_the_others_go_on(tmp_path: Path, bad: object, said: str):
    path = write(tmp_path, openpose(person(300), bad, person(100)))
    with collected() as notes:
        first, second = read_openpose(path)
    assert first.keypoints_2d[0, 0] == 100 and second.keypoints_2d[0, 0] == 300
    (note,) = notes
    assert "keypoints.json" in note and said in note


def test_a_point_that_is_not_finite_is_a_point_not_seen(tmp_path: Path):
    broken = person(100)
    broken["pose_keypoints_2d"][:6] = [float("nan"), float("nan"), 0.0, float("nan"), 10.0, 0.9]
    with collected() as notes:
        (found,) = read_openpose(write(tmp_path, openpose(broken)))
    assert len(notes) == 1 and "without a finite place" in notes[0]
    np.testing.assert_array_equal(found.keypoints_2d[:2], np.zeros((2, 3)))
    np.testing.assert_allclose(found.keypoints_2d[2], [102, 20, 0.5])


def test_confidences_above_1_are_clipped_with_one_note(tmp_path: Path):
    with collected() as notes:
        people = read_openpose(write(tmp_path, openpose(person(100, 1.2), person(300, 3.0))))
    assert all((p.keypoints_2d[:, 2] == 1).all() for p in people)
    assert len(notes) == 1 and "(2 people)" in notes[0]


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.json"):
        read_openpose(tmp_path / "nowhere.json")


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["people", "pose_keypoints_2d", "images", "annotations", "id"]), inner)
    ),
    max_leaves=12,
)


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(JSON)
def test_no_json_makes_the_readers_fail_otherwise(tmp_path: Path, content: object):
    path = write(tmp_path, json.dumps(content))
    for read in (read_openpose, read_coco):
        try:
            read(path)
        except ValueError as error:
            assert "keypoints.json" in str(error)
