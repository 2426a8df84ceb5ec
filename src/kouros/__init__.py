"""Kouros: photos, or keypoints of photos and videos, in; posed and shaped 3D people out.

The public names live here; each loads what it needs when it is first used, so `import kouros` stays light.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kouros.forks import survive_forks

if TYPE_CHECKING:
    from kouros.body import BodyModel, load_body
    from kouros.pipeline import (
        Person,
        Reconstructor,
        Track,
        Video,
        VideoReconstructor,
        fit,
        reconstruct,
        reconstruct_video,
    )

__version__ = "0.1.0"
__all__ = [
    "BodyModel",
    "Person",
    "Reconstructor",
    "Track",
    "Video",
    "VideoReconstructor",
    "__version__",
    "fit",
    "load_body",
    "reconstruct",
    "reconstruct_video",
]

_HOMES = {
    "BodyModel": "kouros.body",
    "load_body": "kouros.body",
    "Person": "kouros.pipeline",
    "Reconstructor": "kouros.pipeline",
    "Track": "kouros.pipeline",
    "Video": "kouros.pipeline",
    "VideoReconstructor": "kouros.pipeline",
    "fit": "kouros.pipeline",
    "reconstruct": "kouros.pipeline",
    "reconstruct_video": "kouros.pipeline",
}

survive_forks()


def __getattr__(name: str) -> Any:
    """Import a public name from the folder that defines it, on first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'kouros' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
