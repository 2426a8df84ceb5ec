"""An own network in SPIN's loop: it regresses, fits begin from its answers, and the better fits teach it.

A regressor is a module from the backbone's features to answers; all else of SPIN stays.
"""

import torch
from torch import Tensor, nn

import kouros
from kouros.data.augment import AugmentConfig
from kouros.data.sources import Source
from kouros.data.stream import StreamConfig, TrainingStream
from kouros.data.synthetic import synthetic_val
from kouros.geometry.rotations import rot6d_to_rotmat
from kouros.networks.estimates import MeanParameters, Regressed
from kouros.systems.spin import SpinConfig


class OneLinearLayer(nn.Module):
    """The mean body and one linear layer's corrections."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.cat([t.flatten() for t in vars(MeanParameters.packaged()).values()]), False)
        self.layer = nn.Linear(num_features, 144 + 10 + 3)
        nn.init.normal_(self.layer.weight, std=1e-3)

    def forward(self, features: Tensor) -> tuple[Regressed, ...]:
        """One answer; iterative regressors give one for each iteration."""
        pose, betas, camera = (self.mean + self.layer(features)).split((144, 10, 3), dim=-1)
        return (Regressed(rot6d_to_rotmat(pose.unflatten(-1, (24, 6))), betas, camera),)


def main(folder: str, steps: int = 2) -> None:
    """Train for some steps on synthetic people."""
    torch.manual_seed(0)
    source: Source = synthetic_val(folder)
    config = SpinConfig(backbone=18, crop_size=64)
    system = config.build(kouros.load_body(), len(source), regressor=OneLinearLayer)
    stream = TrainingStream([source], None, 8, StreamConfig(config.crop_size, AugmentConfig()))
    (optimizer,) = system.optimizers()
    for step in range(steps):
        result = system.training_step(stream[step])
        optimizer.zero_grad()
        result.losses[0].backward()
        optimizer.step()
        print({name: round(float(term), 4) for name, term in result.terms.items()})


if __name__ == "__main__":
    import sys
    import tempfile

    main(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
