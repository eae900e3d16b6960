"""A policy that moves every joint up and down for ever, served: `python -m tests.hardware.swinging ROBOT PORT`."""

import sys
import threading
from pathlib import Path

import numpy as np

from embodied.contract import Contract, Joint, Source
from hardware.config import read
from policies import serve, wire

TOKEN, RATE = "secret", 20.0


def main(robot: Path, port: int) -> None:
    limits = read(robot).limits
    n = len(limits.names)
    sources = Source("joint angles", n, "rad", "joint"), Source("time since the start", 1, "s", "clock")
    ranges = zip(limits.names, limits.lower.tolist(), limits.upper.tolist(), strict=True)
    agreed = Contract(
        environment="swing",
        joints=tuple(Joint(*joint) for joint in ranges),
        rate=RATE,
        action="joint_position",
        observation=sources,
        mean=(0.0,) * (n + 1),
        std=(1.0,) * (n + 1),
        cameras=(),
        reward="to go up and down",
    )

    def begin():
        start = None

        def infer(message):
            nonlocal start
            start = message[wire.COMMAND] if start is None else start
            times = float(message[wire.CLOCK]) + np.arange(9) / RATE
            return {"actions": start + 0.2 * (1 - np.cos(2 * times))[:, None]}

        return infer

    with serve.serving(serve.Served(agreed, begin), TOKEN, port):
        print("serves", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
