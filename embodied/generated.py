"""Questions that are made, not found: the most telling ways on from a state, and best policies set against each other.

On worlds given as arrays, where all ways can be gone through and every policy's worth is known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from embodied.criteria import Criterion, expected_information
from embodied.feedback import Segments
from embodied.planning import Tables, expected_features, optimal
from embodied.queries import check_k
from embodied.records import Array
from embodied.regret import successor_features
from embodied.walks import walks_from


def telling(utility: Array, k: int, rng: np.random.Generator, criterion: Criterion = expected_information) -> Array:
    """The k best questions among all pairs of W ways on from each of N states, at most one from a state, [k,3] of
    (state, first way, second way), the best first.

    utility [E,N,W] of every way under every member, as of `walks.every_way`. Each pair is looked at, so nothing that
    could be asked about these states is worth more; where pairs are worth the same, chance decides. Raises ValueError
    for an impossible k, fewer than two ways, and as the criterion does.
    """
    if utility.ndim != 3 or utility.shape[2] < 2:
        raise ValueError(f"utility has shape {utility.shape}; give [E,N,W] of at least two ways from each state")
    states = utility.shape[1]
    check_k(k, states)
    first, second = np.triu_indices(utility.shape[2], 1)
    turn = rng.permutation(len(first))
    first, second = first[turn], second[turn]
    best = np.empty(states, np.intp)
    value = np.empty(states)
    for n in range(states):  # all pairs of all states at once would not fit into memory
        worth = criterion(utility[:, n, first] - utility[:, n, second])
        best[n] = worth.argmax()
        value[n] = worth[best[n]]
    order = rng.permutation(states)
    chosen = order[np.argsort(-value[order], kind="stable")[:k]]
    return np.stack([chosen, first[best[chosen]], second[best[chosen]]], 1)


@dataclass(frozen=True, eq=False)
class Duels:
    """Whose way is better from state `start [k]`: the best policy of member `first [k]` or that of `second [k]`?
    regret [k]: what each would lose by the other's, by its own lights, added up. policies [E,S,A]: the best of each."""

    start: Array
    first: Array
    second: Array
    regret: Array
    policies: Array

    def segments(self, world: Tables, length: int, rng: np.random.Generator) -> Segments:
        """Both ways, `length` steps each or to the end, [k,2,T]."""
        both = np.stack([self.first, self.second], 1)
        return walks_from(world, self.policies[both], np.stack([self.start] * 2, 1), length, rng)


def maximum_regret(world: Tables, weights: Array, k: int, rng: np.random.Generator) -> Duels:
    """The k pairs of posterior samples and starts whose best policies lose most by each other (Wilde, Kulic and Smith
    2020, arXiv 2005.04067): max over (e, f, s) of w_e.(psi_e - psi_f)(s) + w_f.(psi_f - psi_e)(s).

    weights [E,D] of a linear reward, equally probable. One pair of samples is asked about once, at its worst state.
    Raises ValueError for other shapes, for k above the number of pairs, and as `optimal` does.
    """
    phi = expected_features(world)
    if weights.ndim != 2 or len(weights) < 2 or weights.shape[1] != phi.shape[-1]:
        raise ValueError(f"weights have shape {weights.shape}; give [E,{phi.shape[-1]}] with E >= 2")
    first, second = np.triu_indices(len(weights), 1)
    check_k(k, len(first))
    policies = optimal(world, np.einsum("sad,ed->esa", phi, weights)).policy()
    found = successor_features(world, policies).state.numpy()[:, world.starts]  # [E,N,D]
    earns = np.einsum("ed,fnd->efn", weights, found)  # by e's lights, f's policy
    own = np.einsum("een->en", earns)
    regret = (own[first] - earns[first, second]) + (own[second] - earns[second, first])  # [pairs,N]
    state = regret.argmax(1)
    value = regret[np.arange(len(first)), state]
    order = rng.permutation(len(first))
    chosen = order[np.argsort(-value[order], kind="stable")[:k]]
    return Duels(world.starts[state[chosen]], first[chosen], second[chosen], value[chosen], policies)
