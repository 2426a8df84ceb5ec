"""A piece of the surface laid flat: multidimensional scaling of its geodesic distances, then no fold left.

Scaling puts the vertices where their distances in the plane are, in the least-squares sense, those along the
surface; an ear or a nostril still folds over itself there. Such spots are relaxed until every triangle is
wound the right way, so that each point of the plane is one point of the surface.
"""

import numpy as np
import scipy.sparse
from jaxtyping import Bool, Float, Int
from scipy.sparse.csgraph import dijkstra
from scipy.sparse.linalg import spsolve

from kouros.body.surface.geodesics import geodesic_graph
from kouros.body.surface.planar import signed_areas

_LANDMARKS = 64
"""Vertices, spread out, whose distances are scaled; the others are placed by theirs to these."""

_REGIONS = tuple((rings, loose) for loose in (0, 1, 2) for rings in (1, 2, 3, 5, 8) if loose <= rings)
"""Rings of vertices around folds that are relaxed, and within how many the outline's are, too."""


def flatten(
    vertices: Float[np.ndarray, "verts 3"], triangles: Int[np.ndarray, "faces 3"]
) -> Float[np.ndarray, "verts 2"]:
    """A connected piece of surface in the plane, metres, triangles counter-clockwise.

    Classical scaling by eigen-decomposition on landmarks, and de Silva and Tenenbaum's (2004) placement of
    the other vertices by triangulation.

    Raises:
        ValueError: the piece cannot be laid flat without folds (it has no boundary).
    """
    distance, landmarks = _landmark_distances(vertices, triangles)
    squared = distance**2
    among = squared[:, landmarks]
    count = len(landmarks)
    centering = np.eye(count) - 1.0 / count
    values, vectors = np.linalg.eigh(-centering @ among @ centering / 2)
    values, vectors = values[-2:][::-1], vectors[:, -2:][:, ::-1]
    inverse = vectors / np.sqrt(np.maximum(values, 1e-12))
    points = -0.5 * (squared - among.mean(axis=1, keepdims=True)).T @ inverse
    if signed_areas(points, triangles).sum() < 0:
        points = points * [-1, 1]
    return _unfolded(points, triangles)


def _landmark_distances(
    vertices: np.ndarray, triangles: np.ndarray
) -> tuple[Float[np.ndarray, "landmarks verts"], Int[np.ndarray, " landmarks"]]:
    """Distances from vertices chosen one after the other, each the farthest from those before."""
    graph = geodesic_graph(vertices, triangles, points_per_edge=2)
    landmarks = [int(np.argmax(((vertices - vertices.mean(axis=0)) ** 2).sum(axis=1)))]
    rows: list[np.ndarray] = []
    nearest = np.full(len(vertices), np.inf)
    while True:
        rows.append(dijkstra(graph, directed=False, indices=landmarks[-1])[: len(vertices)])
        nearest = np.minimum(nearest, rows[-1])
        if len(rows) == min(_LANDMARKS, len(vertices)):
            return np.array(rows), np.array(landmarks)
        landmarks.append(int(nearest.argmax()))


def _unfolded(
    points: Float[np.ndarray, "verts 2"], triangles: Int[np.ndarray, "faces 3"]
) -> Float[np.ndarray, "verts 2"]:
    """Relax folded spots, and ever more around them, to the means of their neighbours."""
    count = len(points)
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    both = np.concatenate([edges, edges[:, ::-1]])
    graph = scipy.sparse.csr_matrix((np.ones(len(both)), tuple(both.T)), (count, count))
    graph.data[:] = 1.0
    on_boundary = boundary_vertices(triangles, count)
    least = 1e-5 * np.abs(signed_areas(points, triangles)).mean()
    folded = signed_areas(points, triangles) <= least
    # The inside gives way first, the outline near a fold where that does not help; small regions first.
    for rings, loose_rings in _REGIONS:
        while folded.any():
            free = np.zeros(count, dtype=bool)
            free[triangles[folded]] = True
            loose = free
            for ring in range(rings):
                free = free | (graph @ free > 0)
                loose = free if ring < loose_rings else loose
            free &= ~on_boundary | (loose if loose_rings else False)
            trial = points.copy()
            if free.any() and not free.all():
                trial[free] = _relaxed(points, graph, free)
            still = signed_areas(trial, triangles) <= least
            if still.sum() >= folded.sum():
                break
            points, folded = trial, still
    if folded.any():
        raise ValueError(
            f"A piece of the surface with {len(triangles)} triangles cannot be laid flat: {folded.sum()} of "
            "them stay folded over others. Divide it further."
        )
    return points


def _relaxed(points: np.ndarray, graph: scipy.sparse.csr_matrix, free: np.ndarray) -> np.ndarray:
    rows = graph[free]
    degree = scipy.sparse.diags(np.asarray(rows.sum(axis=1)).ravel())
    system = (degree - rows[:, free]).tocsc()
    return spsolve(system, rows[:, ~free] @ points[~free]).reshape(-1, 2)


def boundary_vertices(triangles: Int[np.ndarray, "faces 3"], count: int) -> Bool[np.ndarray, " verts"]:
    """The vertices on edges of only one triangle."""
    edges = np.sort(np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]), axis=1)
    unique, uses = np.unique(edges, axis=0, return_counts=True)
    on_boundary = np.zeros(count, dtype=bool)
    on_boundary[unique[uses == 1]] = True
    return on_boundary
