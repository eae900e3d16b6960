"""Preference Transformer (arXiv 2303.00957): a reward that depends on what came before, for wishes with a memory."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm, scaled_dot_product_attention

from embodied.feedback import Segments
from embodied.label_models import LabelModel, as_given
from embodied.losses import Loss, PairLoss
from embodied.records import Array
from embodied.rewards.ensemble import ANCHORS
from embodied.rewards.learning import Linears, RewardNetwork, deviation, drawn, finite

CHUNK = 1 << 15  # steps at a time, to bound memory


class PreferenceTransformer(RewardNetwork):
    """E causal transformers over (observation, action) steps, each with an attention that says which rewards count.

    A causal stack gives every step a reward r_t from at most `history` last steps; one bidirectional attention over the
    whole segment gives it a weight w_t, and the segment is worth sum_t w_t r_t, the weights summing to 1. An agent is
    given r_t by `reward_after`, normalised as RewardEnsemble's. It differs from the paper's network in this: an
    observation and its action are one token, positions are learned as distances (so that a window cut out of an episode
    has the reward that it has within it), there is no dropout, and the default is smaller. One member cannot disagree
    with itself: take several for queries by disagreement. Raises LossError for a loss that fails `check_loss`,
    ValueError for impossible sizes.
    """

    step_mean: Tensor
    step_std: Tensor

    def __init__(
        self,
        obs_size: int,
        act_size: int,
        *,
        members: int = 1,
        width: int = 64,
        heads: int = 4,
        layers: int = 1,
        history: int = 20,
        seed: int = 0,
        loss: Loss | PairLoss | None = None,
        label_model: LabelModel = as_given,
        steps: int = 100,
        batch: int = 64,
        rate: float = 1e-3,
    ) -> None:
        if obs_size < 1 or act_size < 0 or min(members, width, heads, layers) < 1 or width % heads:
            raise ValueError(
                f"sizes obs {obs_size}, act {act_size}, members {members}, width {width}, heads {heads}, layers "
                f"{layers}; give at least 1 of each, and a width that the heads divide"
            )
        if history <= layers:
            raise ValueError(f"history is {history} with {layers} layers; give more steps than layers")
        super().__init__(members, loss, label_model, steps, batch, rate, CHUNK)
        self.obs_size, self.act_size, self.width, self.heads = obs_size, act_size, width, heads
        self.reach = (history - 1) // layers  # how far back one layer looks; all together, no further than history
        self.history = layers * self.reach + 1
        draw = torch.Generator().manual_seed(seed)

        def linears(size: int, out: int) -> Linears:
            return Linears(draw, members, size, out)

        self.embed = linears(obs_size + act_size, width)
        self.qkv = nn.ModuleList(linears(width, 3 * width) for _ in range(layers))
        self.mix = nn.ModuleList(linears(width, width) for _ in range(layers))
        self.up = nn.ModuleList(linears(width, 4 * width) for _ in range(layers))
        self.down = nn.ModuleList(linears(4 * width, width) for _ in range(layers))
        self.distance = nn.ParameterList(
            drawn(draw, members, heads, self.reach + 1, fan_in=self.reach + 1) for _ in range(layers)
        )
        self.head, self.relevance = linears(width, 1), linears(width, 2 * width)
        self.register_buffer("step_mean", torch.zeros(obs_size + act_size))
        self.register_buffer("step_std", torch.ones(obs_size + act_size))

    def forward(self, obs: Tensor, act: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Rewards, not normalised, and weights: obs [N,T,O], act [N,T,A], mask bool [N,T] -> r, w [E,N,T].

        Where the mask is false the weight is 0, the reward has no meaning, and nothing else depends on it.
        """
        if obs.shape[-1] != self.obs_size or act.shape[-1] != self.act_size:
            raise ValueError(
                f"observation and action have sizes {obs.shape[-1]} and {act.shape[-1]}, this reward was made for "
                f"{self.obs_size} and {self.act_size}; take one environment at a time"
            )
        step = torch.cat([obs, act], -1)
        n, length = mask.shape
        size = self.members, n, length
        x = torch.where(mask[..., None], (step - self.step_mean) / self.step_std, 0.0).flatten(0, 1)
        x = self.embed(x.expand(self.members, -1, -1))
        when = torch.arange(length, device=mask.device)
        back = when[:, None] - when  # [T,T], from each step to each other
        near = (back >= 0) & (back <= self.reach)
        # A step always sees itself, masked or not: a row without any would be NaN.
        seen = near & (mask[:, None, :] | (back == 0))
        shut = torch.where(seen, 0.0, -torch.inf)[:, None]  # [N,1,T,T]
        for qkv, mix, up, down, distance in zip(self.qkv, self.mix, self.up, self.down, self.distance, strict=True):
            parts = qkv(_norm(x)).reshape(*size, 3, self.heads, self.width // self.heads)
            query, key, value = parts.permute(3, 0, 1, 4, 2, 5)  # [E,N,heads,T,d] each
            bias = distance[:, None, :, back.clamp(0, self.reach)] + shut
            heard = scaled_dot_product_attention(query, key, value, attn_mask=bias)
            x = x + mix(heard.transpose(2, 3).reshape(x.shape))
            x = x + down(gelu(up(_norm(x))))
        x = _norm(x)
        reward = self.head(x).reshape(size)
        query, key = self.relevance(x).reshape(*size, 2, self.width).unbind(3)
        match = query @ key.transpose(2, 3) / self.width**0.5  # [E,N,T,T]
        share = torch.where(mask[:, None, :], match, -torch.inf).softmax(-1)
        weight = torch.where(mask[..., None], share, 0.0).sum(2) / mask.sum(-1, keepdim=True)
        return reward, weight

    def score(self, segments: Segments) -> Tensor:
        """What each member thinks of each segment, [E,B,K]: the weighted mean of its rewards, in nats of preference."""
        obs, act, mask = segments.obs, segments.act, segments.mask
        if isinstance(obs, dict):
            raise ValueError(f"observations are a dict of {', '.join(obs)}; encode them to one tensor [B,K,T,O]")
        reward, weight = self(obs.flatten(0, 1), act.flatten(0, 1), mask.flatten(0, 1))
        return torch.where(mask.flatten(0, 1), reward * weight, 0.0).sum(-1).reshape(self.members, *mask.shape[:2])

    @torch.no_grad()
    def reward_after(self, obs: Array, act: Array, mask: Array) -> Array:
        """Reward of the last step given those before it: obs [B,H,O], act [B,H,A], mask bool [B,H] -> [B].

        Mean of the normalised members. Of H steps only the last `history` are looked at; fewer are fine, as at the
        start of an episode, and a false mask says that there was no such step. Raises ValueError where the last step
        is masked, and for numbers that are not finite.
        """
        if mask.ndim != 2 or not mask[:, -1].all():
            raise ValueError(f"mask has shape {mask.shape}, or a last step is masked; give [B,H] that ends with a step")
        device = self.reward_mean.device
        recent = [
            finite("observation", obs, device)[:, -self.history :],
            finite("action", act, device)[:, -self.history :],
            torch.as_tensor(mask, device=device)[:, -self.history :],
        ]
        windows = max(1, CHUNK // self.history)
        parts = [self(*part)[0][..., -1] for part in zip(*(torch.split(x, windows) for x in recent), strict=True)]
        normalised = (torch.cat(parts, 1) - self.reward_mean[:, None]) / self.reward_std[:, None]
        mean: Array = normalised.mean(0).cpu().numpy()
        return mean

    @torch.no_grad()
    def anchor(self, obs: Array, act: Array, mask: Array) -> None:
        """Fix the segments obs [N,T,O], act [N,T,A], mask bool [N,T] to normalise on; once, before the first fit."""
        step = torch.cat([torch.as_tensor(x, dtype=torch.float32) for x in (obs, act)], -1)
        seen = torch.as_tensor(mask)
        if step.ndim != 3 or step.shape[-1] != len(self.step_mean) or seen.shape != step.shape[:2] or seen.sum() < 2:
            raise ValueError(
                f"the anchor set has shape {list(step.shape)} and mask {list(seen.shape)}, not "
                f"[N,T,{len(self.step_mean)}] and [N,T]; give at least 2 steps"
            )
        if not torch.isfinite(step).all():
            raise ValueError("the anchor set holds NaN or infinity; drop those steps")
        most = max(1, ANCHORS // step.shape[1])
        rows = torch.linspace(0, len(step) - 1, min(len(step), most)).round().long()
        step, seen = step[rows], seen[rows]
        self.anchors = step[..., : self.obs_size], step[..., self.obs_size :], seen
        kept = step[seen]
        self.step_mean.copy_(kept.mean(0))
        self.step_std.copy_(deviation(kept, 0))
        self.normalise()

    def prepare(self, segments: Segments) -> None:
        """Take these segments for the anchor set, unless there is one."""
        if self.anchors is None and isinstance(segments.obs, Tensor):
            parts = (segments.obs, segments.act, segments.mask)
            self.anchor(*(x.flatten(0, 1).cpu().numpy() for x in parts))

    def anchored(self, anchors: Sequence[Tensor]) -> Tensor:
        reward: Tensor = self(*anchors)[0][:, anchors[-1]]
        return reward

    def fingerprint(self) -> str:
        """What must agree for a saved state to fit."""
        return (
            f"PreferenceTransformer of {self.members} x {self.obs_size}-{self.act_size}, width {self.width}, "
            f"{self.heads} heads, {len(self.qkv)} layers, history {self.history}"
        )


def _norm(x: Tensor) -> Tensor:
    return layer_norm(x, x.shape[-1:])
