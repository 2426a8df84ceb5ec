"""SPIN's files: written by hand in their documented form, read, written again."""

import numpy as np
import pytest
from PIL import Image

from kouros.body.keypoints import COCO17, H36M17, LSP14, MPI_INF_3DHP17, MPII16, SPIN49
from kouros.data.importers.spin_npz import export_spin_npz, import_spin_npz
from kouros.data.schema import DatasetError, Sample, TableInfo
from kouros.data.spin_joints import TO_SPIN24
from kouros.data.tables import AnnotationTable, write_table


def spin_arrays(rows: int = 2) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    part, openpose = rng.random((rows, 24, 3)) * 60, rng.random((rows, 25, 3)) * 60
    part[..., 2] = rng.integers(0, 2, (rows, 24))
    openpose[..., 2] = rng.random((rows, 25))
    joints = rng.random((rows, 24, 4))
    joints[..., 3] = 1
    joints[:, 14, :3] = 0
    return {
        "imgname": np.array([f"images/{i}.png" for i in range(rows)]),
        "center": rng.random((rows, 2)) * 64,
        "scale": rng.random(rows) + 0.1,
        "part": part,
        "openpose": openpose,
        "S": joints,
        "pose": rng.standard_normal((rows, 72)),
        "shape": rng.standard_normal((rows, 10)),
        "has_smpl": np.arange(rows) % 2.0,
    }


def save(folder, arrays: dict[str, np.ndarray], name: str = "h36m_train.npz"):
    for image in arrays["imgname"]:
        text = image.decode() if isinstance(image, bytes) else image
        (folder / text).parent.mkdir(exist_ok=True)
        Image.new("RGB", (64, 48)).save(folder / text)
    np.savez(folder / name, **arrays)
    return folder / name


def test_rows_arrive_where_the_format_puts_them(tmp_path):
    arrays = spin_arrays()
    report = import_spin_npz(save(tmp_path, arrays), tmp_path / "out")
    table = AnnotationTable(report.table)
    assert (report.rows, report.problems, len(table)) == (2, (), 2)
    first, second = table
    assert first.image_path == "images/0.png" and first.image_size == (64, 48)
    assert table.image_file(first).is_file()
    assert first.box_size == 200 * arrays["scale"][0]
    np.testing.assert_array_equal(first.box_center, arrays["center"][0])
    nose = SPIN49.index("openpose_nose")
    np.testing.assert_allclose(first.keypoints_2d[nose], arrays["openpose"][0, 0], rtol=1e-6)
    ankle = SPIN49.index("right_ankle")
    np.testing.assert_allclose(first.keypoints_2d[ankle], arrays["part"][0, 0], rtol=1e-6)
    np.testing.assert_allclose(first.keypoints_3d[ankle], arrays["S"][0, 0], rtol=1e-6)
    assert (first.keypoints_3d[:25] == 0).all()
    assert first.pose is None and first.gender is None
    np.testing.assert_allclose(second.pose, arrays["pose"][1], rtol=1e-6)
    assert second.gender == "neutral"
    assert table.info.keypoints_3d_origin == "root"


def test_absolute_joints_are_recognised_by_their_pelvis(tmp_path):
    arrays = spin_arrays()
    arrays["S"][..., 2] += 4.0
    report = import_spin_npz(save(tmp_path, arrays), tmp_path / "out")
    assert AnnotationTable(report.table).info.keypoints_3d_origin == "camera"


@pytest.mark.parametrize("key", ["part", "openpose", "S", "pose", "shape", "has_smpl"])
def test_a_missing_key_is_absent_not_fatal(tmp_path, key: str):
    arrays = spin_arrays()
    del arrays[key]
    table = AnnotationTable(import_spin_npz(save(tmp_path, arrays), tmp_path / "out").table)
    if key == "S":
        assert not table.has("keypoints_3d").any()
    elif key in ("pose", "shape"):
        assert not table.has("pose").any() and not table.has("betas").any()
    elif key == "has_smpl":
        assert table.has("pose").all()
    else:
        zeros = table[0].keypoints_2d[:25] if key == "openpose" else table[0].keypoints_2d[25:]
        assert (zeros == 0).all()


def test_names_in_bytes_and_genders_in_letters(tmp_path):
    arrays = spin_arrays()
    arrays["imgname"] = arrays["imgname"].astype("S")
    arrays["gender"] = np.array(["m", "f"])
    table = AnnotationTable(import_spin_npz(save(tmp_path, arrays), tmp_path / "out").table)
    assert table.text("gender") == ["male", "female"]
    assert table[1].image_path == "images/1.png"


