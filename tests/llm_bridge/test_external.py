"""A server as a sampler: its replies are computed by a real model, and what it drew with is what a policy says."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from embodied.advantages import plain
from embodied.feedback import Feedback
from embodied.policy_gradient import clipped, policy_gradient
from llm_bridge.endpoint import EndpointError, Server
from llm_bridge.external import LogProbs, Ratios, external, knows, ratios
from llm_bridge.law import Law
from llm_bridge.lm import LM
from tests.llm_bridge import tiny
from tests.llm_bridge.sampling_server import modelled
from tests.llm_bridge.scripted import Heard, Reply, serving

STOP = 5
NET = tiny.model()
LAWS = [Law(), Law(0.7), Law(0.7, 20, 0.9)]
PROMPTS = [[3, 8, 1], [7], [9, 2, 6, 4, 11]]


def server(heard: Heard) -> Server:
    return Server(heard.url, "tiny", retries=1)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("kind", ["model", "tempered", "processed", "unknown"])
def test_the_ratio_is_one_where_it_is_known_and_unknown_elsewhere(law: Law, kind: LogProbs) -> None:
    with serving(modelled(NET, kind)) as heard:
        sample = external(server(heard), longest=9, stop=[STOP], law=law, log_probs=kind)
        found = sample(PROMPTS, 2, np.random.default_rng(0))
    assert found.act.shape[:2] == (3, 2) and isinstance(found.obs, dict)
    assert [
        ids[m].tolist() for ids, m in zip(found.obs["prompt"][:, 0], found.obs["prompt_mask"][:, 0], strict=True)
    ] == (PROMPTS)
    policy = LM(NET, law=law)
    if knows(kind, law):
        seen = ratios(policy, found)
        assert abs(seen.mean - 1) < 1e-4 and abs(seen.farthest - 1) < 1e-3 and seen.tokens == int(found.mask.sum())
        assert "ratio 1.0000" in str(seen)
    else:
        assert found.log_prob[found.mask].isnan().all()
        with pytest.raises(ValueError, match="log_prob is not known"):
            ratios(policy, found)
        one = torch.ones(3)
        data = Feedback(found, torch.zeros(3, 2), one, one.long(), one.bool(), "reward")
        with pytest.raises(ValueError, match="is not known"):
            policy_gradient(policy, clipped(0.2), plain())(data)
    assert (found.log_prob[~found.mask] == 0).all()


def test_what_known_means() -> None:
    table = {kind: [knows(kind, law) for law in LAWS] for kind in ("model", "tempered", "processed", "unknown")}
    assert table == {
        "model": [True, False, False],
        "tempered": [True, True, False],
        "processed": [True, True, True],
        "unknown": [False, False, False],
    }
    with pytest.raises(EndpointError, match="log_probs is 'raw'"):
        knows("raw", Law())  # type: ignore[arg-type]


def test_a_server_that_says_another_law_than_told_is_found_out() -> None:
    with serving(modelled(NET, "model")) as heard:
        sample = external(server(heard), longest=9, stop=[STOP], law=Law(0.7, 20, 0.9), log_probs="processed")
        with pytest.raises(EndpointError, match=r"of a token that alone was in play, not 0.*processed_logprobs"):
            sample(PROMPTS, 2, np.random.default_rng(0))
        assert len(heard.seen) == 1
    with serving(modelled(NET, "model")) as heard:  # other weights: the ratios tell
        found = external(server(heard), longest=9, stop=[STOP])(PROMPTS, 4, np.random.default_rng(0))
    other = ratios(LM(tiny.model(seed=1)), found)
    assert abs(other.mean - 1) > 0.05


def test_requests_say_all_that_shapes_the_law_and_each_has_its_seed() -> None:
    with serving(modelled(NET, "processed")) as heard:
        sample = external(server(heard), longest=6, stop=[STOP], law=Law(0.7, 0, 0.9), log_probs="processed")
        found = sample(PROMPTS, 4, np.random.default_rng(3))
        again = sample(PROMPTS, 4, np.random.default_rng(3))
        other = sample(PROMPTS, 4, np.random.default_rng(4))
    bodies = [one.body for one in heard.seen[1:13]]
    assert {one.path for one in heard.seen} == {"/v1/completions"}
    assert len({body["seed"] for body in bodies}) == 12
    told = {"temperature": 0.7, "top_p": 0.9, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "max_tokens": 6}
    assert all(told.items() <= body.items() and body["return_token_ids"] for body in bodies)
    assert torch.equal(found.act, again.act) and not torch.equal(found.act, other.act)
    assert len(heard.seen) == 1 + 3 * 12  # the trial once


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda c: {k: v for k, v in c.items() if k != "token_ids"}, "the server's reply has token_ids None"),
        (lambda c: c | {"token_ids": []}, "the server's reply has token_ids []"),
        (lambda c: c | {"prompt_token_ids": [1, *c["prompt_token_ids"]]}, "the server read a prompt of"),
        (lambda c: c | {"logprobs": None}, "tokens came with no log-probabilities"),
        (lambda c: c | {"logprobs": {"token_logprobs": [-1.0]}}, "tokens came with 1 log-probabilities"),
        (
            lambda c: c | {"logprobs": {"token_logprobs": [-9999.0] * len(c["token_ids"])}},
            "has log-probability -9999.0",
        ),
        (lambda c: c | {"logprobs": {"token_logprobs": [None] * len(c["token_ids"])}}, "has log-probability None"),
        (
            lambda c: c | {"finish_reason": "stop", "token_ids": [*c["token_ids"][:-1], 17]},
            "ended after token 17 by a stop",
        ),
    ],
)
def test_a_reply_that_does_not_add_up_stops_it(change: Any, sentence: str) -> None:
    with serving(modelled(NET, "model", change)) as heard:
        sample = external(server(heard), longest=12, stop=[STOP])
        with pytest.raises(EndpointError, match=re.escape(sentence)):
            sample(PROMPTS, 4, np.random.default_rng(0))


def test_a_missing_answer_and_impossible_wishes() -> None:
    inner = modelled(NET, "model")

    def script(number: int, body: dict[str, Any]) -> Reply:
        return Reply({"error": {"message": "too long"}}, 400) if len(body["prompt"]) == 5 else inner(number, body)

    with serving(script) as heard:
        sample = external(server(heard), longest=4, stop=[STOP])
        with pytest.raises(
            EndpointError, match="2 of 6 answers are missing, first answer 0 to prompt 2: 400: too long"
        ):
            sample(PROMPTS, 2, np.random.default_rng(0))
        with pytest.raises(ValueError, match="1 prompts and k is 0"):
            sample([[3]], 0, np.random.default_rng(0))
        with pytest.raises(ValueError, match="of at least one token"):
            sample([[]], 1, np.random.default_rng(0))
        with pytest.raises(EndpointError, match="longest is 0"):
            external(server(heard), longest=0, stop=[STOP])
    assert replace(Ratios(2, 1.0, 1.0), tokens=3).tokens == 3
