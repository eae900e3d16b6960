import os

import pytest

from hardware.armd import LATCH, NoStart, lock
from hardware.arms.calibration import save
from hardware.check import TOKENS, check
from hardware.config import read
from hardware.latch import Latch, put
from tests.hardware.harness import toml


@pytest.fixture
def config(tmp_path, so101):
    save(tmp_path / "calibration.json", so101.calibration)
    so101.control("pose", position=[0.0] * 6)
    names = [servo.name for servo in so101.calibration.servos]
    arm = f'port = "{so101.port}"\ncalibration = "calibration.json"\nspare_ms = 150.0\nbudget_s = 0.2'
    return read(toml(tmp_path, "so101", names, arm=arm))


def found(config):
    """Without what is true of the machine the tests run on."""
    return [sentence for sentence in check(config) if "SCHED_FIFO" not in sentence]


def test_nothing_is_wrong_and_nothing_was_moved(config, so101):
    so101.control("forget")
    assert found(config) == []
    record = so101.control("record")
    assert record["goals"] == [] and record["powers"] == []


def test_what_the_arm_is(config, so101):
    so101.control("poke", id=3, address=9, data=[0, 0, 255, 15])
    (only,) = found(config)
    assert "elbow_flex" in only and "calibrate" in only
    so101.control("reset", virtual=True)
    so101.control("faults", dead=[4])
    assert "no answer from servo 4" in found(config)[0]
    so101.control("reset", virtual=True)
    so101.control("status", id=2, bits=0x20)
    assert "the arm reports overload shoulder_lift; mend that first" in found(config)
    so101.control("reset", virtual=True)
    so101.control("pose", position=[0.0, 0.0, 1.9, 0.0, 0.0, 0.0])
    assert "move it back by hand" in found(config)[0]
    so101.control("hang_up")
    assert "cannot be opened" in found(config)[0]


def test_what_the_machine_is(config):
    config.journal.mkdir()
    put(config.journal / LATCH, Latch("ESTOP", "somebody pressed it", 0))
    (config.journal / TOKENS).write_text("{}")
    os.chmod(config.journal / TOKENS, 0o644)
    latched, tokens = found(config)
    assert "ESTOP is latched: somebody pressed it" in latched and "chmod 600" in tokens


def test_who_has_the_arm_keeps_it(config):
    held = lock(config.journal)
    assert "was not looked at" in found(config)[0]
    with pytest.raises(NoStart, match="another daemon"):
        lock(config.journal, 0.01)
    held.close()
