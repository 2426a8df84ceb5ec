"""Dense maps of posed bodies, all from one rasterization, and the warps between image and UV space.

The maps are those of Best of Both Worlds (Sec. 3.1): at each pixel which point of the body is seen (IUV, in
DensePose's convention and continuous), where it is (location), where the joint it is assigned to is (joint
map), and the way from that joint to it (displacement, ``M_d = M_l - M_j``); and part labels, depth, normals. The last
three of them also in UV space, where all of the body has its place, seen or not (Fig. 5).
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kouros.batched import Batched
from kouros.body.model import BodyModel
from kouros.body.surface.atlas import UvSampler
from kouros.body.surface.parts import DENSEPOSE24, PART_SETS
from kouros.body.surface.skin import BodySurface
from kouros.body.surface.symmetry import reflect_points
from kouros.geometry.cameras import PerspectiveCamera
from kouros.render.attributes import interpolate, vertex_normals
from kouros.render.rasterize import Fragments, pinholes, rasterize

ImageMap = Literal["mask", "iuv", "uv", "location", "joint", "displacement", "depth", "normals"]
IMAGE_MAPS: tuple[ImageMap, ...] = get_args(ImageMap)
UvMap = Literal["uv_location", "uv_joint", "uv_displacement", "uv_visible"]
UV_MAPS: tuple[UvMap, ...] = get_args(UvMap)

_SLOPE = 4.0
"""How steep (depth over width) a surface may be whose neighbouring pixels are still mixed."""


@dataclass(frozen=True)
class DenseMaps(Batched):
    """What each pixel sees of a body, and what each texel of its UV image is: drawn, annotated or predicted.

    None is what nobody asked for, or nobody knows. Of an image, pixels that see nothing are 0, but for the depth.
    """

    mask: Bool[Tensor, "*batch h w"] | None = None
    labels: dict[str, Int[Tensor, "*batch h w"]] = field(default_factory=dict)
    """For each part set: 0 for the background, then as `parts.PART_SETS` numbers them."""
    iuv: Float[Tensor, "*batch h w 3"] | None = None
    """DensePose's: the part, 1 to 24, and u, v on its chart."""
    uv: Float[Tensor, "*batch h w 2"] | None = None
    """Continuous: u, v in the body's atlas."""
    location: Float[Tensor, "*batch h w 3"] | None = None
    """``M_l``: the point seen, from the root joint, metres, camera axes."""
    joint: Float[Tensor, "*batch h w 3"] | None = None
    """``M_j``: the joint that it is assigned to, likewise."""
    displacement: Float[Tensor, "*batch h w 3"] | None = None
    """``M_d = M_l - M_j``."""
    depth: Float[Tensor, "*batch h w"] | None = None
    """Metres along the camera's z; infinity on the background."""
    normals: Float[Tensor, "*batch h w 3"] | None = None
    """Outward, of unit length, camera axes."""
    fragments: Fragments | None = None
    uv_location: Float[Tensor, "*batch texels texels 3"] | None = None
    """As ``location``, of each texel of the body's UV image, seen or not; 0 off the map, like the next two."""
    uv_joint: Float[Tensor, "*batch texels texels 3"] | None = None
    uv_displacement: Float[Tensor, "*batch texels texels 3"] | None = None
    uv_visible: Bool[Tensor, "*batch texels texels"] | None = None
    """Texels that the image sees."""

    def need(self, name: ImageMap | UvMap) -> Tensor:
        """A map that must be there.

        Raises:
            ValueError: it is not.
        """
        value = getattr(self, name)
        if value is None:
            raise ValueError(f"These maps have no {name}; whoever makes them must be asked for it.")
        assert isinstance(value, Tensor)
        return value


def dense_maps(
    surface: BodySurface,
    vertices: Float[Tensor, "batch verts 3"],
    joints: Float[Tensor, "batch joints 3"],
    root: Float[Tensor, "batch 3"],
    camera: PerspectiveCamera,
    image_size: tuple[int, int],
    *,
    part_sets: tuple[str, ...] = tuple(PART_SETS),
) -> DenseMaps:
    """Rasterize once and read every image map off.

    Args:
        surface: of the body that the vertices are of.
        vertices: camera space, metres.
        joints: of the surface's keypoint set, camera space, metres.
        root: what locations are relative to, the pelvis joint; camera space, metres.
        camera: one for each body, or one for all.
        image_size: (height, width), pixels.
        part_sets: whose label maps to make.

    Raises:
        KeyError: no such part set.
        ValueError: joints that are not of the surface's set; as `rasterize` does.
    """
    fragments = rasterize(vertices, surface.faces, camera, image_size)
    return maps_of_fragments(surface, fragments, vertices, joints, root, part_sets=part_sets)


