"""Draws every keypoint set on the free body, front and side: `docs/images/keypoint_sets.png`.

Run from the repository's root: `python docs/pictures/keypoint_sets.py`. Left points are blue, right ones red,
middle ones black; the numbers are the indices of the set. Needs matplotlib.
"""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection

import kouros.body
from kouros.body.keypoints import KEYPOINT_SETS, KeypointSet

IMAGES = Path(__file__).parents[1] / "images"
COLOURS = {"left": "#1f5fd0", "right": "#d02f1f", "middle": "#101010"}
VIEWS = {"front": ((0, 1), 2, 1.0), "side": ((2, 1), 0, -1.0)}
"""Axes drawn to the right and up, the axis towards the viewer, and the sign of the right axis."""


def draw_body(ax: Axes, vertices: np.ndarray, faces: np.ndarray, view: str) -> None:
    """Shaded triangles, far ones first; the side view is from the body's left."""
    plane, depth, sign = VIEWS[view]
    corners = vertices[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    seen = normals[:, depth] > 0
    order = np.argsort(corners[seen][:, :, depth].mean(axis=1))
    shade = (0.78 + 0.2 * normals[seen][:, depth])[order]
    flat = corners[seen][order][:, :, list(plane)] * [sign, 1.0]
    grey = np.stack([shade] * 3, axis=1) * [1.0, 0.96, 0.92]
    ax.add_collection(PolyCollection(flat, facecolors=grey, edgecolors=grey, linewidths=0.2, alpha=0.75))
    ax.set_aspect("equal")
    ax.axis("off")
    ax.autoscale_view()


def draw_points(ax: Axes, points: np.ndarray, keypoints: KeypointSet, view: str, size: float) -> None:
    """Points with their numbers, and the set's edges; the side view shows the left and the middle only."""
    plane, _, sign = VIEWS[view]
    flat = points[:, list(plane)] * [sign, 1.0]
    for a, b in keypoints.edges:
        pair = [keypoints.index(a), keypoints.index(b)]
        if view == "front" or not any(keypoints.names[k].startswith("right") for k in pair):
            ax.plot(*flat[pair].T, color="#20a040", linewidth=0.8, zorder=3)
    for k, name in enumerate(keypoints.names):
        side = name.split("_")[0]
        if view == "side" and side == "right":
            continue
        colour = COLOURS.get(side, COLOURS["middle"])
        ax.plot(*flat[k], "o", color=colour, markersize=2.6, zorder=4)
        ax.annotate(str(k), flat[k], xytext=(2, 2), textcoords="offset points", fontsize=size, color=colour, zorder=5)


def main() -> None:
    """Draw one panel for each set: front, side, names."""
    with np.load(Path(kouros.body.__file__).with_name("free_body.npz")) as file:
        body = {key: file[key] for key in file.files}
    vertices, faces = body["v_template"].astype(float), body["faces"]
    figure = plt.figure(figsize=(27, 27), dpi=100)
    grid = figure.add_gridspec(3, 3, wspace=0.02, hspace=0.04, left=0.01, right=0.99, top=0.98, bottom=0.01)
    for cell, keypoints in zip(grid, KEYPOINT_SETS.values(), strict=True):
        regressor = np.zeros((len(keypoints), len(vertices)))
        prefix = f"keypoints_{keypoints.name}"
        regressor[body[f"{prefix}_row"], body[f"{prefix}_col"]] = body[f"{prefix}_val"]
        points = regressor @ vertices
        inner = cell.subgridspec(2, 3, width_ratios=[1.9, 0.5, 1.0], height_ratios=[1.0, 0.62], wspace=0, hspace=0)
        front, side = figure.add_subplot(inner[0, 0]), figure.add_subplot(inner[0, 1])
        names, head = figure.add_subplot(inner[0, 2]), figure.add_subplot(inner[1, 0])
        profile = figure.add_subplot(inner[1, 1:])
        front.set_title(keypoints.name, fontsize=18)
        for ax, view in ((front, "front"), (side, "side"), (head, "front"), (profile, "side")):
            draw_body(ax, vertices, faces, view)
            draw_points(ax, points, keypoints, view, 8)
            for text in ax.texts:
                text.set_clip_on(True)
        top = vertices[:, 1].max()
        for ax, width in ((head, 0.62), (profile, 0.55)):
            ax.set_xlim(-width / 2, width / 2)
            ax.set_ylim(top - 0.44, top + 0.02)
        names.axis("off")
        half = 25
        for k, name in enumerate(keypoints.names):
            colour = COLOURS.get(name.split("_")[0], COLOURS["middle"])
            x, y = (k // half) * 0.62, 1.0 - (k % half) / half
            short = name.replace("openpose", "op")
            names.text(x, y, f"{k} {short}", fontsize=8.5, color=colour, transform=names.transAxes, va="top")
    IMAGES.mkdir(exist_ok=True)
    figure.savefig(IMAGES / "keypoint_sets.png")


if __name__ == "__main__":
    main()
