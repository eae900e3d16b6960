"""A run that goes on in a fresh process equals one that does not stop. As a script, this file is that process."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

from embodied.checkpoint import load, save
from envs.arm import CupArms
from envs.point import PointMass, quadratic_reward
from policies.sb3 import Sb3

MAKE = {"arm": CupArms, "point": PointMass}
POINT = quadratic_reward(np.array([0.3, 0.2]))
REWARD = {
    "arm": lambda obs, act, own: 0.1 * (own - np.abs(act).sum(1)),
    "point": lambda obs, act, own: 0.1 * POINT(obs, act),
}


def agent(kind, seed):
    torch.set_num_threads(1)
    # 33 steps a rollout: no chunk ends where an episode does.
    return Sb3(
        MAKE[kind](8, seed=seed),
        seed=seed,
        reward=REWARD[kind],
        log_std_range=(-1.6, -0.3),
        n_steps=33,
        batch_size=88,
        n_epochs=3,
        target_kl=0.03,
        learning_rate=1e-3,
        policy_kwargs={"net_arch": [16, 16], "log_std_init": -1.0},
    )


def run(kind, folder, rollouts, seed):
    it = agent(kind, seed)
    done = load(folder, agent=it)
    it.advance(rollouts * it.rollout_steps)
    save(folder, done + rollouts, agent=it)


def parts(folder):
    state = max(folder.glob("step-*"))
    return [(state / name).read_bytes() for name in ("arrays.safetensors", "state.json")]


def test_resumed_in_a_fresh_process_equals_uninterrupted_bit_for_bit(tmp_path):
    for kind in MAKE:
        run(kind, tmp_path / f"{kind}-whole", 5, seed=3)
        run(kind, tmp_path / kind, 2, seed=3)
    command = [sys.executable, __file__, str(tmp_path), "3", "41"]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2])
    for kind in MAKE:
        assert parts(tmp_path / f"{kind}-whole") == parts(tmp_path / kind), kind


if __name__ == "__main__":
    for name in MAKE:
        run(name, Path(sys.argv[1]) / name, int(sys.argv[2]), int(sys.argv[3]))
