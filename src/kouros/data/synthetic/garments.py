"""Garments as meshes: bound to the free body, carried by its skin, and drawn for everyone anew.

Each of a garment's vertices hangs on the nearest point of the skin, on the mean body with its arms lowered, for which
it was made. It follows that point, whatever pose and shape are; the way from there to the vertex turns with the joints
that move the skin. So a skirt follows the nearer leg, and cloth neither hangs nor creases. What lies mostly on the head
hangs on the head alone, long hair too, and is labelled as head; all else is labelled as the part of the skin that it
hangs on. What is covered is painted like the cover, so that skin which pokes through is not seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from torch import Tensor

from kouros.archives import read_npz
from kouros.body import BodyModel
from kouros.body.free.base_mesh import NUM_VERTICES, UNIT
from kouros.body.posing import forward_kinematics
from kouros.body.surface.parts import PARTS24
from kouros.data.mhclo import Garment, GarmentError, garment_files, read_garment
from kouros.data.synthetic.wardrobe import cloth, hair_colour
from kouros.geometry.rotations import rotvec_to_rotmat

_BASE_MESH = Path(__file__).parent / "data" / "base_mesh.npz"
_COVERED = 0.03
"""Metres from a garment within which skin is covered."""
_OVERLAP = 0.25
"""Of the smaller one's skin, which two garments may cover together."""
_NEIGHBOURS = 12
_PIECE = 0.15
"""Of a garment's vertices, which a piece of cloth of its own has at least."""
_TWIN = 0.03
"""Metres between the middle of a piece and that of its mirror image."""
_DRESSED, _WORN = 0.85, 0.85


@dataclass(frozen=True, eq=False)
class BoundGarment:
    """A garment on the free body."""

    name: str
    faces: Int[Tensor, "faces 3"]
    corners: Int[Tensor, "verts 3"]
    """Vertices of the body around the point that each vertex hangs on."""
    shares: Float[Tensor, "verts 3"]
    """Their shares; none is negative."""
    offsets: Float[Tensor, "verts 3"]
    """From there, in the T-pose, metres."""
    weights: Float[Tensor, "verts joints"]
    """By which joints turn the offsets."""
    skin: Int[Tensor, " verts"]
    """The face of the body that each vertex hangs on."""
    points: Float[np.ndarray, "verts 3"]
    """In the T-pose."""
    piece: Int[np.ndarray, " verts"]
    """Which piece of cloth each vertex belongs to."""
    covers: Int[np.ndarray, " skin"]
    """Of each vertex of the body, the garment's vertex that covers it; -1: none."""
    on_head: bool

    def posed(
        self, vertices: Float[Tensor, "verts 3"], turns: Float[Tensor, "joints 3 3"]
    ) -> Float[Tensor, "garment 3"]:
        """Where it is on a posed body.

        Args:
            vertices: of the body.
            turns: global rotations of its joints.
        """
        skin = (self.shares[..., None] * vertices[self.corners]).sum(1)
        turned = torch.einsum("vj,jrc,vc->vr", self.weights, turns, self.offsets)
        return skin + turned

    def coloured(self, rng: np.random.Generator) -> Float[np.ndarray, "verts 3"]:
        """Colours in [0, 1], drawn: of each piece its own."""
        if self.on_head:
            return hair_colour(self.points, rng)
        colours = np.empty_like(self.points)
        for number in range(int(self.piece.max()) + 1):
            mine = self.piece == number
            colours[mine] = cloth(self.points[mine], rng, patterned=0.3, dark=0.4)
        return colours


@dataclass(frozen=True, eq=False)
class BaseMesh:
    """The base mesh of the mean adult, arms lowered, and the free body in the same pose."""

    points: Float[np.ndarray, "base 3"]
    skin: Float[np.ndarray, "verts 3"]
    """The free body's vertices."""

    @staticmethod
    @cache
    def packaged() -> "BaseMesh":
        """Of the packaged body."""
        shapes = {"vertices": ((NUM_VERTICES, 3), "int16"), "kept": ((None,), "int16")}
        file = read_npz(_BASE_MESH, shapes)
        points = UNIT * file["vertices"].astype(np.float64)
        return BaseMesh(points, points[file["kept"]])


