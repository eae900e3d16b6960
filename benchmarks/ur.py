"""A UR's loop at 500 Hz against the stand-in controller: how even it is, what a cycle costs, how soon it moves.

    python benchmarks/ur.py --seconds 20

Two rows: the SDK called in this process, and `hardware.arms.ur.UR`, with the SDK in a process of its own and every
guard on. The controller takes a share of the same machine, so the ratio counts more than the figure.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from hardware.arm import Array
from hardware.arms.ur import UR
from hardware.emulators.ur_started import Started, started

HZ = 500
COLUMNS = ("period", "lateness", "cycle", "to motion")


@contextmanager
def bare(robot: Started) -> Iterator[tuple[Callable[[Array], None], Callable[[], Array]]]:
    """ur_rtde as its manual shows it."""
    from rtde_control import RTDEControlInterface
    from rtde_receive import RTDEReceiveInterface

    receive, control = RTDEReceiveInterface(robot.address), RTDEControlInterface(robot.address)

    def write(q: Array) -> None:
        control.servoJ(q.tolist(), 0.0, 0.0, 1 / HZ, 0.03, 300.0)

    yield write, lambda: np.array(receive.getActualQ())
    control.stopScript()
    control.disconnect()


@contextmanager
def guarded(robot: Started) -> Iterator[tuple[Callable[[Array], None], Callable[[], Array]]]:
    arm = UR(robot.address, period=1 / HZ, lookahead=0.03, answer=1.0, fresh=1.0, lost=2.0)
    arm.open()
    arm.enable()
    yield arm.write, lambda: arm.read().position
    arm.close()


ROWS = {"ur_rtde, bare": bare, "UR, guarded": guarded}


def periods(write: Callable[[Array], None], read: Callable[[], Array], seconds: float) -> dict[str, Array]:
    """One read and one write each 2 ms. Milliseconds [cycles]."""
    start, begun, cost = read(), [], []
    due = time.monotonic_ns()
    for tick in range(round(seconds * HZ)):
        due = max(due + round(1e9 / HZ), time.monotonic_ns() - round(1e9 / HZ))
        time.sleep(max(0, due - time.monotonic_ns()) / 1e9)
        now = time.monotonic_ns()
        read()
        write(start + 0.2 * np.sin(tick / HZ))
        begun.append((now, due))
        cost.append(time.monotonic_ns() - now)
    at = np.array(begun, dtype=np.float64) / 1e6
    return {"period": np.diff(at[:, 0]), "lateness": at[:, 0] - at[:, 1], "cycle": np.array(cost) / 1e6}


def to_motion(write: Callable[[Array], None], read: Callable[[], Array], times: int) -> Array:
    """From the call with a new target to the first reading that has moved. Milliseconds [times]."""
    took = []
    for turn in range(times):
        rest = read()
        for _ in range(60):  # until it stands
            write(rest)
            time.sleep(1 / HZ)
            rest = rest if np.abs(read() - rest).max() < 1e-9 else read()
        begun = time.monotonic_ns()
        write(rest + 0.05 * (-1) ** turn)
        while np.abs(read() - rest).max() < 1e-6:
            time.sleep(5e-5)
        took.append((time.monotonic_ns() - begun) / 1e6)
    return np.array(took)


def row(name: str, seconds: float, steps: int) -> None:
    with started() as robot, ROWS[name](robot) as (write, read):
        found = periods(write, read, seconds)
        found["to motion"] = to_motion(write, read, steps)
        cells = [" / ".join(f"{x:.3f}" for x in (*np.percentile(found[c], [50, 99]), found[c].max())) for c in COLUMNS]
        print(name.ljust(24) + "".join(cell.rjust(24) for cell in cells), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="A UR's loop at 500 Hz: the bare SDK beside ours.")
    parser.add_argument("--seconds", type=float, default=10.0, help="of the loop, each")
    parser.add_argument("--steps", type=int, default=40, help="how often to wait for motion")
    given = parser.parse_args()
    print("ms: p50 / p99 / max".ljust(24) + "".join(name.rjust(24) for name in COLUMNS), flush=True)
    for name in ROWS:  # a process each: the SDK's way out holds the interpreter for half a second, or ends it
        process = multiprocessing.get_context("spawn").Process(target=row, args=(name, given.seconds, given.steps))
        process.start()
        process.join()


if __name__ == "__main__":
    main()
