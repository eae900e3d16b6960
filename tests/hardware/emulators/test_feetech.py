"""The emulated servos against Feetech's own SDK, as it is, and their parser against anything."""

import random
import time

import pytest
import scservo_sdk as maker
from hypothesis import given
from hypothesis import strategies as st

from hardware.emulators.bench import Bench
from hardware.emulators.feetech import Feetech, frame, signed, take, unsigned
from hardware.emulators.physics import Joints
from hardware.emulators.presets import HINGES, calibration

IDS = range(1, 7)


@pytest.fixture
def sdk(so101):
    port, packets = maker.PortHandler(so101.port), maker.PacketHandler(0)
    assert port.openPort()
    yield port, packets, so101.control
    port.closePort()


def test_every_instruction_of_the_sdk(sdk):
    port, packets, control = sdk
    assert packets.ping(port, 1) == (777, 0, 0)
    assert packets.ping(port, 9)[1] == maker.COMM_RX_TIMEOUT
    assert packets.read2ByteTxRx(port, 1, 56) == (2048, 0, 0)
    assert packets.write2ByteTxRx(port, 1, 42, 2100) == (0, 0)
    assert packets.read1ByteTxRx(port, 1, 42)[0] == 2100 & 0xFF
    assert packets.read4ByteTxRx(port, 1, 9) == (700 | 3400 << 16, 0, 0)
    packets.regWriteTxOnly(port, 2, 42, 2, [0x34, 0x08])
    assert packets.rxPacket(port)[1] == 0
    assert packets.read2ByteTxRx(port, 2, 42)[0] == 0
    packets.action(port, 2)
    assert packets.read2ByteTxRx(port, 2, 42)[0] == 0x834
    writing = maker.GroupSyncWrite(port, packets, 42, 2)
    for number in IDS:
        assert writing.addParam(number, [number, 8])
    assert writing.txPacket() == 0
    reading = maker.GroupSyncRead(port, packets, 42, 2)
    for number in IDS:
        assert reading.addParam(number)
    assert reading.txRxPacket() == 0
    assert [reading.getData(number, 42, 2) for number in IDS] == [2048 + number for number in IDS]
    packets.write1ByteTxOnly(port, 0xFE, 40, 1)
    assert packets.read1ByteTxRx(port, 6, 40)[0] == 1
    told = control("record")
    assert told["counts"] == dict.fromkeys("3456", 1) | {"1": 2, "2": 2}
    assert not any(powered for _, _, _, powered in told["goals"]) and len(told["powers"]) == 6


def test_goals_move_it_in_virtual_time_and_limits_hold_without_a_word(sdk):
    port, packets, control = sdk
    packets.write2ByteTxRx(port, 1, 42, 60000 & 0x7FFF)
    packets.write1ByteTxRx(port, 1, 40, 1)
    assert packets.read2ByteTxRx(port, 1, 56)[0] == 2048  # no time has passed
    control("advance", seconds=2.0)
    assert packets.read2ByteTxRx(port, 1, 56)[0] == pytest.approx(3400, abs=3)
    assert packets.read2ByteTxRx(port, 1, 42)[0] == 60000 & 0x7FFF


def test_the_eeprom_keeps_what_was_written_unlocked_only(sdk):
    port, packets, control = sdk
    packets.write2ByteTxRx(port, 3, 9, 800)
    control("reboot", id=3)
    assert packets.read2ByteTxRx(port, 3, 9)[0] == 700
    packets.write1ByteTxRx(port, 3, 55, 0)
    packets.write2ByteTxRx(port, 3, 9, 800)
    control("reboot", id=3)
    assert packets.read2ByteTxRx(port, 3, 9)[0] == 800 and packets.read1ByteTxRx(port, 3, 55)[0] == 1


def test_an_offset_moves_the_count(sdk):
    port, packets, _ = sdk
    packets.write2ByteTxRx(port, 4, 31, 100 | 1 << 11)  # -100: present is actual less offset
    assert packets.read2ByteTxRx(port, 4, 56)[0] == 2148


def test_the_bare_sdk_takes_a_late_answer_for_the_next_one(sdk):
    """The defect that the driver guards against: model number 777 as a position, with no error."""
    port, packets, control = sdk
    control("faults", late_ms=60)
    assert packets.read2ByteTxRx(port, 1, 3)[1] == maker.COMM_RX_TIMEOUT
    time.sleep(0.2)
    assert packets.read2ByteTxRx(port, 1, 56) == (777, 0, 0)
    assert packets.read2ByteTxRx(port, 1, 3) == (2048, 0, 0)  # and from then on one behind, for good


def test_the_bare_sdk_minds_the_wall_clock(sdk, monkeypatch):
    port, packets, control = sdk
    control("faults", late_ms=15)
    assert packets.read2ByteTxRx(port, 1, 56) == (2048, 0, 0)  # it waits for 34
    now = iter(range(0, 10**9, 10))
    monkeypatch.setattr(time, "time", lambda: float(next(now)))
    control("faults", late_ms=15)
    assert packets.read2ByteTxRx(port, 1, 56)[1] == maker.COMM_RX_TIMEOUT


@pytest.fixture(scope="module")
def servos():
    return Feetech(Bench(Joints(HINGES), calibration("so101").servos))


@given(st.binary(max_size=60))
def test_the_parser_takes_anything(noise):
    buffer = bytearray(noise)
    while (found := take(buffer)) is not None:
        assert ~sum(found[2:-1]) & 0xFF == found[-1] and len(found) == found[3] + 4
    assert bytes(buffer) == noise[len(noise) - len(buffer) :]


@given(st.integers(0, 253), st.integers(0, 255), st.binary(max_size=40), st.binary(max_size=20))
def test_a_frame_is_found_behind_noise(number, instruction, data, noise):
    sent = frame(number, instruction, data)
    buffer = bytearray(noise.replace(b"\xff", b"\x00") + sent)
    assert take(buffer) == sent and not buffer


@given(st.integers(0, 254), st.sampled_from([1, 2, 3, 4, 5, 6, 8, 0x82, 0x83, 0x55]), st.binary(max_size=40))
def test_any_instruction_is_answered_or_passed_over(servos, number, instruction, data):
    for _, answer in servos.answer(frame(number, instruction, data)):
        assert take(bytearray(answer)) == answer or instruction in (2, 0x82)  # a read beyond one frame's length
    servos.reset()


@pytest.mark.slow
def test_a_hundred_thousand_frames_in_a_damaged_stream():
    draw, buffer, whole = random.Random(2), bytearray(), 0
    for _ in range(100_000):
        sent = bytearray(frame(draw.randrange(254), 3, draw.randbytes(draw.randrange(20))))
        fate = draw.randrange(10)
        if fate == 0:
            sent = sent[: draw.randrange(len(sent))]
        elif fate == 1:
            sent[draw.randrange(len(sent))] ^= 1 << draw.randrange(8)
        elif fate == 2:
            sent[:0] = draw.randbytes(draw.randrange(30))
        buffer += sent
        while take(buffer) is not None:
            whole += 1
    assert whole > 60_000 and len(buffer) < 2048


@given(st.integers(-2047, 2047))
def test_sign_and_magnitude_come_back(value):
    assert signed(unsigned(value, 11), 11) == value
