"""Packed log-probabilities and gradients are those of each text alone, and nothing leaks from one to another."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from embodied.feedback import Segments
from embodied.policy import Anchored
from embodied.reference import Reference
from embodied.remembered import Remembered
from llm_bridge.attention import mask_of
from llm_bridge.law import Law
from llm_bridge.lm import LM, AnchoredLM
from llm_bridge.packing import BLOCK, block_mask, dense_mask, pack, parts
from tests.llm_bridge import tiny

FAMILIES = [
    *("llama", "qwen2", "qwen3", "mistral", "gemma", "olmo2", "phi3", "gemma3_text", "phi", "stablelm"),
    *("starcoder2", "olmo", "glm", "smollm3", "nemotron", "exaone4", "mixtral", "qwen2_moe"),
]
# Heads that multiply, divide or cap, capped scores, and none of the names that the others have.
ODD = {
    "cohere": {"logit_scale": 0.25},
    "granite": {"logits_scaling": 3.0},
    "gemma2": {},
    "gpt_neox": {"num_key_value_heads": None},
    "gpt2": {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 512, "num_key_value_heads": None},
}


def gradients(net: Any) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("family", [*FAMILIES, *ODD])
@pytest.mark.parametrize("row", [40, 10_000])
def test_packed_equals_each_text_alone(family: str, row: int) -> None:
    more = {"pad_token_id": 0, "eos_token_id": 5} | ODD.get(family, {})
    net, segments = tiny.model(family, **more), tiny.texts(7, 3, 12, 10)
    weight = torch.randn(segments.mask.shape, generator=torch.Generator().manual_seed(1))
    expected = tiny.plain(net, segments)
    (expected * weight).sum().backward()
    slopes = gradients(net)
    net.zero_grad()
    found = LM(net, row=row).log_prob(segments)
    (found * weight).sum().backward()
    assert (found - expected).abs().max() < 2e-5
    for name, slope in gradients(net).items():
        assert (slope - slopes[name]).norm() <= 1e-4 * slopes[name].norm() + 1e-6, name


def test_a_wrong_order_of_positions_would_be_seen() -> None:
    net, segments = tiny.model(), tiny.texts(4, 2, 8, 8)
    lm = LM(net)
    laid = pack(segments, 512)
    laid = replace(laid, position=torch.arange(laid.ids.shape[1])[None])
    hidden = net.model(
        input_ids=laid.ids, position_ids=laid.position, attention_mask=mask_of(laid, net)
    ).last_hidden_state
    logp = net.lm_head(hidden[0, laid.query]).log_softmax(-1).gather(1, laid.target[:, None])[:, 0]
    assert (logp - lm.log_prob(segments)[segments.mask]).abs().max() > 0.1


def test_no_answer_sees_another() -> None:
    """One token of one answer changes: every other answer's numbers stay what they were, to the last bit."""
    lm, segments = LM(tiny.model(), row=10_000), tiny.texts(5, 4, 9, 9)
    before = lm.log_prob(segments).detach()
    act = segments.act.clone()
    act[2, 1, 0] = act[2, 1, 0] % 90 + 1
    assert act[2, 1, 0] != segments.act[2, 1, 0]
    after = lm.log_prob(replace(segments, act=act)).detach()
    changed = before != after
    assert changed[2, 1].any()
    changed[2, 1] = False
    assert not changed.any()


def test_a_prompt_reaches_all_its_answers_and_no_others() -> None:
    lm, segments = LM(tiny.model(), row=10_000), tiny.texts(5, 4, 9, 9)
    before = lm.log_prob(segments).detach()
    assert isinstance(segments.obs, dict)
    prompt = segments.obs["prompt"].clone()
    prompt[3, 0, 0] = prompt[3, 0, 0] % 90 + 1
    after = lm.log_prob(replace(segments, obs=segments.obs | {"prompt": prompt})).detach()
    moved = (before != after).any(-1)
    assert moved[3].all() and not moved[[0, 1, 2, 4]].any()


