"""Simulated teachers: they answer from a true utility or reward, with the flaws that people have.

`noisy` answers about any utility, `bpref` is the six teachers of B-Pref (arXiv 2111.03026) about a reward per step.
Both skip, then tie, then give a stochastic label with mistakes; a tie is never mistaken. Two notes for those who
compare: where B-Pref flips a label with probability e, a lapse of `noisy` is the toss of a coin, so e = lapse / 2. And
thresholds are used as given: nothing rescales them behind your back.
"""

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from embodied.records import Answer, Array, Choose, Compare, Query, Rank, Rate, Segment, Skip, Value

Utility = Callable[[Segment], float]
StepReward = Callable[[Segment], Array]  # -> [T], the true reward of each step
Teacher = Callable[[Query], Value]


def oracle(utility: Utility) -> Teacher:
    """Always right. It compares (equal utilities tie), ranks (equal ones as shown), chooses and rates (the utility
    itself). Other kinds of questions have `rational`."""

    def teacher(query: Query) -> Value:
        values = _utilities(utility, query)
        match query.kind:
            case "compare":
                return Compare(0.5 * (1 + float(np.sign(values[0] - values[1]))))
            case "rank":
                return Rank(tuple(sorted(range(len(values)), key=lambda k: -values[k])))
            case "choose":
                return Choose(int(np.argmax(values)))
            case "rate":
                return Rate(values)
            case kind:
                raise ValueError(f"query {query.id} is of kind {kind}, which an oracle does not answer; ask rational")

    return teacher


def noisy(
    utility: Utility,
    *,
    seed: int,
    temperature: float = 1.0,
    lapse: float = 0.0,
    tie: float = 0.0,
    skip: float = -math.inf,
) -> Teacher:
    """A teacher of pairs with the flaws of B-Pref, dU = U(first) - U(second).

    It skips when both utilities are below `skip`, answers .5 when |dU| < `tie`, and else prefers the first with
    probability (1 - lapse) sigmoid(dU / temperature) + lapse / 2; temperature 0 always takes the better. The noise is a
    function of (seed, query id), so an answer does not depend on what was asked before it. Raises ValueError for
    settings out of range and for queries that are not comparisons.
    """
    if not (0 <= temperature < math.inf and 0 <= lapse <= 1 and tie >= 0 and not math.isnan(skip)):
        raise ValueError(
            f"temperature {temperature}, lapse {lapse}, tie {tie}, skip {skip}; give temperature and tie >= 0, "
            "lapse in [0,1], and a utility to skip below"
        )

    def teacher(query: Query) -> Value:
        if query.kind != "compare":
            raise ValueError(f"query {query.id} is of kind {query.kind}; a noisy teacher compares, ask oracle")
        first, second = _utilities(utility, query)
        if max(first, second) < skip:
            return Skip("both are poor")
        if abs(first - second) < tie:
            return Compare(0.5)
        coin, lapsed, guess = draws(seed, query).random(3)
        if lapsed < lapse:
            return Compare(float(guess < 0.5))
        return Compare(float(coin < _prefers_first(first - second, temperature)))

    return teacher


@dataclass(frozen=True)
class Flaws:
    """What a B-Pref teacher does wrong. Without any: the one whose sum of rewards is larger."""

    beta: float = math.inf
    """P(first better) = sigmoid(beta (sum first - sum second)); infinite: always the larger, equal ones tie."""
    gamma: float = 1.0
    """Myopia: the step that is n before the last counts gamma^n."""
    mistake: float = 0.0
    """The label is flipped with this probability."""
    skips: bool = False
    """No answer where both sums are below the skip threshold."""
    ties: bool = False
    """A tie where the sums differ by less than the equal threshold."""

    def __post_init__(self) -> None:
        if not (self.beta >= 0 and 0 <= self.gamma <= 1 and 0 <= self.mistake <= 1):
            raise ValueError(
                f"beta {self.beta}, gamma {self.gamma}, mistake {self.mistake}; give beta >= 0 and the others in [0,1]"
            )


BPREF: Mapping[str, Flaws] = MappingProxyType(
    {
        "oracle": Flaws(),
        "mistake": Flaws(mistake=0.1),
        "noisy": Flaws(beta=1.0),
        "skip": Flaws(skips=True),
        "myopic": Flaws(gamma=0.9),
        "equal": Flaws(ties=True),
    }
)


@dataclass(frozen=True)
class Thresholds:
    """In units of a segment's true return: `skip`, both are below it; `equal` >= 0, they differ by less than it."""

    skip: float = -math.inf
    equal: float = 0.0

    def __post_init__(self) -> None:
        if math.isnan(self.skip) or not self.equal >= 0:
            raise ValueError(
                f"the thresholds are skip {self.skip} and equal {self.equal}; give numbers, equal at least 0"
            )


