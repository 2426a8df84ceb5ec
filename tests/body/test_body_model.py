import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.body.smpl_files import smpl_arrays, write_pickle
from torch.testing import assert_close

import kouros
from kouros.body import posing
from kouros.body.model import BodyModel
from kouros.geometry.rotations import random_rotmat, rotvec_to_rotmat


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of SMPL's size."""
    return write_pickle(tmp_path_factory.mktemp("body") / "SMPL_NEUTRAL.pkl", smpl_arrays())


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> BodyModel:
    """A small body in float64."""
    path = tmp_path_factory.mktemp("toy") / "toy.pkl"
    return kouros.load_body(write_pickle(path, smpl_arrays(50, 4)), dtype=torch.float64)


def parameters(batch: int, num_betas: int, dtype: torch.dtype, seed: int = 0) -> dict[str, torch.Tensor]:
    shapes = {"betas": (num_betas,), "body_pose": (69,), "global_orient": (3,), "transl": (3,)}
    generator = torch.Generator().manual_seed(seed)
    return {k: torch.randn(batch, *s, generator=generator, dtype=dtype) for k, s in shapes.items()}


def smplx_body(file: Path, num_betas: int, dtype: torch.dtype, batch: int):
    import smplx

    with contextlib.redirect_stdout(io.StringIO()):
        return smplx.SMPL(str(file), num_betas=num_betas, dtype=dtype, batch_size=batch)


# smplx moves every rotation vector by 1e-8 before it takes its angle, which bounds how near float64 can come.
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-5), (torch.float64, 1e-6)])
def test_vertices_joints_and_gradients_equal_smplx(file: Path, dtype: torch.dtype, atol: float):
    ours, theirs = kouros.load_body(file, dtype=dtype), smplx_body(file, 10, dtype, 3)
    given_ours = {k: v.requires_grad_() for k, v in parameters(3, 10, dtype).items()}
    given_theirs = {k: v.requires_grad_() for k, v in parameters(3, 10, dtype).items()}
    out, expected = ours(**given_ours), theirs(**given_theirs)
    assert_close(out.vertices, expected.vertices, atol=atol, rtol=0)
    assert_close(out.joints, expected.joints[:, :24], atol=atol, rtol=0)
    pull = torch.randn(out.vertices.shape, generator=torch.Generator().manual_seed(1), dtype=dtype)
    for result in (out, expected):
        ((result.vertices * pull).sum() + result.joints[:, :24].square().sum()).backward()
    for name in given_ours:
        scale = given_theirs[name].grad.abs().max().item()
        assert_close(given_ours[name].grad, given_theirs[name].grad, atol=scale * atol, rtol=0)


def test_rotation_matrices_equal_smplx(file: Path):
    ours, theirs = kouros.load_body(file), smplx_body(file, 10, torch.float32, 2)
    pose = random_rotmat((2, 24), torch.Generator().manual_seed(0))
    given = {"body_pose": pose[:, 1:], "global_orient": pose[:, :1], "betas": torch.ones(2, 10)}
    expected = theirs(**given, transl=torch.zeros(2, 3), pose2rot=False)
    out = ours(**given, pose2rot=False)
    assert_close(out.vertices, expected.vertices, atol=1e-5, rtol=0)
    assert_close(out.joints, expected.joints[:, :24], atol=1e-5, rtol=0)


def test_all_300_betas_equal_smplx(tmp_path: Path):
    path = write_pickle(tmp_path / "SMPL_FEMALE.pkl", smpl_arrays(num_betas=300, seed=2))
    ours, theirs = kouros.load_body(path, num_betas=300), smplx_body(path, 300, torch.float32, 2)
    given = parameters(2, 300, torch.float32)
    assert ours.num_betas == 300
    assert kouros.load_body(path).num_betas == 10
    assert_close(ours(**given).vertices, theirs(**given).vertices, atol=1e-5, rtol=0)


def test_without_parameters_the_template_stands_where_the_file_has_it(toy: BodyModel):
    out = toy()
    assert_close(out.vertices[0], toy.v_template)
    assert_close(out.joints[0], toy.joint_regressor @ toy.v_template)


def test_betas_alone_move_the_rest_mesh_along_shapedirs(toy: BodyModel):
    betas = torch.tensor([[1.0, -2.0, 0.5, 3.0]], dtype=torch.float64)
    expected = toy.v_template + (toy.shapedirs * betas[0]).sum(-1)
    assert_close(toy(betas=betas).vertices[0], expected)


def test_global_orient_turns_the_posed_body_about_its_root(toy: BodyModel):
    given = parameters(2, 4, torch.float64)
    given.pop("transl")
    orient = given.pop("global_orient")
    plain, turned = toy(**given), toy(**given, global_orient=orient)
    root = plain.joints[:, :1]
    expected = (plain.vertices - root) @ rotvec_to_rotmat(orient).mT + root
    assert_close(turned.vertices, expected)
    assert_close(turned.joints[:, 0], root[:, 0])


