import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kouros.body.keypoints import COCO17, MPI_INF_3DHP17
from kouros.data.schema import Sample, TableInfo
from kouros.data.tables import write_table


@pytest.fixture(scope="session")
def portrait() -> Path:
    """Grace Hopper's public-domain portrait, which comes with matplotlib."""
    matplotlib = pytest.importorskip("matplotlib")
    path = Path(matplotlib.__file__).parent / "mpl-data" / "sample_data" / "grace_hopper.jpg"
    if not path.is_file():
        pytest.skip("this matplotlib comes without its sample data")
    return path


def _bomb() -> bytes:
    def chunk(tag: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.fixture
def bad_photos(tmp_path: Path) -> dict[Path, str]:
    """Unusable photos, each with a word of the sentence that answers it."""
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)
    jpeg, dot = io.BytesIO(), io.BytesIO()
    Image.fromarray(noise).save(jpeg, "JPEG")
    Image.new("RGB", (1, 1)).save(dot, "PNG")
    contents = {
        "empty.jpg": (b"", "empty"),
        "text.jpg": (b"Dear Sir or Madam", "not a picture"),
        "cut.jpg": (jpeg.getvalue()[: jpeg.tell() // 2], "cut short"),
        "dot.png": (dot.getvalue(), "too few"),
        "bomb.png": (_bomb(), "megapixels"),
    }
    folder = tmp_path / "bad"
    (folder / "none").mkdir(parents=True)
    for name, (data, _) in contents.items():
        (folder / name).write_bytes(data)
    answers = {folder / name: word for name, (_, word) in contents.items()}
    return answers | {folder / "missing.jpg": "no such file", folder / "none": "no pictures"}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Two people in blank pictures, in space and in the picture."""
    rng = np.random.default_rng(0)
    for number in range(2):
        Image.new("RGB", (64, 48)).save(tmp_path / f"{number}.png")
    info = TableInfo(
        "toy", "x", str(tmp_path), keypoints_2d=COCO17, keypoints_3d=MPI_INF_3DHP17, keypoints_3d_origin="camera"
    )
    samples = [
        Sample(
            f"{number}.png",
            box_center=np.array([32.0, 24.0]),
            box_size=40.0,
            keypoints_2d=np.c_[rng.uniform(10, 40, (17, 2)), np.ones(17)],
            keypoints_3d=np.c_[rng.normal(0, 0.4, (17, 3)) + np.array([0, 0, 4]), np.ones(17)],
        )
        for number in range(2)
    ]
    write_table(tmp_path / "toy.parquet", info, samples)
    return tmp_path / "toy.parquet"
