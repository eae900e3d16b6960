"""Preferences: labels as often as Bradley, Terry, Plackett and Luce say, and the form that the core takes."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from embodied.direct import direct
from embodied.feedback import Feedback, Segments, all_pairs
from embodied.fit import fit
from embodied.methods import dpo, rankings
from llm_bridge.testbed import tutor
from llm_bridge.testbed.enumeration import row_log_probs
from llm_bridge.testbed.measure import landscape, measure
from llm_bridge.testbed.preferences import preferences

LEARN, HELD_OUT = tutor.split()


class Answering:
    """The model as a policy of the core."""

    density = False

    def __init__(self, model: LlamaForCausalLM) -> None:
        self.model = model

    def log_prob(self, segments: Segments) -> Tensor:
        assert isinstance(segments.obs, dict)
        b, k = segments.mask.shape[:2]
        prompts = segments.obs["prompt"].expand(-1, k, -1).flatten(0, 1)
        step = row_log_probs(self.model, prompts, segments.act.flatten(0, 1), segments.mask.flatten(0, 1))
        return step.view(b, k, -1)


def gold(feedback: Feedback) -> Tensor:
    segments = feedback.segments
    assert isinstance(segments.obs, dict)
    return tutor.marks(segments.obs["prompt"], segments.act, segments.mask).gold


def test_the_form_is_that_of_the_core(nano: LlamaForCausalLM) -> None:
    data = preferences(nano, LEARN[:200], np.random.default_rng(0))
    segments = data.segments
    assert isinstance(segments.obs, dict)
    assert segments.obs["prompt"].shape == (len(data), 1, 9) and segments.obs["prompt"].dtype == torch.int64
    assert segments.obs["prompt_mask"].shape == (len(data), 1, 9) and segments.obs["prompt_mask"].all()
    assert segments.act.dtype == torch.int64 and (segments.act[~segments.mask] == 0).all()
    assert data.kind == "compare" and data.same_context.all() and (data.target.sum(-1) == 1).all()
    assert torch.allclose(Answering(nano).log_prob(segments), segments.log_prob, atol=1e-4)
    assert (segments.act[:, 0] != segments.act[:, 1]).any(-1).all()
    ranked = preferences(nano, LEARN[:50], np.random.default_rng(0), k=4)
    assert ranked.kind == "rank" and len(all_pairs(ranked)) == 6 * len(ranked)
    assert (ranked.target.sort(-1)[0] == torch.arange(4) / 3).all()


@pytest.mark.parametrize("flips", [0.0, 0.3])
def test_pairs_are_labelled_as_bradley_and_terry_say(nano: LlamaForCausalLM, flips: float) -> None:
    data = preferences(nano, LEARN[:3000], np.random.default_rng(0), flips=flips)
    gap = gold(data).diff(dim=-1)[:, 0]
    assert (gap != 0).sum() > 300
    for size in torch.unique(gap):
        said = data.target[gap == size, 1]
        wanted = torch.sigmoid(size / 0.5)
        wanted = (1 - flips) * wanted + flips * (1 - wanted)
        error = (wanted * (1 - wanted) / len(said)) ** 0.5
        assert abs(said.mean() - wanted) < 4.5 * error + 1e-9, size


def test_rankings_begin_as_plackett_and_luce_say(nano: LlamaForCausalLM) -> None:
    data = preferences(nano, LEARN[:3000], np.random.default_rng(0), k=4)
    utility = gold(data) / 0.5
    chance = utility.softmax(-1)
    first = (data.target == 1).double()
    # Whether each alternative won, less its chance, over all rows; and the same of those that are worth most.
    for weight in (torch.eye(4, dtype=torch.float64)[0], None):
        part = (utility == utility.amax(-1, keepdim=True)).double() if weight is None else weight.expand_as(first)
        p = (chance * part).sum(-1)
        z = ((first * part).sum(-1) - p).sum() / (p * (1 - p)).sum().sqrt()
        assert abs(z) < 4.5


def test_without_temperature_the_better_one_always_wins(nano: LlamaForCausalLM) -> None:
    data = preferences(nano, LEARN[:500], np.random.default_rng(0), k=3, temperature=0.0)
    worth = gold(data)
    order = data.target.argsort(-1)
    assert (worth.gather(-1, order).diff(dim=-1) >= 0).all()


def test_nonsense_is_refused(nano: LlamaForCausalLM) -> None:
    for k, temperature, flips in ((1, 0.5, 0.0), (2, -1.0, 0.0), (2, 0.5, 1.5)):
        with pytest.raises(ValueError, match=f"k {k}, temperature {temperature}, flips {flips}; give"):
            preferences(nano, LEARN[:2], np.random.default_rng(0), k=k, temperature=temperature, flips=flips)


def test_a_policy_learns_from_rankings(nano: LlamaForCausalLM) -> None:
    model = copy.deepcopy(nano)
    data = preferences(nano, LEARN[:64], np.random.default_rng(0), k=4)
    opt = torch.optim.AdamW(model.parameters(), lr=1e-3)
    objective = direct(Answering(model), rankings(0.1), Answering(nano))
    report = fit(objective, data, opt, steps=10, batch=64, rng=np.random.default_rng(0))
    assert report.losses[-1] < report.losses[0] - 0.05


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(1800)  # pre-training may be part of it
def test_dpo_gains_and_its_share_falls_when_it_takes_many_small_steps(usual: LlamaForCausalLM) -> None:
    data = preferences(usual, LEARN[:4000], np.random.default_rng(0))
    ground = landscape(usual, HELD_OUT[:200], np.random.default_rng(1))
    found = []
    for batch in (64, 16):  # one epoch either way
        model = copy.deepcopy(usual)
        opt = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.0)
        objective = direct(Answering(model), dpo(0.1), Answering(usual))
        fit(objective, data, opt, steps=len(data) // batch, batch=batch, rng=np.random.default_rng(0))
        found.append(measure(model, usual, ground, np.random.default_rng(2)))
    gentle, hot = found
    assert gentle.gold.value > ground.reward + 0.4
    assert gentle.share.value > hot.share.value + 0.1
    assert hot.kl.value > 2 * gentle.kl.value and hot.correct.value < gentle.correct.value
