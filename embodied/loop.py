"""The loop: propose questions, ask, learn the reward, advance the agent; exact resume, answers as late as they like.

A run is a function of (settings, seed, answer log, cursor log). Answers are read at round boundaries only, up to the
sequence number that the cursor log gives for that round; the number is on disk before it is used. Whoever is asked may
answer at once (a simulated teacher) or hours later (people): the loop never waits for them itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from embodied import checkpoint
from embodied.checkpoint import Stateful
from embodied.feedback import Budget, by_kind
from embodied.records import Query
from embodied.store import Store


class RewardModel(Stateful, Protocol):
    """What the loop asks of a reward: to be refitted on all feedback, and to be saved.

    It is given one Feedback or, where people answer in several ways, a sequence of them.
    """

    def fit(self, feedback: Any, rng: np.random.Generator) -> dict[str, float]: ...


class Agent(Stateful, Protocol):
    """What the loop asks of whoever acts: `advance` by some environment steps, and to be told of a new reward.

    `fresh` is false where a resumed run is handed the reward that it had: what was done about it has been done.
    """

    def advance(self, steps: int) -> dict[str, float]: ...

    def reward_changed(self, reward: Any, fresh: bool = True) -> None: ...


Propose = Callable[[int, int, np.random.Generator], Sequence[Query]]
"""(round, how many, rng) -> queries whose episodes are saved. Deterministic given rng, so that a resumed run re-asks
nothing: the same queries get the same ids, and an id that has an answer is not asked again."""
Ask = Callable[[Sequence[Query]], None]
"""Puts questions to whoever answers. May return before there are answers; they reach the store when they come."""


@dataclass(frozen=True)
class Round:
    """`questions` asked, then the reward refitted, then the agent advanced by `steps` environment steps."""

    questions: int
    steps: int


class _Given:
    """Whether the agent has been given the reward yet: until somebody answers it has not."""

    reward = False

    def state_dict(self) -> dict[str, Any]:
        return {"reward": self.reward}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.reward = bool(state["reward"])


@dataclass(frozen=True)
class RoundReport:
    """What one round did: `budget` counts all answers so far, `metrics` are the reward's and the agent's."""

    round: int
    budget: Budget
    metrics: dict[str, float] = field(default_factory=dict)


def preference_loop(
    agent: Agent,
    reward: RewardModel,
    *,
    rounds: Sequence[Round],
    propose: Propose,
    ask: Ask,
    store: Store,
    folder: Path,
    rng: np.random.Generator,
    consumer: str = "loop",
    **parts: Stateful,
) -> Iterator[RoundReport]:
    """Runs the rounds that `folder` has not finished yet; yields one report after each, when its checkpoint is on disk.

    `parts` are further things with a state that propose or ask change. Killed at any instant and started again, the
    result equals the uninterrupted run bit for bit on CPU. Raises what the store, the checkpoint and `feedback` raise.
    """
    given = _Given()
    everything: dict[str, Any] = dict(agent=agent, reward=reward, rng=rng, given=given, **parts)
    done = checkpoint.load(folder, **everything)
    if given.reward:
        agent.reward_changed(reward, fresh=False)
    for index in range(done, len(rounds)):
        metrics: dict[str, float] = {}
        if rounds[index].questions:
            queries = propose(index, rounds[index].questions, rng)
            store.add_queries(queries)
            answered = {answer.query for answer in store.answers()}
            ask([query for query in queries if query.id not in answered])
        upto = store.log_cursor(consumer, index, store.last_seq())
        answers, asked = store.answers(upto=upto), store.queries()
        budget = Budget(asked=len(asked))
        if answers:
            said, budget = by_kind(answers, asked)
            if said:
                metrics |= reward.fit(said[0] if len(said) == 1 else said, rng)
                given.reward = True
                agent.reward_changed(reward)
        metrics |= agent.advance(rounds[index].steps)
        checkpoint.save(folder, index + 1, **everything)
        yield RoundReport(index, budget, metrics)
