"""A day of the main job's arm as seven Dynamixel servos on an emulated bus: does it still do what the person likes?

    python examples/robot_day.py runs/demo-careful-seed0-100answers
    python examples/robot_day.py RUN --episodes 20 --twin     # simulated without a bus, to tell what the bus costs
    python examples/robot_day.py --circle                     # and does what people say of it make the next one better?

The policy is served, the robot run with its page, and led through episodes over places of goal and laptop that nobody
has seen, four seconds each, in real time. What the journals say is measured as `rapport evaluate` measures, beside the
same policy on the same places in the simulator that it was trained in.

With --circle the policy is RUN's, or one that was cloned from people of whom six in ten hurry. It is led ten times to
each of six places, pushed apart in the first second; its journals become questions, a simulated person answers them at
the desk of a study, and `rapport align` aligns it. Then both are led to twelve other places, and nobody pushes. A
quarter of an hour, most of it the arm's own time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.stats import binomtest

from embodied.episodes import Episode, Episodes
from embodied.records import Array
from embodied.teachers import noisy
from envs.arm import NEAR, CupArms, Layouts, decode, draw
from hardware.journal import journals
from hardware.to_episodes import about, export, own_terms
from human_ui import desk
from human_ui.people import invite
from human_ui.site import open_site
from policies.export import export as export_policy
from policies.export import load_policy
from rapport.beside_arm import LAPSE, cloned
from rapport.cli import main as rapport
from rapport.cup import people
from rapport.cup.handover import PARTS, agreed, cartesian
from rapport.cup.measure import wishes_met
from rapport.cup.train import TEMPERATURE
from rapport.robot.client import RefusedError, Robot, client, started

START = (0.5, -0.42, 0.27)  # where `rapport robot emulate cup` is at home
STEPS = 80
LONGEST = 0.3  # s without a look, after which an episode is not measured
HURRY = 0.6  # the share of the demonstrations that a cloned policy saw


def places(n: int, seed: int) -> Layouts:
    """As the main job draws them, but all from the same start, which is where the robot is at home."""
    drawn = draw(np.random.default_rng([seed, 300]), n)
    return replace(drawn, start=np.tile(START, (n, 1)))


def lead(robot: Robot, layouts: Layouts) -> None:
    """Whatever stops an episode is printed, and the day goes on: after a fault somebody looks, and resets."""
    robot.take()
    for k in range(len(layouts)):
        scene = {name: getattr(layouts, name)[k].tolist() for name in ("start", "goal", "laptop")}
        try:
            robot.ask("scene", values=scene)
            if robot.at_rest()["mode"] == "FAULT":
                robot.ask("reset")
            if robot.at_rest()["mode"] != "HOLD":
                robot.ask("arm")
            robot.ask("home")
            robot.at_rest()
            robot.ask("start", task=f"to {np.round(scene['goal'], 3)} past {np.round(scene['laptop'], 3)}")
            time.sleep(STEPS / 20 + 1)  # a look takes a little longer than its period
            robot.ask("stop", done=True)
            state = robot.at_rest()
            print(f"place {k + 1} of {len(layouts)}: {state['mode']} {state['cause']}", flush=True)
        except RefusedError as error:
            print(f"place {k + 1} of {len(layouts)}: {error}", flush=True)


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
    met = wishes_met(person, obs)
    ci = binomtest(int(met.sum()), len(met)).proportion_ci(0.95, method="exact")
    print(
        f"{name}: {len(obs)} episodes, wishes {met.mean():.0%} (95 %: {ci.low:.0%} to {ci.high:.0%}; {each}), "
        f"task {near.mean():.0%}, tilt {people.tilt(obs)[:, people.SETTLE :].mean():.1f} degrees",
        flush=True,
    )


def day(out: Path, policy: Path, layouts: Layouts, args: argparse.Namespace, push: float = 0.0) -> Array:
    """Leads the robot of `out`; observations [N,80,26] of the episodes that are whole."""
    robot = out / "robot.toml"
    family = ["cup" if args.twin else "cup-servos", out, "--port", args.port]
    with (
        started("emulate", *family, *(["--patient"] if args.patient else [])),
        started(
            *("serve", policy, "--within", robot, "--token", out / "token"),
            *("--port", args.port + 1, "--push", push, "--seed", args.seed),
        ) as server,
        started("run", robot, "--policy", server, "--policy-token", out / "token") as page,
    ):
        print(page)
        with client(page) as led:
            lead(led, layouts)
    episodes = Episodes(out / "episodes-of-the-core")
    done = export(journals(out / "episodes"), episodes)
    found = []
    for id in done.ids:
        whole = episodes.load(id)
        if about(whole)["task"].startswith("to"):
            found += looked(own_terms(whole))
    print(f"{len(found)} whole episodes of {len(layouts)}; left: {done.left or 'none'}")
    return np.stack(found)


def looked(parts: Sequence[Episode]) -> list[Array]:
    """[80,26], what the policy saw in its first four seconds, every 50 ms; nothing where it saw nothing for long."""
    obs, time = (np.concatenate(x) for x in zip(*((p.obs, p.info["time"]) for p in parts), strict=True))
    at = time[0] + np.arange(STEPS) / 20
    last = np.searchsorted(time, at + 0.01, "right") - 1  # a look may come a little late
    return [obs[last]] if (at - time[last]).max() < LONGEST else []


def answered(study: Path, seed: int) -> int:
    """A simulated person at the desk of the study, as the page has a real one: lent, looked at, answered, taken."""
    person = people.PEOPLE["careful"]
    judge = noisy(person.utility, seed=seed, temperature=TEMPERATURE, lapse=LAPSE)
    site = open_site(study)
    invite(site.store, person.name)
    count = 0
    while lent := desk.lend(site.store, site.study(), person.name, 1, time.time(), site.rng):
        (query,) = site.store.queries([lent[0].query])
        value = desk.as_shown(judge(query), lent[0].shown)
        desk.take(site.store, person.name, lent[0].lease, f"said-{query.id}", value, {}, "", time.time())
        count += 1
    site.store.close()
    return count


def said(*words: object) -> None:
    """A verb of `rapport`, here."""
    print(f"\n$ rapport {' '.join(map(str, words))}", flush=True)
    if code := rapport([*map(str, words)]):
        raise SystemExit(code)


def circle(args: argparse.Namespace, before: Path) -> None:
    """What is there in `out` is not done again, but a day that broke off is: remove its folder."""
    some, others = places(args.places, args.seed), places(args.episodes, args.seed + 1)
    out = args.out
    after = out / "aligned" / "policy"
    if not after.exists():
        asked = day(out / "asked", before, some[np.repeat(np.arange(len(some)), args.times)], args, args.push)
        told("asked about", asked)
        said(
            *("robot", "queries", out / "asked" / "robot.toml", out / "study", "--own", "--film", "cup"),
            *("--seconds", STEPS / 20, "--questions", len(some) * args.times // 2),
        )
        print(f"{answered(out / 'study', args.seed)} answers of a simulated person")
        said(
            *("align", "--data", out / "study", "--policy", before, "--method", "ipo", "--set", "tau=1"),
            *("--any-start", "--steps", 25, "--out", out / "aligned"),
        )
    seen = {name: day(out / name, policy, others, args) for name, policy in (("before", before), ("after", after))}
    for name, policy in (("before", before), ("after", after)):
        told(f"on the robot, {name:6}", seen[name])
        told(f"in simulation, {name:6}", simulated(policy, others))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", help="a run of `rapport demo`")
    parser.add_argument("--which", default="policy", help="policy, or pretrained: before the answers")
    parser.add_argument("--episodes", type=int, help="places to which it is led to be measured; 10, in a circle 12")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--twin", action="store_true", help="the arm simulated, without servos and bus")
    parser.add_argument("--patient", action="store_true", help="for a machine with much other work")
    parser.add_argument("--circle", action="store_true", help="ask about a day, align, and measure another day")
    parser.add_argument("--places", type=int, default=6, help="of the day that is asked about")
    parser.add_argument("--times", type=int, default=10, help="to each of them")
    parser.add_argument("--push", type=float, default=0.3, help="on that day")
    parser.add_argument("--port", type=int, default=8600)
    parser.add_argument("--out", type=Path, default=Path("runs/robot-day"))
    args = parser.parse_args()
    args.episodes = args.episodes or (12 if args.circle else 10)
    if args.run is None and not args.circle:
        parser.error("name a run of `rapport demo`")
    policy = args.out / "policy"
    if args.run is None:
        found = cloned(HURRY, args.seed)
        mean, std = (tuple(x.tolist()) for x in (found.obs_mean, found.obs_std))
        contract = replace(agreed("none: it imitates people of whom six in ten hurry"), mean=mean, std=std)
        export_policy(policy, found.layers(), cartesian(), contract, PARTS)
    else:
        old = load_policy(args.run / args.which)
        export_policy(policy, old.layers, cartesian(), agreed(old.contract.reward), PARTS)
    if args.circle:
        return circle(args, policy)
    layouts = places(args.episodes, args.seed)
    told("on the robot ", day(args.out, policy, layouts, args))
    told("in simulation", simulated(policy, layouts))


if __name__ == "__main__":
    main()
