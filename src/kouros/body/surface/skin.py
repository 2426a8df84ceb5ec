"""All that one body's surface is labelled and mapped with, derived once: what the dense maps read."""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kouros.body.model import BodyModel
from kouros.body.surface.atlas import LSP14_ASSIGNMENT, UvAtlas, UvSampler, joint_shares, uv_atlas, uv_sampler
from kouros.body.surface.charts import Charts, build_charts
from kouros.body.surface.parts import PART_SETS, face_labels
from kouros.body.surface.symmetry import MeshMirror, mesh_mirror


@dataclass(frozen=True)
class BodySurface:
    """Labels, UV map and charts of one body's mesh."""

    faces: Int[Tensor, "faces 3"]
    mirror: MeshMirror
    face_labels: dict[str, Int[Tensor, " faces"]]
    """For each part set (`parts.PART_SETS`), the label of every face."""
    atlas: UvAtlas
    charts: Charts
    joints: str
    """The keypoint set that the surface is assigned to, "lsp14" or "smpl24"."""
    joint_shares: Float[Tensor, "verts joints"]
    """How much of each vertex is assigned to each of them; see `atlas.joint_shares`."""

    def sampler(self, size: int) -> UvSampler:
        """Sampling between vertices and UV images of a size; keep it, it takes a fraction of a second."""
        return uv_sampler(self.atlas, self.mirror, size)


def body_surface(body: BodyModel, *, obj: str | Path | None = None, joints: str = LSP14_ASSIGNMENT) -> BodySurface:
    """Derive a body's surface; some seconds.

    Args:
        obj: an OBJ file with a UV map for this body's mesh; None for the body's own, or else packed charts.
        joints: "lsp14" or "smpl24", the joints of the joint map.

    Raises:
        KeyError: the body cannot place that keypoint set.
        ValueError: the template is not symmetric, or the OBJ file is not of this mesh.
    """
    shares = joint_shares(body, joints)
    mirror = mesh_mirror(body)
    labels = {
        name: torch.from_numpy(face_labels(body, parts, mirror)).to(body.faces) for name, parts in PART_SETS.items()
    }
    return BodySurface(
        faces=body.faces,
        mirror=mirror,
        face_labels=labels,
        atlas=uv_atlas(body, obj, mirror),
        charts=build_charts(body, mirror),
        joints=joints,
        joint_shares=shares,
    )
