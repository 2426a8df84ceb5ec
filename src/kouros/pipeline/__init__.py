"""From photos to people: load, detect, estimate, refine, collect. May import: everything below."""

from kouros.pipeline.person import Person
from kouros.pipeline.reconstruct import fit, reconstruct

__all__ = ["Person", "fit", "reconstruct"]
