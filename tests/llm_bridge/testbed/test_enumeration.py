"""A tree of answers against plain rows, samples against what was listed, and figures against samples alone."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from llm_bridge.testbed import tutor
from llm_bridge.testbed.enumeration import log_probs, row_log_probs, tree
from llm_bridge.testbed.measure import landscape, measure, within
from llm_bridge.testbed.sampling import MAX_TOKENS, sample

LEARN, HELD_OUT = tutor.split()


def plainly(model: LlamaForCausalLM, prompt: Tensor, answer: Tensor) -> float:
    """Of one answer, token by token, each from a row of its own."""
    total = 0.0
    for t in range(len(answer)):
        logits = model(input_ids=torch.cat([prompt, answer[:t]])[None]).logits[0, -1]
        total += logits.double().log_softmax(-1)[answer[t]].item()
    return total


def louder(model: LlamaForCausalLM, scale: float = 0.03) -> LlamaForCausalLM:
    """Another policy: the model with noise in its weights."""
    other = copy.deepcopy(model)
    gen = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in other.parameters():
            p.add_(torch.randn(p.shape, generator=gen), alpha=scale)
    return other


@torch.no_grad()
def test_a_tree_gives_each_answer_what_a_row_of_its_own_gives(nano: LlamaForCausalLM) -> None:
    numbers = HELD_OUT[:3]
    tokens, mask = tutor.answers(numbers)
    prompts = tutor.prompts(numbers)
    found = log_probs(nano, prompts, tokens, mask, batch=2)
    for q in range(3):
        for a in (0, 7, 14, 19, 23, 29):
            wanted = plainly(nano, prompts[q], tokens[q, a][mask[q, a]])
            assert found[q, a].item() == pytest.approx(wanted, abs=2e-4), (q, a)
    rows = prompts[:, None].expand(-1, tutor.ANSWERS, -1).flatten(0, 1)
    plain = row_log_probs(nano, rows, tokens.flatten(0, 1), mask.flatten(0, 1), batch=13).double().sum(-1)
    assert torch.allclose(found.flatten(), plain, atol=2e-4)


def test_a_tree_holds_every_beginning_once() -> None:
    tokens, mask = tutor.answers(HELD_OUT[:1])
    layout = tree(tokens[0], mask[0], 9)
    beginnings = {
        tuple(line[: t + 1].tolist())
        for line, length in zip(tokens[0], mask[0].sum(-1).tolist(), strict=True)
        for t in range(length - 1)
    }
    assert len(layout.position) == 9 + len(beginnings) == 222


def test_the_tree_learns_as_rows_do(nano: LlamaForCausalLM) -> None:
    numbers = HELD_OUT[:2]
    tokens, mask = tutor.answers(numbers)
    prompts = tutor.prompts(numbers)
    gradients = []
    for shared in (True, False):
        model = copy.deepcopy(nano)
        if shared:
            total = log_probs(model, prompts, tokens, mask).logsumexp(-1).sum()
        else:
            rows = prompts[:, None].expand(-1, tutor.ANSWERS, -1).flatten(0, 1)
            each = row_log_probs(model, rows, tokens.flatten(0, 1), mask.flatten(0, 1)).sum(-1)
            total = each.double().view(2, -1).logsumexp(-1).sum()
        total.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    assert torch.allclose(gradients[0], gradients[1], atol=1e-4 * gradients[1].abs().max().item())


def test_answers_of_another_shape_are_refused(nano: LlamaForCausalLM) -> None:
    tokens, mask = tutor.answers(HELD_OUT[:2])
    tokens[1, 3, 0] = tutor.UNK
    with pytest.raises(ValueError, match="begin alike"):
        log_probs(nano, tutor.prompts(HELD_OUT[:2]), tokens, mask)


@torch.no_grad()
def test_everything_together_has_probability_1(nano: LlamaForCausalLM) -> None:
    log_pi = within(nano, HELD_OUT[:20])
    assert torch.allclose(log_pi.logsumexp(-1), torch.zeros(20, dtype=torch.float64), atol=1e-12)
    ground = landscape(nano, HELD_OUT[:20], np.random.default_rng(0))
    assert ground.covered == pytest.approx(log_pi[:, :-1].exp().sum(-1).mean().item(), abs=1e-12)
    assert 0.01 < ground.covered < 1


@torch.no_grad()
def test_samples_come_as_often_as_their_probability_says(nano: LlamaForCausalLM) -> None:
    numbers, k = HELD_OUT[:2], 20_000
    act, mask, log_prob = sample(nano, tutor.prompts(numbers), k, np.random.default_rng(0))
    log_pi = within(nano, numbers)
    index = tutor.marks(tutor.prompts(numbers)[:, None], act, mask).index
    for q in range(2):
        counts = torch.bincount(index[q] % (tutor.ANSWERS + 1), minlength=tutor.ANSWERS + 1)  # -1 is the last
        prob = log_pi[q].exp()
        error = (k * prob * (1 - prob)).sqrt() + 1
        assert ((counts - k * prob).abs() < 4.5 * error).all()
    rows = tutor.prompts(numbers)[:, None].expand(-1, 50, -1).flatten(0, 1)
    again = row_log_probs(nano, rows, act[:, :50].flatten(0, 1), mask[:, :50].flatten(0, 1))
    assert torch.allclose(again, log_prob[:, :50].flatten(0, 1), atol=1e-4)
    assert (act[~mask] == 0).all() and act.shape[-1] == MAX_TOKENS
    ends = (act == tutor.EOS) & mask
    assert (ends.sum(-1) <= 1).all() and (mask.sum(-1)[ends.sum(-1) == 0] == MAX_TOKENS).all()


def test_the_same_rng_draws_the_same_answers(nano: LlamaForCausalLM) -> None:
    prompts = tutor.prompts(HELD_OUT[:30])
    first, second, other = (sample(nano, prompts, 3, np.random.default_rng(seed))[0] for seed in (0, 0, 1))
    assert torch.equal(first, second) and not torch.equal(first, other)
    state = torch.get_rng_state()
    sample(nano, prompts, 1, np.random.default_rng(0))
    assert torch.equal(state, torch.get_rng_state())


def test_greedy_answers_are_those_of_transformers(nano: LlamaForCausalLM) -> None:
    prompts = tutor.prompts(HELD_OUT[:20])
    act, mask, _ = sample(nano, prompts, 1, np.random.default_rng(0), greedy=True)
    generate: Any = nano.generate
    theirs = generate(prompts, do_sample=False, max_new_tokens=MAX_TOKENS, attention_mask=torch.ones_like(prompts))
    theirs = theirs[:, prompts.shape[1] :]
    assert torch.equal(torch.where(mask, act, 0)[:, 0, : theirs.shape[1]], theirs)


def test_prompts_with_padding_are_refused(nano: LlamaForCausalLM) -> None:
    prompts = tutor.prompts(HELD_OUT[:2])
    prompts[0, -1] = tutor.PAD
    with pytest.raises(ValueError, match="padding"):
        sample(nano, prompts, 1, np.random.default_rng(0))


@torch.no_grad()
def test_a_policys_figures_are_those_of_samples_alone(nano: LlamaForCausalLM) -> None:
    policy, numbers, k = louder(nano), HELD_OUT[:50], 200
    ground = landscape(nano, numbers, np.random.default_rng(0))
    found = measure(policy, nano, ground, np.random.default_rng(1), k=k)
    prompts = tutor.prompts(numbers)
    act, mask, log_prob = sample(policy, prompts, k, np.random.default_rng(2))
    marks = tutor.marks(prompts[:, None], act, mask)
    rows = prompts[:, None].expand(-1, k, -1).flatten(0, 1)
    theirs = row_log_probs(nano, rows, act.flatten(0, 1), mask.flatten(0, 1)).sum(-1).view(len(numbers), k)
    plain = {"kl": log_prob.sum(-1) - theirs}
    plain |= {name: getattr(marks, name) for name in ("gold", "correct", "scaffold", "polite", "toxic", "grammatical")}
    for name, values in plain.items():
        mean, error = values.double().mean().item(), values.double().std().item() / values.numel() ** 0.5
        figure = getattr(found, name)
        assert abs(figure.value - mean) < 4.5 * (figure.error**2 + error**2) ** 0.5 + 1e-4, name
        assert figure.error <= error * 1.05 + 1e-9, name  # what is summed over exactly has none
    assert found.kl.value > 10 * found.kl.error


@torch.no_grad()
def test_the_reference_is_at_distance_0_from_itself(nano: LlamaForCausalLM) -> None:
    ground = landscape(nano, HELD_OUT[:50], np.random.default_rng(0))
    found = measure(nano, nano, ground, np.random.default_rng(1))
    assert abs(found.kl.value) < 1e-5 and found.covered == pytest.approx(ground.covered, abs=1e-9)
    assert abs(found.gold.value - ground.reward) < 4.5 * 2**0.5 * found.gold.error
    assert found.share.error > 1  # too near to say
