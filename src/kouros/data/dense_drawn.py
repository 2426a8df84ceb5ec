"""Dense targets drawn from bodies whose pose, shape and place are known, under a crop's own camera.

A crop turns, scales, shifts and mirrors a photo. All but the mirror is what a pinhole sees that is turned about its
axis and has another focal length and principal point, so maps are drawn for the crop itself and exact at every pixel's
centre; those of mirrored crops are drawn as before the mirror, and `kouros.render.maps.mirror_maps` does the rest.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from kouros.batched import Batched, concatenate
from kouros.body.model import BodyModel
from kouros.body.surface.atlas import UvSampler, joint_assignment, joint_shares
from kouros.body.surface.skin import BodySurface, body_surface
from kouros.data.dense import Look, Wants
from kouros.geometry.cameras import PerspectiveCamera
from kouros.render.maps import UV_MAPS, DenseMaps, maps_of_fragments, mirror_maps, uv_maps, view_texels
from kouros.render.rasterize import Fragments, rasterize

_T = TypeVar("_T", Tensor, "PosedBodies")

_TOGETHER = 32
"""Bodies of a batch that are posed at once. Always so many: a matrix product's last bits may depend on its shape, and a
row of a batch must not depend on how many rows there are."""


@dataclass(frozen=True)
class PosedBodies(Batched):
    """Bodies in the space of the cameras that see them, metres."""

    vertices: Float[Tensor, "people verts 3"]
    root: Float[Tensor, "people 3"]
    """The pelvis."""
    joints: Float[Tensor, "people joints 3"]
    """Of joint maps."""


@dataclass(frozen=True, eq=False)
class Obstacles:
    """What may hide people from a camera, in its space."""

    bodies: Float[Tensor, "others verts 3"]
    look: Int[Tensor, " others"]
    """Which of the people each of the bodies may hide."""
    things: Mapping[int, tuple[Float[Tensor, "points 3"], Int[Tensor, "faces 3"]]] = field(default_factory=dict)
    """By the number of the person that they may hide: a mesh."""


@dataclass(frozen=True, eq=False)
class Clothes:
    """What a person wears, as a mesh in the space of the camera."""

    vertices: Float[Tensor, "points 3"]
    faces: Int[Tensor, "faces 3"]
    skin: Int[Tensor, " points"]
    """The face of the body whose part is shown around each vertex."""


class MapDrawer:
    """Draws what crops show of one model's bodies. What it derives from the model it derives once, when needed."""

    def __init__(self, body: BodyModel) -> None:
        self.body = body
        self._uv: dict[tuple[int, str], tuple[UvSampler, Tensor]] = {}

    @cached_property
    def surface(self) -> BodySurface:
        """Labels, atlas and charts, joint maps being of lsp14; some seconds."""
        return body_surface(self.body)

    @cached_property
    def _surface24(self) -> BodySurface:
        return replace(self.surface, joints="smpl24", joint_shares=joint_shares(self.body, "smpl24"))

    def _uv_space(self, size: int, joints: str) -> tuple[UvSampler, Int[Tensor, "texels texels"]]:
        if (size, joints) not in self._uv:
            sampler = self.surface.sampler(size)
            self._uv[size, joints] = sampler, joint_assignment(self.body, sampler, joints)
        return self._uv[size, joints]

    @torch.no_grad()
    def posed(
        self,
        joints: str,
        pose: Float[np.ndarray, "people 72"],
        betas: Float[np.ndarray, "people betas"],
        transl: Float[np.ndarray, "people 3"],
        *,
        alone: bool = False,
    ) -> PosedBodies:
        """Pose bodies; ``joints`` names the set of joint maps.

        Args:
            alone: they are few, and of no batch.
        """

        def posed(pose: Tensor, betas: Tensor, transl: Tensor) -> PosedBodies:
            out = self.body(betas, pose[:, 3:], pose[:, :3], transl)
            points = out.joints if joints == "smpl24" else self.body.keypoints_3d(out, joints)
            return PosedBodies(out.vertices, out.joints[:, 0], points)

        return concatenate(_in_groups(posed, len(pose) if alone else _TOGETHER, pose, betas, transl))

    @torch.no_grad()
    def keypoints(
        self,
        keypoint_set: str,
        pose: Float[np.ndarray, "people 72"],
        betas: Float[np.ndarray, "people betas"],
        transl: Float[np.ndarray, "people 3"],
    ) -> Float[np.ndarray, "people points 3"]:
        """A set's points on posed bodies.

        Raises:
            KeyError: the body cannot place that set.
        """

        def placed(pose: Tensor, betas: Tensor, transl: Tensor) -> Tensor:
            return self.body.keypoint_positions(keypoint_set, betas, pose[:, 3:], pose[:, :3], transl)

        return torch.cat(_in_groups(placed, _TOGETHER, pose, betas, transl)).numpy()

    @torch.no_grad()
    def maps(
        self,
        people: PosedBodies,
        cameras: PerspectiveCamera,
        looks: Sequence[Look],
        wants: Wants,
        obstacles: Obstacles | None = None,
        clothes: Mapping[int, Clothes] | None = None,
    ) -> DenseMaps:
        """What is wanted of each person, as it is looked at.

        Clothes count in the mask and in the labels. All other maps show the body beneath them, as far as it is not
        hidden by somebody or something else, and nothing where cloth is beside it.

        Args:
            cameras: of the whole photos, one a person.
            looks: into the photos, one a person, all of one size.
            clothes: of the persons that have some, by number.

        Raises:
            ValueError: crops that are no multiple of the stride; as `mirror_maps` does.
        """
        size = wants.map_size(looks[0].crop.size)
        looks = [look.at(size) for look in looks]
        view = _CropCameras.of(looks, cameras)
        surface = self.surface if wants.joints == self.surface.joints else self._surface24
        seen = people.map(view.turned)
        maps, fragments = DenseMaps(), None
        if wants.pixels:
            fragments = rasterize(seen.vertices, surface.faces, view.camera, (size, size))
            # Occluders lie over the mirrored crop, and this is before the mirror.
            hidden = torch.from_numpy(np.stack([k.hidden[:, ::-1] if k.crop.flipped else k.hidden for k in looks]))
            worn, front = _worn(clothes or {}, view, fragments.depth)
            if obstacles is not None:
                hidden = hidden | (self._nearest(obstacles, view, fragments) < front)
            fragments = _without(fragments, hidden)
            maps = maps_of_fragments(
                surface, fragments, seen.vertices, seen.joints, seen.root, maps=wants.maps, part_sets=wants.parts
            )
            maps = replace(maps, fragments=None)
            if clothes:
                maps = _dressed(maps, torch.where(hidden, -1, worn), surface)
        if any(name in UV_MAPS for name in wants.maps):
            sampler, assignment = self._uv_space(wants.uv_size, wants.joints)
            made = vars(uv_maps(sampler, surface.faces, assignment, seen.vertices, seen.joints, seen.root))
            if fragments is not None and "uv_visible" in wants.maps:
                texels = view_texels(seen.vertices, surface.faces, sampler, view.camera, fragments)
                made["uv_visible"] = texels.visible
            maps = replace(maps, **{name: made[name] for name in UV_MAPS if name in wants.maps})
        flipped = torch.tensor([look.crop.flipped for look in looks])
        if not flipped.any():
            return maps
        order = torch.cat([torch.nonzero(~flipped), torch.nonzero(flipped)])[:, 0].argsort()
        return concatenate([maps[~flipped], mirror_maps(maps[flipped], surface)])[order]

    def _nearest(
        self, obstacles: Obstacles, view: "_CropCameras", fragments: Fragments
    ) -> Float[Tensor, "people size size"]:
        """Depth of the nearest obstacle at each pixel."""
        height, width = fragments.depth.shape[1:]
        nearest = torch.full_like(fragments.depth, torch.inf)
        if len(obstacles.bodies):
            theirs = view[obstacles.look]
            depths = rasterize(theirs.turned(obstacles.bodies), self.body.faces, theirs.camera, (height, width)).depth
            for look, depth in zip(obstacles.look.tolist(), depths, strict=True):
                nearest[look] = torch.minimum(nearest[look], depth)
        for look, (points, faces) in obstacles.things.items():
            own = view[look : look + 1]
            depth = rasterize(own.turned(points[None]), faces, own.camera, (height, width)).depth[0]
            nearest[look] = torch.minimum(nearest[look], depth)
        return nearest


