"""Rendering of stored scenes: pictures, and what each pixel sees, from one z-buffer over all people and things."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from kouros.batched import concatenate
from kouros.body import BodyModel
from kouros.body.model import BodyOutput
from kouros.data.dense import Look, Wants
from kouros.data.dense_drawn import Clothes, MapDrawer, Obstacles, packaged_drawer
from kouros.data.synthetic.backgrounds import PhotoBackgrounds, drawn_background
from kouros.data.synthetic.garments import BoundGarment, Wardrobe, joined
from kouros.data.synthetic.lights import drawn_lighting
from kouros.data.synthetic.scenes import Scene
from kouros.data.synthetic.wardrobe import Mannequin, dressed, mannequin
from kouros.geometry.cameras import PerspectiveCamera
from kouros.render.maps import DenseMaps
from kouros.render.rasterize import Fragments, rasterize
from kouros.render.shading import shade

_CLOTHES, _LIGHT, _BACKGROUND, _LENS, _OUTFIT, _DYE = 1, 2, 3, 4, 5, 6
_PARAMETERS = ("pose", "betas", "transl")
_TOGETHER = 16
"""People whose maps are drawn at once."""
_FLESH = 0.3
"""Metres: no skin is farther from the box around a body's joints."""
_NEAR = 0.01
"""Metres: nothing nearer is drawn."""


@dataclass(frozen=True, eq=False)
class Staged:
    """A scene's geometry in camera space: all people, then all things, as one mesh."""

    bodies: BodyOutput
    vertices: Float[Tensor, "1 verts 3"]
    faces: Int[Tensor, "faces 3"]
    people_faces: int


