"""How far each annotator can be trusted, from answers alone: the one-coin model of Dawid and Skene (1979). No torch.

Each query has a true answer, and annotator k gives it with probability eta_k, the reliability, whatever the query is.
Overlap (several people, one query) and gold (a known answer) tell eta_k; `label_models.EM` goes on from there with what
a reward thinks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from scipy.special import betaincinv, expit

from embodied.records import Array

TRUST = (4.0, 1.0)
"""What is believed of a stranger, Beta(4, 1): four of five answers right, with the weight of five answers."""

STEPS, TOLERANCE = 10_000, 1e-10  # EM slows down where little is known, and a step costs next to nothing
_NOTHING: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True)
class Reliability:
    """What is known of one annotator: P(an answer is right) ~ Beta(`beta`)."""

    annotator: str
    mean: float
    """Of the Beta; below .5: the answers are better turned around."""
    error: float
    """Its standard deviation."""
    interval: tuple[float, float]
    """The 95 % credible interval."""
    beta: tuple[float, float]
    """Both counts, right and wrong, prior included."""
    evidence: float
    """How many decided answers, checked against gold, would tell as much: 0 where only the prior speaks."""
    answers: int
    """Queries answered; of these `ties` without a preference and `gold` with a known answer."""
    ties: int
    gold: int
    first: float
    """The mean answer, P(first better). With sides in random order it is near .5, save for who always says one side."""


@dataclass(frozen=True)
class Crowd:
    """What `reliabilities` found: annotators by first appearance, and P(first better) of each query answered."""

    annotators: tuple[Reliability, ...]
    truth: Mapping[str, float]
    log_posterior: tuple[float, ...]
    """Before each step of the EM, and after the last; it never falls. In nats, up to a constant."""


def reliabilities(
    answers: Iterable[tuple[str, str, float]],
    gold: Mapping[str, float] = _NOTHING,
    *,
    prior: tuple[float, float] = TRUST,
) -> Crowd:
    """Reliabilities and true answers that explain the answers best, by expectation-maximisation.

    Args:
        answers: (query, annotator, P(first better)) each. 1 and 0 are decisions; q between them counts |2q - 1| of one,
            so a tie counts nothing. Several answers of one annotator to one query count as their mean: to repeat
            oneself proves nothing.
        gold: query -> P(first better) where it is known: 1 or 0, or in between from an expert in doubt. Others are
            thought equally likely either way. It may name queries that nobody answered.
        prior: the counts (right, wrong) of the Beta prior of every reliability, right > wrong.

    Dawid and Skene (1979), one coin per person (Raykar et al., JMLR 11, 2010, section 2, with alpha = beta), maximum a
    posteriori in log-odds, where the mode of a Beta is its mean: eta = (a + right) / (a + b + right + wrong). With gold
    only, that and the interval are the exact Beta posterior. Otherwise the curvature at the mode (Louis 1982) says how
    many checked answers the evidence is worth, `evidence`, and the interval is that of a Beta so informed. It holds for
    the mode found, and for errors that are independent, given the truth: queries that are hard for all make it narrow.

    What is identified. Gold identifies who answered it, and through overlap whomever they share queries with. Without
    gold, three people or more who share queries are identified up to turning all of them around, eta -> 1 - eta, which
    explains the answers equally well: the prior decides for most people being right, so an adversary in an honest
    majority is found (eta < .5), and an adversarial majority is believed until gold says otherwise; each group that
    shares no query with another is decided by itself. Of two people only their agreement is identified: they share the
    blame for disagreement. Who shares no query and has no gold, or ties always, keeps the prior, with evidence 0. One
    answer moves the prior by at most one answer. Who always says the same is right as often as that side is; two such
    people agree, which overlap takes for reliability: show sides in random order to each, and look at `first`.

    Raises ValueError for no answers, a probability outside [0, 1], and a prior that trusts nobody.
    """
    right, wrong = prior
    if not (math.isfinite(right) and right > wrong > 0):
        raise ValueError(
            f"the prior is Beta({right}, {wrong}); give finite counts with right > wrong > 0, since without gold only "
            "the trust that most answers are right tells the truth from its opposite"
        )
    said: dict[tuple[str, str], list[float]] = {}
    for query, annotator, first in answers:
        _check(first, f"the answer of {annotator} to query {query}")
        said.setdefault((query, annotator), []).append(float(first))
    if not said:
        raise ValueError("there are no answers; give at least one (query, annotator, P(first better))")
    for query, first in gold.items():
        _check(first, f"gold of query {query}")
    queries, people = (list(dict.fromkeys(key[side] for key in said)) for side in range(2))
    rows, columns = ({name: n for n, name in enumerate(names)} for names in (queries, people))
    mean = np.array([np.mean(q) for q in said.values()])
    data = _Answers(
        query=np.array([rows[query] for query, _ in said]),
        annotator=np.array([columns[annotator] for _, annotator in said]),
        strength=2 * mean - 1,
        belief=np.array([float(gold.get(query, 0.5)) for query in queries]),
        prior=np.array([right, wrong]),
        size=len(people),
    )
    eta, trace = _best(data)
    counts = _evidence(data, eta)
    total = counts + right + wrong
    low, high = (betaincinv(total * eta, total * (1 - eta), tail) for tail in (0.025, 0.975))
    truth, _ = data.expect(eta)
    known = np.array([query in gold for query in queries])[data.query]
    answered, ties, checked, firsts = (
        np.bincount(data.annotator, x, data.size) for x in (np.ones(len(mean)), data.strength == 0, known, mean)
    )
    return Crowd(
        tuple(
            Reliability(
                name,
                mean=float(eta[k]),
                error=math.sqrt(eta[k] * (1 - eta[k]) / (total[k] + 1)),
                interval=(float(low[k]), float(high[k])),
                beta=(float(total[k] * eta[k]), float(total[k] * (1 - eta[k]))),
                evidence=float(counts[k]),
                answers=int(answered[k]),
                ties=int(ties[k]),
                gold=int(checked[k]),
                first=float(firsts[k] / answered[k]),
            )
            for k, name in enumerate(people)
        ),
        MappingProxyType({query: float(truth[n]) for query, n in rows.items()}),
        trace,
    )


@dataclass(frozen=True, eq=False)
class _Answers:
    """M answers: query int [M], annotator int [M] below N = size, strength [M] in [-1, 1] = 2 P(first) - 1. belief [Q]
    is P(first better) of each query before any answer; prior [2]."""

    query: Array
    annotator: Array
    strength: Array
    belief: Array
    prior: Array
    size: int

    def expect(self, eta: Array) -> tuple[Array, Array]:
        """E-step at reliabilities eta [N]: P(first better) [Q], and the log-likelihood of each query's answers [Q]."""
        log_right, log_wrong = np.log(eta)[self.annotator], np.log1p(-eta)[self.annotator]
        first, second = np.maximum(self.strength, 0), np.maximum(-self.strength, 0)
        with np.errstate(divide="ignore"):  # gold is certain: its other side has log-probability -inf
            up, down = np.log(self.belief), np.log1p(-self.belief)
        up = up + np.bincount(self.query, first * log_right + second * log_wrong, len(up))
        down = down + np.bincount(self.query, first * log_wrong + second * log_right, len(down))
        return expit(up - down), np.logaddexp(up, down)

    def maximise(self, truth: Array) -> Array:
        """M-step: eta [N] where the first is better with P = truth [Q]."""
        agrees = np.where(self.strength > 0, truth[self.query], 1 - truth[self.query])
        right, decided = (
            np.bincount(self.annotator, abs(self.strength) * x, self.size) for x in (agrees, np.ones_like(agrees))
        )
        eta: Array = (self.prior[0] + right) / (self.prior.sum() + decided)
        return eta

    def log_prior(self, eta: Array) -> Array:
        """[N], of the log-odds."""
        density: Array = self.prior[0] * np.log(eta) + self.prior[1] * np.log1p(-eta)
        return density


