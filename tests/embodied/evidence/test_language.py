"""Critiques in words: what is understood, what is left, and the likelihood of what was said."""

import numpy as np
import pytest
import torch

from embodied.evidence.language import critiqued, heard, instructed, vocabulary, written
from embodied.evidence.options import choose, chosen, log_probability
from embodied.evidence.statements import critiques
from embodied.planning import evaluate, expected_features, optimal
from embodied.values import Written
from envs.delivery import board

NAMES = ("gas", "goal", "sheep", "coin", "roadblock", "brick")
WORDS = vocabulary(NAMES) | {"money": 3}


@pytest.mark.parametrize(
    ("text", "statements", "left"),
    [
        ("More coins, fewer sheep; and do not be so slow", ((3, True), (2, False)), ("do not be so slow",)),
        ("It hit too many sheep. Not enough money!", ((2, False), (3, True)), ()),
        ("please avoid the roadblocks", ((4, False),), ()),
        ("not more coins", (), ("not more coins",)),
        ("no more sheep", (), ("no more sheep",)),
        ("more coins more sheep", (), ("more coins more sheep",)),
        ("more", (), ("more",)),
        ("coins", (), ("coins",)),
        ("more cats", (), ("more cats",)),
        ("...", (), ()),
    ],
)
def test_what_is_understood_and_what_is_left(text, statements, left):
    assert heard(Written(text), WORDS) == type(heard(Written("x"), {}))(statements, left)


@pytest.mark.parametrize("more", [True, False])
@pytest.mark.parametrize("feature", range(6))
def test_what_a_person_writes_is_understood(feature, more):
    assert heard(written(feature, more, NAMES), WORDS).statements == ((feature, more),)


def test_a_critique_is_held_against_what_could_have_been_said():
    about = critiques(torch.tensor([[1.0, 0, 0, 2, 0, 0], [0, 0, 1, 0, 0, 0]]).double())
    w = torch.from_numpy(np.random.default_rng(0).normal(size=6))
    said, every = critiqued(about, [Written("fewer coins, more goal, hm"), Written("less sheep")], WORDS)
    assert [h.left for h in every] == [("hm",), ()]
    p = log_probability(about, w)
    assert (-chosen(said, w)).tolist() == pytest.approx([p[0, 9].item(), p[0, 1].item(), p[1, 8].item()])


def test_saying_and_writing_and_hearing_changes_nothing():
    rng = np.random.default_rng(0)
    about = critiques(torch.from_numpy(rng.integers(0, 2, (200, 6)).astype(float)))
    said = choose(about, torch.from_numpy(rng.normal(size=6)), rng)
    texts = [written(i % 6, i < 6, NAMES) for i in said.index.tolist()]
    back, _ = critiqued(about, texts, WORDS)
    assert torch.equal(back.index, said.index)


def test_an_instruction_is_followed_while_it_stands():
    world = board(gamma=0.9)
    phi = expected_features(world)
    usual = torch.tensor([-1.0, 10, -10, 1, -1, -2]).double()

    def coins(weights):
        policy = optimal(world, phi @ weights.numpy()).policy()
        return evaluate(world, policy, phi[..., 3:4])[world.starts, 0].mean()

    more, fewer = (instructed(usual, heard(Written(text), WORDS), 8.0) for text in ("more coins!", "avoid money"))
    assert more.tolist() == [-1, 10, -10, 9, -1, -2] and fewer[3].item() == -7
    assert coins(fewer) < coins(usual) < coins(more)
    assert torch.equal(instructed(usual, heard(Written("hm"), WORDS), 8.0), usual)
    with pytest.raises(ValueError, match="an instruction changes weights by 0; give a number above 0"):
        instructed(usual, heard(Written("more coins"), WORDS), 0)


def test_what_cannot_be_meant_is_told():
    about = critiques(torch.zeros(1, 6).double())
    with pytest.raises(ValueError, match="question 0 was answered by what was not possible"):
        critiqued(about, [Written("fewer sheep")], WORDS)
    with pytest.raises(ValueError, match="nothing of 1 texts was understood; the vocabulary is brick, bricks"):
        critiqued(about, [Written("nice")], WORDS)
    with pytest.raises(ValueError, match="2 texts about 1 stretches; give one each"):
        critiqued(about, [Written("nice")] * 2, WORDS)
