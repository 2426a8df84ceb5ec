"""What a system saw, drawn where it saw it."""

from dataclasses import dataclass

import numpy as np
import torch

from kouros.body.surface.parts import DENSEPOSE24, PARTS12
from kouros.export.seen import seen_picture, who_was_seen
from kouros.render.maps import DenseMaps
from kouros.systems.estimator import Estimate


@dataclass(frozen=True)
class Person:
    estimate: Estimate


def estimate() -> Estimate:
    """A head in the right half of the square, one joint that is sure and one that is nowhere."""
    iuv = torch.zeros(8, 8, 3)
    iuv[:, 4:] = torch.tensor([23.0, 0.5, 1.0])
    heatmaps = torch.zeros(2, 8, 8)
    heatmaps[0, 1, 1] = 1.0
    return Estimate(
        dense=DenseMaps(iuv=iuv),
        square=torch.tensor([60.0, 50.0, 40.0]),
        points_2d=torch.tensor([[20.0, 80.0], [100.0, 10.0]]),
        heatmaps=heatmaps,
    )


def test_the_skin_is_painted_where_the_square_lies_and_joints_where_they_were_found():
    photo = np.full((100, 120, 3), 128, dtype=np.uint8)
    drawn = seen_picture(photo, [estimate()]).astype(int)
    changed = (drawn != 128).any(-1)
    assert changed[30:70, 60:80].all()  # the right half of a square of 40 pixels around (60, 50)
    changed[30:70, 60:80] = False
    rows, columns = changed.nonzero()
    assert abs(rows.mean() - 80) < 1 and abs(columns.mean() - 20) < 1 and len(rows) < 60
    colour = 0.75 * DENSEPOSE24.colours[23] + 0.25 * 128
    assert np.abs(drawn[50, 70] - colour).max() <= 2
    assert (photo == 128).all()


def test_only_people_whose_skin_was_mapped_are_drawn():
    assert who_was_seen([object(), Person(Estimate())]) == []
    assert len(who_was_seen([Person(estimate()), Person(Estimate())])) == 1


def test_parts_are_painted_in_the_colours_of_their_set():
    labels = torch.zeros(8, 8, dtype=torch.int64)
    labels[4:] = PARTS12.label("left_thigh")
    found = Estimate(dense=DenseMaps(labels={"parts12": labels}), square=torch.tensor([60.0, 50.0, 40.0]))
    assert len(who_was_seen([Person(found)])) == 1
    drawn = seen_picture(np.full((100, 120, 3), 128, dtype=np.uint8), [found]).astype(int)
    changed = (drawn != 128).any(-1)
    assert changed[50:70, 40:80].all()
    assert changed.sum() == 20 * 40
    assert np.abs(drawn[60, 60] - (0.75 * PARTS12.colours[PARTS12.label("left_thigh")] + 0.25 * 128)).max() <= 2
