"""One continuous UV map of the whole body, and sampling between vertices and UV images.

A body file's own UV map, or one given as an OBJ file, is taken island by island and laid out anew so that the
left-right mirror of the body is a flip of the UV image. A file without any gets the 24 charts as islands.

A UV image has its first row at the top: texel (row, column) of a size-S image has its centre at
``u = (column + 0.5) / S``, ``v = 1 - (row + 0.5) / S``.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kouros.body.keypoints import keypoint_set
from kouros.body.model import BodyModel
from kouros.body.surface.planar import Located, PlanarMesh
from kouros.body.surface.symmetry import MeshMirror, mesh_mirror

LSP14_ASSIGNMENT = "lsp14"
SMPL24_ASSIGNMENT = "smpl24"


@dataclass(frozen=True)
class UvAtlas:
    """A UV map of a body's mesh, in [0, 1] with v up as in OBJ files."""

    uv: Float[Tensor, "uv_verts 2"]
    uv_faces: Int[Tensor, "faces 3"]
    """Indices into ``uv`` of each face's corners."""
    faces: Int[Tensor, "faces 3"]
    """The mesh's, for the vertices of the same corners."""
    symmetric: bool
    """Whether the body's mirror image is the map's flip, ``u -> 1 - u``."""


@dataclass(frozen=True)
class UvSampler:
    """What carries vertex attributes into UV images of one size and back: two sparse matrices.

    ``num_texels`` is size squared, row by row.
    """

    size: int
    valid: Bool[Tensor, "size size"]
    """Texels whose centres lie on the map."""
    face: Int[Tensor, "size size"]
    """The face at each texel's centre; off the map the nearest."""
    barycentric: Float[Tensor, "size size 3"]
    """Where in the face; off the map on its nearest edge."""
    image_from_vertices: Tensor
    """Sparse (num_texels, verts): barycentric weights, no entries in invalid rows."""
    vertices_from_image: Tensor
    """Sparse (verts, num_texels): bilinear weights among valid texels; each row sums to 1."""
    mirror: Int[Tensor, "size size"]
    """Flat index of the texel where each texel's mirror image on the body lies; -1 off the map."""

    def to_image(self, attributes: Float[Tensor, "*batch verts channels"]) -> Tensor:
        """Vertex attributes as UV images (*batch, size, size, channels); 0 off the map. Differentiable."""
        return _apply(self.image_from_vertices, attributes).unflatten(-2, (self.size, self.size))

    def to_vertices(self, image: Float[Tensor, "*batch size size channels"]) -> Tensor:
        """UV images at the vertices, (*batch, verts, channels); reads valid texels only. Differentiable.

        A vertex on a cut of the map lies at several places; it gets their mean.

        Raises:
            ValueError: the image has another size.
        """
        if image.shape[-3:-1] != (self.size, self.size):
            raise ValueError(
                f"The UV image is {tuple(image.shape[-3:-1])} texels, but this sampler is for "
                f"{self.size} x {self.size}; make one with `uv_sampler(atlas, mirror, {image.shape[-2]})`."
            )
        return _apply(self.vertices_from_image, image.flatten(-3, -2))


