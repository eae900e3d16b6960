"""Which model explains a person's answers: the one that predicts best, if that is no accident; how sure that is, and
how many answers would be needed. No torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.special import expit
from scipy.stats import norm

from embodied.held_out import INNER, folds, held_out, log_likelihood
from embodied.preference_models import Model
from embodied.records import Array

COIN = float(np.log(0.5))
LEAST = 20
"""Fewer questions tell nothing, whatever they are."""
DRAWS = 4000
RISK = 0.05
MARGIN = 0.02
"""Nats per answer, of the .69 that a coin leaves open: by so little a model must be better to count as the same."""
NEAR = 0.25
"""Of a share: nearer to its end than to half and half."""
FAR = 100
"""Times as many answers as there are: how many would be needed is then left unsaid."""


class CannotJudge(ValueError):
    """Answers that nothing can be told from; the sentence says why and what to do."""


@dataclass(frozen=True)
class Lead:
    """By how much one predicts better than another, in nats per answer: the mean, and an interval so wide (.05 over the
    number of models) that a model is wrongly named for one person in twenty at most."""

    mean: float
    low: float
    high: float

    @property
    def clear(self) -> bool:
        return self.low > 0


@dataclass(frozen=True)
class Bin:
    """Answers whose first segment was thought better with about the same probability."""

    predicted: float
    observed: float
    answers: int


@dataclass(frozen=True)
class Held:
    """How one model predicts. nats: log-likelihood of an answer, held out. over_coin: its lead over a coin. behind: the
    lead of the first model over it; `settled` says that this is enough. error: of calibration, expected, from `bins`.
    """

    model: str
    nats: float
    over_coin: Lead
    behind: Lead
    settled: bool
    error: float
    bins: tuple[Bin, ...]


@dataclass(frozen=True)
class Verdict:
    """What one person's answers say. models: the named one first, or the best, and so on down. named: the model that
    explains them, "coin" where none seems better than tossing one, None where it cannot be told. needed: about how many
    answers would tell, if it can be said.
    """

    answers: int
    questions: int
    ties: int
    models: tuple[Held, ...]
    named: str | None
    needed: int | None

    @property
    def open(self) -> tuple[str, ...]:
        """The models that these answers leave possible."""
        return tuple(held.model for held in self.models if not held.settled)


def resampled(values: Array, query: Array, rng: np.random.Generator) -> Array:
    """Bootstrap means [R,M] of values [B,M] per answer. Questions are drawn, not answers, since those to one question
    are not independent; all columns share the draw, so that differences of them are paired."""
    which = np.unique(query, return_inverse=True)[1]
    one = csr_array((np.ones(len(which)), (which, np.arange(len(which)))))
    sums, counts = one @ values, np.bincount(which)
    size = len(sums)
    chosen = rng.integers(size, size=(DRAWS, size)) + size * np.arange(DRAWS)[:, None]
    drawn = np.bincount(chosen.ravel(), minlength=DRAWS * size).reshape(DRAWS, size)
    return np.asarray((drawn @ sums) / (drawn @ counts)[:, None])


def calibration(gaps: Array, first: Array, bins: int = 10) -> tuple[float, tuple[Bin, ...]]:
    """The expected calibration error, and the bins of equal width that it is the mean over: |predicted - observed|."""
    probability = expit(gaps)
    which = np.minimum((probability * bins).astype(int), bins - 1)
    found = [
        Bin(float(probability[which == i].mean()), float(first[which == i].mean()), int((which == i).sum()))
        for i in range(bins)
        if (which == i).any()
    ]
    return sum(b.answers * abs(b.predicted - b.observed) for b in found) / len(first), tuple(found)


def check(first: Array, query: Array, n: int) -> None:
    """Raises CannotJudge for answers from which nothing can be told."""
    questions, decided = len(np.unique(query)), first[first != 0.5]
    if not len(first):
        raise CannotJudge("there is no comparison of two clips; ask some")
    if not len(decided):
        raise CannotJudge(f"all {len(first)} answers are ties; ask about clips that differ more")
    if len(set(decided > 0.5)) == 1:
        side = "first" if decided[0] > 0.5 else "second"
        raise CannotJudge(f"all {len(decided)} decided answers are for the {side} clip, which is a habit and no wish")
    if n < 2:
        raise CannotJudge(f"{n} folds were asked for; give at least 2")
    if questions < max(LEAST, 2 * n):
        raise CannotJudge(
            f"{questions} different questions were answered, too few for {n} folds; at least {max(LEAST, 2 * n)} are "
            "needed, and hundreds to tell models apart"
        )


def explain(
    models: Sequence[Model],
    first: Array,
    query: Array,
    *,
    n: int = 10,
    rng: np.random.Generator,
    told: Callable[[str], object] = lambda _: None,
) -> Verdict:
    """Judges models on answers `first` [B] to questions `query` [B]; every model has the same folds. told: hears the
    name of each before it is fitted. Raises CannotJudge."""
    check(first, query, n)
    fold, inner = folds(query, n, rng), folds(query, INNER, rng)
    gaps, apart = {}, {}
    for model in models:
        told(model.name)
        gaps[model.name], last = held_out(model, first, fold, inner)
        apart[model.name] = {part: np.abs(last - end) for part, end in model.parts.items()}
    return verdict(gaps, apart, first, query, rng)


def verdict(
    gaps: Mapping[str, Array],
    apart: Mapping[str, Mapping[str, Array]],
    first: Array,
    query: Array,
    rng: np.random.Generator,
) -> Verdict:
    """The verdict on held-out predictions, by model, in logits [B]. apart: how far the fits of a model that contains
    others, one a fold, are from being each of them.

    A model is named if it predicts clearly better than a coin and than every other. The best is chosen by the very
    answers it is then tested on, so each of its M leads may miss with .05/M only (Bonferroni): naming one that is not
    the best, or any where there is a coin, then stays below .05 in all. A model that contains another can do all that
    the other can, and so will never be clearly worse; and with more to learn it may gain a trifle that tells nothing of
    the person. Of these two the whole is named where it is clearly better and all its fits are more than `NEAR` from
    the part; the part where the whole is surely not better by more than `MARGIN`, and all its fits are nearer.
    """
    names = list(gaps)
    each = np.stack([log_likelihood(gaps[name], first) for name in names] + [np.full(len(first), COIN)], -1)
    means, drawn = each.mean(0), resampled(each, query, rng)
    risk, coin = RISK / len(names), len(names)

    def over(better: int, worse: int) -> Lead:
        low, high = np.quantile(drawn[:, better] - drawn[:, worse], [risk / 2, 1 - risk / 2])
        return Lead(float(means[better] - means[worse]), float(low), float(high))

    def within(one: int, other: int) -> bool:
        """Whether the first is a part of the second."""
        return other != coin and one != coin and names[one] in apart[names[other]]

    def settled(better: int, worse: int) -> bool:
        found = over(better, worse)
        if within(better, worse):
            return found.low > -MARGIN and bool((apart[names[worse]][names[better]] < NEAR).all())
        far = not within(worse, better) or bool((apart[names[better]][names[worse]] > NEAR).all())
        return found.clear and far

    def room(better: int, worse: int) -> float:
        """What has to be shown of a lead: that there is one, or that a whole has less than the margin over its part."""
        gain = float(means[better] - means[worse])
        if within(worse, better):
            return gain if gain >= MARGIN else MARGIN - gain
        return gain + MARGIN if within(better, worse) else gain

    order = sorted(range(coin), key=lambda i: -means[i])
    # A lead that is only not clear is no proof that there is none.
    chance = not any(over(i, coin).clear or means[i] - means[coin] > MARGIN for i in order)
    winners = [i for i in order if all(settled(i, j) for j in range(coin + 1) if j != i)]
    top = winners[0] if winners else order[0]
    named = "coin" if chance else names[top] if winners else None
    needed = None
    if named is None:
        unsettled = [j for j in range(coin + 1) if j != top and not settled(top, j)]
        sizes = [_answers(room(top, j), each[:, top] - each[:, j], query, risk) for j in unsettled]
        needed = int(max(sizes)) if max(sizes) <= FAR * len(first) else None
    held = []
    for i in [top, *(j for j in order if j != top)]:
        error, bins = calibration(gaps[names[i]], first)
        done = i != top and settled(top, i)
        held.append(Held(names[i], float(means[i]), over(i, coin), over(top, i), done, error, bins))
    ties, questions = int((first == 0.5).sum()), len(np.unique(query))
    return Verdict(len(first), questions, ties, tuple(held), named, needed)


def _answers(gain: float, better: Array, query: Array, risk: float) -> float:
    """About how many answers would show a mean of `gain` four times of five, if they differ as much as these."""
    which = np.unique(query, return_inverse=True)[1]
    spread = np.bincount(which, better - better.mean()).std(ddof=1) * np.sqrt(which.max() + 1) / len(better)
    times = ((norm.isf(risk / 2) + norm.isf(0.2)) * spread / max(gain, 1e-12)) ** 2
    return float(np.ceil(max(times, 1.5) * len(better)))  # so many as there are have just not been enough
