"""The rasterizer in plain torch, for any device: every pixel a face may cover, all faces at once.

The candidates of all faces are laid out in one long list, tested, and written with one scatter-min whose key
packs depth above face index, so that the nearest face wins and the lower index among equals, in any order of
execution. The arithmetic is that of `scanline`, operation by operation, so that both give the same bits.
"""

import torch
from torch import Tensor

_CANDIDATES = 1 << 22
"""Pixels tested at a time; bounds the memory to about half a gigabyte."""
_EMPTY = torch.iinfo(torch.int64).max


def draw(
    vertices: Tensor,
    faces: Tensor,
    rays_x: Tensor,
    rays_y: Tensor,
    camera: Tensor,
    near: float,
    margin: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Face, barycentric coordinates and depth of every pixel.

    Args:
        vertices: (B, V, 3) float32 or float64, camera space.
        faces: (F, 3) int64.
        rays_x: (B, W) float64, X / Z through each column's pixel centres.
        rays_y: (B, H) float64, the same of Y / Z and rows.
        camera: (B, 3) float64: focal length, principal point.
        near: depth before which nothing is drawn.
        margin: pixels added around each face's box against rounding.

    Returns:
        Face indices int64, barycentric coordinates and depth in the vertices' dtype.
    """
    dtype, vertices = vertices.dtype, vertices.double()
    # Meaningless for vertices behind the camera; they are looked at only where in front of it.
    pixels = camera[:, None, :1] * vertices[..., :2] / vertices[..., 2:] + camera[:, None, 1:]
    batch, height, width = len(vertices), rays_y.shape[1], rays_x.shape[1]
    nearest = torch.full((batch * height * width,), _EMPTY, dtype=torch.int64, device=vertices.device)
    if vertices.numel() and faces.numel():
        first, counts = _boxes(vertices, pixels, faces, camera, near, margin, height, width)
        item, face = torch.nonzero(counts.prod(dim=-1), as_tuple=True)
        first, counts = first[item, face], counts[item, face]
        normals = _edge_normals(vertices[item[:, None], faces[face]])
        ends = counts.prod(dim=-1).cumsum(dim=0)
        total = int(ends[-1]) if len(ends) else 0
        for start in range(0, total, _CANDIDATES):
            ids = torch.arange(start, min(start + _CANDIDATES, total), device=vertices.device)
            which = torch.searchsorted(ends, ids, right=True)
            within = ids - ends[which] + counts[which].prod(dim=-1)
            columns = counts[which, 0]
            j = first[which, 0] + within % columns
            i = first[which, 1] + torch.div(within, columns, rounding_mode="floor")
            normal = [n[which] for n in normals]
            edges = _edge_values(normal, rays_x[item[which], j], rays_y[item[which], i])
            covered = torch.ones_like(edges[0], dtype=torch.bool)
            for edge, n in zip(edges, normal, strict=True):
                owns = (n[:, 0] > 0) | ((n[:, 0] == 0) & (n[:, 1] > 0))
                covered &= (edge > 0) | ((edge == 0) & owns)
            covered &= edges[0] + edges[1] + edges[2] > 0
            keep = torch.nonzero(covered)[:, 0]
            which = which[keep]
            corner_depths = vertices[item[which][:, None], faces[face[which]]][..., 2]
            _, depth = _weights([edge[keep] for edge in edges], corner_depths)
            key = (depth.float().view(torch.int32).long() << 32) | face[which]
            pixel = (item[which] * height + i[keep]) * width + j[keep]
            drawn = depth >= near
            nearest.scatter_reduce_(0, pixel[drawn], key[drawn], "amin")

    found = torch.nonzero(nearest != _EMPTY)[:, 0]
    winner = nearest[found] & 0xFFFFFFFF
    face_map = torch.full_like(nearest, -1)
    face_map[found] = winner
    barycentric = torch.zeros((*nearest.shape, 3), dtype=dtype, device=vertices.device)
    depth_map = torch.full(nearest.shape, torch.inf, dtype=dtype, device=vertices.device)
    if len(found):
        item = torch.div(found, height * width, rounding_mode="floor")
        i = torch.div(found, width, rounding_mode="floor") % height
        corners = vertices[item[:, None], faces[winner]]
        edges = _edge_values(_edge_normals(corners), rays_x[item, found % width], rays_y[item, i])
        weights, depth = _weights(edges, corners[..., 2])
        barycentric[found] = weights.to(dtype)
        depth_map[found] = depth.to(dtype)
    shape = (batch, height, width)
    return face_map.reshape(shape), barycentric.reshape(*shape, 3), depth_map.reshape(shape)


def _boxes(
    vertices: Tensor,
    pixels: Tensor,
    faces: Tensor,
    camera: Tensor,
    near: float,
    margin: float,
    height: int,
    width: int,
) -> tuple[Tensor, Tensor]:
    """(B, F, 2) first column and row whose centre the face's visible part may cover, and how many follow."""
    visible = (vertices[..., 2] >= near)[:, faces, None]  # (B, F, 3, 1)
    corners = pixels[:, faces]
    low = corners.masked_fill(~visible, torch.inf).amin(dim=2)
    high = corners.masked_fill(~visible, -torch.inf).amax(dim=2)
    item, face = torch.nonzero(visible.any(dim=2)[..., 0] & ~visible.all(dim=2)[..., 0], as_tuple=True)
    if len(item):
        start = vertices[item[:, None], faces[face]]
        end = start.roll(-1, dims=1)
        t = (near - start[..., 2]) / (end[..., 2] - start[..., 2])
        crossing = start[..., :2] + t[..., None] * (end[..., :2] - start[..., :2])
        crossing = camera[item, None, :1] * crossing / near + camera[item, None, 1:]
        outside = ((start[..., 2] >= near) == (end[..., 2] >= near))[..., None]
        low[item, face] = low[item, face].minimum(crossing.masked_fill(outside, torch.inf).amin(dim=1))
        high[item, face] = high[item, face].maximum(crossing.masked_fill(outside, -torch.inf).amax(dim=1))
    size = torch.tensor([width, height], dtype=torch.float64, device=vertices.device)
    first = (low - margin - 0.5).clamp(min=0.0).minimum(size).ceil().long()
    last = (high + margin - 0.5).minimum(size - 1).clamp(min=-1.0).floor().long()
    return first, (last - first + 1).clamp(min=0)


def _edge_normals(corners: Tensor) -> list[Tensor]:
    """Of (N, 3, 3) corners: each one's inward normal (N, 3) of the plane through the eye and the other two.

    Zero for a face that is degenerate, or seen edge on: it covers nothing.
    """
    a, b, c = (corner.unbind(dim=-1) for corner in corners.unbind(dim=1))
    normals = [
        torch.stack([p[1] * q[2] - p[2] * q[1], p[2] * q[0] - p[0] * q[2], p[0] * q[1] - p[1] * q[0]], dim=-1)
        for p, q in ((b, c), (c, a), (a, b))
    ]
    first = normals[0]
    volume = a[0] * first[:, 0] + a[1] * first[:, 1] + a[2] * first[:, 2]
    return [volume.sign()[:, None] * normal for normal in normals]


def _edge_values(normals: list[Tensor], ray_x: Tensor, ray_y: Tensor) -> list[Tensor]:
    """How far inside each edge's plane the ray (x, y, 1) points, times the normal's length."""
    return [n[:, 0] * ray_x + (n[:, 1] * ray_y + n[:, 2]) for n in normals]


def _weights(edges: list[Tensor], corner_depths: Tensor) -> tuple[Tensor, Tensor]:
    """Barycentric coordinates (N, 3) and depth (N,) of the point where a ray meets its face."""
    scale = 1.0 / (edges[0] + edges[1] + edges[2])
    weights = torch.stack([edge * scale for edge in edges], dim=-1)
    u, v, w = weights.unbind(dim=-1)
    za, zb, zc = corner_depths.unbind(dim=-1)
    return weights, u * za + v * zb + w * zc
