import io
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from tests.body.smpl_files import chumpy_pickle, smpl_arrays, write_pickle
from torch.testing import assert_close

import kouros
from kouros.body import BodyFileError
from kouros.body.unpickling import as_array, read_pickle


@pytest.fixture(scope="module")
def arrays() -> dict[str, Any]:
    return smpl_arrays(40, 6)


def assert_is(body: kouros.BodyModel, arrays: dict[str, Any]) -> None:
    def expected(key: str) -> torch.Tensor:
        return torch.from_numpy(np.asarray(arrays[key], np.float64))

    assert_close(body.v_template, expected("v_template"), atol=0, rtol=0)
    assert_close(body.shapedirs, expected("shapedirs")[..., : body.num_betas], atol=0, rtol=0)
    assert_close(body.posedirs, expected("posedirs").flatten(0, 1).T, atol=0, rtol=0)
    assert_close(body.weights, expected("weights"), atol=0, rtol=0)
    regressor = torch.from_numpy(arrays["J_regressor"].toarray())
    assert_close(body.joint_regressor, regressor, atol=0, rtol=0)
    assert_close(body.faces, torch.from_numpy(arrays["f"].astype(np.int64)))


@pytest.mark.parametrize("protocol", [0, 1, 2, 4, 5])
def test_pickles_of_every_protocol_are_read(tmp_path: Path, arrays: dict[str, Any], protocol: int):
    path = write_pickle(tmp_path / "body.pkl", arrays, protocol)
    assert_is(kouros.load_body(path, dtype=torch.float64), arrays)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_chumpy_arrays_are_read_without_chumpy(tmp_path: Path, arrays: dict[str, Any], protocol: int):
    path = tmp_path / "body.pkl"
    path.write_bytes(chumpy_pickle(arrays, protocol))
    assert b"chumpy" in path.read_bytes()
    assert_is(kouros.load_body(path, dtype=torch.float64), arrays)


