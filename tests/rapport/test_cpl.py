"""The reproduction of contrastive learning: its parts quickly, the whole on seeds that nothing was tuned on."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from embodied.planning import optimal
from embodied.regret import regret
from embodied.walks import steps
from envs.point import lqr
from rapport.reproduce.cpl import (
    HOME,
    NOISE,
    POINT_LENGTH,
    POINT_PAIRS,
    REWARD,
    Mean,
    distance,
    pairs,
    point_pairs,
    scaled,
    unseen,
    uses,
)


def test_uniform_pairs_try_everything_and_narrow_ones_do_not():
    tried = {}
    for narrow in (False, True):
        data = pairs(1000, narrow, np.random.default_rng(21))
        at = steps(data.segments)
        tried[narrow] = len(set(zip(at.state.ravel().tolist(), at.action.ravel().tolist(), strict=True)))
        worth = -regret(HOME, REWARD, data.segments)
        decided = np.round(worth[:, 0], 2) != np.round(worth[:, 1], 2)
        assert (data.target[:, 0].numpy() == 0.5 * (1 + np.sign(worth[:, 0] - worth[:, 1])))[decided].all()
        assert data.segments.mask.all()  # one length
    assert tried[True] < 0.9 * tried[False]


def test_the_uses_of_the_true_advantage():
    found = uses(optimal(HOME, REWARD).advantage)
    assert all(value == pytest.approx(1, abs=1e-4) for value in found.values())


def test_the_probability_of_what_nobody_did():
    from policies.table import SoftmaxTable

    data = pairs(5, False, np.random.default_rng(0))
    at = steps(data.segments)
    seen = {(s, a) for s, a in zip(at.state.ravel().tolist(), at.action.ravel().tolist(), strict=True)}
    by_hand = np.mean([sum((s, a) not in seen for a in range(4)) / 4 for s in HOME.starts.tolist()])
    assert unseen(SoftmaxTable(torch.zeros(100, 4)), data) == pytest.approx(by_hand)
    assert scaled(np.full((100, 4), 0.25)) == pytest.approx(0)


def test_on_the_point_the_better_of_two_is_nearer_the_optimum():
    goal = np.array([0.3, -0.2])
    data = point_pairs(goal, np.random.default_rng(21))
    obs, act = (x.double().numpy() for x in (data.segments.obs, data.segments.act))
    assert act.shape == (POINT_PAIRS, 2, POINT_LENGTH, 2)
    off = act - lqr(goal).act(obs.reshape(-1, 5)).reshape(act.shape)
    assert np.sqrt((off**2).mean()) == pytest.approx(NOISE, rel=0.02)
    miss = (off**2).sum((2, 3))
    agrees = np.mean((miss[:, 0] < miss[:, 1]) == (data.target[:, 0].numpy() == 1))
    assert agrees > 0.85  # regret weighs the two by what they cost, which is nearly but not quite this
    policy = Mean(0)
    by_hand = np.sqrt(((policy.act(obs.reshape(-1, 5)).reshape(act.shape) - act) ** 2).mean())
    assert distance(policy, data) == pytest.approx(by_hand, rel=1e-4)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(1500)
@pytest.mark.parametrize(("domain", "picture"), [("delivery", "policies.png"), ("point", None)])
def test_the_reproduction_holds_on_a_seed_that_nothing_was_tuned_on(tmp_path, domain, picture):
    command = [sys.executable, "-m", "rapport", "reproduce", "cpl", "--domain", domain, "--seed", "22", "--json"]
    command += ["--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["key"] == "cpl" and all(m["holds"] for m in found["mechanism"])
    if picture:
        assert (tmp_path / f"{domain}-22" / picture).read_bytes().startswith(b"\x89PNG")
