"""Simulated people on a delivery board, one for each type of feedback, who say what its likelihood says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from embodied.evidence.acting import Demonstrations, demonstrate, demonstrated, sight, sighted
from embodied.evidence.interventions import watch, watched
from embodied.evidence.language import critiqued, vocabulary, written
from embodied.evidence.learning import Evidence, Said
from embodied.evidence.options import Options, choose, chosen
from embodied.evidence.pairs import felt, thurstone, undecided
from embodied.evidence.plans import against, corrections, found
from embodied.evidence.proxies import designs, proxy_choices
from embodied.evidence.signals import Signals, coach, signals, tamer
from embodied.evidence.statements import critiques, feature_queries, reasons
from embodied.evidence.traces import trace, traced
from embodied.feedback import Segments, by_kind
from embodied.losses import Loss, bt_ties, pairwise
from embodied.planning import Values, evaluate, expected_features, optimal, uniform_policy
from embodied.rational import rational
from embodied.records import Array, Query, Segment
from embodied.teachers import answer
from embodied.walks import FOUND, steps, walks
from envs.delivery import FEATURES, Board, board

LENGTH = 10  # steps of a walk that is shown
SIZES = MappingProxyType({"compare": 2, "rank": 4, "choose": 4, "grade": 2, "rate": 2, "mark": 1, "stop": 1})
CREDIT = torch.tensor([0.0, 0.3, 0.7], dtype=torch.float64)  # signals come one step late, mostly two
QUIET = 0.4  # signals are about rewards of hardly more than 1
RATINGS = (-8.0, -5.5, -3.5, -2.0, -0.5, 1.0)  # between classes, so that most walks are not of the lowest
PATIENCE = 4.0  # of who watches
REACH, EFFORT = 2, 0.5  # a correction changes at most two actions
PLAN, PAST, SAMPLES, PROXIES = 4, 6, 15, 40
CARE = 2.0  # what people do is so much more rational than what they say


@dataclass(frozen=True, eq=False)
class Place:
    """A board, and what is wanted there: weights [D]."""

    board: Board
    weights: Tensor

    @cached_property
    def goal(self) -> Values:
        """What the goal alone would be worth."""
        return optimal(self.board, expected_features(self.board)[..., FEATURES.index("goal")])

    @cached_property
    def designed(self) -> Tensor:
        """What the best policies for PROXIES random rewards find, [N,S,D]; what is far ahead hardly counts."""
        return designs(board(self.board.codes, gamma=0.9), proxies())


def proxies() -> Array:
    """Rewards that could have been written down, [N,D]."""
    drawn: Array = np.random.default_rng(0).normal(size=(PROXIES, len(FEATURES)))
    return drawn


Person = Callable[[Place, int, np.random.Generator], Evidence]


def shown(place: Place, shape: tuple[int, int], rng: np.random.Generator) -> Segments:
    """Walks of which people are asked, every other step to the goal: at random one in sixty comes there, and nothing
    would be known of it."""
    return walks(place.board, (uniform_policy(place.board) + place.goal.policy()) / 2, shape, LENGTH, rng)


def sums(segments: Segments) -> Tensor:
    """What each found, [B,K,D] float64."""
    at = steps(segments)
    return (at.found.double() * at.mask[..., None]).sum(-2)


def answers(kind: str, place: Place, n: int, rng: np.random.Generator) -> Evidence:
    """Answers of a kind that the GUI asks, as they are stored."""
    data = shown(place, (n, SIZES[kind]), rng)
    assert isinstance(data.obs, Tensor)
    queries = []
    for b, (obs, act, mask) in enumerate(zip(data.obs.numpy(), data.act.numpy(), data.mask.numpy(), strict=True)):
        parts = (
            Segment(f"{b}-{k}", 0, int(m.sum()), o[m], a[m])
            for k, (o, a, m) in enumerate(zip(obs, act, mask, strict=True))
        )
        queries.append(Query(f"{kind}{b}", tuple(parts), kind))
    weights = place.weights.numpy()
    teacher = rational(lambda segment: segment.obs[:, FOUND:] @ weights, seed=int(rng.integers(2**31)), ratings=RATINGS)
    told, _ = by_kind([answer(teacher, query, "person") for query in queries], queries)
    return Several(tuple(Said(part) for part in told))


class Several(torch.nn.Module):
    """The rows of one kind, which may be of several sizes, one after the other."""

    def __init__(self, parts: tuple[Said, ...]) -> None:
        super().__init__()
        for part in parts[1:]:
            part.likelihoods = parts[0].likelihoods
        self.parts = torch.nn.ModuleList(parts)

    def forward(self, weights: Tensor) -> Tensor:
        return torch.cat([part(weights) for part in self.parts])


def pairs(
    loss: Loss, say: Callable[[Tensor, np.random.Generator], Tensor], place: Place, n: int, rng: np.random.Generator
) -> Evidence:
    """Comparisons of which another likelihood is true."""
    about = sums(shown(place, (n, 2), rng))
    target = say(about @ place.weights, rng)
    return lambda weights: loss(about @ weights, target)


def picked(
    make: Callable[[Place, int, np.random.Generator], Options], place: Place, n: int, rng: np.random.Generator
) -> Evidence:
    return partial(chosen, choose(make(place, n, rng), place.weights, rng))


def corrected(place: Place, n: int, rng: np.random.Generator) -> Options:
    """Every other plan begins where the goal can be reached by it."""
    starts = place.board.starts
    near = starts[place.goal.value[starts] > place.board.gamma ** (PLAN - 0.5)]
    start = np.where(rng.random(n) < 0.5, rng.choice(near, n), rng.choice(starts, n))
    return corrections(place.board, start, rng.integers(4, size=(n, PLAN)), REACH, EFFORT)


def asked(place: Place, n: int, rng: np.random.Generator) -> Options:
    each = np.argsort(rng.random((n, len(place.weights))), 1)[:, :2]
    return feature_queries(torch.from_numpy(each), len(place.weights))


def explained(place: Place, n: int, rng: np.random.Generator) -> Options:
    about = sums(shown(place, (2 * n, 2), rng))
    return reasons(about[(about[:, 0] != about[:, 1]).any(-1)][:n])


def tried(place: Place, n: int, rng: np.random.Generator) -> Options:
    return proxy_choices(place.designed, torch.from_numpy(rng.choice(place.board.starts, n)))


def criticised(place: Place, n: int, rng: np.random.Generator) -> Options:
    return critiques(sums(shown(place, (n, 1), rng))[:, 0])


def in_words(place: Place, n: int, rng: np.random.Generator) -> Evidence:
    about = criticised(place, n, rng)
    said = choose(about, place.weights, rng).index.tolist()
    texts = [written(i % len(FEATURES), i < len(FEATURES), FEATURES) for i in said]
    return partial(chosen, critiqued(about, texts, vocabulary(FEATURES))[0])


def called_out(place: Place, n: int, rng: np.random.Generator) -> partial[Tensor]:
    segments = shown(place, (n, 1), rng)
    about = steps(segments).found[:, 0].double()
    mean = QUIET * (about @ place.weights)
    # What is called out after the end is still about the last steps.
    return partial(tamer, Signals(about, signals(mean, CREDIT, rng), CREDIT))


def stopped(place: Place, n: int, rng: np.random.Generator) -> Evidence:
    segments = shown(place, (n, 1), rng)
    about = steps(segments).found[:, 0].double()
    return partial(watched, watch(about, segments.mask[:, 0].sum(-1), place.weights, rng, patience=PATIENCE))


def driven(place: Place, n: int, rng: np.random.Generator) -> Demonstrations:
    return demonstrate(place.board, CARE * place.weights, rng.choice(place.board.starts, n), LENGTH, rng)


def shown_how(place: Place, n: int, rng: np.random.Generator) -> Evidence:
    return partial(demonstrated, place.board, driven(place, n, rng))


def gone(place: Place, data: Demonstrations) -> Tensor:
    """What demonstrations found, [B,D]."""
    return found(place.board, data.state[:, 0].numpy(), data.action[:, None].numpy())[:, 0]


def among_samples(place: Place, n: int, rng: np.random.Generator) -> Evidence:
    data = driven(place, n, rng)
    others = found(place.board, data.state[:, 0].numpy(), rng.integers(4, size=(n, SAMPLES, LENGTH)))
    return partial(chosen, against(gone(place, data), others))


def left_so(place: Place, n: int, rng: np.random.Generator) -> partial[Tensor]:
    states = torch.eye(len(place.board.terminal), dtype=torch.float64)
    start = states[torch.from_numpy(rng.choice(place.board.starts, n))]
    return partial(sighted, place.board, sight(place.board, CARE * place.weights, start, PAST, rng))


def led(place: Place, feature: Tensor, n: int, rng: np.random.Generator) -> Evidence:
    """Traces of a feature [S]; what is learned from them is that feature, not the weights."""
    start = rng.choice(place.board.starts, n)
    return partial(traced, place.board, trace(place.board, feature, start, LENGTH, rng))


def coached(place: Place, credit: Tensor, updates: int, n: int, rng: np.random.Generator) -> Array:
    """A policy [S,A] that COACH makes of what is called out while it acts, n walks for each update.

    It takes the signals to come as `credit` says; whoever calls judges by the advantage of the policy as it is now.
    """
    made, reward = place.board, expected_features(place.board) @ place.weights.numpy()
    logits = torch.zeros(*made.next.shape[:2], dtype=torch.float64, requires_grad=True)
    opt = torch.optim.SGD([logits], lr=20.0)
    for _ in range(updates):
        policy = logits.detach().softmax(-1).numpy()
        value = evaluate(made, policy, reward[..., None])[:, 0]
        ahead = (made.prob * np.where(made.terminal, 0.0, value)[made.next]).sum(-1)
        advantage = torch.from_numpy(reward + made.gamma * ahead - value[:, None])
        segments = walks(made, policy, (n, 1), LENGTH, rng)
        at, mask = steps(segments), segments.mask[:, 0]
        state, action = at.state[:, 0], at.action[:, 0]
        said = signals(torch.where(mask, QUIET * advantage[state, action], 0.0), CREDIT, rng)
        log_prob = torch.where(mask, logits.log_softmax(-1)[state, action], 0.0)
        opt.zero_grad()
        coach(log_prob, said, credit).mean().backward()
        opt.step()
    return np.asarray(logits.detach().softmax(-1).numpy())


PEOPLE: Mapping[str, Person] = MappingProxyType(
    {
        "compare": partial(answers, "compare"),
        "tie": partial(pairs, bt_ties(2.0), undecided),
        "thurstone": partial(pairs, pairwise(thurstone), felt),
        "grade": partial(answers, "grade"),
        "rank": partial(answers, "rank"),
        "choose": partial(answers, "choose"),
        "rate": partial(answers, "rate"),
        "mark": partial(answers, "mark"),
        "stop": partial(answers, "stop"),
        "tamer": called_out,
        "intervention": stopped,
        "correction": partial(picked, corrected),
        "demonstration": shown_how,
        "samples": among_samples,
        "state": left_so,
        "critique": in_words,
        "feature query": partial(picked, asked),
        "reason": partial(picked, explained),
        "proxy": partial(picked, tried),
    }
)
"""Every type that tells the weights, by its key in `types`; `coach` and `trace` teach something else."""
