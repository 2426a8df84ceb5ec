"""Which side is left: what a frame alone cannot tell, the film does.

Seen from far, in the dark or from behind, networks exchange left and right for some frames, and with the sides the body
turns about. Two bodies are estimated of every frame, one of the keypoints as they were read and one of them exchanged;
the way through the film is chosen that jumps least, is read as seen where nothing speaks against it, and along which
people go forwards rather than backwards (dynamic programming, Viterbi's).
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kouros.body import BodyModel
from kouros.body.keypoints import keypoint_set
from kouros.body.parameters import BodyParameters
from kouros.detection import DetectedPerson
from kouros.geometry.rotations import rotvec_to_rotmat


@dataclass(frozen=True)
class SideCosts:
    """What speaks against a way through the film, in metres of jumping joints."""

    exchanged: float = 0.03
    """Of each frame read otherwise than seen."""
    misfit: float = 1.0
    """Of a frame's reprojection error, as a share of the person's size."""
    backwards: float = 0.08
    """Of each frame, for every metre a second backwards."""
    swaying: float = 0.4
    """Metres a second backwards that are nothing yet: who bends over moves the hips back."""
    fastest: float = 2.0
    """Metres a second from which on going backwards is no worse."""
    around: float = 0.5
    """Seconds before and after a frame over which the direction of going is measured."""
    forgotten: float = 0.5
    """Seconds after which a body may have turned anyhow."""


def exchanged(person: DetectedPerson) -> DetectedPerson:
    """The same keypoints, with left and right exchanged; what was read of depth does not hold for that body."""
    order = list(keypoint_set(person.keypoint_set).mirror)
    return replace(person, keypoints_2d=person.keypoints_2d[order], landmarks_3d=None, depths=None)


@torch.no_grad()
def chosen_sides(
    body: BodyModel,
    both: BodyParameters,
    missed: Float[Tensor, "frames 2"],
    times: Float[Tensor, " frames"],
    before: bool | None = None,
    costs: SideCosts | None = None,
) -> Bool[np.ndarray, " frames"]:
    """Of each frame, whether its sides are to be exchanged.

    Args:
        both: (frames, 2) bodies: of the keypoints as they were read, and exchanged.
        missed: how far each misses its keypoints, as a share of the person's size.
        times: seconds, increasing.
        before: how the first frame's sides were taken, where that is decided.
    """
    costs = costs or SideCosts()
    flat = BodyParameters.from_vector(both.vector.flatten(0, 1))
    joints = body.joint_positions(flat.betas, flat.body_pose, flat.global_orient, flat.transl).unflatten(0, (-1, 2))
    ways = (joints - joints[:, :, :1]).double()
    steps = (ways[1:, None] - ways[:-1, :, None]).norm(dim=-1).mean(-1)  # (frames - 1, before, after)
    steps = steps * (times.diff() < costs.forgotten)[:, None, None]
    alone = costs.misfit * missed
    alone[:, 1] += costs.exchanged
    alone = alone + costs.backwards * _backwards(both, joints[:, :, 0].double().mean(1), times, costs)
    if before is not None:
        alone[0, int(not before)] = torch.inf
    return _cheapest(alone.numpy(), steps.numpy()) == 1


_SLACK = 1e-6
"""Seconds: frames that are as far away as counts do count, however their times were rounded."""


def _backwards(
    both: BodyParameters, place: Float[Tensor, "frames 3"], times: Float[Tensor, " frames"], costs: SideCosts
) -> Float[Tensor, "frames 2"]:
    """How much faster than swaying each way goes backwards, metres a second."""
    ahead = rotvec_to_rotmat(both.global_orient)[..., 2].double()
    # Lines through the places around take the noise off: from running sums, for a film may be long.
    first = torch.searchsorted(times, times - costs.around - _SLACK)
    last = torch.searchsorted(times, times + costs.around + _SLACK, right=True)

    def mean_around(values: Tensor) -> Tensor:
        total = torch.cat([values.new_zeros(1, *values.shape[1:]), values.cumsum(0)])
        return (total[last] - total[first]) / (last - first).view(-1, *[1] * (values.ndim - 1))

    since = times - times[0]
    middle, mean = mean_around(since), mean_around(place)
    spread = mean_around(since.square()) - middle.square()
    slope = (mean_around(since[:, None] * place) - middle[:, None] * mean) / spread.clamp(min=1e-6)[:, None]
    slope = torch.where(spread[:, None] > 1e-4, slope, 0.0)
    against = -(ahead * slope[:, None]).sum(-1)
    return (against.clamp(max=costs.fastest) - costs.swaying).clamp(min=0)


def _cheapest(alone: Float[np.ndarray, "frames ways"], steps: Float[np.ndarray, "gaps ways ways"]) -> np.ndarray:
    """Viterbi: of each frame, the way that the cheapest path takes."""
    total, came = alone[0], []
    for here, step in zip(alone[1:], steps, strict=True):
        by = total[:, None] + step
        came.append(by.argmin(axis=0))
        total = by.min(axis=0) + here
    path = [int(total.argmin())]
    for before in reversed(came):
        path.append(int(before[path[-1]]))
    return np.array(path[::-1])
