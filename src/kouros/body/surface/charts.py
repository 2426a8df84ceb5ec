"""Cartesian charts: each of DensePose's 24 patches laid flat on a 32 x 32 grid (HoloPose, Sec. 2.2).

On the mesh, (part, u, v) is answered by finding a triangle and mixing its corners. Here everything that
makes a posed point (rest position, shape and pose directions, skinning weights) is tabulated on the grids, so
that a point is a bilinear lookup, differentiable in u and v as well as in the body's parameters, without the mesh.

A patch is flattened by `flatten`. Hands and feet, which have two sides, get them side by side in one grid:
the palm or sole in u < 0.5, the back or instep in u > 0.5. The chart of a right part is that of the left
mirrored: the mirror image of (part, u, v) is (mirror part, 1 - u, v). v grows towards the body's root, or up.
"""

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import scipy.sparse
import torch
from jaxtyping import Bool, Float, Int
from scipy.sparse.linalg import splu
from torch import Tensor

from kouros.body.lbs import pose_feature
from kouros.body.model import BodyModel
from kouros.body.surface.flatten import flatten
from kouros.body.surface.parts import DENSEPOSE24, face_labels, split_sides
from kouros.body.surface.planar import PlanarMesh
from kouros.body.surface.symmetry import MeshMirror, mesh_mirror

GRID = 32
"""Nodes along each side of a chart's grid; they lie at ``i / 31``, the border included."""
_PARTS_APART = 4.0
"""Distance between charts laid out in one plane, so that the nearest point is of the same part."""
_SAMPLES = 3
"""Samples along each side of a grid's cell, at which the grid is fitted to the surface."""
_STIFFNESS = 1e-3
"""Weight of smoothness between neighbouring nodes in that fit; it alone places nodes off the chart."""
_ROOTWARDS = {"torso": (0, 1, 0), "head": (0, 1, 0), "thigh": (0, 1, 0), "leg": (0, 1, 0), "foot": (0, 0, -1)}
"""Where v grows to in the T-pose; for the parts of arms it is towards the trunk."""


@dataclass(frozen=True)
class ChartPoints:
    """What makes points of a body, taken from the charts once, for any parameters."""

    position: Float[Tensor, "*points 3"]
    """In the template, metres."""
    directions: Float[Tensor, "*points 3 coefficients"]
    """How each beta, then each entry of ``R - I`` of the joints but the root, moves them, metres."""
    weights: Float[Tensor, "*points 24"]
    """Of the joints that carry them."""


