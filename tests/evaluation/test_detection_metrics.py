"""Who found whom, and how far keypoints lie off, on people of whom the answer is plain."""

from dataclasses import replace

import numpy as np
import pytest

from kouros.body.keypoints import BLAZEPOSE33, COCO17
from kouros.evaluation.metrics.detection import (
    FoundPerson,
    TruePerson,
    box_iou,
    head_to_hip,
    keypoint_score,
    likeness,
    match,
    on_coco17,
    unknown_points,
)

_STANDING = {
    "nose": (50, 12), "left_eye": (52, 10), "right_eye": (48, 10), "left_ear": (55, 12), "right_ear": (45, 12),
    "left_shoulder": (60, 30), "right_shoulder": (40, 30), "left_elbow": (66, 48), "right_elbow": (34, 48),
    "left_wrist": (68, 64), "right_wrist": (32, 64), "left_hip": (56, 62), "right_hip": (44, 62),
    "left_knee": (57, 98), "right_knee": (43, 98), "left_ankle": (58, 134), "right_ankle": (42, 134),
}  # fmt: skip
"""Pixels; with a box of 100 x 150 the person's size is 150, the head-to-hip length 50."""


def standing(x: float = 0.0, **changed: object) -> TruePerson:
    points = np.array([_STANDING[name] for name in COCO17.names]) + np.array([x, 0.0])
    person = TruePerson(np.array([x, 0.0, x + 100, 150.0]), points, np.ones(17, dtype=bool))
    return replace(person, **changed)


def find(of: TruePerson, *, off: tuple[float, float] = (0, 0), score: float = 0.9) -> FoundPerson:
    return FoundPerson(of.box + np.array([*off, *off]), of.keypoints + off, np.ones(17), score)


def moved(found: FoundPerson, to: dict[str, tuple[float, float]]) -> FoundPerson:
    points = found.keypoints.copy()
    for name, place in to.items():
        points[COCO17.index(name)] = place
    return replace(found, keypoints=points)


def boxed(box: tuple[float, float, float, float], *, counts: bool = True) -> TruePerson:
    return TruePerson(np.array(box, dtype=np.float64), unknown_points(), np.zeros(17, dtype=bool), counts)


def test_everyone_found_once_is_no_fault_in_whatever_order():
    people = [standing(0), standing(120), standing(400)]
    matching = match(people, [find(people[k]) for k in (2, 0, 1)])
    assert sorted(matching.pairs) == [(0, 1), (1, 2), (2, 0)]
    assert (matching.missed, matching.false, matching.duplicates, matching.aside) == ((), (), (), ())


def test_misses_repetitions_and_inventions_are_told_apart():
    here, there, hidden = standing(0), standing(400), standing(800, counts=False)
    finds = [find(here), find(here, off=(5, 5)), find(standing(1500)), find(hidden), find(hidden, off=(4, 0))]
    matching = match([here, there, hidden], finds)
    assert set(matching.pairs) == {(0, 0), (2, 3)}
    assert matching.missed == (1,)
    assert matching.duplicates == (1,)
    assert matching.false == (2,)
    assert matching.aside == (4,)


def test_missing_somebody_who_does_not_count_is_no_fault():
    assert match([standing(0, counts=False)], []).missed == ()


def test_nobody_and_nothing_match():
    matching = match([], [])
    assert matching.pairs == matching.missed == matching.false == ()


def test_as_many_as_possible_are_paired_even_if_one_pair_is_less_close():
    # The first find shows both neighbours, and is nearer to the one whom alone the second find shows.
    left, right = standing(0), standing(20)
    between, far_right = find(left, off=(12, 0)), find(right, off=(25, 0))
    assert likeness(right, between).closeness > likeness(left, between).closeness
    assert not likeness(left, far_right).same
    assert set(match([left, right], [between, far_right]).pairs) == {(0, 0), (1, 1)}


def test_half_of_the_visible_points_within_a_fifth_of_the_size_make_a_find():
    person = standing()
    visible = np.zeros(17, dtype=bool)
    visible[[5, 6, 11, 12]] = True
    person = replace(person, visible=visible)
    away = {"left_hip": (500.0, 500.0), "right_hip": (500.0, 500.0)}
    assert likeness(person, moved(find(person), away)).same
    assert not likeness(person, moved(find(person), away | {"left_shoulder": (60, 30 + 31)})).same
    assert likeness(person, moved(find(person), away | {"left_shoulder": (60, 30 + 29)})).same
    # Invisible points have no say.
    assert likeness(person, moved(find(person), {"left_ankle": (900.0, 900.0), "nose": (900.0, 0.0)})).same


def test_a_person_found_with_sides_exchanged_is_found_and_said_to_be_exchanged():
    person = standing()
    # Somebody broad, so that the sides lie further apart than a fifth of the size.
    broad = replace(person, keypoints=(person.keypoints - 50) * [4, 1] + 50)
    exchanged = replace(find(broad), keypoints=find(broad).keypoints[list(COCO17.mirror)])
    assert match([broad], [exchanged]).pairs == ((0, 0),)
    score = keypoint_score([broad], 0, exchanged)
    assert score.exchanged and not keypoint_score([broad], 0, find(broad)).exchanged
    assert not score.correct[score.judged].any()


def test_finders_of_a_few_points_are_matched_by_those():
    person = standing()
    points = unknown_points()
    points[[5, 6]], points[[11, 12]] = (50, 30), (50, 62)  # the middles, for both sides
    few = FoundPerson(np.zeros(4), points, np.ones(17), 0.5)
    assert likeness(person, few).same
    assert not likeness(standing(100), few).same


