"""A causal language model as a policy of the core: how likely each token of each answer is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from embodied.feedback import Segments
from embodied.reference import Reference
from embodied.remembered import Remembered
from llm_bridge.attention import mask_of, packed
from llm_bridge.head import Head, head_kl, head_log_prob, logits
from llm_bridge.law import Law
from llm_bridge.packing import BLOCK, Pack, pack, parts


class LM(nn.Module):
    """transformers' causal model, unmodified, with or without peft's adapters.

    law: what answers are sampled by, and log-probabilities are of. row: tokens that go through the model as one row; on
    a GPU larger ones are faster until its memory is full. low: the type of products on a GPU (weights stay as they
    are), None for that of the weights. Raises ValueError for a model in which tokens reach others by other ways too,
    whose head does more than is known here, or that has an adapter on its head or its embeddings.
    """

    density = False

    def __init__(
        self, model: Any, *, law: Law | None = None, row: int | None = None, low: torch.dtype | None = torch.bfloat16
    ) -> None:
        super().__init__()
        packed(base(model))
        _check_ends(base(model))
        self.model, self.law, self.low = model, law or Law(), low
        self.row = row or (16_384 if self.device.type == "cuda" else 512)
        # Among the weights, since log-probabilities that are kept for later are of both.
        self.register_buffer("sampled_by", torch.tensor([self.law.temperature, self.law.top_k, self.law.top_p]))

        if base(model).get_output_embeddings() is not None:
            self._check_head()

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def log_prob(self, segments: Segments) -> Tensor:
        """[B,K,T], float32, on the segments' device (leave them on the CPU), differentiable; 0 where the mask is false.

        Raises ValueError for segments that are no texts, and tokens that the model has not.
        """
        laid = self.laid(segments)
        with self.precision():
            found = head_log_prob(self.hidden(laid).index_select(0, laid.query), self.head(), laid.target, self.law)
        return _back(found, laid, segments)

    def parts(self, segments: Segments) -> list[slice]:
        """Rows that go through the model together: for `fit(..., split=lm.parts)`, whose gradients then accumulate."""
        return parts(segments, self.row)

    def laid(self, segments: Segments) -> Pack:
        """The segments as rows of tokens, on the model's device."""
        laid = pack(segments, self.row, BLOCK if self.device.type == "cuda" else 1)
        words = base(self.model).get_input_embeddings().num_embeddings
        if (most := int(laid.ids.max())) >= words:
            raise ValueError(f"a token is {most}, the model has {words}; take the model's own tokenizer")
        return laid.to(self.device)

    def hidden(self, laid: Pack) -> Tensor:
        """What the last layer says of each token, [R*N,H]; call it under `precision`."""
        model = base(self.model)
        out: Tensor = decoder(model)(
            input_ids=laid.ids, position_ids=laid.position, attention_mask=mask_of(laid, model), use_cache=False
        ).last_hidden_state
        return out.flatten(0, 1)

    def head(self) -> Head:
        """What makes logits of these."""
        model = base(self.model)
        out = model.get_output_embeddings()
        cap = getattr(model.config, "final_logit_softcapping", None) or 0.0
        return Head(out.weight, out.bias, cap, scale_of(model.config))

    @torch.no_grad()
    def _check_head(self) -> None:
        """Models scale and cap their logits under many names. Raises ValueError for one that does so unknown to us."""
        model, head = base(self.model), self.head()
        was = model.training
        model.eval()
        ids = torch.tensor([[0, 1]], device=self.device)
        theirs = model(input_ids=ids, use_cache=False).logits.float()
        hidden = decoder(model)(input_ids=ids, use_cache=False).last_hidden_state
        model.train(was)
        off = (logits(hidden, head).float() - theirs).abs().max()
        if off > 0.02 * theirs.abs().max() + 1e-4:
            raise ValueError(
                f"{type(model).__name__} makes its logits in a way that is not known here (off by {float(off):.3g}); "
                "take another model"
            )

    def compile_layers(self) -> None:
        """Compile the model's layers, each of which is the same program: half a minute once, then faster steps."""
        for layer in decoder(base(self.model)).layers:
            layer.compile(dynamic=True)

    @contextlib.contextmanager
    def precision(self) -> Iterator[None]:
        if self.low is None or self.device.type != "cuda":
            yield
        else:
            with torch.autocast("cuda", self.low):
                yield


class AnchoredLM(LM):
    """An LM that is `embodied.policy.Anchored`, at the price of both whole laws: for KTO, and for a KL as a loss."""

    def kl(self, reference: Any, segments: Segments) -> Tensor:
        """KL of the next token from the reference's at each step, [B,K,T], exact over the vocabulary, in nats.

        reference: another LM of the same tokenizer, what `adapters` makes of this one, or what remembers one of these.
        Differentiable in both. Raises ValueError under a law that leaves tokens out, where it would be infinite, and
        TypeError for a policy of another kind.
        """
        while isinstance(reference, Reference | Remembered):
            reference = reference.policy
        if not hasattr(reference, "hidden"):
            raise TypeError(f"{type(reference).__name__} is no language model; give an LM, or its AdapterOff")
        if not self.law.whole:
            raise ValueError(f"the KL under {self.law} is infinite, since it leaves tokens out; give Law(temperature)")
        laid = self.laid(segments)
        with self.precision():
            ours, theirs = self.hidden(laid).index_select(0, laid.query), reference.hidden(laid)
            theirs = theirs.index_select(0, laid.query)
            found = head_kl(ours, self.head(), theirs, reference.head(), self.law.temperature)
        return _back(found, laid, segments)


def _back(found: Tensor, laid: Pack, segments: Segments) -> Tensor:
    """Numbers of scored tokens [M] as [B,K,T], 0 on padding, on the segments' device."""
    flat = torch.zeros(segments.mask.numel(), device=found.device).index_put((laid.where,), found)
    return flat.view(segments.mask.shape).to(segments.mask.device)


def base(model: Any) -> Any:
    """transformers' model, under peft's if there is one; its layers are those with the adapters in."""
    inner = getattr(model, "get_base_model", None)
    return model if inner is None else inner()


def scale_of(config: Any) -> float:
    """What a model multiplies its logits by (Cohere), or one over what it divides them by (Granite)."""
    return float(getattr(config, "logit_scale", None) or 1.0) / float(getattr(config, "logits_scaling", None) or 1.0)


def _check_ends(model: Any) -> None:
    """Tokens are counted and logits made by the weights of both ends. Raises ValueError where an adapter is on them."""
    for name, ends in (("head", model.get_output_embeddings()), ("embeddings", model.get_input_embeddings())):
        if ends is not None and (hasattr(ends, "base_layer") or not hasattr(ends, "weight")):
            raise ValueError(
                f"the adapter is on the model's {name} ({type(ends).__name__}); leave them out of its target_modules, "
                "or learn them whole, by modules_to_save"
            )


def decoder(model: Any) -> Any:
    """The model without its head."""
    return getattr(model, model.base_model_prefix)
