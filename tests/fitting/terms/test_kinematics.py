"""Keypoints and derivatives by hand against the body layer and autograd."""

import pytest
import torch
from scipy.spatial.transform import Rotation
from torch.testing import assert_close

import kouros
from kouros.body.parameters import BodyParameters
from kouros.fitting.terms.densepose import SurfaceKinematics, points_on_mesh
from kouros.fitting.terms.kinematics import KeypointKinematics, exponential_map, shortest


@pytest.fixture(scope="module")
def body():
    return kouros.load_body(dtype=torch.float64)


def _random(count: int, num_betas: int, scale: float = 0.7) -> BodyParameters:
    generator = torch.Generator().manual_seed(3)
    pose = torch.randn(count, 72, generator=generator, dtype=torch.float64) * scale
    betas = torch.randn(count, num_betas, generator=generator, dtype=torch.float64)
    return BodyParameters(pose, betas, torch.randn(count, 3, generator=generator, dtype=torch.float64))


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-4, 9e-4, 1.1e-3, 1.0, 3.14159265, 5.0])
def test_exponential_map_is_scipys(angle: float):
    rotvec = angle * torch.tensor([0.48, -0.6, 0.64], dtype=torch.float64)
    expected = torch.from_numpy(Rotation.from_rotvec(rotvec.numpy()).as_matrix())
    assert_close(exponential_map(rotvec).matrix, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1.0, 3.1, 3.2, 5.0, 6.28, 6.29, 100.0])
def test_the_shortest_vector_of_a_rotation_is_scipys(angle: float):
    rotvec = angle * torch.tensor([0.48, -0.6, 0.64], dtype=torch.float64)
    expected = torch.from_numpy(Rotation.from_rotvec(rotvec.numpy()).as_rotvec())
    assert_close(shortest(rotvec), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("angle", [0.0, 1e-4, 1.1e-3, 1.0, 3.1, 5.0])
def test_right_jacobian_predicts_a_small_turn(angle: float):
    rotvec = angle * torch.tensor([0.48, -0.6, 0.64], dtype=torch.float64)
    small = torch.tensor([3e-6, -1e-6, 2e-6], dtype=torch.float64)
    turned = Rotation.from_rotvec((rotvec + small).numpy())
    between = (Rotation.from_rotvec(rotvec.numpy()).inv() * turned).as_rotvec()
    predicted = exponential_map(rotvec).right_jacobian @ small
    assert_close(predicted, torch.from_numpy(between), atol=1e-10, rtol=0)


@pytest.mark.parametrize("set_name", ["blazepose33", "coco17", "smpl24"])
def test_keypoints_equal_the_posed_meshs(body, set_name: str):
    at = _random(4, body.num_betas)
    out = body(betas=at.betas, body_pose=at.pose[:, 3:], global_orient=at.pose[:, :3], transl=at.transl)
    expected = body.keypoints_3d(out, set_name)
    assert_close(KeypointKinematics(body, set_name).points(at), expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize("scale", [0.0, 0.7, 1.5])
def test_jacobian_equals_autograds(body, scale: float):
    kinematics = KeypointKinematics(body, "blazepose33")
    at = _random(2, body.num_betas, scale)

    def points(vector: torch.Tensor) -> torch.Tensor:
        return kinematics.points(BodyParameters.from_vector(vector[None]))[0]

    compiled, plain = kinematics.linearize(at), kinematics.linearize_in_torch(at)
    assert_close(compiled.points, plain.points, atol=1e-12, rtol=0)
    assert_close(compiled.jacobian, plain.jacobian, atol=1e-10, rtol=1e-10)
    analytic = compiled.jacobian
    for person in range(2):
        # autograd has no value at exactly zero rotation, so it is asked a hair beside it
        nearby = at.vector[person] + (1e-7 if scale == 0 else 0.0)
        expected = torch.autograd.functional.jacobian(points, nearby)
        assert_close(analytic[person], expected, atol=1e-6, rtol=1e-6)


def test_derivatives_can_themselves_be_differentiated(body):
    """As a network trained through a fit needs it."""
    kinematics = KeypointKinematics(body, "coco17")
    vector = _random(1, body.num_betas).vector.requires_grad_()
    jacobian = kinematics.linearize(BodyParameters.from_vector(vector)).jacobian
    direction = torch.randn(85, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    (by_vector,) = torch.autograd.grad((jacobian @ direction).sum(), vector)
    step = 1e-6 * torch.eye(85, dtype=torch.float64)[7]
    moved = [
        kinematics.linearize(BodyParameters.from_vector(vector.detach() + s)).jacobian @ direction
        for s in (step, -step)
    ]
    assert_close(by_vector[0, 7], (moved[0] - moved[1]).sum() / 2e-6, atol=1e-5, rtol=1e-5)


def test_a_system_moves_its_kinematics_and_does_not_save_them(body):
    system = torch.nn.ModuleDict({"points": KeypointKinematics(body, "coco17"), "skin": SurfaceKinematics(body)})
    assert system.state_dict() == {}
    at = _random(2, body.num_betas)
    points = system["points"]
    face, corners = torch.zeros(2, 1, dtype=torch.long), torch.full((2, 1, 3), 1 / 3, dtype=torch.float64)
    exact, skin = points.points(at), system["skin"].points(points_on_mesh(body, face, corners), at)
    system.float()
    half_exact = BodyParameters.from_vector(at.vector.float())
    single = kouros.load_body(dtype=torch.float32)
    moved = points.points(half_exact)
    assert moved.dtype == torch.float32
    assert_close(moved.double(), exact, atol=1e-5, rtol=0)
    # What the compiled loops read was made anew, too.
    assert_close(moved, KeypointKinematics(single, "coco17").points(half_exact), atol=1e-6, rtol=0)
    assert_close(points.linearize_in_torch(half_exact).points, moved, atol=1e-5, rtol=0)
    found = system["skin"].points(points_on_mesh(single, face, corners.float()), half_exact)
    assert_close(found.double(), skin, atol=1e-5, rtol=0)


def test_what_is_learned_through_no_rotation_at_all_is_finite():
    rotvec = torch.zeros(2, 3, requires_grad=True)
    at = exponential_map(rotvec)
    (at.matrix * torch.arange(9.0).view(3, 3)).sum().backward()
    # d(e x)/d v at zero: the antisymmetric part alone.
    assert_close(rotvec.grad, torch.tensor([[2.0, -4.0, 2.0]]).expand(2, 3))