def test_what_is_written_again_is_what_was_read(tmp_path):
    arrays = spin_arrays(5)
    arrays["maskname"] = arrays["partname"] = np.array([f"m/{i}.png" for i in range(5)])
    table = AnnotationTable(import_spin_npz(save(tmp_path, arrays), tmp_path / "out").table)
    assert export_spin_npz(table, tmp_path / "again.npz") == 5
    with np.load(tmp_path / "again.npz") as again:
        assert set(again.files) == set(arrays)
        for key in ("imgname", "maskname", "partname", "has_smpl"):
            np.testing.assert_array_equal(again[key], arrays[key])
        for key in ("center", "scale"):
            np.testing.assert_allclose(again[key], arrays[key], rtol=1e-15)
        for key in ("part", "openpose", "S"):
            np.testing.assert_allclose(again[key], arrays[key], rtol=1e-6)
        used = arrays["has_smpl"] == 1
        np.testing.assert_allclose(again["pose"][used], arrays["pose"][used], rtol=1e-6)
        np.testing.assert_allclose(again["shape"][used], arrays["shape"][used], rtol=1e-6)


def test_missing_and_broken_images_and_rows_are_listed_and_the_others_imported(tmp_path):
    arrays = spin_arrays(5)
    arrays["pose"][1, 3] = np.nan
    file = save(tmp_path, arrays)
    (tmp_path / "images/2.png").unlink()
    (tmp_path / "images/4.png").write_bytes(b"not a picture")
    report = import_spin_npz(file, tmp_path / "out")
    assert AnnotationTable(report.table).text("image_path") == ["images/0.png", "images/3.png"]
    assert [p.where for p in report.problems] == ["images/1.png", "images/2.png", "images/4.png"]
    assert "pose is nan" in report.problems[0].what
    assert report.problems[1].what == "there is no such image"
    assert "cannot be read" in report.problems[2].what


def test_nothing_importable_is_an_error_that_says_why(tmp_path):
    file = save(tmp_path, spin_arrays())
    with pytest.raises(DatasetError, match=r"no row of .* there is no such image"):
        import_spin_npz(file, tmp_path / "out", images=tmp_path / "elsewhere")
    assert not list((tmp_path / "out").glob("*.parquet"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"center": None}, "has no center"),
        (
            {"part": np.zeros((2, 17, 3))},
            r"part has shape \(2, 17, 3\); expected \(2, 24, 3\).*import_mpi_inf_3dhp",
        ),
        ({"scale": np.zeros(3)}, r"scale has shape \(3,\)"),
    ],
)
def test_files_of_another_form_are_explained(tmp_path, change: dict, message: str):
    arrays = {k: v for k, v in (spin_arrays() | change).items() if v is not None}
    with pytest.raises(DatasetError, match=message):
        import_spin_npz(save(tmp_path, arrays), tmp_path / "out")


def test_a_missing_or_foreign_file_is_explained(tmp_path):
    with pytest.raises(DatasetError, match="there is no such file"):
        import_spin_npz(tmp_path / "x.npz", tmp_path / "out")
    (tmp_path / "x.npz").write_text("hello")
    with pytest.raises(DatasetError, match=r"no \.npz of plain arrays"):
        import_spin_npz(tmp_path / "x.npz", tmp_path / "out")


@pytest.mark.parametrize("points", [LSP14, COCO17, MPII16, H36M17, MPI_INF_3DHP17], ids=lambda s: s.name)
def test_other_sets_keep_sides_and_parts_when_they_become_spins(points):
    rows = TO_SPIN24[points.name]
    assert len(rows) == len(points) == len(set(rows))
    for name, row in zip(points.names, rows, strict=True):
        target = SPIN49.names[25 + row]
        assert target.split("_")[0] == name.split("_")[0] or "left" not in target + name
        limb = [p for p in ("ankle", "knee", "hip", "wrist", "elbow", "shoulder") if p in name]
        assert all(p in target for p in limb)
    mirrored = [rows[i] for i in points.mirror]
    assert [SPIN49.mirror[25 + r] - 25 for r in rows] == mirrored


def test_table_without_boxes_cannot_become_spins(tmp_path):
    info = TableInfo("toy", "train", "/x")
    write_table(tmp_path / "t.parquet", info, [Sample("a.png")])
    with pytest.raises(ValueError, match=r"Row 0 of t.parquet has no box"):
        export_spin_npz(AnnotationTable(tmp_path / "t.parquet"), tmp_path / "x.npz")
