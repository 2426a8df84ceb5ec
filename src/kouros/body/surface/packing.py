"""Islands of a UV map made symmetric and packed into the unit square, mirrored about its middle, u = 0.5.

Then the mirror image of a UV picture is the picture flipped, texel by texel, at every even size.
"""

from dataclasses import dataclass, replace

import numpy as np
import scipy.ndimage
import scipy.signal
import scipy.sparse
from jaxtyping import Float, Int
from scipy.sparse.csgraph import connected_components

from kouros.body.surface.planar import PlanarMesh, signed_areas
from kouros.body.surface.symmetry import MeshMirror

_ROWS = 192
"""Resolution at which islands are fitted together."""
_MARGIN = 1.2 / _ROWS
"""Half the least distance between islands, in units of the square's side."""
_SPARSE = 0.25
"""Islands with less than this share of the others' area for their skin (such as eyes) are enlarged."""


@dataclass(frozen=True)
class _Island:
    """One piece of the map (with its mirror image where that is another piece), in its own plane."""

    points: Float[np.ndarray, "points 2"]
    triangles: Int[np.ndarray, "faces 3"]
    faces: Int[np.ndarray, " faces"]
    """Which faces of the mesh its triangles are."""
    in_middle: bool
    """Whether it is its own mirror image; then its axis is x = 0."""


def symmetric_layout(
    uv: Float[np.ndarray, "uv_verts 2"],
    uv_faces: Int[np.ndarray, "faces 3"],
    corners: Float[np.ndarray, "faces 3 3"],
    mirror: MeshMirror,
) -> tuple[Float[np.ndarray, "new_uv_verts 2"], Int[np.ndarray, "faces 3"]] | None:
    """The same islands, symmetric about u = 0.5 and packed anew; None where the map's cuts are not symmetric.

    Args:
        uv: in units that are the same along u and v. An island much smaller than the others is enlarged.
        uv_faces: indices into ``uv`` of each face's corners.
        corners: where each face's corners are on the body; islands in the middle are turned head up.
        mirror: of the body's mesh.
    """
    if (mirror.face < 0).any():
        return None
    islands = _islands(uv, uv_faces, corners[:, :, 1], mirror)
    if islands is None:
        return None
    a, b, c = corners.transpose(1, 0, 2)
    areas = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2
    placed = _pack(_enlarged(islands, areas))
    new_uv: list[np.ndarray] = []
    new_faces = np.zeros_like(uv_faces)
    count = 0

    def add(points: np.ndarray, faces: np.ndarray, triangles: np.ndarray) -> None:
        nonlocal count
        new_uv.append(points)
        new_faces[faces] = triangles + count
        count += len(points)

    for island in placed:
        add(island.points, island.faces, island.triangles)
        if not island.in_middle:
            images = np.empty_like(island.triangles)
            np.put_along_axis(images, mirror.corner[island.faces], island.triangles, axis=1)
            add(island.points * [-1, 1], mirror.face[island.faces], images)
    packed = np.concatenate(new_uv)
    return packed + np.array([0.5, 0.0]), new_faces


def _islands(uv: np.ndarray, uv_faces: np.ndarray, up: np.ndarray, mirror: MeshMirror) -> list[_Island] | None:
    edges = np.concatenate([uv_faces[:, [0, 1]], uv_faces[:, [1, 2]]])
    graph = scipy.sparse.coo_matrix((np.ones(len(edges)), tuple(edges.T)), shape=(len(uv),) * 2)
    _, of_point = connected_components(graph, directed=False)
    of_face = of_point[uv_faces[:, 0]]
    islands = []
    done: set[int] = set()
    for number in dict.fromkeys(of_face.tolist()):
        if number in done:
            continue
        faces = np.flatnonzero(of_face == number)
        images = np.unique(of_face[mirror.face[faces]])
        if len(images) != 1 or (of_face == images[0]).sum() != len(faces):
            return None
        done |= {number, int(images[0])}
        used, triangles = np.unique(uv_faces[faces], return_inverse=True)
        points, triangles = uv[used].astype(float), triangles.reshape(-1, 3)
        in_middle = images[0] == number
        if in_middle:
            image_points = np.take_along_axis(uv_faces[mirror.face[faces]], mirror.corner[faces], axis=1)
            image = np.zeros(len(used), dtype=int)
            image[triangles] = np.searchsorted(used, image_points)
            if (image[triangles] != np.searchsorted(used, image_points)).any():
                return None
            points = _straightened(points, image, triangles, up[faces])
            if points is None:
                return None
        else:
            points = points - points.mean(axis=0)
        islands.append(_Island(points, triangles, faces, bool(in_middle)))
    return islands