@dataclass(frozen=True)
class Charts:
    """The 24 charts of one body.

    Parts are numbered from 1, in DensePose's order, as labels are.
    """

    face_part: Int[Tensor, " faces"]
    """Which chart each face is on."""
    face_uv: Float[Tensor, "faces 3 2"]
    """Where on it its corners are, in [0, 1]."""
    valid: Bool[Tensor, "24 32 32"]
    """Grid nodes (part - 1, v, u) that lie on their chart; the others are continued smoothly."""
    size: Float[Tensor, "24 2"]
    """Metres on the template that a unit of u and of v is, on average."""
    rest: Float[Tensor, "nodes 27"]
    """For each node, chart by chart and row by row: template position and skinning weights."""
    directions: Float[Tensor, "nodes channels"]
    """For each node, x, y and z one after the other: shape directions, then pose directions."""

    def lookup(self, part: Int[Tensor, "*points"], uv: Float[Tensor, "*points 2"]) -> ChartPoints:
        """Interpolate the tables bilinearly at (part, u, v). Differentiable in ``uv``.

        Off the chart, and beyond [0, 1] to which u and v are clamped, the answer is a smooth continuation.

        Raises:
            ValueError: a part that is not 1 to 24, or NaN in ``uv``.
        """
        if part.numel() and (int(part.min()) < 1 or int(part.max()) > len(DENSEPOSE24)):
            raise ValueError(
                f"part has labels from {int(part.min())} to {int(part.max())}; charts are numbered 1 to 24 "
                "(0 is the background: leave such points out)."
            )
        if bool(uv.isnan().any()):
            raise ValueError("uv has NaN; leave points without a correspondence out.")
        at = (uv.clamp(0, 1) * (GRID - 1)).reshape(-1, 2)
        corner = at.detach().floor().clamp(max=GRID - 2)
        (fu, fv), (u, v) = (at - corner).unbind(-1), corner.long().unbind(-1)
        first = (part.reshape(-1) - 1) * GRID * GRID + v * GRID + u
        nodes = torch.stack([first, first + 1, first + GRID, first + GRID + 1], dim=-1)
        weights = torch.stack([(1 - fu) * (1 - fv), fu * (1 - fv), (1 - fu) * fv, fu * fv], dim=-1)
        rest, directions = (
            torch.nn.functional.embedding_bag(nodes, table, per_sample_weights=weights.to(table), mode="sum").reshape(
                *part.shape, table.shape[-1]
            )
            for table in (self.rest, self.directions)
        )
        return ChartPoints(
            position=rest[..., :3],
            directions=directions.unflatten(-1, (3, -1)),
            weights=rest[..., 3:],
        )

    def covers(self, part: Int[Tensor, "*points"], uv: Float[Tensor, "*points 2"]) -> Bool[Tensor, "*points"]:
        """Whether (part, u, v) is on its chart as finely as the grid knows: any node around it is.

        Where it is not, no vertex is near, and HoloPose ignores such points. False for the background and for NaN.
        """
        there = (part >= 1) & (part <= len(DENSEPOSE24)) & torch.isfinite(uv).all(-1)
        place = torch.where(there[..., None], uv, 0.0)
        inside = ((place >= 0) & (place <= 1)).all(-1)
        low = (place.clamp(0, 1) * (GRID - 1)).floor().clamp(max=GRID - 2).long()
        chart = torch.where(there, part, 1) - 1
        nodes = [self.valid[chart, low[..., 1] + j, low[..., 0] + i] for i in (0, 1) for j in (0, 1)]
        return there & inside & torch.stack(nodes).any(0)

    def to(self, device: torch.device) -> "Charts":
        """The same on another device."""
        tables = {f.name: getattr(self, f.name).to(device) for f in fields(self)}
        return Charts(**tables)

    def locate(
        self, part: Int[Tensor, " points"], uv: Float[Tensor, "points 2"]
    ) -> tuple[Int[Tensor, " points"], Float[Tensor, "points 3"], Bool[Tensor, " points"]]:
        """The mesh's faces and barycentric coordinates at (part, u, v), and whether that is on the chart.

        Off the chart, the nearest point of its outline. Not differentiable.
        """
        queries = uv.double().numpy(force=True) + [_PARTS_APART, 0] * part.numpy(force=True)[:, None]
        found = self._plane.locate(queries)
        return (
            torch.from_numpy(found.face).to(part),
            torch.from_numpy(found.barycentric).to(uv),
            torch.from_numpy(found.inside).to(part.device),
        )

    @cached_property
    def _plane(self) -> PlanarMesh:
        corners = self.face_uv.double().numpy(force=True).copy()
        corners[:, :, 0] += _PARTS_APART * self.face_part.numpy(force=True)[:, None]
        points, index = np.unique(corners.reshape(-1, 2), axis=0, return_inverse=True)
        return PlanarMesh(points, index.reshape(-1, 3))


def place_points(
    body: BodyModel,
    points: ChartPoints,
    betas: Tensor | None = None,
    body_pose: Tensor | None = None,
    global_orient: Tensor | None = None,
    transl: Tensor | None = None,
    *,
    pose2rot: bool = True,
) -> Float[Tensor, "batch points 3"]:
    """Points on posed bodies, metres; parameters as the body takes them, points shared or one set a body.

    Differentiable in the parameters and the points.

    Args:
        points: looked up on this body's charts, (points) for all bodies or (batch, points).
    """
    posed = body._pose(betas, body_pose, global_orient, transl, pose2rot)
    coefficients = torch.cat([posed.betas, pose_feature(posed.rotations)], dim=1)
    if points.position.ndim == 2:
        offsets = coefficients @ points.directions.flatten(0, 1).T
    else:
        offsets = (points.directions.flatten(1, 2) @ coefficients[..., None])[..., 0]
    rest = points.position + offsets.unflatten(-1, (-1, 3))
    blended = (points.weights @ posed.transforms.flatten(-2)).unflatten(-1, (3, 4))
    moved = (blended[..., :3] @ rest[..., None])[..., 0] + blended[..., 3]
    return moved if posed.transl is None else moved + posed.transl[:, None]


def chart_points(
    body: BodyModel,
    charts: Charts,
    part: Int[Tensor, "*points"],
    uv: Float[Tensor, "*points 2"],
    betas: Tensor | None = None,
    body_pose: Tensor | None = None,
    global_orient: Tensor | None = None,
    transl: Tensor | None = None,
    *,
    pose2rot: bool = True,
) -> Float[Tensor, "batch points 3"]:
    """The points (part, u, v) of posed bodies, metres, without their meshes.

    Args:
        body: the body that the charts are of.
        charts: see `build_charts`.
        part: 1 to 24, (points) for all bodies or (batch, points).
        uv: on the charts, in [0, 1].
        betas: this and the rest as the body takes them.

    Raises:
        ValueError: as `Charts.lookup` and the body do.
    """
    points = charts.lookup(part, uv)
    return place_points(body, points, betas, body_pose, global_orient, transl, pose2rot=pose2rot)


