"""The form of openpi's messages: bytes as its own packer makes them, and no bytes that do harm."""

import contextlib

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import wire


def test_arrays_and_numbers_lie_as_openpi_lays_them():
    found = msgpack.unpackb(wire.pack({"a": np.arange(6, dtype="<f4").reshape(2, 3), "b": np.float32(0.5), "c": "x"}))
    assert found["a"] == {
        b"__ndarray__": True,
        b"data": np.arange(6, dtype="<f4").tobytes(),
        b"dtype": "<f4",
        b"shape": [2, 3],
    }
    assert found["b"] == {b"__npgeneric__": True, b"data": 0.5, b"dtype": "<f4"}
    assert found["c"] == "x"


# What openpi-client 0.1.2 packs of {"actions": float32 [[0.5, -1]], "n": int64 3, "prompt": "carry"}.
CAPTURED = bytes.fromhex(
    "83a7616374696f6e7384c40b5f5f6e6461727261795f5fc3c40464617461c4080000003f000080bfc4056474797065a33c6634c405736861"
    "7065920102a16e83c40d5f5f6e7067656e657269635f5fc3c4046461746103c4056474797065a33c6938a670726f6d7074a56361727279"
)


def test_what_openpis_own_packer_made_is_read():
    found = wire.unpack(CAPTURED)
    assert found["actions"].dtype == np.float32 and found["actions"].tolist() == [[0.5, -1.0]]
    assert found["n"] == 3 and found["prompt"] == "carry"
    again = {"actions": np.array([[0.5, -1]], np.float32), "n": np.int64(3), "prompt": "carry"}
    assert wire.pack(again) == CAPTURED


@pytest.mark.parametrize(
    "odd",
    [
        {"a": {b"__ndarray__": True, b"data": b"12", b"dtype": "|O", b"shape": [1]}},
        {"a": {b"__ndarray__": True, b"data": b"12", b"dtype": "<f8", b"shape": [1]}},
        {"a": {b"__ndarray__": True, b"data": b"", b"dtype": "<f8", b"shape": [1 << 40, 0, 3, -1]}},
        {"a": {b"__ndarray__": True, b"data": b"1", b"dtype": "V1", b"shape": [1]}},
        {"a": {b"__npgeneric__": True}},
        [1, 2],
        {1: 2},
        {"a": msgpack.ExtType(1, b"x")},
    ],
)
def test_what_makes_no_sense_is_refused(odd):
    with pytest.raises(wire.WireError):
        wire.unpack(msgpack.packb(odd))


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_else(data):
    with contextlib.suppress(wire.WireError):
        wire.unpack(data)


@given(st.data())
def test_nor_does_a_good_message_that_was_damaged(data):
    good = bytearray(CAPTURED)
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(wire.WireError):
        wire.unpack(bytes(good[: data.draw(st.integers(0, len(good)))]))


def test_what_cannot_be_sent_is_named():
    with pytest.raises(TypeError, match="object"):
        wire.pack({"a": np.array([None])})
