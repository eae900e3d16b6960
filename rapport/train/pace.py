"""When people are asked while training goes on: the questions follow the policy, and training waits for nobody.

What a run does next depends on what it has read, and is decided from the answer log and the cursor log alone; so a run
that is started again, or played again from its logs, decides the same.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from embodied.loop import Round
from embodied.store import Store
from human_ui import desk

SLACK = 0.5  # of a session's questions: so many earlier ones may be open when it is asked
PARTS = 4  # a round without questions is this part of a session

Turn = Literal["explore", "ask", "wait", "end"]


@dataclass(frozen=True)
class Open:
    """Of the questions asked: how many nobody has answered, and how many answers are still to come."""

    unanswered: int
    missing: int


def next_turn(sessions: Sequence[int], turns: Sequence[Turn], now: Open, given_up: bool) -> Turn | None:
    """What comes after `turns`; None: nothing. sessions: the questions of each, in order.

    A session is asked once few enough earlier questions are unanswered. The run ends when all were asked and all
    answers are in, or when nobody is waited for any more: with the steps that were planned after the last answers.
    """
    if not turns:
        return "explore"
    if turns[-1] == "end":
        return None
    asked = turns.count("ask")
    if given_up or (asked == len(sessions) and not now.missing):
        return "end"
    return "ask" if asked < len(sessions) and now.unanswered <= SLACK * sessions[asked] else "wait"


class Pace:
    """The rounds of a run whose questions people answer, for `preference_loop`, with which it is saved.

    planned: the rounds if every answer came at once, the first without questions. chunk: the agent advances by its
    multiples. want: people per question. patience: seconds without a new answer after which nobody is waited for.
    """

    def __init__(
        self, planned: Sequence[Round], chunk: int, store: Store, run: str, *, want: int, patience: float
    ) -> None:
        self.first, self.sessions, self.store, self.run, self.want = planned[0], planned[1:], store, run, want
        self.between = max(chunk, min(r.steps for r in self.sessions) // PARTS // chunk * chunk)
        self.patience, self.turns = patience, list[Turn]()
        self._heard, self._since = -1, time.monotonic()

    @property
    def prefix(self) -> str:
        """Of what is asked in sessions; corrections come besides, and nothing waits for them."""
        return f"{self.run}:question-"

    def steps(self, rounds: int) -> int:
        """Environment steps of the first so many rounds."""
        return sum(self._round(n).steps for n in range(rounds))

    def next(self, index: int) -> Round | None:
        del self.turns[index:]  # of a round that was not finished
        sizes = [r.questions for r in self.sessions]
        turn = next_turn(sizes, self.turns, self.open(index), self._given_up(index))
        if turn is None:
            return None
        if turn == "ask":
            self._since = time.monotonic()
        self.turns.append(turn)
        return self._round(index)

    def _round(self, index: int) -> Round:
        asked = self.turns[:index].count("ask")
        match self.turns[index]:
            case "explore":
                return self.first
            case "ask":
                # The last session's own steps come at the end, when its answers are known.
                session = self.sessions[asked]
                return session if asked + 1 < len(self.sessions) else Round(session.questions, self.between)
            case "wait":
                return Round(0, self.between)
            case "end":
                return Round(0, self.sessions[-1].steps)

    def open(self, index: int) -> Open:
        """Before round `index`, by what the round before it had read."""
        upto = (self.store.cursor(self.run, index - 1) or 0) if index else 0
        asked = sum(r.questions for r in self.sessions[: self.turns[:index].count("ask")])
        said = self._people(upto)
        return Open(asked - len(said), asked * self.want - sum(min(self.want, len(each)) for each in said.values()))

    def _people(self, upto: int | None) -> dict[str, set[str]]:
        """Who has answered each question."""
        said: dict[str, set[str]] = defaultdict(set)
        for answer in self.store.answers(upto=upto, prefix=self.prefix):
            said[answer.query].add(answer.annotator)
        return said

    def _given_up(self, index: int) -> bool:
        """Whether nobody is waited for any more: what the clock said once, the log says for ever."""
        log = f"{self.run}:given-up"
        if self.store.cursor(log, index) is None:
            heard = len(self.store.answers(prefix=self.prefix))
            if heard != self._heard:
                self._heard, self._since = heard, time.monotonic()
            waited = time.monotonic() - self._since
            # A round whose answers were read is decided, whatever the clock says the second time.
            if "ask" not in self.turns or waited < self.patience or self.store.cursor(self.run, index) is not None:
                return False
            self.store.log_cursor(log, index, self.store.last_seq())
        self._withdraw()
        return True

    def _withdraw(self) -> None:
        said = self._people(None)
        queries = self.store.queries(prefix=self.prefix)
        desk.withdraw(self.store, [q.id for q in queries if len(said[q.id]) < self.want])

    @property
    def gave_up(self) -> bool:
        return self.store.cursor(f"{self.run}:given-up", len(self.turns) - 1) is not None

    def state_dict(self) -> dict[str, Any]:
        return {"turns": list(self.turns)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.turns = list(state["turns"])
