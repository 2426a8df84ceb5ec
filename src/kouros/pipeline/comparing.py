"""Several systems on the same people of a photo: who says what, and how far they are apart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from kouros.pipeline.person import Person
from kouros.pipeline.reconstructor import Reconstructor
from kouros.systems.estimator import PersonInPhoto


@dataclass(frozen=True, eq=False)
class Comparison:
    """What systems answered of the same people."""

    people: Mapping[str, list[Person | None]]
    """By the system's name, in one order; None of whom it says nothing."""

    def distances(self) -> Float[np.ndarray, "systems systems"]:
        """Mean distance of the 24 joints, pelvis to pelvis, over the people of whom both systems say something.

        Metres; NaN where there is nobody. Bodies of other models have their joints elsewhere: part of the distance is
        theirs.
        """
        names = list(self.people)
        apart = np.full((len(names), len(names)), np.nan)
        for i, one in enumerate(names):
            for j, other in enumerate(names):
                pairs = [(a, b) for a, b in zip(self.people[one], self.people[other], strict=True) if a and b]
                if pairs:
                    apart[i, j] = np.mean([float((_rooted(a) - _rooted(b)).norm(dim=-1).mean()) for a, b in pairs])
        return apart


def compare(systems: Mapping[str, Reconstructor], seen: Sequence[PersonInPhoto]) -> Comparison:
    """Let each system say what it makes of the same detected people.

    Raises:
        ValueError: as `Reconstructor.people`.
    """
    return Comparison({name: reconstructor.people(seen) for name, reconstructor in systems.items()})


def _rooted(person: Person) -> torch.Tensor:
    return person.joints - person.joints[:1]
