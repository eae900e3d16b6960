"""`python -m hardware.emulators so101 --link PATH`: prints the port as its first line, and serves until it is ended."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from hardware import priority
from hardware.arms.calibration import save
from hardware.emulators import presets
from hardware.emulators.bench import Bench
from hardware.emulators.bus import Bus
from hardware.emulators.dynamixel import Dynamixel
from hardware.emulators.feetech import Feetech
from hardware.emulators.physics import Joints
from hardware.emulators.wire import Wire


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m hardware.emulators", description=__doc__)
    parser.add_argument("family", choices=["so101", "dynamixel"])
    parser.add_argument("--link", type=Path, required=True, help="a name for the port, which is a link to it")
    parser.add_argument("--control", type=Path, help="the socket for orders and faults (default: the link's .control)")
    parser.add_argument("--calibration", type=Path, help="where to write the calibration of the emulated arm")
    parser.add_argument("--shape", choices=["six", "cup"], default="six", help="six joints, or the main job's arm")
    parser.add_argument("--byte-us", type=float, default=0.0, help="microseconds a byte takes; 10 is one megabaud")
    parser.add_argument("--virtual", action="store_true", help="time passes by the order 'advance' only")
    parser.add_argument("--first", action="store_true", help="come before other processes, where that is permitted")
    args = parser.parse_args(arguments)
    if args.first:
        priority.first(priority.EMULATED)
    found = presets.calibration(args.family, args.shape)
    if args.calibration:
        save(args.calibration, found)
    bench = Bench(Joints(presets.hinges(args.shape)), found.servos)
    servos = Feetech(bench) if args.family == "so101" else Dynamixel(bench)
    wire = Wire(args.link, args.byte_us * 1e-6)
    control = args.control or args.link.with_name(args.link.name + ".control")
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    try:
        bus = Bus(servos, bench, wire, control, args.virtual)
        print(wire.port, flush=True)
        bus.serve()
    except KeyboardInterrupt:
        pass
    finally:
        wire.hang_up()
        control.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
