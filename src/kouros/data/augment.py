"""The changes by which training sees each person anew, and what mirroring does to what is known of a crop.

The paper of SPIN is silent on its ranges; they are those of its code (``train/train_options.py`` and
``datasets/base_dataset.py``): turned by N(0, 30 degrees) up to twice that, but not at all in 3 of 5 cases;
scaled by N(1, 0.25) up to 0.25; each colour channel times 0.6 to 1.4; mirrored half the time. Neural Body Fitting
(Omran et al. 2018, supplement) calls "random jitter and scaling" critical: scales 0.9 to 1.1, turns up to 45
degrees, mirror images; it does not say how far it moves the crop.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Integer, UInt8

from kouros.body.surface.parts import DENSEPOSE24
from kouros.data.crops import CropTransform


@dataclass(frozen=True)
class Spread:
    """A random number around 0."""

    limit: float
    """How far from 0 it may be; what is drawn beyond is moved here."""
    deviation: float | None = None
    """Standard deviation of a normal number; without it all numbers up to the limit are equally likely."""

    def __post_init__(self) -> None:
        numbers = (self.limit, 0.0 if self.deviation is None else self.deviation)
        if not all(0 <= n < math.inf for n in numbers):
            raise ValueError(
                f"A spread has a limit and a deviation of 0 or more, not {self.limit} and {self.deviation}."
            )

    def draw(self, rng: np.random.Generator) -> float:
        """One such number."""
        if self.deviation is None:
            return float(rng.uniform(-self.limit, self.limit))
        return float(np.clip(self.deviation * rng.standard_normal(), -self.limit, self.limit))


@dataclass(frozen=True)
class AugmentConfig:
    """What training changes, how often and how much. The numbers given here are SPIN's."""

    flipped: float = 0.5
    """Share of mirrored crops."""
    turned: float = 0.4
    """Share of turned crops."""
    rotation: Spread = Spread(60.0, 30.0)
    """Degrees."""
    scale: Spread = Spread(0.25, 0.25)
    """What is added to 1, by which the side is multiplied: the person gets smaller where it is above."""
    shift: Spread = Spread(0.0)
    """Of the crop's centre, along each axis, in sides."""
    colour: float = 0.4
    """Each channel is multiplied by a number that differs from 1 by at most this."""
    occluded: float = 0.0
    """Share of crops with a bar, circle or rectangle over one joint (`kouros.data.occlusion`). SPIN has none, and
    HKMR only in tests."""

    def __post_init__(self) -> None:
        for name in ("flipped", "turned", "occluded", "colour"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected a number from 0 to 1.")
        if self.scale.limit >= 1:
            raise ValueError(f"scale may change by {self.scale.limit}; expected less than 1, or crops vanish.")

    @property
    def still(self) -> bool:
        """Whether every crop stays as it was photographed."""
        spreads = (self.rotation if self.turned else Spread(0.0), self.scale, self.shift)
        return not (self.flipped or self.colour or self.occluded or any(spread.limit for spread in spreads))

    def draw(self, rng: np.random.Generator) -> "Change":
        """The changes of one crop."""
        # All numbers are drawn whether they are used or not: an option changes nothing but its own part.
        flipped, turned = rng.random(2)
        rotation, scale = self.rotation.draw(rng), 1 + self.scale.draw(rng)
        shift = (self.shift.draw(rng), self.shift.draw(rng))
        red, green, blue = rng.uniform(1 - self.colour, 1 + self.colour, 3).tolist()
        return Change(
            rotation=math.radians(rotation) if turned < self.turned else 0.0,
            flipped=bool(flipped < self.flipped),
            scale=scale,
            shift=shift,
            colour=(red, green, blue),
        )


SPIN_AUGMENTATION = AugmentConfig()
NBF_AUGMENTATION = AugmentConfig(
    turned=1.0, rotation=Spread(45.0), scale=Spread(0.1), shift=Spread(0.1), colour=0.0
)  # fmt: skip
"""The shift of up to a tenth of the side is ours: the paper gives none."""


@dataclass(frozen=True)
class Change:
    """How one crop differs from the plain one."""

    rotation: float = 0.0
    """Of the content, radians, clockwise as seen (`kouros.fitting.schedules.fits_store.Augmentation`)."""
    flipped: bool = False
    scale: float = 1.0
    """Of the square's side."""
    shift: tuple[float, float] = (0.0, 0.0)
    """Of the square's centre, x and y, in unchanged sides, along the photo's axes."""
    colour: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def crop(self, center: Float[np.ndarray, "2"], side: float, size: int) -> CropTransform:
        """The crop of a person whose plain square is known."""
        moved = center + side * np.array(self.shift)
        return CropTransform(moved, side * self.scale, size, self.rotation, self.flipped)


def mirror_rows(
    values: Float[np.ndarray, "points columns"], mirror: Sequence[int]
) -> Float[np.ndarray, "points columns"]:
    """Keypoints with left and right exchanged by a set's `KeypointSet.mirror`; what they measure stays."""
    return values[list(mirror)]


def mirror_labels(
    labels: Integer[np.ndarray, "height width"], mirror: Sequence[int]
) -> Integer[np.ndarray, "height width"]:
    """Part labels with left and right exchanged by a set's `PartSet.mirror`; pixels stay where they are.

    Raises:
        IndexError: a label that the set has not.
    """
    return np.asarray(mirror, dtype=labels.dtype)[labels]


def mirror_iuv(iuv: Float[np.ndarray, "height width 3"]) -> Float[np.ndarray, "height width 3"]:
    """Part, u and v of the mirror images of the points that a map names; pixels stay where they are.

    For this project's charts (`kouros.body.surface.charts`), where the mirror image of (part, u, v) is (mirror
    part, 1 - u, v). DensePose's own are not symmetric.
    """
    part = np.array(DENSEPOSE24.mirror)[iuv[..., 0].astype(np.int64)]
    u = np.where(part > 0, 1 - iuv[..., 1], iuv[..., 1])
    return np.stack([part, u, iuv[..., 2]], axis=-1).astype(iuv.dtype)


def coloured(
    crop: UInt8[np.ndarray, "size size 3"], factors: tuple[float, float, float]
) -> UInt8[np.ndarray, "size size 3"]:
    """A picture whose channels are multiplied, and cut off at white."""
    if factors == (1.0, 1.0, 1.0):
        return crop
    table = np.rint(np.clip(np.arange(256.0)[:, None] * np.array(factors), 0, 255)).astype(np.uint8)
    return np.asarray(cv2.LUT(crop, table[None]), dtype=np.uint8)
