"""What the bus takes for an answer, fed byte by byte through the makers' SDKs: only whole frames of those who were
asked, of the length that was asked for."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.arm import NoAnswer
from hardware.arms import dynamixel, so101
from hardware.arms.servo_bus import Bus
from hardware.emulators import dynamixel as x_series
from hardware.emulators import feetech as sts

IDS = [1, 2, 3]


class Fed:
    """The place of a serial port: what is on the line after a question was sent."""

    def __init__(self):
        self.waiting = b""

    def read(self, length):
        taken, self.waiting = self.waiting[:length], self.waiting[length:]
        return taken

    def write(self, sent):
        return len(sent)

    def reset_input_buffer(self):
        pass


def fed_bus(module, names=None):
    bus = Bus(module._sdk(), "line", names or {number: f"joint {number}" for number in IDS}, 1_000_000, 0.02, 0.0)
    port = bus._port = bus._sdk.port("line")
    port.ser, port.spare_ms, port.tx_time_per_byte = Fed(), 0.02, 0.0
    return bus


def said(family, number, data):
    return sts.frame(number, 0, data) if family == "so101" else x_series.frame(number, 0x55, b"\x00" + data)


def frames(family, stream):
    """Of the independent parser: (id, data) of every whole frame at any place of the stream."""
    found, take = set(), (sts.take if family == "so101" else x_series.take)
    for start in range(len(stream)):
        buffer = bytearray(stream[start:])
        if (frame := take(buffer)) is not None:
            found.add((frame[2], frame[5:-1]) if family == "so101" else (frame[4], frame[9:-2]))
    return found


BUSES = {"so101": fed_bus(so101), "dynamixel": fed_bus(dynamixel)}


def _asked(family, stream):
    bus = BUSES[family]
    bus._doubted.clear()
    bus._port.ser.waiting = stream
    try:
        answers = bus.read_all(IDS, 56, 4)
    except NoAnswer as error:
        assert error.joints and set(error.joints) <= {"joint 1", "joint 2", "joint 3"}
        return None
    there = frames(family, stream)
    for number, answer in answers.items():
        assert (number, answer.data) in there and len(answer.data) == 4
    return answers


pieces = st.one_of(
    st.binary(max_size=12),
    st.sampled_from(
        [
            b"\xff\xff",
            b"\xff\xff\xfd\x00",
            b"\xff\xff\xfd\xfd",
            b"\xff\xff\x01\x06\x00",
            b"\xff\xff\xfd\x00\x01\x08\x00U",
        ]
    ),
)


@st.composite
def streams(draw, family):
    whole = b""
    for _ in range(draw(st.integers(0, 5))):
        kind = draw(st.integers(0, 3))
        if kind == 0:
            whole += draw(pieces)
            continue
        answer = said(family, draw(st.integers(0, 5)), draw(st.binary(min_size=4, max_size=4 if kind < 3 else 6)))
        if draw(st.integers(0, 4)) == 0:
            at = draw(st.integers(0, len(answer) - 1))
            answer = answer[:at] + bytes((answer[at] ^ 1 << draw(st.integers(0, 7)),)) + answer[at + 1 :]
        whole += answer[: draw(st.integers(0, len(answer)))] if draw(st.integers(0, 5)) == 0 else answer
    return whole


FAMILIES = pytest.mark.parametrize("family", ["so101", "dynamixel"])


@FAMILIES
@settings(max_examples=300)
@given(st.data())
def test_no_stream_makes_it_raise_or_take_what_is_no_answer(family, data):
    _asked(family, data.draw(streams(family)))


@pytest.mark.slow
@FAMILIES
def test_a_hundred_thousand_frames(family):
    draw = random.Random(1)
    for _ in range(25_000):
        stream = b""
        for _ in range(4):
            answer = said(family, draw.randrange(1, 4), draw.randbytes(4))
            fate = draw.randrange(8)
            if fate == 0:
                answer = answer[: draw.randrange(len(answer))]
            elif fate == 1:
                at = draw.randrange(len(answer))
                answer = answer[:at] + bytes((answer[at] ^ 1 << draw.randrange(8),)) + answer[at + 1 :]
            elif fate == 2:
                answer = draw.randbytes(draw.randrange(20)) + answer
            stream += answer
        _asked(family, stream)


four = st.one_of(st.binary(min_size=4, max_size=4), st.sampled_from([b"\xff\xff\xfd\xff", b"\xff\xff\xfd\xfd"]))


@FAMILIES
@given(st.lists(four, min_size=3, max_size=3))
def test_whole_answers_are_taken_whatever_they_hold_and_in_any_order(family, contents):
    stream = b"".join(said(family, number, data) for number, data in zip(reversed(IDS), contents, strict=True))
    answers = _asked(family, stream)
    assert answers is not None and [answers[number].data for number in reversed(IDS)] == contents


@FAMILIES
def test_an_answer_of_another_length_or_another_servo_is_not_one(family):
    assert _asked(family, b"".join(said(family, number, b"\x01\x02") for number in IDS)) is None
    assert _asked(family, b"".join(said(family, number, b"\x01\x02\x03\x04") for number in (1, 2, 4))) is None


@FAMILIES
def test_noise_without_end_ends(family):
    assert _asked(family, bytes(range(1, 255)) * 4000) is None
    assert len(BUSES[family]._port.ser.waiting) > 900_000


def test_what_a_sum_lets_pass_is_known():
    """Feetech's check is a sum: two bytes that change places pass. Only plausibility can tell, and that is above."""
    crossed = bytearray(sts.frame(1, 0, bytes((0x00, 0x08, 0x00, 0x00))))
    crossed[5], crossed[6] = crossed[6], crossed[5]
    answers = _asked("so101", bytes(crossed) + said("so101", 2, b"1234") + said("so101", 3, b"1234"))
    assert answers is not None and answers[1].data == b"\x08\x00\x00\x00"
