"""How likely a model finds each of many answers to one prompt, exactly, at the price of a few.

Answers that begin alike are one row: every distinct beginning stands in it once, behind the prompt, and attends to the
prompt and to what it continues. Of the tutor's 30 answers that is 222 tokens in place of 705.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

Model = Any  # a causal language model of transformers, whose attention takes a four-dimensional mask


@dataclass(frozen=True, eq=False)
class Tree:
    """Where N tokens, the prompt's P first, stand in a row: the answer and step each is of int64 [N-P], its position
    int64 [N], what it sees bool [N,N]; and after which of them each step of each answer is predicted, int64 [A,T]."""

    answer: Tensor
    step: Tensor
    position: Tensor
    visible: Tensor
    after: Tensor


def tree(tokens: Tensor, mask: Tensor, prompt: int) -> Tree:
    """The tree of answers int64 [A,T], bool [A,T], to a prompt of so many tokens."""
    rows: list[tuple[int, int]] = []
    visible = [[j <= i for j in range(prompt)] for i in range(prompt)]
    seen: dict[tuple[int, ...], int] = {}
    after = torch.zeros(tokens.shape, dtype=torch.int64)
    for a, (line, length) in enumerate(zip(tokens.tolist(), mask.sum(-1).tolist(), strict=True)):
        path: list[int] = []
        for t in range(length):
            after[a, t] = path[-1] if path else prompt - 1
            if t == length - 1:
                break  # nothing is predicted after the last
            node = seen.setdefault(tuple(line[: t + 1]), prompt + len(rows))
            path.append(node)
            if node == prompt + len(rows):
                rows.append((a, t))
                visible.append([j < prompt or j in path for j in range(node + 1)])
    size = prompt + len(rows)
    answer, step = torch.tensor(rows, dtype=torch.int64).reshape(-1, 2).T
    position = torch.cat([torch.arange(prompt), prompt + step])
    sees = torch.tensor([line + [False] * (size - len(line)) for line in visible])
    return Tree(answer, step, position, sees, after)


def log_probs(model: Model, prompts: Tensor, tokens: Tensor, mask: Tensor, *, batch: int = 32) -> Tensor:
    """Log-probability of each answer, float64 [Q,A], differentiable in the model.

    prompts int64 [Q,P], without padding; answers int64 tokens [Q,A,T], bool mask [Q,A,T]. Answers of all questions must
    begin alike wherever those of the first question do. Raises ValueError when they do not. batch: questions at a time.
    """
    layout = tree(tokens[0], mask[0], prompts.shape[1])
    rows = torch.cat([prompts, tokens[:, layout.answer, layout.step]], 1)
    # Each step's own token must be what stands where the tree has it, or answers would share what they do not have.
    following = mask[0, :, 1:]
    stands = rows[:, layout.after[:, 1:]]
    if (mask != mask[0]).any() or ((stands != tokens[:, :, :-1]) & following).any():
        raise ValueError(
            "the answers of some questions do not begin alike where those of the first do; give them apart"
        )
    dtype = next(model.parameters()).dtype
    seen = torch.where(layout.visible, 0.0, torch.finfo(dtype).min).to(dtype)
    found = []
    for first in range(0, len(rows), batch):
        row = rows[first : first + batch]
        logits = model(
            input_ids=row,
            position_ids=layout.position.expand(len(row), -1),
            attention_mask=seen.expand(len(row), 1, -1, -1),
            use_cache=False,
        ).logits
        said = tokens[first : first + batch]
        step = logits.double().log_softmax(-1)[torch.arange(len(row))[:, None, None], layout.after, said]
        found.append(torch.where(mask[0], step, 0.0).sum(-1))
    return torch.cat(found)


def row_log_probs(model: Model, prompts: Tensor, act: Tensor, mask: Tensor, *, batch: int = 512) -> Tensor:
    """Log-probability of each step, [N,T], one row for each answer: prompts [N,P] without padding, act, mask [N,T]."""
    found = []
    for first in range(0, len(act), batch):
        cut = slice(first, first + batch)
        longest = int(mask[cut].sum(-1).max())
        said = act[cut, :longest]
        logits = model(input_ids=torch.cat([prompts[cut], said[:, :-1]], 1), use_cache=False).logits
        step = logits[:, prompts.shape[1] - 1 :].log_softmax(-1).gather(-1, said[..., None])[..., 0]
        found.append(pad(torch.where(mask[cut, :longest], step, 0.0), (0, act.shape[1] - longest)))
    return torch.cat(found) if found else torch.zeros(act.shape)
