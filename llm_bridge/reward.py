"""Reward models: what an answer is worth, read off its last token."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from embodied.feedback import Segments
from embodied.scores import Scorer
from llm_bridge.lm import LM, base


class RewardLM(nn.Module):
    """transformers' sequence classifier as a scorer of answers: R outputs, each a reward of its own.

    `ranking(reward, pairwise(logistic))` trains the first from comparisons, `of(r)` is another one, of another quality.
    The model must have been made without a bias (transformers' are), and reads the token that ends the answer. Raises
    ValueError for a model without such a head, TypeError for a causal one.
    """

    def __init__(self, model: Any, *, row: int | None = None, low: torch.dtype | None = torch.bfloat16) -> None:
        super().__init__()
        head = getattr(base(model), "score", None)
        if head is None:
            raise TypeError(
                f"{type(base(model)).__name__} has no `score` head; load it with "
                "AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1)"
            )
        self.body = LM(model, row=row, low=low)

    def forward(self, segments: Segments) -> Tensor:
        """[B,K], the first output, float32, on the segments' device."""
        return self.values(segments)[..., 0]

    def values(self, segments: Segments) -> Tensor:
        """[B,K,R]: all outputs, float32, on the segments' device, differentiable."""
        laid = self.body.laid(segments)
        with self.body.precision():
            found = base(self.body.model).score(self.body.hidden(laid).index_select(0, laid.last))
        return found.float().view(*segments.mask.shape[:2], -1).to(segments.mask.device)

    def of(self, output: int) -> Scorer:
        """One output as a scorer. Raises ValueError for one that there is not."""
        outputs = base(self.body.model).score.out_features
        if not 0 <= output < outputs:
            raise ValueError(f"output {output} of {outputs}; they count from 0")
        return lambda segments: self.values(segments)[..., output]

    def parts(self, segments: Segments) -> list[slice]:
        """As LM's."""
        return self.body.parts(segments)
