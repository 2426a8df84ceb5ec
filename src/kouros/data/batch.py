"""A batch of crops and all that is known of the people in them: what systems learn from.

Made by `kouros.data.stream`; read by every system. What a data set does not know has confidence 0 or a false
flag, and then the numbers mean nothing.
"""

from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kouros.fitting.schedules.fits_store import Augmentation


@dataclass(frozen=True)
class Batch:
    """One person in the middle of each crop. Keypoints are those of `kouros.body.keypoints.SPIN49`."""

    image: Float[Tensor, "batch 3 size size"]
    """RGB in [0, 1], turned and mirrored as ``augmentation`` says."""
    index: Int[Tensor, " batch"]
    """Number of the sample among all samples of the run: its row in the store of fits."""
    source: Int[Tensor, " batch"]
    """Which of the mixed data sets it is from."""
    keypoints_2d: Float[Tensor, "batch 49 3"]
    """x, y in pixels of the crop, and confidence in [0, 1]."""
    keypoints_3d: Float[Tensor, "batch 49 4"]
    """Metres in the axes of the crop's camera, relative to the pelvis, and confidence."""
    pose: Float[Tensor, "batch 72"]
    """Rotation vectors, in the axes of the crop's camera."""
    has_pose: Bool[Tensor, " batch"]
    betas: Float[Tensor, "batch 10"]
    has_betas: Bool[Tensor, " batch"]
    augmentation: Augmentation
    """From the photo to the crop."""
    crop_center: Float[Tensor, "batch 2"]
    """Pixels of the photo."""
    crop_side: Float[Tensor, " batch"]
    """Of the square that the crop shows, pixels of the photo."""
    features: Float[Tensor, "batch *features"] | None = None
    """What a held backbone has made of the crops before, which are black then."""

    def __len__(self) -> int:
        return len(self.index)

    @property
    def crop_size(self) -> int:
        """Side of the crops, pixels."""
        return self.image.shape[-1]

    def to(self, device: torch.device | str) -> "Batch":
        """The same on another device."""
        return self._map(lambda t: t.to(device))

    def __getitem__(self, rows: Tensor | slice) -> "Batch":
        return self._map(lambda t: t[rows])

    def _map(self, change) -> "Batch":  # type: ignore[no-untyped-def]
        values = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, Augmentation):
                value = Augmentation(change(value.rotation), change(value.flipped))
            elif value is not None:
                value = change(value)
            values[f.name] = value
        return Batch(**values)
