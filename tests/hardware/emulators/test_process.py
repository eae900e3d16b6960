"""An emulator as somebody would start it: its first line, its files, real time, its orders, its end."""

import os
import subprocess
import sys
import time

import pytest

from hardware.arms.calibration import load
from hardware.arms.so101 import SO101
from hardware.emulators.control import Control
from hardware.emulators.wire import Wire


def test_without_the_flag_it_is_a_process_like_others(tmp_path):
    words = [sys.executable, "-m", "hardware.emulators", "so101", "--link", str(tmp_path / "port")]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline().startswith(b"/dev/")
            assert os.sched_getscheduler(process.pid) == os.sched_getscheduler(0)
        finally:
            process.terminate()


def test_what_was_still_to_be_sent_when_it_was_pulled_out_is_due_no_more(tmp_path):
    """Else its loop never waits again, and keeps a core for itself, before all others."""
    wire = Wire(tmp_path / "port", 1e-5)
    wire.say([(1, b"late")], 0.0)
    assert wire.due() == pytest.approx(4e-5)
    wire.hang_up()
    assert wire.due() is None
    wire.plug_in()
    assert wire.due() is None
    wire.hang_up()


def test_it_serves_in_real_time_until_it_is_ended(tmp_path):
    link, saved = tmp_path / "port", tmp_path / "arm.json"
    process = subprocess.Popen(
        [sys.executable, "-m", "hardware.emulators", "so101", "--link", str(link), "--calibration", str(saved),
         "--byte-us", "10"], stdout=subprocess.PIPE, text=True)  # fmt: skip
    try:
        assert process.stdout.readline().strip() == str(link.readlink())
        arm, control = SO101(str(link), load(saved), spare_ms=50.0, budget_s=0.5), Control(f"{link}.control")
        arm.open()
        arm.enable()
        before = control("state")["now"]
        arm.write([0.2] * 6)
        until = time.monotonic() + 20
        while abs(arm.read().position[0] - 0.2) > 0.01 and time.monotonic() < until:
            time.sleep(0.01)
        assert arm.read().position[0] == pytest.approx(0.2, abs=0.01) and control("state")["now"] > before
        for do, given in (("nonsense", {}), ("faults", {"dorp": 1.0}), ("jump", {"id": 99, "ticks": 1}), ("lock", {})):
            with pytest.raises(ValueError, match="cannot be done"):
                control(do, **given)
        control("lock", joint=0)
        arm.write([-0.2] * 6)
        time.sleep(0.3)
        assert arm.read().position[0] == pytest.approx(0.2, abs=0.01)
        arm.close()
        control.close()
    finally:
        process.terminate()
    assert process.wait(10) == 0 and not link.exists() and not link.with_name("port.control").exists()
    process.stdout.close()
