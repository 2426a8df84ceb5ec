"""Which face each pixel sees, where on that face, and how far away: the base of all maps and pictures.

Coverage is decided in homogeneous form (Olano and Greer, "Triangle Scan Conversion using 2D Homogeneous
Coordinates", 1997). The eye and an edge ``(p, q)`` of a face span a plane with normal ``p x q``; a pixel's
ray ``d`` meets the face if it lies inside all three planes, and the three values ``d . (p x q)``, divided by
their sum, are the perspective-correct barycentric coordinates of the point it meets. Nothing is divided by a
vertex's depth, so faces that cross the camera's plane need no clipping: the near plane is a test of each
pixel's depth.

Two faces that share an edge see exactly opposite values, because floating-point products commute and
differences negate exactly, and a tie goes to the face whose left or top edge it is: each pixel is drawn once,
with no gaps (but for a centre that lies on a vertex within rounding, about 1e-9 pixels). All of it is
float64, in an order of operations that `scanline` (CPU, numba) and `scatter` (any device, torch) share: they
return the same bits.
"""

import importlib.util
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from kouros.batched import Batched
from kouros.geometry.cameras import PerspectiveCamera
from kouros.render import scatter

_BOX_MARGIN = 1e-3
"""Pixels around a face's projected box; rounding moves an edge by far less (1e-6 for a body 10 km away)."""


@dataclass(frozen=True)
class Fragments(Batched):
    """What each pixel's centre sees of a mesh."""

    face: Int[Tensor, "*batch h w"]
    """Index of the face, -1 where there is none."""
    barycentric: Float[Tensor, "*batch h w 3"]
    """Of the point on the 3D face (perspective-correct); 0 where there is no face."""
    depth: Float[Tensor, "*batch h w"]
    """Its z in camera space, metres; infinity where there is no face."""

    @property
    def mask(self) -> Tensor:
        """(batch, h, w) bool: where there is a face."""
        return self.face >= 0


def rasterize(
    vertices: Float[Tensor, "batch verts 3"],
    faces: Int[Tensor, "faces 3"],
    camera: PerspectiveCamera,
    image_size: tuple[int, int],
    *,
    near: float = 0.01,
    method: Literal["numba", "torch"] | None = None,
) -> Fragments:
    """The nearest face at every pixel's centre, seen from either side; the lower index among equally near.

    Depths are compared at float32's precision. Not differentiable: see `attributes.visible_barycentric`.

    Args:
        vertices: camera space, metres; float32 or float64.
        faces: shared by the batch.
        camera: one for each item, or one for all.
        image_size: (height, width), pixels.
        near: nothing nearer than this is drawn, metres.
        method: "numba" (CPU only) or "torch"; None takes numba for tensors on the CPU where it is installed.

    Returns:
        On the vertices' device; barycentric coordinates and depth in their dtype.

    Raises:
        TypeError: vertices that are not float32 or float64, or faces that are not integers.
        ValueError: a wrong shape, NaN or infinite vertices, a face that names no vertex, an image without
            pixels, a focal length or near plane that is not positive.
    """
    height, width = image_size
    check_mesh(vertices, faces)
    if height < 1 or width < 1:
        raise ValueError(f"image_size is {height} x {width} (height x width); both must be at least 1.")
    if not near > 0:
        raise ValueError(f"near is {near}; it must be a positive depth in metres.")
    if method is None:
        method = "numba" if vertices.device.type == "cpu" and _numba_is_installed() else "torch"
    if method not in ("numba", "torch"):
        raise ValueError(f"method is {method!r}; choose 'numba', 'torch' or None.")
    if method == "numba" and vertices.device.type != "cpu":
        raise ValueError(f"method 'numba' runs on the CPU but vertices is on {vertices.device}; use 'torch'.")

    with torch.no_grad():
        pinhole = pinholes(camera, len(vertices)).to(vertices.device, torch.float64)
        if not bool((pinhole[:, 0] > 0).all()) or not bool(pinhole.isfinite().all()):
            raise ValueError("camera: the focal length must be positive and the principal point finite.")
        columns = torch.arange(width, dtype=torch.float64, device=vertices.device) + 0.5
        rows = torch.arange(height, dtype=torch.float64, device=vertices.device) + 0.5
        rays_x = (columns - pinhole[:, 1:2]) / pinhole[:, :1]
        rays_y = (rows - pinhole[:, 2:3]) / pinhole[:, :1]
        if method == "numba":
            from kouros.render import scanline

            draw = scanline.draw
        else:
            draw = scatter.draw
        face, barycentric, depth = draw(vertices.detach(), faces.long(), rays_x, rays_y, pinhole, near, _BOX_MARGIN)
    return Fragments(face=face, barycentric=barycentric, depth=depth)


def pinholes(camera: PerspectiveCamera, batch: int) -> Float[Tensor, "batch 3"]:
    """Focal length and principal point of each item, one camera being shared by all.

    Raises:
        ValueError: neither one camera nor ``batch`` of them.
    """
    packed = torch.cat([camera.focal_length[..., None], camera.principal_point], dim=-1)
    if packed.ndim > 2 or (packed.ndim == 2 and len(packed) not in (1, batch)):
        raise ValueError(
            f"camera holds {tuple(packed.shape[:-1])} pinholes for a batch of {batch}; give one, or one for each item."
        )
    return packed.expand(batch, 3)


def check_mesh(vertices: Tensor, faces: Tensor) -> None:
    """Raise `rasterize`'s errors about a mesh."""
    if vertices.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"vertices is {vertices.dtype}; expected float32 or float64. Convert it with .float().")
    if faces.dtype not in (torch.int64, torch.int32, torch.int16, torch.uint8, torch.int8):
        raise TypeError(f"faces is {faces.dtype}; expected integers (vertex indices). Convert it with .long().")
    if vertices.ndim != 3 or vertices.shape[-1] != 3:
        raise ValueError(f"vertices has shape {tuple(vertices.shape)}; expected (batch, vertices, 3).")
    if faces.ndim != 2 or faces.shape[-1] != 3:
        raise ValueError(f"faces has shape {tuple(faces.shape)}; expected (faces, 3), shared by the batch.")
    # On the CPU in numpy: its one thread is done before torch's have woken, and waits for nobody else's work.
    on_cpu = vertices.device.type == faces.device.type == "cpu"
    if faces.numel():
        ends = (faces.numpy().min(), faces.numpy().max()) if on_cpu else torch.aminmax(faces)
        lowest, highest = (int(x) for x in ends)
        if lowest < 0 or highest >= vertices.shape[1]:
            raise ValueError(
                f"faces names vertices {lowest} to {highest}, but there are {vertices.shape[1]} (0 to "
                f"{vertices.shape[1] - 1}); the faces and vertices given are not of one mesh."
            )
    points = vertices.detach()
    if not bool(np.isfinite(points.numpy()).all() if on_cpu else points.isfinite().all()):
        items = torch.nonzero(~points.isfinite().flatten(1).all(dim=-1))[:, 0].tolist()
        raise ValueError(
            f"vertices has NaN or infinite coordinates in batch items {items[:8]}; remove these items, or "
            "find where they come from."
        )


@cache
def _numba_is_installed() -> bool:
    return importlib.util.find_spec("numba") is not None
