"""Prompts and answers without padding: each prompt once, its answers behind it, many groups in a row of tokens.

An answer sees its prompt and itself, so a group of K answers costs one prompt instead of K; pairs and the groups of
on-line algorithms are the same object with other K. Nothing here knows a model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from embodied.feedback import Segments

BLOCK = 128  # FlexAttention's; rows are whole numbers of it where there are blocks


@dataclass(frozen=True, eq=False)
class Pack:
    """R rows of N tokens: ids, position (in its own sequence), run and parent, int64 [R,N]; what is scored, int64 [M].

    A *run* is a prompt or an answer, numbered within its row; `parent` is the run of the token's own prompt. Of the
    scored token i, flat `query[i]` is the place in [R*N] that predicts it, `target[i]` is the token, and `where[i]` its
    place in the segments' [B*K*T]. `last` [B*K] are the places of the answers' last tokens. `runs` is the number of
    runs in the fullest row; padding is a run of its own.
    """

    ids: Tensor
    position: Tensor
    run: Tensor
    parent: Tensor
    query: Tensor
    target: Tensor
    where: Tensor
    last: Tensor
    runs: int

    def to(self, device: torch.device) -> Pack:
        def moved(x: Tensor) -> Tensor:
            return (x.pin_memory() if device.type == "cuda" else x).to(device, non_blocking=True)

        tensors: dict[str, Any] = {name: moved(x) for name, x in vars(self).items() if isinstance(x, Tensor)}
        return replace(self, **tensors)


def pack(segments: Segments, row: int, multiple: int = 1) -> Pack:
    """The groups in order, in rows of about `row` tokens: as few as hold them all, about equally full.

    A group is never divided: one that is longer makes its row, and so all rows, longer. Rows are a whole number of
    `multiple` tokens. Raises ValueError for segments that are no texts, and a mask that is not true from the start on.
    """
    prompt, prompt_mask = texts(segments)
    rows, alternatives, steps = segments.mask.shape
    keep = torch.cat([prompt_mask, segments.mask.flatten(1)], 1)  # [B,P+K*T]
    tokens = torch.cat([prompt, segments.act.flatten(1)], 1)[keep]
    first = prompt.shape[1]
    lengths = torch.cat([prompt_mask.sum(-1, keepdim=True), segments.mask.sum(-1)], 1)  # [B,1+K]
    size = lengths.sum(-1)
    row_of, start = _places(size, row)  # [B]
    wide = -(-int((start + size).max()) // multiple) * multiple
    tall = int(row_of[-1]) + 1

    # Everything below is per token, in the order in which `keep` takes tokens: groups, then runs, then steps.
    group = torch.arange(rows).repeat_interleave(size)
    inside = torch.arange(len(tokens)) - (size.cumsum(0) - size)[group]
    flat = row_of[group] * wide + start[group] + inside  # the place in [R*N]
    step = torch.arange(steps).repeat(alternatives)
    step = torch.cat([torch.arange(first), step])[None].expand(rows, -1)[keep]
    kind = torch.cat([torch.zeros(first), torch.arange(alternatives).repeat_interleave(steps) + 1]).long()
    kind = kind[None].expand(rows, -1)[keep]  # 0 is the prompt, then the alternative's number from 1
    position = step + (kind > 0) * lengths[:, 0][group]
    # Runs are numbered within their row.
    order = torch.arange(rows) - torch.searchsorted(row_of, row_of)  # of a group in its row
    parent = (order * (alternatives + 1))[group]
    runs = int(order.max() + 1) * (alternatives + 1)

    def laid(values: Tensor, fill: int = 0) -> Tensor:
        out = torch.full((tall * wide,), fill, dtype=torch.int64)
        out[flat] = values
        return out.view(tall, wide)

    answer = kind > 0
    begins = answer & (step == 0)
    query = torch.where(begins, flat - inside + lengths[:, 0][group] - 1, flat - 1)[answer]
    where = segments.mask.flatten().nonzero()[:, 0]
    return Pack(
        ids=laid(tokens),
        position=laid(position),
        run=laid(parent + kind, runs),
        parent=laid(parent, runs),
        query=query,
        target=tokens[answer],
        where=where,
        last=flat[answer][segments.mask.sum(-1).flatten().cumsum(0) - 1],
        runs=runs + 1,
    )


def texts(segments: Segments) -> tuple[Tensor, Tensor]:
    """The prompts and their mask, [B,P]. Raises ValueError for segments of another form."""
    obs = segments.obs
    if not isinstance(obs, dict) or set(obs) != {"prompt", "prompt_mask"} or segments.act.ndim != 3:
        raise ValueError(
            "these segments are no texts; a language model takes obs = {'prompt': [B,1,P], 'prompt_mask': [B,1,P]} and "
            "act [B,K,T], all token ids"
        )
    prompt, mask = obs["prompt"][:, 0], obs["prompt_mask"][:, 0].bool()
    for name, part in (("the prompt", mask[:, None]), ("an answer", segments.mask)):
        if (part[..., 1:] & ~part[..., :-1]).any():
            row = int((part[..., 1:] & ~part[..., :-1]).flatten(1).any(-1).nonzero()[0])
            raise ValueError(f"the mask of {name} of row {row} has holes; pad texts on the right")
    if not mask.any(-1).all():
        row = int((~mask.any(-1)).nonzero()[0])
        raise ValueError(f"the prompt of row {row} has no token, so nothing predicts the first; begin it with BOS")
    return prompt, mask


def parts(segments: Segments, tokens: int) -> list[slice]:
    """Neighbouring rows that go through a model together, each part of about equally many tokens, at most about
    `tokens` of them."""
    size = _sizes(segments)
    total = int(size.sum())
    count = min(-(-total // tokens), len(size))
    middle = size.cumsum(0) - size / 2
    number = (middle * count / total).long().clamp(max=count - 1)
    edges = [0, *(torch.diff(number).nonzero()[:, 0] + 1).tolist(), len(size)]
    return [slice(a, b) for a, b in pairwise(edges)]


def _sizes(segments: Segments) -> Tensor:
    return texts(segments)[1].sum(-1) + segments.mask.sum((1, 2))


def _places(size: Tensor, row: int) -> tuple[Tensor, Tensor]:
    """Row and first place of each group: rows are filled in order, each to its share of the whole."""
    total = int(size.sum())
    count = max(1, -(-total // max(row, int(size.max()))))
    end = size.cumsum(0)
    row_of = ((end - size / 2) * count / total).long().clamp(max=count - 1)
    row_of = torch.unique_consecutive(row_of, return_inverse=True)[1]
    before = torch.zeros(int(row_of[-1]) + 1, dtype=torch.int64).scatter_reduce(
        0, row_of, end - size, "amin", include_self=False
    )
    return row_of, end - size - before[row_of]


def dense_mask(pack: Pack) -> Tensor:
    """Which tokens see which, bool [R,1,N,N]."""
    n = pack.ids.shape[1]
    causal = torch.ones(n, n, dtype=torch.bool, device=pack.ids.device).tril()
    own = pack.run[:, :, None] == pack.run[:, None, :]
    prompt = pack.parent[:, :, None] == pack.run[:, None, :]
    return ((own | prompt) & causal)[:, None]


def block_mask(pack: Pack) -> object:
    """The same as FlexAttention's BlockMask, from runs alone: [N,N] is never laid out.

    A pair of blocks matters where some run of the one sees some run of the other.
    """
    from torch.nn.attention.flex_attention import BlockMask

    rows, n = pack.ids.shape
    if n % BLOCK:
        raise ValueError(f"rows have {n} tokens; pack them as whole blocks of {BLOCK}")
    device, blocks = pack.ids.device, n // BLOCK
    run, parent = pack.run, pack.parent
    mother = torch.zeros(rows, pack.runs, dtype=torch.int64, device=device).scatter_(1, run, parent)
    one = torch.eye(pack.runs, device=device)
    sees = ((one + one[mother]) > 0).float()  # [R,runs,runs]
    has = torch.zeros(rows, blocks, pack.runs, device=device)
    has.scatter_(2, run.view(rows, blocks, BLOCK), 1.0)
    seen = has @ sees @ has.mT
    unseen = has @ (1 - sees) @ has.mT
    before = torch.ones(blocks, blocks, dtype=torch.bool, device=device).tril(-1)
    full = (unseen == 0) & before
    partly = (seen > 0) & (before | torch.eye(blocks, dtype=torch.bool, device=device)) & ~full

    def listed(table: Tensor) -> tuple[Tensor, Tensor]:
        order = table.int().argsort(dim=-1, descending=True, stable=True)
        return table.sum(-1, dtype=torch.int32)[:, None], order.to(torch.int32)[:, None]

    def visible(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return (q >= k) & ((run[b, k] == run[b, q]) | (run[b, k] == parent[b, q]))

    return BlockMask.from_kv_blocks(
        *listed(partly), *listed(full), BLOCK_SIZE=BLOCK, mask_mod=visible, seq_lengths=(n, n)
    )
