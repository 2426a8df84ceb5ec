"""Detected people as experiments show them to the learned start, and who of them is clearly seen."""

from pathlib import Path

import torch
from jaxtyping import Bool
from torch import Tensor

from kouros.body.files import shared_body
from kouros.body.keypoints import BLAZEPOSE33
from kouros.data.detections import Detections
from kouros.fitting.terms.evidence import Evidence
from kouros.geometry.cameras import PerspectiveCamera
from kouros.systems.lifter import Lifted, load_weights, predict
from kouros.systems.lifter_samples import LIMB_KEYPOINTS

FOCAL = 1000.0
"""Detections hold rays; any focal length gives pixels."""
_SURE, _MOST = 0.6, 0.8


def started(people: Detections, weights: Path | None = None) -> tuple[Evidence, Lifted]:
    """Their keypoints as evidence, with nothing in space, and what the start makes of all that was seen.

    Args:
        weights: of the start; default: the packaged ones.
    """
    count = len(people.betas)
    camera = PerspectiveCamera(torch.full((count,), FOCAL), torch.zeros(count, 2))
    keypoints = people.keypoints * torch.tensor([FOCAL, FOCAL, 1.0])
    shown = (camera, people.landmarks, people.depths * FOCAL)
    lifted = predict(load_weights(weights), shared_body(), keypoints, BLAZEPOSE33.name, *shown)
    return Evidence(keypoints, BLAZEPOSE33.name, camera), lifted


def clearly_seen(people: Detections) -> Bool[Tensor, " people"]:
    """Who has confident keypoints in most of the limbs."""
    return (people.keypoints[:, LIMB_KEYPOINTS, 2] > _SURE).float().mean(1) > _MOST
