import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import kouros
from kouros.body.keypoints import BLAZEPOSE33, COCO17
from kouros.detection import PoseDetector, find_people, landmarks_in_boxes, read_coco
from kouros.detection.model_files import packaged_models
from kouros.detection.regions import Pyramid, covering_regions

DEMO = Path(kouros.__file__).parent / "data" / "demo"
COCO_IN_BLAZEPOSE = [BLAZEPOSE33.index(name) for name in COCO17.names]


def point(person, name: str) -> np.ndarray:
    return person.keypoints_2d[BLAZEPOSE33.index(name)]


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (7, 5), (200, 200), (60, 3000)])
def test_nobody_is_found_where_nobody_is(shape: tuple[int, int]):
    assert find_people(np.full((*shape, 3), 128, dtype=np.uint8)) == []


def test_nobody_is_found_in_noise():
    assert find_people(np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)) == []


def test_a_portrait_is_one_person_whose_legs_are_not_seen(portrait: np.ndarray):
    (person,) = find_people(portrait, crops=2)
    assert person.keypoint_set == "blazepose33" and person.score > 0.5
    # Read off the picture: 512 x 600, nose at about (270, 235), her right shoulder on the image's left.
    assert np.linalg.norm(point(person, "nose")[:2] - [270, 235]) < 40
    assert point(person, "right_shoulder")[0] + 150 < point(person, "left_shoulder")[0]
    assert point(person, "nose")[2] > 0.9 and point(person, "left_ankle")[2] < 0.1
    x0, y0, x1, y1 = person.box
    assert 0 <= x0 < x1 <= 512 and 0 <= y0 < y1 <= 600
    # Camera axes: the head is above the hips (y down), the nose nearer than the ears (z forward).
    landmarks = person.landmarks_3d
    assert landmarks is not None
    assert landmarks[BLAZEPOSE33.index("nose"), 1] < -0.3
    assert landmarks[BLAZEPOSE33.index("nose"), 2] < landmarks[BLAZEPOSE33.index("left_ear"), 2]


def test_the_same_picture_gives_the_same_numbers(portrait: np.ndarray):
    first, second = (find_people(portrait, tiles=False, crops=2)[0] for _ in range(2))
    np.testing.assert_array_equal(first.keypoints_2d, second.keypoints_2d)
    np.testing.assert_array_equal(first.landmarks_3d, second.landmarks_3d)


def test_a_mirrored_picture_gives_the_mirrored_person(skier: np.ndarray):
    (person,) = find_people(skier, tiles=False)
    (mirrored,) = find_people(skier[:, ::-1], tiles=False)
    order = list(BLAZEPOSE33.mirror)
    width = skier.shape[1]
    size = np.ptp(person.keypoints_2d[:, 1])
    back = mirrored.keypoints_2d[order, :2] * [-1, 1] + [width, 0]
    assert np.linalg.norm(back - person.keypoints_2d[:, :2], axis=1).mean() < 0.02 * size
    in_space = mirrored.landmarks_3d[order] * [-1, 1, 1]
    assert np.linalg.norm(in_space - person.landmarks_3d, axis=1).mean() < 0.06


def test_margins_around_the_picture_change_little(skier: np.ndarray):
    (person,) = find_people(skier, tiles=False)
    framed = cv2.copyMakeBorder(skier, 60, 20, 30, 90, cv2.BORDER_REPLICATE)
    (moved,) = find_people(framed, tiles=False)
    shift = moved.keypoints_2d[:, :2] - person.keypoints_2d[:, :2]
    assert np.abs(np.median(shift, axis=0) - [30, 60]).max() < 3


