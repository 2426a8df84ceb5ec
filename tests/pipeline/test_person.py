"""A person as a small value: pickled, compared, printed, written and read again; and what it says of itself."""

import json
import pickle
import re
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.export.conftest import posed_person
from torch.testing import assert_close

from kouros.body.files import FREE_BODY, shared_body
from kouros.body.joint_angles import ANGLE_NAMES
from kouros.body.skeleton import JOINT_NAMES
from kouros.data.synthetic.scenes import SceneConfig, draw_scene
from kouros.export.results import csv_bytes, npz_bytes
from kouros.pipeline.expected_errors_fit import angle_between, errors_of
from kouros.pipeline.person import Person, Reprojection
from kouros.pipeline.upright import World
from kouros.pipeline.upright_training import DrawnPerson
from kouros.systems.estimator import Estimate, PersonInPhoto


@pytest.fixture
def person() -> Person:
    found = replace(posed_person(shared_body(), 4), reprojection=Reprojection(3.5, 0.02), distance_spread=0.11)
    return replace(found, estimate=Estimate(uncertainty=torch.linspace(0.03, 0.3, 24)))


def test_a_pickle_is_small_and_has_the_same_body(person: Person):
    assert person.vertices.shape == (7000, 3)  # what was computed is not carried along
    data = pickle.dumps(person)
    assert len(data) < 8_000
    again = pickle.loads(data)
    assert again == person and again.body is person.body
    assert_close(again.vertices, person.vertices)


def test_a_body_that_is_in_no_file_goes_along(person: Person):
    assert person.body.origin == FREE_BODY
    made = deepcopy(person.body)
    made.origin = None
    again = pickle.loads(pickle.dumps(replace(person, body=made)))
    assert_close(again.vertices, person.vertices)
    assert again != person  # of another model


def test_people_are_equal_whose_numbers_are(person: Person):
    same = replace(person, parameters=person.parameters.map(torch.clone))
    assert same == person and hash(same) == hash(person) and len({same, person}) == 1
    moved = person.moved(replace(person.parameters, transl=person.transl + 1e-6))
    assert moved != person and replace(person, score=0.5) != person and person != "person"


def test_one_line_says_who_it_is(person: Person):
    assert re.fullmatch(r"Person\(score 0\.90, box 120 50 380 350, \d\.\d m away, 3\.5 px off\)", repr(person))


def test_a_dictionary_is_plain_and_complete(person: Person):
    known = json.loads(json.dumps(person.to_dict(), allow_nan=False))
    assert known["image_size"] == [640, 480] and known["body"] == "free body"
    assert known["transl"] == pytest.approx(person.transl.tolist(), abs=1e-5)
    assert known["measurements"]["stature"]["metres"] == pytest.approx(person.measurements.stature, abs=1e-5)
    assert known["measurements"]["waist_girth"]["expected_error"] > 0.03
    for joint, names in ANGLE_NAMES.items():
        assert list(known["joint_angles"][joint]) == list(names)


def test_a_results_file_gives_the_same_people(person: Person, tmp_path: Path):
    other = replace(posed_person(shared_body(), 5), keypoint_set="openpose25", keypoints_detected=torch.rand(25, 3))
    (tmp_path / "photo.npz").write_bytes(npz_bytes([person, other], World.of_camera(2)))
    again = Person.from_npz(tmp_path / "photo.npz")
    assert again == [person, other]
    assert again[0].reprojection.share == pytest.approx(0.02) and again[1].reprojection is None
    assert again[1].uncertainty is None and again[1].distance_spread is None


def test_another_file_is_no_people(tmp_path: Path):
    (tmp_path / "a.npz").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"a\.npz holds no people of kouros"):
        Person.from_npz(tmp_path / "a.npz")
    with pytest.raises(OSError):
        Person.from_npz(tmp_path / "missing.npz")


def test_a_table_has_measurements_and_angles_with_their_errors(person: Person):
    header, row = (line.split(",") for line in csv_bytes([person]).decode().splitlines())
    known = dict(zip(header, row, strict=True))
    assert float(known["hip_girth_m"]) == pytest.approx(person.measurements.hip_girth, abs=1e-5)
    assert float(known["left_knee_flexion_deg"]) == pytest.approx(person.joint_angles["left_knee"]["flexion"], abs=1e-4)
    error = person.joint_angle_errors["left_knee"]["flexion"]
    assert float(known["left_knee_flexion_deg_error"]) == pytest.approx(error, abs=1e-4)


def test_whose_joints_are_less_certain_has_less_certain_angles(person: Person):
    sure, unsure = (
        replace(person, estimate=Estimate(uncertainty=torch.full((24,), metres))).joint_angle_errors
        for metres in (0.03, 0.3)
    )
    for joint in ("left_knee", "right_hip", "left_elbow"):
        assert 1 < sure[joint]["flexion"] < 0.6 * unsure[joint]["flexion"]
    nobody_says = replace(person, estimate=Estimate()).joint_angle_errors
    assert sure["left_knee"]["flexion"] < nobody_says["left_knee"]["flexion"] < unsure["left_knee"]["flexion"]


def test_expected_errors_are_those_of_drawn_people(person: Person):
    scene = draw_scene(0, 0, person.body, None, SceneConfig(most_people=1))
    seen = PersonInPhoto(None, (224, 224), np.array([112.0, 112.0]), 224.0, np.array([0.0, 0.0, 224.0, 224.0]))
    pairs = []
    for k in range(8):
        metres = 0.05 * (k + 1)
        estimate = Estimate(uncertainty=torch.full((24,), metres))
        found = replace(person.moved(replace(person.parameters, pose=torch.zeros(72))), estimate=estimate)
        pose = np.zeros((1, 72), np.float32)
        pose[0, 3 * JOINT_NAMES.index("left_knee")] = np.radians(100 * metres)  # as far off as it is uncertain
        betas = (person.betas + torch.eye(10)[0]).numpy()[None]
        pairs.append((DrawnPerson(replace(scene, pose=pose, betas=betas), 0, seen), found))
    fitted = errors_of(pairs)
    knee = fitted["angles"]["knee"]["flexion"]
    # Right knees are not off: half of 100 degrees a metre.
    assert knee["degrees"] == pytest.approx(0.0, abs=0.1) and knee["degrees_a_metre"] == pytest.approx(50, abs=0.5)
    assert fitted["angles"]["hip"]["flexion"]["degrees_a_metre"] == 0.0
    assert fitted["measurements"]["stature"] == pytest.approx(0.1, abs=0.04)
    assert angle_between(-170.0, 175.0) == pytest.approx(15.0)
