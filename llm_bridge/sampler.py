"""Answers of a language model, with the log-probability that each token was drawn with.

A fixed number of slots, each with its share of one cache that is written in a ring: all slots write at the same place,
so a slot whose answer has ended takes the next prompt at once, whose end is then where the others are. On a GPU a step
is one graph, replayed; the host looks now and then who has ended.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from embodied.feedback import Segments
from llm_bridge.attention import check_window
from llm_bridge.lm import LM, base, scale_of

EVERY = 8  # steps of a GPU between two looks
PREFILL = 32_768  # tokens of prompts read at once


class Ring:
    """Keys and values of the last C tokens of S slots, as a transformers model asks for them."""

    def __init__(self, layers: int, slots: int, heads: int, length: int, width: int, like: Tensor) -> None:
        self.length = length
        self.keys = [like.new_zeros(slots, heads, length, width) for _ in range(layers)]
        self.values = [like.new_zeros(slots, heads, length, width) for _ in range(layers)]
        self.at = torch.zeros(1, dtype=torch.int64, device=like.device)  # where this step writes

    def update(self, key: Tensor, value: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        self.keys[layer].index_copy_(2, self.at, key)
        self.values[layer].index_copy_(2, self.at, value)
        return self.keys[layer], self.values[layer]

    def get_seq_length(self, layer: int = 0) -> int:
        return 0


@dataclass(eq=False)
class _Slots:
    """What is carried from step to step, [S] or scalar, on the device."""

    token: Tensor  # the last, whose successor is to be drawn
    position: Tensor
    begin: Tensor  # the step at which the slot's text began
    count: Tensor  # tokens drawn
    limit: Tensor
    alive: Tensor
    step: Tensor  # steps since ever
    drawn: Tensor  # [S,N]
    log_prob: Tensor  # [S,N]


class Sampler:
    """Draws answers of at most `longest` tokens to prompts, in `slots` at a time.

    capacity: tokens of a prompt and its answer together, at most. stop: tokens that end an answer; they belong to it.
    Raises ValueError for more than the model's layers look back.
    """

    def __init__(self, lm: LM, *, slots: int, capacity: int, longest: int, stop: Collection[int]) -> None:
        self.lm, self.slots, self.longest = lm, slots, longest
        self.stop = torch.tensor(sorted(stop), dtype=torch.int64, device=lm.device)
        self.gpu = lm.device.type == "cuda"
        self.model = self._copy() if self.gpu else lm.model
        check_window(base(self.model), capacity, "capacity is")
        config = base(self.model).config
        if getattr(config, "kv_lora_rank", None):
            raise ValueError(
                f"{type(base(self.model)).__name__} keeps its cache compressed, which slots do not do here"
            )
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        like = base(self.model).get_output_embeddings().weight
        self.ring = Ring(config.num_hidden_layers, slots, heads, capacity, head, like.detach().new_empty(0))
        self.capacity = capacity

        def numbers(*shape: int) -> Tensor:
            return torch.zeros(*shape, dtype=torch.int64, device=lm.device)

        self.state = _Slots(
            token=numbers(slots),
            position=numbers(slots),
            begin=numbers(slots),
            count=numbers(slots),
            limit=numbers(slots),
            alive=numbers(slots).bool(),
            step=numbers(1),
            drawn=numbers(slots, longest),
            log_prob=numbers(slots, longest).float(),
        )
        self.stream = torch.Generator(lm.device)
        self.graph: Any = None

    @torch.no_grad()
    def __call__(
        self,
        prompts: Sequence[Sequence[int]],
        k: int,
        rng: np.random.Generator,
        limit: Sequence[int] | None = None,
    ) -> Segments:
        """k answers to each prompt, [B,k,T]; limit [B*k]: tokens of each answer at most.

        Raises ValueError for a prompt without a token, or too long for what is to follow.
        """
        limits = [self.longest] * (len(prompts) * k) if limit is None else list(limit)
        for b, prompt in enumerate(prompts):
            room = self.capacity - max(limits[b * k : (b + 1) * k], default=0)
            if not 0 < len(prompt) <= room:
                raise ValueError(
                    f"prompt {b} has {len(prompt)} tokens; give at least 1 and at most {room}, so that its answer fits "
                    f"into a capacity of {self.capacity}"
                )
        self.stream.manual_seed(int(rng.integers(2**62)))
        # From the ring's beginning, or sums over the same tokens would be rounded as the calls before had left it.
        self.state.step.zero_()
        training = self.lm.model.training
        self.lm.model.eval()
        try:
            self._renew()
            drawn, log_prob, count = self._run(prompts, k, limits)
        finally:
            self.lm.model.train(training)
        return _segments(prompts, k, drawn, log_prob, count)

    def _run(self, prompts: Sequence[Sequence[int]], k: int, limits: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        n = len(prompts) * k
        drawn = torch.zeros(n, self.longest, dtype=torch.int64)
        log_prob = torch.zeros(n, self.longest)
        count = torch.zeros(n, dtype=torch.int64)
        holds = np.full(self.slots, -1)  # which answer each slot is at
        self.state.alive.zero_()
        following = 0
        while True:
            free = ~self.state.alive.cpu().numpy()
            ended = np.flatnonzero(free & (holds >= 0))
            if len(ended):
                at = torch.from_numpy(ended).to(self.state.drawn.device)
                which = torch.from_numpy(holds[ended])
                drawn[which] = self.state.drawn[at].cpu()
                log_prob[which] = self.state.log_prob[at].cpu()
                count[which] = self.state.count[at].cpu()
                holds[ended] = -1
            empty = np.flatnonzero(free)[: n - following]
            if len(empty):
                holds[empty] = np.arange(following, following + len(empty))
                following += len(empty)
                self._fill(empty, holds[empty] // k, prompts, [limits[i] for i in holds[empty]])
            if (holds < 0).all():
                return drawn, log_prob, count
            if self.gpu:
                self._replay()
            else:
                self._step()

    def _fill(self, slots: Any, which: Any, prompts: Sequence[Sequence[int]], limits: list[int]) -> None:
        """Put prompts `which` into the slots: all but the last token are read into the cache, each prompt once."""
        state, device = self.state, self.lm.device
        own, of = np.unique(which, return_inverse=True)
        before = [len(prompts[i]) - 1 for i in own]
        step = int(state.step)
        for part in _chunks(before, PREFILL):
            here = own[part]
            length = torch.tensor(before)[part]
            wide = int(length.max())
            if not wide:
                continue
            ids = torch.zeros(len(here), wide, dtype=torch.int64)
            for row, i in enumerate(here):
                ids[row, : len(prompts[i]) - 1] = torch.as_tensor(prompts[i][:-1])
            keys, values = self._read(ids.to(device))
            # Of each slot of this part, each place: [n,wide] -> where from and where to.
            some = torch.from_numpy(np.flatnonzero((part.start <= of) & (of < part.stop)))
            source = torch.from_numpy(of)[some] - part.start
            inside = torch.arange(wide)[None] < length[source][:, None]
            to = (step - length[source][:, None] + torch.arange(wide)) % self.ring.length
            slot = torch.from_numpy(slots)[some][:, None].expand(-1, wide)[inside].to(device)
            from_row = source[:, None].expand(-1, wide)[inside].to(device)
            from_at = torch.arange(wide)[None].expand(len(some), -1)[inside].to(device)
            place = to[inside].to(device)
            for layer in range(len(keys)):
                self.ring.keys[layer][slot, :, place] = keys[layer][from_row, :, from_at]
                self.ring.values[layer][slot, :, place] = values[layer][from_row, :, from_at]
        at = torch.from_numpy(slots).to(device)
        lengths = torch.tensor([len(prompts[i]) - 1 for i in which], device=device)
        state.token[at] = torch.tensor([prompts[i][-1] for i in which], device=device)
        state.position[at] = lengths
        state.begin[at] = step - lengths
        state.count[at] = 0
        state.limit[at] = torch.tensor(limits, device=device)
        state.alive[at] = True

    def _read(self, ids: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Keys and values of prompts, padded on the right, where they do not matter: tokens only look back."""
        from transformers import DynamicCache

        cache = DynamicCache()
        base(self.model).get_decoder()(
            input_ids=ids, position_ids=torch.arange(ids.shape[1], device=ids.device)[None], past_key_values=cache
        )
        layers: Any = cache.layers
        return [layer.keys for layer in layers], [layer.values for layer in layers]

    def _step(self) -> None:
        """One token of every slot; what the ended ones draw is not kept."""
        s, model = self.state, base(self.model)
        age = torch.remainder(s.step - torch.arange(self.ring.length, device=s.step.device), self.ring.length)
        seen = (s.step - age)[None] >= s.begin[:, None]
        self.ring.at.copy_(torch.remainder(s.step, self.ring.length))
        hidden = model.get_decoder()(
            input_ids=s.token[:, None],
            position_ids=s.position[:, None],
            attention_mask=seen[:, None, None],
            past_key_values=self.ring,
            use_cache=True,
        ).last_hidden_state[:, 0]
        logits = model.get_output_embeddings()(hidden * scale_of(model.config)).float()
        if cap := getattr(model.config, "final_logit_softcapping", None):
            logits = cap * torch.tanh(logits / cap)
        logp = self.lm.law.cut(logits).log_softmax(-1)
        noise = torch.empty_like(logp).exponential_(generator=self.stream)
        token = (logp - noise.log()).argmax(-1)  # Gumbel: the largest is drawn with its probability
        at = s.count.clamp(max=self.longest - 1)[:, None]
        kept = logp.gather(1, token[:, None])
        s.drawn.scatter_(1, at, torch.where(s.alive[:, None], token[:, None], s.drawn.gather(1, at)))
        s.log_prob.scatter_(1, at, torch.where(s.alive[:, None], kept, s.log_prob.gather(1, at)))
        s.count += s.alive
        s.alive &= (token[:, None] != self.stop).all(-1) & (s.count < s.limit)
        s.token.copy_(token)
        s.position += 1
        s.step += 1

    def _replay(self) -> None:
        if self.graph is None:
            held = copy.deepcopy(self.state)
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(2):
                    self._step()
            torch.cuda.current_stream().wait_stream(side)
            self.graph = torch.cuda.CUDAGraph()
            self.graph.register_generator_state(self.stream)
            with torch.cuda.graph(self.graph):
                self._step()
            for name, value in vars(held).items():  # the trial steps leave nothing behind but a cache that is rewritten
                getattr(self.state, name).copy_(value)
        for _ in range(EVERY):
            self.graph.replay()

    def _copy(self) -> Any:
        model = copy.deepcopy(self.lm.model).eval().requires_grad_(False)
        return model if self.lm.low is None else model.to(self.lm.low)

    def _renew(self) -> None:
        """The policy's weights of now, in the copy that samples."""
        if self.model is not self.lm.model:
            for ours, theirs in zip(self.model.parameters(), self.lm.model.parameters(), strict=True):
                ours.copy_(theirs)


def _chunks(lengths: Sequence[int], tokens: int) -> list[slice]:
    """Neighbours of at most about so many tokens together, once padded."""
    found, start = [], 0
    for i in range(len(lengths)):
        if i > start and max(lengths[start : i + 1]) * (i + 1 - start) > tokens:
            found.append(slice(start, i))
            start = i
    return [*found, slice(start, len(lengths))]


def _segments(prompts: Sequence[Sequence[int]], k: int, drawn: Tensor, log_prob: Tensor, count: Tensor) -> Segments:
    length = torch.tensor([len(prompt) for prompt in prompts])
    prompt = torch.zeros(len(prompts), int(length.max()), dtype=torch.int64)
    for b, ids in enumerate(prompts):
        prompt[b, : len(ids)] = torch.as_tensor(ids)
    prompt_mask = torch.arange(prompt.shape[1]) < length[:, None]
    longest = int(count.max())
    mask = torch.arange(longest) < count[:, None]
    shape = (len(prompts), k, longest)
    return Segments(
        {"prompt": prompt[:, None], "prompt_mask": prompt_mask[:, None]},
        (drawn[:, :longest] * mask).view(shape),
        mask.view(shape),
        (log_prob[:, :longest] * mask).view(shape),
    )