def maps_of_fragments(
    surface: BodySurface,
    fragments: Fragments,
    vertices: Float[Tensor, "batch verts 3"],
    joints: Float[Tensor, "batch joints 3"],
    root: Float[Tensor, "batch 3"],
    *,
    maps: Collection[str] = IMAGE_MAPS,
    part_sets: Collection[str] = (),
) -> DenseMaps:
    """Read image maps off a rasterization, such as one in which other things hide some of the body.

    Args:
        fragments: faces of the body's own mesh; -1 where a pixel does not see it.
        maps: which of `IMAGE_MAPS` to make; names of others are passed over.

    Raises:
        KeyError, ValueError: as `dense_maps`.
    """
    if joints.shape[-2] != surface.joint_shares.shape[-1]:
        raise ValueError(
            f"joints has {joints.shape[-2]} joints, but this surface is assigned to {surface.joints!r}, "
            f"which has {surface.joint_shares.shape[-1]}."
        )
    unknown = [name for name in part_sets if name not in surface.face_labels]
    if unknown:
        raise KeyError(f"There is no part set {unknown[0]!r}; the sets are: {', '.join(surface.face_labels)}.")
    faces, mask = surface.faces, fragments.mask
    seen = fragments.face.clamp(min=0)
    made: dict[str, Tensor] = {"mask": mask, "depth": fragments.depth}
    if "iuv" in maps:
        corners = torch.arange(3 * len(faces), device=faces.device).reshape(-1, 3)
        chart_uv = interpolate(surface.charts.face_uv.flatten(0, 1).to(vertices), corners, fragments)
        part = (surface.charts.face_part[seen] * mask).to(vertices.dtype)
        made["iuv"] = torch.cat([part[..., None], chart_uv], dim=-1)
    if "uv" in maps:
        made["uv"] = interpolate(surface.atlas.uv.to(vertices), surface.atlas.uv_faces, fragments)
    if "location" in maps or "displacement" in maps:
        made["location"] = interpolate(vertices - root[:, None], faces, fragments)
    if "joint" in maps or "displacement" in maps:
        shares = interpolate(surface.joint_shares.to(vertices), faces, fragments)
        items = torch.arange(len(vertices), device=vertices.device)[:, None, None]
        made["joint"] = (joints - root[:, None])[items, shares.argmax(dim=-1)] * mask[..., None]
    if "displacement" in maps:
        made["displacement"] = made["location"] - made["joint"]
    if "normals" in maps:
        normals = interpolate(vertex_normals(vertices, faces), faces, fragments)
        made["normals"] = torch.nn.functional.normalize(normals, dim=-1)
    return DenseMaps(
        labels={name: surface.face_labels[name][seen] * mask for name in part_sets},
        fragments=fragments,
        **{name: value for name, value in made.items() if name in maps},
    )


def body_dense_maps(
    body: BodyModel,
    surface: BodySurface,
    camera: PerspectiveCamera,
    image_size: tuple[int, int],
    betas: Tensor | None = None,
    body_pose: Tensor | None = None,
    global_orient: Tensor | None = None,
    transl: Tensor | None = None,
    *,
    pose2rot: bool = True,
    part_sets: tuple[str, ...] = tuple(PART_SETS),
) -> DenseMaps:
    """`dense_maps` from a body's parameters, which ``global_orient`` and ``transl`` take to camera space.

    Raises:
        KeyError, ValueError: as `dense_maps` and the body do.
    """
    posed = body(betas, body_pose, global_orient, transl, pose2rot=pose2rot)
    joints = posed.joints if surface.joints == "smpl24" else body.keypoints_3d(posed, surface.joints)
    root = posed.joints[:, 0]
    return dense_maps(surface, posed.vertices, joints, root, camera, image_size, part_sets=part_sets)


def uv_maps(
    sampler: UvSampler,
    faces: Int[Tensor, "faces 3"],
    assignment: Int[Tensor, "texels texels"],
    vertices: Float[Tensor, "batch verts 3"],
    joints: Float[Tensor, "batch joints 3"],
    root: Float[Tensor, "batch 3"],
) -> DenseMaps:
    """The maps in UV space of all of a body, seen or not: ``UV_l``, ``UV_j`` and ``UV_d``.

    Args:
        assignment: ``A_uv``, of `atlas.joint_assignment`.
        vertices: camera space, metres; as are the next two.
        joints: of the set that texels are assigned to.
    """
    shape = (len(vertices), *sampler.valid.shape)
    texels = Fragments(
        face=torch.where(sampler.valid, sampler.face, -1).expand(shape),
        barycentric=sampler.barycentric.expand(*shape, 3),
        depth=vertices.new_full((), torch.inf).expand(shape),
    )
    location = interpolate(vertices - root[:, None], faces, texels)
    joint = (joints - root[:, None])[:, assignment.clamp(min=0)] * (assignment >= 0)[..., None]
    return DenseMaps(uv_location=location, uv_joint=joint, uv_displacement=location - joint)


