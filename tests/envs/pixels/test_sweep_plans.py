"""Each task can be done by each body: a planner on the true reward succeeds. `pytest -s` prints how often."""

import numpy as np
import pytest

from envs.pixels.sweep_physics import BODIES, advance
from envs.pixels.sweep_scripts import SCRIPTS, played
from envs.pixels.sweep_tasks import TASKS, rewards, setup_of, start, success

STARTS, STEPS, SCRIPTED, ROUNDS, TRIES, ELITE = 10, 20, 40, 8, 30, 6


def roll(setup, state, act):
    states = []
    for action in act:
        states.append(state := advance(setup, state, action))
    return np.stack(states)


def planned(task, setup, begun, rng):
    """The best episode [T,B,6] of forty scripts, its actions improved by the cross-entropy method."""

    def worth(states):
        return float(rewards(task, setup, states).sum())

    scripts = [script for name, script in SCRIPTS[task].items() if name != "wander"]
    runs = [
        played(setup, begun, scripts[rng.integers(len(scripts))](setup, begun, STEPS, rng), STEPS)
        for _ in range(SCRIPTED)
    ]
    mean, best = max(runs, key=lambda run: worth(run[1]))
    spread = np.full_like(mean, 0.4)
    for _ in range(ROUNDS):
        tried = np.clip(mean + spread * rng.normal(size=(TRIES, *mean.shape)), -1, 1)
        episodes = [roll(setup, begun, act) for act in tried]
        order = np.argsort([-worth(states) for states in episodes])[:ELITE]
        best = max(best, episodes[order[0]], key=worth)
        mean, spread = tried[order].mean(0), tried[order].std(0) + 0.02
    return best


@pytest.mark.slow
@pytest.mark.parametrize(
    "task", [pytest.param(task, marks=[] if task == "covering" else pytest.mark.long) for task in TASKS]
)
@pytest.mark.parametrize(
    "body", [pytest.param(body, marks=pytest.mark.long if n else []) for n, body in enumerate(BODIES)]
)
def test_a_planner_on_the_true_reward_succeeds(task, body):
    setup, done = setup_of(task, body), 0
    for seed in range(STARTS):
        rng = np.random.default_rng(seed)
        begun = start(task, setup, "wide", rng)
        done += bool(success(task, setup, planned(task, setup, begun, rng)))
    print(f"{task}, {body}: {done} of {STARTS}")
    assert done >= STARTS // 3
