"""The rasterizer's CPU kernel: one plain loop over faces and the pixels they may cover, compiled by numba.

Apart from `rasterize`, so that numba (half a second to import, absent on some training machines) loads only
when the kernel first runs. What is computed, and why it is exact, is told in `rasterize`.
"""

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import no_type_check

import numpy as np
import torch
from torch import Tensor

from kouros.compiled import compiled

_BAND_PIXELS = 1 << 17
"""Fewest pixels for which one item is shared between threads."""


@compiled(fuse=False)  # bit for bit what torch computes
@no_type_check
def _draw_rows(
    vertices,  # (V, 3) float64, camera space
    pixels,  # (V, 2) float64, their projections; anything where nearer than `near`
    faces,  # (F, 3) int64
    rays_x,  # (W,) float64: X / Z through each column's pixel centres
    rays_y,  # (H,) float64
    focal,
    center_x,
    center_y,
    near,
    margin,
    first_row,
    end_row,
    face_out,  # (H, W) int64
    barycentric_out,  # (H, W, 3) float32 or float64
    depth_out,  # (H, W) same
):
    """Draw all faces into rows ``first_row`` to ``end_row - 1``, which it clears first."""
    width = rays_x.shape[0]
    for i in range(first_row, end_row):
        for j in range(width):
            face_out[i, j] = -1
            depth_out[i, j] = np.inf
            barycentric_out[i, j, 0] = 0
            barycentric_out[i, j, 1] = 0
            barycentric_out[i, j, 2] = 0

    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        az, bz, cz = vertices[a, 2], vertices[b, 2], vertices[c, 2]
        if az >= near and bz >= near and cz >= near:
            left = min(pixels[a, 0], pixels[b, 0], pixels[c, 0])
            right = max(pixels[a, 0], pixels[b, 0], pixels[c, 0])
            top = min(pixels[a, 1], pixels[b, 1], pixels[c, 1])
            bottom = max(pixels[a, 1], pixels[b, 1], pixels[c, 1])
        elif az < near and bz < near and cz < near:
            continue
        else:
            left, right, top, bottom = np.inf, -np.inf, np.inf, -np.inf
            for k in range(3):
                v = faces[f, k]
                w = faces[f, (k + 1) % 3]
                if vertices[v, 2] >= near:
                    left = min(left, pixels[v, 0])
                    right = max(right, pixels[v, 0])
                    top = min(top, pixels[v, 1])
                    bottom = max(bottom, pixels[v, 1])
                if (vertices[v, 2] >= near) != (vertices[w, 2] >= near):
                    t = (near - vertices[v, 2]) / (vertices[w, 2] - vertices[v, 2])
                    x = vertices[v, 0] + t * (vertices[w, 0] - vertices[v, 0])
                    y = vertices[v, 1] + t * (vertices[w, 1] - vertices[v, 1])
                    x = focal * x / near + center_x
                    y = focal * y / near + center_y
                    left = min(left, x)
                    right = max(right, x)
                    top = min(top, y)
                    bottom = max(bottom, y)
        # Clamped as floats: projections may lie beyond what an integer holds.
        first_j = int(np.ceil(min(max(left - margin - 0.5, 0.0), float(width))))
        last_j = int(np.floor(max(min(right + margin - 0.5, width - 1.0), -1.0)))
        if first_j > last_j:
            continue
        first_i = int(np.ceil(min(max(top - margin - 0.5, float(first_row)), float(end_row))))
        last_i = int(np.floor(max(min(bottom + margin - 0.5, end_row - 1.0), -1.0)))
        if first_i > last_i:
            continue

        ax, ay = vertices[a, 0], vertices[a, 1]
        bx, by = vertices[b, 0], vertices[b, 1]
        cx, cy = vertices[c, 0], vertices[c, 1]
        nax, nay, naz = by * cz - bz * cy, bz * cx - bx * cz, bx * cy - by * cx
        nbx, nby, nbz = cy * az - cz * ay, cz * ax - cx * az, cx * ay - cy * ax
        ncx, ncy, ncz = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
        volume = ax * nax + ay * nay + az * naz
        if volume == 0:
            continue
        if volume < 0:
            nax, nay, naz = -nax, -nay, -naz
            nbx, nby, nbz = -nbx, -nby, -nbz
            ncx, ncy, ncz = -ncx, -ncy, -ncz
        owns_a = nax > 0 or (nax == 0 and nay > 0)
        owns_b = nbx > 0 or (nbx == 0 and nby > 0)
        owns_c = ncx > 0 or (ncx == 0 and ncy > 0)

        for i in range(first_i, last_i + 1):
            row_a = nay * rays_y[i] + naz
            row_b = nby * rays_y[i] + nbz
            row_c = ncy * rays_y[i] + ncz
            entered = False
            for j in range(first_j, last_j + 1):
                ea = nax * rays_x[j] + row_a
                eb = nbx * rays_x[j] + row_b
                ec = ncx * rays_x[j] + row_c
                if not (
                    (ea > 0 or (ea == 0 and owns_a))
                    and (eb > 0 or (eb == 0 and owns_b))
                    and (ec > 0 or (ec == 0 and owns_c))
                ):
                    if entered:  # rounding keeps each edge monotone along the row: the covered pixels touch
                        break
                    continue
                entered = True
                total = ea + eb + ec
                if not total > 0:
                    continue
                scale = 1.0 / total
                u, v, w = ea * scale, eb * scale, ec * scale
                z = u * az + v * bz + w * cz
                if z >= near and np.float32(z) < np.float32(depth_out[i, j]):
                    face_out[i, j] = f
                    depth_out[i, j] = z
                    barycentric_out[i, j, 0] = u
                    barycentric_out[i, j, 1] = v
                    barycentric_out[i, j, 2] = w