def uv_atlas(body: BodyModel, obj: str | Path | None = None, mirror: MeshMirror | None = None) -> UvAtlas:
    """The body's UV map, made symmetric where its islands are.

    The map is the OBJ file's if one is given, else the body file's, else the body's 24 charts, packed.

    Args:
        obj: a mesh of the same faces with texture coordinates.
        mirror: of the body's mesh, if it is known already.

    Raises:
        ValueError: the OBJ file is no UV map of this body; as `mesh_mirror` does.
    """
    from kouros.body.surface.packing import symmetric_layout  # loads scipy.signal, which takes half a second

    mirror = mirror or mesh_mirror(body)
    faces = body.faces.numpy(force=True)
    if obj is not None:
        uv, uv_faces = read_obj_uv(obj, faces)
    elif body.uv is not None and body.uv_faces is not None:
        uv = body.uv.double().numpy(force=True)
        uv_faces = body.uv_faces.numpy(force=True)
    else:
        from kouros.body.surface.charts import chart_islands

        uv, uv_faces = chart_islands(body, mirror)
    corners = body.v_template.double().numpy(force=True)[faces]
    symmetric = symmetric_layout(uv, uv_faces, corners, mirror)
    if symmetric is not None:
        uv, uv_faces = symmetric
    else:
        uv = (uv - uv.min(axis=0)) / np.ptp(uv, axis=0).max() if uv.min() < 0 or uv.max() > 1 else uv
    return UvAtlas(
        uv=torch.from_numpy(uv).to(body.v_template),
        uv_faces=torch.from_numpy(uv_faces).to(body.faces),
        faces=body.faces,
        symmetric=symmetric is not None,
    )


def read_obj_uv(
    path: str | Path, faces: Int[np.ndarray, "faces 3"]
) -> tuple[Float[np.ndarray, "uv_verts 2"], Int[np.ndarray, "faces 3"]]:
    """Texture coordinates of an OBJ file and their indices for each corner of ``faces``.

    Raises:
        ValueError: the file has no texture coordinates, or its triangles are not ``faces``.
    """
    uv: list[tuple[float, float]] = []
    corners: list[list[tuple[int, int]]] = []
    with Path(path).open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            kind, *fields = line.split() or [""]
            if kind == "vt":
                uv.append((float(fields[0]), float(fields[1])))
            elif kind == "f":
                pairs = [field.split("/") for field in fields]
                if any(len(pair) < 2 or not pair[1] for pair in pairs):
                    raise ValueError(f"{path}: a face has no texture coordinates; export the mesh with its UV map.")
                corners.append([(int(pair[0]) - 1, int(pair[1]) - 1) for pair in pairs])
    if len(corners) != len(faces) or any(len(face) != 3 for face in corners):
        raise ValueError(
            f"{path} has {len(corners)} faces where the body has {len(faces)} triangles; give the UV map of "
            "this body's own mesh, triangulated."
        )
    table = np.array(corners)
    # Programs may begin a face at another corner, and may write the faces in another order.
    start = table[:, :, 0].argmin(axis=1)
    table = np.take_along_axis(table, ((start[:, None] + np.arange(3)) % 3)[:, :, None], axis=1)
    own_start = faces.argmin(axis=1)
    turn = (own_start[:, None] + np.arange(3)) % 3
    own = np.take_along_axis(faces, turn, axis=1)
    order, own_order = np.lexsort(table[:, :, 0].T), np.lexsort(own.T)
    if (table[order][:, :, 0] != own[own_order]).any():
        raise ValueError(f"{path}: its triangles are not this body's; give the UV map of its own mesh.")
    uv_faces = np.empty_like(faces)
    turned = np.empty_like(faces)
    turned[own_order] = table[order][:, :, 1]
    np.put_along_axis(uv_faces, turn, turned, axis=1)
    return np.array(uv), uv_faces


