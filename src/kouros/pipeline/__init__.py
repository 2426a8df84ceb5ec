"""From photos to people: load, detect, estimate, refine, collect. May import: everything below."""

from kouros.pipeline.api import fit, reconstruct
from kouros.pipeline.person import Person
from kouros.pipeline.reconstructor import Reconstructor

__all__ = ["Person", "Reconstructor", "fit", "reconstruct"]
