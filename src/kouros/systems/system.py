"""What every system is to the engine that trains it: a network with losses. It knows of no files, devices or loops."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer

from kouros.body.keypoints import KeypointSet
from kouros.body.model import BodyModel
from kouros.body.parameters import Bodies
from kouros.data.batch import Batch
from kouros.fitting.schedules.fits_store import FitsStore
from kouros.systems.estimator import Estimate


@dataclass(frozen=True)
class Step:
    """One batch's losses."""

    losses: tuple[Float[Tensor, ""], ...]
    """What each of the system's optimizers, in their order, lowers. The gradient of one must not need what the
    step of an earlier one changes."""
    terms: Mapping[str, Float[Tensor, ""]]
    """Unweighted terms by name, for the log; detached."""
    predicted: Estimate | None = None
    """For pictures, where there is such a thing; detached."""
    target: Bodies | None = None
    """What the prediction was pulled to (SPIN's best fits), in the nominal crop's space; detached."""


class System(nn.Module, ABC):
    """A network that can be trained; one that looks at crops is a `kouros.systems.estimator.CropNetwork` too."""

    needs: Sequence[str] = ("keypoints_2d",)
    """Fields of `kouros.data.schema.Sample` without which a data set teaches it nothing."""
    best_fits: FitsStore | None = None
    """Kept in checkpoints beside the weights."""
    points_3d: KeypointSet | None = None
    """Set of the 3D points that it answers with."""
    points_2d: KeypointSet | None = None

    @property
    @abstractmethod
    def crop_size(self) -> int:
        """Side of the square crops that it takes, pixels."""

    def begin(self, samples: Iterable[Batch]) -> None:
        """Once, before the first step of a new run: read files, look at all samples as photographed, or neither.

        In a distributed job each process brings its share of the samples, in equally many batches.
        """

    @abstractmethod
    def optimizers(self) -> tuple[Optimizer, ...]:
        """New optimizers of the system's parameters: the paper's."""

    @abstractmethod
    def training_step(self, batch: Batch) -> Step:
        """Losses of a batch. Random numbers come from torch's global generator, which the engine seeds each step."""

    @abstractmethod
    def predict(self, image: Float[Tensor, "batch 3 size size"]) -> Estimate:
        """As in `kouros.systems.estimator.CropNetwork`."""


@runtime_checkable
class SystemConfig(Protocol):
    """The frozen dataclass that configures a system, and builds it."""

    def build(self, body: BodyModel, num_samples: int) -> System:
        """The system with fresh weights; ``num_samples`` of all data sets that it trains on, 0 if it does not."""
        ...
