"""Sheets of drawn people: those on whom kouros fails, and twenty from the side, before and after the upright world.

kouros synthesize --out PEOPLE --mocap MOCAP --split val --people 1000 --size 288 --seed 1 --detections
python docs/pictures/people.py PEOPLE

Failures are the nine people with the largest PA-MPJPE; the twenty are the first detected people of the first pictures.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image

from kouros.data.synthetic.draw import Stage
from kouros.geometry.alignment import align
from kouros.pipeline.person import Person
from kouros.pipeline.reconstructor import default_reconstructor
from kouros.pipeline.upright import World, world_of
from kouros.pipeline.upright_training import DrawnPerson, drawn_joints, drawn_people, estimated
from kouros.render.shading import PERSON_COLOURS, overlay, side_view
from kouros.systems.estimator import in_photo_camera

IMAGES = Path(__file__).parents[1] / "images"
SIDE = 150
"""Of a panel, pixels."""


def main(folder: Path) -> None:
    """Both sheets."""
    reconstructor, stage = default_reconstructor(), Stage()
    found = list(estimated(drawn_people(folder, reconstructor), reconstructor))
    errors = []
    for drawn, person in found:
        true = drawn_joints(drawn.scene, reconstructor.body)[drawn.number][None]
        aligned = align(person.joints[None], true).apply(person.joints[None])
        errors.append(float((aligned - true).norm(dim=-1).mean()))
    worst = np.argsort(errors)[::-1][:9]
    print("PA-MPJPE, mm:", [round(1000 * errors[k]) for k in worst], "median", round(1000 * float(np.median(errors))))
    failures = []
    for drawn, person in (found[k] for k in worst):
        picture = _picture(stage, drawn)
        failures.append([picture, _over(picture, person), _side(person, world_of([person]))])
    _save("failures.jpg", failures, 3)

    firsts: dict[int, tuple[DrawnPerson, Person]] = {}
    for drawn, person in found:
        firsts.setdefault(drawn.scene.index, (drawn, person))
    rows = []
    for drawn, person in list(firsts.values())[:20]:
        (answer,) = reconstructor.estimator.estimate([drawn.seen])
        assert answer is not None
        was = Person.of(in_photo_camera(answer, drawn.seen), drawn.seen, reconstructor.body)
        picture = _picture(stage, drawn)
        rows.append([_over(picture, person), _side(was, World.of_camera(1)), _side(person, world_of([person]))])
    _save("side_views.jpg", rows, 4)


def _picture(stage: Stage, drawn: DrawnPerson) -> UInt8[np.ndarray, "size size 3"]:
    return stage.picture(drawn.scene, stage.staged(drawn.scene))


def _over(picture: UInt8[np.ndarray, "size size 3"], person: Person) -> UInt8[np.ndarray, "size size 3"]:
    return overlay(picture, [(person.vertices, person.body.faces)], person.camera, [PERSON_COLOURS[0]])


def _side(person: Person, world: World) -> UInt8[np.ndarray, "size size 3"]:
    mesh = (world.level(person.vertices, 0), person.body.faces)
    return side_view([mesh], person.camera, (288, 288), [PERSON_COLOURS[0]])


def _save(name: str, rows: Sequence[Sequence[np.ndarray]], columns: int) -> None:
    small = [[cv2.resize(panel, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for panel in row] for row in rows]
    cells = [np.pad(np.concatenate(row, axis=1), ((2, 2), (4, 4), (0, 0)), constant_values=255) for row in small]
    lines = [np.concatenate(cells[k : k + columns], axis=1) for k in range(0, len(cells), columns)]
    Image.fromarray(np.concatenate(lines)).save(IMAGES / name, quality=82)


if __name__ == "__main__":
    with torch.no_grad():
        main(Path(sys.argv[1]))