@dataclass(frozen=True, eq=False)
class _CropCameras(Batched):
    """The pinholes that see crops as before the mirror."""

    cos: Float[Tensor, " people"]
    """Of the turn of the photo's camera about its axis."""
    sin: Float[Tensor, " people"]
    focal_length: Float[Tensor, " people"]
    principal_point: Float[Tensor, "people 2"]

    @staticmethod
    def of(looks: Sequence[Look], cameras: PerspectiveCamera) -> "_CropCameras":
        crops = [replace(look.crop, flipped=False) for look in looks]
        scale = [crop.size / crop.side for crop in crops]
        centers = cameras.principal_point.double().numpy()
        placed = [crop.points(center) for crop, center in zip(crops, centers, strict=True)]
        values = (
            np.cos([crop.rotation for crop in crops]),
            np.sin([crop.rotation for crop in crops]),
            cameras.focal_length.double().numpy() * scale,
            np.stack(placed),
        )
        return _CropCameras(*(torch.from_numpy(v).float() for v in values))

    @property
    def camera(self) -> PerspectiveCamera:
        return PerspectiveCamera(self.focal_length, self.principal_point)

    def turned(self, points: Tensor) -> Tensor:
        """Points (people, ..., 3) of the photos' cameras in the crops' axes."""
        x, y, z = points.unbind(dim=-1)
        cos, sin = (t.reshape(-1, *(1,) * (x.ndim - 1)) for t in (self.cos, self.sin))
        return torch.stack([cos * x - sin * y, sin * x + cos * y, z], dim=-1)


