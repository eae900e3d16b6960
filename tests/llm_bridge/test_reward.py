"""Reward models: packed scores are those of padded batches, and comparisons teach them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from embodied.feedback import Feedback
from embodied.fit import fit, ranking
from embodied.losses import logistic, pairwise
from llm_bridge.reward import RewardLM
from tests.llm_bridge import tiny


def classifier(outputs: int = 1, seed: int = 0, **more: Any) -> Any:
    net = tiny.model(seed=seed, **more)
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(seed)
    net.config.num_labels, net.config.pad_token_id = outputs, 0
    return AutoModelForSequenceClassification.from_config(net.config).float().eval()


def test_packed_is_what_a_server_says_of_padded_texts() -> None:
    net, segments = classifier(3), tiny.texts(6, 3, 9, 8)
    found = RewardLM(net, row=60).values(segments)
    assert isinstance(segments.obs, dict)
    prompts = [segments.obs["prompt"][b, 0][segments.obs["prompt_mask"][b, 0]] for b in range(6)]
    texts = [torch.cat([prompts[b], segments.act[b, k][segments.mask[b, k]]]) for b in range(6) for k in range(3)]
    ids = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True)
    mask = torch.arange(ids.shape[1]) < torch.tensor([len(text) for text in texts])[:, None]
    logits = net(input_ids=ids, attention_mask=mask.long()).logits
    assert (found.flatten(0, 1) - logits).abs().max() < 1e-5


def test_comparisons_teach_it() -> None:
    """People who like small numbers at the end: learned from 300 pairs, right on others; not from shuffled answers."""
    segments = tiny.texts(400, 2, 4, 6)
    segments = replace(segments, act=(segments.act % 12 + 1) * segments.mask)
    true = -segments.act.gather(-1, segments.mask.sum(-1, keepdim=True) - 1)[..., 0].float()
    first = (true[:, 0] > true[:, 1]).float() + (true[:, 0] == true[:, 1]).float() / 2
    one = torch.ones(400)
    right = []
    for target in (first, first[torch.randperm(400, generator=torch.Generator().manual_seed(0))]):
        data = Feedback(segments, torch.stack([target, 1 - target], 1), one, one.long() * 0, one.bool())
        reward = RewardLM(classifier(initializer_range=0.05))
        opt = torch.optim.AdamW(reward.parameters(), 3e-3)
        fit(
            ranking(reward, pairwise(logistic)),
            data[:300],
            opt,
            steps=50,
            batch=60,
            rng=np.random.default_rng(0),
            split=reward.parts,
        )
        with torch.no_grad():
            score = reward(segments[range(300, 400)])
        clear = first[300:] != 0.5
        right.append(float(((score[:, 0] > score[:, 1]) == (first[300:] > 0.5))[clear].float().mean()))
    assert right[0] > 0.8 and right[1] < 0.72


def test_outputs_and_models_that_are_not_there() -> None:
    reward = RewardLM(classifier(2))
    segments = tiny.texts(3, 2, 4, 4)
    assert torch.equal(reward.of(1)(segments), reward.values(segments)[..., 1])
    with pytest.raises(ValueError, match="output 2 of 2"):
        reward.of(2)
    with pytest.raises(TypeError, match="LlamaForCausalLM has no `score` head"):
        RewardLM(tiny.model())
