"""The detector's offsets: where they go, how they turn, whom they leave alone."""

import pytest
import torch
from torch.testing import assert_close

from kouros.body import BodyModel
from kouros.body.keypoints import BLAZEPOSE33
from kouros.body.skeleton import JOINT_NAMES
from kouros.body.tables import place_keypoints
from kouros.fitting.terms.calibration import BLAZEPOSE_FRAMES, detector_tables
from kouros.geometry.rotations import random_rotmat


def _placed(tables, rotations, origins):
    """Keypoints of the template under any transforms of its joints."""
    transforms = torch.cat([rotations, origins[..., None]], -1)
    return place_keypoints(tables, torch.zeros(1, tables.shape.shape[-1]), torch.zeros(1, 207), transforms)


@pytest.fixture(scope="module")
def moved(free_body: BodyModel):
    """How far the offsets move each point of the resting body."""
    tables = free_body.keypoint_tables("blazepose33")
    still, here = torch.eye(3).expand(1, 24, 3, 3), torch.zeros(1, 24, 3)
    return _placed(detector_tables(tables, "blazepose33"), still, here)[0] - _placed(tables, still, here)[0]


@pytest.mark.parametrize("set_name", ["coco17", "openpose25", "smpl24"])
def test_sets_without_a_measured_detector_stay_as_they_are(set_name: str, free_body: BodyModel):
    tables = free_body.keypoint_tables(set_name)
    assert detector_tables(tables, set_name) is tables


def test_left_and_right_are_moved_in_mirror_image(moved: torch.Tensor):
    reflected = moved[list(BLAZEPOSE33.mirror)] * torch.tensor([-1.0, 1.0, 1.0])
    assert_close(moved, reflected, atol=1e-6, rtol=0)


def test_points_move_by_centimetres_at_most(moved: torch.Tensor):
    lengths = moved.norm(dim=-1)
    assert float(lengths.min()) > 0.002  # metres: millimetres taken for metres would be far off
    assert float(lengths.max()) < 0.06


def test_the_hip_is_marked_inward_of_and_above_the_joint(moved: torch.Tensor):
    left = moved[BLAZEPOSE33.index("left_hip")]
    assert left[0] < 0 < left[1]


def test_an_offset_turns_with_its_joint_and_with_no_other(free_body: BodyModel, moved: torch.Tensor):
    generator = torch.Generator().manual_seed(0)
    tables = free_body.keypoint_tables("blazepose33")
    rotations = random_rotmat((1, 24), generator)
    origins = torch.randn(1, 24, 3, generator=generator)
    shift = _placed(detector_tables(tables, "blazepose33"), rotations, origins) - _placed(tables, rotations, origins)
    for index, name in enumerate(BLAZEPOSE33.names):
        side, _, part = name.partition("_")
        joint = JOINT_NAMES.index(BLAZEPOSE_FRAMES[part or name].format(side=side))
        assert_close(shift[0, index], rotations[0, joint] @ moved[index], atol=1e-5, rtol=0)