@dataclass(frozen=True)
class _FlatPart:
    """One chart's triangles, in [0, 1]^2."""

    faces: Int[np.ndarray, " faces"]
    uv: Float[np.ndarray, "faces 3 2"]
    size: Float[np.ndarray, " 2"]


def build_charts(body: BodyModel, mirror: MeshMirror | None = None) -> Charts:
    """Flatten a body's template and tabulate its model on the charts; a few seconds.

    Args:
        mirror: of the body's mesh, if it is known already.

    Raises:
        ValueError: as `mesh_mirror` does; a patch that cannot be laid flat.
    """
    mirror = mirror or mesh_mirror(body)
    flat = _flat_parts(body, mirror)
    faces = body.faces.numpy(force=True)
    face_part = np.zeros(len(faces), dtype=int)
    face_uv = np.zeros((len(faces), 3, 2))
    for part, chart in enumerate(flat, start=1):
        face_part[chart.faces] = part
        face_uv[chart.faces] = chart.uv

    directions = torch.cat([body.shapedirs, body.posedirs.T.unflatten(0, (-1, 3))], dim=-1).flatten(1)
    attributes = torch.cat([body.v_template, body.weights, directions], dim=1).double().numpy(force=True)
    grids, valid = [], []
    for chart in flat:
        used, triangles = np.unique(faces[chart.faces], return_inverse=True)
        values, on_chart = _gridded(chart.uv, triangles.reshape(-1, 3), attributes[used])
        grids.append(values)
        valid.append(on_chart)
    table = torch.from_numpy(np.concatenate(grids))
    like = body.v_template
    return Charts(
        face_part=torch.from_numpy(face_part).to(body.faces),
        face_uv=torch.from_numpy(face_uv).to(like),
        valid=torch.from_numpy(np.stack(valid)).to(like.device),
        size=torch.from_numpy(np.stack([chart.size for chart in flat])).to(like),
        rest=table[:, :27].to(like).contiguous(),
        directions=table[:, 27:].to(like).contiguous(),
    )


