"""Systems one after the other: each looks at the crop, and at what those before it have made of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from kouros.body.keypoints import KeypointSet
from kouros.body.model import BodyModel
from kouros.systems.estimator import CropEstimator, CropNetwork, Estimate, Estimator
from kouros.systems.system import CropSystem


@dataclass(frozen=True)
class ChainConfig:
    """A chain is a run without weights of its own: `kouros models chain` writes its folder."""

    stages: tuple[Path, ...]
    """Folders of the stages' runs, in order; absolute, or seen from the chain's folder."""


@runtime_checkable
class LaterStage(Protocol):
    """What can stand behind another network."""

    @property
    def crop_size(self) -> int:
        """Side of the crops that it takes, pixels."""
        ...

    @property
    def points_3d(self) -> KeypointSet | None:
        """As in `kouros.systems.estimator.Estimator`."""
        ...

    @property
    def points_2d(self) -> KeypointSet | None:
        """As in `kouros.systems.estimator.Estimator`."""
        ...

    def go_on(self, image: Float[Tensor, "batch 3 size size"], estimate: Estimate) -> Estimate:
        """What the stages before it have estimated, changed or with more of it; as `CropNetwork.predict` otherwise."""
        ...


class Chain(nn.Module):
    """A `CropNetwork` of several.

    Args:
        stages: trained; all but the first are a `LaterStage`. Crops are those of the first, others get them resized.

    Raises:
        ValueError: there is no stage, or one that cannot stand where it does.
    """

    def __init__(self, stages: Sequence[nn.Module]) -> None:
        super().__init__()
        if not stages or not isinstance(stages[0], CropNetwork):
            raise ValueError("a chain begins with a network that looks at crops; name its run first.")
        later = [s for s in stages[1:] if isinstance(s, LaterStage)]
        if len(later) < len(stages) - 1:
            wrong = next(s for s in stages[1:] if not isinstance(s, LaterStage))
            raise ValueError(f"{type(wrong).__name__} takes nothing from a stage before it; it can only come first.")
        self.stages = nn.ModuleList(stages)
        self._first, self._later = (stages[0],), tuple(later)  # in tuples: they are registered once
        both: list[CropNetwork | LaterStage] = [*self._first, *self._later]
        self.points_3d: KeypointSet | None = next((s.points_3d for s in reversed(both) if s.points_3d), None)
        self.points_2d: KeypointSet | None = next((s.points_2d for s in reversed(both) if s.points_2d), None)

    @property
    def crop_size(self) -> int:
        """The first stage's."""
        return self._first[0].crop_size

    def predict(self, image: Float[Tensor, "batch 3 size size"]) -> Estimate:
        """As in `kouros.systems.estimator.CropNetwork`."""
        estimate = self._first[0].predict(image)
        for stage in self._later:
            estimate = stage.go_on(_resized(image, stage.crop_size), estimate)
        return estimate

    def estimator(self, body: BodyModel, name: str) -> Estimator:
        """As in `kouros.systems.system.System`: by the last stage's adapter."""
        last = self.stages[-1]
        return last.adapter(self, body, name) if isinstance(last, CropSystem) else CropEstimator(self, body, name)


def _resized(image: Float[Tensor, "batch 3 size size"], size: int) -> Float[Tensor, "batch 3 {size} {size}"]:
    if image.shape[-1] == size:
        return image
    return interpolate(image, size=(size, size), mode="bilinear", antialias=True)
