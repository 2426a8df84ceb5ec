"""From photos and films to people: load, detect, follow, estimate, refine, collect. May import: everything below."""

from kouros.pipeline.api import fit, reconstruct
from kouros.pipeline.person import Person
from kouros.pipeline.reconstructor import Reconstructor
from kouros.pipeline.video import Track, Video, VideoReconstructor, reconstruct_video

__all__ = [
    "Person",
    "Reconstructor",
    "Track",
    "Video",
    "VideoReconstructor",
    "fit",
    "reconstruct",
    "reconstruct_video",
]