def test_transl_moves_everything_by_itself(toy: BodyModel):
    given = parameters(2, 4, torch.float64)
    moved = toy(**given)
    transl = given.pop("transl")
    still = toy(**given)
    assert_close(moved.vertices, still.vertices + transl[:, None])
    assert_close(moved.joints, still.joints + transl[:, None])


def test_vectors_and_matrices_give_the_same_body(toy: BodyModel):
    given = parameters(2, 4, torch.float64)
    matrices = given | {
        "body_pose": rotvec_to_rotmat(given["body_pose"].unflatten(1, (23, 3))),
        "global_orient": rotvec_to_rotmat(given["global_orient"]),
    }
    assert_close(toy(**matrices, pose2rot=False).vertices, toy(**given).vertices)


def test_other_accepted_shapes_mean_the_same(toy: BodyModel):
    given = parameters(2, 4, torch.float64)
    reshaped = given | {
        "body_pose": given["body_pose"].unflatten(1, (23, 3)),
        "global_orient": given["global_orient"][:, None],
    }
    assert_close(toy(**reshaped).vertices, toy(**given).vertices, atol=0, rtol=0)


@pytest.mark.parametrize("single", ["betas", "body_pose", "global_orient", "transl"])
def test_a_batch_of_one_goes_with_any_batch(toy: BodyModel, single: str):
    given = parameters(3, 4, torch.float64)
    given[single] = given[single][:1]
    repeated = given | {single: given[single].repeat(3, *[1] * (given[single].ndim - 1))}
    assert_close(toy(**given).vertices, toy(**repeated).vertices)
    assert_close(toy.joint_positions(**given), toy.joint_positions(**repeated))


def test_an_empty_batch_gives_an_empty_result(toy: BodyModel):
    out = toy(betas=torch.zeros(0, 4, dtype=torch.float64), transl=torch.zeros(1, 3, dtype=torch.float64))
    assert out.vertices.shape == (0, 50, 3)
    assert out.joints.shape == (0, 24, 3)


def test_joints_and_keypoints_without_the_mesh_are_those_of_the_mesh(file: Path, free_body: BodyModel):
    for body, tolerance in [
        (kouros.load_body(file, dtype=torch.float64), 1e-12),
        (kouros.load_body(dtype=torch.float64), 1e-12),
        (free_body, 3e-6),
    ]:
        given = parameters(4, 10, body.v_template.dtype)
        given["body_pose"] *= 0.5
        out = body(**given)
        assert_close(body.joint_positions(**given), out.joints, atol=tolerance, rtol=0)
        for name in body.keypoint_sets:
            through_mesh = body.keypoints_3d(out, name)
            assert_close(body.keypoint_positions(name, **given), through_mesh, atol=tolerance, rtol=0)


def test_keypoints_without_the_mesh_have_the_gradients_of_the_mesh(toy: BodyModel, free_body: BodyModel):
    body = kouros.load_body(dtype=torch.float64)
    given = {k: v.requires_grad_() for k, v in parameters(2, 10, torch.float64).items()}
    direct = body.keypoint_positions("coco17", **given).square().sum()
    meshed = body.keypoints_3d(body(**given), "coco17").square().sum()
    wanted = list(given.values())
    for a, b in zip(torch.autograd.grad(direct, wanted), torch.autograd.grad(meshed, wanted), strict=True):
        assert_close(a, b)


