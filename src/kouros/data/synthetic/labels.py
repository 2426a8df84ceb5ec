"""What is known of the people in a scene, as samples: all that the schema has, from the mesh and the z-buffer."""

import numpy as np
import torch

from kouros.body import BodyModel
from kouros.body.keypoints import SPIN49
from kouros.body.surface.atlas import rest_keypoints
from kouros.data.schema import Sample, TableInfo
from kouros.data.synthetic.draw import Stage, Staged
from kouros.data.synthetic.scenes import Scene

_MARGIN = 1.1
"""Side of the square box over the longer side of the tight one."""
_MIN_BOX = 24.0
"""Pixels; smaller people are in the picture but not in the table."""
_MIN_SEEN = 6
"""Keypoints, of 49, that must be seen for a person to be in the table."""


def table_info(split: str, folder: str, provenance: dict[str, object]) -> TableInfo:
    """Description of a table of synthetic people."""
    return TableInfo("synthetic", split, folder, SPIN49, SPIN49, "camera", dict(provenance))


def image_name(index: int) -> str:
    """Where picture ``index`` lies below a folder whose pictures were written."""
    return f"images/{index // 1000:04d}/{index:08d}.jpg"


def image_index(path: str) -> int:
    """The inverse of `image_name`."""
    return int(path.rpartition("/")[2].removesuffix(".jpg"))


def thickness(body: BodyModel) -> np.ndarray:
    """(49,) metres of flesh that may be before a keypoint that is still seen."""
    points = rest_keypoints(body, SPIN49.name)
    return (1.5 * torch.cdist(points, body.v_template).amin(dim=1) + 0.03).numpy()


@torch.no_grad()
def label(stage: Stage, scene: Scene, flesh: np.ndarray, staged: Staged | None = None) -> list[Sample]:
    """A row for each person who is large enough and seen.

    Args:
        flesh: `thickness` of the stage's body.
    """
    if not len(scene):
        return []
    staged = staged or stage.staged(scene)
    seen = stage.fragments(scene, staged)
    face, depth = seen.face[0].numpy(), seen.depth[0].numpy()
    per_body = len(stage.body.faces)
    owner = np.where((face >= 0) & (face < staged.people_faces), face // per_body, -1)
    points = stage.body.keypoints_3d(staged.bodies, SPIN49.name).numpy()
    size, shot = scene.size, scene.shot
    samples = []
    for k in range(len(scene)):
        pixels = points[k, :, :2] / points[k, :, 2:] * shot.focal + shot.center
        inside = ((pixels >= 0) & (pixels < size)).all(axis=1) & (points[k, :, 2] > 0.1)
        column, row = np.floor(np.where(inside[:, None], pixels, 0)).astype(int).T
        before = points[k, :, 2] - depth[row, column]
        mine = owner[row, column] == k
        visible = inside & ((mine & (before < flesh)) | (~mine & (before < 0)))
        outline = staged.bodies.vertices[k].numpy()
        outline = outline[:, :2] / outline[:, 2:] * shot.focal + shot.center
        low, high = outline.min(axis=0).clip(0, size), outline.max(axis=0).clip(0, size)
        side = float((high - low).max())
        if side < _MIN_BOX or visible.sum() < _MIN_SEEN:
            continue
        known = inside.astype(np.float32)
        samples.append(
            Sample(
                image_path=image_name(scene.index),
                image_size=(size, size),
                box_center=(low + high) / 2,
                box_size=_MARGIN * side,
                bbox=np.concatenate([low, high]).astype(np.float32),
                # As fine as anything needs (1/64 pixel, 1/8 mm), and half the bytes on disk.
                keypoints_2d=np.column_stack([_to(pixels, 64) * known[:, None], known]).astype(np.float32),
                visible=visible,
                keypoints_3d=np.column_stack([_to(points[k], 8192), np.ones(len(points[k]))]).astype(np.float32),
                pose=scene.pose[k],
                betas=scene.betas[k],
                transl=scene.transl[k],
                gender="neutral",
                intrinsics=np.array([shot.focal, shot.focal, *shot.center], dtype=np.float32),
                action=scene.family[k],
                person=str(k),
            )
        )
    return samples


def _to(values: np.ndarray, parts: int) -> np.ndarray:
    return np.rint(values * parts) / parts
