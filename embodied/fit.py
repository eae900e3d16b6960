"""One loop for everything that learns from stored feedback, and the objectives that it can minimise."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from embodied.feedback import Feedback, Index, Segments
from embodied.label_models import LabelModel, as_given
from embodied.losses import Loss
from embodied.policy import Policy
from embodied.scores import Scorer, mean_log_prob

Objective = Callable[[Feedback], Tensor]  # -> [B], one loss per row, before weights
# -> rows that go through the network together: each row once, or a process's share of them
Split = Callable[[Segments], Sequence[Index]]
Progress = Callable[[int, float], None]  # (steps done, loss)


def ranking(scorer: Scorer, loss: Loss, label_model: LabelModel = as_given) -> Objective:
    """The scores of segments held against the target: reward models of all kinds. An ensemble sums over its members."""

    return lambda feedback: judged(scorer(feedback.segments), feedback, loss, label_model)


def judged(score: Tensor, feedback: Feedback, loss: Loss, label_model: LabelModel = as_given) -> Tensor:
    """The loss of the scores [...,B,K] under what the label model makes of the target, summed over members, [B].

    Raises ValueError for scores of half precision.
    """
    losses = loss(precise("scores", score), label_model(loss, score.detach(), feedback))
    if losses.shape != score.shape[:-1]:
        raise ValueError(
            f"the loss gave {list(losses.shape)} for scores {list(score.shape)}; it must give one number per row, "
            f"{list(score.shape[:-1])}: make a loss of f(better, worse) with pairwise(f)"
        )
    return losses.reshape(-1, len(feedback)).sum(0)


def precise(what: str, x: Tensor) -> Tensor:
    """x as it is. Raises ValueError for half precision: its differences are mostly rounding once they are sums."""
    if x.dtype in (torch.float16, torch.bfloat16):
        raise ValueError(
            f"the {what} are {x.dtype}, three decimal digits or fewer: a sum over steps loses what sets two segments "
            "apart; work them out in float32, from logits.float()"
        )
    return x


def imitate(policy: Policy) -> Objective:
    """Behaviour cloning: -sum over alternatives of target times the mean log-probability of a stored action.

    Demonstrations have K = 1 and target 1; of pairs, the preferred one is imitated.
    """

    def objective(feedback: Feedback) -> Tensor:
        logp = precise("log-probabilities", policy.log_prob(feedback.segments))
        score = mean_log_prob(logp, torch.zeros_like(logp), feedback.segments.mask)
        return -(feedback.target.detach() * score).sum(-1)

    return objective


def plus(objective: Objective, *terms: tuple[float, Objective]) -> Objective:
    """The objective and further ones, each times its coefficient: regularisers, auxiliary losses."""
    return Sum(((1.0, objective), *terms))


@runtime_checkable
class BatchObjective(Protocol):
    """An objective of which one row's loss depends on others."""

    def over(self, parts: Sequence[Segments]) -> Objective:
        """The objective for rows of one batch, which comes in these parts."""
        ...


def over(objective: Objective, parts: Sequence[Segments]) -> Objective:
    return objective.over(parts) if isinstance(objective, BatchObjective) else objective


@dataclass(frozen=True, eq=False)
class Sum:
    """Objectives, each times its coefficient; what `plus` makes."""

    terms: tuple[tuple[float, Objective], ...]

    def __call__(self, feedback: Feedback) -> Tensor:
        """[B]."""
        (coefficient, term), *others = self.terms
        total = coefficient * term(feedback)
        for coefficient, term in others:
            total = total + coefficient * term(feedback)
        return total

    def over(self, parts: Sequence[Segments]) -> "Sum":
        return Sum(tuple((coefficient, over(term, parts)) for coefficient, term in self.terms))


@dataclass(frozen=True)
class FitReport:
    """The weighted mean loss of each step's batch, in order; it is taken before the step."""

    losses: tuple[float, ...]


def fit(
    objective: Objective,
    data: Feedback,
    opt: torch.optim.Optimizer,
    *,
    steps: int,
    batch: int,
    rng: np.random.Generator,
    split: Split | None = None,
    progress: Progress | None = None,
) -> FitReport:
    """`steps` steps of `opt`, each on the weighted mean of the objective over `batch` different rows, or all there are.

    split: where a batch is too large to go through a network at once, its parts, whose gradients are summed: those of
    the whole batch, since the mean is the whole batch's, and an objective that looks at other rows (KTO's anchor) is
    asked `over` all parts first. Everything that is carried lives in `opt`, its parameters and `rng`, so fit(a); fit(b)
    equals fit(a+b) bit for bit. Rows of weight 0 are never drawn. Raises ValueError for impossible sizes, no row to
    learn from, or a loss that is not finite; parameters are then as they were before that step.
    """
    return fit_all([(objective, data)], opt, steps=steps, batch=batch, rng=rng, split=split, progress=progress)


def fit_all(
    parts: Sequence[tuple[Objective, Feedback]],
    opt: torch.optim.Optimizer,
    *,
    steps: int,
    batch: int,
    rng: np.random.Generator,
    split: Split | None = None,
    progress: Progress | None = None,
) -> FitReport:
    """The same over several kinds of feedback, each with its objective; a batch is drawn from all rows alike."""
    if steps < 0 or batch < 1:
        raise ValueError(f"steps is {steps} and batch {batch}; give at least 0 and at least 1")
    ends = np.cumsum([0, *(len(data) for _, data in parts)])
    weights = np.concatenate([data.weight.detach().cpu().numpy() for _, data in parts])
    rows = np.flatnonzero(weights > 0)
    if not len(rows):
        raise ValueError(f"none of the {ends[-1]} rows has a weight above 0; give something to learn from")
    losses = []
    for step in range(steps):
        drawn = rows if batch >= len(rows) else rng.choice(rows, batch, replace=False)
        pieces: list[tuple[Objective, Feedback]] = []
        weight = torch.zeros(())
        for (objective, data), first, after in zip(parts, ends[:-1], ends[1:], strict=True):
            if len(here := drawn[(first <= drawn) & (drawn < after)] - first):
                part = data[here]
                weight = weight + part.weight.detach().sum()
                pieces += [(objective, part[some]) for some in split(part.segments)] if split else [(objective, part)]
        # By identity: somebody's own objective need not be hashable.
        whole: dict[int, Objective] = {}
        for objective, _ in pieces:
            if id(objective) not in whole:
                whole[id(objective)] = over(objective, [piece.segments for of, piece in pieces if of is objective])
        opt.zero_grad()
        value = 0.0
        for objective, piece in pieces:
            loss = (piece.weight.detach() * whole[id(objective)](piece)).sum() / weight
            if not math.isfinite(loss.item()):
                raise ValueError(
                    f"the loss is {loss.item()} at step {step}; lower the learning rate, and try check_loss on the loss"
                )
            loss.backward()  # type: ignore[no-untyped-call]
            value += loss.item()
        opt.step()
        losses.append(value)
        if progress is not None:
            progress(step + 1, value)
    return FitReport(tuple(losses))
