"""Log-probabilities of given tokens from hidden states, without ever holding the logits of all of them.

Tiles of positions meet the vocabulary, leave one number each, and are made again for the gradient, whose sums are kept
in float32. Only what is scored is projected.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from llm_bridge.law import Law

TILE = 1 << 29  # logits at once: 1 GB in bfloat16


@dataclass(frozen=True, eq=False)
class Head:
    """What makes logits of hidden states: weight [V,H], bias [V]; softcap, where logits are softcap tanh(logits /
    softcap) (Gemma 2; 0: they are not); scale, by which hidden states are multiplied."""

    weight: Tensor
    bias: Tensor | None = None
    softcap: float = 0.0
    scale: float = 1.0


def head_log_prob(hidden: Tensor, head: Head, target: Tensor, law: Law) -> Tensor:
    """log p [M], float32, of the tokens target [M] under the law, from hidden [M,H].

    Under autocast products are of its type; sums over the vocabulary are of float32.
    """
    hidden = _scaled(hidden, head)
    found: Tensor = _LogProb.apply(hidden, head.weight, head.bias, target, law, head.softcap, _product_type(hidden))
    return found


def head_kl(hidden: Tensor, head: Head, other: Tensor, other_head: Head, temperature: float) -> Tensor:
    """KL [M], float32, of the next token by `hidden` [M,H] from the next token by `other` [M,H]; differentiable in
    both."""
    hidden, other = _scaled(hidden, head), _scaled(other, other_head)
    tile = max(1, TILE // len(head.weight))
    low = _product_type(hidden)

    def of(h: Tensor, w: Tensor, b: Tensor | None, softcap: float) -> Tensor:
        logits = _logits(h.to(low), w.to(low), b).float()
        return (_bent(logits, softcap) / temperature).log_softmax(-1)

    def kl(h: Tensor, o: Tensor) -> Tensor:
        ours = of(h, head.weight, head.bias, head.softcap)
        theirs = of(o, other_head.weight, other_head.bias, other_head.softcap)
        return (ours.exp() * (ours - theirs)).sum(-1)

    found = [
        checkpoint(kl, hidden[i : i + tile], other[i : i + tile], use_reentrant=False)
        for i in range(0, len(hidden), tile)
    ]
    return torch.cat(found)


def logits(hidden: Tensor, head: Head) -> Tensor:
    """All of them, [...,V]: of few positions."""
    flat = _scaled(hidden, head).flatten(0, -2).to(head.weight.dtype)
    return _bent(_logits(flat, head.weight, head.bias), head.softcap).unflatten(0, hidden.shape[:-1])


def _scaled(hidden: Tensor, head: Head) -> Tensor:
    return hidden if head.scale == 1 else hidden * head.scale


def _product_type(hidden: Tensor) -> torch.dtype:
    kind = hidden.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype


class _LogProb(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        target: Tensor,
        law: Law,
        softcap: float,
        low: torch.dtype,
    ) -> Tensor:
        h, w = hidden.to(low), weight.to(low)
        ctx.tile = max(1, TILE // len(w))
        ctx.save_for_backward(hidden, weight, bias, target)
        ctx.law, ctx.softcap, ctx.low = law, softcap, low
        found = [
            _log_prob(_logits(h[i : i + ctx.tile], w, bias), target[i : i + ctx.tile], law, softcap)
            for i in range(0, len(h), ctx.tile)
        ]
        return torch.cat(found) if found else hidden.new_zeros(0, dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, target = ctx.saved_tensors
        (grad,) = grads
        h, w = hidden.to(ctx.low), weight.to(ctx.low)
        d_hidden = torch.empty_like(h)
        d_weight = torch.zeros(weight.shape, device=w.device) if ctx.needs_input_grad[1] else None
        d_bias = torch.zeros(bias.shape, device=w.device) if bias is not None and ctx.needs_input_grad[2] else None
        for i in range(0, len(h), ctx.tile):
            some = slice(i, i + ctx.tile)
            d = _slope(_logits(h[some], w, bias), target[some], grad[some], ctx.law, ctx.softcap)
            d_hidden[some] = d @ w
            if d_weight is not None:
                d_weight += d.T @ h[some]
            if d_bias is not None:
                d_bias += d.sum(0, dtype=torch.float32)
        return (
            d_hidden.to(hidden.dtype),
            None if d_weight is None else d_weight.to(weight.dtype),
            None if d_bias is None or bias is None else d_bias.to(bias.dtype),
            None,
            None,
            None,
            None,
        )


def _logits(h: Tensor, w: Tensor, bias: Tensor | None) -> Tensor:
    return h @ w.T if bias is None else torch.addmm(bias.to(h.dtype), h, w.T)


def _bent(logits: Tensor, softcap: float) -> Tensor:
    return softcap * torch.tanh(logits / softcap) if softcap else logits


def _whole_log_prob(logits: Tensor, target: Tensor, temperature: float, softcap: float) -> Tensor:
    z = _bent(logits.float(), softcap) / temperature
    return z.gather(1, target[:, None])[:, 0] - z.logsumexp(1)


def _whole_slope(logits: Tensor, target: Tensor, grad: Tensor, temperature: float, softcap: float) -> Tensor:
    """d (grad . log p) / d logits, in the type of the logits."""
    z = _bent(logits.float(), softcap)
    d = -(z / temperature).softmax(1) * grad[:, None]
    d = torch.where(torch.arange(z.shape[1], device=z.device) == target[:, None], d + grad[:, None], d) / temperature
    if softcap:
        d = d * (1 - (z / softcap) ** 2)
    return d.to(logits.dtype)


def _log_prob(logits: Tensor, target: Tensor, law: Law, softcap: float) -> Tensor:
    if law.whole:
        return _fused(_whole_log_prob, logits)(logits, target, law.temperature, softcap)
    z = law.cut(_bent(logits.float(), softcap), target)
    return z.gather(1, target[:, None])[:, 0] - z.logsumexp(1)


def _slope(logits: Tensor, target: Tensor, grad: Tensor, law: Law, softcap: float) -> Tensor:
    if law.whole:
        return _fused(_whole_slope, logits)(logits, target, grad, law.temperature, softcap)
    capped = _bent(logits.float(), softcap)
    d = -law.cut(capped, target).softmax(1) * grad[:, None]
    d[torch.arange(len(d), device=d.device), target] += grad
    d = d / law.temperature
    if softcap:
        d = d * (1 - (capped / softcap) ** 2)
    return d.to(logits.dtype)


def _fused(f: Any, like: Tensor) -> Any:
    """The function as one kernel on a GPU: the logits are read once, and no float32 copy is written."""
    if like.device.type != "cuda":
        return f
    if f not in _compiled:
        _compiled[f] = torch.compile(f, dynamic=True)
    return _compiled[f]


_compiled: dict[Any, Any] = {}