def uv_sampler(atlas: UvAtlas, mirror: MeshMirror, size: int, *, num_vertices: int | None = None) -> UvSampler:
    """Precompute sampling between vertices and UV images.

    Args:
        mirror: of the body's mesh.
        size: of the image's sides, texels.
        num_vertices: of the mesh; None for as many as its faces use.

    Raises:
        ValueError: a size below 2.
    """
    if size < 2:
        raise ValueError(f"size is {size}; a UV image needs at least 2 texels along each side.")
    uv, uv_faces = atlas.uv.double().numpy(force=True), atlas.uv_faces.numpy(force=True)
    faces = atlas.faces.numpy(force=True)
    count = num_vertices or len(mirror.vertex)
    plane = PlanarMesh(uv, uv_faces)
    at = _located_texels(plane, size, atlas.symmetric, mirror)
    valid = at.inside
    rows = np.flatnonzero(valid)
    to_image = _sparse(
        np.repeat(rows, 3), faces[at.face[rows]].ravel(), at.barycentric[rows].ravel(), (size * size, count)
    )
    return UvSampler(
        size=size,
        valid=torch.from_numpy(valid.reshape(size, size)),
        face=torch.from_numpy(at.face.reshape(size, size)),
        barycentric=torch.from_numpy(at.barycentric.reshape(size, size, 3)).to(atlas.uv),
        image_from_vertices=to_image.to(atlas.uv),
        vertices_from_image=_bilinear(uv, uv_faces, faces, valid, size, count).to(atlas.uv),
        mirror=torch.from_numpy(_mirror_texels(uv, uv_faces, at, size, mirror).reshape(size, size)),
    )


def joint_assignment(body: BodyModel, sampler: UvSampler, joints: str = LSP14_ASSIGNMENT) -> Int[Tensor, "size size"]:
    """A_uv: the index of the joint nearest to each texel in the T-pose, -1 off the map.

    Best of Both Worlds, appendix B: each vertex is assigned to its nearest joint, the assignments are
    interpolated, and the largest wins. Symmetric: the texel at a texel's mirror image has the mirror joint.

    Args:
        joints: "lsp14" or "smpl24", or any other keypoint set that the body has.

    Raises:
        KeyError: the body cannot place that set.
    """
    share = sampler.to_image(joint_shares(body, joints).to(sampler.barycentric)).flatten(0, 1)
    swap = torch.tensor(keypoint_set(joints).mirror)
    best = share.argmax(dim=-1)
    image = sampler.mirror.flatten()
    own = torch.arange(len(best))
    mutual = (image >= 0) & (image[image.clamp(min=0)] == own)
    mirrored = swap[best[image.clamp(min=0)]]
    best = torch.where(mutual & (image < own), mirrored, best)
    return torch.where(sampler.valid.flatten(), best, -1).reshape(sampler.valid.shape)


def joint_shares(body: BodyModel, joints: str = LSP14_ASSIGNMENT) -> Float[Tensor, "verts joints"]:
    """1 for the joint of a keypoint set nearest to each vertex in the T-pose, 0 for the others.

    Where a left and a right joint are the nearest to a vertex in the middle, each has a half: a face that
    touches the middle then belongs to its own side. Mirror vertices have mirror shares.

    Raises:
        KeyError: the body cannot place that set.
        ValueError: as `mesh_mirror` does.
    """
    image = torch.from_numpy(mesh_mirror(body).vertex)
    swap = torch.tensor(keypoint_set(joints).mirror)
    distance = torch.cdist(body.v_template.double(), rest_keypoints(body, joints).double())
    distance = distance + distance[image][:, swap]
    share = torch.nn.functional.one_hot(distance.argmin(dim=-1), len(swap)).to(body.v_template)
    own = torch.arange(len(image))
    share = torch.where((image < own)[:, None], share[image][:, swap], share)
    return (share + share[image][:, swap]) / 2


def rest_keypoints(body: BodyModel, joints: str) -> Float[Tensor, "joints 3"]:
    """Where a keypoint set lies on the mean body in its T-pose, metres; "smpl24" is any body's own joints.

    Raises:
        KeyError: the body cannot place that set.
    """
    if joints == SMPL24_ASSIGNMENT:
        return body.joint_template
    with torch.no_grad():
        return body.keypoint_positions(joints)[0]


def texel_centers(size: int) -> Float[np.ndarray, "texels 2"]:
    """(u, v) of every texel's centre, row by row."""
    along = (np.arange(size) + 0.5) / size
    u, v = np.meshgrid(along, 1 - along)
    return np.stack([u.ravel(), v.ravel()], axis=1)


