"""``kouros models convert``: published checkpoints as runs of kouros."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class Models:
    """convert: make a published SPIN checkpoint a run, which is used like one that was trained here.

    Reads files with the weights of SPIN's network, also with prefixes and from half precision; nothing in them is
    executed. They belong to whoever published them, and so do the bodies that they estimate.
    """

    action: Annotated[Literal["convert"], tyro.conf.Positional]
    """What to do."""
    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """The checkpoint, such as model_checkpoint.pt."""
    out: Path
    """Folder of the run to make."""
    body: Path | None = None
    """The SMPL file whose bodies the network estimates, for later; without it, the free body is taken, which only
    stands in for SMPL."""
    mean_parameters: Path | None = None
    """smpl_mean_params.npz, for a checkpoint that does not hold them."""

    def run(self) -> int:
        """Do it; returns the exit status."""
        try:
            from kouros.cli.reconstruct import load_body_of
            from kouros.networks.estimates import MeanParameters
            from kouros.systems.checkpoints import read_published
            from kouros.systems.losses import require_regressable
            from kouros.training.runs import RunFolder, system_name, write_config
            from kouros.training.weights import Weights, save_weights

            run = RunFolder(self.out)
            if run.config.exists() or run.newest() is not None:
                raise ValueError(f"{self.out} holds a run already; choose another --out.")
            given = load_body_of(self.body)
            if given is not None:  # better to hear of a wrong one now
                require_regressable(given)
            mean = None if self.mean_parameters is None else MeanParameters.read(self.mean_parameters)
            published = read_published(self.source, mean)
            weights = Weights(system_name(type(published.config)), 0, published.tensors)
            save_weights(run.weights, weights)
            body = None if self.body is None else str(self.body.resolve())
            write_config(run, published.config, {"body": body, "converted_from": self.source.name})
        except (OSError, ValueError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        print(f"wrote {self.out}: SPIN with ResNet-{published.config.backbone}")
        return 0
