"""From fragments to values: vertex attributes at every pixel, with gradients to them and to the vertices."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kouros.geometry.cameras import PerspectiveCamera
from kouros.render.rasterize import Fragments, pinholes


def interpolate(
    attributes: Float[Tensor, "*batch verts channels"],
    faces: Int[Tensor, "faces 3"],
    fragments: Fragments,
) -> Float[Tensor, "items h w channels"]:
    """Vertex attributes at what each pixel sees; 0 where it sees nothing.

    Differentiable with respect to ``attributes`` and ``fragments.barycentric``.

    Args:
        attributes: (V, C), shared by the batch, or (B, V, C). For attributes of face corners, as textures'
            coordinates are, give the corners' own table and its own ``faces``.
        faces: the mesh's, or the corners' indices into their own table; same order of faces.

    Raises:
        ValueError: neither shape, or a batch that is not the fragments'.
    """
    batch, height, width = fragments.face.shape
    if attributes.ndim not in (2, 3) or (attributes.ndim == 3 and len(attributes) not in (1, batch)):
        raise ValueError(
            f"attributes has shape {tuple(attributes.shape)}; expected (vertices, channels) or "
            f"({batch}, vertices, channels), as many items as the fragments."
        )
    visible = torch.nonzero(fragments.face.flatten() >= 0)[:, 0]
    corners = faces.long()[fragments.face.flatten()[visible]]
    weights = fragments.barycentric.reshape(-1, 3)[visible].to(attributes.dtype)
    if attributes.ndim == 3 and len(attributes) > 1:
        item = torch.div(visible, height * width, rounding_mode="floor")
        corners = corners + item[:, None] * attributes.shape[1]
    table = attributes.reshape(-1, attributes.shape[-1])
    a, b, c = (weights[:, k, None] * table.index_select(0, corners[:, k]) for k in range(3))
    values = a + b + c
    out = torch.zeros((batch * height * width, table.shape[-1]), dtype=table.dtype, device=table.device)
    return out.index_copy(0, visible, values).reshape(batch, height, width, -1)


def visible_barycentric(
    vertices: Float[Tensor, "batch verts 3"],
    faces: Int[Tensor, "faces 3"],
    camera: PerspectiveCamera,
    fragments: Fragments,
) -> Float[Tensor, "batch h w 3"]:
    """``fragments.barycentric`` again, as a differentiable function of the vertices that were rasterized.

    Which face a pixel sees is held fixed, so the gradient tells how the surface slides under the pixel, not
    how the silhouette moves. Put it into the fragments with `dataclasses.replace`; then `interpolate` passes
    gradients to the vertices, and ``interpolate(vertices[..., 2:], ...)`` is a differentiable depth. Computed
    in float64, returned in the vertices' dtype; 0 where there is no face.
    """
    batch, height, width = fragments.face.shape
    visible = torch.nonzero(fragments.face.flatten() >= 0)[:, 0]
    item = torch.div(visible, height * width, rounding_mode="floor")
    row = torch.div(visible, width, rounding_mode="floor") % height
    pixel = torch.stack([visible % width, row], dim=-1) + 0.5
    pinhole = pinholes(camera, batch).to(vertices.device, torch.float64)[item]
    ray = torch.cat([(pixel - pinhole[:, 1:]) / pinhole[:, :1], torch.ones_like(pinhole[:, :1])], dim=-1)
    corners = vertices.double()[item[:, None], faces.long()[fragments.face.flatten()[visible]]]
    # The volumes of the tetrahedra that the ray spans with each edge (see `rasterize`).
    others = torch.linalg.cross(corners[:, [1, 2, 0]], corners[:, [2, 0, 1]])
    volumes = (others * ray[:, None]).sum(dim=-1)
    weights = (volumes / volumes.sum(dim=-1, keepdim=True)).to(vertices.dtype)
    out = torch.zeros((batch * height * width, 3), dtype=weights.dtype, device=weights.device)
    return out.index_copy(0, visible, weights).reshape(batch, height, width, 3)


def vertex_normals(
    vertices: Float[Tensor, "*batch verts 3"], faces: Int[Tensor, "faces 3"]
) -> Float[Tensor, "*batch verts 3"]:
    """Unit normals of a smooth surface: the mean of the faces' around each vertex, weighted by their areas.

    Outward for faces that are counter-clockwise seen from outside. Zero for a vertex of no face with an area.
    """
    corners = faces.long().unbind(dim=-1)
    a, b, c = (vertices.index_select(-2, corner) for corner in corners)
    face_normals = torch.linalg.cross(b - a, c - a)
    totals = torch.zeros_like(vertices)
    for corner in corners:
        totals = totals.index_add(-2, corner, face_normals)
    # Scaled first: the area of a small face, squared, would vanish in float32 and in `normalize`'s bound.
    largest = totals.abs().amax(dim=-1, keepdim=True)
    return torch.nn.functional.normalize(totals / largest.where(largest > 0, 1.0), dim=-1)
