"""Things in the scene, which people sit on and which hide them: boxes, bars and blobs as small meshes."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

BOX, BLOB = 0, 1


@dataclass(frozen=True, eq=False)
class Prop:
    """A box or an ellipsoid in the world."""

    kind: int
    center: Float[np.ndarray, " 3"]
    half: Float[np.ndarray, " 3"]
    """Half its extents along its own axes, metres."""
    turn: Float[np.ndarray, "3 3"]
    """From its axes to the world's."""
    colour: Float[np.ndarray, " 3"]

    def packed(self) -> Float[np.ndarray, " 19"]:
        """As one row of numbers."""
        return np.concatenate([[self.kind], self.center, self.half, self.turn.ravel(), self.colour]).astype(np.float32)

    @staticmethod
    def unpacked(row: Float[np.ndarray, " 19"]) -> "Prop":
        """The inverse of `packed`."""
        values = row.astype(np.float64)
        return Prop(int(values[0]), values[1:4], values[4:7], values[7:16].reshape(3, 3), values[16:19])

    def mesh(self) -> tuple[Float[np.ndarray, "verts 3"], Int[np.ndarray, "faces 3"]]:
        """World vertices and outward faces; a box's corners are its sides' own, so that its edges are sharp."""
        points, faces = _UNIT_BOX if self.kind == BOX else _UNIT_BALL
        return (points * self.half) @ self.turn.T + self.center, faces


def upright(heading: float) -> Float[np.ndarray, "3 3"]:
    """Turned about the vertical: its z axis points where someone of this heading looks."""
    c, s = np.cos(heading), np.sin(heading)
    return np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])


def seat(pelvis: Float[np.ndarray, " 3"], top: float, heading: float, rng: np.random.Generator) -> tuple[Prop, ...]:
    """Something to sit on under a person: a block, a stool, a chair with a back or a bench.

    Args:
        pelvis: joint, world, metres; the floor is at height 0.
        top: height of the seat.
        heading: where the sitter looks, radians about the vertical from +z.
    """
    turn = upright(heading)
    colour = rng.uniform(0.08, 0.8) * rng.uniform(0.75, 1.0, 3)
    wide, deep = rng.uniform(0.21, 0.30), rng.uniform(0.18, 0.22)
    if rng.random() < 0.2:
        wide = rng.uniform(0.5, 1.2)
    back = np.array([0.0, 0.0, -deep + 0.16])

    def box(offset: tuple[float, float, float], half: tuple[float, float, float]) -> Prop:
        return Prop(BOX, np.array([pelvis[0], 0.0, pelvis[2]]) + turn @ (back + offset), np.array(half), turn, colour)

    thick = min(rng.uniform(0.02, 0.06), top / 2)
    parts = [box((0.0, top - thick, 0.0), (wide, thick, deep))]
    kind = rng.integers(3)
    if kind == 0:
        parts = [box((0.0, top / 2, -0.03), (wide, top / 2, deep - 0.03))]
    elif kind == 1:
        parts.append(box((0.0, top / 2, 0.0), (0.04, top / 2, 0.04)))
    else:
        for x in (-wide + 0.03, wide - 0.03):
            for z in (-deep + 0.03, deep - 0.03):
                parts.append(box((x, top / 2, z), (0.02, top / 2, 0.02)))
    if rng.random() < 0.5:
        tall = rng.uniform(0.2, 0.4)
        parts.append(box((0.0, top + tall, -deep - 0.03), (wide, tall, 0.025)))
    return tuple(parts)


def table(pelvis: Float[np.ndarray, " 3"], top: float, heading: float, rng: np.random.Generator) -> tuple[Prop, ...]:
    """A table before a sitter, with or without a front."""
    turn = upright(heading)
    colour = rng.uniform(0.15, 0.85) * np.array([1.0, 0.85, 0.7]) * rng.uniform(0.8, 1.1, 3)
    wide, deep, away = rng.uniform(0.4, 0.8), rng.uniform(0.25, 0.4), rng.uniform(0.28, 0.4)
    base = np.array([pelvis[0], 0.0, pelvis[2]])
    height = top + rng.uniform(0.22, 0.30)
    middle = base + turn @ np.array([0.0, 0.0, away + deep])
    parts = [Prop(BOX, middle + np.array([0.0, height, 0.0]), np.array([wide, 0.02, deep]), turn, colour)]
    for x in (-wide + 0.04, wide - 0.04):
        for z in (-deep + 0.04, deep - 0.04):
            foot = middle + turn @ np.array([x, height / 2, z])
            parts.append(Prop(BOX, foot, np.array([0.025, height / 2, 0.025]), turn, colour))
    return tuple(parts)


