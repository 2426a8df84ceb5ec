"""One person's motion in an upright world, in the terms of animators: a skeleton at rest, and how its joints turn."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial.transform import Rotation, Slerp

from kouros.pipeline.upright import World
from kouros.pipeline.video import Track


@dataclass(frozen=True, eq=False)
class Motion:
    """T frames; metres, seconds; y up."""

    times: Float[np.ndarray, " frames"]
    rest: Float[np.ndarray, "24 3"]
    """The joints of the T-pose, body space, as large as the person is in the world."""
    turns: Float[np.ndarray, "frames 24 3 3"]
    """Of each joint relative to its parent; the first in the world."""
    pelvis: Float[np.ndarray, "frames 3"]
    """In the world."""
    size: float
    """By how much the person is larger here than the body model is."""

    @staticmethod
    def of(track: Track, world: World) -> "Motion":
        """A track's motion in a world that has a size for each track."""
        size = float(world.sizes[track.number])
        betas = torch.from_numpy(track.betas)
        body = track.body
        rest = (body.joint_template + body.joint_shapedirs @ betas).double().numpy()
        turns = Rotation.from_rotvec(track.pose.astype(np.float64).reshape(-1, 3)).as_matrix().reshape(-1, 24, 3, 3)
        turns[:, 0] = world.rotation.double().numpy() @ turns[:, 0]
        return Motion(track.times, size * rest, turns, track.in_world(world)[:, 0].astype(np.float64), size)

    def even(self, frame_rate: float) -> "Motion":
        """The same at a constant rate: frames that are missing, or come at other times, are put in between."""
        count = max(1, round((self.times[-1] - self.times[0]) * frame_rate) + 1)
        times = self.times[0] + np.arange(count) / frame_rate
        if len(self.times) == 1:
            return replace(self, times=times[:1])
        within = times.clip(self.times[0], self.times[-1])
        turns = np.stack(
            [Slerp(self.times, Rotation.from_matrix(self.turns[:, j]))(within).as_matrix() for j in range(24)], axis=1
        )
        pelvis = np.stack([np.interp(within, self.times, self.pelvis[:, k]) for k in range(3)], axis=1)
        return replace(self, times=times, turns=turns, pelvis=pelvis)