class Wardrobe:
    """A folder's garments, bound to a body.

    Args:
        folder: with ``.mhclo`` files in it or below.
        body: the packaged one.

    Raises:
        GarmentError: there are none, or one cannot be used.
        OSError: a file cannot be read.
    """

    def __init__(self, folder: Path, body: BodyModel) -> None:
        base = BaseMesh.packaged()
        if len(base.skin) != len(body.v_template):
            raise GarmentError("Garments hang on the packaged body only.")
        self._body = body
        turns = turned_between(base.skin, body.v_template.double().numpy())
        self.garments = [bound(read_garment(path, NUM_VERTICES), base, body, turns) for path in garment_files(folder)]

    def outfit(self, rng: np.random.Generator) -> list[BoundGarment]:
        """What somebody wears, drawn: nothing, or garments of which no two cover the same skin."""
        order = rng.permutation(len(self.garments))
        wanted = rng.random(len(order)) < _WORN
        if rng.random() > _DRESSED:
            return []
        worn: list[BoundGarment] = []
        taken: list[Bool[np.ndarray, " skin"]] = []
        for k in order:
            covers = self.garments[k].covers >= 0
            if all((covers & other).sum() <= _OVERLAP * min(covers.sum(), other.sum()) for other in taken):
                taken.append(covers)
                if wanted[k]:
                    worn.append(self.garments[k])
        return worn

    def turns(self, pose: Float[np.ndarray, "people 72"]) -> Float[Tensor, "people joints 3 3"]:
        """Global rotations of everyone's joints."""
        rotations = rotvec_to_rotmat(torch.from_numpy(pose).unflatten(-1, (-1, 3)))
        rest = self._body.joint_template.expand(len(pose), -1, -1).contiguous()
        return forward_kinematics(rotations, rest)[0]


def joined(
    outfit: Sequence[BoundGarment], vertices: Float[Tensor, "verts 3"], turns: Float[Tensor, "joints 3 3"]
) -> tuple[Float[Tensor, "points 3"], Int[Tensor, "faces 3"], Int[Tensor, " points"]]:
    """All that somebody wears as one mesh, and the face of the body that each of its vertices hangs on."""
    points, faces, skin, start = [torch.zeros(0, 3)], [torch.zeros(0, 3, dtype=torch.int64)], [], 0
    for garment in outfit:
        points.append(garment.posed(vertices, turns))
        faces.append(garment.faces + start)
        skin.append(garment.skin)
        start += len(garment.corners)
    return torch.cat(points), torch.cat(faces), torch.cat(skin) if skin else torch.zeros(0, dtype=torch.int64)


def bound(garment: Garment, base: BaseMesh, body: BodyModel, turns: Float[np.ndarray, "verts 3 3"]) -> BoundGarment:
    """A garment on the free body.

    Args:
        turns: of the skin around each of the body's vertices, from the base mesh's pose to the T-pose.
    """
    points = garment.on(base.points)
    faces = body.faces.numpy()
    head = body.weights.argmax(1).numpy() == PARTS24.label("head") - 1
    face, shares = nearest_on_mesh(points, base.skin, faces)
    on_head = bool(head[faces[face]].all(axis=1).mean() > 0.5)
    if on_head:
        of_head = np.flatnonzero(head[faces].all(axis=1))
        nearest, shares = nearest_on_mesh(points, base.skin, faces[of_head])
        face = of_head[nearest]
    corners = faces[face]
    rest = body.v_template.double().numpy()
    lowered = points - np.einsum("vk,vkc->vc", shares, base.skin[corners])
    offsets = np.einsum("vk,vkrc,vc->vr", shares, turns[corners], lowered, optimize=True)
    weights = np.einsum("vk,vkj->vj", shares, body.weights.double().numpy()[corners])
    at_rest = np.einsum("vk,vkc->vc", shares, rest[corners]) + offsets
    away, covering = cKDTree(points).query(base.skin)
    return BoundGarment(
        name=garment.name,
        faces=torch.from_numpy(garment.faces),
        corners=torch.from_numpy(corners.astype(np.int64)),
        shares=torch.from_numpy(shares).float(),
        offsets=torch.from_numpy(offsets).float(),
        weights=torch.from_numpy(weights).float(),
        skin=torch.from_numpy(face.astype(np.int64)),
        points=at_rest,
        piece=_pieces(garment, at_rest),
        covers=np.where(away < _COVERED, covering, -1),
        on_head=on_head,
    )