def hidden_by(
    prop: Prop, eye: Float[np.ndarray, " 3"], points: Float[np.ndarray, "points 3"]
) -> Bool[np.ndarray, " points"]:
    """Which points a thing hides from an eye: whose sight line, in the thing's own axes, meets the unit box or ball."""
    start = (eye - prop.center) @ prop.turn / prop.half
    ray = (points - prop.center) @ prop.turn / prop.half - start
    if prop.kind == BLOB:
        nearest = np.clip(-(ray @ start) / (ray * ray).sum(axis=1), 0, 1)
        return ((start + nearest[:, None] * ray) ** 2).sum(axis=1) < 1
    with np.errstate(divide="ignore", invalid="ignore"):
        bounds = np.sort(np.stack([(-1 - start) / ray, (1 - start) / ray]), axis=0)
    enter, leave = bounds[0].max(axis=1), bounds[1].min(axis=1)
    return (enter < leave) & (enter < 1) & (leave > 0)


def obstacle(
    eye: Float[np.ndarray, " 3"], seen: Float[np.ndarray, " 3"], size: float, rng: np.random.Generator
) -> Prop:
    """Something between the camera and a point of a person.

    Args:
        eye: where the camera is, world.
        seen: the point that it hides.
        size: about how long it looks at the point's distance, metres.
    """
    nearness = rng.uniform(0.45, 0.85)
    center = eye + nearness * (seen - eye)
    size = size * nearness
    kind = rng.integers(4)
    colour = rng.uniform(0, 1, 3) * rng.uniform(0.3, 1.0)
    if kind == 0:  # a pole, from the floor to above the picture
        half = np.array([size * rng.uniform(0.06, 0.2), 4.0, size * 0.1])
        return Prop(BOX, center * [1, 0, 1] + [0, 4.0, 0], half, upright(rng.uniform(0, 6.28)), colour)
    if kind == 1:  # a wall or a fence's rail, along the floor
        half = np.array([size * rng.uniform(0.8, 2.0), size * rng.uniform(0.04, 0.12), 0.03])
        across = np.arctan2(*(seen - eye)[[0, 2]]) + rng.normal(0, 0.3)
        return Prop(BOX, center, half, upright(across), colour)
    if kind == 2:
        half = size * rng.uniform(0.12, 0.5, 3)
        return Prop(BLOB, center, half, upright(rng.uniform(0, 6.28)), colour)
    half = size * rng.uniform(0.1, 0.4, 3)
    return Prop(BOX, center, half, upright(rng.uniform(0, 6.28)), colour)


def _unit_box() -> tuple[np.ndarray, np.ndarray]:
    points: list[np.ndarray] = []
    faces: list[list[int]] = []
    for axis in range(3):
        for sign in (-1.0, 1.0):
            u, v = (axis + 1) % 3, (axis + 2) % 3
            start = len(points)
            for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
                corner = np.zeros(3)
                corner[axis], corner[u], corner[v] = sign, a, b
                points.append(corner)
            order = (0, 1, 2, 0, 2, 3) if sign > 0 else (0, 2, 1, 0, 3, 2)
            faces += [[start + k for k in order[:3]], [start + k for k in order[3:]]]
    return np.array(points), np.array(faces)


def _unit_ball(rows: int = 8, columns: int = 14) -> tuple[np.ndarray, np.ndarray]:
    down = np.pi * np.arange(rows + 1) / rows
    around = 2 * np.pi * np.arange(columns) / columns
    points = np.stack(
        [np.outer(np.sin(down), np.cos(around)), np.repeat(np.cos(down)[:, None], columns, 1),
         np.outer(np.sin(down), np.sin(around))], axis=-1,
    ).reshape(-1, 3)  # fmt: skip
    faces = []
    for i in range(rows):
        for j in range(columns):
            a, b = i * columns + j, i * columns + (j + 1) % columns
            faces += [[a, b, a + columns], [b, b + columns, a + columns]]
    return points, np.array(faces)


_UNIT_BOX, _UNIT_BALL = _unit_box(), _unit_ball()
