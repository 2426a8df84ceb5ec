import copy

import numpy as np
import pytest
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from kouros.body.skeleton import JOINT_NAMES
from kouros.body.surface.parts import (
    DENSEPOSE24,
    LSP6,
    PART_SETS,
    PARTS6,
    PARTS12,
    PARTS24,
    face_labels,
    face_neighbours,
    part_set,
    vertex_labels,
)
from kouros.body.surface.symmetry import mesh_mirror


@pytest.fixture(scope="module")
def labels(surface):
    return {name: label.numpy() for name, label in surface.face_labels.items()}


@pytest.mark.parametrize("name", PART_SETS)
def test_mirror_faces_have_mirror_labels(name, labels, mirror):
    swap = np.array(PART_SETS[name].mirror)
    assert (swap[swap] == np.arange(len(swap))).all()
    np.testing.assert_array_equal(labels[name][mirror.face], swap[labels[name]])


@pytest.mark.parametrize("name", PART_SETS)
def test_every_part_exists_and_has_its_own_colour(name, labels):
    parts = PART_SETS[name]
    assert set(labels[name].tolist()) == set(range(1, len(parts) + 1))
    assert len({tuple(c) for c in parts.colours.tolist()}) == len(parts) + 1
    assert parts.colours[0].tolist() == [0, 0, 0]


def test_vertices_mirror_too_except_in_the_middle(free_body, mirror):
    label = vertex_labels(free_body, DENSEPOSE24, mirror)
    swap = np.array(DENSEPOSE24.mirror)
    off_middle = mirror.vertex != np.arange(len(label))
    np.testing.assert_array_equal(label[mirror.vertex][off_middle], swap[label][off_middle])


def test_coarser_sets_are_unions_of_finer_ones(labels):
    for fine, coarse in (
        ("parts24", "parts12"),
        ("parts12", "parts6"),
        ("parts6", "parts3"),
        ("parts24", "lsp6"),
    ):
        pairs = {(int(f), int(c)) for f, c in zip(labels[fine], labels[coarse], strict=True)}
        assert len(pairs) == len(PART_SETS[fine]), f"a part of {fine} is split by {coarse}"


def test_sets_have_the_orders_of_their_datasets():
    assert LSP6.names == ("left_arm", "right_arm", "head", "left_leg", "right_leg", "torso")
    assert PARTS6.names == ("head", "torso", "right_arm", "left_arm", "right_leg", "left_leg")
    assert PARTS24.names == JOINT_NAMES
    assert PARTS12.label("left_lower_leg") == 11
    # The published mirror of DensePose's patches.
    assert DENSEPOSE24.mirror[1:] == (
        1, 2, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15, 18, 17, 20, 19, 22, 21, 24, 23,
    )  # fmt: skip


def test_densepose_patches_face_where_their_names_say(free_body, labels):
    a, b, c = free_body.v_template[free_body.faces].double().unbind(1)
    normal = torch.linalg.cross(b - a, c - a).numpy()
    center = ((a + b + c) / 3).numpy()

    def total(name):
        return normal[labels["densepose24"] == DENSEPOSE24.label(name)].sum(axis=0)

    def place(name):
        return center[labels["densepose24"] == DENSEPOSE24.label(name)].mean(axis=0)

    for part in ("torso", "left_thigh", "right_thigh", "left_lower_leg", "right_lower_leg"):
        assert total(f"{part}_front")[2] > 0 > total(f"{part}_back")[2], part
    for part in ("left_forearm", "right_forearm"):
        assert total(f"{part}_outer")[1] > 0 > total(f"{part}_inner")[1], part
    assert place("left_head")[0] > 0 > place("right_head")[0]
    assert place("left_hand")[0] > place("left_forearm_inner")[0] > place("left_upper_arm_inner")[0] > 0
    assert place("left_foot")[1] < place("left_lower_leg_back")[1] < place("left_thigh_back")[1]


def test_people_would_agree_on_head_hands_and_feet(free_body, labels):
    vertices, faces = free_body.v_template.numpy(), free_body.faces.numpy()
    height = np.ptp(vertices[:, 1])
    place = {
        part: vertices[faces[labels["parts24"] == PARTS24.label(part)]].reshape(-1, 3)
        for part in ("head", "left_hand", "left_wrist", "left_foot", "left_ankle")
    }
    # The classical canon: a head is between a sixth and a ninth of the height, and has the top of it.
    assert place["head"][:, 1].max() == vertices[:, 1].max()
    assert 1 / 9 < np.ptp(place["head"][:, 1]) / height < 1 / 6
    hand = np.concatenate([place["left_hand"], place["left_wrist"]])
    assert hand[:, 0].max() == vertices[:, 0].max()
    assert 0.09 < np.ptp(hand[:, 0]) / height < 0.14
    foot = np.concatenate([place["left_foot"], place["left_ankle"]])
    assert foot[:, 1].min() < vertices[:, 1].min() + 0.005
    assert 0.12 < np.ptp(foot[:, 2]) / height < 0.18


def test_densepose_patches_are_connected(free_body, labels):
    a, b = face_neighbours(free_body.faces.numpy())
    label = labels["densepose24"]
    same = label[a] == label[b]
    graph = coo_matrix((np.ones(same.sum()), (a[same], b[same])), shape=(len(label),) * 2)
    assert connected_components(graph, directed=False)[0] == len(DENSEPOSE24)


def test_smpl_sized_file_without_mirror_gets_the_same_guarantees(smpl_sized):
    assert len(smpl_sized.v_template) == 6890
    found = mesh_mirror(smpl_sized)
    for parts in (PARTS24, DENSEPOSE24):
        label = face_labels(smpl_sized, parts, found)
        np.testing.assert_array_equal(label[found.face], np.array(parts.mirror)[label])


def test_errors_say_what_to_do(free_body):
    with pytest.raises(KeyError, match="the sets are: parts1"):
        part_set("parts7")
    with pytest.raises(KeyError, match="it has: left_arm"):
        LSP6.label("tail")
    crooked = copy.deepcopy(free_body)
    crooked.mirror = None
    crooked.v_template[crooked.v_template[:, 0] > 0.5] += torch.tensor([0.0, 0.02, 0.0])
    with pytest.raises(ValueError, match="not symmetric"):
        mesh_mirror(crooked)
