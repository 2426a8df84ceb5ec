"""Parameters of bodies whose meshes are known."""

import pytest
import torch
from torch.testing import assert_close

from kouros.body.parameters import BodyParameters
from kouros.fitting.schedules.mesh import fit_to_mesh
from kouros.priors.gmm import load_gmm


@pytest.fixture(scope="module")
def people() -> BodyParameters:
    """Drawn from the packaged prior, turned anyhow, of any shape, anywhere."""
    generator = torch.Generator().manual_seed(0)
    pose = torch.cat([torch.randn(4, 3, generator=generator), load_gmm().sample(4, generator).float()], 1)
    betas, transl = torch.randn(4, 10, generator=generator), 3 * torch.randn(4, 3, generator=generator)
    return BodyParameters(pose, betas, transl)


def test_a_bodys_own_mesh_gives_the_body_again(people, free_body):
    there = people.posed_by(free_body)
    found = fit_to_mesh(free_body, there.vertices, there.joints).posed_by(free_body)
    assert float((found.vertices - there.vertices).norm(dim=-1).mean()) < 1.5e-3
    assert float((found.joints - there.joints).norm(dim=-1).mean()) < 1.5e-3


def test_a_mesh_that_is_no_body_gets_one_near_it(people, free_body):
    there = people[:1].posed_by(free_body)
    rough = there.vertices + 0.01 * torch.randn(there.vertices.shape, generator=torch.Generator().manual_seed(1))
    found = fit_to_mesh(free_body, rough, there.joints)
    assert float((found.posed_by(free_body).vertices - there.vertices).norm(dim=-1).mean()) < 4e-3
    assert float(found.betas.abs().max()) < 4


def test_moved_meshes_give_the_same_pose_and_shape_elsewhere(people, free_body):
    there, away = people[:1].posed_by(free_body), torch.tensor([0.3, -2.0, 7.0])
    one = fit_to_mesh(free_body, there.vertices, there.joints)
    other = fit_to_mesh(free_body, there.vertices + away, there.joints + away)
    assert_close(other.rotations, one.rotations, atol=2e-3, rtol=0)
    assert_close(other.transl, one.transl + away, atol=2e-3, rtol=0)


def test_another_topology_is_refused(free_body):
    with pytest.raises(ValueError, match="have 6890 vertices, but this body has 7000"):
        fit_to_mesh(free_body, torch.zeros(1, 6890, 3), torch.zeros(1, 24, 3))
