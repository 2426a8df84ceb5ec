import numpy as np

from kouros.detection.person_detector import anchor_centers, decode, weighted_suppression


def test_there_is_an_anchor_for_each_of_the_networks_outputs():
    centers = anchor_centers()
    assert centers.shape == (2254, 2)
    assert ((centers > 0) & (centers < 1)).all()
    # Two anchors a cell of 8 pixels, x first; then cells of 16; then three layers of two a cell of 32.
    np.testing.assert_allclose(centers[:4], np.array([[4, 4], [4, 4], [12, 4], [12, 4]]) / 224)
    np.testing.assert_allclose(centers[28 * 28 * 2], [8 / 224, 8 / 224])
    np.testing.assert_allclose(centers[-6:], 208 / 224)


def test_boxes_and_points_are_relative_to_their_anchor():
    numbers = np.array([[22.4, 0, 44.8, 89.6, 0, 0, 0, -112, 1, 2, 3, 4]])
    (found,) = decode(numbers, np.array([[0.5, 0.25]]))
    np.testing.assert_allclose(found[:4], [0.5, 0.05, 0.7, 0.45])
    np.testing.assert_allclose(found[4:8], [0.5, 0.25, 0.5, -0.25])


def test_overlapping_boxes_become_their_weighted_mean_and_others_stay():
    values = np.zeros((3, 12))
    values[:, :4] = [[0, 0, 0.2, 0.2], [0.02, 0, 0.22, 0.2], [0.7, 0.7, 0.9, 0.9]]
    merged, scores = weighted_suppression(values, np.array([0.4, 0.8, 0.6]))
    np.testing.assert_allclose(scores, [0.8, 0.6])
    np.testing.assert_allclose(merged[0, 0], (0.4 * 0 + 0.8 * 0.02) / 1.2)
    np.testing.assert_allclose(merged[1], values[2])
