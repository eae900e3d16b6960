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
from embodied.records import Answer, Query
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


Rounds = Sequence[Round] | Callable[[int], Round | None]
"""All rounds, or what gives each as it comes, None at the end: a function of what the loop saves with it (`parts`), the
answer log and the cursor log."""
Learn = Callable[[Any, Sequence[Answer], int, np.random.Generator], dict[str, float]]
"""(all feedback, as `RewardModel.fit` is given it, the answers that it was made of, the greatest number that was known
before, rng) -> metrics."""


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
    rounds: Rounds,
    propose: Propose,
    ask: Ask,
    store: Store,
    folder: Path,
    rng: np.random.Generator,
    consumer: str = "loop",
    prefix: str = "",
    learn: Learn | None = None,
    **parts: Stateful,
) -> Iterator[RoundReport]:
    """Runs the rounds that `folder` has not finished yet; yields one report after each, when its checkpoint is on disk.

    Several runs may share a store: each has a name of its own as `consumer`, and the ids of its queries begin with
    `prefix`. The reward is refitted in rounds that bring an answer, by its own `fit` or by `learn`. `parts` are further
    things with a state that propose or ask change. Killed at any instant and started again, the result equals the
    uninterrupted run bit for bit on CPU. Raises what the store, the checkpoint and `feedback` raise.
    """
    given = _Given()
    everything: dict[str, Any] = dict(agent=agent, reward=reward, rng=rng, given=given, **parts)
    upcoming = rounds if callable(rounds) else lambda n: rounds[n] if n < len(rounds) else None
    refit: Learn = learn or (lambda data, answers, before, rng: reward.fit(data, rng))
    index = checkpoint.load(folder, **everything)
    if given.reward:
        agent.reward_changed(reward, fresh=False)
    asked, budget = store.queries(prefix=prefix), None
    while (now := upcoming(index)) is not None:
        metrics: dict[str, float] = {}
        if now.questions:
            queries = propose(index, now.questions, rng)
            store.add_queries(queries)
            answered = {answer.query for answer in store.answers(prefix=prefix)}
            ask([query for query in queries if query.id not in answered])
            asked = store.queries(prefix=prefix)
        before = (store.cursor(consumer, index - 1) or 0) if index else 0
        answers = store.answers(upto=store.log_cursor(consumer, index, store.last_seq()), prefix=prefix)
        fresh = any(answer.seq > before for answer in answers)
        if fresh:
            asked = store.queries(prefix=prefix)  # some may be asked besides
        if not answers:
            budget = Budget(asked=len(asked))
        elif fresh or now.questions or budget is None:
            said, budget = by_kind(answers, asked)
            if fresh and said:
                metrics |= refit(said[0] if len(said) == 1 else said, answers, before, rng)
                given.reward = True
                agent.reward_changed(reward)
        metrics |= agent.advance(now.steps)
        index += 1
        checkpoint.save(folder, index, **everything)
        yield RoundReport(index - 1, budget, metrics)
