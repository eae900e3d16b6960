"""By how much each judged sample was better than was to be expected: what a policy gradient multiplies."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from embodied.feedback import Feedback, Segments
from embodied.fit import Objective
from embodied.policy import Policy
from embodied.policy_gradient import Advantage, acted_log_ratio

Critic = Callable[[Segments], Tensor]  # -> [B,K,T], what is still to come before each step, in units of reward


def plain(baseline: float | Literal["batch"] = 0.0, kl: float = 0.0) -> Advantage:
    """The reward less a baseline: a number, or the mean of all rewards of the batch; [B,K,1]. For REINFORCE and P3O."""
    if not (baseline == "batch" or math.isfinite(baseline)):
        raise ValueError(f"baseline is {baseline}; give a finite number or 'batch'")
    _price(kl)

    def advantage(feedback: Feedback, log_ratio: Tensor | None) -> Tensor:
        reward = _reward(feedback, log_ratio, kl)
        return reward - (reward.mean() if baseline == "batch" else baseline)

    return advantage


def leave_one_out(kl: float = 0.0) -> Advantage:
    """The reward less the mean of the others' from the same context, [B,K,1] (RLOO, arXiv 2402.14740, eq. 6)."""
    _price(kl)

    def advantage(feedback: Feedback, log_ratio: Tensor | None) -> Tensor:
        reward = _reward(feedback, log_ratio, kl)
        k = _several(reward, "leave_one_out")
        return (reward - reward.mean(1, keepdim=True)) * (k / (k - 1))

    return advantage


def group(std: bool = True, kl: float = 0.0) -> Advantage:
    """The reward less the mean of the group's, over its deviation, [B,K,1] (GRPO, arXiv 2402.03300, section 4.1).

    Over the deviation every context counts alike, however little its samples differ, and of two only the order counts
    (+-.71); without `std` it is leave_one_out times (K-1)/K.
    """
    _price(kl)

    def advantage(feedback: Feedback, log_ratio: Tensor | None) -> Tensor:
        reward = _reward(feedback, log_ratio, kl)
        _several(reward, "group")
        centred = reward - reward.mean(1, keepdim=True)
        return centred / (reward.std(1, keepdim=True) + 1e-4) if std else centred

    return advantage


def nash(tau: float, players: int = 1) -> Advantage:
    """Win rate - 1/2 - tau times the log-ratio still to come, [B,K,T] (Nash-MD-PG, arXiv 2312.00886).

    The target is each alternative's win rate. The first `players` of a row are the policy's own and learn, the others
    are the opponent's and do not. A step answers for the log-ratios from it on: those before are not its doing.
    """
    _price(tau, "tau")

    def advantage(feedback: Feedback, log_ratio: Tensor | None) -> Tensor:
        k = feedback.target.shape[1]
        if not 1 <= players <= k:
            raise ValueError(f"players is {players} of K = {k}; give at least 1 and at most K")
        rest = _priced(log_ratio, tau, "tau")
        to_go = rest.flip(-1).cumsum(-1).flip(-1) if isinstance(rest, Tensor) else rest
        worth = (feedback.target.detach()[..., None] - 0.5 - to_go) * (k / players)
        return torch.where(torch.arange(k, device=worth.device)[:, None] < players, worth, 0.0)

    return advantage


@dataclass(frozen=True)
class GAE:
    """Generalised advantage estimation with a learned critic, [B,K,T] (arXiv 1506.02438, eq. 16): PPO's advantage.

    The judged reward comes with the last step, the price of the KL with each. An episode ends with its mask: nothing is
    still to come then. The critic is asked anew in each step of a fit and never differentiated here; `critic_loss`
    teaches it. lam = 1: what was earned less what was expected, unbiased whatever the critic says.
    """

    critic: Critic
    kl: float = 0.0
    gamma: float = 1.0
    lam: float = 0.95
    whiten: bool = False
    """Advantages of a batch to mean 0 and deviation 1, over its steps."""

    def __post_init__(self) -> None:
        _price(self.kl)
        if not (0 < self.gamma <= 1 and 0 <= self.lam <= 1):
            raise ValueError(f"gamma is {self.gamma} and lam {self.lam}; give gamma in (0, 1] and lam in [0, 1]")

    def __call__(self, feedback: Feedback, log_ratio: Tensor | None) -> Tensor:
        worth = self.estimate(feedback, log_ratio)[0]
        mask = feedback.segments.mask
        if self.whiten:
            steps = worth[mask]
            worth = torch.where(mask, (worth - steps.mean()) / (steps.std(correction=0) + 1e-8), 0.0)
        return worth

    @torch.no_grad()
    def estimate(self, feedback: Feedback, log_ratio: Tensor | None) -> tuple[Tensor, Tensor]:
        """The advantages, and what the critic should have said: both [B,K,T], 0 on padding."""
        mask = feedback.segments.mask
        value = torch.where(mask, self.critic(feedback.segments), 0.0)
        reward = (-_priced(log_ratio, self.kl, "kl") * mask).expand(mask.shape).to(value.dtype).clone()
        last = (mask * torch.arange(1, mask.shape[-1] + 1, device=mask.device)).argmax(-1, keepdim=True)
        reward.scatter_add_(-1, last, feedback.target.detach().to(value.dtype).unsqueeze(-1))
        worth = torch.zeros_like(value)
        next_worth = next_value = torch.zeros_like(value[..., 0])
        for t in reversed(range(mask.shape[-1])):
            surprise = reward[..., t] + self.gamma * next_value - value[..., t]
            here = surprise + self.gamma * self.lam * next_worth
            next_worth = torch.where(mask[..., t], here, next_worth)
            next_value = torch.where(mask[..., t], value[..., t], next_value)
            worth[..., t] = torch.where(mask[..., t], here, 0.0)
        return worth, worth + value


def critic_loss(advantage: GAE, reference: Policy | None = None) -> Objective:
    """Half the squared error of the critic, mean over steps and K, to be added with `plus`.

    The reference is the one that the policy gradient was given, for the price of the KL.
    """

    def objective(feedback: Feedback) -> Tensor:
        mask = feedback.segments.mask
        wanted = advantage.estimate(feedback, acted_log_ratio(feedback, reference))[1]
        error = torch.where(mask, advantage.critic(feedback.segments) - wanted, 0.0)
        return 0.5 * ((error**2).sum(-1) / mask.sum(-1)).mean(-1)

    return objective


def _reward(feedback: Feedback, log_ratio: Tensor | None, kl: float) -> Tensor:
    """[B,K,1]: the judged reward less the price of the KL."""
    price = _priced(log_ratio, kl, "kl")
    paid = price.sum(-1, keepdim=True) if isinstance(price, Tensor) else price
    return feedback.target.detach().unsqueeze(-1) - paid


def _priced(log_ratio: Tensor | None, price: float, name: str) -> Tensor | float:
    if not price:
        return 0.0
    if log_ratio is None:
        raise ValueError(
            f"{name} is {price}, but there is no reference to be near to; give policy_gradient (and critic_loss) one, "
            "Reference(policy)"
        )
    return price * log_ratio


def _several(reward: Tensor, what: str) -> int:
    if (k := reward.shape[1]) < 2:
        raise ValueError(f"{what} compares samples of one context, but K = 1; draw at least two, or take plain")
    return k


def _price(value: float, name: str = "kl") -> None:
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} is {value}; give a finite price of a nat of KL, at least 0")
