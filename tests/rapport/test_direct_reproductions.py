"""The reproductions of the direct methods: their parts, and each whole on a seed that nothing was tuned on."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from embodied import methods as m
from rapport import beside_arm
from rapport.reproduce import daa, entangle, gapo, lcpo, pedagogical, pro, rlhfv

KEYS = {
    "daa": (daa, {"bandit": 11, "point": 2, "arm": 1, "tutor": 3}),
    "pro": (pro, {"bandit": 5, "point": 5, "arm": 5, "tutor": 4}),
    "lcpo": (lcpo, {"bandit": 5, "point": 5, "arm": 5, "tutor": 4}),
    "entangle": (entangle, {"tokens": 7, "point": 7, "arm": 7}),
    "gapo": (gapo, {"bandit": 3, "point": 3, "arm": 3}),
    "rlhfv": (rlhfv, {"tokens": 5, "point": 5, "arm": 5, "tutor": 4}),
    "pedagogical": (pedagogical, {"tutor": 6}),
}


def test_of_every_pair_the_weights_are_the_chances_that_both_are_drawn():
    law = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    data = daa.every_pair(torch.full((3, 3), 0.5, dtype=torch.float64), law)
    assert len(data) == 9 and data.weight.sum().item() == pytest.approx(1)
    both = (data.segments.act[:, :, 0, 0] == torch.tensor([1.0, 2.0])).all(1)
    assert data.weight[both].item() == pytest.approx(0.15)


def test_a_minimum_is_one():
    law = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    data = daa.every_pair(torch.rand(3, 3, dtype=torch.float64), law)
    found = daa.minimised(m.ipo(1.0), data, law)
    assert found.exp().sum().item() == pytest.approx(1)

    def loss(logits):
        from embodied.direct import direct
        from policies.table import SoftmaxTable

        objective = direct(SoftmaxTable(logits[None]), m.ipo(1.0), SoftmaxTable(law.log()[None]))
        return (data.weight * objective(data)).sum().item()

    for nudge in torch.eye(3, dtype=torch.float64):
        assert loss(found) < loss(found + 0.01 * nudge)


def test_annotators_err_as_often_as_they_are_unreliable():
    target = torch.tensor([[1.0, 0.0]]).expand(30_000, 2)
    data = lcpo.labelled(daa.rows(torch.zeros(30_000, 2), target, torch.ones(30_000)), np.random.default_rng(0))
    for who, right in enumerate(lcpo.RELIABLE.tolist()):
        assert data.target[data.annotator == who, 0].mean().item() == pytest.approx(right, abs=0.015)


def test_sentences_share_their_ends_and_differ_at_the_start():
    act = entangle.sentences(4, np.random.default_rng(0)).segments.act[..., 0]
    assert act.shape == (entangle.ROWS, 2, 5)
    assert (act[:, 0, 1:] == act[:, 1, 1:]).all() and (act[:, 0, 0] != act[:, 1, 0]).all()


@pytest.mark.parametrize("domain", beside_arm.GROUNDS)
def test_a_teacher_takes_over_for_some_steps_and_nothing_else_differs_before(domain, monkeypatch):
    for name, size in (("DEMOS", 30), ("CLONING", 20), ("HELD_OUT", 8)):  # a policy that has learned little will do
        monkeypatch.setattr(beside_arm, name, size)
    ground = beside_arm.GROUNDS[domain](3)
    data = rlhfv.taken_over(ground, 20, np.random.default_rng(0)).segments
    apart = (data.act[:, 0] != data.act[:, 1]).any(-1)
    first = apart.int().argmax(-1)
    assert apart.any(-1).all() and (first <= ground.horizon * 3 // 4).all()
    for row, step in enumerate(first.tolist()):
        assert torch.equal(data.obs[row, 0, : step + 1], data.obs[row, 1, : step + 1])
        assert not torch.equal(data.obs[row, 0, step + 1 :], data.obs[row, 1, step + 1 :])
        if step + ground.horizon // 4 < ground.horizon:
            assert apart[row, step : step + ground.horizon // 4].all()


def test_a_correction_puts_the_right_word_in():
    act = rlhfv.corrections(50, 0.3, np.random.default_rng(0)).segments.act[..., 0]
    apart = (act[:, 0] != act[:, 1]).sum(-1)
    assert (act[:, 0, rlhfv.CAUSE] == 0).all() and (act[:, 1, rlhfv.CAUSE] != 0).all()
    assert set(apart.tolist()) == {1, 2}


LONG, SHORT = ("tutor", "point", "arm"), ("pro", "arm")  # one on the arm is sign enough


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("key", "domain"),
    [
        pytest.param(key, domain, marks=[pytest.mark.long] if domain in LONG and (key, domain) != SHORT else [])
        for key, (file, _) in KEYS.items()
        for domain in file.DOMAINS
    ],
)
def test_the_reproduction_holds_on_a_seed_that_nothing_was_tuned_on(key, domain, tmp_path):
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
    if domain in ("point", "arm", "tutor"):
        assert found["comparisons"] and all(np.isfinite(beside["ours"]) for beside in found["comparisons"])