class Stage:
    """What rendering needs: the body, its surface once asked for, and the user's backgrounds and garments.

    One a process; pictures of a scene depend on nothing that it remembers.

    Args:
        backgrounds: folder of photos.
        wardrobe: folder of garments, as `kouros.data.synthetic.garments.Wardrobe` reads it.

    Raises:
        kouros.data.mhclo.GarmentError: the garments cannot be used.
        OSError: a file cannot be read.
    """

    def __init__(
        self, body: BodyModel | None = None, backgrounds: Path | None = None, wardrobe: Path | None = None
    ) -> None:
        self.drawer = packaged_drawer() if body is None else MapDrawer(body)
        self.body = self.drawer.body
        self._backgrounds = None if backgrounds is None else PhotoBackgrounds(backgrounds)
        self._wardrobe = None if wardrobe is None else Wardrobe(wardrobe, self.body)

    def outfits(self, scene: Scene) -> list[list[BoundGarment]]:
        """What everyone wears beside their paint."""
        if self._wardrobe is None:
            return [[] for _ in range(len(scene))]
        rng = scene.rng(_OUTFIT)
        return [self._wardrobe.outfit(rng) for _ in range(len(scene))]

    @torch.no_grad()
    def clothes(self, scene: Scene, vertices: Float[Tensor, "people verts 3"]) -> list[Clothes | None]:
        """Everyone's outfits as meshes on their bodies; None: painted only."""
        if self._wardrobe is None:
            return [None] * len(scene)
        turns = self._wardrobe.turns(scene.pose)
        return [
            Clothes(*joined(outfit, vertices[k], turns[k])) if outfit else None
            for k, outfit in enumerate(self.outfits(scene))
        ]

    @cached_property
    def mannequin(self) -> Mannequin:
        """Where the body wears what."""
        return mannequin(self.body)

    @torch.no_grad()
    def staged(self, scene: Scene) -> Staged:
        """Pose everyone and put up the things."""
        pose = torch.from_numpy(scene.pose)
        bodies = self.body(torch.from_numpy(scene.betas), pose[:, 3:], pose[:, :3], torch.from_numpy(scene.transl))
        count = bodies.vertices.shape[1]
        points = bodies.vertices.flatten(0, 1)
        faces = (self.body.faces + count * torch.arange(len(scene))[:, None, None]).flatten(0, 1)
        people_faces = len(faces)
        if scene.props:
            things, triangles = _things(scene)
            faces = torch.cat([faces, triangles + len(points)])
            points = torch.cat([points, things])
        return Staged(bodies, points[None], faces, people_faces)

    @torch.no_grad()
    def picture(
        self, scene: Scene, staged: Staged | None = None, *, soft_as: int | None = None, room: float | None = None
    ) -> UInt8[np.ndarray, "size size 3"]:
        """The photo, RGB.

        Args:
            soft_as: the lens blurs as in a picture of so many pixels a side; default: its own size, so that pictures
                of all sizes are equally soft.
            room: metres around the origin that are free of walls; default: as the people need.

        Raises:
            kouros.data.images.ImageError: the background's file cannot be read.
        """
        staged = staged or self.staged(scene)
        size = scene.size
        wardrobe = scene.rng(_CLOTHES)
        colours = [dressed(self.mannequin, wardrobe) for _ in range(len(scene))]
        of_clothes = self._painted(scene, colours)
        colours += [np.tile(prop.colour, (len(prop.mesh()[0]), 1)) for prop in scene.props]
        vertices, faces = [staged.vertices[0]], [staged.faces]
        for clothes in self.clothes(scene, staged.bodies.vertices):
            if clothes is not None:
                faces.append(clothes.faces + sum(map(len, vertices)))
                vertices.append(clothes.vertices)
        albedo = torch.from_numpy(np.concatenate([*colours, *of_clothes])).float()
        lighting = drawn_lighting(scene.shot.world_to_camera, scene.rng(_LIGHT))
        points, camera = torch.cat(vertices)[None], _camera(scene)
        lit = shade(points, torch.cat(faces), camera, (size, size), albedo, lighting=lighting)[0].numpy()
        picture = self._background(scene, staged, room)
        picture = picture * (1 - lit[..., 3:]) + lit[..., :3]
        return _through_lens(picture, scene.rng(_LENS), size if soft_as is None else soft_as)

    def _painted(self, scene: Scene, skins: list[Float[np.ndarray, "verts 3"]]) -> list[Float[np.ndarray, "_ 3"]]:
        """Colours of all outfits, person by person; the skin that they cover is painted like them."""
        rng, colours = scene.rng(_DYE), []
        for skin, outfit in zip(skins, self.outfits(scene), strict=True):
            for garment in outfit:
                cloth = garment.coloured(rng)
                covered = garment.covers >= 0
                skin[covered] = cloth[garment.covers[covered]]
                colours.append(cloth)
        return colours

    def fragments(self, scene: Scene, staged: Staged, size: int | None = None) -> Fragments:
        """The picture's z-buffer over people and things; drawn with ``size`` pixels a side, if not with its own."""
        size = size or scene.size
        return rasterize(staged.vertices, staged.faces, _camera(scene).scaled(size / scene.size), (size, size))

    def maps(self, people: Sequence[tuple[Scene, int]], looks: Sequence[Look], wants: Wants) -> DenseMaps:
        """What is wanted of people, each in a scene by number, as they are looked at in its picture.

        Raises:
            ValueError: as `MapDrawer.maps`.
        """
        others = self._in_the_way(people, looks) if wants.pixels else []
        everyone = [*people, *((scene, k) for _, scene, k in others)]
        parameters = (np.stack([getattr(scene, name)[k] for scene, k in everyone]) for name in _PARAMETERS)
        posed = self.drawer.posed(wants.joints, *parameters, alone=len(people) == 1)
        hides = torch.tensor([i for i, _, _ in others], dtype=torch.int64)
        cameras = torch.tensor([[scene.shot.focal, *scene.shot.center] for scene, _ in people])
        groups = []
        for first in range(0, len(people), _TOGETHER):
            mine = slice(first, first + _TOGETHER)
            theirs = (hides >= first) & (hides < first + _TOGETHER)
            things = {i: _things(scene) for i, (scene, _) in enumerate(people[mine]) if scene.props and wants.pixels}
            clothes = self._worn(people[mine], things) if wants.pixels else {}
            obstacles = Obstacles(posed.vertices[len(people) :][theirs], hides[theirs] - first, things)
            camera = PerspectiveCamera(cameras[mine, 0], cameras[mine, 1:])
            own = posed[: len(people)][mine]
            groups.append(self.drawer.maps(own, camera, looks[mine], wants, obstacles, clothes))
        return concatenate(groups)

    def _worn(
        self, people: Sequence[tuple[Scene, int]], things: dict[int, tuple[Tensor, Tensor]]
    ) -> dict[int, Clothes]:
        """Clothes of people, by number; those of others in their scenes are added to the things before them."""
        worn: dict[int, Clothes] = {}
        if self._wardrobe is None:
            return worn
        for i, (scene, mine) in enumerate(people):
            clothes = self.clothes(scene, self.staged(scene).bodies.vertices)
            own = clothes[mine]
            if own is not None:
                worn[i] = own
            for k, other in enumerate(clothes):
                if k != mine and other is not None:
                    points, faces = things.get(i, (torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int64)))
                    things[i] = torch.cat([points, other.vertices]), torch.cat([faces, other.faces + len(points)])
        return worn

    @torch.no_grad()
    def _in_the_way(self, people: Sequence[tuple[Scene, int]], looks: Sequence[Look]) -> list[tuple[int, Scene, int]]:
        """For each person, by number, who else of the scene may hide some of what is looked at."""
        crowds = [(i, scene, k) for i, (scene, _) in enumerate(people) for k in range(len(scene)) if len(scene) > 1]
        if not crowds:
            return []
        pose, betas, transl = (np.stack([getattr(scene, n)[k] for _, scene, k in crowds]) for n in _PARAMETERS)
        pose_, betas_, transl_ = (torch.from_numpy(a) for a in (pose, betas, transl))
        joints = self.body.joint_positions(betas_, pose_[:, 3:], pose_[:, :3], transl_).numpy().astype(np.float64)
        low, high = joints.min(axis=1) - _FLESH, joints.max(axis=1) + _FLESH
        near = low[:, 2:].clip(_NEAR)
        # Where the box around someone is seen at most, in the photo.
        focal = np.array([[scene.shot.focal] for _, scene, _ in crowds])
        center = np.stack([scene.shot.center for _, scene, _ in crowds])
        ends = np.stack([low[:, :2] / near, low[:, :2] / high[:, 2:], high[:, :2] / near, high[:, :2] / high[:, 2:]])
        first, last = ends.min(axis=0) * focal + center, ends.max(axis=0) * focal + center
        reach = np.array([looks[i].crop.side / math.sqrt(2) for i, _, _ in crowds])[:, None]
        middle = np.stack([looks[i].crop.center for i, _, _ in crowds])
        shown = ((first < middle + reach) & (last > middle - reach)).all(axis=1) & (high[:, 2] > _NEAR)
        farthest = {i: z for (i, _, k), z in zip(crowds, high[:, 2], strict=True) if k == people[i][1]}
        return [
            who
            for who, seen, z in zip(crowds, shown, near[:, 0], strict=True)
            if seen and who[2] != people[who[0]][1] and z < farthest[who[0]]
        ]

    def _background(self, scene: Scene, staged: Staged, room: float | None) -> Float[np.ndarray, "size size 3"]:
        rng, shot = scene.rng(_BACKGROUND), scene.shot
        if self._backgrounds is not None:
            return self._backgrounds.drawn((scene.size, scene.size), rng)
        points = staged.vertices[0, ::50].numpy() - shot.world_to_camera[:, 3]
        needed = float(np.abs((points @ shot.world_to_camera[:, :3])[:, [0, 2]]).max(initial=1.0))
        room = needed if room is None else room
        picture = drawn_background(
            shot.world_to_camera, shot.focal, shot.center, (scene.size, scene.size), rng, room=min(room, 12.0)
        )
        return picture * _shadow(scene, staged, rng)[..., None]


