"""People whose height is known: a picture alone cannot tell who is small from who is far away."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from kouros.body.files import FREE_BODY
from kouros.body.growth import GROWN, age_of, child_betas, child_body
from kouros.body.model import BodyModel
from kouros.body.parameters import Bodies, BodyParameters
from kouros.body.stature import of_stature, stature
from kouros.fitting.schedules.keypoint_fit import KeypointFitter
from kouros.fitting.terms.evidence import Evidence
from kouros.notes import note
from kouros.pipeline.person import Person
from kouros.priors.gmm import load_gmm
from kouros.systems.refined import DETECTED, on_keypoints_of

SMALLEST, TALLEST = 0.4, 2.8
"""Metres: from a newborn to the tallest person known."""


def check_heights(heights: Sequence[float | int | None]) -> None:
    """Raises ValueError where one is no person's height in metres; None and NaN stand for unknown."""
    for height in heights:
        if height is not None and not math.isnan(height) and not SMALLEST <= height <= TALLEST:
            hint = " Is it in centimetres?" if 40 <= height <= 280 else ""
            raise ValueError(
                f"a height of {height} m is no person's; expected {SMALLEST} to {TALLEST} metres (nan: unknown).{hint}"
            )


def with_heights(people: Sequence[Person], height: float | int | Sequence[float | int | None] | None) -> list[Person]:
    """The people, as tall as they are known to be, where they then must stand.

    Args:
        people: left to right, or as their boxes were given.
        height: of each, metres; None or NaN where it is not known. One number: of the one person.

    Raises:
        ValueError: there are not as many heights as people, or one is no person's.
    """
    if height is None:
        return list(people)
    heights = [height] if isinstance(height, int | float) else list(height)
    check_heights(heights)
    if len(heights) != len(people):
        raise ValueError(
            f"{len(heights)} heights are given for {len(people)} people, who count from left to right (or as their "
            "boxes do); give one for each, nan where it is not known."
        )
    return [
        person if tall is None or math.isnan(tall) else of_height(person, float(tall))
        for person, tall in zip(people, heights, strict=True)
    ]


def of_height(person: Person, height: float) -> Person:
    """The person with a body of that height, metres, at the distance from which it looks as large.

    Below `kouros.body.growth.GROWN` it is a child's, where the person has the free body.
    """
    before = person.parameters.map(lambda t: t[None])
    if height < GROWN and person.body.origin == FREE_BODY:
        body, betas = child_body(), child_betas(height)[None]
        note(f"a person of {height:g} m gets the body of the average child of that height, {age_of(height):.0f} years.")
    else:
        body, betas = person.body, of_stature(person.body, before.betas, torch.tensor([height]))
        if height < GROWN:
            note(f"a person of {height:g} m gets the size of a child, but the proportions of a small adult.")
    larger = float(stature(body, betas) / stature(person.body, before.betas))
    # Seen from as many times as far, a body as many times as large looks the same; the pelvis is what moves.
    root_before, root = _resting_root(person.body, before.betas), _resting_root(body, betas)
    transl = larger * (root_before + before.transl) - root
    placed = Bodies(before.pose, betas, transl, before.camera)
    fitted = _fitted(person, body, placed)[0]
    return replace(person.moved(fitted), body=body, height_known=True)


def _resting_root(body: BodyModel, betas: torch.Tensor) -> torch.Tensor:
    return body.joint_template[0] + torch.einsum("cb,nb->nc", body.joint_shapedirs[0], betas)


def _fitted(person: Person, body: BodyModel, start: Bodies) -> Bodies:
    """Pose and place anew to the keypoints, with the shape as it is; as it was where the body has no such points."""
    set_name, keypoints = on_keypoints_of(person.keypoints_detected[None], person.keypoint_set, body)
    if set_name not in body.keypoint_sets:
        return start
    fitter = KeypointFitter(body, set_name, load_gmm(), DETECTED)
    points = fitter.kinematics.points(BodyParameters(start.pose, start.betas, start.transl))
    evidence = Evidence(keypoints, set_name, start.camera, points)
    fitted = fitter.fit(evidence, start, hold_shape=True).parameters
    return Bodies.of(replace(fitted, betas=start.betas), start.camera)
