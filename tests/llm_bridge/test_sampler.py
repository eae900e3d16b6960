"""What is sampled follows the law, slots are refilled, and the recorded log-probabilities are those of the policy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from llm_bridge.law import Law
from llm_bridge.lm import LM
from llm_bridge.sampler import Sampler
from tests.llm_bridge import tiny
from tests.llm_bridge.test_lm import FAMILIES, ODD

LAWS = [Law(), Law(0.7), Law(0.7, 20), Law(0.7, 20, 0.9), Law(1.0, 0, 0.8)]


def prompts(n: int, longest: int = 12) -> list[list[int]]:
    rng = np.random.default_rng(5)
    return [rng.integers(1, tiny.VOCABULARY, rng.integers(1, longest + 1)).tolist() for _ in range(n)]


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("slots", [3, 64])
def test_the_ratio_is_one_before_the_first_update(law: Law, slots: int) -> None:
    lm = LM(tiny.model(), law=law)
    found = Sampler(lm, slots=slots, capacity=30, longest=14, stop=[5])(prompts(9), 3, np.random.default_rng(0))
    ratio = torch.exp(lm.log_prob(found).detach() - found.log_prob)[found.mask]
    assert (ratio - 1).abs().max() < 1e-3
    assert found.act.shape[:2] == (9, 3)


@pytest.mark.parametrize("family", [*FAMILIES, *ODD])
def test_the_ratio_is_one_whatever_the_family(family: str) -> None:
    lm = LM(tiny.model(family, **{"pad_token_id": 0, "eos_token_id": 5} | ODD.get(family, {})))
    found = Sampler(lm, slots=5, capacity=30, longest=14, stop=[5])(prompts(9), 3, np.random.default_rng(0))
    assert (torch.exp(lm.log_prob(found).detach() - found.log_prob)[found.mask] - 1).abs().max() < 1e-3


def test_no_text_is_longer_than_layers_look_back() -> None:
    lm = LM(tiny.model("mistral", sliding_window=8))
    Sampler(lm, slots=2, capacity=8, longest=4, stop=[5])
    with pytest.raises(ValueError, match="capacity is 9 tokens, more than the 8 that MistralForCausalLM looks back"):
        Sampler(lm, slots=2, capacity=9, longest=4, stop=[5])


def test_a_ratio_under_another_law_is_not_one() -> None:
    lm = LM(tiny.model(), law=Law(0.7, 20, 0.9))
    found = Sampler(lm, slots=16, capacity=30, longest=14, stop=[5])(prompts(9), 3, np.random.default_rng(0))
    ratio = torch.exp(LM(lm.model).log_prob(found).detach() - found.log_prob)[found.mask]
    assert (ratio.mean() - 1).abs() > 0.05


def test_tokens_come_as_often_as_the_model_says() -> None:
    """One token after one prompt, 20,000 times: a chi-square test against the model's own distribution."""
    from scipy.stats import chisquare

    lm = LM(tiny.model(initializer_range=0.1))
    n = 20_000
    found = Sampler(lm, slots=2_000, capacity=4, longest=1, stop=[])([[3, 8, 1]], n, np.random.default_rng(1))
    p = lm.model(input_ids=torch.tensor([[3, 8, 1]])).logits[0, -1].double().softmax(-1).detach().numpy()
    counts = np.bincount(found.act.flatten().numpy(), minlength=len(p))
    assert chisquare(counts, p * n).pvalue > 1e-5


def test_it_stops_where_it_is_told() -> None:
    lm = LM(tiny.model())
    limits = [1 + i % 7 for i in range(27)]
    found = Sampler(lm, slots=4, capacity=30, longest=8, stop=[5, 9])(prompts(9), 3, np.random.default_rng(0), limits)
    act, mask = found.act.view(27, -1), found.mask.view(27, -1)
    ended = 0
    for row, limit in enumerate(limits):
        drawn = act[row][mask[row]].tolist()
        stops = [i for i, token in enumerate(drawn) if token in (5, 9)]
        assert len(drawn) <= limit and (not stops or stops == [len(drawn) - 1])
        assert len(drawn) == limit or stops
        ended += bool(stops)
    assert ended


def test_few_slots_draw_what_many_would() -> None:
    """Refilled slots see nothing of who was there before: with one token in play, the answers are the greedy ones."""
    lm = LM(tiny.model(), law=Law(1.0, 1))
    many = Sampler(lm, slots=40, capacity=40, longest=20, stop=[5])(prompts(10), 2, np.random.default_rng(0))
    few = Sampler(lm, slots=3, capacity=40, longest=20, stop=[5])(prompts(10), 2, np.random.default_rng(7))
    assert torch.equal(many.act, few.act) and torch.equal(many.mask, few.mask)
    for b, prompt in enumerate(prompts(10)):
        answer = lm.model.generate(
            input_ids=torch.tensor([prompt]), max_new_tokens=20, do_sample=False, eos_token_id=5, pad_token_id=0
        )[0, len(prompt) :]
        assert many.act[b, 0][many.mask[b, 0]].tolist() == answer.tolist()


def test_the_same_stream_draws_the_same() -> None:
    sampler = Sampler(LM(tiny.model()), slots=8, capacity=30, longest=10, stop=[5])
    one, two = (sampler(prompts(6), 2, np.random.default_rng(4)) for _ in range(2))
    assert torch.equal(one.act, two.act)
    assert not torch.equal(sampler(prompts(6), 2, np.random.default_rng(5)).act, one.act)


def test_prompts_that_do_not_fit() -> None:
    sampler = Sampler(LM(tiny.model()), slots=2, capacity=12, longest=8, stop=[])
    with pytest.raises(ValueError, match="prompt 1 has 5 tokens; give at least 1 and at most 4"):
        sampler([[1], [1, 2, 3, 4, 5]], 1, np.random.default_rng(0))
    with pytest.raises(ValueError, match="prompt 0 has 0 tokens"):
        sampler([[]], 1, np.random.default_rng(0))


def test_a_call_does_not_depend_on_those_before() -> None:
    """To the last bit, so that a run that goes on in another process draws what it would have drawn."""
    lm, asked = LM(tiny.model()), prompts(9)
    sampler = Sampler(lm, slots=4, capacity=27, longest=14, stop=[5])
    fresh = sampler(asked, 3, np.random.default_rng(1))
    for seed in (7, 8):
        sampler(prompts(5, 9), 2, np.random.default_rng(seed))
    again = sampler(asked, 3, np.random.default_rng(1))
    assert torch.equal(fresh.act, again.act) and torch.equal(fresh.log_prob, again.log_prob)
