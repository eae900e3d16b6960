"""How punctual the daemon is, and how soon an e-stop, a chunk and a death reach the arm.

.venv/bin/python benchmarks/armd.py [--seconds 8] [--times 15] [--load]

The daemon and its guard run as they do for a real arm, on an emulated SO-101, all in processes of their own. Lateness
is that of the loop's own ticks while the arm holds; a tick that waited for a servo makes the next one late. The other
times are from before the call here to the emulator's own record. --load: torch on all cores beside it. The emulator
comes before everything else where that is permitted: real servos do not wait for a core.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from embodied.contract import Contract, Joint, Source
from hardware.chunks import Chunk
from hardware.config import read
from hardware.doors import Caller
from hardware.emulators.control import Control
from hardware.emulators.presets import NAMES
from hardware.link import BEAT_SECONDS, Ask, Beat, Estop, Hello, Message, Reply, Snapshot, Take, socket_path

LOAD = "import torch\ntorch.set_num_threads({})\na = torch.randn(700, 700)\nwhile True: a = (a @ a).tanh()"


class Bench:
    """One emulated arm with its file; the daemon and the guard on it are started and killed as wanted."""

    def __init__(self, folder: Path, rate: float, fifo: bool) -> None:
        self.folder, self.fifo = folder, fifo
        link = folder / "port"
        words = ["--link", str(link), "--calibration", str(folder / "calibration.json")]
        self.processes = {"emulator": _started("hardware.emulators", "so101", *words)}
        with contextlib.suppress(PermissionError):
            os.sched_setscheduler(self.processes["emulator"].pid, os.SCHED_FIFO, os.sched_param(60))
        self.control = Control(f"{link}.control")
        joint = "lower = -1.9\nupper = 1.9\nvelocity = 2.0\nacceleration = 20.0\ntracking = 0.5\nstart = 0.1\n"
        self.file = folder / "robot.toml"
        self.file.write_text(
            f'rate = {rate}\njournal = "run"\ntracking_seconds = 1.0\n[arm]\nfamily = "so101"\nport = "{link}"\n'
            f'calibration = "calibration.json"\nspare_ms = 8.0\nbudget_s = {0.9 / rate}\n'
            + "".join(f'[[joint]]\nname = "{name}"\n{joint}' for name in NAMES)
        )
        self.lease, self.seqs = "", itertools.count()

    def begin(self) -> None:
        self.processes["armd"] = _started("hardware.armd", str(self.file), *([] if self.fifo else ["--no-fifo"]))
        self.processes["guard"] = _started("hardware.guard", str(self.file))
        self.caller = Caller(socket_path(self.folder / "run"), 30.0)
        hello = self.caller.hear()
        assert isinstance(hello, Hello)
        self.hello = hello
        threading.Thread(target=self._beat, args=(self.caller,), daemon=True).start()

    def _beat(self, caller: Caller) -> None:
        try:
            while True:
                caller.say(Beat())
                time.sleep(BEAT_SECONDS)
        except OSError:
            return

    def ask(self, message: Message) -> Reply:
        return self.caller.ask(message)

    def snapshot(self, so: Callable[[Snapshot], bool] = lambda snapshot: True) -> Snapshot:
        while True:
            told = self.caller.hear()
            if isinstance(told, Snapshot) and so(told):
                return told

    def hold(self) -> None:
        self.lease = self.ask(Take("bench", 60.0)).lease or self.lease
        for what in ("reset", "arm"):
            for _ in range(200):
                self.control("pose", position=[0.0] * 6)  # without power it falls
                refused = self.ask(Ask(what, self.lease)).refused
                if not refused or "reset is for" in refused:
                    break
                time.sleep(0.02)
            else:
                raise SystemExit(refused)

    def offset(self) -> float:
        """The emulator's time, seen from here: what to add to it."""
        return float(min(time.monotonic() - self.control("state")["now"] for _ in range(20)))

    def end(self, *names: str) -> None:
        for name in names:
            if (process := self.processes.pop(name, None)) is not None:
                process.kill()
                process.wait()


def _started(*words: str) -> subprocess.Popen[str]:
    for _ in range(5):  # on a busy machine an emulated servo may be too slow to be found
        process = subprocess.Popen([sys.executable, "-m", *words], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        if "guard" in words[0] or process.stdout.readline():
            return process
    raise SystemExit(f"{' '.join(words)} did not start; what it said is above")


@contextlib.contextmanager
def bench(rate: float, fifo: bool) -> Iterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="armd") as folder:
        made = Bench(Path(folder), rate, fifo)
        try:
            made.begin()
            yield made
        finally:
            made.end("guard", "armd", "emulator")


