"""Where points of a plane lie in a flat triangle mesh: the way from (u, v) back to the surface.

UV maps, charts and their grids all ask this. Triangles are hashed into a grid of cells of about their size,
so a query looks at a handful of them.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree

_NEIGHBOURS = 16
"""Boundary edges, nearest by their middles, among which the nearest to a point outside is sought."""


@dataclass(frozen=True)
class Located:
    """Points of a flat mesh."""

    face: Int[np.ndarray, " points"]
    barycentric: Float[np.ndarray, "points 3"]
    """Within the face, so never negative."""
    inside: Bool[np.ndarray, " points"]
    """Whether the query was in the mesh; else this is the nearest point of its boundary."""


class PlanarMesh:
    """Triangles in the plane, which should not overlap; degenerate ones are never answers."""

    def __init__(self, points: Float[np.ndarray, "points 2"], triangles: Int[np.ndarray, "faces 3"]) -> None:
        self._corners = corners = points[triangles].astype(float)
        a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
        double_area = _cross(b - a, c - a)
        extent = np.ptp(corners, axis=(0, 1)).max()
        solid = np.abs(double_area) > 1e-12 * extent**2
        safe = np.where(solid, double_area, 1.0)[:, None]
        # Barycentric coordinates of b and c as linear forms on (query - a).
        self._to_b = np.stack([c[:, 1] - a[:, 1], a[:, 0] - c[:, 0]], axis=1) / safe
        self._to_c = np.stack([a[:, 1] - b[:, 1], b[:, 0] - a[:, 0]], axis=1) / safe
        self._solid = solid

        self._low = corners.min(axis=(0, 1))
        self._cell = max(np.sqrt(np.abs(double_area).sum() / max(1, len(corners))), extent / 4000, 1e-30)
        low, high = (self._cells(f(corners, axis=1)) for f in (np.min, np.max))
        self._shape = self._cells(corners.max(axis=(0, 1))[None])[0] + 1
        low, high = low[solid], high[solid]
        width = high - low + 1
        count = width.prod(axis=1)
        owner = np.repeat(np.flatnonzero(solid), count)
        rank = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        columns = np.repeat(width[:, 0], count)
        x = np.repeat(low[:, 0], count) + rank % columns
        y = np.repeat(low[:, 1], count) + rank // columns
        cell = y * self._shape[0] + x
        order = np.argsort(cell, kind="stable")
        self._faces = owner[order]
        self._start = np.searchsorted(cell[order], np.arange(self._shape.prod() + 1))

        edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
        _, first, uses = np.unique(np.sort(edges, axis=1), axis=0, return_index=True, return_counts=True)
        boundary = first[uses == 1]
        boundary = boundary[solid[boundary % len(triangles)]]
        self._edge_face, self._edge_corner = boundary % len(triangles), boundary // len(triangles)
        self._edge_from, self._edge_to = points[edges[boundary, 0]], points[edges[boundary, 1]]
        self._edge_tree = cKDTree((self._edge_from + self._edge_to) / 2) if len(boundary) else None

    def locate(self, queries: Float[np.ndarray, "points 2"]) -> Located:
        """The triangle that each point lies in, or the nearest point of the mesh's boundary."""
        count = len(queries)
        cell = self._cells(queries)
        within = ((cell >= 0) & (cell < self._shape)).all(axis=1)
        cell = np.where(within, cell[:, 1] * self._shape[0] + cell[:, 0], 0)
        start, end = self._start[cell], np.where(within, self._start[cell + 1], self._start[cell])
        number = end - start
        query = np.repeat(np.arange(count), number)
        rank = np.arange(number.sum()) - np.repeat(np.cumsum(number) - number, number)
        face = self._faces[np.repeat(start, number) + rank]
        barycentric = self._barycentric(queries[query], face)
        margin = barycentric.min(axis=1)
        order = np.lexsort((-margin, query))
        best = order[np.r_[True, query[order][1:] != query[order][:-1]]] if len(order) else order
        best = best[margin[best] >= -1e-9]

        found = Located(np.zeros(count, dtype=int), np.zeros((count, 3)), np.zeros(count, dtype=bool))
        found.face[query[best]] = face[best]
        kept = barycentric[best].clip(min=0)
        found.barycentric[query[best]] = kept / kept.sum(axis=1, keepdims=True)
        found.inside[query[best]] = True
        outside = np.flatnonzero(~found.inside)
        if len(outside):
            found.face[outside], found.barycentric[outside] = self._nearest(queries[outside])
        return found

    def _cells(self, points: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            return np.nan_to_num(np.floor((points - self._low) / self._cell), nan=-1).astype(int)

    def _barycentric(self, queries: np.ndarray, face: np.ndarray) -> np.ndarray:
        offset = queries - self._corners[face, 0]
        b = (self._to_b[face] * offset).sum(axis=1)
        c = (self._to_c[face] * offset).sum(axis=1)
        return np.stack([1 - b - c, b, c], axis=1)

    def _nearest(self, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        assert self._edge_tree is not None, "a flat mesh of finite size has a boundary"
        _, near = self._edge_tree.query(queries, k=min(_NEIGHBOURS, len(self._edge_face)))
        near = near.reshape(len(queries), -1)
        start, along = self._edge_from[near], (self._edge_to - self._edge_from)[near]
        length = np.maximum((along**2).sum(axis=-1), 1e-300)
        t = (((queries[:, None] - start) * along).sum(axis=-1) / length).clip(0, 1)
        distance = ((start + t[..., None] * along - queries[:, None]) ** 2).sum(axis=-1)
        rows, best = np.arange(len(queries)), distance.argmin(axis=1)
        edge, t = near[rows, best], t[rows, best]
        barycentric = np.zeros((len(queries), 3))
        barycentric[rows, self._edge_corner[edge]] = 1 - t
        barycentric[rows, (self._edge_corner[edge] + 1) % 3] = t
        return self._edge_face[edge], barycentric


def signed_areas(
    points: Float[np.ndarray, "points 2"], triangles: Int[np.ndarray, "faces 3"]
) -> Float[np.ndarray, " faces"]:
    """Area of each triangle, negative for one that is wound clockwise."""
    a, b, c = (points[corner] for corner in triangles.T)
    return _cross(b - a, c - a) / 2


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