def threshold(mean_return: float, segment: int, episode: int, eps: float = 0.1) -> Thresholds:
    """B-Pref's thresholds: eps times what a segment of that many steps returns when all goes as usual.

    mean_return is the mean true return of recent episodes of `episode` steps, m = mean_return segment / episode. B-Pref
    thinks of rewards of at least 0, and both thresholds are eps m. Where returns are negative (Pendulum), that level
    lies above nearly everything, so each is read as what it means: equal is eps |m|, and skip is m - (1 - eps) |m|, as
    far below the usual as it is above 0. Raises ValueError for impossible numbers.
    """
    if not (math.isfinite(mean_return) and 1 <= segment <= episode and 0 <= eps <= 1):
        raise ValueError(
            f"mean return {mean_return}, segment {segment}, episode {episode}, eps {eps}; give a finite return, "
            "1 <= segment <= episode and eps in [0,1]"
        )
    usual = mean_return * segment / episode
    return Thresholds(skip=usual - (1 - eps) * abs(usual), equal=eps * abs(usual))


def bpref(
    flaws: str | Flaws,
    reward: StepReward,
    *,
    seed: int,
    threshold: float | Thresholds | Callable[[], float | Thresholds] = 0.0,
    tie: float = 0.0,
) -> Teacher:
    """A teacher of pairs as in B-Pref, by name (oracle, mistake, noisy, skip, myopic, equal) or by its flaws.

    In this order: skip and the mask of equals from plain sums, myopic sums, label, flip, then equals become ties.

    Args:
        reward: the true reward of each step of a segment, [T].
        threshold: of skip and equal, one number for both or each its own; a function is called at every question,
            since the thresholds follow the recent return.
        tie: besides, this share of the answers is a tie whatever the returns; people's own rate can be put here.

    The noise is a function of (seed, query id). Raises ValueError for settings out of range, an unknown name, queries
    that are not comparisons and rewards that are not [T] finite numbers.
    """
    if isinstance(flaws, str):
        if flaws not in BPREF:
            raise ValueError(f"there is no teacher {flaws!r}; choose {', '.join(BPREF)}")
        flaws = BPREF[flaws]
    if not 0 <= tie <= 1:
        raise ValueError(f"tie is {tie}; give a share of the answers in [0,1]")

    def teacher(query: Query) -> Value:
        if query.kind != "compare":
            raise ValueError(f"query {query.id} is of kind {query.kind}; a B-Pref teacher compares, ask oracle")
        first, second = (step_rewards(reward, query, k) for k in range(2))
        limits = threshold() if callable(threshold) else threshold
        limits = limits if isinstance(limits, Thresholds) else Thresholds(limits, limits)
        sums = first.sum(), second.sum()
        if flaws.skips and max(sums) < limits.skip:
            return Skip("both are poor")
        coin, flip, indifferent = draws(seed, query).random(3)
        equal = (flaws.ties and abs(sums[0] - sums[1]) < limits.equal) or indifferent < tie
        gap = _late(first, flaws.gamma) - _late(second, flaws.gamma)
        if equal or (flaws.beta == math.inf and gap == 0):
            return Compare(0.5)
        temperature = 1 / flaws.beta if flaws.beta else math.inf
        prefers_first = coin < _prefers_first(gap, temperature)
        return Compare(float(prefers_first != (flip < flaws.mistake)))

    return teacher


def answer(teacher: Teacher, query: Query, annotator: str) -> Answer:
    """The teacher's answer as a record; the id follows from query and annotator, so asking again changes nothing."""
    name = hashlib.sha256(f"{query.id}\0{annotator}".encode()).hexdigest()[:32]
    return Answer(name, query.id, annotator, "teacher", teacher(query))


def _prefers_first(gap: float, temperature: float) -> float:
    if temperature == 0:
        return 0.5 * (1 + float(np.sign(gap)))
    return 0.5 * (1 + math.tanh(gap / temperature / 2))


def draws(seed: int, query: Query) -> np.random.Generator:
    """Chance that belongs to this question, whatever was asked before it."""
    digest = hashlib.sha256(f"{seed}/{query.id}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest))


def _late(reward: Array, gamma: float) -> float:
    return float(reward @ gamma ** np.arange(len(reward))[::-1])


def step_rewards(reward: StepReward, query: Query, k: int) -> Array:
    """The reward [T] of segment k, looked at: raises ValueError for another shape or numbers that are not finite."""
    steps = np.asarray(reward(query.segments[k]), np.float64)
    if steps.shape != (len(query.segments[k]),) or not np.isfinite(steps).all():
        raise ValueError(
            f"the reward of segment {k} of query {query.id} has shape {steps.shape}"
            f"{'' if np.isfinite(steps).all() else ' and is not finite'}; give one finite number per step, "
            f"[{len(query.segments[k])}]"
        )
    return steps


def _utilities(utility: Utility, query: Query) -> tuple[float, ...]:
    values = tuple(float(utility(segment)) for segment in query.segments)
    for k, value in enumerate(values):
        if not math.isfinite(value):
            raise ValueError(
                f"the utility of segment {k} of query {query.id} is {value}; give a utility that is finite"
            )
    return values