def mirror_maps(maps: DenseMaps, surface: BodySurface) -> DenseMaps:
    """The maps of the mirrored body, seen by the mirrored camera (principal point ``width - x``).

    Its fragments are those of the mirrored mesh: faces and corners are exchanged with their images.

    Raises:
        ValueError: the surface's mesh or UV map is not symmetric.
    """
    if not surface.atlas.symmetric:
        raise ValueError("This surface's UV map has no left-right symmetry, so its maps cannot be mirrored.")
    # The columns of images, and of UV images: the atlas is symmetric.
    flipped = {
        name: value.flip(2) for name in (*IMAGE_MAPS, *UV_MAPS) if isinstance(value := getattr(maps, name), Tensor)
    }
    if "iuv" in flipped:
        part, u, v = flipped["iuv"].unbind(dim=-1)
        patches = torch.tensor(DENSEPOSE24.mirror, device=part.device)
        part = patches[part.long()].to(u)
        flipped["iuv"] = torch.stack([part, torch.where(part > 0, 1 - u, u), v], dim=-1)
    if "uv" in flipped:
        u, v = flipped["uv"].unbind(dim=-1)
        # No point of the body is at (0, 0), which is what pixels hold that see nothing.
        flipped["uv"] = torch.stack([torch.where((u > 0) | (v > 0), 1 - u, u), v], dim=-1)
    for name in ("location", "joint", "displacement", "normals", "uv_location", "uv_joint", "uv_displacement"):
        if name in flipped:
            flipped[name] = reflect_points(flipped[name])
    swap = {name: torch.tensor(PART_SETS[name].mirror, device=label.device) for name, label in maps.labels.items()}
    return DenseMaps(
        labels={name: swap[name][label.flip(2)] for name, label in maps.labels.items()},
        fragments=None if maps.fragments is None else _mirror_fragments(maps.fragments, surface),
        **flipped,
    )


def _mirror_fragments(fragments: Fragments, surface: BodySurface) -> Fragments:
    face, corner = (torch.from_numpy(x).to(fragments.face) for x in (surface.mirror.face, surface.mirror.corner))
    seen = fragments.face.flip(2)
    known = seen.clamp(min=0)
    barycentric = torch.zeros_like(fragments.barycentric).scatter(-1, corner[known], fragments.barycentric.flip(2))
    return Fragments(torch.where(seen >= 0, face[known], seen), barycentric, fragments.depth.flip(2))


@dataclass(frozen=True)
class TexelView:
    """Where in an image the texels of a UV image are seen."""

    pixels: Float[Tensor, "batch size size 2"]
    """Their projections."""
    depth: Float[Tensor, "batch size size"]
    visible: Bool[Tensor, "batch size size"]
    """In the image, on a face turned to the camera, and behind nothing."""
    pixel_size: Float[Tensor, "batch size size"]
    """Metres at the texel that a pixel is wide."""


def view_texels(
    vertices: Float[Tensor, "batch verts 3"],
    faces: Int[Tensor, "faces 3"],
    sampler: UvSampler,
    camera: PerspectiveCamera,
    fragments: Fragments,
) -> TexelView:
    """Project every texel and see whether the rasterized depth lets it be seen.

    Args:
        vertices: the rasterized ones.
        fragments: their rasterization.
    """
    height, width = fragments.face.shape[1:]
    points = sampler.to_image(vertices)
    pinhole = pinholes(camera, len(vertices)).to(vertices)[:, None, None]
    z = points[..., 2]
    in_front = sampler.valid & (z > 0)
    safe = torch.where(in_front, z, 1.0)
    pixels = points[..., :2] / safe[..., None] * pinhole[..., :1] + pinhole[..., 1:]
    pixel_size = safe / pinhole[..., 0]
    a, b, c = vertices[:, faces[sampler.face]].unbind(dim=-2)
    turned_to = (torch.linalg.cross(b - a, c - a) * points).sum(dim=-1) < 0
    inside = (pixels >= 0).all(-1) & (pixels[..., 0] <= width) & (pixels[..., 1] <= height)
    neighbours, flat = _around(pixels, height, width)
    depth = fragments.depth.flatten(1).gather(1, flat.flatten(1)).reshape(neighbours.shape)
    farthest = torch.where(depth.isfinite(), depth, -torch.inf).amax(dim=-1)
    visible = in_front & turned_to & inside & (z <= farthest + pixel_size)
    return TexelView(pixels=pixels, depth=z, visible=visible, pixel_size=pixel_size)


