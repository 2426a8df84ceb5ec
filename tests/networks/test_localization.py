"""From maps to points, on maps whose points are known."""

import pytest
import torch
from torch.testing import assert_close

from kouros.networks.deconvolution import DeconvolutionHead
from kouros.networks.localization import expected_points, peaks, values_at
from kouros.networks.part_pictures import heatmaps


@pytest.mark.parametrize("cell", [(0, 0, 0), (3, 1, 4), (7, 4, 5)])
def test_a_volume_that_is_sure_of_a_cell_means_its_centre(cell: tuple[int, int, int]):
    depth, row, column = cell
    scores = torch.full((1, 1, 8, 5, 6), -100.0, dtype=torch.double)
    scores[0, 0, depth, row, column] = 100.0
    expected = [2 * (column + 0.5) / 6 - 1, 2 * (row + 0.5) / 5 - 1, 2 * (depth + 0.5) / 8 - 1]
    assert_close(expected_points(scores)[0, 0], torch.tensor(expected, dtype=torch.double))


def test_a_volume_that_knows_nothing_means_the_middle_and_can_be_learned_through():
    scores = torch.zeros(1, 2, 3, 4, 5, dtype=torch.double, requires_grad=True)
    assert_close(expected_points(scores).detach(), torch.zeros(1, 2, 3, dtype=torch.double))
    assert torch.autograd.gradcheck(expected_points, scores)


def test_peaks_are_finer_than_cells():
    generator = torch.Generator().manual_seed(0)
    places = 1.8 * torch.rand(1, 40, 2, generator=generator) - 0.9
    drawn = heatmaps(torch.cat([places, torch.ones(1, 40, 1)], dim=-1), 64, 1.5 / 64)
    found = peaks(0.8 * drawn)
    assert float((found[..., :2] - places).abs().max()) < 2 / 64 / 2.5  # a cell is 2 / 64
    assert_close(found[..., 2], 0.8 * drawn.flatten(2).amax(-1))


def test_a_broken_heatmap_has_no_height_and_a_place_that_is_a_number():
    maps = torch.zeros(1, 2, 8, 8)
    maps[0, 0, 2, 3], maps[0, 1, 5, 6] = torch.nan, 1.0
    found = peaks(maps)
    assert bool(found[..., :2].isfinite().all())
    assert found[0, 0, 2] == -torch.inf
    assert_close(found[0, 1], torch.tensor([2 * 6.5 / 8 - 1, 2 * 5.5 / 8 - 1, 1.0]))


def test_a_map_of_places_says_where_it_was_asked():
    cells = (torch.arange(10) + 0.5) / 5 - 1
    maps = torch.stack([cells.expand(10, 10), cells[:, None].expand(10, 10)])[None]
    asked = torch.tensor([[[0.13, -0.57], [-0.9, 0.9], [0.0, 0.0]]])
    assert_close(values_at(maps, asked), asked)
    assert_close(values_at(maps, torch.tensor([[[5.0, 0.0]]])), torch.zeros(1, 1, 2))


def test_three_deconvolutions_give_stride_4_and_other_sizes_are_resampled():
    head = DeconvolutionHead(8, 5, width=4)
    maps = [torch.rand(2, 3, 16, 16), torch.rand(2, 8, 8, 8)]
    assert head(maps, (64, 64)).shape == (2, 5, 64, 64)
    assert head(maps, (32, 32)).shape == (2, 5, 32, 32)
