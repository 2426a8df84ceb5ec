"""One of several, drawn: with the given shares, and the same of a seed whatever torch it is."""

import pytest
import torch
from scipy.stats import chisquare

from kouros.priors.draws import draw_categories

SHARES = torch.tensor([0.2, 0.3, 0.5])


def _singly(count: int) -> list[int]:
    generators = [torch.Generator().manual_seed(seed) for seed in range(count)]
    return [int(draw_categories(SHARES, 1, generator)) for generator in generators]


def test_a_seed_means_the_same_in_every_torch():
    """What torch 2.13's build for CPUs draws by its multinomial; 2.6's with CUDA draws 2, 0, 0, 1 by its own."""
    assert _singly(12) == [2, 0, 1, 0, 2, 2, 2, 1, 2, 2, 1, 0]
    assert draw_categories(SHARES, 5, torch.Generator().manual_seed(5)).tolist() == [2, 1, 1, 1, 1]


@pytest.mark.parametrize("one_by_one", [True, False])
def test_each_comes_with_its_share(one_by_one: bool):
    drawn = _singly(2000) if one_by_one else draw_categories(SHARES, 2000, torch.Generator().manual_seed(0)).tolist()
    assert chisquare([drawn.count(k) for k in range(3)], 2000 * SHARES.double().numpy()).pvalue > 0.01


@pytest.mark.parametrize("count", [1, 7])
def test_what_has_no_share_never_comes(count: int):
    assert not draw_categories(torch.eye(8)[0], count, torch.Generator().manual_seed(3)).any()
