"""Cycles of an emulated servo bus: one reading and one goal of six servos, as the daemon makes them.

.venv/bin/python benchmarks/bus.py [--cycles 2000]

The emulator is a process of its own. With byte time its line is as slow as a megabaud; the rest is this machine, the
maker's SDK and the driver. Every 50 ms a reading also asks for power, errors and temperature.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from hardware.arm import NoAnswer
from hardware.arms.calibration import load
from hardware.arms.dynamixel import Dynamixel
from hardware.arms.so101 import SO101

KINDS = {"so101": SO101, "dynamixel": Dynamixel}


def measure(family: str, byte_us: float, cycles: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Seconds of cycles and of stops (2, holding), and how many cycles failed."""
    with tempfile.TemporaryDirectory(prefix="bus") as folder:
        link = Path(folder) / "port"
        saved = Path(folder) / "calibration.json"
        command = [sys.executable, "-m", "hardware.emulators", family, "--link", str(link)]
        process = subprocess.Popen(
            [*command, "--calibration", str(saved), "--byte-us", str(byte_us)], stdout=subprocess.PIPE
        )
        try:
            assert process.stdout is not None and process.stdout.readline()
            arm = KINDS[family](str(link), load(saved))
            arm.open()
            arm.enable()
            goal = arm.read().position
            seconds, failed = [], 0
            for _ in range(cycles):
                begun = time.perf_counter()
                try:
                    arm.read()
                    arm.write(goal)
                except NoAnswer:
                    failed += 1
                seconds.append(time.perf_counter() - begun)
            stops = [arm.stop(2).seconds for _ in range(100)]
            arm.close()
            return np.array(seconds), np.array(stops), failed
        finally:
            process.terminate()
            process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cycles", type=int, default=2000)
    args = parser.parse_args()
    print(
        f"{'bus':10} {'us/byte':>7} {'p50 ms':>8} {'p99 ms':>8} {'max ms':>8} {'a second':>9} {'failed':>7}  stop 2 p50"
    )
    for family in KINDS:
        for byte_us in (0.0, 10.0):
            cycle, stop, failed = measure(family, byte_us, args.cycles)
            p50, p99 = np.percentile(cycle, [50, 99]) * 1e3
            print(
                f"{family:10} {byte_us:7.0f} {p50:8.3f} {p99:8.3f} {cycle.max() * 1e3:8.2f} {1 / cycle.mean():9.0f} "
                f"{failed:7d} {np.median(stop) * 1e3:8.2f} ms"
            )


if __name__ == "__main__":
    main()
