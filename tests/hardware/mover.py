"""A gateway that moves the arm up and down until it is ended: `python -m tests.hardware.mover SOCKET [what]`."""

import itertools
import sys
import threading
import time
from pathlib import Path

import numpy as np

from hardware.chunks import Chunk
from hardware.config import read
from hardware.doors import Caller
from hardware.link import BEAT_SECONDS, Ask, Beat, Snapshot, Take
from tests.hardware.harness import contract


def main(path: Path) -> None:
    caller = Caller(path, 20.0)
    lease = caller.ask(Take("mover", 60.0)).lease
    made = contract(read(path.parent.with_name("robot.toml")))
    for ask in (Ask("arm", lease), Ask("start", lease, "go up and down", made)):
        if refused := caller.ask(ask).refused:
            sys.exit(refused)

    def beat() -> None:
        while True:
            caller.say(Beat())
            time.sleep(BEAT_SECONDS)

    threading.Thread(target=beat, daemon=True).start()
    seqs, begun = itertools.count(), None
    said = 0
    while True:
        told = caller.hear()
        if not isinstance(told, Snapshot):
            continue
        if told.mode != "RUNNING":
            sys.exit(told.cause)
        if told.seq % 3:
            continue
        begun = (told.time_ns, told.command) if begun is None else begun
        times = (told.time_ns - begun[0]) * 1e-9 + 0.02 * np.arange(25)
        actions = begun[1] + 0.2 * (1 - np.cos(2 * times))[:, None]
        caller.say(Chunk(lease, next(seqs), told.seq, told.time_ns, 20_000_000, actions))
        said += 1
        if said == 5:
            print("moving", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