def chart_islands(
    body: BodyModel, mirror: MeshMirror
) -> tuple[Float[np.ndarray, "uv_verts 2"], Int[np.ndarray, "faces 3"]]:
    """The charts as islands of one UV map, in metres: for bodies whose file has none."""
    faces = body.faces.numpy(force=True)
    points: list[np.ndarray] = []
    uv_faces = np.zeros_like(faces)
    count = 0
    charts = _flat_parts(body, mirror)
    # In rows of six; whoever can lay them out more closely will.
    cell = np.max([chart.size for chart in charts], axis=0) * 1.05
    for number, chart in enumerate(charts):
        place = chart.uv * chart.size + cell * [number % 6, number // 6]
        corners = np.concatenate([place.reshape(-1, 2), faces[chart.faces].reshape(-1, 1)], axis=1)
        unique, index = np.unique(corners.round(9), axis=0, return_inverse=True)
        uv_faces[chart.faces] = index.reshape(-1, 3) + count
        points.append(unique[:, :2])
        count += len(unique)
    return np.concatenate(points), uv_faces


def _flat_parts(body: BodyModel, mirror: MeshMirror) -> list[_FlatPart]:
    """All charts; right ones are the left ones mirrored, where the mesh's faces are."""
    vertices = body.v_template.double().numpy(force=True)
    faces = body.faces.numpy(force=True)
    labels = face_labels(body, DENSEPOSE24, mirror)
    mirrored = not (mirror.face < 0).any()
    flat: dict[str, _FlatPart] = {}
    for part, name in enumerate(DENSEPOSE24.names, start=1):
        if name.startswith("right_") and mirrored:
            continue
        members = np.flatnonzero(labels == part)
        if not len(members):
            raise ValueError(f"The body has no face of {name}; its skinning weights are not those of a body.")
        sides = [members]
        if name.endswith(("_hand", "_foot")):
            sides = split_sides(vertices, faces, members)
        placed = [_flat_side(vertices, faces, side, name, mirror if mirrored else None) for side in sides]
        flat[name] = _side_by_side(sides, placed)
    for part, name in enumerate(DENSEPOSE24.names, start=1):
        if name in flat:
            continue
        left = flat[DENSEPOSE24.names[DENSEPOSE24.mirror[part] - 1]]
        uv = np.empty_like(left.uv)
        np.put_along_axis(uv, mirror.corner[left.faces][:, :, None], left.uv * [-1, 1] + [1, 0], axis=1)
        flat[name] = _FlatPart(mirror.face[left.faces], uv, left.size)
    return [flat[name] for name in DENSEPOSE24.names]


def _flat_side(
    vertices: np.ndarray, faces: np.ndarray, members: np.ndarray, name: str, mirror: MeshMirror | None
) -> np.ndarray:
    """Corners of one connected piece in the plane (faces, 3, 2), metres, v the right way up."""
    used, triangles = np.unique(faces[members], return_inverse=True)
    triangles = triangles.reshape(-1, 3)
    points = flatten(vertices[used], triangles)
    points = points - points.mean(axis=0)
    default = (-1.0 if name.startswith("left") else 1.0, 0.0, 0.0)
    rootwards = next((np.array(d, dtype=float) for word, d in _ROOTWARDS.items() if word in name), np.array(default))
    height = vertices[used] @ rootwards
    rise = np.linalg.lstsq(points, height - height.mean(), rcond=None)[0]
    rise = rise / np.linalg.norm(rise)
    points = points @ np.array([[rise[1], rise[0]], [-rise[0], rise[1]]])
    if mirror is not None and not name.startswith(("left_", "right_")):
        image = np.searchsorted(used, mirror.vertex[used])
        points = (points + points[image] * [-1, 1]) / 2
    return points[triangles]


def _side_by_side(sides: list[np.ndarray], corners: list[np.ndarray]) -> _FlatPart:
    """Scale each piece into its share of the unit square, with a cell between two."""
    cell = 1 / (GRID - 1)
    share = (1 - cell * (len(sides) - 1)) / len(sides)
    uv, sizes = [], []
    for number, piece in enumerate(corners):
        low, extent = piece.min(axis=(0, 1)), np.ptp(piece, axis=(0, 1))
        uv.append((piece - low) / extent * [share, 1.0] + [number * (share + cell), 0.0])
        sizes.append(extent / [share, 1.0])
    return _FlatPart(np.concatenate(sides), np.concatenate(uv), np.mean(sizes, axis=0))


def _gridded(
    uv: Float[np.ndarray, "faces 3 2"],
    triangles: Int[np.ndarray, "faces 3"],
    attributes: Float[np.ndarray, "verts channels"],
) -> tuple[Float[np.ndarray, "nodes channels"], Bool[np.ndarray, "32 32"]]:
    """Values at the nodes whose bilinear interpolation comes closest to the surface's, all over the chart."""
    points, index = np.unique(uv.reshape(-1, 2), axis=0, return_inverse=True)
    plane = PlanarMesh(points, index.reshape(-1, 3))
    along = np.arange(GRID) / (GRID - 1)
    u, v = np.meshgrid(along, along)
    on_chart = plane.locate(np.stack([u.ravel(), v.ravel()], axis=1)).inside.reshape(GRID, GRID)

    fine = (np.arange((GRID - 1) * _SAMPLES) + 0.5) / ((GRID - 1) * _SAMPLES)
    u, v = np.meshgrid(fine, fine)
    samples = np.stack([u.ravel(), v.ravel()], axis=1)
    # The corners too, so that no sliver of the chart goes unseen.
    samples = np.concatenate([samples, points])
    found = plane.locate(samples)
    samples, face, weight = samples[found.inside], found.face[found.inside], found.barycentric[found.inside]
    bilinear = _bilinear_matrix(samples)
    rows = np.repeat(np.arange(len(samples)), 3)
    mix = scipy.sparse.csr_matrix((weight.ravel(), (rows, triangles[face].ravel())), (len(samples), len(attributes)))
    difference = scipy.sparse.diags([-1.0, 2.0, -1.0], [0, 1, 2], shape=(GRID - 2, GRID))
    along_u = scipy.sparse.kron(scipy.sparse.eye(GRID), difference)
    along_v = scipy.sparse.kron(difference, scipy.sparse.eye(GRID))
    stiffness = _STIFFNESS * (along_u.T @ along_u + along_v.T @ along_v)
    system = splu((bilinear.T @ bilinear + stiffness).tocsc())
    return system.solve((bilinear.T @ mix) @ attributes), on_chart


def _bilinear_matrix(uv: np.ndarray) -> scipy.sparse.csr_matrix:
    at = uv.clip(0, 1) * (GRID - 1)
    corner = np.floor(at).clip(max=GRID - 2).astype(int)
    (fu, fv), (u, v) = (at - corner).T, corner.T
    weights = np.stack([(1 - fu) * (1 - fv), fu * (1 - fv), (1 - fu) * fv, fu * fv], axis=1)
    first = v * GRID + u
    nodes = np.stack([first, first + 1, first + GRID, first + GRID + 1], axis=1)
    rows = np.repeat(np.arange(len(uv)), 4)
    return scipy.sparse.csr_matrix((weights.ravel(), (rows, nodes.ravel())), (len(uv), GRID * GRID))
