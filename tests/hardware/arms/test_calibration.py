import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.arms.calibration import Calibration, Servo, load, recorded, save

SERVOS = (Servo("pan", 1, 777), Servo("lift", 2, 777, zero=1900, sign=-1, low=700, high=3400, offset=-12))


@given(st.integers(0, 4095), st.integers(0, 4095), st.sampled_from([-1, 1]))
def test_ticks_come_back_from_angles(ticks, zero, sign):
    servo = Servo("pan", 1, 777, zero=zero, sign=sign)
    assert servo.ticks(servo.angle(ticks)) == ticks
    assert servo.angle(zero) == 0 and servo.angle(zero + 1024) == pytest.approx(sign * np.pi / 2)


def test_limits_rise_whatever_the_sign():
    lower, upper = SERVOS[1].limits
    assert lower == pytest.approx((1900 - 3400) * 2 * np.pi / 4096) and upper == pytest.approx(1200 * 2 * np.pi / 4096)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"id": 253}, "0 to 252"),
        ({"sign": 0}, "give 1 or -1"),
        ({"zero": 1.5}, "whole number"),
        ({"low": True}, "whole number"),
        ({"low": 3400, "high": 700}, "rising"),
        ({"high": 9000}, "one turn"),
        ({"name": ""}, "name"),
        ({"turn": 0}, "ticks per turn"),
    ],
)
def test_nonsense_is_refused(change, said):
    with pytest.raises(ValueError, match=said):
        dataclasses.replace(SERVOS[0], **change)


def test_ids_and_names_are_each_ones_own():
    with pytest.raises(ValueError, match="ids"):
        Calibration("a", (SERVOS[0], dataclasses.replace(SERVOS[1], id=1)))


def test_a_file_comes_back_and_one_changed_by_hand_does_not(tmp_path):
    path, calibration = tmp_path / "arm.json", Calibration("A50285", SERVOS)
    save(path, calibration)
    assert load(path) == calibration
    changed = json.loads(path.read_text())
    changed["servos"][0]["zero"] = 2049
    path.write_text(json.dumps(changed))
    with pytest.raises(ValueError, match="not what was saved"):
        load(path)
    for broken in ("", "[]", "{}", '{"sha256": 1, "serial": "a", "servos": [{"id": 1}]}'):
        path.write_text(broken)
        with pytest.raises(ValueError, match=r"arm\.json is not"):
            load(path)
    with pytest.raises(ValueError, match="is not a calibration"):
        load(tmp_path / "none.json")


def test_a_calibration_is_recorded_from_an_arm_moved_by_hand():
    swing = np.linspace(0, 2 * np.pi, 200)
    readings = np.stack([2000 + 900 * np.sin(swing), 1800 + 700 * np.cos(swing)], axis=1).round().astype(int)
    found = recorded(readings, np.array([2010, 1790]), SERVOS, "A50285", margin=20)
    assert [(s.zero, s.low, s.high, s.sign) for s in found.servos] == [(2010, 1120, 2880, 1), (1790, 1120, 2480, -1)]
    assert found.servos[1].offset == -12


def test_what_was_not_moved_or_crosses_the_seam_is_refused():
    swing = np.linspace(0, 2 * np.pi, 200)
    whole = (2000 + 900 * np.sin(swing)).round().astype(int)
    still = np.full(200, 1900)
    over = (4000 + 900 * np.sin(swing)).round().astype(int) % 4096
    with pytest.raises(ValueError, match="lift moved by 0 ticks"):
        recorded(np.stack([whole, still], 1), np.array([2000, 1900]), SERVOS, "a")
    with pytest.raises(ValueError, match=r"pan leapt .* seam"):
        recorded(np.stack([over, whole], 1), np.array([4000, 1900]), SERVOS, "a")
    with pytest.raises(ValueError, match="outside its range"):
        recorded(np.stack([whole, whole], 1), np.array([200, 1900]), SERVOS, "a")
    with pytest.raises(ValueError, match="whole numbers"):
        recorded(np.stack([whole, whole], 1) * 1.0, np.array([2000, 1900]), SERVOS, "a")
