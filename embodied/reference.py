"""The policy that another is held against, and what becomes of it between rounds: fixed, the round before, an average.

Reference(policy)                 never moves: DPO, IPO, RLOO, P3O
Reference(policy, previous)       the policy of the round before: SPPO, iterative DPO
Reference(policy, ema(0.99))      a slow follower
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from embodied.feedback import Segments
from embodied.policy import Policy
from embodied.remembered import Remembered

State = Mapping[str, Any]  # a state_dict
Rule = Callable[[State, State], State]  # (reference, policy) -> the next reference


def fixed(reference: State, policy: State) -> State:
    """The reference as it is."""
    return reference


def previous(reference: State, policy: State) -> State:
    """The policy as it is now, which is the one before once it has learned on."""
    return policy


def ema(rate: float) -> Rule:
    """rate times the reference's weights and 1 - rate times the policy's. Raises ValueError unless 0 <= rate < 1."""
    if not 0 <= rate < 1:
        raise ValueError(f"rate is {rate}; give the share that the reference keeps, at least 0 and below 1")
    return lambda reference, policy: average([reference, policy], [rate, 1 - rate])


class Reference:
    """A frozen copy of a policy with a rule of how it follows; itself a policy. Stateful, so that a run resumes.

    It follows when it is told to (`update`), and forgets then what its `memory` knows. A policy of several GB is copied
    too; where it can say itself what it was (an adapter switched off), give that as the reference instead.
    """

    def __init__(self, policy: Policy, rule: Rule = fixed) -> None:
        self.policy = copy.deepcopy(policy)
        if isinstance(self.policy, nn.Module):
            self.policy.requires_grad_(False)
        self.rule = rule
        self.memory = Remembered(self.policy)
        self.density = self.memory.density

    def log_prob(self, segments: Segments) -> Tensor:
        """[B,K,T], 0 on padding; never differentiated."""
        return self.memory.log_prob(segments)

    def update(self, policy: Policy) -> None:
        """Follow the policy by the rule, and forget: what comes next are other segments, or other log-probabilities.

        Raises TypeError for a policy without `state_dict` and `load_state_dict`.
        """
        theirs = getattr(policy, "state_dict", None)
        if theirs is None:
            raise TypeError(
                f"{type(policy).__name__} has no state_dict for the reference to follow; add it and load_state_dict"
            )
        self.load_state_dict(self.rule(self.state_dict(), theirs()))

    def state_dict(self) -> dict[str, Any]:
        """The copy's."""
        state: dict[str, Any] = self.policy.state_dict()  # type: ignore[attr-defined]
        return state

    def load_state_dict(self, state: State) -> None:
        """Raises what the copy raises for a state that does not fit it."""
        self.memory.forget()
        self.policy.load_state_dict(state)  # type: ignore[attr-defined]


def average(states: Sequence[State], weights: Sequence[float]) -> dict[str, Any]:
    """The weighted sum of all tensors of real numbers, in double precision, given back in their own.

    Whole numbers and what is no tensor (counters, random streams) are those of the last state. Weights may lie outside
    [0,1] but add up to 1. Raises ValueError otherwise, and for states of other names or shapes.
    """
    if len(states) != len(weights) or not states:
        raise ValueError(f"{len(states)} states and {len(weights)} weights; give one weight for each of at least 1")
    if not math.isclose(math.fsum(weights), 1, abs_tol=1e-9):
        raise ValueError(f"the weights {list(weights)} add up to {math.fsum(weights):g}; make that 1")
    last = states[-1]
    for n, state in enumerate(states):
        if state.keys() != last.keys():
            name = min(state.keys() ^ last.keys())
            raise ValueError(f"state {n} and the last one differ in {name}; average policies of one kind")
    result: dict[str, Any] = {}
    for name, value in last.items():
        if isinstance(value, Tensor) and value.is_floating_point():
            if wrong := [list(state[name].shape) for state in states if state[name].shape != value.shape]:
                raise ValueError(f"{name} is {wrong[0]} and {list(value.shape)}; average policies of one size")
            parts = [w * state[name].detach().double() for state, w in zip(states, weights, strict=True)]
            result[name] = torch.stack(parts).sum(0).to(value.dtype)
        else:
            result[name] = value
    return result


def extrapolate(new: State, old: State, alpha: float) -> dict[str, Any]:
    """new + alpha (new - old): momentum between rounds (accelerated preference optimisation, arXiv 2410.06293).

    A deviation's logarithm or a normaliser should not be: put those of `new` back with `| {name: new[name]}`. Raises
    ValueError as `average` does, and for an alpha that is not finite.
    """
    if not math.isfinite(alpha):
        raise ValueError(f"alpha is {alpha}; give a finite number, usually at least 0 and below 1")
    return average([old, new], [-alpha, 1 + alpha])