def _located_texels(plane: PlanarMesh, size: int, symmetric: bool, mirror: MeshMirror) -> Located:
    at = plane.locate(texel_centers(size))
    if not symmetric or size % 2:
        return at
    # The right half is the left half's mirror image to the last bit, also where an edge hits a centre.
    texel = np.arange(size * size).reshape(size, size)
    right, left = texel[:, size // 2 :], texel[:, : size // 2][:, ::-1]
    right, left = right.ravel(), left.ravel()
    at.inside[right] = at.inside[left]
    face = at.face[left]
    at.face[right] = mirror.face[face]
    flipped = np.empty((len(left), 3))
    np.put_along_axis(flipped, mirror.corner[face], at.barycentric[left], axis=1)
    at.barycentric[right] = flipped
    return at


def _mirror_texels(uv: np.ndarray, uv_faces: np.ndarray, at: Located, size: int, mirror: MeshMirror) -> np.ndarray:
    image = mirror.face[at.face]
    known = at.inside & (image >= 0)
    corners = np.take_along_axis(uv_faces[image], mirror.corner[at.face], axis=1)
    place = (uv[corners] * at.barycentric[..., None]).sum(axis=1)
    column = np.floor(place[:, 0] * size).astype(int).clip(0, size - 1)
    row = np.floor((1 - place[:, 1]) * size).astype(int).clip(0, size - 1)
    flat = row * size + column
    return np.where(known & at.inside[flat], flat, -1)


def _bilinear(
    uv: np.ndarray, uv_faces: np.ndarray, faces: np.ndarray, valid: np.ndarray, size: int, count: int
) -> Tensor:
    """Weights of texels at each vertex, the mean over the places where the map has it."""
    pairs = np.unique(np.stack([faces.ravel(), uv_faces.ravel()], axis=1), axis=0)
    places = uv[pairs[:, 1]]
    x, y = places[:, 0] * size - 0.5, (1 - places[:, 1]) * size - 0.5
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    columns = np.stack([left, left + 1, left, left + 1], axis=1)
    rows = np.stack([top, top, top + 1, top + 1], axis=1)
    fx, fy = x - left, y - top
    weight = np.stack([(1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy], axis=1)
    inside = (columns >= 0) & (columns < size) & (rows >= 0) & (rows < size)
    texel = rows.clip(0, size - 1) * size + columns.clip(0, size - 1)
    weight = np.where(inside & valid[texel], weight, 0.0)
    total = weight.sum(axis=1)
    # Where an island is thinner than a texel, the nearest valid one speaks.
    lonely = total < 1e-6
    if lonely.any():
        from scipy.spatial import cKDTree

        there = np.flatnonzero(valid)
        _, near = cKDTree(texel_centers(size)[there]).query(places[lonely])
        texel[lonely, 0] = there[near]
        weight[lonely] = [1.0, 0.0, 0.0, 0.0]
        total = weight.sum(axis=1)
    copies = np.bincount(pairs[:, 0], minlength=count)[pairs[:, 0]]
    weight = weight / (total * copies)[:, None]
    used = weight > 0
    vertex = np.repeat(pairs[:, 0], 4).reshape(-1, 4)
    return _sparse(vertex[used], texel[used], weight[used], (count, size * size))


def _sparse(rows: np.ndarray, columns: np.ndarray, values: np.ndarray, shape: tuple[int, int]) -> Tensor:
    indices = torch.from_numpy(np.stack([rows, columns]))
    return torch.sparse_coo_tensor(indices, torch.from_numpy(values), shape, check_invariants=False).coalesce()


def _apply(matrix: Tensor, values: Tensor) -> Tensor:
    batch = values.shape[:-2]
    columns = values.reshape(-1, *values.shape[-2:]).permute(1, 0, 2).flatten(1)
    product = torch.sparse.mm(matrix.to(columns), columns)
    return product.unflatten(1, (-1, values.shape[-1])).permute(1, 0, 2).reshape(*batch, len(product), -1)
