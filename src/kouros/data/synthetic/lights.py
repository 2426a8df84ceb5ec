"""Light on synthetic people: a hemisphere and one or two lamps, from noon outdoors to a lamp at night."""

import numpy as np
from jaxtyping import Float

from kouros.render.shading import Colour, DirectionalLight, Lighting


def drawn_lighting(world_to_camera: Float[np.ndarray, "3 4"], rng: np.random.Generator) -> Lighting:
    """Light from above the horizon, whatever the camera's tilt, never so weak that people are black."""
    warmth = rng.uniform(-0.12, 0.12)
    tint = np.array([1 + warmth, 1.0, 1 - warmth])
    ambient = rng.uniform(0.38, 0.65)
    lamps = []
    for number in range(rng.integers(1, 3)):
        height, around = rng.uniform(0.15, 1.4), rng.uniform(0, 2 * np.pi)
        world = np.array([np.cos(around), np.tan(height * 0.9), np.sin(around)])
        towards = world_to_camera[:, :3] @ (world / np.linalg.norm(world))
        strength = rng.uniform(0.35, 0.9) * (1.0 if number == 0 else 0.5)
        lamps.append(DirectionalLight(_triple(towards), _triple(strength * tint * rng.uniform(0.92, 1.0, 3))))
    return Lighting(
        sky=_triple(ambient * tint[::-1]),
        ground=_triple(ambient * rng.uniform(0.45, 0.8) * tint),
        lights=tuple(lamps),
        wrap=float(rng.uniform(0.0, 0.4)),
        rim=float(rng.uniform(0.0, 0.12)),
        specular=float(rng.uniform(0.0, 0.10)),
    )


def _triple(values: Float[np.ndarray, " 3"]) -> Colour:
    x, y, z = values.tolist()
    return x, y, z
