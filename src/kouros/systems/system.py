"""What every system is to the engine that trains it and to the judges that score it.

An `Estimator` turns crops into bodies. A `System` is an estimator with losses. Neither knows of files, devices
or loops.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer

from kouros.data.batch import Batch
from kouros.fitting.schedules.fits_store import FitsStore
from kouros.geometry.cameras import WeakPerspectiveCamera


@dataclass(frozen=True)
class Bodies:
    """People as the cameras of their crops see them."""

    global_orient: Float[Tensor, "batch 3 3"]
    """From the body's axes to the camera's."""
    body_pose: Float[Tensor, "batch 23 3 3"]
    betas: Float[Tensor, "batch betas"]
    camera: WeakPerspectiveCamera
    """Over the crop."""


@runtime_checkable
class Estimator(Protocol):
    """Crops in, bodies out."""

    @property
    def crop_size(self) -> int:
        """Side of the square crops that it takes, pixels."""
        ...

    def predict(self, image: Float[Tensor, "batch 3 size size"]) -> Bodies:
        """Bodies of the people in the middle of RGB crops in [0, 1], without gradients, in evaluation mode."""
        ...


@dataclass(frozen=True)
class Step:
    """One batch's losses."""

    losses: tuple[Float[Tensor, ""], ...]
    """What each of the system's optimizers, in their order, lowers. The gradient of one must not need what the
    step of an earlier one changes."""
    terms: Mapping[str, Float[Tensor, ""]]
    """Unweighted terms by name, for the log; detached."""
    predicted: Bodies
    """For pictures; detached."""
    target: Bodies | None = None
    """What the prediction was pulled to, where there is such a thing (SPIN's best fits); detached."""


class System(nn.Module, ABC):
    """An `Estimator` that can be trained."""

    needs: Sequence[str] = ("keypoints_2d",)
    """Fields of `kouros.data.schema.Sample` without which a data set teaches it nothing."""
    best_fits: FitsStore | None = None
    """Kept in checkpoints beside the weights."""

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
    def predict(self, image: Float[Tensor, "batch 3 size size"]) -> Bodies:
        """As in `Estimator`."""
