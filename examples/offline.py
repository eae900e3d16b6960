"""Learning without an environment: a folder of recordings and answers, a reward from them, a policy from both.

A third of the recorded points are pushed towards a goal, the others away from it, all with a shaky hand; somebody who
likes the goal has compared 200 pairs of short stretches, so copying what was recorded fails. The last lines say how
much of the known optimum was found by copying and by learning: 0 is doing nothing, 1 the optimum. It takes a minute.

    python examples/offline.py [DIR]       the data folder and both runs stay in DIR; the same DIR goes on where it was
"""

import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from embodied.episodes import Episode, cut
from embodied.records import Array, Query, Segment
from embodied.teachers import answer, noisy
from envs.point import HORIZON, PointMass, lqr, quadratic_reward
from rapport.data_folder import open_folder
from rapport.offline import Settings, load_policy, offline

GOAL, STRETCH = np.array([0.5, -0.4]), 10
liked = quadratic_reward(GOAL)


def utility(segment: Segment) -> float:
    return float(liked(segment.obs, segment.act).sum())


def record(n: int, rng: np.random.Generator) -> list[Episode]:
    """What was recorded: n episodes of mixed quality."""
    envs, right, wrong = PointMass(n, seed=int(rng.integers(2**31))), lqr(GOAL), lqr(-GOAL)
    good = rng.random((n, 1)) < 1 / 3
    seen, done, (obs, _) = [], [], envs.reset()
    for _ in range(HORIZON):
        act = np.where(good, right.act(obs), wrong.act(obs)) + rng.normal(0, 0.25, (n, 2))
        seen.append(obs)
        done.append(np.clip(act, -1, 1))
        obs, *_ = envs.step(done[-1])
    obs, act = np.stack(seen, 1), np.stack(done, 1)
    return [Episode(f"point-{i:04d}", obs[i], act[i], terminated=True) for i in range(n)]


def scaled_return(act: Callable[[Array], Array]) -> float:
    """Over 1000 new starts."""

    def total(act: Callable[[Array], Array]) -> float:
        envs = PointMass(1000, seed=3)
        obs, _ = envs.reset()
        result = 0.0
        for _ in range(HORIZON):
            chosen = np.clip(act(obs), -1, 1)
            result += float(liked(obs, chosen).mean())
            obs, *_ = envs.step(chosen)
        return result

    nothing, found, best = (total(a) for a in (lambda obs: np.zeros((len(obs), 2)), act, lqr(GOAL).act))
    return (found - nothing) / (best - nothing)


def main() -> None:
    rng = np.random.default_rng(0)
    out = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="offline-"))
    episodes = record(600, rng)
    person = noisy(utility, seed=0, temperature=0.3, lapse=0.05)

    with open_folder(out / "data", make=True) as store:
        store.episodes.save(episodes)
        for k in range(200):
            start = int(rng.integers(HORIZON - STRETCH + 1))
            first, second = (cut(episodes[i], start, start + STRETCH) for i in rng.choice(600, 2, replace=False))
            query = Query(f"pair-{k:03d}", (first, second))
            store.add_queries([query])
            store.add_answers([answer(person, query, "person")])

    learner = Settings(steps=2000, temperature=1.0, hidden=(64, 64), rate=1e-3, reward_steps=80)
    learned = offline(out / "data", out / "iql", learner)
    copied = offline(out / "data", out / "copied", replace(learner, temperature=0.0))
    print(learned.result["data"]["budget"])
    print(f"agreement with the answers: {learned.result['reward']['agreement']:.3f}")
    print(f"copied, scaled true return: {scaled_return(copied.policy.act):.3f}")
    print(f"learned, scaled true return: {scaled_return(load_policy(out / 'iql').act):.3f}")


if __name__ == "__main__":
    main()
