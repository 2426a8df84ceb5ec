"""Draws the README's moving picture: somebody who swings a sword as recorded, and what kouros makes of the film.

``python docs/pictures/film.py --mocap ../shared/data/mocap``; the motion is of the CMU Graphics Lab Motion Capture
Database (mocap.cs.cmu.edu), which may be used freely; the picture is drawn, nobody was filmed.
"""

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from kouros import VideoReconstructor
from kouros.data.mocap.motion import read_motion
from kouros.data.synthetic.draw import Stage
from kouros.data.synthetic.films import Played, synthetic_film
from kouros.export.people import colour_of
from kouros.geometry.cameras import PerspectiveCamera
from kouros.geometry.rotations import rotvec_to_rotmat
from kouros.render.shading import overlay, side_view

OUT = Path(__file__).parents[1] / "images" / "film.gif"
SIZE, CLIP, FRAMES, SEED, EVERY = 280, "cmu_02_08", (90, 180), 3, 2
TURNED = 0.6
"""Radians from straight ahead of the person to the camera."""


def main() -> None:
    """Render, reconstruct, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mocap", type=Path, required=True)
    options = parser.parse_args()
    stage = Stage()
    motion = read_motion(options.mocap / "sequences" / f"{CLIP}.npz").between(*FRAMES)
    ahead = rotvec_to_rotmat(torch.from_numpy(motion.poses[:, :3])).mean(0)[:, 2]
    around = math.atan2(float(ahead[0]), float(ahead[2])) + TURNED
    film = synthetic_film([Played(motion)], stage.body, seed=SEED, size=2 * SIZE, around=around, share=0.85)
    shot = film.scenes[0].shot
    camera = PerspectiveCamera(torch.tensor(shot.focal), torch.from_numpy(shot.center).float())
    made = VideoReconstructor(camera=camera, tiles=False)
    pictures = [film.picture(stage, t) for t in range(len(film))]
    for picture in pictures:
        made.push(picture)
    made.finish()
    video, small = made.video(), camera.scaled(0.5)
    panels = []
    for t in range(0, len(film), EVERY):
        photo = np.asarray(Image.fromarray(pictures[t]).resize((SIZE, SIZE), Image.Resampling.LANCZOS))
        people = video.frame(t).people
        meshes = [(person.vertices, person.body.faces) for _, person in people]
        colours = [colour_of(number) for number, _ in people]
        over = overlay(photo, meshes, small, colours) if meshes else photo
        level = [(video.world.level(person.vertices, k), person.body.faces) for k, person in people]
        beside = side_view(level, small, (SIZE, SIZE), colours) if meshes else np.full_like(photo, 255)
        panels.append(Image.fromarray(np.concatenate([photo, over, beside], axis=1)))
    first = panels[0].quantize(96)
    rest = [panel.quantize(palette=first, dither=Image.Dither.NONE) for panel in panels[1:]]
    first.save(OUT, save_all=True, append_images=rest, duration=1000 * EVERY // 30, loop=0, optimize=True)


if __name__ == "__main__":
    main()