@pytest.mark.parametrize("size", [0.0, 1e-9, 1.0])  # where Rodrigues' formula divides by zero, and elsewhere
@pytest.mark.parametrize("pose2rot", [True, False])
def test_gradients_are_right_also_at_rest(toy: BodyModel, size: float, pose2rot: bool):
    given = parameters(2, 4, torch.float64)
    pose = size * given["body_pose"].unflatten(1, (23, 3))
    orient = size * given["global_orient"][:, None]
    if not pose2rot:
        pose, orient = rotvec_to_rotmat(pose), rotvec_to_rotmat(orient)
    chosen = torch.arange(0, 50, 17)

    def run(*inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        out = toy(*inputs, pose2rot=pose2rot)
        return out.vertices[:, chosen], out.joints

    inputs = tuple(x.detach().requires_grad_() for x in (given["betas"], pose, orient, given["transl"]))
    assert torch.autograd.gradcheck(run, inputs, fast_mode=True, atol=1e-6)


def test_second_derivatives_are_right(toy: BodyModel):
    given = parameters(1, 4, torch.float64)

    def run(pose: torch.Tensor, betas: torch.Tensor) -> torch.Tensor:
        return toy(betas=betas, body_pose=pose).vertices[:, ::20]

    inputs = (given["body_pose"].requires_grad_(), given["betas"].requires_grad_())
    assert torch.autograd.gradgradcheck(run, inputs, fast_mode=True, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_compiled_kernels_and_torch_agree(toy: BodyModel, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype):
    pytest.importorskip("numba")
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    given = {k: v.requires_grad_() for k, v in parameters(300, 10, dtype).items()}
    body = kouros.load_body(dtype=dtype)  # 300 bodies: work for several threads

    def run() -> list[torch.Tensor]:
        out = body(**given)
        loss = out.vertices.square().mean() + out.joints.square().mean()
        return [out.vertices, out.joints, *torch.autograd.grad(loss, list(given.values()))]

    fast = run()
    monkeypatch.setattr(posing, "kernels_apply", lambda tensor: False)
    for quick, plain in zip(fast, run(), strict=True):
        assert_close(quick, plain, atol=tolerance, rtol=tolerance)


def test_torch_func_transforms_work(toy: BodyModel):
    given = parameters(1, 4, torch.float64)["body_pose"]
    forward = torch.func.jacfwd(lambda pose: toy.joint_positions(body_pose=pose))(given)
    reverse = torch.autograd.functional.jacobian(lambda pose: toy.joint_positions(body_pose=pose), given)
    assert_close(forward, reverse)


def test_half_precision_around_it_does_not_spoil_the_body(free_body: BodyModel):
    given = parameters(2, 10, torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = free_body(**given).vertices
    assert_close(inside, free_body(**given).vertices, atol=0, rtol=0)


def test_to_changes_precision_of_everything(tmp_path: Path):
    body = kouros.load_body(write_pickle(tmp_path / "toy.pkl", smpl_arrays(50, 4)))
    body.keypoint_positions("smpl24")
    body = body.to(torch.float64)
    given = parameters(2, 4, torch.float64)
    assert body(**given).vertices.dtype == torch.float64
    assert body.keypoint_positions("smpl24", **given).dtype == torch.float64
    assert body.faces.dtype == torch.int64


def test_smpl24_is_the_joints(free_body: BodyModel):
    out = free_body(**parameters(2, 10, torch.float32))
    assert_close(free_body.keypoints_3d(out, "smpl24"), out.joints, atol=0, rtol=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_gpu_and_cpu_agree():
    body = kouros.load_body(dtype=torch.float64)
    given = parameters(3, 10, torch.float64)
    expected = body(**given).vertices, body.keypoint_positions("coco17", **given)
    body = body.to("cuda")
    on_gpu = {k: v.to("cuda") for k, v in given.items()}
    assert_close(body(**on_gpu).vertices.cpu(), expected[0])
    assert_close(body.keypoint_positions("coco17", **on_gpu).cpu(), expected[1])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"betas": torch.zeros(2, 16)}, "num_betas=16"),
        ({"betas": torch.zeros(10)}, r"betas\[None\]"),
        ({"body_pose": torch.zeros(2, 72)}, "first three numbers are global_orient"),
        ({"body_pose": torch.zeros(2, 23, 3, 3)}, "pose2rot=False"),
        ({"global_orient": torch.zeros(2, 3, 3)}, "pose2rot=False"),
        ({"global_orient": torch.zeros(2, 3), "pose2rot": False}, "pose2rot=True"),
        ({"transl": torch.zeros(2, 2)}, r"\(N, 3\)"),
        ({"transl": torch.tensor(1.0)}, r"\(N, 3\)"),
        ({"betas": torch.zeros(2, 10), "transl": torch.zeros(3, 3)}, "betas 2, transl 3"),
        ({"betas": torch.zeros(2, 10, dtype=torch.float64)}, "float64 .* body is torch.float32"),
    ],
)
def test_wrong_arguments_are_told_what_to_do(free_body: BodyModel, wrong: dict, message: str):
    with pytest.raises(ValueError, match=message):
        free_body(**wrong)


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(["betas", "body_pose", "global_orient", "transl"]),
    shape=st.lists(st.integers(0, 70), max_size=4).map(tuple),
)
def test_any_shape_is_taken_or_refused_by_name(toy: BodyModel, name: str, shape: tuple[int, ...]):
    count = {"betas": 4, "body_pose": 69, "global_orient": 3, "transl": 3}[name]
    fits = len(shape) >= 2 and np.prod(shape[1:]) == count
    try:
        out = toy(**{name: torch.zeros(shape, dtype=torch.float64)})
    except ValueError as error:
        assert name in str(error)
        assert str(shape) in str(error)
        assert not (fits and len(shape) == 2)
    else:
        assert fits
        assert len(out.vertices) == shape[0]


def test_unknown_and_missing_keypoint_sets_say_what_there_is(file: Path, free_body: BodyModel):
    with pytest.raises(KeyError, match="coco17"):
        free_body.keypoint_positions("coco")
    smpl = kouros.load_body(file)
    assert set(smpl.keypoint_sets) == {"smpl24", "coco17", "openpose25"}
    for name, remedy in {
        "lsp14": "extra_regressor",
        "h36m17": "h36m_regressor",
        "blazepose33": "mouth",
    }.items():
        with pytest.raises(KeyError, match=remedy):
            smpl.keypoint_tables(name)
