"""What synthetic people wear: skin, hair, face, shirts, trousers and shoes, as a colour a vertex.

Garments end at straight lines of the T-pose (a sleeve at a distance from the middle, a trouser leg at a height), so
that their borders are clean on the body, whatever its pose.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from kouros.body import BodyModel
from kouros.body.surface.atlas import rest_keypoints

SKIN_TONES = ((0.96, 0.82, 0.72), (0.88, 0.70, 0.57), (0.78, 0.58, 0.44), (0.62, 0.43, 0.31), (0.42, 0.29, 0.21),
              (0.29, 0.20, 0.15))  # fmt: skip
_HAIR = ((0.06, 0.05, 0.04), (0.16, 0.10, 0.06), (0.32, 0.20, 0.10), (0.70, 0.54, 0.30), (0.55, 0.52, 0.50),
         (0.45, 0.18, 0.08))  # fmt: skip


@dataclass(frozen=True, eq=False)
class Mannequin:
    """Where on a body's T-pose garments may lie."""

    points: Float[np.ndarray, "verts 3"]
    """Of the template, metres, the pelvis joint at the origin, scaled to a body 1.70 m tall."""
    eyes: Float[np.ndarray, " verts"]
    """Distance from the nearer eye, metres."""
    mouth: Float[np.ndarray, " verts"]
    """From the line between the corners of the mouth."""
    head: Float[np.ndarray, " 3"]
    neck: float
    """Height."""
    shoulder: float
    """Distance from the middle; likewise the next two."""
    elbow: float
    wrist: float
    knee: float
    """Height; likewise the next."""
    ankle: float


def mannequin(body: BodyModel) -> Mannequin:
    """The body's own measures."""
    joints = body.joint_template
    scale = 1.70 / float(body.v_template[:, 1].max() - body.v_template[:, 1].min())
    points = ((body.v_template - joints[0]) * scale).numpy().astype(np.float64)
    rest = ((joints - joints[0]) * scale).numpy().astype(np.float64)
    face = ((rest_keypoints(body, "blazepose33") - joints[0]) * scale).numpy().astype(np.float64)
    eyes, corners = face[[2, 5]], face[[9, 10]]
    from_eyes = np.linalg.norm(points[:, None] - eyes, axis=-1).min(axis=1)
    along = np.linspace(0.1, 0.9, 5)[:, None]
    lips = corners[0] * (1 - along) + corners[1] * along
    return Mannequin(
        points=points,
        eyes=from_eyes,
        mouth=np.linalg.norm(points[:, None] - lips, axis=-1).min(axis=1),
        head=rest[15],
        neck=float(rest[12, 1]),
        shoulder=float(rest[16, 0]),
        elbow=float(rest[18, 0]),
        wrist=float(rest[20, 0]),
        knee=float(rest[4, 1]),
        ankle=float(rest[7, 1]),
    )


def dressed(figure: Mannequin, rng: np.random.Generator) -> Float[np.ndarray, "verts 3"]:
    """Colours in [0, 1] of everything that a person wears, drawn."""
    x, y, z = figure.points.T
    out = np.abs(x)
    skin = np.array(SKIN_TONES[rng.integers(len(SKIN_TONES))]) * rng.uniform(0.9, 1.08)
    colours = np.tile(skin, (len(x), 1)) * (1 + 0.03 * _noise(figure.points, rng, 14.0))[:, None]
    colours[figure.mouth < 0.011] = skin * (0.95, 0.65, 0.62)
    colours[figure.eyes < 0.013] = (0.12, 0.09, 0.08)
    brow = (figure.eyes > 0.018) & (figure.eyes < 0.028) & (y > figure.head[1] + 0.045) & (z > figure.head[2] + 0.05)
    hair = np.array(_HAIR[rng.integers(len(_HAIR))]) * rng.uniform(0.8, 1.2)
    colours[brow] = 0.6 * hair + 0.4 * skin

    waist = rng.uniform(-0.03, 0.08)
    arm = (out > figure.shoulder + 0.02) & (y > figure.neck - 0.30)
    neckline = figure.neck - rng.uniform(0.0, 0.05) - 0.6 * np.maximum(0.0, 0.09 - out) * (z > 0.03)
    if rng.random() < 0.95:
        leg_end = rng.choice([figure.ankle + 0.02, figure.ankle + 0.10, figure.knee + 0.04, figure.knee + 0.16],
                              p=[0.55, 0.15, 0.2, 0.1])  # fmt: skip
        lower = (y < waist) & (y > leg_end) & ~arm
        colours[lower] = cloth(figure.points[lower], rng, patterned=0.12, dark=0.5)
    if rng.random() < 0.92:
        hem = waist - rng.uniform(0.0, 0.10)
        sleeve = rng.choice([figure.shoulder - 0.02, figure.shoulder + 0.13, figure.elbow, figure.wrist - 0.02],
                             p=[0.15, 0.4, 0.1, 0.35])  # fmt: skip
        upper = (y > hem) & (y < np.where(out > 0.12, figure.neck + 0.12, neckline)) & (out < sleeve)
        upper |= arm & (out < sleeve)
        upper &= y < figure.head[1] - 0.03
        upper &= (out > 0.075) | (y < neckline)
        colours[upper] = cloth(figure.points[upper], rng, patterned=0.45, dark=0.25)
    if rng.random() < 0.85:
        shoes = y < figure.ankle + rng.uniform(-0.005, 0.06)
        colours[shoes] = rng.choice([0.05, 0.12, 0.3, 0.9]) * rng.uniform(0.85, 1.1, 3)
        colours[y < figure.points[:, 1].min() + 0.015] = rng.choice([0.05, 0.9])
    if rng.random() < 0.9:
        hairy = _haired(figure, rng)
        colours[hairy] = hair * (1 + 0.15 * _noise(figure.points[hairy], rng, 60.0))[:, None]
    return np.clip(colours, 0.01, 1)