def _enlarged(islands: list[_Island], areas: np.ndarray) -> list[_Island]:
    flat = np.array([np.abs(signed_areas(i.points, i.triangles)).sum() for i in islands])
    density = flat / np.array([areas[i.faces].sum() for i in islands])
    typical = flat.sum() / areas[np.concatenate([i.faces for i in islands])].sum()
    factor = np.where(density < _SPARSE * typical, np.sqrt(typical / density), 1.0)
    return [replace(i, points=i.points * f) for i, f in zip(islands, factor, strict=True)]


def _straightened(points: np.ndarray, image: np.ndarray, triangles: np.ndarray, up: np.ndarray) -> np.ndarray | None:
    """An island turned so that its mirror axis is x = 0, head up, and made symmetric."""
    centered = points - (points + points[image]).mean(axis=0) / 2
    left, _, right = np.linalg.svd(centered.T @ centered[image])
    reflection = (left @ np.diag([1.0, -np.linalg.det(left @ right)]) @ right).T
    # A reflection has the eigenvectors along (1) and across (-1) its axis.
    values, vectors = np.linalg.eigh((reflection + reflection.T) / 2)
    axis = vectors[:, values.argmax()]
    height = np.zeros(len(points))
    height[triangles] = up
    if (centered @ axis) @ (height - height.mean()) < 0:
        axis = -axis
    turned = centered @ np.array([[axis[1], axis[0]], [-axis[0], axis[1]]])
    symmetric = (turned + turned[image] * [-1, 1]) / 2
    before, after = signed_areas(points, triangles), signed_areas(symmetric, triangles)
    if ((before * after < 0) & (np.abs(before) > 1e-9)).mean() > 0.01:
        return None
    return symmetric


def _pack(islands: list[_Island]) -> list[_Island]:
    """Scale all islands alike, as large as first-fit allows, and place them; x = 0 is the middle."""
    # The largest first; an island in the middle has only its height to choose.
    order = sorted(islands, key=lambda i: (not i.in_middle, -np.abs(signed_areas(i.points, i.triangles)).sum()))
    low, high = 0.0, 2.0 / max(float(np.ptp(i.points, axis=0).max()) for i in islands)
    best: list[_Island] | None = None
    for _ in range(9):
        scale = (low + high) / 2
        placed = _placed(order, scale)
        if placed is None:
            high = scale
        else:
            low, best = scale, placed
    assert best is not None, "any islands fit if they are small enough"
    return best


def _placed(order: list[_Island], scale: float) -> list[_Island] | None:
    taken = np.zeros((_ROWS, _ROWS // 2))
    border = int(np.ceil(_MARGIN * _ROWS))
    result = []
    for island in order:
        points = island.points * scale
        low = np.array([0.0, points[:, 1].min()]) if island.in_middle else points.min(axis=0)
        size = np.ceil((points.max(axis=0) - low) * _ROWS).astype(int) + 2 * border
        columns, rows = size
        if rows > _ROWS or columns > _ROWS // 2 + border * island.in_middle:
            return None
        x, y = np.meshgrid(np.arange(columns) + 0.5 - border, np.arange(rows) + 0.5 - border)
        centers = np.stack([x.ravel(), y.ravel()], axis=1) / _ROWS + low
        inside = PlanarMesh(points, island.triangles).locate(centers).inside.reshape(rows, columns)
        mask = scipy.ndimage.binary_dilation(inside, iterations=border)
        mask |= scipy.ndimage.binary_fill_holes(mask)
        if island.in_middle:
            mask = mask[:, border:][:, : _ROWS // 2]
        overlap = scipy.signal.fftconvolve(taken, mask[::-1, ::-1].astype(float), mode="valid")
        free = np.argwhere(overlap < 0.5)
        if island.in_middle:
            free = free[free[:, 1] == 0]
        if not len(free):
            return None
        row, column = free[np.lexsort((free[:, 1], -free[:, 0]))[0]]
        taken[row : row + mask.shape[0], column : column + mask.shape[1]] += mask
        left = 0.0 if island.in_middle else (column + border) / _ROWS
        offset = np.array([left, (row + border) / _ROWS]) - low
        result.append(replace(island, points=points + (offset * [not island.in_middle, 1])))
    return result
