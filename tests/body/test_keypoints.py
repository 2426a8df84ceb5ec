"""The keypoint sets against the permutations and orders that the data sets publish."""

import pytest

from kouros.body.keypoints import (
    COCO17,
    H36M17,
    KEYPOINT_SETS,
    LSP14,
    MPI_INF_3DHP17,
    MPII16,
    OPENPOSE25,
    SMPL24,
    SPIN49,
    keypoint_set,
)
from kouros.body.skeleton import PARENTS

FLIP_24 = "5 4 3 2 1 0 11 10 9 8 7 6 12 13 14 15 16 17 18 19 21 20 23 22"
FLIP_25 = "0 1 5 6 7 2 3 4 8 12 13 14 9 10 11 16 15 18 17 22 23 24 19 20 21"


def numbers(text: str, offset: int = 0) -> tuple[int, ...]:
    return tuple(int(n) + offset for n in text.split())


@pytest.mark.parametrize("points", KEYPOINT_SETS.values(), ids=lambda s: s.name)
def test_mirror_undoes_itself_and_names_are_unique(points):
    assert tuple(points.mirror[i] for i in points.mirror) == tuple(range(len(points)))
    assert len(set(points.names)) == len(points) == len(points.mirror)
    assert points.name.endswith(str(len(points)))


@pytest.mark.parametrize("points", KEYPOINT_SETS.values(), ids=lambda s: s.name)
def test_edges_join_known_points_and_are_symmetric(points):
    edges = {frozenset((points.index(a), points.index(b))) for a, b in points.edges}
    assert all(len(edge) == 2 for edge in edges) and len(edges) == len(points.edges)
    assert {frozenset(points.mirror[i] for i in edge) for edge in edges} == edges


def test_mirror_of_spins_joints_is_its_published_flip():
    assert SPIN49.mirror == numbers(FLIP_25) + numbers(FLIP_24, 25)
    assert OPENPOSE25.mirror == numbers(FLIP_25)
    assert LSP14.mirror == numbers(FLIP_24)[:14]


def test_mirror_of_coco_is_its_published_flip():
    assert COCO17.mirror == numbers("0 2 1 4 3 6 5 8 7 10 9 12 11 14 13 16 15")


def test_named_points_of_coco_land_where_spin_puts_them():
    # SPIN's preprocessing: COCO joint i goes to this row of its 24 joints. Its hips are LSP's, by name
    # another point.
    rows = numbers("19 20 21 22 23 9 8 10 7 11 6 3 2 4 1 5 0")
    for name, row in zip(COCO17.names, rows, strict=True):
        spin = SPIN49.names[25 + row]
        assert spin == (f"{name}_lsp" if name.endswith("hip") else name)


def test_named_points_of_mpii_land_where_spin_puts_them():
    rows = numbers("0 1 2 3 4 5 14 15 12 13 6 7 8 9 10 11")
    for name, row in zip(MPII16.names, rows, strict=True):
        assert SPIN49.names[25 + row] == ("neck_lsp" if name == "upper_neck_mpii" else name)


def test_first_and_last_of_spins_halves():
    assert SPIN49.names[:25] == tuple(n for n in SPIN49.names if "openpose_" in n)
    assert SPIN49.names[25:39] == LSP14.names
    assert SPIN49.index("head_h36m") == 43  # the fourteenth joint of 3D metrics


def test_h36m_has_the_right_leg_first_and_3dhp_the_tests_order():
    assert H36M17.names[1:4] == ("right_hip", "right_knee", "right_ankle")
    assert H36M17.mirror == numbers("0 4 5 6 1 2 3 7 8 9 10 14 15 16 11 12 13")
    assert MPI_INF_3DHP17.index("pelvis_3dhp") == 14
    assert MPI_INF_3DHP17.mirror == numbers("0 1 5 6 7 2 3 4 11 12 13 8 9 10 14 15 16")


def test_smpls_edges_are_its_bones():
    bones = {(SMPL24.names[p], SMPL24.names[j]) for j, p in enumerate(PARENTS) if p >= 0}
    assert set(SMPL24.edges) == bones and len(bones) == 23


def test_unknown_names_are_answered_with_the_known():
    with pytest.raises(KeyError, match="lsp14 has no keypoint 'nose'; it has: right_ankle, "):
        LSP14.index("nose")
    with pytest.raises(KeyError, match="no keypoint set 'coco18'; the sets are: smpl24, coco17"):
        keypoint_set("coco18")


def test_sets_are_found_by_their_own_name():
    assert all(keypoint_set(s.name) is s for s in KEYPOINT_SETS.values())