@cache
def packaged_drawer() -> MapDrawer:
    """Of the packaged body; one a process."""
    from kouros.body import load_body

    return MapDrawer(load_body())


def _worn(
    clothes: Mapping[int, Clothes], view: _CropCameras, depth: Float[Tensor, "people size size"]
) -> tuple[Int[Tensor, "people size size"], Float[Tensor, "people size size"]]:
    """The face of the body whose clothes are nearest at each pixel, -1 where none are before the skin; and how far
    away what is nearest is."""
    skin, front = torch.full_like(depth, -1, dtype=torch.int64), depth.clone()
    for number, worn in clothes.items():
        own = view[number : number + 1]
        seen = rasterize(own.turned(worn.vertices[None]), worn.faces, own.camera, (depth.shape[1], depth.shape[2]))
        nearer = seen.depth[0] < depth[number]
        corner = seen.barycentric[0][nearer].argmax(-1)
        skin[number][nearer] = worn.skin[worn.faces[seen.face[0][nearer], corner]]
        front[number] = torch.minimum(front[number], seen.depth[0])
    return skin, front


def _dressed(maps: DenseMaps, worn: Int[Tensor, "people size size"], surface: BodySurface) -> DenseMaps:
    """Mask and labels with the clothes, given the face of the body that each pixel's clothes hang on, -1: none."""
    covered, faces = worn >= 0, worn.clamp(min=0)
    labels = {name: torch.where(covered, surface.face_labels[name][faces], own) for name, own in maps.labels.items()}
    return replace(maps, mask=None if maps.mask is None else maps.mask | covered, labels=labels)


def _without(fragments: Fragments, hidden: Tensor) -> Fragments:
    return Fragments(
        face=torch.where(hidden, -1, fragments.face),
        barycentric=torch.where(hidden[..., None], 0.0, fragments.barycentric),
        depth=torch.where(hidden, torch.inf, fragments.depth),
    )


def _in_groups(make: Callable[..., _T], size: int, *arrays: np.ndarray) -> list[_T]:
    """``make`` of so many rows at a time, the last ones filled up with zeros."""
    groups = []
    for first in range(0, len(arrays[0]), size):
        rows = [torch.from_numpy(np.asarray(a[first : first + size], dtype=np.float32)) for a in arrays]
        missing = size - len(rows[0])
        groups.append(make(*(torch.nn.functional.pad(row, (0, 0, 0, missing)) for row in rows))[: size - missing])
    return groups
