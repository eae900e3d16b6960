"""The reproductions of the on-line methods: their parts, and each whole on a seed that nothing was tuned on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from embodied.best_of import best_of_law
from rapport.bandits import ARMS, CONTEXTS, Bandit, bandit, every
from rapport.reproduce import p3o, raft, superhf

KEYS = {
    "p3o": (p3o, {"bandit": 10, "tutor": 6}),
    "raft": (raft, {"bandit": 7, "tutor": 4}),
    "superhf": (superhf, {"bandit": 7, "tutor": 6}),
}


def world(spread: float = 0.0) -> Bandit:
    return bandit(np.random.default_rng(3), spread)


def test_a_bandit_has_laws_and_rewards_of_the_spread_that_was_asked_for() -> None:
    even, uneven = world(), world(10.0)
    assert even.prior.shape == even.reward.shape == (CONTEXTS, ARMS)
    assert even.prior.exp().sum(-1).tolist() == pytest.approx([1.0] * CONTEXTS)
    assert uneven.reward.mean(-1).std() > 3 > 1.5 > even.reward.std(-1).max()


def test_the_optimum_gains_all_of_the_regularised_reward_and_no_other_as_much() -> None:
    even = world()
    assert even.share(even.policy(), 0.3) == 0 and even.share(even.optimum(0.3), 0.3) == pytest.approx(1)
    for kl in (0.1, 0.2, 0.4, 2.0):
        assert even.share(even.optimum(kl), 0.3) < 1
    assert even.figures(even.policy())[1] == pytest.approx(0, abs=1e-12)


def test_the_optimum_is_the_most_that_its_kl_can_gain() -> None:
    even = world()
    assert even.efficiency(even.optimum(0.7)) == pytest.approx(1, abs=1e-6)
    best = even.policy()
    with torch.no_grad():
        best.logits.copy_(best_of_law(even.prior.exp(), even.reward, 4).log())
    assert 0.8 < even.efficiency(best) < 1


def test_every_group_is_there_with_its_chance() -> None:
    data = every(world().policy(), 2, world().judge)
    assert len(data) == CONTEXTS * ARMS**2 and data.weight.sum().item() == pytest.approx(CONTEXTS)


def test_the_best_of_the_batch_are_a_share_of_all() -> None:
    even = world()
    drawn = even.policy().sample(torch.arange(CONTEXTS).repeat(100), 4, np.random.default_rng(0))
    chosen = raft.best_of_batch(even.judge, 0.25)(drawn)
    assert 0.2 < chosen.mean().item() < 0.35
    assert even.judge(drawn)[chosen == 1].min() >= even.judge(drawn)[chosen == 0].max()


def test_a_fixed_point_is_one() -> None:
    law = superhf.fixed_point(world())
    assert law.sum(-1).tolist() == pytest.approx([1.0] * CONTEXTS)
    assert (superhf.mixture(world(), law) - law).abs().max() < 1e-12


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("key", "domain"),
    [
        pytest.param(key, domain, marks=[pytest.mark.long] if domain == "tutor" else [])
        for key, (file, _) in KEYS.items()
        for domain in file.DOMAINS
    ],
)
def test_the_reproduction_holds_on_a_seed_that_nothing_was_tuned_on(key: str, domain: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "rapport", "reproduce", key, "--domain", domain, "--seed", "21", "--json"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert len(found["mechanism"]) == KEYS[key][1][domain] and all(check["holds"] for check in found["mechanism"])
    assert found["comparisons"] and all(np.isfinite(beside["ours"]) for beside in found["comparisons"])
