"""Pictures of people: smoothly shaded meshes with anti-aliased edges, alone, over a photo, and from the side.

A soft hemisphere of light, a key light from the upper left, a rim that lifts the silhouette off the photo,
and a faint highlight; smooth normals; one sample a pixel inside, several along edges. Several people are
drawn as one mesh, so they hide each other as their depths say. Only the boxes around people are drawn, in
pieces of bounded size: a large photo costs no more than the people in it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from kouros.geometry.cameras import PerspectiveCamera
from kouros.render.attributes import vertex_normals
from kouros.render.rasterize import Fragments, check_mesh, pinholes, rasterize

Colour = tuple[float, float, float]
"""Red, green, blue in [0, 1]."""
Mesh = tuple[Float[Tensor | np.ndarray, "_ 3"], Int[Tensor | np.ndarray, "_ 3"]]
"""Vertices in camera space (metres) and faces (counter-clockwise from outside)."""

PERSON_COLOURS: tuple[Colour, ...] = (
    (0.44, 0.56, 0.90),
    (0.91, 0.76, 0.42),
    (0.39, 0.70, 0.59),
    (0.76, 0.64, 0.88),
    (0.82, 0.39, 0.38),
    (0.83, 0.90, 0.70),
    (0.39, 0.39, 0.64),
    (0.69, 0.82, 0.88),
)
"""One for each person, repeating: well apart in CIELAB, for colour-blind eyes too, the first most of all."""

_NEAR = 0.01
"""A person with a vertex nearer than this, metres, may show anywhere in the picture."""
_PIECE = 1 << 21
"""Samples drawn at a time; bounds the memory to about a hundred megabytes."""
_STEEPEST = 4.0
"""Slope (depth over width) of a surface that is still shaded once a pixel; steeper ones are near an edge."""


@dataclass(frozen=True)
class DirectionalLight:
    """Light from far away."""

    towards: tuple[float, float, float]
    """Where it stands, seen from the scene, in camera space (x right, y down, z forward); any length."""
    colour: Colour
    """Its strength in each channel."""


@dataclass(frozen=True)
class Lighting:
    """What lights a scene. The defaults are a photographer's: soft, from the upper left, with a rim."""

    sky: Colour = (0.60, 0.62, 0.66)
    """Ambient light on a surface that faces straight up."""
    ground: Colour = (0.36, 0.34, 0.33)
    """Ambient light on a surface that faces straight down."""
    lights: tuple[DirectionalLight, ...] = field(
        default=(
            DirectionalLight(towards=(-0.55, -0.75, -0.85), colour=(0.52, 0.51, 0.49)),
            DirectionalLight(towards=(0.9, -0.15, -0.5), colour=(0.12, 0.13, 0.15)),
        )
    )
    wrap: float = 0.25
    """How far the directional lights reach around: 0 is Lambert's law, 1 reaches the far side."""
    rim: float = 0.22
    """Strength of the bright edge where the surface turns away from the camera."""
    specular: float = 0.10
    """Strength of the highlight of the first directional light."""
    shininess: float = 24.0
    """Blinn-Phong exponent of that highlight."""


@dataclass(frozen=True)
class Texture:
    """An image laid over a surface."""

    image: Float[Tensor, "texels_h texels_w 3"]
    """Values in [0, 1]; row 0 at the top."""
    uv: Float[Tensor, "uv_verts 2"]
    """In [0, 1], v up as in OBJ files."""
    uv_faces: Int[Tensor, "faces 3"]
    """Indices into ``uv`` of each face's corners."""


def shade(
    vertices: Float[Tensor, "batch verts 3"],
    faces: Int[Tensor, "faces 3"],
    camera: PerspectiveCamera,
    image_size: tuple[int, int],
    colours: Float[Tensor, " 3"] | Float[Tensor, "*items verts 3"] | Texture,
    *,
    lighting: Lighting | None = None,
    supersample: int = 2,
) -> Float[Tensor, "batch h w 4"]:
    """Lit pictures of meshes on nothing: red, green, blue and alpha in [0, 1].

    The colours are already multiplied by alpha (the share of the pixel the mesh covers), so that over a
    photo the picture is ``rgba[..., :3] + (1 - rgba[..., 3:]) * photo``.

    Args:
        vertices: camera space, metres.
        faces: counter-clockwise seen from outside; seen from inside they are lit as if turned around.
        camera: one for each item, or one for all.
        image_size: (height, width), pixels.
        colours: one for the mesh, one a vertex (for all items or each), or a texture; in [0, 1].
        lighting: what lights it; None is `Lighting`'s defaults.
        supersample: samples along each side of a pixel; 1 leaves the edges jagged.

    Raises:
        TypeError, ValueError: as `rasterize` does; colours that do not fit the vertices.
    """
    _check_supersample(supersample)
    check_mesh(vertices, faces)
    if not isinstance(colours, Texture):
        colours = _vertex_colours(colours, vertices.shape[1]).to(vertices)
    normals = vertex_normals(vertices, faces)
    return _shaded(vertices, normals, faces, camera, image_size, colours, lighting or Lighting(), supersample)


