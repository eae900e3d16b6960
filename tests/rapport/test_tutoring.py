"""The tutor as a ground: the functions are those of every other ground, and every case of every method runs."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from embodied import methods
from embodied.direct import direct
from embodied.fit import fit
from embodied.online import best_only, collect, online
from embodied.policy_gradient import policy_gradient
from llm_bridge.testbed import tutor
from policies.cpu_torchvision import ensure_torchvision
from rapport import bandits, beside, tutoring
from rapport.reproduce import daa, lcpo, p3o, raft


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tutoring.Tutor:
    """Of a model that speaks within seconds and cannot add."""
    ensure_torchvision()
    from llm_bridge.testbed.pretrain import NANO, pretrained

    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("llm_bridge.testbed.pretrain.pretrained", lambda _: pretrained(cache, NANO))
        for name, size in SMALL.items():
            patch.setattr(tutoring, name, size)
        return tutoring.tutoring(3)


SMALL = {"HELD_OUT": 6, "DRAWS": 2, "ASKED": 24, "STEPS": 4, "BATCH": 4, "ROUNDS": 2, "QUESTIONS": 3, "K": 4}


@pytest.fixture
def small(world: tutoring.Tutor, monkeypatch: pytest.MonkeyPatch) -> tutoring.Tutor:
    for name, size in SMALL.items():
        monkeypatch.setattr(tutoring, name, size)
    monkeypatch.setattr(tutoring, "tutoring", lambda seed: replace(world, seed=seed))
    return world


def test_a_language_model_learns_by_the_very_functions_by_which_an_arm_and_a_bandit_do() -> None:
    assert tutoring.direct is beside.direct is daa.direct is lcpo.direct is direct
    assert tutoring.fit is beside.fit is daa.fit is lcpo.fit is fit
    assert tutoring.online is bandits.online is online and tutoring.collect is bandits.collect is collect
    assert p3o.policy_gradient is policy_gradient and p3o.CLIPS["joint"].__qualname__.startswith("jointly_clipped")
    assert daa.m.dpo is lcpo.m.dpo is methods.dpo and tutoring.Method is methods.Method


def test_only_the_gains_of_the_norms_move(small: tutoring.Tutor) -> None:
    policy = tutoring.learned(small, methods.dpo(0.5), tutoring.compared(small))
    moved = {
        name
        for (name, now), before in zip(policy.named_parameters(), small.before.parameters(), strict=True)
        if not torch.equal(now, before)
    }
    assert moved and all("norm" in name for name in moved)


def test_turned_round_the_best_is_the_worst(small: tutoring.Tutor) -> None:
    pairs, lists = tutoring.compared(small), tutoring.compared(small, k=3)
    assert torch.equal(tutoring.turned(pairs).target, pairs.target.flip(-1))
    assert torch.equal(tutoring.turned(lists).target.argmin(-1), lists.target.argmax(-1))


def test_by_chance_every_worth_is_that_of_some_answer(small: tutoring.Tutor) -> None:
    segments = tutoring.compared(small).segments
    found = tutoring.by_chance(np.random.default_rng(0))(segments)
    worth = tutoring.gold(segments)
    assert not torch.equal(found, worth) and torch.equal(found.flatten().sort()[0], worth.flatten().sort()[0])


def test_answers_are_drawn_with_the_chances_that_the_policy_gives_them(small: tutoring.Tutor) -> None:
    policy = copy.deepcopy(small.before)
    contexts = tutor.prompts(small.learn[:5])
    data = collect(contexts, tutoring.draws(policy), best_only(tutoring.gold), 3, np.random.default_rng(0))
    with torch.no_grad():
        told = policy.log_prob(data.segments)
    assert torch.allclose(told, data.segments.log_prob * data.segments.mask, atol=1e-4)


def test_what_a_question_pays_is_the_same_for_all_its_answers(small: tutoring.Tutor) -> None:
    segments = tutoring.compared(small, k=3).segments
    more = tutoring.paid(small, 50.0)(segments) - tutoring.gold(segments)
    assert torch.allclose(more, more[:, :1].expand_as(more)) and more[:, 0].std() > 10


def test_each_of_three_annotators_answers_every_question(small: tutoring.Tutor) -> None:
    pairs = tutoring.compared(small)
    data = lcpo.answered(pairs, np.random.default_rng(0))
    assert len(data) == 3 * len(pairs) and data.annotator.bincount().tolist() == [len(pairs)] * 3
    assert torch.equal(data.segments.act[len(pairs) : 2 * len(pairs)], pairs.segments.act)


@pytest.mark.parametrize(("file", "least"), [(daa, 18), (p3o, 14), (lcpo, 10), (raft, 7)])
def test_in_full_every_case_is_told(
    file: object, least: int, small: tutoring.Tutor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, size in (("FEW", 12), ("LONG", 2), ("LOOKS", 2)):
        monkeypatch.setattr(daa, name, size)
    told: list[float] = []
    checks, comparisons = file.reproduce("tutor", 3, True, told.append, tmp_path)  # type: ignore[attr-defined]
    assert all(np.isfinite(check.value) for check in checks)
    assert all(np.isfinite(x.ours) for x in comparisons)
    assert len((tmp_path / "said.txt").read_text().splitlines()) >= least and told == sorted(told)