def test_the_mask_lies_on_the_person(skier: np.ndarray):
    (person,) = find_people(skier, tiles=False, crops=1)
    mask = person.mask.in_image(*skier.shape[:2])
    assert mask.shape == skier.shape[:2]
    seen = person.keypoints_2d[COCO_IN_BLAZEPOSE]
    at_points = mask[seen[:, 1].astype(int), seen[:, 0].astype(int)]
    assert (at_points >= 128).mean() > 0.9
    np.testing.assert_array_equal(person.mask.covers(seen[:, :2]), at_points >= 128)
    assert 0.03 < (mask >= 128).mean() < 0.3
    assert person.spread_2d is None


def test_the_annotated_people_are_found_and_nobody_else(samples: Path):
    annotated = read_coco(samples / "coco_sample" / "annotations.json")
    for name, truth in annotated.items():
        image = np.asarray(Image.open(samples / "coco_sample" / name).convert("RGB"))
        found = find_people(image, crops=2)
        assert len(found) == len(truth)
        for person, true in zip(found, truth, strict=True):
            seen = true.keypoints_2d[:, 2] == 1
            apart = (person.keypoints_2d[COCO_IN_BLAZEPOSE, :2] - true.keypoints_2d[:, :2])[seen]
            size = max(true.box[2] - true.box[0], true.box[3] - true.box[1])
            assert np.median(np.linalg.norm(apart, axis=1)) < 0.06 * size


def test_tiles_find_people_whom_the_whole_image_hides(samples: Path):
    photo = np.asarray(Image.open(samples / "coco_sample" / "000000040083.jpg").convert("RGB"))
    image = cv2.copyMakeBorder(photo, 600, 1080, 1080, 840, cv2.BORDER_CONSTANT, value=(110, 120, 110))
    assert len(find_people(image, tiles=False, crops=1)) < len(find_people(image, crops=1)) == 2
    assert len(find_people(image, crops=1, max_people=1)) == 1


def test_a_crowd_is_more_than_the_six_whom_multipose_tells():
    three = cv2.resize(np.asarray(Image.open(DEMO / "people.jpg").convert("RGB")), None, fx=0.4, fy=0.4)
    row = np.concatenate([three, three[:, ::-1]], axis=1)
    crowd = np.concatenate([row, row[:, ::-1]])
    assert len(find_people(crowd, tiles=False)) <= 6 < 10 <= len(find_people(crowd)) <= 12


def test_a_box_gives_its_person(skier: np.ndarray):
    (found,) = find_people(skier, tiles=False, crops=2)
    boxes = np.array([[280.8, 44.7, 499.5, 391.4], [20.0, 300.0, 120.0, 400.0]])
    person, nobody = landmarks_in_boxes(skier, boxes, crops=2)
    apart = np.linalg.norm(person.keypoints_2d[:, :2] - found.keypoints_2d[:, :2], axis=1)
    assert apart.mean() < 10
    assert nobody.score < person.score
    assert landmarks_in_boxes(skier, np.zeros((0, 4))) == []


def test_what_is_no_rgb_picture_is_refused(skier: np.ndarray):
    for bad in (skier[..., 0], skier.astype(np.float32), np.zeros((0, 5, 3), np.uint8), skier[..., :2]):
        with pytest.raises(ValueError, match=r"expected RGB, \(height, width, 3\), uint8"):
            find_people(bad)


@pytest.mark.parametrize(
    ("option", "complaint"),
    [
        ({"crops": 0}, "crops must be 1 to 12"),
        ({"min_score": 2.0}, "min_score"),
        ({"max_people": 0}, "max_people"),
    ],
)
def test_numbers_out_of_range_are_refused(option: dict, complaint: str, skier: np.ndarray):
    with pytest.raises(ValueError, match=complaint):
        find_people(skier, **option)


@pytest.mark.parametrize(
    ("box", "complaint"),
    [([5, 5, 5, 9], "Box 1 is"), ([0, 0, np.nan, 9], "Box 1 is"), ([700, 10, 800, 90], "Box 1 lies outside")],
)
def test_impossible_boxes_are_refused(box: list[float], complaint: str, skier: np.ndarray):
    with pytest.raises(ValueError, match=complaint):
        landmarks_in_boxes(skier, np.array([[0.0, 0.0, 10.0, 10.0], box]))


