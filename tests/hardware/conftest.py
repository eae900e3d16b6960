"""Emulated servo arms, each a process of its own for the whole session; a test begins with one that is as new."""

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from hardware.arms.calibration import Calibration
from hardware.emulators.control import Control
from hardware.emulators.presets import calibration


@dataclass
class Emulator:
    port: str  # a link: what it leads to may be pulled out and plugged in again
    control: Control
    calibration: Calibration


def _running(family):
    # A short path: that of a socket has a limit.
    with tempfile.TemporaryDirectory(prefix="arm") as folder:
        link = Path(folder) / family
        process = subprocess.Popen(
            [sys.executable, "-m", "hardware.emulators", family, "--link", str(link), "--first"], stdout=subprocess.PIPE
        )
        try:
            assert process.stdout.readline().startswith(b"/dev/")
            control = Control(f"{link}.control")
            yield Emulator(str(link), control, calibration(family))
            control.close()
        finally:
            process.terminate()
            process.wait(10)
            process.stdout.close()


@pytest.fixture(scope="session")
def so101_process():
    yield from _running("so101")


@pytest.fixture(scope="session")
def dynamixel_process():
    yield from _running("dynamixel")


@pytest.fixture
def so101(so101_process):
    so101_process.control("reset", virtual=True)
    return so101_process


@pytest.fixture
def dynamixel(dynamixel_process):
    dynamixel_process.control("reset", virtual=True)
    return dynamixel_process