def _camera(scene: Scene) -> PerspectiveCamera:
    return PerspectiveCamera(torch.tensor([scene.shot.focal]), torch.from_numpy(scene.shot.center).float()[None])


def _things(scene: Scene) -> tuple[Float[Tensor, "points 3"], Int[Tensor, "faces 3"]]:
    """All props of a scene as one mesh in camera space."""
    points, faces, start = [], [], 0
    for prop in scene.props:
        vertices, triangles = prop.mesh()
        points.append(torch.from_numpy(scene.shot.to_camera(vertices)).float())
        faces.append(torch.from_numpy(triangles) + start)
        start += len(vertices)
    return torch.cat(points), torch.cat(faces)


def _shadow(scene: Scene, staged: Staged, rng: np.random.Generator) -> Float[np.ndarray, "size size"]:
    """What light is left on the floor under people: their points dropped along a slant, counted, and blurred."""
    shot, size, coarse = scene.shot, scene.size, 4
    world = (staged.bodies.vertices[:, ::3].reshape(-1, 3).numpy() - shot.world_to_camera[:, 3]) @ shot.world_to_camera[
        :, :3
    ]
    slant = rng.normal(0, 0.35, 2)
    height = world[:, 1].clip(0)
    ground = np.stack([world[:, 0] + slant[0] * height, np.zeros_like(height), world[:, 2] + slant[1] * height], axis=1)
    seen = shot.to_camera(ground)
    front = seen[:, 2] > 0.2
    pixels = seen[front, :2] / seen[front, 2:] * shot.focal + shot.center
    bins = -(-size // coarse)
    edges = np.arange(bins + 1) * coarse
    weight = (1.2 - height[front]).clip(0.15)
    counted, _, _ = np.histogram2d(pixels[:, 1], pixels[:, 0], bins=(edges, edges), weights=weight)
    soft = cv2.GaussianBlur(counted.astype(np.float32), (0, 0), max(1.0, 0.012 * size / coarse * 2))
    depth = np.median(seen[front, 2]) if front.any() else 5.0
    # How many points fall on a cell of a body seen from this far.
    full = 12.0 * (depth / shot.focal * 224 / 3) ** 2
    dark = rng.uniform(0.25, 0.6) * np.clip(soft / full, 0, 1)
    return 1 - cv2.resize(dark.astype(np.float32), (size, size), interpolation=cv2.INTER_LINEAR)


def _through_lens(
    picture: Float[np.ndarray, "size size 3"], rng: np.random.Generator, soft_as: int
) -> UInt8[np.ndarray, "size size 3"]:
    """Exposure, blur, noise and JPEG's artefacts."""
    picture = picture.astype(np.float32) * np.float32(rng.uniform(0.85, 1.2))
    if rng.random() < 0.4:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.3, 1.1) * soft_as / 224)
    if rng.random() < 0.5:
        picture = picture + rng.normal(0, rng.uniform(0.005, 0.03), picture.shape).astype(np.float32)
    pixels = np.rint(255 * np.clip(picture, 0, 1)).astype(np.uint8)
    if rng.random() < 0.5:
        quality = int(rng.integers(35, 96))
        _, coded = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        pixels = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), dtype=np.uint8)[..., ::-1]
    return np.ascontiguousarray(pixels)
