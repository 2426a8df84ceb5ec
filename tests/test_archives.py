"""Zip, npz and npy files from strangers: damaged and hostile ones end in one error, good ones come out as numpy's."""

import contextlib
import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from kouros.archives import ArchiveError, map_npy, read_all_npz, read_members, read_npy, read_npz
from kouros.files import npz_bytes

FLOATS = {"a": ((None, 3), "float32")}


def npy(header: str, data: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    """A ``.npy`` file with any header."""
    length = struct.pack("<H" if version[0] == 1 else "<I", len(header))
    return b"\x93NUMPY" + version + length + header.encode("latin1") + data


def zipped(method: int = zipfile.ZIP_DEFLATED, **members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return buffer.getvalue()


HEADERS = {
    "no magic": b"hello",
    "nothing": b"",
    "too few numbers": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)}", b"\0" * 20),
    "too many numbers": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)}", b"\0" * 28),
    "more than there is memory": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (999999999999, 3)}"),
    "a size that overflows": npy(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({2**62}, 4)}}"),
    "a negative size": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 3)}", b"\0" * 12),
    "a size that is a truth value": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (True, 3)}", b"\0" * 12),
    "no closing bracket": npy("{'descr': '<f4', 'fortran_order': False, 'shape': ("),
    "brackets without end": npy("(" * 9000),
    "no dictionary": npy("[1, 2]"),
    "unknown type": npy("{'descr': 'banana', 'fortran_order': False, 'shape': (1, 3)}"),
    "records": npy("{'descr': [('x', '<f4')], 'fortran_order': False, 'shape': (1, 3)}", b"\0" * 12),
    "dates": npy("{'descr': '<M8[s]', 'fortran_order': False, 'shape': (1, 3)}", b"\0" * 24),
    "objects": npy("{'descr': '|O', 'fortran_order': False, 'shape': (1, 3)}", b"\x80\x02N."),
    "text of no length": npy("{'descr': '<U0', 'fortran_order': False, 'shape': (999999999, 3)}"),
    "another version": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3)}", b"\0" * 12, b"\x07\x00"),
}


@pytest.mark.parametrize("why", HEADERS)
def test_a_damaged_array_is_refused(why: str, tmp_path: Path):
    (tmp_path / "a.npy").write_bytes(HEADERS[why])
    for read in (read_npy, map_npy):
        with pytest.raises(ArchiveError):
            read(tmp_path / "a.npy")
    with pytest.raises(ArchiveError):
        read_npz(io.BytesIO(zipped(a=HEADERS[why])), FLOATS)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_packings_are_refused(method: int):
    with pytest.raises(ArchiveError, match="deflate"):
        read_members(io.BytesIO(zipped(method, a=b"\0" * 10_000_000)))


def test_what_unpacks_to_more_than_the_budget_is_refused_whatever_its_directory_says():
    content = zipped(a=b"\0" * 50_000_000)
    with pytest.raises(ArchiveError, match="more than 9 MiB"):
        read_members(io.BytesIO(content), max_bytes=9 * 2**20 + 5)
    lying = content.replace(struct.pack("<I", 50_000_000), struct.pack("<I", 100))
    with pytest.raises(ArchiveError):
        read_members(io.BytesIO(lying), max_bytes=9 * 2**20)


def test_every_cut_and_many_flipped_bits_end_in_one_error():
    good = bytes(npz_bytes({"a": np.ones((4, 3), np.float32), "b": np.array("text")}))
    wanted = FLOATS | {"b": ((), "text")}
    for end in range(0, len(good), 7):
        with pytest.raises(ArchiveError):
            read_npz(io.BytesIO(good[:end]), wanted)
    for place in range(len(good)):
        damaged = bytearray(good)
        damaged[place] ^= 0x55
        with contextlib.suppress(ArchiveError):
            np.testing.assert_array_equal(read_npz(io.BytesIO(damaged), wanted)["a"], 1)


@pytest.mark.parametrize(
    ("array", "wanted"),
    [
        (np.full((2, 3), 1e39), ((None, 3), "float32")),
        (np.full((2, 3), np.nan), ((None, 3), "float32")),
        (np.full((2, 3), 1j), ((None, 3), "float32")),
        (np.array([["1", "2", "3"]]), ((None, 3), "float32")),
        (np.full((2, 3), 2**40), ((None, 3), "int32")),
        (np.full((2, 3), 2.5), ((None, 3), "int64")),
        (np.ones((2, 4)), ((None, 3), "float32")),
        (np.ones(3), ((None, 3), "float32")),
        (np.ones((2, 3)), ((None, 3), "text")),
        (np.ones((2, 3)), ((None, 3), "bool")),
    ],
)
def test_an_array_that_is_not_the_wanted_one_is_refused(array: np.ndarray, wanted):
    with pytest.raises(ArchiveError, match=r"^a "):
        read_npz(io.BytesIO(npz_bytes({"a": array})), {"a": wanted})


def test_a_missing_array_is_named_and_an_optional_one_may_be_missing():
    content = npz_bytes({"b": np.ones(2)})
    with pytest.raises(ArchiveError, match="it has no a"):
        read_npz(io.BytesIO(content), FLOATS)
    assert read_npz(io.BytesIO(content), {"b": ((2,), "float64")}, optional=FLOATS).keys() == {"b"}


def test_good_arrays_are_numpy_s_and_one_s_own(tmp_path: Path):
    arrays = {
        "a": np.asfortranarray(np.arange(6, dtype=">f4").reshape(2, 3)), "text": np.array(["x", "yz"]),
        "flag": np.array(True),
        "none": np.zeros((0, 3)), "bytes": np.array([b"q"]), "half": np.ones(2, np.float16),
    }  # fmt: skip
    content = npz_bytes(arrays)
    read = read_all_npz(io.BytesIO(content))
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array)
        assert read[name].dtype == array.dtype and read[name].flags.writeable
    assert read_npz(io.BytesIO(content), {"half": ((2,), "float32")})["half"].dtype == np.float32
    np.save(tmp_path / "a.npy", arrays["a"])
    for made in (read_npy(tmp_path / "a.npy"), map_npy(tmp_path / "a.npy")):
        np.testing.assert_array_equal(made, arrays["a"])


def test_arrays_of_objects_are_left_out_or_read_as_told():
    content = npz_bytes({"a": np.ones(2), "o": np.array([{}, None], dtype=object)})
    assert read_all_npz(io.BytesIO(content)).keys() == {"a"}
    assert read_all_npz(io.BytesIO(content), read_objects=lambda _: "read")["o"] == "read"
