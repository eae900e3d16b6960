"""Where a policy stands: what its answers are worth, and how far it went from the model it began as.

The answers within the law are summed over exactly; of whatever else the policy says, the part that it says is estimated
from samples. So a figure has a standard error, which only the second part makes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from llm_bridge.testbed import optimum, tutor
from llm_bridge.testbed.enumeration import Model, log_probs, row_log_probs
from llm_bridge.testbed.sampling import sample


@dataclass(frozen=True, eq=False)
class Landscape:
    """What can be said to Q questions: the reference's log-probability [Q,A+1] of each answer within the law and, last,
    of everything else together; their gold [Q,A+1]. `covered`: the probability within the law, a mean over questions.

    The gold of everything else is the mean of what the reference said there in samples: one number for all questions.
    """

    numbers: Tensor
    log_ref: Tensor
    gold: Tensor
    covered: float

    @property
    def reward(self) -> float:
        return optimum.reward(self.log_ref, self.gold).item()

    def frontier(self, betas: tuple[float, ...]) -> list[optimum.Point]:
        return optimum.frontier(self.log_ref, self.gold, betas)

    def share_of_possible_gain(self, reward: float, kl: float) -> float:
        return optimum.share_of_possible_gain(self.log_ref, self.gold, reward, kl)


@dataclass(frozen=True)
class Figure:
    """A number and its standard error, which is of the samples and not of the choice of questions."""

    value: float
    error: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ± {self.error:.3f}"


@dataclass(frozen=True)
class Measured:
    """Means over the questions; all but gold, kl (nats) and share are shares of the answers.

    share: of the gain that is possible at this KL. So near to the reference that hardly any is, its error is large.
    covered: the policy's own probability within the law, exact.
    """

    gold: Figure
    correct: Figure
    scaffold: Figure
    polite: Figure
    toxic: Figure
    grammatical: Figure
    kl: Figure
    share: Figure
    covered: float


@torch.no_grad()
def landscape(reference: Model, numbers: Tensor, rng: np.random.Generator, *, k: int = 8) -> Landscape:
    """Of questions about numbers [Q,2]; k samples of each say what everything else is worth."""
    prompts = tutor.prompts(numbers)
    log_ref = within(reference, numbers)
    tokens, mask = tutor.answers(numbers)
    gold = tutor.marks(prompts[:, None], tokens, mask).gold
    act, said, _ = sample(reference, prompts, k, rng)
    marks = tutor.marks(prompts[:, None], act, said)
    outside = marks.gold[marks.index < 0]
    rest = outside.mean() if len(outside) else torch.zeros((), dtype=torch.float64)
    gold = torch.cat([gold, rest.expand(len(gold), 1)], -1)
    return Landscape(numbers, log_ref, gold, 1 - log_ref[:, -1].exp().mean().item())


def within(model: Model, numbers: Tensor) -> Tensor:
    """log [Q,A+1] of each answer within the law, and of everything else together; differentiable."""
    log_pi = log_probs(model, tutor.prompts(numbers), *tutor.answers(numbers))
    # Of a model that never leaves the law, rounding may make a sum a little more than 1.
    rest = torch.log(-torch.expm1(log_pi.logsumexp(-1, keepdim=True).clamp(max=-1e-9)))
    return torch.cat([log_pi, rest], -1)


@torch.no_grad()
def measure(policy: Model, reference: Model, ground: Landscape, rng: np.random.Generator, *, k: int = 8) -> Measured:
    """The policy on the questions of the landscape, which is that of the reference; k samples of each question."""
    numbers = ground.numbers
    prompts = tutor.prompts(numbers)
    tokens, mask = tutor.answers(numbers)
    known = tutor.marks(prompts[:, None], tokens, mask)
    log_pi = within(policy, numbers)[:, :-1]
    prob = log_pi.exp()

    act, said, log_prob = sample(policy, prompts, k, rng)
    drawn = tutor.marks(prompts[:, None], act, said)
    outside = drawn.index < 0
    gap = torch.zeros(outside.shape, dtype=torch.float64)
    question, answer = outside.nonzero(as_tuple=True)
    if len(question):
        rows = act[question, answer], said[question, answer]
        theirs = row_log_probs(reference, prompts[question], *rows).double().sum(-1)
        gap[question, answer] = log_prob[question, answer].double().sum(-1) - theirs

    def figure(inside: Tensor, beside: Tensor) -> Figure:
        sampled = torch.where(outside, beside.double(), 0.0)
        exact = (prob * inside).sum(-1).mean()
        return Figure((exact + sampled.mean()).item(), (sampled.std() / sampled.numel() ** 0.5).item())

    def share(name: str) -> Figure:
        return figure(getattr(known, name), getattr(drawn, name))

    gold, kl = share("gold"), figure(log_pi - ground.log_ref[:, :-1], gap)
    return Measured(
        gold=gold,
        correct=share("correct"),
        scaffold=share("scaffold"),
        polite=share("polite"),
        toxic=share("toxic"),
        grammatical=share("grammatical"),
        kl=kl,
        share=_share(ground, gold, kl),
        covered=prob.sum(-1).mean().item(),
    )


def _share(ground: Landscape, gold: Figure, kl: Figure) -> Figure:
    """With the larger error of the two ways in which those of gold and KL may add up."""
    nats = max(kl.value, 0.0)
    share = ground.share_of_possible_gain(gold.value, nats)
    off = abs(ground.share_of_possible_gain(gold.value + gold.error, nats) - share)
    drift = abs(ground.share_of_possible_gain(gold.value, nats + kl.error) - share)
    return Figure(share, off + drift)
