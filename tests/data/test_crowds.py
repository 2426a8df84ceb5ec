"""Scenes that judge finders: the same from the same numbers, of the kinds they say, labelled as they are drawn."""

from dataclasses import replace

import numpy as np
import pytest

from kouros.data.synthetic.crowds import (
    EMPTY_KINDS,
    KINDS,
    coco_flesh,
    draw_crowd,
    draw_nobody,
    picture,
    seen_people,
    staged,
)
from kouros.data.synthetic.draw import Stage

SEED = 3


@pytest.fixture(scope="module")
def stage(free_body):
    return Stage(free_body)


@pytest.fixture(scope="module")
def crowds(free_body):
    """Two of each kind."""
    return [draw_crowd(SEED, index, free_body, None) for index in range(2 * len(KINDS))]


@pytest.fixture(scope="module")
def seen(stage, crowds, free_body):
    flesh = coco_flesh(free_body)
    return [seen_people(stage, crowd, flesh) for crowd in crowds]


def test_a_crowd_depends_on_its_seed_and_number_alone(free_body, crowds):
    again, other = draw_crowd(SEED, 12, free_body, None), draw_crowd(SEED + 1, 12, free_body, None)
    assert again.scene.pose.tobytes() == crowds[12].scene.pose.tobytes()
    assert again.scene.transl.tobytes() == crowds[12].scene.transl.tobytes()
    assert (again.width, again.height, again.postures) == (crowds[12].width, crowds[12].height, crowds[12].postures)
    assert other.scene.pose.tobytes() != again.scene.pose.tobytes()


def test_kinds_take_turns_and_hold_as_many_people_as_they_say(crowds):
    assert [crowd.kind for crowd in crowds] == [*KINDS, *KINDS]
    for crowd in crowds:
        assert 1 <= len(crowd.scene) <= KINDS[crowd.kind].people[1]
    assert max(len(crowd.scene) for crowd in crowds) >= 4


def test_people_are_as_large_as_their_kind_says(crowds, seen):
    for crowd, people in zip(crowds, seen, strict=True):
        size = float((people[0].box[2:] - people[0].box[:2]).max())
        if crowd.kind == "far":
            assert 0 < size < 130
        elif crowd.kind in ("alone", "airborne") and people[0].hidden < 0.1:
            assert 0.2 * max(crowd.width, crowd.height) < size


def test_cut_people_are_cut_where_their_kind_says(crowds, seen):
    for crowd, people in zip(crowds, seen, strict=True):
        first = people[0]
        if crowd.kind in ("cut below", "portrait", "cut at the side", "cut above"):
            assert first.inside < 0.99, crowd.kind
        if crowd.kind == "cut at the side":
            assert first.box[0] == 0 or first.box[2] == crowd.width or first.hidden > 0.1


def test_a_picture_has_its_own_shape_and_shows_people_where_their_boxes_are(stage, crowds):
    crowd = min((c for c in crowds if c.kind == "alone"), key=lambda c: c.width * c.height)
    image = picture(stage, crowd)
    assert image.shape == (crowd.height, crowd.width, 3) and image.dtype == np.uint8
    nobody = stage.picture(crowd.scene, stage_without_people(stage, crowd), soft_as=224)[: crowd.height, : crowd.width]
    person = seen_people(stage, crowd, coco_flesh(stage.body))[0]
    x0, y0, x1, y1 = person.box.astype(int)
    changed = np.abs(image.astype(int) - nobody.astype(int)).max(axis=2) > 40
    assert changed[y0:y1, x0:x1].sum() > 0.9 * changed.sum() > 0


def stage_without_people(stage, crowd):
    everything = staged(stage, crowd)
    return replace(everything, faces=everything.faces[everything.people_faces :], people_faces=0)


def test_what_is_visible_lies_in_the_picture_and_in_the_box(crowds, seen):
    points = 0
    for crowd, people in zip(crowds, seen, strict=True):
        for person in people:
            where = person.keypoints[person.visible]
            points += len(where)
            assert ((where >= 0) & (where < [crowd.width, crowd.height])).all()
            if person.hidden < 0.05 and len(where):
                reach = 0.15 * (person.box[2:] - person.box[:2]).max() + 3
                assert (where > person.box[:2] - reach).all() and (where < person.box[2:] + reach).all()
            assert 0 <= person.hidden <= 1 and 0 <= person.inside <= 1
    assert points > 100


def test_nobody_alone_is_hidden_by_nothing(crowds, seen):
    for crowd, people in zip(crowds, seen, strict=True):
        if len(crowd.scene) == 1 and not crowd.scene.props:
            assert people[0].hidden < 0.1


def test_upside_down_people_are_drawn_upside_down(free_body, stage):
    flesh, angles = coco_flesh(free_body), []
    for index in range(0, 300, len(KINDS)):  # of the kind "alone", whose camera is level
        crowd = draw_crowd(SEED, index, free_body, None)
        if crowd.postures == ("upside_down",):
            angles.append(seen_people(stage, crowd, flesh)[0].upright)
    assert angles and np.median(angles) > 120


def test_pictures_of_nobody_show_nothing_but_things_and_single_limbs(free_body, stage):
    for index in range(4):
        crowd = draw_nobody(SEED, index, free_body, None)
        assert crowd.kind == EMPTY_KINDS[index % 2]
        shares = crowd.shown.mean(axis=1)
        if crowd.kind == "room":
            assert not crowd.shown.any() and staged(stage, crowd).people_faces == 0
        else:
            # A whole arm with its hand has the most faces of what is drawn.
            assert ((shares > 0) & (shares < 0.35)).all()
