"""Rows of weights that place a joint by the vertices around it."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from kouros.body.free.regress import Crowd, ridge_row

VERTS, PEOPLE = 60, 80
NOBODY_MIRRORED = np.arange(VERTS)


@pytest.fixture(scope="module")
def bodies() -> tuple[np.ndarray, np.ndarray]:
    """(people, verts, 3), (people, 3): a limb's skin that varies in five ways, and a joint within that follows."""
    rng = np.random.default_rng(0)
    angle, along = rng.uniform(0, 2 * np.pi, VERTS), rng.uniform(-0.2, 0.2, VERTS)
    skin = np.stack([0.05 * np.cos(angle), along, 0.05 * np.sin(angle)], axis=1)
    ways = 0.01 * np.stack([skin * factors / 0.1 for factors in rng.normal(0, 1, (5, 3))])
    shifts = rng.normal(0, 0.01, (5, 3))
    betas = rng.normal(0, 1, (PEOPLE, 5))
    return skin + np.einsum("nb,bvc->nvc", betas, ways + shifts[:, None]), betas @ shifts


def test_the_joint_is_found_and_weights_sum_to_one(bodies):
    vertices, joints = bodies
    row = ridge_row(Crowd(vertices, NOBODY_MIRRORED), joints, np.arange(VERTS), 2e-4)
    assert row.sum() == pytest.approx(1.0, abs=1e-12)
    assert_allclose(np.einsum("v,nvc->nc", row, vertices), joints, rtol=0, atol=1e-4)


@pytest.mark.parametrize("posed", [False, True])
def test_weights_are_determined_to_far_more_than_rounding_leaves_of_normal_equations(bodies, posed: bool):
    """The order of people and of vertices changes nothing but the rounding."""
    vertices, joints = bodies
    offsets = vertices - joints[:, None] if posed else None
    rng, everyone = np.random.default_rng(1), np.arange(VERTS)
    row = ridge_row(Crowd(vertices, NOBODY_MIRRORED), joints, everyone, 2e-4, posed_offsets=offsets)
    for _ in range(3):
        people, order = rng.permutation(PEOPLE), rng.permutation(VERTS)
        again = ridge_row(
            Crowd(vertices[people], NOBODY_MIRRORED), joints[people], order, 2e-4,
            posed_offsets=None if offsets is None else offsets[people][:, order],
        )  # fmt: skip
        assert_allclose(again, row, rtol=0, atol=1e-8)