def test_a_task_bundle_works_like_the_packaged_models(tmp_path: Path, portrait: np.ndarray):
    models = packaged_models()
    with zipfile.ZipFile(tmp_path / "pose.task", "w") as bundle:
        bundle.writestr("pose_detector.tflite", models.detector)
        bundle.writestr("pose_landmarks_detector.tflite", models.landmarks)
    (ours,) = find_people(portrait, crops=1, tiles=False)
    (theirs,) = find_people(portrait, crops=1, tiles=False, detector=PoseDetector(tmp_path / "pose.task"))
    np.testing.assert_array_equal(ours.keypoints_2d, theirs.keypoints_2d)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "not a .task bundle"),
        ({"pose_detector.tflite": b""}, "holds no pose_landmarks_detector.tflite"),
        ({"pose_detector.tflite": b"x", "pose_landmarks_detector.tflite": b"x"}, "cannot be loaded"),
        ("swapped", "was expected"),
    ],
)
def test_what_is_no_task_bundle_is_refused(tmp_path: Path, content: object, complaint: str):
    path = tmp_path / "pose.task"
    path.write_bytes(b"no zip")
    if content == "swapped":
        models = packaged_models()
        content = {
            "pose_detector.tflite": models.landmarks,
            "pose_landmarks_detector.tflite": models.detector,
        }
    if isinstance(content, dict):
        with zipfile.ZipFile(path, "w") as bundle:
            for name, data in content.items():
                bundle.writestr(name, data)
    with pytest.raises(ValueError, match=rf"{complaint}.*MediaPipe Pose Landmarker page of Google AI Edge"):
        PoseDetector(path)


def test_a_missing_task_bundle_says_where_there_are_some(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"no\.task.*Google AI Edge"):
        PoseDetector(tmp_path / "no.task")


_PEER = """
import json, sys
import mediapipe, numpy
from PIL import Image
found = {}
for path in sys.argv[1:]:
    image = numpy.asarray(Image.open(path).convert("RGB"))
    with mediapipe.solutions.pose.Pose(static_image_mode=True, model_complexity=1) as pose:
        result = pose.process(image)
    if result.pose_landmarks is not None:
        found[path] = [
            [[p.x * image.shape[1], p.y * image.shape[0]] for p in result.pose_landmarks.landmark],
            [[p.x, p.y, p.z] for p in result.pose_world_landmarks.landmark],
        ]
print(json.dumps(found))
"""


@pytest.mark.slow
def test_single_looks_are_those_of_mediapipe(samples: Path, detector: PoseDetector):
    """Needs the mediapipe package, here or in the Python that KOUROS_MEDIAPIPE_PYTHON names."""
    python = os.environ.get("KOUROS_MEDIAPIPE_PYTHON", sys.executable)
    photos = [str(p) for p in sorted((samples / "photos").glob("*.jpg"))]
    run = subprocess.run([python, "-c", _PEER, *photos], capture_output=True, text=True, check=False)
    if run.returncode != 0:
        pytest.skip("the mediapipe package is not importable")
    theirs = json.loads(run.stdout.splitlines()[-1])
    assert len(theirs) >= 5
    for path, (keypoints, landmarks) in theirs.items():
        image = Pyramid(np.asarray(Image.open(path).convert("RGB")))
        (whole,) = covering_regions(image.width, image.height, levels=1)
        look = detector.look(image, detector.detect(image, whole)[0].region)
        # Their pixels count from the first pixel's centre.
        apart = np.linalg.norm(look.points - 0.5 - np.array(keypoints), axis=1) / look.region.size
        # Medians: where the model wavers between two limbs, the last bit of a pixel decides.
        assert np.median(apart) < 0.005
        assert np.median(np.linalg.norm(look.metric - np.array(landmarks), axis=1)) < 0.03
