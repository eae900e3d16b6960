"""A day of the main job's arm as seven Dynamixel servos on an emulated bus: does it still do what the person likes?

    python examples/robot_day.py runs/demo-careful-seed0-100answers
    python examples/robot_day.py RUN --episodes 20 --twin     # simulated without a bus, to tell what the bus costs

The policy is served, the robot run with its page, and led through episodes over places of goal and laptop that nobody
has seen, four seconds each, in real time. What the journals say is measured as `rapport evaluate` measures, beside the
same policy on the same places in the simulator that it was trained in.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from embodied.episodes import Episodes
from embodied.records import Array
from envs.arm import NEAR, CupArms, Layouts, decode, draw
from hardware.journal import journals
from hardware.to_episodes import about, export, own_terms
from policies.export import export as export_policy
from policies.export import load_policy
from rapport.cup import people
from rapport.cup.handover import PARTS, agreed, cartesian
from rapport.cup.measure import wishes_met

START = (0.5, -0.42, 0.27)  # where `rapport robot emulate cup` is at home
STEPS = 80


@contextmanager
def started(*words: object) -> Iterator[str]:
    """A verb of `rapport robot` that goes on until it is ended, and the line that it says."""
    command = [sys.executable, "-m", "rapport", "robot", *map(str, words)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def places(n: int, seed: int) -> Layouts:
    """As the main job draws them, but all from the same start, which is where the robot is at home."""
    drawn = draw(np.random.default_rng([seed, 300]), n)
    return replace(drawn, start=np.tile(START, (n, 1)))


def ask(client: httpx.Client, what: str, **given: Any) -> dict[str, Any]:
    said = client.request("PATCH" if what == "renew" else "POST", f"/v1/{what.replace('renew', 'lease')}", json=given)
    if said.is_error:
        raise SystemExit(f"{what}: {said.text}")
    found: dict[str, Any] = said.json()
    return found


def lead(client: httpx.Client, layouts: Layouts) -> None:
    client.headers["X-Lease"] = ask(client, "lease", seconds=60)["lease"]
    for k in range(len(layouts)):
        scene = {name: getattr(layouts, name)[k].tolist() for name in ("start", "goal", "laptop")}
        ask(client, "renew", seconds=60)
        ask(client, "scene", values=scene)
        if k == 0:
            ask(client, "arm")
        ask(client, "home")
        at_rest(client)
        ask(client, "start", task=f"place {k}")
        time.sleep(STEPS / 20 + 1)  # a look takes a little longer than its period
        ask(client, "stop", done=True)
        state = at_rest(client)
        print(f"place {k + 1} of {len(layouts)}: {state['mode']}", flush=True)


def at_rest(client: httpx.Client) -> dict[str, Any]:
    for _ in range(500):
        state: dict[str, Any] = client.get("/v1/state").json()
        if state["mode"] not in ("RUNNING", "HOMING", "STOPPING") and not state["episode"]:
            if state["mode"] != "HOLD":
                raise SystemExit(f"the robot is in {state['mode']}: {state}")
            return state
        time.sleep(0.04)
    raise SystemExit(f"the robot does not come to rest: {state}")


def simulated(policy: Path, layouts: Layouts) -> Array:
    """Observations [N,80,26] of the same policy in the simulator."""
    acts, envs = load_policy(policy).act, CupArms(len(layouts), seed=0)
    obs, _ = envs.reset(options={"layouts": layouts})
    seen = [obs]
    for _ in range(STEPS - 1):
        obs, *_ = envs.step(acts(obs))
        seen.append(obs)
    envs.close()
    return np.stack(seen, 1)


def told(name: str, obs: Array) -> None:
    obs = obs.astype(float)
    person = people.PEOPLE["careful"]
    near = (np.linalg.norm(decode(obs)["goal_offset"], axis=-1)[:, -5:] < NEAR).all(1)
    each = ", ".join(f"{wish} {met(obs).mean():.0%}" for wish, met in person.wishes.items())
    print(
        f"{name}: {len(obs)} episodes, wishes {wishes_met(person, obs).mean():.0%} ({each}), "
        f"task {near.mean():.0%}, tilt {people.tilt(obs)[:, people.SETTLE :].mean():.1f} degrees"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run of `rapport demo`")
    parser.add_argument("--which", default="policy", help="policy, or pretrained: before the answers")
    parser.add_argument("--episodes", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--twin", action="store_true", help="the arm simulated, without servos and bus")
    parser.add_argument("--out", type=Path, default=Path("runs/robot-day"))
    args = parser.parse_args()
    layouts, policy = places(args.episodes, args.seed), args.out / "policy"
    old = load_policy(args.run / args.which)
    export_policy(policy, old.layers, cartesian(), agreed(old.contract.reward), PARTS)
    robot = args.out / "robot.toml"
    with (
        started("emulate", "cup" if args.twin else "cup-servos", args.out),
        started("serve", policy, "--within", robot, "--token", args.out / "token", "--port", 8701) as server,
        started("run", robot, "--policy", server, "--policy-token", args.out / "token") as page,
    ):
        print(page)
        base, _, token = page.partition("/#token=")
        with httpx.Client(base_url=base, headers={"Authorization": f"Bearer {token}"}, timeout=20) as client:
            lead(client, layouts)
    episodes = Episodes(args.out / "episodes-of-the-core")
    done = export(journals(args.out / "episodes"), episodes)
    found = []
    for id in done.ids:
        whole = episodes.load(id)
        if about(whole)["task"].startswith("place"):
            looks = np.concatenate([own.obs for own in own_terms(whole)])  # a look may be missing in between
            found += [looks[:STEPS]] if len(looks) >= STEPS else []
    print(f"{len(found)} whole episodes of {args.episodes}; left: {done.left or 'none'}")
    told("on the robot ", np.stack(found))
    told("in simulation", simulated(policy, layouts))


if __name__ == "__main__":
    main()
