"""HMR's iterative regressor (Kanazawa et al., CVPR 2018, Sec. 3.2), with SPIN's 6D rotations.

From the features and the current guess to the next: two layers without activation between them, as published, and
one linear answer each for the changes of pose, shape and camera.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kouros.geometry.rotations import rot6d_to_rotmat
from kouros.networks.estimates import NUM_BETAS, MeanParameters, Regressed

_HIDDEN = 1024
_POSE = 24 * 6
_CAMERA = 3


class HmrRegressor(nn.Module):
    """Features in; every iteration's guess out, the last of which is the answer.

    Parameters and buffers have the names of SPIN's checkpoints.

    Args:
        num_features: of the backbone.
        iterations: how often the guess is improved.
        dropout: share of the hidden numbers that training leaves out.
        mean: the first guess; default: `MeanParameters.packaged`.
    """

    init_pose: Tensor
    init_shape: Tensor
    init_cam: Tensor

    def __init__(
        self, num_features: int, iterations: int = 3, dropout: float = 0.5, mean: MeanParameters | None = None
    ) -> None:
        super().__init__()
        if iterations < 1:
            raise ValueError(f"the regressor needs at least one iteration, not {iterations}; SPIN has 3.")
        mean = mean or MeanParameters.packaged()
        self.iterations = iterations
        self.fc1 = nn.Linear(num_features + _POSE + NUM_BETAS + _CAMERA, _HIDDEN)
        self.drop1 = nn.Dropout(dropout)
        self.fc2 = nn.Linear(_HIDDEN, _HIDDEN)
        self.drop2 = nn.Dropout(dropout)
        self.decpose = nn.Linear(_HIDDEN, _POSE)
        self.decshape = nn.Linear(_HIDDEN, NUM_BETAS)
        self.deccam = nn.Linear(_HIDDEN, _CAMERA)
        for answer in (self.decpose, self.decshape, self.deccam):
            nn.init.xavier_uniform_(answer.weight, gain=0.01)
        self.register_buffer("init_pose", mean.pose[None].clone())
        self.register_buffer("init_shape", mean.betas[None].clone())
        self.register_buffer("init_cam", mean.camera[None].clone())

    def begin_from(self, mean: MeanParameters) -> None:
        """Change the first guess."""
        self.init_pose.copy_(mean.pose[None])
        self.init_shape.copy_(mean.betas[None])
        self.init_cam.copy_(mean.camera[None])

    def forward(self, features: Float[Tensor, "batch features"]) -> tuple[Regressed, ...]:
        """Guesses after each iteration."""
        pose, betas, camera = (b.expand(len(features), -1) for b in (self.init_pose, self.init_shape, self.init_cam))
        guesses = []
        for _ in range(self.iterations):
            hidden = self.drop1(self.fc1(torch.cat([features, pose, betas, camera], dim=1)))
            hidden = self.drop2(self.fc2(hidden))
            # Sums keep the guess's precision under autocast.
            pose = pose + self.decpose(hidden)
            betas = betas + self.decshape(hidden)
            camera = camera + self.deccam(hidden)
            guesses.append(Regressed(self.rotations(pose), betas, camera))
        return tuple(guesses)

    def rotations(self, pose: Float[Tensor, "batch numbers"]) -> Float[Tensor, "batch 24 3 3"]:
        """Matrices of the pose's numbers."""
        return rot6d_to_rotmat(pose.unflatten(-1, (24, 6)))