def _climb(data: _Answers, eta: Array) -> tuple[Array, tuple[float, ...]]:
    """EM from eta [N] until it stands; and the log-posterior, before each step and after the last."""
    trace = []
    for _ in range(STEPS):
        truth, likelihood = data.expect(eta)
        trace.append(float(likelihood.sum() + data.log_prior(eta).sum()))
        before, eta = eta, data.maximise(truth)
        if abs(eta - before).max() < TOLERANCE:
            break
    _, likelihood = data.expect(eta)
    return eta, (*trace, float(likelihood.sum() + data.log_prior(eta).sum()))


def _best(data: _Answers) -> tuple[Array, tuple[float, ...]]:
    """The better of two modes, the one that gold and trust lead to and its opposite, for each group of people who share
    queries, since each can be turned around by itself."""
    gold_only = replace(data, strength=np.where(np.isin(data.belief, (0, 1))[data.query], data.strength, 0.0))
    start = gold_only.maximise(data.belief)
    found, trace = _climb(data, start)
    other, _ = _climb(data, 1 - found)
    table = csr_array((np.ones(len(data.query)), (data.query, data.annotator)), (len(data.belief), data.size))
    _, group = connected_components(table.T @ table, directed=False)

    def height(eta: Array) -> Array:
        _, likelihood = data.expect(eta)
        per_query = np.zeros(len(data.belief), int)
        per_query[data.query] = group[data.annotator]
        total: Array = np.bincount(per_query, likelihood) + np.bincount(group, data.log_prior(eta))
        return total

    turned = height(other) > height(found) + 1e-6
    return _climb(data, np.where(turned[group], other, found)) if turned.any() else (found, trace)


def _evidence(data: _Answers, eta: Array) -> Array:
    """How many checked answers each annotator's evidence is worth, [N], from 0 to the decided answers given.

    In log-odds the observed information (Louis 1982) is diag(n eta (1 - eta)) - sum over queries of
    P(1 - P) s s^T, s the strengths of a query's answers [N]: n answers with known truths, less what is not known.
    """
    truth, _ = data.expect(eta)
    spread = eta * (1 - eta)
    decided = np.bincount(data.annotator, abs(data.strength), data.size)
    table = csr_array((data.strength, (data.query, data.annotator)), (len(truth), data.size))
    missing = (table.T @ table.multiply((truth * (1 - truth))[:, None]).tocsr()).toarray()
    information = np.diag((decided + data.prior.sum()) * spread) - missing
    curvature, axes = np.linalg.eigh(information)
    # At a saddle, two people who always disagree say, there is none along some axis: nothing is known along it.
    variance = (axes**2 / np.maximum(curvature, 1e-12)).sum(1)
    worth = 1 / (variance * spread) - data.prior.sum()
    counts: Array = np.clip(worth, 0, decided)
    return counts


def _check(first: float, where: str) -> None:
    if not 0 <= first <= 1:
        raise ValueError(f"{where} is {first}; give P(first better), a number in [0, 1]")
