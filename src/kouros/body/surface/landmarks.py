"""Landmarks on the skin: a few vertices that represent the whole surface, on any body's mesh."""

import torch
from jaxtyping import Int
from torch import Tensor

from kouros.body.model import BodyModel
from kouros.body.surface.symmetry import mesh_mirror


def surface_landmarks(body: BodyModel, count: int = 91) -> Int[Tensor, " count"]:
    """Vertices as far from each other as so many can be, with their mirror images.

    UP-3D has 91 landmarks on SMPL's mesh (Lassner et al., CVPR 2017), chosen by hand. These are chosen by distance in
    the rest pose, one after the other, so that they exist on every mesh: the first is the vertex farthest from the
    root joint, each further one the farthest from all before it.

    Raises:
        ValueError: more than the mesh has vertices; as `mesh_mirror` does.
    """
    vertices = body.v_template
    if not 0 < count <= len(vertices):
        raise ValueError(f"There cannot be {count} landmarks among {len(vertices)} vertices.")
    mirror = torch.from_numpy(mesh_mirror(body).vertex).to(vertices.device)
    chosen: list[int] = []
    distance = torch.full_like(vertices[:, 0], torch.inf)
    candidate = int((vertices - body.joint_template[0]).norm(dim=-1).argmax())
    while len(chosen) < count:
        # One place is left: only who mirrors itself can take it and leave the set symmetric.
        if len(chosen) + 1 == count and int(mirror[candidate]) != candidate:
            own = mirror == torch.arange(len(mirror), device=mirror.device)
            candidate = int(torch.where(own, distance, -1.0).argmax())
        for vertex in dict.fromkeys((candidate, int(mirror[candidate]))):
            chosen.append(vertex)
            distance = torch.minimum(distance, (vertices - vertices[vertex]).norm(dim=-1))
        candidate = int(distance.argmax())
    return torch.tensor(chosen[:count], device=vertices.device)
