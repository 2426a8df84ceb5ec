"""Rendering of stored scenes: pictures, and what each pixel sees, from one z-buffer over all people and things."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from kouros.body import BodyModel, load_body
from kouros.body.model import BodyOutput
from kouros.body.surface.skin import BodySurface, body_surface
from kouros.data.synthetic.backgrounds import PhotoBackgrounds, drawn_background
from kouros.data.synthetic.lights import drawn_lighting
from kouros.data.synthetic.scenes import Scene
from kouros.data.synthetic.wardrobe import Mannequin, dressed, mannequin
from kouros.geometry.cameras import PerspectiveCamera
from kouros.render.rasterize import Fragments, rasterize
from kouros.render.shading import shade

_CLOTHES, _LIGHT, _BACKGROUND, _LENS = 1, 2, 3, 4


@dataclass(frozen=True)
class View:
    """A square region of the picture, at any resolution."""

    left: float
    """Its corner, pixels of the picture."""
    top: float
    side: float
    """Pixels of the picture."""
    size: int
    """Side of what is rendered, pixels."""


@dataclass(frozen=True, eq=False)
class SeenMaps:
    """What each pixel sees. People are counted from 0 as the scene has them."""

    person: Int[np.ndarray, "h w"]
    """-1 where there is nobody, or a thing before them."""
    iuv: Float[np.ndarray, "h w 3"]
    """DensePose's: the part, 1 to 24, and u, v on its chart; 0 where there is nobody."""
    parts: dict[str, Int[np.ndarray, "h w"]]
    """Labels of each part set asked for, 0 for the background."""
    depth: Float[np.ndarray, "h w"]
    """Metres along the camera's z of people and things; infinity on the background."""

    def mask(self, person: int) -> Bool[np.ndarray, "h w"]:
        """Where a person is seen."""
        return self.person == person


@dataclass(frozen=True, eq=False)
class Staged:
    """A scene's geometry in camera space: all people, then all things, as one mesh."""

    bodies: BodyOutput
    vertices: Float[Tensor, "1 verts 3"]
    faces: Int[Tensor, "faces 3"]
    people_faces: int


