"""The tutor as a ground: the functions are those of every other ground, and every case of every method runs."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from embodied import methods
from embodied.direct import direct
from embodied.fit import fit, imitate
from embodied.kl_terms import forward_kl
from embodied.online import best_only, collect, online
from embodied.policy_gradient import policy_gradient
from llm_bridge.testbed import tutor
from policies.cpu_torchvision import ensure_torchvision
from rapport import bandits, beside, tutoring
from rapport.reproduce import daa, lcpo, p3o, pedagogical, pro, raft, rlhfv, superhf


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
    assert daa.m is lcpo.m is pro.m is rlhfv.m is pedagogical.m is methods and tutoring.Method is methods.Method
    assert pro.direct is rlhfv.direct is pedagogical.direct is direct
    assert raft.imitate is superhf.imitate is pedagogical.imitate is beside.imitate is imitate
    assert superhf.forward_kl is forward_kl and superhf.best_only is raft.best_only is best_only


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


def test_everybody_answers_every_question(small: tutoring.Tutor) -> None:
    pairs, people = tutoring.compared(small), 3 * lcpo.EACH
    data = lcpo.answered(pairs, np.random.default_rng(0))
    assert len(data) == people * len(pairs) and data.annotator.bincount().tolist() == [len(pairs)] * people
    right = (data.target == pairs.target.repeat(people, 1)).all(-1).float().view(3, -1).mean(-1)
    assert (right - lcpo.RELIABLE).abs().max() < 0.2
    assert torch.equal(data.segments.act[len(pairs) : 2 * len(pairs)], pairs.segments.act)


def test_a_correction_is_right_and_not_rude_and_changes_no_other_word(small: tutoring.Tutor) -> None:
    data = rlhfv.corrected(small)
    marks = tutor.marks(tutoring.prompts(data.segments), data.segments.act, data.segments.mask)
    assert marks.correct[:, 0].all() and not marks.toxic[:, 0].any() and (marks.index >= 0).all()
    assert (~marks.correct[:, 1] | marks.toxic[:, 1]).all() and torch.equal(marks.scaffold[:, 0], marks.scaffold[:, 1])
    apart = (data.segments.act[:, 0] != data.segments.act[:, 1]).sum(-1)
    wanted = (~marks.correct[:, 1]).long() + 2 * marks.toxic[:, 1]  # a digit; `you fool` for `good question`
    assert torch.equal(apart, wanted) and torch.equal(data.segments.mask[:, 0], data.segments.mask[:, 1])


def test_of_a_pair_by_action_the_first_step_is_chosen_and_manner_tells_nothing(small: tutoring.Tutor) -> None:
    data = pedagogical.by_action(small)
    marks = tutor.marks(tutoring.prompts(data.segments), data.segments.act, data.segments.mask)
    assert marks.grammatical.all() and torch.equal(marks.scaffold.float(), data.target)
    assert (data.target.sum(-1) == 1).all()
    theirs = pedagogical.by_another(data)
    better = tutor.marks(tutoring.prompts(theirs.segments), theirs.segments.act, theirs.segments.mask)
    chosen = data.target == 1
    assert (better.gold[chosen] == 2.5).all()
    assert torch.equal(better.gold[~chosen], marks.gold[~chosen])


def test_manner_that_always_differs_tells_and_manner_of_one_kind_does_not(small: tutoring.Tutor) -> None:
    data = pedagogical.by_another(pedagogical.by_action(small))
    numbers = tutor.numbers(tutoring.prompts(data.segments)[:, 0])
    act, mask = tutor.answers(numbers)
    neutral = act[:, [15, 10]], mask[:, [15, 10]]  # right, neither polite nor rude: the first step, the answer
    both = replace(data.segments, act=neutral[0], mask=neutral[1], log_prob=torch.zeros(neutral[1].shape))
    alike = replace(data, segments=both, target=torch.tensor([[1.0, 0.0]]).expand(len(data), 2))
    assert pedagogical.told_by_manner(alike) == 0.5
    polite = act[:, [5, 10]], mask[:, [5, 10]]
    both = replace(data.segments, act=polite[0], mask=polite[1], log_prob=torch.zeros(polite[1].shape))
    assert pedagogical.told_by_manner(replace(alike, segments=both)) == 1.0


def test_a_ranking_has_the_true_worths(small: tutoring.Tutor) -> None:
    data = pro.ranked(small)
    assert data.target.shape[1] == pro.K and torch.equal(data.target, tutoring.gold(data.segments))


FILES = [(daa, 18), (p3o, 14), (lcpo, 10), (raft, 7), (pro, 8), (rlhfv, 8), (superhf, 9), (pedagogical, 8)]


@pytest.mark.parametrize(("file", "least"), FILES)
def test_in_full_every_case_is_told(
    file: object, least: int, small: tutoring.Tutor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, size in (("FEW", 12), ("LONG", 2), ("LOOKS", 2)):
        monkeypatch.setattr(daa, name, size)
    monkeypatch.setattr(superhf, "ROUNDS", 2)
    monkeypatch.setattr(lcpo, "SHUFFLES", 2)
    told: list[float] = []
    checks, comparisons = file.reproduce("tutor", 3, True, told.append, tmp_path)  # type: ignore[attr-defined]
    assert all(np.isfinite(check.value) for check in checks)
    assert all(np.isfinite(x.ours) for x in comparisons)
    assert len((tmp_path / "said.txt").read_text().splitlines()) >= least and told == sorted(told)
