"""What was asked in a run and what was answered, as a report shows it: each question's two clips in a few numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from embodied.feedback import stack
from embodied.records import Answer, Array, Compare, Query, Segment, Value
from embodied.rewards.additive import Additive
from embodied.store import Store
from envs.arm import decode
from rapport.cup import people

SAME_PATH = 0.02  # m of mean distance; clips nearer than that show one path
SAME_POSTURE = 5.0  # degrees of mean angle between the cups' openings


@dataclass(frozen=True, eq=False)
class Asked:
    """One question: the answer that stands (None: not yet), how often it was revised, and P(clip 1 is called better)
    under the reward as it is now, slips included. `part` are the groups' shares of the learned difference, 1 minus 2.
    """

    query: Query
    value: Value | None
    revised: int
    probability: float
    part: dict[str, float]

    @property
    def round(self) -> int:
        return int(self.query.id.split("-")[1])

    @property
    def differs(self) -> str:
        """path, posture, path and posture, or hardly."""
        steps = min(len(segment.act) for segment in self.query.segments)
        one, two = (decode(segment.obs[:steps]) for segment in self.query.segments)
        apart = np.linalg.norm(one["cup"] - two["cup"], axis=-1).mean()
        turned = np.degrees(np.arccos(np.clip((one["opening"] * two["opening"]).sum(-1), -1, 1))).mean()
        found = [name for name, is_so in (("path", apart > SAME_PATH), ("posture", turned > SAME_POSTURE)) if is_so]
        return " and ".join(found) or "hardly"

    @property
    def better(self) -> int | None:
        """Which clip was called better, 0 or 1; None for a tie, a skip, or no answer."""
        if not isinstance(self.value, Compare) or self.value.first == 0.5:
            return None
        return int(self.value.first < 0.5)


def tilt_and_room(segment: Segment) -> tuple[float, float]:
    """A clip's mean tilt in degrees, and the least distance in m of the cup's centre from the laptop's outline, seen
    from above; negative is over it."""
    return float(people.tilt(segment.obs).mean()), -float(people.depth(segment.obs).max())


def all_asked(store: Store, reward: Additive) -> list[Asked]:
    """Every question of a run, in the order in which it was asked."""
    queries = store.queries()
    if not queries:
        return []
    totals = reward.features.total(stack(queries))
    x = totals[:, 0] - totals[:, 1]
    p = reward.probability(x).mean(0)
    parts = {name: x[:, columns] @ reward.posterior.mean[columns] for name, columns in reward.features.groups.items()}
    answers: dict[str, list[Answer]] = {}
    for answer in store.answers():
        answers.setdefault(answer.query, []).append(answer)
    return [
        Asked(query, *_standing(answers.get(query.id, ())), float(p[i]), {k: float(v[i]) for k, v in parts.items()})
        for i, query in enumerate(queries)
    ]


def _standing(answers: Sequence[Answer]) -> tuple[Value | None, int]:
    """The last answer's value, and how many it superseded."""
    return (answers[-1].value if answers else None), sum(bool(answer.supersedes) for answer in answers)


def importance(questions: Sequence[Asked]) -> dict[str, float]:
    """How much each group of features makes, in log-odds, of the difference between two clips: root mean square."""
    values: dict[str, Array] = {k: np.array([q.part[k] for q in questions]) for k in questions[0].part}
    return {name: float(np.sqrt(np.mean(part**2))) for name, part in values.items()}
