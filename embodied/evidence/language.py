"""Critiques in words: a small vocabulary that is understood, and what is not understood is said.

Of "More coins, fewer sheep; and do not be so slow" two statements are understood, and the last clause comes back.
Nothing is guessed: a clause with any word outside the vocabulary is left.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from embodied.evidence.options import Chosen, Options
from embodied.values import Written

MORE = ("more", "not enough", "too few", "too little", "seek")
LESS = ("fewer", "less", "too many", "too much", "avoid", "no")
FILLERS = frozenset(
    {"a", "any", "are", "have", "hit", "it", "of", "please", "should", "take", "the", "there", "was", "were"}
)


@dataclass(frozen=True)
class Heard:
    """statements: (feature, more) in the order in which they were said; left: clauses that were not understood."""

    statements: tuple[tuple[int, bool], ...]
    left: tuple[str, ...]


def vocabulary(names: Sequence[str]) -> dict[str, int]:
    """Names of features, each with its plural in s. Words of one's own may be added; several may mean one feature."""
    return {word: j for j, name in enumerate(names) for word in (name.lower(), f"{name.lower()}s")}


def heard(said: Written, words: Mapping[str, int]) -> Heard:
    """What was written, clause by clause; a clause is understood that has one direction, one feature, and nothing else
    but fillers."""
    statements, left = [], []
    for clause in filter(None, (part.strip() for part in re.split(r"[,.;:!?\n]|\b(?:and|but)\b", said.text.lower()))):
        found = _clause(clause, words)
        if found is None:
            left.append(clause)
        else:
            statements.append(found)
    return Heard(tuple(statements), tuple(left))


def _clause(clause: str, words: Mapping[str, int]) -> tuple[int, bool] | None:
    rest = f" {' '.join(clause.split())} "
    directions = []
    for more, phrases in ((True, MORE), (False, LESS)):
        for phrase in phrases:
            directions += [more] * rest.count(f" {phrase} ")
            rest = rest.replace(f" {phrase} ", " ")
    left = [word for word in rest.split() if word not in FILLERS]
    if len(directions) != 1 or len(left) != 1 or left[0] not in words:
        return None
    return words[left[0]], directions[0]


def written(feature: int, more: bool, names: Sequence[str]) -> Written:
    """A critique as a simulated person writes it."""
    return Written(f"{'more' if more else 'less'} {names[feature]}")


def instructed(weights: Tensor, said: Heard, by: float) -> Tensor:
    """Weights [D] as they are while an instruction stands: each statement adds or takes `by`.

    What is planned under them is a policy conditioned on the instruction. Raises ValueError unless `by` is above 0.
    """
    if not by > 0:
        raise ValueError(f"an instruction changes weights by {by}; give a number above 0")
    edit = torch.zeros_like(weights)
    for j, more in said.statements:
        edit[j] += by if more else -by
    return weights + edit


def critiqued(options: Options, said: Sequence[Written], words: Mapping[str, int]) -> tuple[Chosen, tuple[Heard, ...]]:
    """What was written about each of the B stretches of `statements.critiques`, one row per statement, and all that was
    heard.

    Raises ValueError where a stretch was criticised for what it had none of, and where nothing was understood.
    """
    if len(said) != len(options):
        raise ValueError(f"{len(said)} texts about {len(options)} stretches; give one each")
    every = tuple(heard(text, words) for text in said)
    features = options.features.shape[-1]
    rows = [(b, j if more else features + j) for b, one in enumerate(every) for j, more in one.statements]
    if not rows:
        raise ValueError(f"nothing of {len(said)} texts was understood; the vocabulary is {', '.join(sorted(words))}")
    about, index = torch.tensor(rows).T
    return Chosen(options[about], index), every
