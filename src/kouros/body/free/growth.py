"""Growing up: the mean bodies of children, as directions beyond the shape space of adults.

A child is no small adult: its head is larger and its legs are shorter, for its height. The mean bodies of the source's
population at some ages lie on a curve through the space of shapes; a few directions hold it to a millimetre.
"""

import numpy as np
from jaxtyping import Float, Int

from kouros.body.free.shape import people_in_t_pose
from kouros.body.free.source import Source
from kouros.body.skeleton import MIRROR

AGES = (0.1, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 12.0, 14.0)
"""Years; each stands for the fifth of a year that begins with it."""
NUM_DIRECTIONS = 4
_PEOPLE = 60
_SEED = 7
_FLIP = np.array([-1.0, 1.0, 1.0])


def growth(
    source: Source,
    kept: Int[np.ndarray, " verts"],
    mirror: Int[np.ndarray, " verts"],
    adult: Float[np.ndarray, "verts 3"],
    adult_joints: Float[np.ndarray, "24 3"],
) -> dict[str, np.ndarray]:
    """Directions of growth, and where on them the ages lie.

    Args:
        kept: the source vertices of the body's.
        mirror: left-right mirror vertex of each.
        adult: the body's template.
        adult_joints: its joints.

    Returns:
        ``growth_dirs`` (verts, 3, directions), metres; ``growth_joints`` (24, 3, directions), the same of the joints,
        which the adults' regressor finds in the skin of the youngest only to centimetres; ``growth_betas`` (ages,
        directions), none beyond 1; ``growth_statures`` (ages,), metres, of those bodies; ``growth_ages`` (ages,).
    """
    means, joints = [], []
    for age in AGES:
        people, bone_heads = people_in_t_pose(source, kept, _PEOPLE, (age, age + 0.2), _SEED)
        mean, places = people.mean(axis=0), bone_heads[:, source.primary_bones].mean(axis=0)
        means.append(0.5 * (mean + mean[mirror] * _FLIP))
        joints.append(0.5 * (places + places[list(MIRROR)] * _FLIP))
    offsets = (np.stack(means) - adult).reshape(len(AGES), -1)
    directions = np.linalg.svd(offsets, full_matrices=False)[2][:NUM_DIRECTIONS]
    betas = offsets @ directions.T
    largest = np.abs(betas).max(axis=0) * np.where(betas[0] < 0, -1.0, 1.0)
    betas, directions = betas / largest, directions * largest[:, None]
    moved = np.linalg.lstsq(betas, (np.stack(joints) - adult_joints).reshape(len(AGES), -1), rcond=None)[0]
    bodies = adult + (betas @ directions).reshape(len(AGES), -1, 3)
    return {
        "growth_dirs": np.moveaxis(directions.reshape(NUM_DIRECTIONS, -1, 3), 0, -1).astype(np.float32),
        "growth_joints": np.moveaxis(moved.reshape(NUM_DIRECTIONS, -1, 3), 0, -1).astype(np.float32),
        "growth_betas": betas.astype(np.float32),
        "growth_statures": np.ptp(bodies[..., 1], axis=1).astype(np.float32),
        "growth_ages": np.array(AGES, dtype=np.float32),
    }
