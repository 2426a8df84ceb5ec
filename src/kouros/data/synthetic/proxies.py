"""Proxies of a crop: part labels, joint heatmaps, silhouette and edges, without colours.

A network trained on them never sees rendered skin or cloth; at a photo it is given what detectors of parts, keypoints
and edges say, and so transfers (as Neural Body Fitting does with part labels, Omran et al. 2018).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from kouros.data.dense import gaussians
from kouros.render.maps import DenseMaps

_STEP = 0.05
"""Metres between neighbouring pixels' depths that make an edge."""


@dataclass(frozen=True, eq=False)
class Proxies:
    """All of one person, as far as seen."""

    parts: Int[np.ndarray, "h w"]
    """0 where the person is not seen."""
    silhouette: Bool[np.ndarray, "h w"]
    heatmaps: Float[np.ndarray, "points h w"]
    """A Gaussian of height 1 around each keypoint that is annotated and seen; else zeros."""
    edges: Bool[np.ndarray, "h w"]
    """Where the person ends, one part or limb meets another, or depth jumps."""


def proxies_of(
    maps: DenseMaps,
    parts: str,
    keypoints: Float[np.ndarray, "points 3"],
    visible: Bool[np.ndarray, " points"],
    sigma: float,
) -> Proxies:
    """Proxies of a person from what each pixel sees.

    Args:
        maps: mask, depth and labels of one person.
        parts: the part set among the maps' to show.
        keypoints: x, y in the maps' pixels, and confidence.
        sigma: of the heatmaps, pixels.

    Raises:
        KeyError: the maps lack that part set.
    """
    mask, labels = maps.need("mask").numpy(), maps.labels[parts].numpy()
    heatmaps = gaussians(keypoints[:, :2], (keypoints[:, 2] > 0) & visible, sigma, len(mask))
    depth = np.where(mask, maps.need("depth").numpy(), 0.0)
    edges = np.zeros_like(mask)
    for axis in (0, 1):
        here = tuple(slice(None, -1) if a == axis else slice(None) for a in (0, 1))
        there = tuple(slice(1, None) if a == axis else slice(None) for a in (0, 1))
        ends = mask[here] != mask[there]
        meets = (labels[here] != labels[there]) | (np.abs(depth[here] - depth[there]) > _STEP)
        edges[here] |= ends | (meets & mask[here] & mask[there])
    return Proxies(labels, mask, heatmaps, edges)