def _pieces(garment: Garment, points: Float[np.ndarray, "verts 3"]) -> Int[np.ndarray, " verts"]:
    """Connected pieces by number: a left and a right one are one, small ones (buttons, laces) go with the largest."""
    count = len(points)
    edges = np.concatenate([garment.faces[:, [0, 1]], garment.faces[:, [1, 2]]])
    graph = sparse.coo_matrix((np.ones(len(edges)), edges.T), shape=(count, count))
    _, piece = connected_components(graph, directed=False)
    sizes = np.bincount(piece)
    middles = np.stack([np.bincount(piece, axis) / sizes for axis in (np.abs(points[:, 0]), *points[:, 1:].T)], axis=1)
    cut = [k for k in np.argsort(-sizes, kind="stable") if sizes[k] >= min(_PIECE * count, sizes.max())]
    number = np.zeros(len(sizes), dtype=np.int64)
    for here, k in enumerate(cut):
        twin = next((n for n in cut[:here] if np.linalg.norm(middles[n] - middles[k]) < _TWIN), None)
        number[k] = number.max() + 1 if here and twin is None else 0 if twin is None else number[twin]
    return number[piece]


def turned_between(
    before: Float[np.ndarray, "verts 3"], after: Float[np.ndarray, "verts 3"]
) -> Float[np.ndarray, "verts 3 3"]:
    """How a mesh turns around each of its vertices from one pose to another: the best rotation of the nearest ones."""
    near = cKDTree(before).query(before, _NEIGHBOURS)[1]
    first, second = (p[near] - p[near].mean(axis=1, keepdims=True) for p in (before, after))
    u, _, vt = np.linalg.svd(np.einsum("vki,vkj->vij", second, first))
    u[:, :, 2] *= np.linalg.det(u @ vt)[:, None]
    return u @ vt


def nearest_on_mesh(
    points: Float[np.ndarray, "points 3"], vertices: Float[np.ndarray, "verts 3"], faces: Int[np.ndarray, "faces 3"]
) -> tuple[Int[np.ndarray, " points"], Float[np.ndarray, "points 3"]]:
    """The face that is nearest to each point, of those whose middles are, and the shares of its corners there."""
    middles = vertices[faces].mean(axis=1)
    candidates = cKDTree(middles).query(points, min(_NEIGHBOURS, len(faces)))[1].reshape(len(points), -1)
    shares = _nearest_in_triangle(points[:, None], vertices[faces[candidates]])
    found = np.einsum("pnk,pnkc->pnc", shares, vertices[faces[candidates]])
    best = np.linalg.norm(found - points[:, None], axis=-1).argmin(axis=1)
    rows = np.arange(len(points))
    return candidates[rows, best], shares[rows, best]


def _nearest_in_triangle(
    points: Float[np.ndarray, "points 1 3"], triangles: Float[np.ndarray, "points some 3 3"]
) -> Float[np.ndarray, "points some 3"]:
    """Shares of the corners in the point of each triangle that is nearest."""
    a, b, c = np.moveaxis(triangles, -2, 0)
    u, v, w = b - a, c - a, points - a
    uu, uv, vv = ((x * y).sum(-1) for x, y in ((u, u), (u, v), (v, v)))
    wu, wv = (w * u).sum(-1), (w * v).sum(-1)
    area = np.maximum(uu * vv - uv * uv, 1e-20)
    inside = np.stack([(vv * wu - uv * wv) / area, (uu * wv - uv * wu) / area], axis=-1)
    inside = np.concatenate([1 - inside.sum(-1, keepdims=True), inside], axis=-1)
    # Outside: the nearest point of the three edges.
    choices = [inside]
    for first, second in ((0, 1), (1, 2), (2, 0)):
        start, edge = triangles[..., first, :], triangles[..., second, :] - triangles[..., first, :]
        along = (((points - start) * edge).sum(-1) / np.maximum((edge**2).sum(-1), 1e-20)).clip(0, 1)
        on_edge = np.zeros_like(inside)
        on_edge[..., first], on_edge[..., second] = 1 - along, along
        choices.append(on_edge)
    shares = np.stack(choices)
    away = np.linalg.norm(np.einsum("mpnk,pnkc->mpnc", shares, triangles) - points, axis=-1)
    away[0] = np.where((inside >= 0).all(-1), -1.0, np.inf)
    best = away.argmin(axis=0)
    return np.take_along_axis(shares, best[None, ..., None], axis=0)[0]
