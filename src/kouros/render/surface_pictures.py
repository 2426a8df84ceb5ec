"""Pictures that explain a body's surface: part labels, UV atlas, charts, joint assignment, dense maps."""

import colorsys

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from kouros.body.keypoints import keypoint_set
from kouros.body.model import BodyModel
from kouros.body.surface.atlas import joint_assignment, joint_shares
from kouros.body.surface.charts import GRID
from kouros.body.surface.parts import DENSEPOSE24, PART_SETS
from kouros.body.surface.skin import BodySurface
from kouros.geometry.cameras import PerspectiveCamera
from kouros.render.attributes import interpolate, vertex_normals
from kouros.render.maps import DenseMaps, body_dense_maps
from kouros.render.rasterize import Fragments, rasterize

Picture = UInt8[np.ndarray, "h w 3"]

_FINE = 2
"""Samples along each side of a pixel."""
_INK = (40, 40, 40)
_PAPER = 255
_GAP = 12


def parts_picture(body: BodyModel, surface: BodySurface, height: int = 330) -> Picture:
    """Every part set on the T-posed body, front above back."""
    columns = []
    for name, parts in PART_SETS.items():
        labels = surface.face_labels[name].numpy(force=True)
        colours = parts.colours[labels] / 255.0
        views = [_painted(body, torch.from_numpy(colours), height, back=back) for back in (False, True)]
        columns.append(_titled(np.concatenate(views), f"{name} ({len(parts)})"))
    rows = [_row(columns[:4]), _row(columns[4:])]
    return _column(rows)


def atlas_picture(body: BodyModel, surface: BodySurface, size: int = 512) -> Picture:
    """The UV atlas: its valid texels and triangles, the patches on it, and its coordinates on the body."""
    sampler = surface.sampler(size)
    valid = sampler.valid.numpy(force=True)
    mask = np.where(valid[..., None], np.uint8(245), np.uint8(60)).repeat(3, axis=2)
    corners = surface.atlas.uv.numpy(force=True)[surface.atlas.uv_faces.numpy(force=True)]
    places = np.stack([corners[..., 0], 1 - corners[..., 1]], axis=-1) * size * 16
    edges = [np.round(place).astype(np.int32)[:, None] for place in places]
    cv2.polylines(mask, edges, isClosed=True, color=(178, 184, 206), thickness=1, lineType=cv2.LINE_AA, shift=4)
    labels = surface.face_labels["densepose24"][sampler.face].numpy(force=True)
    patches = np.where(valid[..., None], DENSEPOSE24.colours[labels], np.uint8(_PAPER))
    u, v = np.meshgrid((np.arange(size) + 0.5) / size, 1 - (np.arange(size) + 0.5) / size)
    checks = ((u * 32).astype(int) + (v * 32).astype(int)) % 2
    texture = np.stack([u, v, 0.5 + 0 * u], axis=-1) * (0.65 + 0.35 * checks[..., None])
    on_map = np.where(valid[..., None], (texture * 255).astype(np.uint8), np.uint8(_PAPER))
    looked_up = _on_body(body, surface, torch.from_numpy(texture), size)
    tiles = [
        _titled(mask, "valid texels and triangles"),
        _titled(patches, "DensePose's patches on the map"),
        _titled(on_map, "u (red) and v (green)"),
        _titled(looked_up, "the same on the body"),
    ]
    return _column([_row(tiles[:2]), _row(tiles[2:])])


def charts_picture(surface: BodySurface, scale: int = 5) -> Picture:
    """The 24 charts: template positions as colours on the grid; nodes off the chart are dark."""
    charts = surface.charts
    position = charts.rest[:, :3].reshape(24, GRID, GRID, 3)
    tiles = []
    for part, name in enumerate(DENSEPOSE24.names):
        on_chart = charts.valid[part]
        place = position[part]
        low, high = place[on_chart].amin(dim=0), place[on_chart].amax(dim=0)
        colour = 0.15 + 0.8 * (place - low) / (high - low).clamp(min=1e-6)
        colour = torch.where(on_chart[..., None], colour.clamp(0, 1), 0.12)
        # v grows upwards in the picture.
        picture = _bytes(colour.flip(0).numpy(force=True))
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
        size = charts.size[part].numpy(force=True)
        title = f"{part + 1} {name}"
        subtitle = f"{size[0] * 100:.0f} x {size[1] * 100:.0f} cm"
        tiles.append(_titled(_titled(picture, subtitle, 0.36), title, 0.36))
    return _column([_row(tiles[first : first + 6]) for first in range(0, 24, 6)])


