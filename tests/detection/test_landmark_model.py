import numpy as np

from kouros.detection.landmark_model import refine


def test_a_confident_heatmap_moves_its_point_to_its_peak():
    points = np.full((39, 2), 0.5)
    heatmaps = np.full((64, 64, 39), -30.0)
    heatmaps[30, 34, 7] = 5.0
    refined = refine(points, heatmaps)
    np.testing.assert_allclose(refined[7], [34 / 64, 30 / 64], atol=1e-9)
    np.testing.assert_array_equal(np.delete(refined, 7, axis=0), np.delete(points, 7, axis=0))


def test_points_outside_the_crop_and_unsure_heatmaps_change_nothing():
    points = np.full((39, 2), 0.5)
    points[0], points[1] = (-0.2, 0.5), (0.5, 1.7)
    heatmaps = np.full((64, 64, 39), -0.1)
    np.testing.assert_array_equal(refine(points, heatmaps), points)


def test_the_window_ends_at_the_heatmaps_border():
    points = np.zeros((39, 2))
    heatmaps = np.full((64, 64, 39), -30.0)
    heatmaps[0, 0] = 5.0
    np.testing.assert_allclose(refine(points, heatmaps), 0.0, atol=1e-9)