def overlay(
    photo: UInt8[np.ndarray, "h w 3"],
    meshes: Sequence[Mesh],
    camera: PerspectiveCamera,
    colours: Sequence[Colour | Float[Tensor | np.ndarray, "_ 3"]] | None = None,
    *,
    alpha: float = 0.92,
    lighting: Lighting | None = None,
    supersample: int = 2,
) -> UInt8[np.ndarray, "h w 3"]:
    """The photo with people drawn over it; nearer people hide those behind.

    Args:
        photo: RGB. Not changed.
        meshes: one a person, in the camera's space.
        camera: one pinhole, in the photo's pixels.
        colours: one a person: red, green, blue in [0, 1] or one such a vertex; None takes `PERSON_COLOURS`.
        alpha: 1 hides what is behind the people, 0 hides the people.
        lighting: what lights them; None is `Lighting`'s defaults.
        supersample: samples along each side of a pixel.

    Raises:
        TypeError, ValueError: as `rasterize` does; a photo that is not (H, W, 3) uint8; alpha outside [0, 1];
            fewer colours than people.
    """
    if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[-1] != 3 or not photo.size:
        raise ValueError(
            f"photo is {photo.dtype} of shape {photo.shape}; expected uint8 of shape (height, width, 3), RGB."
        )
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is {alpha}; expected 0 (people invisible) to 1 (photo hidden behind them).")
    picture = photo.copy()
    lighting = lighting or Lighting()
    _check_supersample(supersample)
    checked = [_as_mesh(mesh) for mesh in meshes]
    painted = _painted(checked, colours)
    height, width = photo.shape[:2]
    for (x0, y0, x1, y1), members in _regions(checked, camera, width, height):
        vertices = torch.cat([checked[m][0] for m in members])[None]
        starts = accumulate((len(checked[m][0]) for m in members), initial=0)
        faces = torch.cat([checked[m][1] + start for m, start in zip(members, starts, strict=False)])
        vertex_colours = torch.cat([painted[m] for m in members])[None]
        normals = vertex_normals(vertices, faces)
        rows = max(1, _PIECE // ((x1 - x0) * supersample**2))
        for top in range(y0, y1, rows):
            bottom = min(top + rows, y1)
            corner = camera.principal_point.new_tensor([x0, top])
            piece = PerspectiveCamera(camera.focal_length, camera.principal_point - corner)
            rgba = _shaded(
                vertices,
                normals,
                faces,
                piece,
                (bottom - top, x1 - x0),
                vertex_colours,
                lighting,
                supersample,
            )
            _blend(picture[top:bottom, x0:x1], rgba[0].numpy(force=True), alpha)
    return picture


def side_view(
    meshes: Sequence[Mesh],
    camera: PerspectiveCamera,
    image_size: tuple[int, int],
    colours: Sequence[Colour | Float[Tensor | np.ndarray, "_ 3"]] | None = None,
    *,
    angle: float = math.pi / 2,
    background: Colour = (0.955, 0.957, 0.962),
    lighting: Lighting | None = None,
    supersample: int = 2,
) -> UInt8[np.ndarray, "h w 3"]:
    """The same people seen from their left in the photo's scale, on a plain background, with soft shadows.

    They turn about the vertical axis through the middle of them all, which comes to stand in the picture's
    middle. The scale at that axis is the photo's, or smaller where the people would not fit.

    Args:
        meshes: one a person, in the camera's space, in front of the camera.
        camera: the photo's.
        image_size: (height, width) of the picture to make, usually the photo's.
        colours: as `overlay` takes them.
        angle: how far to turn, radians; pi / 2 shows what is at the photo's right edge nearest.
        background: red, green, blue in [0, 1].
        lighting: what lights them; None is `Lighting`'s defaults.
        supersample: samples along each side of a pixel.

    Raises:
        TypeError, ValueError: as `overlay` does.
    """
    height, width = image_size
    if height < 1 or width < 1:
        raise ValueError(f"image_size is {height} x {width} (height x width); both must be at least 1.")
    picture = np.empty((height, width, 3), dtype=np.uint8)
    picture[:] = np.round(np.array(background) * 255)
    if not meshes:
        return picture
    checked = [_as_mesh(mesh) for mesh in meshes]
    everyone = torch.cat([vertices for vertices, _ in checked])
    low, high = everyone.amin(dim=0), everyone.amax(dim=0)
    center = (low + high) / 2
    cos, sin = math.cos(angle), math.sin(angle)
    turn = everyone.new_tensor([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
    turned = [((vertices - center) @ turn.T, faces) for vertices, faces in checked]

    pinhole = pinholes(camera, 1)[0].to(everyone)
    scale = float(pinhole[0] / center[2].clamp(min=0.1))
    spread = torch.cat([vertices for vertices, _ in turned])
    reach = 2 * spread.abs().amax(dim=0)
    margin = 1.12
    scale = min(scale, height / (margin * float(reach[1])), width / (margin * float(reach[0])))
    # From far enough away that the nearest of a deep group is not blown up.
    distance = max(float(center[2]), 3.0 * float(reach.amax()))
    middle = [width / 2, height / 2]
    seen = PerspectiveCamera(everyone.new_tensor(scale * distance), everyone.new_tensor(middle))
    placed = [(vertices + everyone.new_tensor([0.0, 0.0, distance]), faces) for vertices, faces in turned]
    for vertices, _ in placed:
        _cast_shadow(picture, vertices, seen)
    return overlay(picture, placed, seen, colours, alpha=1.0, lighting=lighting, supersample=supersample)


def _check_supersample(supersample: int) -> None:
    if supersample < 1:
        raise ValueError(f"supersample is {supersample}; it must be at least 1 sample along a pixel's side.")


def _shaded(
    vertices: Tensor,
    normals: Tensor,
    faces: Tensor,
    camera: PerspectiveCamera,
    image_size: tuple[int, int],
    colours: Tensor | Texture,
    lighting: Lighting,
    supersample: int,
) -> Tensor:
    """`shade`, given the vertices' normals and a colour (B, V, 3) for each vertex."""
    batch, (height, width), step = len(vertices), image_size, supersample
    centers = rasterize(vertices, faces, camera, image_size)
    # Seen from inside, a face is lit as if it were turned around.
    a, b, c = (vertices.index_select(1, corner) for corner in faces.long().unbind(dim=-1))
    sides = torch.where((a * torch.linalg.cross(b - a, c - a)).sum(dim=-1) > 0, -1.0, 1.0).to(vertices)
    if step == 1:
        visible = torch.nonzero(centers.mask.flatten())[:, 0]
        rgba = vertices.new_zeros((batch * height * width, 4))
        rgba[visible] = _lit(vertices, normals, sides, faces, camera, centers, visible, colours, lighting)
        return rgba.reshape(batch, height, width, 4)

    fine = PerspectiveCamera(camera.focal_length * step, camera.principal_point * step)
    samples = rasterize(vertices, faces, fine, (height * step, width * step))
    depths = [centers.depth, *(samples.depth[:, i::step, j::step] for i in range(step) for j in range(step))]
    nearest, farthest = depths[0], depths[0]
    for depth in depths[1:]:
        nearest, farthest = nearest.minimum(depth), farthest.maximum(depth)
    focal = pinholes(camera, batch)[:, 0].to(vertices)[:, None, None]
    # On one surface, depth changes within a pixel by the pixel's size on it times the surface's slope.
    smooth = farthest - nearest < _STEEPEST * nearest / focal
    rough = (nearest < torch.inf) & ~smooth

    rgba = vertices.new_zeros((batch * height * width, 4))
    inside = torch.nonzero(smooth.flatten())[:, 0]
    rgba[inside] = _lit(vertices, normals, sides, faces, camera, centers, inside, colours, lighting)
    # Four times as many samples, but only along the edges.
    item, row, column = (x[:, None] for x in torch.nonzero(rough, as_tuple=True))
    offsets = torch.arange(step * step, device=rgba.device)
    offset_row, offset_column = torch.div(offsets, step, rounding_mode="floor"), offsets % step
    sample = (item * height * step + row * step + offset_row) * (width * step) + column * step + offset_column
    pixel = ((item * height + row) * width + column).expand_as(sample)
    covered = samples.face.flatten()[sample] >= 0
    lit = _lit(vertices, normals, sides, faces, fine, samples, sample[covered], colours, lighting)
    rgba.index_add_(0, pixel[covered], lit / step**2)
    return rgba.reshape(batch, height, width, 4)


def _lit(
    vertices: Tensor,
    normals: Tensor,
    sides: Tensor,
    faces: Tensor,
    camera: PerspectiveCamera,
    fragments: Fragments,
    visible: Tensor,
    colours: Tensor | Texture,
    lighting: Lighting,
) -> Tensor:
    """(N, 4): the lit colour, and 1, of the covered samples at the flat indices ``visible``.

    ``sides`` (B, F) is 1 for a face seen from outside, -1 for one seen from inside.
    """
    batch, height, width = fragments.face.shape
    item = torch.div(visible, height * width, rounding_mode="floor")
    face = fragments.face.flatten()[visible]
    weights = fragments.barycentric.reshape(-1, 3)[visible]
    corners = faces.long()[face] + (item * vertices.shape[1])[:, None]

    table = normals.reshape(-1, 3)
    if not isinstance(colours, Texture):
        table = torch.cat([table, colours.expand(batch, -1, 3).reshape(-1, 3)], dim=-1)
    values = _weighted(table, corners, weights)
    albedo = values[3:] if not isinstance(colours, Texture) else _texels(colours, face, weights)

    column, row = visible % width, torch.div(visible, width, rounding_mode="floor") % height
    pinhole = pinholes(camera, batch).to(vertices)
    focal, center_x, center_y = pinhole.unbind(dim=-1) if batch == 1 else pinhole[item].unbind(dim=-1)
    to_eye = torch.stack(
        [(center_x - 0.5 - column) / focal, (center_y - 0.5 - row) / focal, -torch.ones_like(weights[:, 0])]
    )
    to_eye /= _length(to_eye)
    normal = values[:3] * (sides.flatten()[face + item * len(faces)] / _length(values[:3]).clamp(min=1e-12))

    upward = (0.5 - 0.5 * normal[1])[None]
    sky, ground = (vertices.new_tensor(c)[:, None] for c in (lighting.sky, lighting.ground))
    light = ground + (sky - ground) * upward
    highlight = torch.zeros_like(upward)
    for index, source in enumerate(lighting.lights):
        towards = vertices.new_tensor(source.towards)[:, None]
        towards = towards / _length(towards)
        facing = (normal * towards).sum(dim=0)
        reached = ((facing + lighting.wrap) / (1 + lighting.wrap)).clamp(min=0.0)
        light = light + vertices.new_tensor(source.colour)[:, None] * reached
        if index == 0 and lighting.specular > 0:
            halfway = towards + to_eye
            halfway /= _length(halfway).clamp(min=1e-12)
            mirrored = (normal * halfway).sum(dim=0).clamp(min=0.0)
            highlight = highlight + lighting.specular * mirrored**lighting.shininess
    away = 1.0 - (normal * to_eye).sum(dim=0).clamp(0.0, 1.0)
    highlight = highlight + lighting.rim * away**3 * upward
    colour = (albedo * light + highlight).clamp(0.0, 1.0)
    return torch.cat([colour, torch.ones_like(upward)]).T


def _weighted(table: Tensor, corners: Tensor, weights: Tensor) -> Tensor:
    """(C, N): the rows of ``table`` (V, C) at three corners each, weighted."""
    total = table.index_select(0, corners[:, 0]) * weights[:, :1]
    for k in (1, 2):
        total.addcmul_(table.index_select(0, corners[:, k]), weights[:, k : k + 1])
    return total.T.contiguous()


def _length(vectors: Tensor) -> Tensor:
    """(N,): lengths of the columns of (3, N)."""
    return (vectors * vectors).sum(dim=0).sqrt()


def _texels(texture: Texture, face: Tensor, weights: Tensor) -> Tensor:
    """(3, N): the texture's colour, between texels, at points on faces."""
    corners = texture.uv_faces.to(face.device).long()[face]
    u, v = _weighted(texture.uv.to(weights), corners, weights)
    # grid_sample's corners are the image's outer edges at -1 and 1; its rows run down, v runs up.
    grid = torch.stack([2 * u - 1, 1 - 2 * v], dim=-1)[None, None]
    image = texture.image.to(weights).permute(2, 0, 1)[None]
    sampled = torch.nn.functional.grid_sample(image, grid, padding_mode="border", align_corners=False)
    return sampled[0, :, 0]


def _blend(photo: np.ndarray, rgba: np.ndarray, alpha: float) -> None:
    """Draw ``rgba`` (colours times alpha, in [0, 1]) into ``photo`` (uint8) in place."""
    kept = 1.0 - alpha * rgba[..., 3:]
    photo[:] = np.rint(photo * kept + (255.0 * alpha) * rgba[..., :3])


def _as_mesh(mesh: Mesh) -> tuple[Tensor, Tensor]:
    """The mesh as checked tensors."""
    vertices, faces = (torch.as_tensor(x) for x in mesh)
    check_mesh(vertices[None], faces)
    return vertices.detach(), faces.long()


def _vertex_colours(colours: Tensor, vertex_count: int) -> Tensor:
    """(1 or B, V, 3) of one colour or one for each vertex."""
    if colours.shape[-1:] != (3,) or (colours.ndim > 1 and colours.shape[-2] != vertex_count) or colours.ndim > 3:
        raise ValueError(
            f"colours has shape {tuple(colours.shape)}; expected one colour (3,) or one for each vertex "
            f"({vertex_count}, 3)."
        )
    if colours.ndim == 1:
        return colours.expand(1, vertex_count, 3)
    return colours if colours.ndim == 3 else colours[None]


def _painted(
    meshes: list[tuple[Tensor, Tensor]], colours: Sequence[Colour | Tensor | np.ndarray] | None
) -> list[Tensor]:
    """(V, 3) colours of each mesh's vertices."""
    if colours is None:
        colours = [PERSON_COLOURS[i % len(PERSON_COLOURS)] for i in range(len(meshes))]
    if len(colours) < len(meshes):
        raise ValueError(f"colours holds {len(colours)} for {len(meshes)} people; give one a person, or None.")
    return [
        _vertex_colours(torch.as_tensor(colour).to(vertices), len(vertices))[0]
        for (vertices, _), colour in zip(meshes, colours, strict=False)
    ]


def _regions(
    meshes: list[tuple[Tensor, Tensor]], camera: PerspectiveCamera, width: int, height: int
) -> list[tuple[tuple[int, int, int, int], list[int]]]:
    """Boxes of whole pixels (x0, y0, x1, y1) that do not overlap, and the meshes to draw in each."""
    regions: list[tuple[tuple[int, int, int, int], list[int]]] = []
    for index, (vertices, faces) in enumerate(meshes):
        if not len(vertices) or not len(faces):
            continue
        box = (0, 0, width, height)
        if float(vertices[:, 2].min()) >= _NEAR:
            pixels = camera.project(vertices)
            low = pixels.amin(dim=0).tolist()
            high = pixels.amax(dim=0).tolist()
            x0, y0 = (math.floor(min(max(x - 1, 0), n)) for x, n in zip(low, (width, height), strict=True))
            x1, y1 = (math.ceil(min(max(x + 1, 0), n)) for x, n in zip(high, (width, height), strict=True))
            box = (x0, y0, x1, y1)
        if box[0] >= box[2] or box[1] >= box[3]:
            continue
        members = [index]
        while touching := [r for r in regions if _overlap(r[0], box)]:
            for other in touching:
                regions.remove(other)
                box = (
                    *np.minimum(box[:2], other[0][:2]).tolist(),
                    *np.maximum(box[2:], other[0][2:]).tolist(),
                )
                members += other[1]
        regions.append((box, members))
    return regions


def _overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _cast_shadow(picture: np.ndarray, vertices: Tensor, camera: PerspectiveCamera) -> None:
    """Darken the ground under a person: faintly below all of them, more below what touches it."""
    height, width = picture.shape[:2]
    lowest = float(vertices[:, 1].max())
    scale = float(camera.focal_length / vertices[:, 2].mean())
    for reach, radius, strength in ((math.inf, 0.09, 0.10), (0.12, 0.03, 0.22)):
        flat = vertices[vertices[:, 1] > lowest - reach].clone()
        flat[:, 1] = lowest
        blur = max(radius * scale, 0.5)
        border = math.ceil(3 * blur)
        points = camera.project(flat).numpy(force=True).astype(np.float32)
        x0, y0 = np.floor(points.min(axis=0)).astype(int) - border
        x1, y1 = np.ceil(points.max(axis=0)).astype(int) + border
        mask = np.zeros((y1 - y0, x1 - x0), dtype=np.float32)
        outline = cv2.convexHull(points - np.array([x0, y0], dtype=np.float32))
        cv2.fillConvexPoly(mask, np.round(outline * 16).astype(np.int32), 1.0, cv2.LINE_AA, 4)
        mask = cv2.GaussianBlur(mask, (0, 0), sigmaX=blur, sigmaY=blur / 2)
        left, top, right, bottom = max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)
        if left < right and top < bottom:
            inside = mask[top - y0 : bottom - y0, left - x0 : right - x0, None]
            under = picture[top:bottom, left:right]
            under[:] = np.rint(under * (1 - strength * inside))
