"""Policy gradients on judged samples: by how much each was better (advantage), how the policy follows (surrogate).

policy_gradient(policy, reinforce, plain(baseline="batch"))                                  REINFORCE
policy_gradient(policy, clipped(0.2, "sequence"), leave_one_out(kl=0.05), reference)         RLOO
policy_gradient(policy, clipped(0.2, mean=True), group())                                    GRPO
policy_gradient(policy, clipped(0.2), advantage := GAE(critic, kl=0.05), reference)          PPO, plus critic_loss
policy_gradient(policy, pairwise_clipped(0.2), plain(kl=0.05), reference)                    P3O
policy_gradient(policy, reinforce, nash(tau=0.008), reference)                               Nash-MD-PG

The target [B,K] is the judged reward and `segments.log_prob` what the policy that acted said; `collect` (online.py)
makes such feedback. `kl` is the price of a nat of KL(policy, reference), in units of reward: it is taken off the reward
of what was done, so it wants a reference and known log-probabilities. As a loss of its own: kl_terms.py.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from embodied.direct import MixedContexts
from embodied.feedback import Feedback, Segments
from embodied.fit import Objective, precise
from embodied.policy import Policy

# (logp, log-probability when it acted [B,K,T], advantage [B,K,T] or [B,K,1], mask) -> [B]
Surrogate = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
# (judged samples, log-ratio to the reference when they were drawn [B,K,T], None without one) -> [B,K,T], or [B,K,1] for
# one advantage of a whole alternative; never differentiated
Advantage = Callable[[Feedback, Tensor | None], Tensor]
Critic = Callable[[Segments], Tensor]  # -> [B,K,T], what is still to come before each step, in units of reward


def policy_gradient(
    policy: Policy, surrogate: Surrogate, advantage: Advantage, reference: Policy | None = None
) -> Objective:
    """The surrogate of the policy under the advantage as an objective for `fit`; its mean over K is minimised.

    The alternatives of a row are samples from one context. Raises MixedContexts where they are not, ValueError for
    unknown log-probabilities where the surrogate or a KL needs them and for a KL without a reference, and for log-
    probabilities of half precision.
    """
    if policy in (reference, getattr(reference, "policy", None)):
        raise ValueError("the reference is the policy itself and would learn with it; give Reference(policy)")

    def objective(feedback: Feedback) -> Tensor:
        segments = feedback.segments
        if segments.mask.shape[1] > 1 and not feedback.same_context.all():
            mixed = int((~feedback.same_context).sum())
            raise MixedContexts(
                f"{mixed} of {len(feedback)} rows hold samples from different contexts, where one that did better may "
                "only have had it easier; draw all K from one context, or make a row of each"
            )
        logp = precise("log-probabilities", policy.log_prob(segments))
        worth = advantage(feedback, acted_log_ratio(feedback, reference)).detach()
        return surrogate(logp, segments.log_prob.detach(), worth, segments.mask)

    return objective


def acted_log_ratio(feedback: Feedback, reference: Policy | None) -> Tensor | None:
    """log pi_old/pi_ref [B,K,T] of the policy that acted, 0 on padding; None without a reference. Raises ValueError for
    unknown log-probabilities."""
    if reference is None:
        return None
    segments = feedback.segments
    old = known(segments.log_prob, segments.mask, "the KL to a reference")
    with torch.no_grad():
        return torch.where(segments.mask, old - reference.log_prob(segments), 0.0)


# --- surrogates


def reinforce(logp: Tensor, old: Tensor, advantage: Tensor, mask: Tensor) -> Tensor:
    """-sum over t of advantage times log pi, mean over K (Williams 1992): exact for samples of the policy as it is."""
    return -(advantage * torch.where(mask, logp, 0.0)).sum(-1).mean(-1)


def clipped(eps: float = 0.2, level: Literal["step", "sequence"] = "step", mean: bool = False) -> Surrogate:
    """-min(ratio A, clip(ratio, 1 - eps, 1 + eps) A), mean over K: PPO's clip (arXiv 1707.06347, eq. 7).

    Ratios of steps are summed, or with `mean` averaged over the steps (GRPO, arXiv 2402.03300, eq. 3: long answers then
    count as much as short ones). level="sequence": one ratio of the whole (RLOO, arXiv 2402.14740), for an advantage of
    the whole. Raises ValueError for eps out of (0, 1), and unknown log-probabilities.
    """
    _width("eps", eps, below=1)
    if level not in ("step", "sequence") or (mean and level == "sequence"):
        raise ValueError(f"level is {level!r}, mean {mean}; choose 'step' or 'sequence', and a mean of steps alone")

    def surrogate(logp: Tensor, old: Tensor, advantage: Tensor, mask: Tensor) -> Tensor:
        moved = _moved(logp, old, mask, "a ratio")
        if level == "sequence":
            moved, advantage = moved.sum(-1, keepdim=True), _whole(advantage, "clipped(level='sequence')")
        gain = _least(moved.exp(), advantage, 1 - eps, 1 + eps)
        if level == "sequence":
            return -gain.squeeze(-1).mean(-1)
        total = torch.where(mask, gain, 0.0).sum(-1)
        return -(total / mask.sum(-1) if mean else total).mean(-1)

    return surrogate


def pairwise_clipped(eps: float = 0.2) -> Surrogate:
    """P3O with the two ratios of a pair clipped separately, its V1 (arXiv 2310.00212); mean over all pairs of K.

    L_i = -min(c_i ratio_i, c_i clip(ratio_i, 1 - eps, 1 + eps)) with c_i = (A_i - A_j) ratio_j held constant, and half
    the sum of both: only differences of A count, so take `plain`. Raises ValueError for K = 1, eps out of (0, 1), and
    unknown log-probabilities.
    """
    _width("eps", eps, below=1)

    def surrogate(logp: Tensor, old: Tensor, advantage: Tensor, mask: Tensor) -> Tensor:
        moved, gap = _pairs(logp, old, advantage, mask, "pairwise_clipped")
        worth = gap * moved.detach().exp().unsqueeze(-2)  # [B,K,K]
        return -_mean_pair(_least(moved.exp().unsqueeze(-1), worth, 1 - eps, 1 + eps))

    return surrogate


def jointly_clipped(delta: float = 0.4) -> Surrogate:
    """P3O with the pair's gap in log-probability clipped, its V2; mean over all pairs of K.

    L = -1/2 min(c g, c clip(g, g_old - delta, g_old + delta)) with g = log pi_1 - log pi_2 of the whole and
    c = (A_1 - A_2) ratio_1 ratio_2 held constant. In logarithms, so that long episodes do not underflow. Where nothing
    is clipped its gradient is that of `pairwise_clipped`. Raises ValueError as that does.
    """
    _width("delta", delta)

    def surrogate(logp: Tensor, old: Tensor, advantage: Tensor, mask: Tensor) -> Tensor:
        moved, gap = _pairs(logp, old, advantage, mask, "jointly_clipped")
        total, begun = (torch.where(mask, x, 0.0).sum(-1) for x in (logp, old))
        now, before = (x.unsqueeze(-1) - x.unsqueeze(-2) for x in (total, begun))
        worth = gap * (moved.unsqueeze(-1) + moved.unsqueeze(-2)).detach().exp()
        return -_mean_pair(_least(now, worth, before - delta, before + delta)) / 2

    return surrogate


def _least(x: Tensor, worth: Tensor, low: Tensor | float, high: Tensor | float) -> Tensor:
    return torch.minimum(worth * x, worth * torch.clamp(x, low, high))  # type: ignore[arg-type]


def _pairs(logp: Tensor, old: Tensor, advantage: Tensor, mask: Tensor, what: str) -> tuple[Tensor, Tensor]:
    """Log-ratios of the whole [B,K], and the gaps [B,K,K] of the first's advantage over the second's."""
    if mask.shape[1] < 2:
        raise ValueError(f"{what} compares samples, but K = 1; draw at least two from each context")
    whole = _whole(advantage, what).squeeze(-1)
    return _moved(logp, old, mask, what).sum(-1), whole.unsqueeze(-1) - whole.unsqueeze(-2)


def _mean_pair(x: Tensor) -> Tensor:
    """[B] of [B,K,K], whose diagonal is 0."""
    k = x.shape[-1]
    return x.sum((-2, -1)) / (k * (k - 1))


def _moved(logp: Tensor, old: Tensor, mask: Tensor, what: str) -> Tensor:
    return torch.where(mask, logp - known(old, mask, what), 0.0)


def known(old: Tensor, mask: Tensor, what: str) -> Tensor:
    """The log-probabilities [B,K,T] of when it acted. Raises ValueError where the mask has one that is not known."""
    if (unknown := mask & ~torch.isfinite(old)).any():
        row = int(unknown.nonzero()[0, 0])
        raise ValueError(
            f"segments.log_prob of row {row} is not known, and {what} asks how likely each step was when it was taken; "
            "have the sampler fill it in, or take reinforce without a reference"
        )
    return old.detach()


def _whole(advantage: Tensor, what: str) -> Tensor:
    if advantage.shape[-1] != 1:
        raise ValueError(
            f"{what} wants one advantage of each alternative, [B,K,1], but got {list(advantage.shape)}, one of each "
            "step; take plain, leave_one_out or group, or clip steps"
        )
    return advantage


def _width(name: str, value: float, below: float = math.inf) -> None:
    if not 0 < value < below:
        raise ValueError(f"{name} is {value}; give a number above 0" + (f" and below {below:g}" if below == 1 else ""))


# --- advantages


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
