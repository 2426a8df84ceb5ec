"""What Thunder's insides are, and the depths that are read off them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import kouros
from kouros.body.keypoints import COCO17
from kouros.detection import find_people
from kouros.detection.model_files import Network, packaged_movenet
from kouros.detection.movenet import Thunder
from kouros.detection.regions import Pyramid, Region
from kouros.networks.movenet import MoveNetTrunk, packed_features
from kouros.networks.tflite_writing import answering_too
from kouros.systems.backbone_weights import begin_backbone


def test_a_network_that_answers_more_answers_the_same_besides():
    model = packaged_movenet().thunder
    heads = tuple(numbers * 64 * 64 for numbers in (1, 17, 34, 34))
    plain = Network(model, (1, 256, 256, 3), heads, threads=1)
    more = Network(answering_too(model, [(1, 16, 16, 168)]), (1, 256, 256, 3), (*heads, 16 * 16 * 168), threads=1)
    picture = np.random.default_rng(0).uniform(-1, 1, (1, 256, 256, 3)).astype(np.float32)
    expected, found = plain(picture), more(picture)
    assert len(found) == 5 and all(np.array_equal(a, b) for a, b in zip(expected, found, strict=False))


def test_a_map_that_is_not_computed_cannot_be_answered_with():
    with pytest.raises(ValueError, match="no map of shape"):
        answering_too(packaged_movenet().thunder, [(1, 3, 3, 3)])


def test_features_are_the_trunks_maps():
    """As torch computes them, apart from half precision."""
    rng = np.random.default_rng(1)
    picture = rng.integers(0, 256, (256, 256, 3), dtype=np.uint8)
    seen = Thunder(threads=1).look(Pyramid(picture), Region(128.0, 128.0, 256.0)).features.astype(np.float32)
    trunk = MoveNetTrunk()
    begin_backbone(trunk, None)
    with torch.no_grad():
        maps = trunk.eval().feature_maps(torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255)
    fine = torch.nn.functional.avg_pool2d(maps[4], 4)[0].permute(1, 2, 0).numpy()
    middle = torch.nn.functional.avg_pool2d(maps[8], 2)[0].permute(1, 2, 0).numpy()
    assert np.abs(seen[..., :40] - fine).max() < 0.01 and np.abs(seen[..., 40:96] - middle).max() < 0.01


def test_a_place_at_stride_32_lies_in_its_four_quarters():
    coarsest = torch.arange(560.0)[None, :, None, None] + 3 * torch.arange(64.0).view(1, 1, 8, 8)
    heat, *maps = (torch.zeros(1, c, side, side) for c, side in ((17, 64), (40, 64), (56, 32), (168, 16)))
    packed = packed_features(heat, [*maps, coarsest])[0, ..., 281:]
    for row, column in ((0, 0), (3, 5)):
        quarters = packed[2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        assert torch.equal(quarters.flatten().sort().values, coarsest[0, :, row, column])


def test_found_people_have_depths_about_their_hips():
    photo = np.array(Image.open(Path(kouros.__file__).parent / "data" / "demo" / "people.jpg").convert("RGB"))
    for person in find_people(photo, crops=1):
        assert person.depths is not None and person.depths.shape == (17, 2)
        depth, expected = person.depths.T
        hips = [COCO17.index(f"{side}_hip") for side in ("left", "right")]
        height = float(person.box[3] - person.box[1])
        # Nobody reaches farther before or behind their hips than they are tall, and hips are at the hips.
        assert np.isfinite(person.depths).all() and (expected > 0).all() and np.abs(depth).max() < height
        assert abs(float(depth[hips].mean())) < 0.1 * height
