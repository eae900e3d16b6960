import itertools
import string
from dataclasses import fields

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.chunks import Chunk
from hardware.link import (
    MOST_BYTES,
    Ask,
    Beat,
    Frames,
    Leader,
    LinkError,
    Reply,
    Scene,
    Stop,
    pack,
    socket_path,
    unpack,
)

CHUNK = Chunk("a", 1, 2, 3, 4, np.linspace(0, 1, 10).reshape(5, 2))
MESSAGES = [
    CHUNK,
    Ask("arm", "a"),
    Stop(0, "anna", "why", True),
    Beat(),
    Scene("a", {"cup": (1.0, 2.0)}),
    Reply(3, "no"),
]


def same(a, b):
    return type(a) is type(b) and all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))


@given(st.integers(1, 50))
def test_messages_come_as_they_went_however_the_stream_is_cut(size):
    stream = b"".join(pack(message, i) for i, message in enumerate(MESSAGES))
    frames, came = Frames(), []
    for i in range(0, len(stream), size):
        came += frames.feed(stream[i : i + size])
    assert [number for _, number in came] == list(range(len(MESSAGES)))
    assert all(same(a, b) for a, (b, _) in zip(MESSAGES, came, strict=True))


def test_numbers_that_are_none_come_through_for_the_daemon_to_refuse():
    found, _ = unpack(pack(Leader("a", 1, np.array([np.nan, np.inf])))[4:])
    assert np.isnan(found.target[0]) and found.target.dtype == np.float64


@given(st.binary(max_size=200))
def test_a_strangers_bytes_raise_nothing_else(data):
    frames = Frames()
    try:
        list(frames.feed(data))
        unpack(data)
    except LinkError:
        pass


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats() | st.text(string.printable) | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(string.ascii_letters), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(["Chunk", "Ask", "Stop", "Scene", "Take", "Seen", "Leader"]), st.data())
def test_fields_of_another_type_are_refused(kind, data):
    names = [f.name for f in fields({"Chunk": Chunk, "Ask": Ask, "Stop": Stop, "Scene": Scene}.get(kind, Leader))]
    values = {name: data.draw(VALUES) for name in names}
    body = msgpack.packb([kind, 1, values])
    try:
        found, number = unpack(body)
    except LinkError:
        return
    assert number == 1 and all(hasattr(found, name) for name in names)


@pytest.mark.parametrize(
    ("body", "match"),
    [
        (["Shell", 1, {}], "is of 'Shell'; known are"),
        (["Beat", 1, {"x": 1}], "does not know, 'x'"),
        (["Ask", 1, {"what": "arm", "lease": "a", "task": ""}], "lacks, or does not know, 'contract'"),
        (["Ask", 1, {"what": "fly", "lease": "a", "task": "", "contract": ""}], "what of a Ask is 'fly'"),
        (["Stop", 1, {"category": 3, "who": "", "why": "", "done": False}], "category of a Stop is '3'"),
        (["Stop", 1, {"category": True, "who": "", "why": "", "done": False}], "category of a Stop is 'True'"),
        (["Beat", "1", {}], "known are"),
        (["Beat", 1], "is no message"),
        (7, "is no message"),
        (["Leader", 1, {"lease": "a", "seq": 1, "target": [[3], b"abc"]}], "is no vector"),
        (["Leader", 1, {"lease": "a", "seq": 1.5, "target": [[0], b""]}], "seq of a Leader is '1.5'; send int"),
    ],
)
def test_what_says_nothing_sensible_is_named(body, match):
    with pytest.raises(LinkError, match=match):
        unpack(msgpack.packb(body))


def test_what_is_too_long_ends_the_stream():
    with pytest.raises(LinkError, match="are the most"):
        list(Frames().feed((MOST_BYTES + 1).to_bytes(4, "little")))
    with pytest.raises(LinkError, match="is too long"):
        pack(Leader("a", 1, np.zeros(MOST_BYTES // 8 + 1)))


def test_a_bad_frame_does_not_spoil_the_next():
    came = list(Frames().feed(b"\x03\0\0\0abc" + pack(Beat())))
    assert isinstance(came[0], LinkError) and came[1] == (Beat(), 0)


def test_a_socket_has_a_short_name(tmp_path):
    assert socket_path(tmp_path).name == "armd.sock"
    with pytest.raises(LinkError, match="shorter"):
        socket_path(tmp_path / "/".join(itertools.repeat("long", 30)))
