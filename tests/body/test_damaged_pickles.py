"""Pickles that would crash, hang or flood Python's own unpickler end in an error, at once."""

import io
import pickle
import pickletools
import struct
import time

import numpy as np
import pytest

from kouros.body.unpickling import as_array, as_plain, read_pickle


def thrice(count: int, first: bytes = b"N") -> bytes:
    """A tuple that holds three times a tuple that holds three times ...; written in a few bytes each."""
    made = first + b"q\x00"
    for k in range(count):
        made += b"h" + bytes([k]) + b"h" + bytes([k]) + b"\x87q" + bytes([k + 1])
        made += b"h" + bytes([k + 1]) if k + 1 < count else b""
    return made


HOSTILE = {
    "a deep tuple as a key": b"\x80\x02})" + b"\x85" * 20_000 + b"Ns.",
    "a deep tuple in a set": b"\x80\x04\x8f()" + b"\x85" * 20_000 + b"\x90.",
    "a deep tuple in a frozen set": b"\x80\x04()" + b"\x85" * 20_000 + b"\x91.",
    "a deep tuple as a key of an ordered dictionary": (
        b"\x80\x02ccollections\nOrderedDict\n](]()" + b"\x85" * 20_000 + b"Neee\x85R."
    ),
    "a shared tuple as a key": b"\x80\x02}" + thrice(60) + b"Ns.",
    "copies of one text": b"\x80\x02]q\x01X" + struct.pack("<I", 2**20) + b"a" * 2**20 + b"q\x02X\x06\x00\x00\x00latin1"
    + b"q\x03" + b"0" * 2 + b"(" + b"c_codecs\nencode\nh\x02h\x03\x86R" * 5000 + b"l.",
    "a byte array of a petabyte": b"\x80\x05\x96" + struct.pack("<Q", 2**50) + b".",
    "a text of four gigabytes": b"\x80\x02X\xff\xff\xff\xff.",
    "an unknown operation": b"\x80\x02\xff.",
    "nothing": b"",
    "a change of a class": b"\x80\x02cnumpy\nndarray\n}U\x01aNsb.",
    "a change of a function": b"\x80\x02ccollections\nOrderedDict\n}b.",
    "a dictionary copied again and again": (
        b"\x80\x02cchumpy.ch\nCh\nq\x00)\x81q\x01}q\x02("
        + b"".join(b"M" + struct.pack("<H", k) + b"N" for k in range(6000))
        + b"u0(" + b"h\x00)\x81h\x02b" * 2000 + b"l."
    ),
}  # fmt: skip


@pytest.mark.parametrize("why", HOSTILE)
def test_a_hostile_pickle_is_refused(why: str, monkeypatch: pytest.MonkeyPatch):
    if why.endswith(("again", "text")):
        monkeypatch.setattr("kouros.pickles.MAX_BYTES", 2**25)  # the same rule, sooner
    start = time.perf_counter()
    with pytest.raises(pickle.UnpicklingError, match=r"^it"):
        read_pickle(io.BytesIO(HOSTILE[why]))
    assert time.perf_counter() - start < 10


def test_a_memo_s_index_takes_no_memory():
    assert read_pickle(io.BytesIO(b"\x80\x02Nr\x00\x00\x00\x10.")) is None


@pytest.mark.parametrize("convert", [as_plain, as_array])
def test_lists_that_unfold_without_end_are_refused(convert):
    shared: list = [1.0]
    for _ in range(19):
        shared = [shared, shared, shared]
    deep: list = [1.0]
    for _ in range(100):
        deep = [deep]
    itself: list = []
    itself.append(itself)
    for value in (shared, deep, itself):
        with pytest.raises(ValueError, match=r"^it"):
            convert(read_pickle(io.BytesIO(pickle.dumps(value))))


@pytest.mark.parametrize("protocol", range(6))
def test_what_data_sets_hold_comes_out(protocol: int):
    value = {"a": [1, 2.5, None], ("x", 3): "text", 4: {"deep": (1, (2, 3))}, "t": True}
    arrays = {"poses": np.arange(6.0).reshape(2, 3), "names": np.array(["a", "b"]), "n": np.float32(2)}
    read = as_plain(read_pickle(io.BytesIO(pickletools.optimize(pickle.dumps(value | arrays, protocol)))))
    assert {k: read[k] for k in value} == value
    for key, array in arrays.items():
        np.testing.assert_array_equal(read[key], array)


def test_a_list_in_many_places_is_read_once():
    shared = [1.0, 2.0]
    first, second = as_plain(read_pickle(io.BytesIO(pickle.dumps({"a": shared, "b": shared})))).values()
    assert first is second and first == shared