class Stage:
    """What rendering needs: the body, its surface once asked for, and the user's backgrounds.

    One a process; pictures of a scene depend on nothing that it remembers.
    """

    def __init__(self, body: BodyModel | None = None, backgrounds: Path | None = None) -> None:
        self.body = body or load_body()
        self._backgrounds = None if backgrounds is None else PhotoBackgrounds(backgrounds)

    @cached_property
    def surface(self) -> BodySurface:
        """Labels and charts of the body; made when first asked for, in some seconds."""
        return body_surface(self.body)

    @cached_property
    def mannequin(self) -> Mannequin:
        """Where the body wears what."""
        return mannequin(self.body)

    @torch.no_grad()
    def staged(self, scene: Scene) -> Staged:
        """Pose everyone and put up the things."""
        pose = torch.from_numpy(scene.pose)
        bodies = self.body(torch.from_numpy(scene.betas), pose[:, 3:], pose[:, :3], torch.from_numpy(scene.transl))
        points, faces = [bodies.vertices.flatten(0, 1)], []
        count = bodies.vertices.shape[1]
        offsets = count * torch.arange(len(scene))[:, None, None]
        faces.append((self.body.faces + offsets).flatten(0, 1))
        start = count * len(scene)
        for prop in scene.props:
            vertices, triangles = prop.mesh()
            points.append(torch.from_numpy(scene.shot.to_camera(vertices)).float())
            faces.append(torch.from_numpy(triangles) + start)
            start += len(vertices)
        return Staged(bodies, torch.cat(points)[None], torch.cat(faces), len(scene) * len(self.body.faces))

    @torch.no_grad()
    def picture(
        self, scene: Scene, staged: Staged | None = None, *, soft_as: int | None = None
    ) -> UInt8[np.ndarray, "size size 3"]:
        """The photo, RGB.

        Args:
            soft_as: the lens blurs as in a picture of so many pixels a side; default: its own size, so that pictures
                of all sizes are equally soft.

        Raises:
            kouros.data.images.ImageError: the background's file cannot be read.
        """
        staged = staged or self.staged(scene)
        size = scene.size
        wardrobe = scene.dice(_CLOTHES)
        colours = [dressed(self.mannequin, wardrobe) for _ in range(len(scene))]
        colours += [np.tile(prop.colour, (len(prop.mesh()[0]), 1)) for prop in scene.props]
        albedo = torch.from_numpy(np.concatenate(colours)).float()
        lighting = drawn_lighting(scene.shot.world_to_camera, scene.dice(_LIGHT))
        camera = _camera(scene, None)
        lit = shade(staged.vertices, staged.faces, camera, (size, size), albedo, lighting=lighting)[0].numpy()
        picture = self._background(scene, staged)
        picture = picture * (1 - lit[..., 3:]) + lit[..., :3]
        return _through_lens(picture, scene.dice(_LENS), size if soft_as is None else soft_as)

    def fragments(self, scene: Scene, staged: Staged, view: View | None = None) -> Fragments:
        """The z-buffer over people and things."""
        size = scene.size if view is None else view.size
        return rasterize(staged.vertices, staged.faces, _camera(scene, view), (size, size))

    @torch.no_grad()
    def maps(
        self,
        scene: Scene,
        staged: Staged | None = None,
        view: View | None = None,
        parts: tuple[str, ...] = ("parts24",),
    ) -> SeenMaps:
        """Who and what each pixel sees, of the picture or of a region of it.

        Raises:
            KeyError: no such part set.
        """
        staged = staged or self.staged(scene)
        seen = self.fragments(scene, staged, view)
        face = seen.face[0]
        someone = (face >= 0) & (face < staged.people_faces)
        person = torch.where(someone, torch.div(face, len(self.body.faces), rounding_mode="floor"), -1)
        own = torch.where(someone, face % len(self.body.faces), 0)
        charts = self.surface.charts
        iuv = torch.zeros(*face.shape, 3)
        where = own[someone]
        uv = (charts.face_uv[where].float() * seen.barycentric[0][someone][..., None]).sum(dim=-2)
        iuv[someone] = torch.cat([charts.face_part[where, None].float(), uv], dim=-1)
        return SeenMaps(
            person=person.numpy(),
            iuv=iuv.numpy(),
            parts={name: (self.surface.face_labels[name][own] * someone).numpy() for name in parts},
            depth=seen.depth[0].numpy(),
        )

    def _background(self, scene: Scene, staged: Staged) -> Float[np.ndarray, "size size 3"]:
        dice, shot = scene.dice(_BACKGROUND), scene.shot
        if self._backgrounds is not None:
            return self._backgrounds.drawn((scene.size, scene.size), dice)
        points = staged.vertices[0, ::50].numpy() - shot.world_to_camera[:, 3]
        room = float(np.abs((points @ shot.world_to_camera[:, :3])[:, [0, 2]]).max(initial=1.0))
        picture = drawn_background(
            shot.world_to_camera, shot.focal, shot.center, (scene.size, scene.size), dice, room=min(room, 12.0)
        )
        return picture * _shadow(scene, staged, dice)[..., None]


def _camera(scene: Scene, view: View | None) -> PerspectiveCamera:
    focal, center = scene.shot.focal, scene.shot.center
    if view is not None:
        scale = view.size / view.side
        focal, center = focal * scale, (center - [view.left, view.top]) * scale
    return PerspectiveCamera(torch.tensor([focal]), torch.from_numpy(center).float()[None])


def _shadow(scene: Scene, staged: Staged, dice: np.random.Generator) -> Float[np.ndarray, "size size"]:
    """What light is left on the floor under people: their points dropped along a slant, counted, and blurred."""
    shot, size, coarse = scene.shot, scene.size, 4
    world = (staged.bodies.vertices[:, ::3].reshape(-1, 3).numpy() - shot.world_to_camera[:, 3]) @ shot.world_to_camera[
        :, :3
    ]
    slant = dice.normal(0, 0.35, 2)
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
    dark = dice.uniform(0.25, 0.6) * np.clip(soft / full, 0, 1)
    return 1 - cv2.resize(dark.astype(np.float32), (size, size), interpolation=cv2.INTER_LINEAR)


def _through_lens(
    picture: Float[np.ndarray, "size size 3"], dice: np.random.Generator, soft_as: int
) -> UInt8[np.ndarray, "size size 3"]:
    """Exposure, blur, noise and JPEG's artefacts."""
    picture = picture.astype(np.float32) * np.float32(dice.uniform(0.85, 1.2))
    if dice.random() < 0.4:
        picture = cv2.GaussianBlur(picture, (0, 0), dice.uniform(0.3, 1.1) * soft_as / 224)
    if dice.random() < 0.5:
        picture = picture + dice.normal(0, dice.uniform(0.005, 0.03), picture.shape).astype(np.float32)
    pixels = np.rint(255 * np.clip(picture, 0, 1)).astype(np.uint8)
    if dice.random() < 0.5:
        quality = int(dice.integers(35, 96))
        _, coded = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        pixels = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), dtype=np.uint8)[..., ::-1]
    return np.ascontiguousarray(pixels)
