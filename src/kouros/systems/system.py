"""What every system is to the engine that trains it: a network with losses. It knows of no files, devices or loops."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.optim import Optimizer

from kouros.body.keypoints import KeypointSet
from kouros.body.model import BodyModel
from kouros.body.parameters import Bodies
from kouros.data.augment import AugmentConfig
from kouros.data.batch import Batch
from kouros.data.dense import Wants
from kouros.fitting.schedules.fits_store import FitsStore
from kouros.systems.batches import Batches, CropBatches
from kouros.systems.estimator import CropEstimator, CropNetwork, Estimate, Estimator
from kouros.systems.measures import Best, Sum, body_measures
from kouros.systems.pictures import people_sheet
from kouros.systems.recipe import Recipe


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


@dataclass(frozen=True)
class Start:
    """Weights of another run that training begins with: those of a stage before this one."""

    weights: Path
    """Folder of the run, or its weights.pt."""
    take: Mapping[str, str]
    """What is taken: a name of the system's weights, or the beginning of several, with its dot (``"backbone."``), and
    what that is called in the run. "" is all of them: ``{"stem.": ""}`` takes all that the run has into ``stem``."""


class System(nn.Module, ABC):
    """What can be trained. One that looks at crops is a `CropSystem`."""

    needs: Sequence[str] = ()
    """Fields of `kouros.data.schema.Sample` without which a data set teaches it nothing."""
    judged_by: Sequence[str] = ()
    """Fields of which a validation set must know one."""
    best_by: Sequence[Best] = ()
    """What the best weights are chosen by: the first of these that the validation set has an answer to."""
    best_fits: FitsStore | None = None
    """Kept in checkpoints beside the weights."""

    @property
    @abstractmethod
    def batches(self) -> Batches:
        """How its batches are made."""

    def begin(self, samples: Iterable[Any]) -> None:
        """Once, before the first step of a new run: read files, look at all samples as they are, or neither.

        In a distributed job each process brings its share of the samples, in equally many batches. Batches that a run
        broken off here has had already are left out when it goes on; the best fits are as it left them.
        """

    def starts(self) -> Sequence[Start]:
        """Weights of other runs to begin with, one after the other, once `begin` is through."""
        return ()

    @abstractmethod
    def optimizers(self) -> tuple[Optimizer, ...]:
        """New optimizers of the system's parameters: the paper's."""

    @abstractmethod
    def training_step(self, batch: Any) -> Step:
        """Losses of a batch. Random numbers come from torch's global generator, which the engine seeds each step."""

    def measures(self, batch: Any) -> Mapping[str, Sum]:
        """Scores of validation, by name, of one batch of samples as they are: without gradients, in evaluation mode.

        Each process asks for the batches of its share, of which it may have none: no talk among processes in here.
        """
        return {}

    def pictures(self, batch: Any, step: Step) -> Mapping[str, UInt8[np.ndarray, "height width 3"]]:
        """Pictures for the log, by name, of a batch that was just learned from."""
        return {}

    @abstractmethod
    def estimator(self, body: BodyModel, name: str) -> Estimator:
        """Itself, trained, as what answers for people in photos.

        Args:
            body: the model that its answers are of.
            name: as tables print it.
        """


@runtime_checkable
class Packable(Protocol):
    """A system whose weights come with kouros as one small file."""

    def pack(self, path: Path) -> None:
        """Write that file, whole or not at all.

        Raises:
            OSError: it cannot be written.
        """


class CropSystem(System):
    """A network that looks at square crops: a `kouros.systems.estimator.CropNetwork` that can be trained.

    One that regresses bodies has them as ``body``; it is watched by their errors, and by pictures of them.
    """

    body: BodyModel
    backbone: Any
    """Of those that have one which can be held."""
    held = False
    """Whether the backbone stays as it is; see `hold_backbone`."""
    needs: Sequence[str] = ("keypoints_2d",)
    judged_by: Sequence[str] = ("keypoints_3d", "keypoints_2d")
    best_by: Sequence[Best] = (Best("pa_mpjpe"), Best("mpjpe"), Best("keypoints_2d"))
    augment: AugmentConfig = AugmentConfig()
    """How training changes crops."""
    wants: Wants = Wants()
    """What its batches carry beside what they always do."""
    points_3d: KeypointSet | None = None
    """Set of the 3D points that it answers with."""
    points_2d: KeypointSet | None = None

    @property
    @abstractmethod
    def crop_size(self) -> int:
        """Side of the square crops that it takes, pixels."""

    @property
    def batches(self) -> Batches:
        """Crops by `augment`, with what it wants."""
        return CropBatches(self.crop_size, self.augment, self.wants)

    @abstractmethod
    def predict(self, image: Float[Tensor, "batch 3 size size"]) -> Estimate:
        """As in `kouros.systems.estimator.CropNetwork`."""

    def features(self, image: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch *features"]:
        """All that the rest of the network sees of crops: what the backbone makes of them."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.held):
            return self.backbone(image)

    def seen(self, batch: Batch) -> Float[Tensor, "batch *features"]:
        """`features` of a batch, to learn from: those that it brings, else of its crops."""
        return self.features(batch.image) if batch.features is None else batch.features

    def hold_backbone(self) -> None:
        """Leave the backbone as it is from now on: not trained, and in evaluation mode whatever the rest is in.

        Raises:
            ValueError: there is none.
        """
        if not hasattr(self, "backbone"):
            raise ValueError(f"{type(self).__name__} has no backbone that can be held; leave --hold-backbone out.")
        self.held = True
        self.backbone.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "CropSystem":
        """As every module's, but for a backbone that is held."""
        super().train(mode)
        if self.held:
            self.backbone.eval()
        return self

    def measures(self, batch: Batch) -> Mapping[str, Sum]:
        """Of the bodies that it predicts; none where it predicts others things."""
        bodies = self.predict(batch.image).bodies
        return {} if bodies is None else body_measures(bodies, batch, self.body)

    def pictures(self, batch: Batch, step: Step) -> Mapping[str, UInt8[np.ndarray, "height width 3"]]:
        """The first people, with the bodies that were predicted, and those they were pulled to."""
        if step.predicted is None or step.predicted.bodies is None:
            return {}
        return {"people": people_sheet(batch.image, step.predicted.bodies, step.target, self.body)}

    def estimator(self, body: BodyModel, name: str) -> Estimator:
        """Behind its adapter."""
        return self.adapter(self, body, name)

    def adapter(self, network: CropNetwork, body: BodyModel, name: str) -> Estimator:
        """How people in photos are shown to it, or to a chain (``network``) of which it is the last."""
        return CropEstimator(network, body, name)


@runtime_checkable
class SystemConfig(Protocol):
    """The frozen dataclass that configures a system, and builds it."""

    def build(self, body: BodyModel, num_samples: int) -> System:
        """The system with fresh weights; ``num_samples`` of all data sets that it trains on, 0 if it does not."""
        ...


class PublishedConfig(SystemConfig, Protocol):
    """The configuration of a system that commands know (`kouros.systems.table.SYSTEMS`)."""

    recipe: ClassVar[Recipe]
    """How it is trained where nobody says otherwise."""