def image_to_uv(
    image: Float[Tensor, "batch h w channels"], view: TexelView, fragments: Fragments
) -> Float[Tensor, "batch size size channels"]:
    """Image values at the visible texels, 0 at the others: photos, or maps of this image.

    Bilinear among the pixels that see the surface near the texel, so nothing bleeds in over an edge.
    Differentiable in the image.
    """
    height, width = image.shape[1:3]
    weights, flat = _around(view.pixels, height, width)
    depth = fragments.depth.flatten(1).gather(1, flat.flatten(1)).reshape(weights.shape)
    near = (depth - view.depth[..., None]).abs() <= _SLOPE * view.pixel_size[..., None]
    weights = weights * near
    total = weights.sum(dim=-1, keepdim=True)
    nearest = torch.where(depth.isfinite(), (depth - view.depth[..., None]).abs(), torch.inf).argmin(dim=-1)
    alone = torch.nn.functional.one_hot(nearest, 4).to(weights)
    weights = torch.where(total > 1e-3, weights / total.clamp(min=1e-3), alone)
    index = flat.flatten(1)[..., None].expand(-1, -1, image.shape[-1])
    values = image.flatten(1, 2).gather(1, index).reshape(*flat.shape, -1)
    return (values * weights.to(image)[..., None]).sum(dim=-2) * view.visible[..., None]


def uv_to_image(
    uv_image: Float[Tensor, "batch size size channels"],
    uv: Float[Tensor, "batch h w 2"],
    mask: Bool[Tensor, "batch h w"],
    valid: Bool[Tensor, "*batch size size"] | None = None,
) -> Float[Tensor, "batch h w channels"]:
    """A UV image seen through a continuous IUV map: bilinear lookups at (u, v), 0 off the mask.

    Differentiable in the UV image and in ``uv``.

    Args:
        valid: texels that hold something, for all items or each; only those are mixed. Where none is near,
            the answer is 0.
    """
    grid = torch.stack([2 * uv[..., 0] - 1, 1 - 2 * uv[..., 1]], dim=-1)
    holds = torch.ones_like(uv_image[..., 0]) if valid is None else valid.expand(uv_image.shape[:3]).to(uv_image)
    packed = torch.cat([uv_image * holds[..., None], holds[..., None]], dim=-1).permute(0, 3, 1, 2)
    read = torch.nn.functional.grid_sample(packed, grid.to(packed), padding_mode="border", align_corners=False)
    read = read.permute(0, 2, 3, 1)
    total = read[..., -1:]
    return torch.where((total > 1e-6) & mask[..., None], read[..., :-1] / total.clamp(min=1e-6), 0.0)


def splat_to_uv(
    image: Float[Tensor, "batch h w channels"],
    uv: Float[Tensor, "batch h w 2"],
    mask: Bool[Tensor, "batch h w"],
    size: int,
) -> tuple[Float[Tensor, "batch size size channels"], Float[Tensor, "batch size size"]]:
    """Image values gathered in UV space through a continuous IUV map alone, as predicted maps need it.

    Each pixel gives to the four texels around its (u, v); a texel holds their weighted mean.

    Returns:
        The UV image, 0 where no pixel gave, and how many pixels' weight each texel has.
    """
    batch, _, _, channels = image.shape
    place = torch.stack([uv[..., 0] * size, (1 - uv[..., 1]) * size], dim=-1)
    weights, flat = _around(place, size, size)
    weights = weights.to(image) * mask[..., None]
    flat = flat + (torch.arange(batch, device=flat.device) * size * size)[:, None, None, None]
    values = torch.cat([image, torch.ones_like(image[..., :1])], dim=-1)
    given = (values[..., None, :] * weights[..., None]).reshape(-1, channels + 1)
    total = given.new_zeros(batch * size * size, channels + 1).index_add(0, flat.reshape(-1), given)
    total = total.reshape(batch, size, size, channels + 1)
    weight = total[..., -1]
    return total[..., :-1] / weight.clamp(min=1e-6)[..., None] * (weight > 1e-6)[..., None], weight


def _around(
    places: Float[Tensor, "batch rows columns 2"], height: int, width: int
) -> tuple[Float[Tensor, "batch rows columns 4"], Int[Tensor, "batch rows columns 4"]]:
    """Bilinear weights of the four pixels whose centres surround each place, 0 outside the image; and their
    flat indices, clamped to the image."""
    at = places - 0.5
    corner = at.floor()
    fx, fy = (at - corner).unbind(dim=-1)
    x, y = corner.long().unbind(dim=-1)
    columns, rows = torch.stack([x, x + 1, x, x + 1], dim=-1), torch.stack([y, y, y + 1, y + 1], dim=-1)
    weights = torch.stack([(1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy], dim=-1)
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    flat = rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1)
    return weights * inside, flat
