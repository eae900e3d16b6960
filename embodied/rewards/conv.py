"""The ensemble for pixels: small convolution networks of one frame and one action."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, leaky_relu

from embodied.label_models import LabelModel, as_given
from embodied.losses import Loss, PairLoss
from embodied.records import Array
from embodied.rewards.learning import Linears, StepReward, deviation, drawn

ANCHORS = 512  # frames kept to normalise on; they are saved with every checkpoint
CHUNK = 1024  # frames at a time, to bound memory


class PixelEnsemble(StepReward):
    """E networks from (frame, action) of one step to its reward: RewardEnsemble, with eyes.

    Frames are [...,H,W,C] with values 0..255, uint8 or float; stacked or grey ones have another C. Three convolutions
    halve the frame each time, then come the action and two linear layers. The members run together, as groups of one
    convolution. Loss, anchor set, normaliser and state are as in RewardEnsemble, which see. Raises LossError for a
    loss that fails `check_loss`, ValueError for impossible sizes.
    """

    act_mean: Tensor
    act_std: Tensor

    def __init__(
        self,
        frame: tuple[int, int, int],
        act_size: int,
        *,
        members: int = 3,
        channels: tuple[int, ...] = (16, 32, 32),
        hidden: int = 64,
        seed: int = 0,
        loss: Loss | PairLoss | None = None,
        label_model: LabelModel = as_given,
        steps: int = 80,
        batch: int = 32,
        rate: float = 1e-3,
    ) -> None:
        height, width, colours = frame
        if min(frame) < 1 or act_size < 0 or min((members, hidden, *channels)) < 1 or not channels:
            raise ValueError(
                f"sizes frame {frame}, act {act_size}, members {members}, channels {channels}, hidden {hidden}; give "
                "frames [H,W,C] and at least 1 of each"
            )
        super().__init__(members, loss, label_model, steps, batch, rate, CHUNK)
        self.frame, self.act_size, self.channels, self.hidden = frame, act_size, channels, hidden
        draw = torch.Generator().manual_seed(seed)
        sizes = (colours, *channels)
        self.kernels = nn.ParameterList(
            drawn(draw, members * b, a, 3, 3, fan_in=9 * a) for a, b in zip(sizes, channels, strict=False)
        )
        self.shifts = nn.ParameterList(
            drawn(draw, members * b, fan_in=9 * a) for a, b in zip(sizes, channels, strict=False)
        )
        for _ in channels:
            height, width = (height + 1) // 2, (width + 1) // 2
        self.seen = height * width * channels[-1]  # numbers that are left of a frame
        self.look = Linears(draw, members, self.seen + act_size, hidden)
        self.head = Linears(draw, members, hidden, 1)
        self.register_buffer("act_mean", torch.zeros(act_size))
        self.register_buffer("act_std", torch.ones(act_size))

    def forward(self, obs: Tensor | dict[str, Tensor], act: Tensor) -> Tensor:
        """The members' own rewards, not normalised: obs [...,H,W,C], act [...,A] -> [E,...]."""
        if isinstance(obs, dict):
            raise ValueError(f"observations are a dict of {', '.join(obs)}; give one tensor of frames [...,H,W,C]")
        if obs.shape[-3:] != self.frame or act.shape[-1:] != (self.act_size,) or obs.shape[:-3] != act.shape[:-1]:
            raise ValueError(
                f"frames have shape {list(obs.shape)} and actions {list(act.shape)}, this reward was made for "
                f"[..., {', '.join(map(str, self.frame))}] and [..., {self.act_size}]; take one environment at a time"
            )
        x = obs.reshape(-1, *self.frame).movedim(-1, 1).float() / 127.5 - 1
        for layer, (kernel, shift) in enumerate(zip(self.kernels, self.shifts, strict=True)):
            # All members look at the same frame, so the first convolution needs no groups.
            groups = self.members if layer else 1
            x = leaky_relu(conv2d(x, kernel, shift, stride=2, padding=1, groups=groups))
        seen = x.reshape(len(x), self.members, self.seen).movedim(1, 0)
        done = ((act - self.act_mean) / self.act_std).reshape(1, len(x), self.act_size).expand(self.members, -1, -1)
        reward: Tensor = self.head(leaky_relu(self.look(torch.cat([seen, done], -1))))
        return reward.reshape(self.members, *act.shape[:-1])

    @torch.no_grad()
    def anchor(self, obs: Array, act: Array) -> None:
        """Fix the steps obs [N,H,W,C], act [N,A] to normalise on; do it once, before the first fit."""
        if obs.shape[1:] != self.frame or act.shape != (len(obs), self.act_size) or len(obs) < 2:
            raise ValueError(
                f"the anchor set has shapes {list(obs.shape)} and {list(act.shape)}, not "
                f"[N, {', '.join(map(str, self.frame))}] and [N, {self.act_size}]; give at least 2 steps"
            )
        if not (np.isfinite(obs).all() and np.isfinite(act).all()):
            raise ValueError("the anchor set holds NaN or infinity; drop those steps")
        rows = np.linspace(0, len(obs) - 1, min(len(obs), ANCHORS)).round().astype(int)
        frames = torch.from_numpy(np.round(obs[rows]).clip(0, 255).astype(np.uint8))
        actions = torch.from_numpy(act[rows].astype(np.float32))
        self.anchors = frames, actions
        if self.act_size:
            self.act_mean.copy_(actions.mean(0))
            self.act_std.copy_(deviation(actions, 0))
        self.normalise()

    def fingerprint(self) -> str:
        """What must agree for a saved state to fit."""
        frame, channels = "x".join(map(str, self.frame)), "-".join(map(str, self.channels))
        return f"PixelEnsemble of {self.members} x {frame}+{self.act_size}, channels {channels}, hidden {self.hidden}"