def python2_array(array: np.ndarray) -> bytes:
    """The opcodes with which Python 2 wrote an array: its bytes are a string."""
    raw = array.tobytes(order="F")
    shape = b"(" + b"".join(b"J" + struct.pack("<i", n) for n in array.shape) + b"t"
    code = array.dtype.str[1:].encode()
    dtype = (
        b"cnumpy\ndtype\n(U"
        + bytes([len(code)])
        + code
        + b"K\x00K\x01tR(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )
    made = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR"
    return made + b"(K\x01" + shape + dtype + b"\x88T" + struct.pack("<i", len(raw)) + raw + b"tb"


def test_strings_of_python_2_are_bytes_of_arrays():
    array = np.random.default_rng(0).normal(size=(3, 4))
    read = as_array(read_pickle(io.BytesIO(b"\x80\x02" + python2_array(array) + b".")))
    np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize("form", ["csc_matrix", "csr_matrix", "coo_matrix", "csc_array"])
def test_sparse_matrices_of_every_form_are_read(form: str):
    matrix = sparse.random(5, 9, 0.4, random_state=0)
    stored = pickle.dumps(getattr(sparse, form)(matrix), protocol=2)
    np.testing.assert_array_equal(as_array(read_pickle(io.BytesIO(stored))), matrix.toarray())


def test_npz_with_a_pickled_sparse_regressor_is_read(tmp_path: Path, arrays: dict[str, Any]):
    path = tmp_path / "SMPL_MALE.npz"
    np.savez_compressed(path, **arrays)
    with pytest.raises(ValueError, match="allow_pickle"):  # it does hold a pickle
        np.load(path)["J_regressor"]
    assert_is(kouros.load_body(path, dtype=torch.float64), arrays)


def test_npz_with_a_dense_regressor_is_read(tmp_path: Path, arrays: dict[str, Any]):
    path = tmp_path / "SMPL_MALE.npz"
    np.savez(path, **arrays | {"J_regressor": arrays["J_regressor"].toarray()})
    assert_is(kouros.load_body(path, dtype=torch.float64), arrays)


def test_number_of_betas_can_be_chosen_among_those_there_are(tmp_path: Path):
    path = write_pickle(tmp_path / "body.pkl", smpl_arrays(40, 300))
    assert kouros.load_body(path).num_betas == 10
    assert kouros.load_body(path, num_betas=64).num_betas == 64
    with pytest.raises(ValueError, match="has 300 shape coefficients"):
        kouros.load_body(path, num_betas=301)
    with pytest.raises(ValueError, match="choose 1 to 14"):
        kouros.load_body(num_betas=0)


def test_the_free_body_has_every_keypoint_set_and_unit_weights(free_body: kouros.BodyModel):
    from kouros.body import KEYPOINT_SETS

    assert set(free_body.keypoint_sets) == set(KEYPOINT_SETS)
    assert_close(free_body.weights.sum(-1), torch.ones(len(free_body.weights)), atol=1e-6, rtol=0)
    assert free_body.uv is not None
    assert free_body.uv_faces is not None
    assert free_body.uv_faces.max() < len(free_body.uv)
    assert free_body.num_betas == 10


class Attack:
    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.reduced = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.reduced


def attacks(marker: str) -> dict[str, bytes]:
    """Pickles that would make a file called ``marker``, or load something, or change this package."""
    touch = f"open({marker!r}, 'w')"
    return {
        "os.system": pickle.dumps(Attack(os.system, f"touch {marker}")),
        "eval": pickle.dumps(Attack(eval, touch)),
        "eval, Python 2": b"c__builtin__\neval\n(V" + touch.encode() + b"\ntR.",
        "exec": pickle.dumps(Attack(exec, touch)),
        "open": pickle.dumps(Attack(open, marker, "w")),
        "getattr": pickle.dumps(Attack(getattr, Attack(__import__, "os"), "system")),
        "numpy.load": pickle.dumps(Attack(np.load, marker)),
        "numpy.save": pickle.dumps(Attack(np.save, marker, 1)),
        "numpy.fromfile": pickle.dumps(Attack(np.fromfile, "/etc/passwd")),
        "scipy's function": b"\x80\x04\x8c\x11scipy.sparse._npz\x8c\x08load_npz\x93\x8c\x01x\x85R.",
        "dotted name": b"\x80\x04\x8c\tchumpy.ch\x8c\x1bCh.__init__.__globals__.get\x93.",
        "dotted numpy name": b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.",
        "this package": b"\x80\x04\x8c\x16kouros.body.unpickling\x8c\x0bread_pickle\x93.",
        "changed function": b"cnumpy.core.multiarray\n_reconstruct\n}S'_call'\nS'x'\nsb.",
        "changed function, slots": b"cnumpy.core.multiarray\n_reconstruct\n(N}S'_call'\nS'x'\nstb.",
        "changed class": b"cnumpy\nndarray\n}S'__init__'\nS'x'\nsb.",
        "persistent id": b"Pattack\n.",
        "extension": b"\x80\x02\x82\x01.",
        "object of ours": b"ccopy_reg\n_reconstructor\n(cnumpy\nndarray\nc__builtin__\nobject\nNtR.",
        "billion items": b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
        b"(I1\n(I99999999999\ntcnumpy\ndtype\n(S'f8'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\nS''\ntb.",
        "record type": b"cnumpy\ndtype\n(S'V8'\nI0\nI1\ntR(I3\nS'|'\nN(S'a'\nt}S'a'\nI1\nsI8\nI1\nI0\ntb.",
    }


@pytest.mark.parametrize("kind", attacks(""))
@pytest.mark.parametrize("wrapped", ["alone", "inside npz"])
def test_attacks_end_in_an_error_and_do_nothing(tmp_path: Path, kind: str, wrapped: str):
    marker = tmp_path / "was_here"
    attack = attacks(str(marker))[kind]
    path = tmp_path / "SMPL_NEUTRAL.pkl"
    if wrapped == "alone":
        path.write_bytes(attack)
    else:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": ()})
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("J_regressor.npy", header.getvalue() + attack)
    with pytest.raises(BodyFileError, match=r"SMPL_NEUTRAL\.pkl"):
        kouros.load_body(path)
    assert not marker.exists()
    from kouros.body import unpickling

    assert isinstance(unpickling.StoredArray().array, np.ndarray)  # still itself


def test_an_attack_among_good_arrays_names_what_it_asked_for(tmp_path: Path, arrays: dict[str, Any]):
    path = write_pickle(tmp_path / "b.pkl", arrays | {"extra": Attack(os.system, "true")})
    with pytest.raises(BodyFileError, match=r"(posix|nt)\.system"):
        kouros.load_body(path)


def changed(key: str, value: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda arrays: arrays | {key: value(arrays[key])}


def with_nan(array: np.ndarray) -> np.ndarray:
    result = array.copy()
    result.flat[7] = np.nan
    return result


def smplx_tree(tree: np.ndarray) -> np.ndarray:
    return np.concatenate([tree, np.stack([np.arange(23, 54), np.arange(24, 55)]).astype(np.uint32)], axis=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed("kintree_table", smplx_tree), "55 joints .SMPL-X."),
        (changed("kintree_table", lambda tree: tree[:, ::-1].copy()), "not SMPL's tree"),
        (changed("v_template", with_nan), "v_template holds NaN"),
        (changed("weights", with_nan), "weights holds NaN"),
        (changed("weights", lambda w: 2 * w), "do not sum to 1"),
        (changed("posedirs", lambda p: p[..., :200]), r"posedirs .*200\) but must be \(40, 3, 207\)"),
        (changed("shapedirs", lambda s: s[:30]), r"shapedirs has shape \(30, 3, 6\)"),
        (changed("J_regressor", lambda j: j[:, :30]), "J_regressor has shape"),
        (changed("f", lambda f: f + 40), "f points outside 0 .. 39"),
        (changed("v_template", lambda v: "text"), "v_template is not an array"),
        (changed("v_template", lambda v: None), "v_template is not an array"),
        (lambda arrays: {k: v for k, v in arrays.items() if k != "weights"}, "has no 'weights'"),
        (lambda arrays: {}, "has no 'kintree_table'"),
    ],
)  # fmt: skip
def test_wrong_contents_get_one_clear_error(
    tmp_path: Path, arrays: dict[str, Any], change: Callable[[dict[str, Any]], dict[str, Any]], message: str
):
    path = write_pickle(tmp_path / "body.pkl", change(arrays))
    with pytest.raises(BodyFileError, match=message):
        kouros.load_body(path)


