"""Body measurements, as tailors and ergonomists take them, of a body's shape in the T-pose.

Names are those of ISO 8559-1 (garments) and ISO 7250-1 (ergonomics). Their landmarks are bones under the skin; here
they are places on the mesh that come near: each measurement says which. A girth is that of a tape: the convex hull of
a horizontal cut.
"""

from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.spatial import ConvexHull
from torch import Tensor

from kouros.body.model import BodyModel
from kouros.body.skeleton import JOINT_NAMES
from kouros.body.stature import stature

_ARMS = [
    JOINT_NAMES.index(f"{side}_{part}") for side in ("left", "right") for part in ("shoulder", "elbow", "wrist", "hand")
]
_LEVELS = 24
"""Cuts among which the narrowest or the most prominent is looked for."""
_MIDLINE = 0.003
"""Metres to its side in the mean shape: who lies between the legs, also where thighs touch."""
_BELOW_CROTCH = 0.015
"""Metres: the tape around a thigh lies as high as it can."""


@dataclass(frozen=True)
class Measurements:
    """Of one body; metres."""

    stature: float
    """From the floor to the top of the head (ISO 8559-1, ISO 7250-1)."""
    arm_span: float
    """From fingertip to fingertip, arms stretched out (ISO 7250-1: span)."""
    inside_leg_height: float
    """From the floor to the crotch, the inseam (ISO 8559-1)."""
    chest_girth: float
    """Horizontally where chest or bust are most prominent, below the armpits (ISO 8559-1: bust or chest girth)."""
    waist_girth: float
    """Horizontally where the trunk is narrowest between ribs and hips; ISO 8559-1 has it midway between the lowest rib
    and the iliac crest, which no skin shows."""
    hip_girth: float
    """Horizontally where the buttocks are most prominent (ISO 8559-1)."""
    thigh_girth: float
    """Horizontally just below the crotch, the mean of both legs (ISO 8559-1)."""

    def to_dict(self) -> dict[str, float]:
        """By name."""
        return {field.name: float(getattr(self, field.name)) for field in fields(self)}


def measure(body: BodyModel, betas: Float[Tensor, " betas"]) -> Measurements:
    """Measure the shape that betas give a body model.

    Raises:
        ValueError: the number of betas is not the model's, or the mesh has no trunk where its skeleton has one.
    """
    with torch.no_grad():
        posed = body(betas=betas[None].to(body.v_template))
    vertices = posed.vertices[0].double().cpu().numpy()
    joints = dict(zip(JOINT_NAMES, posed.joints[0].double().cpu().numpy(), strict=True))
    faces = body.faces.cpu().numpy()
    arm = body.weights[:, _ARMS].sum(-1).cpu().numpy() > 0.5
    floor = vertices[:, 1].min()
    hips, knees, shoulders = (float(joints[f"left_{part}"][1]) for part in ("hip", "knee", "shoulder"))
    heights = vertices[faces, 1]
    near = (heights.max(axis=1) > knees) & (heights.min(axis=1) < shoulders)
    trunk = faces[near & ~arm[faces].any(axis=1)]
    middle = np.abs(body.v_template[:, 0].cpu().numpy()) < _MIDLINE
    crotch = _crotch(vertices[middle], hips, knees)
    chest = _prominent(vertices, trunk, _between(joints["spine2"][1], shoulders, 0.2, 0.75), 1.0)
    hip = _prominent(vertices, trunk, _between(crotch, joints["spine1"][1], 0.1, 0.9), -1.0)
    waist = min(_girth(vertices, trunk, y) for y in np.linspace(*_between(hip, chest, 0.2, 0.75), _LEVELS))
    legs = [_girth(vertices, trunk, crotch - _BELOW_CROTCH, side) for side in (1.0, -1.0)]
    return Measurements(
        stature=float(stature(body, betas[None].to(body.v_template))),
        arm_span=float(np.ptp(vertices[:, 0])),
        inside_leg_height=float(crotch - floor),
        chest_girth=_girth(vertices, trunk, chest),
        waist_girth=waist,
        hip_girth=_girth(vertices, trunk, hip),
        thigh_girth=float(np.mean(legs)),
    )


def _between(low: float, high: float, start: float, end: float) -> tuple[float, float]:
    return low + start * (high - low), low + end * (high - low)


def _crotch(vertices: Float[np.ndarray, "middle 3"], hips: float, knees: float) -> float:
    """The lowest of the midline's points above the knees."""
    middle = vertices[(vertices[:, 1] > knees) & (vertices[:, 1] < hips + 0.1)]
    if not len(middle):
        raise ValueError("this body has no vertices between its legs, so it cannot be measured.")
    return float(middle[:, 1].min())


def _prominent(
    vertices: Float[np.ndarray, "verts 3"], faces: np.ndarray, levels: tuple[float, float], front: float
) -> float:
    """The height at which a cut reaches farthest to the front (1) or to the back (-1)."""
    heights = np.linspace(*levels, _LEVELS)
    reach = [(front * _cut(vertices, faces, y)[:, 1]).max() for y in heights]
    return float(heights[int(np.argmax(reach))])


def _girth(vertices: Float[np.ndarray, "verts 3"], faces: np.ndarray, height: float, side: float = 0.0) -> float:
    """Of a horizontal cut, or of what of it is on the body's left (side 1) or right (-1)."""
    points = _cut(vertices, faces, height)
    if side:
        points = points[side * points[:, 0] > 0]
    return float(ConvexHull(points).area)  # in two dimensions the area is the perimeter


def _cut(vertices: Float[np.ndarray, "verts 3"], faces: np.ndarray, height: float) -> Float[np.ndarray, "points 2"]:
    """Where the edges of faces cross a height: x and z.

    Raises:
        ValueError: they do not.
    """
    above = (vertices[:, 1] > height)[faces]
    following = np.roll(above, -1, axis=1)
    crossing: Bool[np.ndarray, "faces 3"] = above != following
    if crossing.sum() < 6:
        raise ValueError("this body has no skin around its trunk, so it cannot be measured.")
    a, b = vertices[faces[crossing]], vertices[np.roll(faces, -1, axis=1)[crossing]]
    share = ((height - a[:, 1]) / (b[:, 1] - a[:, 1]))[:, None]
    return (a + share * (b - a))[:, [0, 2]]
