"""The free body's shape space: principal components of adults in the T-pose."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from kouros.body.free.rest import to_t_pose
from kouros.body.free.source import Source, draw_phenotypes

_BATCH = 50


def people_in_t_pose(
    source: Source, verts: Int[np.ndarray, " kept"], count: int, ages: tuple[float, float], seed: int
) -> tuple[Float[np.ndarray, "people kept 3"], Float[np.ndarray, "people bones 3"]]:
    """Vertices and bone heads of people drawn from the population, the pelvis joint at the origin."""
    phenotypes = draw_phenotypes(source, count, ages, seed)
    root = source.primary_bones[0]
    vertices, bone_heads = [], []
    for start in range(0, count, _BATCH):
        people = source.people({k: v[start : start + _BATCH] for k, v in phenotypes.items()})
        posed, heads = to_t_pose(source, people, verts)
        vertices.append(posed - heads[:, root, None])
        bone_heads.append(heads - heads[:, root, None])
    return np.concatenate(vertices), np.concatenate(bone_heads)


@dataclass(frozen=True)
class ShapeSpace:
    """Mean body and unit-variance directions of shape."""

    mean: Float[np.ndarray, "verts 3"]
    directions: Float[np.ndarray, "verts 3 betas"]
    """Displacement, metres, for a beta of one standard deviation."""
    variances: Float[np.ndarray, " betas"]
    """Variance along each component, summed over the vertices, square metres."""
    total_variance: float

    def betas(self, vertices: Float[np.ndarray, "people verts 3"]) -> Float[np.ndarray, "people betas"]:
        """Betas of the bodies nearest to the given ones."""
        basis = self.directions.reshape(-1, self.directions.shape[-1])
        offsets = (vertices - self.mean).reshape(len(vertices), -1)
        return offsets @ basis / (basis**2).sum(axis=0)

    def bodies(self, betas: Float[np.ndarray, "people betas"]) -> Float[np.ndarray, "people verts 3"]:
        """Rest-pose vertices of the given betas."""
        return self.mean + np.einsum("vcb,nb->nvc", self.directions, betas)


def principal_components(
    vertices: Float[np.ndarray, "people verts 3"], mirror: Int[np.ndarray, " verts"], num_betas: int
) -> ShapeSpace:
    """Principal components of symmetric bodies; every beta has variance 1, a taller body a beta0 > 0."""
    flip = np.array([-1.0, 1.0, 1.0])
    vertices = 0.5 * (vertices + vertices[:, mirror] * flip)
    mean = vertices.mean(axis=0)
    offsets = (vertices - mean).reshape(len(vertices), -1)
    values, vectors = np.linalg.eigh(offsets @ offsets.T / (len(vertices) - 1))
    order = np.argsort(values)[::-1][:num_betas]
    # Each column is the component times its standard deviation.
    basis = offsets.T @ vectors[:, order] / np.sqrt(len(vertices) - 1)
    directions = basis.reshape(-1, 3, num_betas)
    height = directions[np.argmax(mean[:, 1]), 1] - directions[np.argmin(mean[:, 1]), 1]
    directions = directions * np.where(height < 0, -1.0, 1.0)
    return ShapeSpace(mean, directions, values[order], float(values.sum()))