@pytest.mark.parametrize("seed", range(6))
def test_blocks_say_what_the_dense_mask_says(seed: int) -> None:
    """FlexAttention's blocks: one is read where the dense mask is true somewhere, and none is full where it is not."""
    segments = tiny.texts(9, 1 + seed, 200, 150, seed)
    laid = pack(segments, 1500, BLOCK)
    dense = dense_mask(laid)
    mask: Any = block_mask(laid)
    rows, n = laid.ids.shape
    blocks = n // BLOCK
    by_block = dense.view(rows, blocks, BLOCK, blocks, BLOCK).transpose(2, 3)
    some, every = by_block.flatten(3).any(-1), by_block.flatten(3).all(-1)

    def table(number: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        out = torch.zeros(rows, blocks, blocks, dtype=torch.bool)
        for r in range(rows):
            for q in range(blocks):
                out[r, q, index[r, 0, q, : number[r, 0, q]].long()] = True
        return out

    full = table(mask.full_kv_num_blocks, mask.full_kv_indices)
    partly = table(mask.kv_num_blocks, mask.kv_indices)
    assert torch.equal(full | partly, some)
    assert torch.equal(full, every & full) and not (full & partly).any()
    # Inside a block that is read in part, the rule decides.
    b, q, k = torch.meshgrid(torch.arange(rows), torch.arange(n), torch.arange(n), indexing="ij")
    assert torch.equal(mask.mask_mod(b, torch.zeros_like(b), q, k), dense[:, 0])


def test_a_group_shares_its_prompt() -> None:
    segments = tiny.texts(6, 8, 50, 5)
    assert isinstance(segments.obs, dict)
    real = int(segments.obs["prompt_mask"].sum() + segments.mask.sum())
    laid = pack(segments, 10_000)
    assert laid.ids.shape == (1, real)
    assert len(laid.target) == int(segments.mask.sum())


@pytest.mark.parametrize("tokens", [1, 30, 100, 10_000])
def test_parts_are_all_rows_once_in_order(tokens: int) -> None:
    segments = tiny.texts(20, 2, 9, 9)
    slices = parts(segments, tokens)
    assert [i for s in slices for i in range(s.start, s.stop)] == list(range(20))
    sizes = [int(segments.mask[s].sum()) for s in slices]
    assert all(sizes) and (tokens < 10_000 or len(slices) == 1)


@pytest.mark.parametrize("law", [Law(0.7), Law(1.0, 5), Law(1.0, 0, 0.8), Law(0.6, 20, 0.9)])
def test_the_law_of_sampling_by_hand(law: Law) -> None:
    """Log-probabilities under a temperature, top-k and top-p, worked out token by token; gradients by differences."""
    net, segments = tiny.model(), tiny.texts(3, 2, 5, 4)
    found = LM(net, law=law).log_prob(segments)
    assert isinstance(segments.obs, dict)
    for b in range(3):
        prompt = segments.obs["prompt"][b, 0][segments.obs["prompt_mask"][b, 0]]
        for k in range(2):
            answer = segments.act[b, k][segments.mask[b, k]]
            logits = net(input_ids=torch.cat([prompt, answer])[None]).logits[0, len(prompt) - 1 : -1].detach()
            for t, token in enumerate(answer.tolist()):
                z = (logits[t] / law.temperature).double()
                order = z.argsort(descending=True).tolist()
                kept = order[: law.top_k or len(order)]
                p = torch.softmax(z[kept], 0).tolist()
                held, nucleus = 0.0, []
                for i, share in zip(kept, p, strict=True):
                    if held >= law.top_p:
                        break
                    nucleus.append(i)
                    held += share
                alive = sorted({*nucleus, token})
                expected = float(z[token] - torch.logsumexp(z[alive], 0))
                assert found[b, k, t].item() == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("law", [Law(), Law(0.7), Law(0.8, 6), Law(1.0, 0, 0.7)])
@pytest.mark.parametrize("softcap", [0.0, 3.0])
@pytest.mark.parametrize("biased", [False, True])
def test_the_head_against_autograd(law: Law, softcap: float, biased: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from llm_bridge import head

    monkeypatch.setattr(head, "TILE", 5 * 31)  # several tiles
    draw = torch.Generator().manual_seed(3)
    hidden = torch.randn(17, 8, generator=draw, requires_grad=True)
    weight = torch.randn(31, 8, generator=draw, requires_grad=True)
    bias = torch.randn(31, generator=draw, requires_grad=True) if biased else None
    target, grad = torch.randint(31, (17,), generator=draw), torch.randn(17, generator=draw)
    logits = hidden @ weight.T + (0 if bias is None else bias)
    logits = softcap * torch.tanh(logits / softcap) if softcap else logits
    expected = law.cut(logits, target).log_softmax(-1).gather(1, target[:, None])[:, 0]
    leaves = [hidden, weight, *([] if bias is None else [bias])]
    slopes = torch.autograd.grad(expected, leaves, grad)
    found = head.head_log_prob(hidden, head.Head(weight, bias, softcap), target, law)
    assert torch.allclose(found, expected, atol=1e-5)
    for ours, theirs in zip(torch.autograd.grad(found, leaves, grad), slopes, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)


def test_kl_is_the_sum_over_the_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways round, with gradients, in several tiles; by hand, text by text."""
    from llm_bridge import head

    monkeypatch.setattr(head, "TILE", 7 * tiny.VOCABULARY)
    segments = tiny.texts(3, 2, 5, 4)
    ours, theirs = tiny.model(), tiny.model(seed=1)

    def by_hand(a: Any, b: Any) -> torch.Tensor:
        assert isinstance(segments.obs, dict)
        rows = []
        for i in range(3):
            prompt = segments.obs["prompt"][i, 0][segments.obs["prompt_mask"][i, 0]]
            for k in range(2):
                answer = segments.act[i, k][segments.mask[i, k]]
                ids = torch.cat([prompt, answer])[None]
                p, q = ((m(input_ids=ids).logits[0, len(prompt) - 1 : -1] / 0.7).log_softmax(-1) for m in (a, b))
                each = (p.exp() * (p - q)).sum(-1)
                rows.append(torch.nn.functional.pad(each, (0, segments.mask.shape[2] - len(each))))
        return torch.stack(rows).view(segments.mask.shape)

    for a, b in ((ours, theirs), (theirs, ours)):
        ours.zero_grad()
        expected = by_hand(a, b)
        expected.sum().backward()  # type: ignore[no-untyped-call]
        slopes = gradients(ours)
        ours.zero_grad()
        found = AnchoredLM(a, law=Law(0.7)).kl(LM(b, law=Law(0.7)), segments)
        found.sum().backward()  # type: ignore[no-untyped-call]
        assert (found - expected).abs().max() < 1e-4
        assert all(
            (slope - slopes[name]).norm() <= 1e-3 * slopes[name].norm() for name, slope in gradients(ours).items()
        )
    policy = AnchoredLM(ours)
    assert isinstance(policy, Anchored) and not isinstance(LM(ours), Anchored)
    plain = policy.kl(LM(theirs), segments)
    for other in (Reference(LM(theirs)), Remembered(Reference(LM(theirs)))):
        assert torch.equal(policy.kl(other, segments), plain)
    with pytest.raises(TypeError, match="object is no language model"):
        policy.kl(object(), segments)
    with pytest.raises(ValueError, match="is infinite, since it leaves tokens out"):
        AnchoredLM(ours, law=Law(1.0, 5)).kl(LM(theirs), segments)


def test_half_precision_is_no_worse_packed() -> None:
    """bfloat16 products against float32 ones of the same weights: packed, the error is that of texts alone."""
    net, segments = tiny.model(initializer_range=0.1), tiny.texts(8, 3, 12, 10)
    exact = tiny.plain(net, segments).detach()
    with torch.autocast("cpu", torch.bfloat16):
        alone, together = tiny.plain(net, segments).detach(), LM(net).log_prob(segments).detach()
    assert together.dtype == torch.float32
    errors = [float((x - exact).abs()[segments.mask].mean()) for x in (alone.float(), together)]
    assert 0 < errors[1] <= 1.2 * errors[0]


def segments_with(**changed: torch.Tensor) -> Segments:
    segments = tiny.texts(3, 2, 6, 5)
    assert isinstance(segments.obs, dict)
    obs = segments.obs | {k: v for k, v in changed.items() if k in segments.obs}
    return replace(segments, obs=obs, **{k: v for k, v in changed.items() if k not in segments.obs})


def test_what_is_no_text() -> None:
    lm = LM(tiny.model())
    segments = tiny.texts(3, 2, 6, 5)
    assert isinstance(segments.obs, dict)
    with pytest.raises(ValueError, match="no texts; a language model takes"):
        lm.log_prob(replace(segments, obs=segments.act.float()))
    empty = segments.obs["prompt_mask"].clone()
    empty[1] = False
    with pytest.raises(ValueError, match="prompt of row 1 has no token"):
        lm.log_prob(segments_with(prompt_mask=empty))
    holes = segments.mask.clone()
    holes[2, 0] = torch.tensor([True, False, True, False, False])
    with pytest.raises(ValueError, match="mask of an answer of row 2 has holes"):
        lm.log_prob(replace(segments, mask=holes))
    with pytest.raises(ValueError, match="a token is 97, the model has 97"):
        lm.log_prob(replace(segments, act=torch.where(segments.mask, 97, 0)))
    with pytest.raises(ValueError, match="temperature is 0"):
        Law(0.0)


def test_a_window_shorter_than_a_text() -> None:
    lm = LM(tiny.model("mistral", sliding_window=8))
    lm.log_prob(tiny.texts(3, 2, 3, 4))
    with pytest.raises(ValueError, match="more than the 8 that MistralForCausalLM looks back"):
        lm.log_prob(tiny.texts(9, 2, 9, 9))


def test_a_model_that_does_not_only_attend() -> None:
    with pytest.raises(ValueError, match="layers of linear_attention"):
        LM(
            tiny.model(
                "qwen3_next", layer_types=["linear_attention", "full_attention", "full_attention"], num_experts=2
            )
        )


@pytest.mark.parametrize(
    ("family", "sentence"),
    [
        ("gptj", "GPTJForCausalLM attends in a way of its own"),
        ("bloom", "BloomForCausalLM attends in a way of its own"),
        ("gpt_oss", "attention has sinks"),
    ],
)
def test_a_model_that_attends_in_another_way(family: str, sentence: str) -> None:
    odd = {"gptj": dict(n_embd=32, n_layer=2, n_head=4, rotary_dim=4), "gpt_oss": dict(num_local_experts=4)}
    with pytest.raises(ValueError, match=sentence):
        LM(tiny.model(family, **odd.get(family, {}))).log_prob(tiny.texts(2, 2, 3, 4))


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_generate_goes_on_as_before(family: str) -> None:
    net = tiny.model(family, initializer_range=0.1)
    ids = torch.tensor([[3, 4, 5], [0, 0, 6]])  # the second is padded on the left
    given = {"attention_mask": ids > 0, "max_new_tokens": 8, "do_sample": False, "pad_token_id": 0}
    before = net.generate(input_ids=ids, **given)
    LM(net)
    after = net.generate(input_ids=ids, **given)
    assert torch.equal(before, after) and len(set(after[1].tolist())) > 2


def test_a_head_that_does_more_than_is_known_is_refused() -> None:
    """One that multiplies by what others of that name divide by."""
    LM(tiny.model("hyperclovax", logits_scaling=1.0))
    with pytest.raises(ValueError, match="HyperCLOVAXForCausalLM makes its logits in a way that is not known here"):
        LM(tiny.model("hyperclovax", logits_scaling=0.5))
