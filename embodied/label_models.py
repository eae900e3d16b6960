"""Label models: what is believed about the labels. They change the target, so they work with any loss."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from embodied.annotators import TRUST
from embodied.feedback import Feedback
from embodied.losses import Loss

LabelModel = Callable[[Loss, Tensor, Feedback], Tensor]  # (loss, score [...,B,K] detached, feedback) -> target [B,K]


def as_given(loss: Loss, score: Tensor, feedback: Feedback) -> Tensor:
    """The target as the annotator gave it, [B,K]."""
    return feedback.target


def smooth(eps: float) -> LabelModel:
    """A label is taken for wrong with probability eps: [q, p] -> [(1-eps) q + eps p, ...].

    With DPO this is conservative DPO (Mitchell 2023). Raises ValueError unless 0 <= eps <= .5 and K = 2.
    """
    if not 0 <= eps <= 0.5:
        raise ValueError(f"eps is {eps}; give a share of wrong labels between 0 and .5")

    def label_model(loss: Loss, score: Tensor, feedback: Feedback) -> Tensor:
        target = _pairs(feedback)
        return (1 - eps) * target + eps * target.flip(-1)

    return label_model


def unbias(eps: float) -> LabelModel:
    """The inverse: the mean over labels flipped with probability eps is the loss of the true label.

    Targets leave [0,1]; that is the point, and `pairwise` takes them. With DPO this is robust DPO (arXiv 2403.00409).
    Raises ValueError unless 0 <= eps < .5 and K = 2.
    """
    if not 0 <= eps < 0.5:
        raise ValueError(
            f"eps is {eps}; give a share of wrong labels of at least 0 and below .5, where labels say nothing"
        )

    def label_model(loss: Loss, score: Tensor, feedback: Feedback) -> Tensor:
        target = _pairs(feedback)
        return ((1 - eps) * target - eps * target.flip(-1)) / (1 - 2 * eps)

    return label_model


class EM(nn.Module):
    """Each label is right with its annotator's reliability eta_k; the target is the posterior of the truth.

    Expectation-maximisation as in RE-PO (arXiv 2509.24159). The loss makes a probability of any score (Gibbs):
    P(first) = e^-loss(score, [1,0]) over its sum with that of [0,1], the mean over members. E-step, at each call:
    P(first | said first) = eta P / (eta P + (1 - eta)(1 - P)). M-step of the reward: gradient steps on that target; for
    the logistic loss and one member these are steps on -log(eta P + (1 - eta)(1 - P)). M-step of eta: `update`, from
    all feedback; reward networks call it after every `every` steps of a fit, who fits by other means does so himself. A
    call changes nothing.

    A tie stays a tie, since it speaks for neither side; a target [q, 1-q] is |2q - 1| of a decision and a tie for
    the rest. At eta = 1 labels are as given; at eta = 1/2 the target is P itself, and nothing is learned from them.

    Args:
        known: the Beta counts (right, wrong) of annotators 0, 1, ... as `Feedback` numbers them: what
            `annotators.reliabilities` found, each one's `beta`. From gold all counts once; overlapping answers count
            twice, here and in the reward, which makes eta too sure of itself, not wrong.
        prior: those of everybody else.
        every: the reward's gradient steps between two updates.

    What is identified. Gold identifies eta by itself. The reward's scores alone measure agreement with what all answers
    together taught the reward, never truth: turning all rewards and all reliabilities around explains the answers as
    well, and a minority of another taste looks like people who err. So they may confirm themselves only within limits:
    up to eta = 1, the labels as given; down to eta = 1/2, a person not listened to, or the mean of `known` where that
    is lower. Only gold or overlap turns a person's answers around. Within these limits eta is identified if the reward
    generalises over people; where it can memorise each answer (few answers, many parameters, long fits) eta is too
    high. Scores that say nothing (P = 1/2) leave eta at the prior's mean; one answer moves it by at most one answer.

    State: eta [N], saved with the reward that it is part of. Raises ValueError for counts or every out of range, K
    other than 2, targets outside [0,1] and annotators below 0.
    """

    def __init__(
        self,
        known: Sequence[tuple[float, float]] = (),
        *,
        prior: tuple[float, float] = TRUST,
        every: int = 20,
    ) -> None:
        super().__init__()
        for name, (right, wrong) in {"prior": prior, **{f"known[{k}]": beta for k, beta in enumerate(known)}}.items():
            if not (0 < right < math.inf and 0 < wrong < math.inf):
                raise ValueError(f"{name} is Beta({right}, {wrong}); give counts (right, wrong), finite and above 0")
        if every < 1:
            raise ValueError(f"every is {every}; give at least 1 gradient step between two updates")
        self.known, self.prior, self.every = tuple(known), prior, every
        self.eta = self._counts(len(known))[:, 0] / self._counts(len(known)).sum(1)

    def forward(self, loss: Loss, score: Tensor, feedback: Feedback) -> Tensor:
        target = self._checked(feedback)
        sure = torch.diff(target, dim=-1).squeeze(-1).abs()
        eta = self.reliability(int(feedback.annotator.max()) + 1 if len(feedback) else 0)
        eta = eta.to(target)[feedback.annotator]
        first = self._belief(loss, score, target)
        right = torch.where(target[:, 0] > target[:, 1], first, 1 - first)
        right = eta * right / (eta * right + (1 - eta) * (1 - right))
        first = torch.where(target[:, 0] > target[:, 1], right, 1 - right)
        return torch.stack([sure * first + (1 - sure) / 2, sure * (1 - first) + (1 - sure) / 2], -1)

    def reliability(self, annotators: int) -> Tensor:
        """eta [N] of the first `annotators`, float64: of those without an answer so far the mean of their prior."""
        counts = self._counts(max(annotators, len(self.eta)))
        return torch.cat([self.eta, (counts[:, 0] / counts.sum(1))[len(self.eta) :]])[:annotators]

    @torch.no_grad()
    def update(self, loss: Loss, score: Tensor, feedback: Feedback) -> None:
        """The most probable eta given the scores [...,B,K] of all feedback; rows of weight 0 are no answers.

        Maximum a posteriori in log-odds, as `annotators.reliabilities`. The log-posterior of each eta is concave, so
        that the maximum is found by halving, not by steps, and does not depend on the eta before.
        """
        target = self._checked(feedback).double()
        people = int(feedback.annotator.max()) + 1 if len(feedback) else 0
        sure = torch.diff(target, dim=-1).squeeze(-1).abs() * (feedback.weight > 0)
        first = self._belief(loss, score, target)
        right = torch.where(target[:, 0] > target[:, 1], first, 1 - first)
        counts = self._counts(max(people, len(self.known))).to(right)
        low, high = torch.zeros_like(counts[:, 0]), torch.ones_like(counts[:, 0])
        for _ in range(50):
            eta = (low + high) / 2
            each = eta[feedback.annotator]
            slope = counts[:, 0] / eta - counts[:, 1] / (1 - eta)
            slope.index_add_(0, feedback.annotator, sure * (2 * right - 1) / (each * right + (1 - each) * (1 - right)))
            low, high = torch.where(slope > 0, eta, low), torch.where(slope > 0, high, eta)
        floor = (counts[:, 0] / counts.sum(1)).clamp(max=0.5)
        self.eta = torch.maximum((low + high) / 2, floor).cpu()

    def _counts(self, annotators: int) -> Tensor:
        """[N,2]."""
        return torch.tensor([*self.known, *[self.prior] * (annotators - len(self.known))], dtype=torch.float64).reshape(
            -1, 2
        )

    def _belief(self, loss: Loss, score: Tensor, target: Tensor) -> Tensor:
        """What the scores say of P(first better), [B]."""
        sides = torch.eye(2, dtype=score.dtype, device=score.device)
        first, second = (loss(score, side.expand(target.shape)) for side in sides)
        belief: Tensor = torch.sigmoid(second - first).reshape(-1, len(target)).mean(0)
        return belief.to(target)

    def _checked(self, feedback: Feedback) -> Tensor:
        target = _pairs(feedback)
        if ((target < 0) | (target > 1)).any():
            raise ValueError(f"a target is {target.min().item()}; give probabilities in [0, 1], and EM before `unbias`")
        if (feedback.annotator < 0).any():
            raise ValueError(f"an annotator is {feedback.annotator.min().item()}; number them from 0")
        return target

    def get_extra_state(self) -> dict[str, Tensor]:
        return {"eta": self.eta}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        self.eta = state["eta"].clone()


def gap_weight(feedback: Feedback, quality: Tensor, base: float = 2.0) -> Feedback:
    """Each pair's weight times |base^first - base^second| of the qualities [B,2]: GAPO (arXiv 2504.10044).

    The wider the gap and the higher it lies, the more a pair counts; a tie counts nothing. base -> 1 makes it linear.
    The qualities (returns, success margins, ratings) should be of about 1; `fit` divides by the weights of a batch, so
    that only their ratios matter. Raises ValueError for a base of at most 1, and qualities of another shape or not
    finite.
    """
    if not 1 < base < math.inf:
        raise ValueError(f"base is {base}; give a finite one above 1")
    if quality.shape != _pairs(feedback).shape or not torch.isfinite(quality).all():
        raise ValueError(f"quality has shape {list(quality.shape)}; give finite numbers, {list(feedback.target.shape)}")
    gap = torch.diff(base ** quality.detach(), dim=-1).squeeze(-1).abs()
    return replace(feedback, weight=feedback.weight * gap)


def _pairs(feedback: Feedback) -> Tensor:
    if feedback.target.shape[-1] != 2:
        raise ValueError(
            f"a label model is about pairs, but K = {feedback.target.shape[-1]}; expand with all_pairs first"
        )
    return feedback.target
