"""A language model that knows its KL from another, exactly: a sum over the vocabulary at each token, in tiles."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from embodied.feedback import Segments
from embodied.policy import Policy
from embodied.reference import Reference
from embodied.remembered import Remembered
from llm_bridge.adapters import Adapter, AdapterOff
from llm_bridge.head import TILE
from llm_bridge.lm import LM, base
from llm_bridge.packing import Pack


class AnchoredLM(LM):
    """An LM that is `embodied.policy.Anchored`, at the price of both models' whole laws."""

    def kl(self, reference: Policy, segments: Segments) -> Tensor:
        """KL(policy, reference) of the next token at each token of the answers [B,K,T], float32, differentiable, 0
        where the mask is false. reference: an LM, one of its adapters' states, or what remembers one of these.

        Under the laws of sampling of both; infinite where the reference's leaves out what this one may draw. Raises
        TypeError for a policy of another kind.
        """
        laid = self.laid(segments)
        mine = _before_each(self, laid)
        with _speaking(reference) as theirs:
            other = _before_each(theirs, laid)
        size = max(1, TILE // (4 * len(base(self.model).get_output_embeddings().weight)))
        tiles = [
            checkpoint(_between, self, theirs, mine[i : i + size], other[i : i + size], use_reentrant=False)
            for i in range(0, len(mine), size)
        ]
        flat = torch.zeros(segments.mask.numel(), device=self.device).index_put((laid.where,), torch.cat(tiles))
        return flat.view(segments.mask.shape).to(segments.mask.device)


def _speaking(policy: Policy) -> AbstractContextManager[LM]:
    match policy:
        case Reference() | Remembered():
            return _speaking(policy.policy)
        case LM():
            return contextlib.nullcontext(policy)
        case AdapterOff() | Adapter():
            return policy.speaking()
    raise TypeError(f"{type(policy).__name__} is no language model; give an LM, or its AdapterOff")


def _before_each(lm: LM, laid: Pack) -> Tensor:
    """What the last layer says before each token of the answers, [M,H]."""
    with lm.precision():
        return lm.hidden(laid).index_select(0, laid.query)


def _between(ours: LM, theirs: LM, mine: Tensor, other: Tensor) -> Tensor:
    logp, logq = _law(ours, mine), _law(theirs, other)
    never = logp.isneginf()
    return torch.where(never, 0.0, logp.exp() * (torch.where(never, 0.0, logp) - torch.where(never, 0.0, logq))).sum(-1)


def _law(lm: LM, hidden: Tensor) -> Tensor:
    """log p of every token [M,V], float32."""
    model = base(lm.model)
    with lm.precision():
        logits = model.get_output_embeddings()(hidden)
    logits = logits.float()
    if cap := getattr(model.config, "final_logit_softcapping", None):
        logits = cap * torch.tanh(logits / cap)
    return lm.law.cut(logits).log_softmax(-1)
