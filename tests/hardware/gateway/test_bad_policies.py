"""Policies that nobody should put on an arm, through the whole chain: their server, gateway, daemon, bus, servos. What
the servos were told is read from the emulated bench itself, and why it stopped is what the operator's page shows."""

import time

import numpy as np
import pytest

from embodied.contract import Contract, Joint, Source
from hardware.arms.calibration import save
from hardware.braking import LONGEST
from hardware.emulators.presets import HINGES
from hardware.journal import journals, recover
from policies import serve
from policies.chain import Chain
from tests.hardware.gateway import robot as robots
from tests.hardware.gateway.test_policies import foreign
from tests.hardware.harness import toml

pytestmark = pytest.mark.slow  # four processes each, in real time

N, RATE, LIMIT, SPEED = 6, 20.0, 1.5, 2.0
TABLE = 0.12  # m: the tool stays above
ARM = Chain(tuple(h.offset for h in HINGES[:5]), tuple(h.axis for h in HINGES[:5]), (0.1, 0.0, 0.0))
TICK = 2 * np.pi / 4096
# Others use the machine: a stall of theirs is no fault of the arm's (as in test_processes).
PATIENT = "spare_ms = 100.0\nbudget_s = 0.15\nwatchdog_s = 1.0"


@pytest.fixture
def led(tmp_path, dynamixel_process):
    """`led(answer)`: the emulated arm begins at zero, `answer(command, k)` is its policy, and somebody waits."""
    emulated = dynamixel_process
    emulated.control("reset", virtual=False)
    save(tmp_path / "calibration.json", emulated.calibration)
    names = [servo.name for servo in emulated.calibration.servos]
    arm = f'port = "{emulated.port}"\ncalibration = "calibration.json"\n{PATIENT}'
    joint = {"lower": -LIMIT, "upper": LIMIT, "velocity": SPEED, "acceleration": 20.0, "tracking": 0.5, "home": 0.0}
    file = toml(tmp_path, "dynamixel", names, arm=arm, joint=joint, more="tracking_seconds = 1.0", rate=RATE)
    chain = f"offsets = {[list(x) for x in ARM.offsets]}\naxes = {[list(x) for x in ARM.axes]}\ntool = [0.1, 0, 0]"
    box = f"speed = 1.5\nbox = [[-1.0, -1.0, {TABLE}], [1.0, 1.0, 1.0]]"
    gateway = f'[gateway]\nhost = "127.0.0.1"\nport = {robots.free_port()}\n'
    file.write_text(f"{file.read_text()}\n[chain]\n{chain}\n{box}\n{gateway}")
    agreed = Contract(
        "bench",
        tuple(Joint(name, -LIMIT, LIMIT) for name in names),
        RATE,
        "joint_position",
        (Source("angles", N, "rad", "joint"),),
        (0.0,) * N,
        (1.0,) * N,
        (),
        "to do harm",
    )
    (tmp_path / "contract.json").write_text(serve.to_text(agreed))

    def run(answer):
        asked = iter(range(10**9))
        with foreign(lambda seen: {"actions": answer(seen["observation/command"], next(asked))}) as server:
            url = "ws://{}:{}".format(*server.socket.getsockname()[:2])
            given = ["--policy", url, "--contract", str(tmp_path / "contract.json")]
            with robots.running(file, *given) as robot, robot.http() as http:
                http.headers["X-Lease"] = http.post("/v1/lease", json={"seconds": 60}).json()["lease"]
                emulated.control("pose", position=[0.0] * N)  # without power it had fallen
                armed = http.post("/v1/arm")
                assert armed.status_code == 200, armed.text
                emulated.control("forget")
                begun = http.post("/v1/start", json={"task": "do harm"})
                assert begun.json() == {"done": True}, begun.text
                end = time.monotonic() + 60
                while (state := robot.state())["mode"] in ("RUNNING", "STOPPING") or state["episode"]:
                    assert time.monotonic() < end, f"nothing stopped it: {state}"
                    time.sleep(0.02)
                record = emulated.control("record")
                (path,) = journals(robot.config.journal)
                return state, record, recover(path), emulated.calibration.servos

    return run


def leaps(command, k):
    actions = np.zeros((12, N))
    actions[:, 0] = 1.2 * (-1) ** np.arange(12)  # 24 rad/s
    return actions


def nan_after_a_while(command, k):
    actions = np.repeat(command[None], 12, 0)
    return actions if k < 5 else np.full_like(actions, np.nan)


def into_the_table(command, k):
    actions = np.repeat(command[None], 12, 0)
    actions[:, 1] += 0.03 * np.arange(12)  # 0.6 rad/s, downwards
    return actions


def beyond_a_limit_and_back(command, k):
    actions = np.zeros((40, N))
    actions[:, 5] = np.minimum(command[5] + 0.05 * np.arange(40), LIMIT + 0.3)
    actions[:, 5] -= 0.1 * (np.arange(40) % 2) * (actions[:, 5] > LIMIT)
    return actions


def past_already(command, k):
    time.sleep(0.7)
    return np.repeat(command[None], 8, 0)


def beyond_all_sense(command, k):
    return np.full((8, N), 1e9)


CASES = [
    (leaps, "of the actions were cut, for a second", "acceleration"),
    (nan_after_a_while, "not finite", ""),
    (into_the_table, "of the actions were cut, for a second", "tool"),
    (beyond_a_limit_and_back, "of the actions were cut, for a second", "position"),
    (past_already, "are past; make the policy faster", ""),
    (beyond_all_sense, "beyond 1000 rad", ""),
]


@pytest.mark.parametrize(("answer", "why", "cut"), CASES, ids=[case[0].__name__ for case in CASES])
def test_it_is_stopped_within_the_envelope_and_the_page_says_why(led, answer, why, cut):
    state, record, found, servos = led(answer)
    shown = f"{state['cause']}; {state['policy']}"
    assert why in shown, shown
    assert state["mode"] in ("HOLD", "FAULT") and (cut in state["clips"] if cut else {*state["clips"]} <= {"start"})
    goals = [[servo.angle(ticks) for _, number, ticks, _ in record["goals"] if number == servo.id] for servo in servos]
    angles = np.array(goals).T
    assert np.isfinite(angles).all() and np.abs(angles).max() <= LIMIT + TICK
    assert np.abs(np.diff(angles, axis=0)).max() <= SPEED * LONGEST / RATE + 2 * TICK
    assert ARM.point(angles[:, :5])[:, 2].min() >= TABLE - 0.002
    assert found.whole and len(found.ticks) > 5
