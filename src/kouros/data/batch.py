"""A batch of crops and all that is known of the people in them: what systems learn from.

Made by `kouros.data.stream`; read by every system. What a data set does not know has confidence 0 or a false
flag, and then the numbers mean nothing.
"""

from dataclasses import dataclass, field

from jaxtyping import Bool, Float, Int
from torch import Tensor

from kouros.batched import Batched
from kouros.data.dense import DensePoints, Heatmaps
from kouros.fitting.schedules.fits_store import Augmentation
from kouros.render.maps import DenseMaps


@dataclass(frozen=True)
class Batch(Batched):
    """One person in the middle of each crop. Keypoints are those of `kouros.body.keypoints.SPIN49`.

    What is dense is there as far as the system asked for it (`kouros.data.dense.Wants`).
    """

    image: Float[Tensor, "batch 3 size size"]
    """RGB in [0, 1], turned and mirrored as ``augmentation`` says; black where nobody asked for colours."""
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
    dense: DenseMaps | None = None
    """What each pixel of the crop shows, and maps in UV space; in the axes of the crop's camera."""
    dense_known: dict[str, Bool[Tensor, " batch"]] = field(default_factory=dict)
    """For each map and part set in ``dense``, by name, of whom it is known."""
    dense_points: DensePoints | None = None
    heatmaps: Heatmaps | None = None
    """Of 2D points."""

    def __len__(self) -> int:
        return len(self.index)

    @property
    def crop_size(self) -> int:
        """Side of the crops, pixels."""
        return self.image.shape[-1]