def assignment_picture(body: BodyModel, surface: BodySurface, size: int = 384) -> Picture:
    """A_uv for LSP's 14 and SMPL's 24 joints, in UV space and on the body."""
    sampler = surface.sampler(size)
    rows = []
    for name in ("lsp14", "smpl24"):
        if name != "smpl24" and name not in body.keypoint_sets:
            continue
        colours = _joint_colours(name)
        assigned = joint_assignment(body, sampler, name).numpy(force=True)
        on_map = np.where((assigned >= 0)[..., None], _bytes(colours)[assigned], np.uint8(_PAPER))
        shares = joint_shares(body, name)
        views = [_painted_shares(body, shares, colours, size, back=back) for back in (False, True)]
        tiles = [_titled(on_map, f"A_uv, {name}"), _titled(views[0], "front"), _titled(views[1], "back")]
        rows.append(_row(tiles))
    return _column(rows)


def maps_picture(body: BodyModel, surface: BodySurface, size: int = 256) -> Picture:
    """All dense maps of one posed body."""
    maps = posed_maps(body, surface, size)
    mask = maps.need("mask")[0].numpy(force=True)[..., None]

    def signed(values: Tensor, reach: float) -> Picture:
        return _bytes(np.where(mask, 0.5 + 0.5 * values[0].numpy(force=True) / reach, 1.0))

    def labelled(name: str) -> Picture:
        return np.where(mask, PART_SETS[name].colours[maps.labels[name][0].numpy(force=True)], np.uint8(_PAPER))

    iuv = maps.need("iuv")[0].numpy(force=True) / np.array([24.0, 1.0, 1.0])
    uv = maps.need("uv")[0].numpy(force=True)
    depth = np.where(mask[..., 0], maps.need("depth")[0].numpy(force=True), np.nan)
    near, far = np.nanmin(depth), np.nanmax(depth)
    shade = np.nan_to_num(0.95 - 0.75 * (depth - near) / max(far - near, 1e-6), nan=1.0)
    tiles = [
        ("mask", _bytes(np.where(mask, 0.25, 1.0).repeat(3, axis=2))),
        ("parts24", labelled("parts24")),
        ("densepose24", labelled("densepose24")),
        ("IUV: I, U, V", _bytes(np.where(mask, iuv, 1.0))),
        ("continuous UV", _bytes(np.where(mask, np.concatenate([uv, 0.5 + 0 * uv[..., :1]], -1), 1.0))),
        ("location M_l", signed(maps.need("location"), 1.0)),
        ("joint map M_j", signed(maps.need("joint"), 1.0)),
        ("displacement M_d", signed(maps.need("displacement"), 0.3)),
        ("depth", _bytes(shade[..., None].repeat(3, axis=2))),
        ("normals", signed(maps.need("normals") * torch.tensor([1.0, -1.0, -1.0]), 1.0)),
    ]
    pictures = [_titled(picture, title) for title, picture in tiles]
    return _column([_row(pictures[:5]), _row(pictures[5:])])


def posed_maps(body: BodyModel, surface: BodySurface, size: int) -> DenseMaps:
    """The dense maps of a body with a raised arm, a bent one, and a lifted knee."""
    like = body.v_template
    pose = like.new_zeros(1, 23, 3)
    for joint, turn in _POSE.items():
        pose[0, joint - 1] = like.new_tensor(turn)
    turned = like.new_tensor([[3.0, 0.0, 0.45]])
    camera = PerspectiveCamera(like.new_tensor(1.62 * size), like.new_tensor([size / 2, size / 2]))
    transl = like.new_tensor([[0.0, -0.16, 3.1]]) - body.joint_template[:1]
    return body_dense_maps(body, surface, camera, (size, size), None, pose.flatten(1), turned, transl)


_POSE = {
    16: (0.0, 0.0, -1.0), 17: (0.0, 0.6, -0.5), 18: (0.0, -0.5, 0.0), 19: (0.0, 1.5, 0.0),
    1: (-1.0, 0.0, 0.1), 4: (1.2, 0.0, 0.0), 3: (0.15, 0.0, 0.0), 12: (0.1, -0.3, 0.0),
}  # fmt: skip
"""Rotation vectors of a few joints, by their number."""


