"""Bodies whose surfaces are tested: the free body, and one of SMPL's size without UV map or mirror."""

import dataclasses

import numpy as np
import pytest
import torch

from kouros.body.model import BodyArrays, BodyModel
from kouros.body.surface import body_surface
from kouros.body.surface.symmetry import mesh_mirror


@pytest.fixture(scope="session")
def surface(free_body):
    return body_surface(free_body)


@pytest.fixture(scope="session")
def mirror(free_body):
    return mesh_mirror(free_body)


@pytest.fixture(scope="session")
def smpl_sized(free_body) -> BodyModel:
    """The free body with 6,890 vertices: mirrored edges collapsed two by two, no UV map, no mirror table."""
    body, mirror = free_body, mesh_mirror(free_body)
    faces = body.faces.numpy()
    count = len(body.v_template)
    target = torch.arange(count).numpy()
    edges = np.unique(np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]]]), axis=1), axis=0)
    place = body.v_template.numpy()
    neighbours = [set() for _ in range(count)]
    for a, b in np.concatenate([edges, np.unique(np.sort(faces[:, [2, 0]], axis=1), axis=0)]).tolist():
        neighbours[a].add(b)
        neighbours[b].add(a)
    touched: set[int] = set()
    removed = 0
    # On the trunk and legs, away from the middle; an edge collapses cleanly if its ends share two neighbours.
    for a, b in edges.tolist():
        if removed == count - 6890:
            break
        near = neighbours[a] | neighbours[b]
        if near & touched or len(neighbours[a] & neighbours[b]) != 2:
            continue
        if min(place[a, 0], place[b, 0]) < 0.03 or place[a, 1] > 0.3 or abs(place[a, 0]) > 0.25:
            continue
        if len(neighbours[a]) < 5 or len(neighbours[b]) < 5:
            continue
        target[b], target[mirror.vertex[b]] = a, mirror.vertex[a]
        touched |= near | {int(mirror.vertex[v]) for v in near}
        removed += 2
    kept = np.flatnonzero(target == np.arange(count))
    number = np.full(count, -1)
    number[kept] = np.arange(len(kept))
    new_faces = number[target[faces]]
    distinct = (new_faces != np.roll(new_faces, 1, axis=1)).all(axis=1)
    rows = torch.from_numpy(kept)
    regressor = torch.zeros(24, len(kept))
    regressor.index_add_(1, torch.from_numpy(number[target]), body.joint_regressor.float())
    names = {field.name for field in dataclasses.fields(BodyArrays)}
    arrays = {
        "v_template": body.v_template[rows],
        "shapedirs": body.shapedirs[rows],
        "posedirs": body.posedirs.T.unflatten(0, (-1, 3))[rows].contiguous(),
        "joint_regressor": regressor,
        "weights": body.weights[rows],
        "faces": torch.from_numpy(new_faces[distinct]),
        "keypoint_rows": {},
    }
    assert set(arrays) <= names
    return BodyModel(BodyArrays(**arrays))