def _haired(figure: Mannequin, rng: np.random.Generator) -> np.ndarray:
    x, y, z = figure.points.T
    above, behind = y - figure.head[1], z - figure.head[2]
    crown = above > 0.105 - 0.5 * np.minimum(behind, 0.0) * 0.2
    line = rng.uniform(0.09, 0.115)
    length = rng.choice([0.03, -0.01, -0.07])
    back = (behind < -0.01) & (above > length) & (np.abs(x) < 0.12)
    return (crown & (above > line)) | back


def cloth(
    points: Float[np.ndarray, "some 3"], rng: np.random.Generator, patterned: float, dark: float
) -> Float[np.ndarray, "some 3"]:
    """One garment's colours: plain, striped, checked, spotted or mottled; folds a little darker."""
    colour = _dye(rng, dark)
    colours = np.tile(colour, (len(points), 1))
    if rng.random() < patterned:
        other, wide = _dye(rng, 0.3), rng.uniform(0.05, 0.16)
        waves = np.sin(2 * np.pi * points / wide + rng.uniform(0, 6.28, 3))
        kind = rng.integers(5)
        if kind == 0:
            second = waves[:, 1] > rng.uniform(-0.5, 0.6)
        elif kind == 1:
            second = waves[:, 0] > rng.uniform(-0.5, 0.6)
        elif kind == 2:
            second = (waves[:, 0] > 0) ^ (waves[:, 1] > 0)
        elif kind == 3:
            second = waves[:, 0] * waves[:, 1] > 0.45
        else:
            second = _noise(points, rng, rng.uniform(10, 30)) > 0.2
        colours[second] = other
    return colours * (1 + 0.06 * _noise(points, rng, 22.0))[:, None]


def hair_colour(points: Float[np.ndarray, "some 3"], rng: np.random.Generator) -> Float[np.ndarray, "some 3"]:
    """Colours of hair that is a mesh, or of what lies on it."""
    hair = np.array(_HAIR[rng.integers(len(_HAIR))]) * rng.uniform(0.8, 1.2)
    return np.clip(hair * (1 + 0.15 * _noise(points, rng, 60.0))[:, None], 0.01, 1)


def _dye(rng: np.random.Generator, dark: float) -> Float[np.ndarray, " 3"]:
    """Clothes are mostly greyish, often dark, now and then bright."""
    value = rng.uniform(0.06, 0.3) if rng.random() < dark else rng.uniform(0.2, 0.95)
    grey = rng.beta(1.2, 1.6)
    hue = rng.uniform(0, 1, 3)
    hue = hue / hue.max()
    return value * (1 - grey + grey * hue)


def _noise(points: Float[np.ndarray, "some 3"], rng: np.random.Generator, frequency: float) -> np.ndarray:
    """(some,) smooth noise in about [-1, 1]: a few waves in random directions, radians a metre."""
    directions = rng.normal(0, frequency, (3, 5))
    return np.sin(points @ directions + rng.uniform(0, 2 * np.pi, 5)).sum(axis=1) / 2.5