def draw(
    vertices: Tensor,
    faces: Tensor,
    rays_x: Tensor,
    rays_y: Tensor,
    camera: Tensor,
    near: float,
    margin: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Face, barycentric coordinates and depth of every pixel; arguments as of `scatter.draw`, on the CPU.

    Runs on as many threads as torch is set to use (`torch.set_num_threads`): over the batch, and within an
    item over bands of rows. Python threads around a kernel that holds no interpreter lock, and not
    numba's own, which end the process when two threads enter them at once or after a fork.
    """
    batch, height, width = len(vertices), rays_y.shape[1], rays_x.shape[1]
    dtype = vertices.dtype
    face = torch.empty((batch, height, width), dtype=torch.int64)
    barycentric = torch.empty((batch, height, width, 3), dtype=dtype)
    depth = torch.empty((batch, height, width), dtype=dtype)
    threads = torch.get_num_threads()
    # A small picture is drawn before a second thread has woken up on a busy machine.
    bands = max(1, min(-(-threads // max(batch, 1)), height * width // _BAND_PIXELS))
    face_indices = faces.contiguous().numpy()
    columns, rows, pinhole = (t.contiguous().numpy() for t in (rays_x, rays_y, camera))
    points = np.ascontiguousarray(vertices.numpy(), dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        pixels = pinhole[:, None, :1] * points[..., :2] / points[..., 2:] + pinhole[:, None, 1:]
    arrays = points, pixels, columns, rows, pinhole
    outputs = face.numpy(), barycentric.numpy(), depth.numpy()

    def draw_band(item: int, first_row: int, end_row: int) -> None:
        item_vertices, item_pixels, item_x, item_y, (focal, center_x, center_y) = (x[item] for x in arrays)
        item_outputs = (x[item] for x in outputs)
        _draw_rows(
            item_vertices, item_pixels, face_indices, item_x, item_y, focal, center_x, center_y, near, margin,
            first_row, end_row, *item_outputs,
        )  # fmt: skip

    jobs = [job for item in range(batch) for job in _bands(item, pixels[item], height, bands)]
    if len(jobs) <= 1 or threads == 1:
        for job in jobs:
            draw_band(*job)
    else:
        with ThreadPoolExecutor(min(threads, len(jobs))) as pool:
            list(pool.map(draw_band, *zip(*jobs, strict=True)))
    return face, barycentric, depth


def _bands(item: int, pixels: np.ndarray, height: int, bands: int) -> list[tuple[int, int, int]]:
    """(item, first row, end row) of bands that share the rows holding the mesh about equally."""
    if bands == 1 or not pixels.size:
        return [(item, 0, height)]
    rows = np.clip(np.nan_to_num(pixels[:, 1]), 0, height)  # NaN: a vertex on the camera's plane
    cuts = np.linspace(rows.min(), rows.max(), bands + 1).round().astype(int)
    edges = [0, *cuts[1:-1].tolist(), height]
    return [(item, first, end) for first, end in pairwise(edges) if end > first]
