"""The exact KL of language models: what the plain models' whole laws say, position by position, and its gradient."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from embodied.feedback import Segments
from embodied.policy import Anchored
from embodied.reference import Reference
from embodied.remembered import Remembered
from llm_bridge.adapters import AdapterOff
from llm_bridge.anchored import AnchoredLM
from llm_bridge.law import Law
from llm_bridge.lm import LM
from tests.llm_bridge import tiny
from tests.llm_bridge.test_adapters import adapted


def laws(net: Any, segments: Segments, temperature: float = 1.0) -> Tensor:
    """log p of every token before each token of each answer, by a pass of its own text, [steps,V]."""
    assert isinstance(segments.obs, dict)
    found = []
    for b in range(len(segments)):
        prompt = segments.obs["prompt"][b, 0][segments.obs["prompt_mask"][b, 0]]
        for k in range(segments.mask.shape[1]):
            answer = segments.act[b, k][segments.mask[b, k]]
            logits = net(input_ids=torch.cat([prompt, answer])[None]).logits[0, len(prompt) - 1 : -1]
            found.append((logits / temperature).log_softmax(-1))
    return torch.cat(found)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_it_is_that_of_the_plain_models(temperature: float, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs, segments = tiny.model(seed=0), tiny.model(seed=1), tiny.texts(5, 2, 7, 6)
    p, q = laws(ours, segments, temperature), laws(theirs, segments, temperature)
    expected = (p.exp() * (p - q)).sum(-1)
    expected.sum().backward()
    slopes = [x.grad.clone() for x in ours.parameters()]  # type: ignore[union-attr]
    ours.zero_grad()
    monkeypatch.setattr("llm_bridge.anchored.TILE", 4 * tiny.VOCABULARY * 7)  # in several tiles, the last one shorter
    law = Law(temperature)
    policy, reference = AnchoredLM(ours, law=law), LM(theirs, law=law)
    assert isinstance(policy, Anchored)
    found = policy.kl(reference, segments)
    assert torch.allclose(found[segments.mask], expected, atol=1e-5) and not found[~segments.mask].any()
    found.sum().backward()
    for slope, parameter in zip(slopes, ours.parameters(), strict=True):
        assert parameter.grad is not None
        assert (slope - parameter.grad).norm() <= 1e-4 * slope.norm() + 1e-6


def test_references_of_all_kinds_are_asked() -> None:
    segments = tiny.texts(4, 2, 6, 5)
    policy = AnchoredLM(tiny.model())
    begun = copy.deepcopy(policy)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(1.1)
    with torch.no_grad():
        plain = policy.kl(begun, segments)
        assert plain[segments.mask].min() > 0
        for other in (Reference(begun), Remembered(begun)):
            assert torch.equal(policy.kl(other, segments), plain)
        lm = adapted()
        policy = AnchoredLM(lm.model)
        assert policy.kl(AdapterOff(policy), segments).abs().max() < 1e-6  # a fresh adapter changes nothing
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:
                parameter.add_(0.3)
        assert policy.kl(AdapterOff(policy), segments)[segments.mask].min() > 0
    with pytest.raises(TypeError, match="object is no language model"):
        policy.kl(object(), segments)  # type: ignore[arg-type]
