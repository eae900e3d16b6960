"""The emulated servos against ROBOTIS's own SDK, as it is, and their parser against anything."""

import random

import dynamixel_sdk as maker
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.emulators.bench import Bench
from hardware.emulators.dynamixel import Dynamixel, crc, frame, take
from hardware.emulators.physics import Joints
from hardware.emulators.presets import HINGES, calibration

IDS = range(1, 7)
PACKETS = maker.PacketHandler(2.0)


def _bytes(value):
    return list(value.to_bytes(4, "little", signed=True))


@pytest.fixture
def sdk(dynamixel):
    port = maker.PortHandler(dynamixel.port)
    assert port.openPort()
    yield port, PACKETS, dynamixel.control
    port.closePort()


def test_every_instruction_of_the_sdk(sdk):
    port, packets, control = sdk
    assert packets.ping(port, 1) == (1020, 0, 0)
    assert packets.broadcastPing(port) == ({number: [1020, 46] for number in IDS}, 0)
    assert packets.read4ByteTxRx(port, 1, 132) == (2048, 0, 0)
    assert packets.write4ByteTxRx(port, 1, 116, 2100) == (0, 0)
    assert packets.read2ByteTxRx(port, 1, 116) == (2100, 0, 0)
    assert packets.write1ByteTxRx(port, 1, 65, 1) == (0, 0) and packets.read1ByteTxRx(port, 1, 65)[0] == 1
    packets.regWriteTxOnly(port, 2, 116, 4, _bytes(2222))
    assert packets.rxPacket(port, False)[1] == 0 and packets.read4ByteTxRx(port, 2, 116)[0] == 2048
    packets.action(port, 2)
    assert packets.rxPacket(port, False)[1] == 0 and packets.read4ByteTxRx(port, 2, 116)[0] == 2222
    writing = maker.GroupSyncWrite(port, packets, 116, 4)
    for number in IDS:
        assert writing.addParam(number, _bytes(2000 + number))
    assert writing.txPacket() == 0
    reading = maker.GroupSyncRead(port, packets, 116, 4)
    for number in IDS:
        assert reading.addParam(number)
    for read in (reading.txRxPacket, reading.fastSyncRead):
        assert read() == 0
        assert [reading.getData(number, 116, 4) for number in IDS] == [2000 + number for number in IDS]
    bulk = maker.GroupBulkWrite(port, packets)
    assert bulk.addParam(1, 116, 4, _bytes(2500)) and bulk.addParam(2, 65, 1, [1]) and bulk.txPacket() == 0
    several = maker.GroupBulkRead(port, packets)
    assert several.addParam(1, 116, 4) and several.addParam(2, 65, 1)
    for read in (several.txRxPacket, several.fastBulkRead):
        assert read() == 0 and several.getData(1, 116, 4) == 2500 and several.getData(2, 65, 1) == 1
    packets.write1ByteTxOnly(port, 0xFE, 64, 1)
    assert packets.read1ByteTxRx(port, 6, 64)[0] == 1
    assert packets.reboot(port, 6) == (0, 0) and packets.read1ByteTxRx(port, 6, 64)[0] == 0
    assert len(control("record")["powers"]) == 7


def test_errors_as_the_servos_say_them(sdk):
    port, packets, control = sdk
    assert packets.write4ByteTxRx(port, 1, 116, 4000) == (0, 6)
    assert packets.read4ByteTxRx(port, 1, 116)[0] == 2048
    assert packets.write1ByteTxRx(port, 1, 132, 1) == (0, 7)
    packets.write1ByteTxRx(port, 1, 64, 1)
    assert packets.write4ByteTxRx(port, 1, 48, 3000) == (0, 7)  # the EEPROM is locked with power
    control("status", id=1, bits=0x20)
    assert packets.read1ByteTxRx(port, 1, 70) == (0x20, 0, 0x80)
    assert packets.read1ByteTxRx(port, 1, 64)[0] == 0
    assert packets.write1ByteTxRx(port, 1, 64, 1)[0] == 0 and packets.read1ByteTxRx(port, 1, 64)[0] == 0


def test_a_watchdog_that_hears_nothing_stops_the_servo(sdk):
    port, packets, control = sdk
    packets.write1ByteTxRx(port, 1, 64, 1)
    packets.write1ByteTxRx(port, 1, 98, 5)
    packets.write4ByteTxRx(port, 1, 116, 3400)
    control("advance", seconds=0.099)
    moving = control("state")
    control("advance", seconds=1.0)
    stopped = control("state")
    assert moving["velocity"][0] > 1.0 and 0 < stopped["position"][0] < 1.0
    assert packets.read1ByteTxRx(port, 1, 98)[0] == 0xFF
    assert packets.write4ByteTxRx(port, 1, 116, 2100) == (0, 4)
    packets.write1ByteTxRx(port, 1, 98, 0)
    assert packets.write4ByteTxRx(port, 1, 116, 2100) == (0, 0)


@pytest.fixture(scope="module")
def servos():
    return Dynamixel(Bench(Joints(HINGES), calibration("dynamixel").servos))


@given(st.binary(max_size=80))
def test_the_crc_is_the_sdks(data):
    assert crc(data) == PACKETS.updateCRC(0, data, len(data))


@given(st.binary(max_size=80))
def test_the_parser_takes_anything(noise):
    buffer = bytearray(noise)
    while take(buffer) is not None:
        pass
    assert bytes(buffer) == noise[len(noise) - len(buffer) :]


HEADS = st.lists(st.sampled_from([b"\xff", b"\xff\xff\xfd", b"\xfd", b"\x00", b"\x01"]), max_size=12).map(b"".join)


@given(st.integers(0, 252), st.one_of(st.binary(max_size=40), HEADS))
def test_a_frame_is_found_behind_noise_whatever_it_holds(number, data):
    sent = frame(number, 3, data)
    buffer = bytearray(b"\xff\xff\x00" + sent)
    found = take(buffer)
    assert found is not None and found[8:-2] == data and not buffer


def test_the_bare_sdk_loses_a_byte_of_what_was_stuffed():
    """It looks back at bytes that it has moved already; the driver takes the stuffing out by itself."""
    data = b"\xff\xff\xfd\xff\xfd\xfd"
    taken = PACKETS.removeStuffing(list(frame(1, 0x55, b"\x00" + data)))
    assert bytes(taken[9 : taken[5] + (taken[6] << 8) + 5]) == data[:-1]


@given(
    st.integers(0, 254),
    st.sampled_from([1, 2, 3, 4, 5, 6, 8, 0x10, 0x20, 0x82, 0x83, 0x8A, 0x92, 0x93, 0x9A]),
    st.binary(max_size=40),
)
def test_any_instruction_is_answered_or_passed_over(servos, number, instruction, data):
    for _, answer in servos.answer(frame(number, instruction, data)):
        assert answer.startswith(b"\xff\xff\xfd\x00")
    servos.refresh()
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