def test_files_that_are_no_bodies_get_one_clear_error(tmp_path: Path, arrays: dict[str, Any]):
    whole = write_pickle(tmp_path / "whole.pkl", arrays).read_bytes()
    np.savez(tmp_path / "whole.npz", **arrays)
    zipped = (tmp_path / "whole.npz").read_bytes()
    wrong = {
        "empty.pkl": b"",
        "text.pkl": b"You must agree to the licence before you download this file.\n",
        "page.pkl": b"<!DOCTYPE html><html></html>",
        "truncated.pkl": whole[: len(whole) // 2],
        "truncated.npz": zipped[: len(zipped) // 2],
        "damaged.npz": zipped[:3000] + bytes(500) + zipped[3500:],
        "list.pkl": pickle.dumps([1, 2, 3]),
        "picture.npz": b"\x89PNG\r\n\x1a\n" + bytes(100),
    }
    for name, content in wrong.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(BodyFileError, match=name):
            kouros.load_body(path)
    with pytest.raises(BodyFileError, match="is a folder"):
        kouros.load_body(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        kouros.load_body(tmp_path / "nowhere.pkl")


@settings(max_examples=80, deadline=None)
@given(cut=st.integers(0, 20000), replacement=st.binary(max_size=12))
def test_any_damage_gives_a_body_or_the_documented_error(
    tmp_path_factory: pytest.TempPathFactory, cut: int, replacement: bytes
):
    whole = pickle.dumps(smpl_arrays(8, 2), protocol=2)
    cut %= len(whole)
    path = tmp_path_factory.getbasetemp() / "damaged.pkl"
    path.write_bytes(whole[:cut] + replacement + whole[cut + len(replacement) :])
    try:
        assert isinstance(kouros.load_body(path), kouros.BodyModel)
    except BodyFileError as error:
        assert "damaged.pkl" in str(error)


@pytest.fixture(scope="module")
def smpl_with_regressors(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[kouros.BodyModel, np.ndarray, np.ndarray]:
    folder = tmp_path_factory.mktemp("regressors")
    rng = np.random.default_rng(0)
    extra, h36m = rng.random((14, 6890)), rng.random((17, 6890))
    np.save(folder / "J_regressor_extra.npy", extra)
    np.save(folder / "J_regressor_h36m.npy", h36m)
    body = kouros.load_body(
        write_pickle(folder / "body.pkl", smpl_arrays()),
        extra_regressor=folder / "J_regressor_extra.npy",
        h36m_regressor=folder / "J_regressor_h36m.npy",
    )
    return body, extra[5:], h36m


def test_spin49_on_smpl_follows_the_published_map(smpl_with_regressors):
    body, extra, _ = smpl_with_regressors
    out = body(body_pose=torch.full((1, 69), 0.1))
    picked = [332, 6260, 2800, 4071, 583, 3216, 3226, 3387, 6617, 6624, 6787]
    # In SPIN's order of sources: 24 joints, picked vertices 24..34, ten finger tips, nine regressed points.
    fingers = torch.full((10, 3), torch.nan)
    regressed = torch.from_numpy(extra).float() @ out.vertices[0]
    sources = torch.cat([out.joints[0], out.vertices[0, picked], fingers, regressed])
    spin = [
        24, 12, 17, 19, 21, 16, 18, 20, 0, 2, 5, 8, 1, 4, 7, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34,
        8, 5, 45, 46, 4, 7, 21, 19, 17, 16, 18, 20, 47, 48, 49, 50, 51, 52, 53, 24, 26, 25, 28, 27,
    ]  # fmt: skip
    expected = sources[spin]
    scale = expected.abs().max().item()
    assert_close(body.keypoints_3d(out, "spin49")[0], expected, atol=1e-6 * scale, rtol=0)
    assert_close(body.keypoints_3d(out, "lsp14")[0], expected[25:39], atol=1e-6 * scale, rtol=0)
    assert_close(body.keypoints_3d(out, "openpose25")[0], expected[:25])
    mpii = [25 + i for i in (0, 1, 2, 3, 4, 5, 14, 15, 12, 13, 6, 7, 8, 9, 10, 11)]
    assert_close(body.keypoints_3d(out, "mpii16")[0], expected[mpii], atol=1e-6 * scale, rtol=0)


def test_h36m_sets_on_smpl_reorder_the_regressors_rows(smpl_with_regressors):
    body, _, h36m = smpl_with_regressors
    out = body()
    rows = torch.from_numpy(h36m).float() @ out.vertices[0]
    order = [0, 4, 5, 6, 1, 2, 3, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]
    dataset = [10, 8, 14, 15, 16, 11, 12, 13, 4, 5, 6, 1, 2, 3, 0, 7, 9]
    scale = 1e-6 * rows.abs().max().item()
    assert_close(body.keypoints_3d(out, "h36m17")[0], rows[order], atol=scale, rtol=0)
    assert_close(body.keypoints_3d(out, "mpi_inf_3dhp17")[0], rows[dataset], atol=scale, rtol=0)


def test_rows_that_do_not_sum_to_1_move_alike_with_and_without_the_mesh(smpl_with_regressors):
    body = smpl_with_regressors[0].to(torch.float64)
    given = {"transl": torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64)}
    through_mesh = body.keypoints_3d(body(**given), "lsp14")
    assert_close(body.keypoint_positions("lsp14", **given), through_mesh, atol=1e-9, rtol=1e-12)


def test_regressors_beside_the_body_file_are_taken_and_their_absence_is_explained(tmp_path: Path):
    path = write_pickle(tmp_path / "body.pkl", smpl_arrays())
    with pytest.raises(KeyError, match=r"Put SPIN's J_regressor_extra\.npy beside the body file"):
        kouros.load_body(path).keypoint_positions("spin49")
    np.save(tmp_path / "J_regressor_extra.npy", np.full((9, 6890), 1 / 6890))
    np.save(tmp_path / "J_regressor_h36m.npy", np.full((17, 6890), 1 / 6890))
    body = kouros.load_body(path)
    assert {"spin49", "lsp14", "mpii16", "h36m17", "mpi_inf_3dhp17"} <= set(body.keypoint_sets)
    assert_close(body.keypoint_positions("h36m17")[0, 3], body().vertices[0].mean(0), atol=1e-5, rtol=0)
    np.save(tmp_path / "other.npy", np.zeros((9, 6890)))
    given = kouros.load_body(path, extra_regressor=tmp_path / "other.npy")
    assert_close(given.keypoint_positions("lsp14")[0, 13], torch.zeros(3))


def test_wrong_regressor_files_get_one_clear_error(tmp_path: Path):
    body = write_pickle(tmp_path / "body.pkl", smpl_arrays(40, 2))
    np.save(tmp_path / "small.npy", np.zeros((9, 40)))
    np.save(tmp_path / "pickled.npy", np.array([{}], dtype=object))
    (tmp_path / "text.npy").write_text("no")
    for name in ("small.npy", "pickled.npy", "text.npy"):
        with pytest.raises(BodyFileError, match=name):
            kouros.load_body(body, extra_regressor=tmp_path / name)
    with pytest.raises(FileNotFoundError, match="gone"):
        kouros.load_body(body, h36m_regressor=tmp_path / "gone.npy")