def lateness(on: Bench, seconds: float) -> tuple[np.ndarray[Any, Any], int, int]:
    """Microseconds of each tick; ticks later than a period; readings that were missed."""
    on.hold()
    until = time.monotonic() + seconds
    late = []
    first = on.snapshot()
    while time.monotonic() < until:
        last = on.snapshot()
        late.append(last.lateness_ns / 1e3)
    return np.array(late), last.overruns - first.overruns, last.misses - first.misses


def estops(on: Bench, times: int) -> list[float]:
    """Milliseconds to the last servo's power."""
    found = []
    for _ in range(times):
        on.hold()
        on.control("forget")
        offset, begun = on.offset(), time.monotonic()
        on.ask(Estop("bench"))
        found.append((max(at for at, _, power in on.control("record")["powers"] if not power) + offset - begun) * 1e3)
    return found


def _contract(file: Path) -> str:
    """Of a policy that looks at the joints alone."""
    limits = read(file).limits
    ranges = zip(limits.names, limits.lower.tolist(), limits.upper.tolist(), strict=True)
    joints, n = tuple(Joint(*joint) for joint in ranges), len(limits.names)
    sees = (Source("joint angles", n, "rad", "joint"),)
    made = Contract("bench", joints, 20.0, "joint_position", sees, (0.0,) * n, (1.0,) * n, (), "a benchmark")
    return json.dumps(asdict(made))


def chunks(on: Bench, times: int) -> list[float]:
    """Milliseconds from sending a policy's first chunk to the first goal that is another."""
    found = []
    for _ in range(times):
        on.hold()
        assert not (refused := on.ask(Ask("start", on.lease, "bench", _contract(on.file))).refused), refused
        last = on.snapshot(lambda snapshot: snapshot.mode == "RUNNING" and snapshot.seq % 10 == 0)
        on.control("forget")
        offset = on.offset()
        since = time.monotonic_ns()
        while last.time_ns < since:
            last = on.snapshot()
        actions = last.command + 0.02 * np.arange(25)[:, None] * np.ones(6)
        chunk = Chunk(on.lease, next(on.seqs), last.seq, last.time_ns, 20_000_000, actions)
        begun = time.monotonic()
        assert not (refused := on.ask(chunk).refused), refused
        time.sleep(0.15)
        goals = [goal for goal in on.control("record")["goals"] if goal[1] == 1]
        still = goals[0][2]
        found.append((next(at for at, _, ticks, _ in goals if ticks != still) + offset - begun) * 1e3)
        on.ask(Estop("bench"))
    return found


def deaths(on: Bench, times: int) -> list[float]:
    """Milliseconds from the daemon's kill -9 to the guard's last goal, which is where the arm stood."""
    found = []
    for _ in range(times):
        on.hold()
        offset, begun = on.offset(), time.monotonic()
        on.processes["armd"].send_signal(signal.SIGKILL)
        on.processes["armd"].wait()
        time.sleep(0.4)
        found.append((max(goal[0] for goal in on.control("record")["goals"]) + offset - begun) * 1e3)
        on.end("armd", "guard")
        on.caller.close()
        on.begin()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--times", type=int, default=15)
    parser.add_argument("--load", action="store_true")
    given = parser.parse_args()
    cores = os.cpu_count() or 1
    load = subprocess.Popen([sys.executable, "-c", LOAD.format(cores)]) if given.load else None
    try:
        print(f"{cores} cores, load average {os.getloadavg()[0]:.1f}{', torch on all of them' if load else ''}\n")
        print("| rate, Hz | scheduling | lateness, us: p50 | p99 | max | overruns | missed readings |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        for rate, fifo in itertools.product((100.0, 200.0), (False, True)):
            with bench(rate, fifo) as on:
                late, over, missed = lateness(on, given.seconds)
                p50, p99 = np.percentile(late, [50, 99])
                name = "FIFO" if on.hello.fifo else "OTHER"
                times = f"{p50:.0f} | {p99:.0f} | {late.max():.0f}"
                print(f"| {rate:.0f} | {name} | {times} | {over}/{len(late)} | {missed} |", flush=True)
        print("\n| at 100 Hz, FIFO if permitted | ms: p50 | max |\n| --- | --- | --- |")
        with bench(100.0, True) as on:
            kinds: list[tuple[str, Callable[[Bench, int], list[float]]]] = [
                ("e-stop to the last servo's power", estops),
                ("chunk to the first other goal", chunks),
                ("kill -9 of the daemon to the guard's last goal", deaths),
            ]
            for what, measure in kinds:
                found = measure(on, given.times)
                print(f"| {what} | {np.median(found):.1f} | {max(found):.1f} |", flush=True)
    finally:
        if load is not None:
            load.kill()
            load.wait()


if __name__ == "__main__":
    main()
