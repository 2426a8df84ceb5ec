"""Draw docs/images/wardrobe.jpg: dressed people above their twelve parts.

python docs/pictures/wardrobe.py FOLDER docs/images/wardrobe.jpg     # FOLDER: MakeHuman's garments
"""

import sys
from pathlib import Path

import cv2
import numpy as np

from kouros.body.surface.parts import PARTS12
from kouros.data.crops import CropTransform
from kouros.data.dense import Look, Wants
from kouros.data.synthetic.draw import Stage
from kouros.data.synthetic.scenes import SceneConfig, draw_scene

SIDE, SEED, ACROSS, ROWS = 320, 77, 6, 2
CROP = 200


def main(folder: Path, out: Path) -> None:
    """Draw people, alone and whole, of one seed until there are enough."""
    stage, found, index = Stage(wardrobe=folder), [], 0
    while len(found) < ACROSS * ROWS:
        scene = draw_scene(SEED, index, stage.body, None, SceneConfig(size=SIDE, most_people=1, occluded=0.0))
        index += 1
        if not len(scene) or not stage.outfits(scene)[0]:
            continue
        points = stage.staged(scene).bodies.vertices[0].numpy()
        pixels = points[:, :2] / points[:, 2:] * scene.shot.focal + scene.shot.center
        low, high = pixels.min(axis=0), pixels.max(axis=0)
        if low.min() < 0 or high.max() > SIDE or (high - low).max() < SIDE / 3:
            continue
        square = CropTransform((low + high) / 2, 1.15 * float((high - low).max()), CROP)
        seen = stage.maps([(scene, 0)], [Look(square, (SIDE, SIDE))], Wants(parts=(PARTS12.name,)))
        labels = PARTS12.colours[seen.labels[PARTS12.name][0].numpy()]
        found.append(np.concatenate([square.image(stage.picture(scene)), labels]))
    rows = [np.concatenate(found[k : k + ACROSS], axis=1) for k in range(0, len(found), ACROSS)]
    cv2.imwrite(str(out), np.concatenate(rows)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
