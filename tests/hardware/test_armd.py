import inspect
import subprocess
import sys

from hardware import guard, latch
from hardware.armd import LATCH, PATIENCE
from hardware.arms.calibration import save
from hardware.arms.lerobot import LeRobot
from hardware.arms.make import FAMILIES, TRIES, stopper
from hardware.clock import RealClock
from hardware.config import read
from hardware.emulators.presets import calibration
from tests.hardware.harness import TWIN, toml

FORBIDDEN = ("torch", "fastapi", "uvicorn", "pydantic", "mujoco", "av", "hardware.emulators")
CODE = """
import sys
from pathlib import Path
import hardware.armd, hardware.guard, hardware.check
from hardware.arms.make import arm_of
from hardware.clock import RealClock
from hardware.config import read
arm_of(read(Path(sys.argv[1])), RealClock())
print(*sys.modules)
"""


def test_what_has_the_arm_loads_nothing_that_it_does_not_need(tmp_path):
    save(tmp_path / "c.json", calibration("so101"))
    names = [servo.name for servo in calibration("so101").servos]
    file = toml(tmp_path, "so101", names, arm='port = "/dev/none"\ncalibration = "c.json"')
    done = subprocess.run([sys.executable, "-c", CODE, str(file)], capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert "scservo_sdk" in loaded
    assert [name for name in loaded if name in FORBIDDEN or name.startswith(tuple(f"{f}." for f in FORBIDDEN))] == []


def test_systemd_waits_while_an_arm_is_opened_again():
    """A loop that is held up by a reset is alive: so long as every try may take, of every arm that asks somebody."""
    start = inspect.signature(LeRobot).parameters["start"].default
    assert set(PATIENCE) == set(FAMILIES) - {"twin"}
    assert PATIENCE["lerobot"] > TRIES * start and min(PATIENCE.values()) >= 5


def test_a_guard_that_could_stop_nothing_does_not_say_that_it_did(tmp_path):
    config = read(toml(tmp_path, "twin", TWIN))
    said = guard._stopped(config, stopper(config, RealClock()), "the daemon died")
    assert "nobody but the daemon could stop this arm (twin)" in said and "hardware e-stop" in said
    found = latch.read(config.journal / LATCH)
    assert found is not None and found.mode == "FAULT"