def test_people_of_whom_a_box_is_known_are_matched_by_boxes():
    person = boxed((0, 0, 100, 200))
    assert likeness(person, find(standing())).closeness == pytest.approx(150 * 100 / (200 * 100))
    inside = FoundPerson(np.array([10.0, 150.0, 60.0, 190.0]), unknown_points(), np.ones(17), 0.5)
    outside = FoundPerson(np.array([300.0, 0.0, 400.0, 100.0]), unknown_points(), np.ones(17), 0.5)
    matching = match([person], [find(standing()), inside, outside])
    assert (matching.pairs, matching.duplicates, matching.false) == (((0, 0),), (1,), (2,))
    assert match([boxed((0, 0, 100, 200), counts=False)], [inside]).aside == (0,)


def test_overlap_of_boxes_by_hand():
    a, b = np.array([0.0, 0.0, 2.0, 2.0]), np.array([1.0, 1.0, 3.0, 3.0])
    assert box_iou(a, b) == pytest.approx(1 / 7)
    assert box_iou(a, a) == 1
    assert box_iou(a, a + 5) == 0
    assert box_iou(np.zeros(4), np.zeros(4)) == 0


def test_head_to_hip_is_the_distance_from_ears_to_hips_where_they_are_known():
    assert head_to_hip(standing()) == pytest.approx(50)
    faceless = standing().keypoints.copy()
    faceless[:5] = np.nan
    # From a trunk of 32 by the free body's proportions.
    low = np.array([0.0, 0.0, 100.0, 140.0])
    assert head_to_hip(standing(keypoints=faceless, box=low)) == pytest.approx(1.32 * 32)
    bust = standing().keypoints.copy()
    bust[7:] = np.nan
    assert head_to_hip(standing(keypoints=bust)) == pytest.approx(4.09 * 18)
    assert head_to_hip(boxed((0, 0, 100, 200))) == pytest.approx(0.38 * 200)


def test_head_to_hip_of_a_trunk_that_points_at_the_camera_is_taken_from_the_size():
    person = standing()
    points = person.keypoints.copy()
    points[:5] = (50, 60)
    assert head_to_hip(replace(person, keypoints=points)) == pytest.approx(0.3 * 150)


def test_the_free_body_has_the_proportions_that_head_to_hip_takes(free_body):
    """The ratios for unknown heads and hips, against the template's own points and height."""
    points = free_body.keypoints_3d(free_body(), "coco17")[0].numpy()
    ears, shoulders, hips = points[3:5].mean(axis=0), points[5:7].mean(axis=0), points[11:13].mean(axis=0)
    length = (ears - hips)[1]
    height = np.ptp(free_body.v_template.numpy()[:, 1])
    assert length / (shoulders - hips)[1] == pytest.approx(1.32, abs=0.01)
    assert length / (ears - shoulders)[1] == pytest.approx(4.09, abs=0.05)
    assert length / height == pytest.approx(0.38, abs=0.005)


def test_points_are_correct_within_a_tenth_of_the_head_to_hip_length():
    person = standing()
    found = moved(find(person), {"left_wrist": (68 + 4.9, 64), "right_wrist": (32 - 5.1, 64)})
    score = keypoint_score([person], 0, found)
    wrists = [COCO17.index("left_wrist"), COCO17.index("right_wrist")]
    assert score.correct[wrists].tolist() == [True, False]
    np.testing.assert_allclose(score.error[wrists], np.array([4.9, 5.1]) / 150)
    assert score.judged.sum() == 12 and score.correct[score.judged].sum() == 11


def test_points_that_are_not_given_are_wrong_and_those_not_visible_are_not_judged():
    visible = np.ones(17, dtype=bool)
    visible[COCO17.index("left_knee")] = False
    person = standing(visible=visible)
    score = keypoint_score([person], 0, moved(find(person), {"right_knee": (np.nan, np.nan)}))
    left, right = COCO17.index("left_knee"), COCO17.index("right_knee")
    assert np.isnan(score.error[left]) and np.isposinf(score.error[right])
    assert not score.judged[left] and score.judged[right] and not score.correct[right]
    assert score.known[left] and score.correct[left]  # hidden, but known and right


def test_a_limb_on_a_neighbour_is_seen_and_a_limb_in_the_air_is_not():
    me, neighbour = standing(0), standing(80)
    taken = keypoint_score(
        [me, neighbour], 0, moved(find(me), {"left_wrist": (80 + 31, 64), "left_ankle": (58, 180)})
    ).on_neighbours
    assert [COCO17.names[k] for k in np.flatnonzero(taken)] == ["left_wrist"]
    assert not keypoint_score([me, neighbour], 0, find(me)).on_neighbours.any()


def test_hands_that_meet_are_nobodys_mistake():
    """A find that is right about a wrist beside the neighbour's has not taken the neighbour's."""
    me, neighbour = standing(0), standing(36)  # my left wrist and the neighbour's right one coincide
    assert not keypoint_score([me, neighbour], 0, find(me)).on_neighbours.any()


def test_points_are_taken_by_name_from_other_sets():
    points = np.arange(33 * 3, dtype=np.float64).reshape(33, 3)
    placed = on_coco17(points, "blazepose33")
    for name in COCO17.names:
        np.testing.assert_array_equal(placed[COCO17.index(name)], points[BLAZEPOSE33.index(name)])
    limbs_only = on_coco17(np.zeros((17, 2)), "mpi_inf_3dhp17")
    assert np.isnan(limbs_only[COCO17.index("left_ear")]).all()


def test_points_of_another_number_than_their_set_are_refused():
    with pytest.raises(ValueError, match="25 points are given, but coco17 has 17"):
        on_coco17(np.zeros((25, 3)), "coco17")
