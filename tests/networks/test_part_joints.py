"""Points of parts: pooled where parts are seen, and nothing of parts that are not."""

import torch
from torch.testing import assert_close

from kouros.networks.part_joints import PartJoints


def network() -> PartJoints:
    torch.manual_seed(0)
    return PartJoints(parts=3, channels=8, overall=20, width=32)


def test_what_pixels_show_that_see_no_part_does_not_matter():
    features, seen = torch.rand(2, 8, 4, 4), torch.zeros(2, 3, 4, 4)
    seen[:, 0, 1, 2] = seen[:, 2, 3] = 1.0
    changed = torch.where((seen > 0).any(1, keepdim=True), features, 9.0)
    overall, points = torch.rand(2, 20), network()
    assert_close(points(changed, seen, overall), points(features, seen, overall))
    assert not torch.allclose(points(changed + 1, seen, overall), points(features, seen, overall))


def test_it_tells_where_parts_are_seen_and_reaches_every_weight_but_not_what_says_where():
    features, seen = torch.rand(4, 8, 6, 6, requires_grad=True), torch.zeros(4, 3, 6, 6)
    generator = torch.Generator().manual_seed(1)
    cells = torch.randint(6, (4, 3, 2), generator=generator)
    for person in range(4):
        for part in range(3):
            seen[person, part, *cells[person, part]] = 1.0
    wanted = torch.cat([(2 * cells.flip(-1) + 1) / 6 - 1, torch.zeros(4, 3, 1)], dim=-1)
    seen.requires_grad_()
    points = network()
    optimizer = torch.optim.Adam(points.parameters(), lr=3e-3)
    for _ in range(200):
        optimizer.zero_grad()
        loss = (points(features, seen, torch.ones(4, 20)) - wanted).abs().mean()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in points.parameters())
    assert features.grad is not None and seen.grad is None
