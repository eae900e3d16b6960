"""Bring your own loss: two lines, checked, then learning a reward from simulated answers.

The task is made up: a dot wanders on a plane, and somebody who likes it near the origin, and slow, compares two
wanderings at a time; one answer in ten is a coin flip. Run `python examples/own_loss.py`; it takes a few seconds.
"""

import numpy as np
import torch
from torch import Tensor

from embodied.feedback import feedback
from embodied.losses import check_loss, pairwise
from embodied.networks import RewardEnsemble
from embodied.records import Query, Segment
from embodied.teachers import answer, noisy, oracle


def own_loss(better: Tensor, worse: Tensor) -> Tensor:
    """A softened max(0, worse - better): linear where the answer is not met, fading as 1/gap where it is."""
    wrong = worse - better
    return (wrong + torch.sqrt(wrong**2 + 1)) / 2


def wander(name: str, rng: np.random.Generator, steps: int = 20) -> Segment:
    """Observation: position and velocity in the plane, [T,4]; action: acceleration, [T,2]."""
    acceleration = rng.normal(size=(steps, 2))
    velocity = np.cumsum(acceleration, 0) * 0.1 + rng.normal(size=2) * 0.3
    position = np.cumsum(velocity, 0) * 0.1 + rng.normal(size=2)
    return Segment(name, 0, steps, np.concatenate([position, velocity], 1), acceleration)


def liking(segment: Segment) -> float:
    """What the person likes and nobody else is told."""
    position, velocity = segment.obs[:, :2], segment.obs[:, 2:]
    return float(-(np.linalg.norm(position, axis=1) + 0.5 * np.linalg.norm(velocity, axis=1)).sum())


def main() -> None:
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    print(check_loss(own_loss))

    queries = [Query(f"q{n}", (wander(f"a{n}", rng), wander(f"b{n}", rng))) for n in range(600)]
    asked, held_out = queries[:200], queries[200:]
    person = noisy(liking, seed=0, lapse=0.1)
    told, budget = feedback([answer(person, query, "person") for query in asked], asked)
    print(budget)

    reward = RewardEnsemble(obs_size=4, act_size=2, loss=pairwise(own_loss))
    print(reward.fit(told, rng))

    truth, _ = feedback([answer(oracle(liking), query, "truth") for query in held_out], held_out)
    gap = -torch.diff(reward.utilities(truth.segments).mean(0)).squeeze(-1)
    right = (gap > 0) == (truth.target[:, 0] == 1)
    print(f"held-out accuracy: {right.float().mean():.3f} of {len(held_out)} pairs, from {budget.answered} answers")


if __name__ == "__main__":
    main()
