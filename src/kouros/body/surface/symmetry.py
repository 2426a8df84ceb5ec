"""The body's left-right mirror: which vertex, and which face corner by corner, is the mirror image of which.

The free body's file says which vertices mirror each other; for files that do not, the template is reflected
and compared with itself.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial import cKDTree
from torch import Tensor

from kouros.body.model import BodyModel


@dataclass(frozen=True)
class MeshMirror:
    """Mirror images of a mesh's vertices and faces."""

    vertex: Int[np.ndarray, " verts"]
    """Of each vertex; an involution."""
    face: Int[np.ndarray, " faces"]
    """Of each face; -1 where the mirror image of a face is none (its quad is cut the other way)."""
    corner: Int[np.ndarray, "faces 3"]
    """Which corner of the mirror face each corner goes to; meaningless where there is none."""


def mesh_mirror(body: BodyModel, *, tolerance: float = 2e-3) -> MeshMirror:
    """The mirror of a body's mesh, from its file or else from its template.

    Args:
        tolerance: how far a reflected vertex may lie from its partner where the file names none, metres.

    Raises:
        ValueError: the template is not symmetric.
    """
    vertices = body.v_template.double().numpy(force=True)
    named = body.mirror
    vertex = _reflect(vertices, tolerance) if named is None else named.numpy(force=True)
    return _mirror_faces(body.faces.numpy(force=True), vertex)


def _reflect(vertices: Float[np.ndarray, "verts 3"], tolerance: float) -> Int[np.ndarray, " verts"]:
    # SMPL's template is centred to within a millimetre or so: the plane is where the two halves agree.
    middle = (vertices[:, 0].min() + vertices[:, 0].max()) / 2
    reflected = (vertices - [middle, 0, 0]) * [-1, 1, 1] + [middle, 0, 0]
    distance, vertex = cKDTree(vertices).query(reflected)
    worst = int(np.argmax(distance))
    if distance[worst] > tolerance:
        raise ValueError(
            f"The body file names no mirror vertices and its template is not symmetric: the mirror image of "
            f"vertex {worst} lies {distance[worst] * 1000:.1f} mm from any vertex. Give the body a `mirror`."
        )
    unpaired = np.flatnonzero(vertex[vertex] != np.arange(len(vertex)))
    if len(unpaired):
        raise ValueError(
            f"The body file names no mirror vertices, and {len(unpaired)} vertices are too close to each "
            f"other to tell their mirror images apart, vertex {unpaired[0]} first. Give the body a `mirror`."
        )
    return vertex


def _mirror_faces(faces: Int[np.ndarray, "faces 3"], vertex: Int[np.ndarray, " verts"]) -> MeshMirror:
    count = len(vertex)

    def key(corners: np.ndarray) -> np.ndarray:
        ordered = np.sort(corners, axis=1).astype(np.int64)
        return (ordered[:, 0] * count + ordered[:, 1]) * count + ordered[:, 2]

    own, images = key(faces), vertex[faces]
    order = np.argsort(own)
    place = np.searchsorted(own[order], key(images)).clip(max=len(faces) - 1)
    face = order[place]
    face = np.where(own[face] == key(images), face, -1)
    corner = np.argmax(images[:, :, None] == faces[face][:, None, :], axis=2)
    return MeshMirror(vertex=vertex, face=face, corner=corner)


def reflect_points(points: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
    """Points across the plane x = 0, which in a symmetric body parts left and right."""
    return points * torch.tensor([-1.0, 1.0, 1.0], dtype=points.dtype, device=points.device)