def _joint_colours(name: str) -> Float[np.ndarray, "joints 3"]:
    """Hues far apart for neighbours in the order; mirror joints share a hue, the right ones are darker."""
    mirror = keypoint_set(name).mirror
    colours = np.zeros((len(mirror), 3))
    hues = {min(j, m): n for n, (j, m) in enumerate((j, m) for j, m in enumerate(mirror) if j <= m)}
    for joint, image in enumerate(mirror):
        hue = hues[min(joint, image)] * 0.381966 % 1.0
        dark = keypoint_set(name).names[joint].startswith("right")
        colours[joint] = colorsys.hsv_to_rgb(hue, 0.62, 0.6 if dark else 0.95)
    return colours


def _view(body: BodyModel, height: int, back: bool) -> tuple[Tensor, Fragments]:
    """The template as the camera sees it from far away, `_FINE` samples a pixel."""
    template = body.v_template
    low, high = template.amin(dim=0), template.amax(dim=0)
    turn = template.new_tensor([-1.0, -1.0, 1.0] if back else [1.0, -1.0, -1.0])
    extent = high - low
    distance = 30.0
    vertices = (template - (low + high) / 2) * turn + template.new_tensor([0.0, 0.0, distance])
    rows, columns = height * _FINE, int(height * float(extent[0] / extent[1])) * _FINE
    focal = 0.97 * distance * rows / extent[1]
    camera = PerspectiveCamera(focal, template.new_tensor([columns / 2, rows / 2]))
    return vertices, rasterize(vertices[None], body.faces, camera, (rows, columns))


def _lit(vertices: Tensor, body: BodyModel, fragments: Fragments, colours: np.ndarray) -> Picture:
    """Colours at the samples, lightly shaded, on white, averaged to pixels."""
    normals = interpolate(vertex_normals(vertices, body.faces)[None], body.faces, fragments)[0]
    light = 0.5 + 0.5 * normals[..., 2].neg().clamp(0, 1).numpy(force=True)
    mask = fragments.mask[0].numpy(force=True)
    picture = np.where(mask[..., None], colours * light[..., None], 1.0)
    height, width = (s // _FINE for s in mask.shape)
    return _bytes(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA))


def _painted(body: BodyModel, face_colours: Tensor, height: int, *, back: bool) -> Picture:
    vertices, fragments = _view(body, height, back)
    colours = face_colours[fragments.face[0].clamp(min=0)].numpy(force=True)
    return _lit(vertices, body, fragments, colours)


def _painted_shares(body: BodyModel, shares: Tensor, colours: np.ndarray, height: int, *, back: bool) -> Picture:
    vertices, fragments = _view(body, height, back)
    joint = interpolate(shares, body.faces, fragments)[0].argmax(dim=-1).numpy(force=True)
    return _lit(vertices, body, fragments, colours[joint])


def _on_body(body: BodyModel, surface: BodySurface, texture: Tensor, height: int) -> Picture:
    vertices, fragments = _view(body, height, back=False)
    uv = interpolate(surface.atlas.uv, surface.atlas.uv_faces, fragments)[0]
    size = len(texture)
    column = (uv[..., 0] * size).long().clamp(0, size - 1)
    row = ((1 - uv[..., 1]) * size).long().clamp(0, size - 1)
    return _lit(vertices, body, fragments, texture[row, column].numpy(force=True))


def _bytes(values: np.ndarray) -> Picture:
    return (values.clip(0, 1) * 255).round().astype(np.uint8)


def _titled(picture: Picture, title: str, size: float = 0.5) -> Picture:
    bar = np.full((int(44 * size), picture.shape[1], 3), _PAPER, dtype=np.uint8)
    place = (2, int(30 * size))
    cv2.putText(bar, title, place, cv2.FONT_HERSHEY_SIMPLEX, size, _INK, 1, cv2.LINE_AA)
    return np.concatenate([bar, picture])


def _row(pictures: list[Picture]) -> Picture:
    tallest = max(len(picture) for picture in pictures)
    padded = [
        cv2.copyMakeBorder(p, 0, tallest - len(p), 0, _GAP, cv2.BORDER_CONSTANT, value=(_PAPER,) * 3) for p in pictures
    ]
    return np.concatenate(padded, axis=1)


def _column(pictures: list[Picture]) -> Picture:
    widest = max(picture.shape[1] for picture in pictures)
    padded = [
        cv2.copyMakeBorder(p, 0, _GAP, 0, widest - p.shape[1], cv2.BORDER_CONSTANT, value=(_PAPER,) * 3)
        for p in pictures
    ]
    return np.concatenate(padded)
