"""Bring your own loss: two lines, checked, then a reward learned with it from answers, and a policy trained on that.

A point is pushed about a plane; somebody likes it at a goal, reached with little effort, and compares two short
stretches of its behaviour at a time. One answer in twenty is the toss of a coin. The best policy is known in closed
form, so the last line says how much of it was found: 0 is doing nothing, 1 the optimum. It takes half a minute at most.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from embodied.episodes import Episode, cut
from embodied.feedback import feedback, stack
from embodied.losses import check_loss, pairwise
from embodied.queries import information_gain
from embodied.records import Array, Query, Segment
from embodied.rewards.ensemble import RewardEnsemble
from embodied.teachers import answer, noisy
from envs.point import HORIZON, PointMass, lqr, quadratic_reward
from policies.sb3 import Sb3

GOAL = np.array([0.5, -0.4])  # m; what the person likes, and no learner is told
POINTS, STRETCH, SETTLING, ROUNDS, QUESTIONS = 64, 6, 10, 40, 5
liked = quadratic_reward(GOAL)


def own_loss(better: Tensor, worse: Tensor) -> Tensor:
    """A softened max(0, worse - better): linear where the answer is not met, fading as 1/gap where it is."""
    wrong = worse - better
    return (wrong + torch.sqrt(wrong**2 + 1)) / 2


def utility(segment: Segment) -> float:
    return float(liked(segment.obs, segment.act).sum())


def roll_out(act: Callable[[Array], Array], envs: PointMass) -> tuple[Array, Array]:
    """One episode per point: obs [N,T,5], act [N,T,2]."""
    obs, _ = envs.reset()
    seen, done = [], []
    for _ in range(HORIZON):
        seen.append(obs)
        done.append(np.clip(act(obs), -1, 1))
        obs, *_ = envs.step(done[-1])
    return np.stack(seen, 1), np.stack(done, 1)


def pairs(name: str, agent: Sb3, envs: PointMass, n: int, rng: np.random.Generator) -> list[Query]:
    """n pairs of short stretches of what the agent does at present."""
    obs, act = roll_out(lambda o: agent.act(o, deterministic=False), envs)
    episodes = [Episode(f"{name}-{i}", obs[i], act[i]) for i in range(len(obs))]

    def stretch(i: int) -> Segment:
        start = int(rng.integers(HORIZON - STRETCH + 1))
        return cut(episodes[i], start, start + STRETCH)

    chosen = [rng.choice(len(episodes), 2, replace=False) for _ in range(n)]
    return [Query(f"{name}-{k}", (stretch(i), stretch(j))) for k, (i, j) in enumerate(chosen)]


def main() -> None:
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    print(check_loss(own_loss))

    person = noisy(utility, seed=0, temperature=0.3, lapse=0.05)
    reward = RewardEnsemble(5, 2, members=5, hidden=(128,), bounded=False, steps=12, loss=pairwise(own_loss))
    agent = Sb3(
        PointMass(POINTS, seed=1),
        seed=0,
        reward=lambda obs, act, own: reward.reward(obs, act),
        learning_rate=1e-3,
        log_std_range=(-1.5, 0.0),
        n_steps=HORIZON,
        batch_size=320,
        gamma=1.0,
        policy_kwargs={"log_std_init": -1.5},
    )
    envs = PointMass(POINTS, seed=2)
    asked: list[Query] = []
    for turn in range(ROUNDS):
        candidates = pairs(f"turn-{turn}", agent, envs, 100, rng)
        thought = reward.utilities(stack(candidates)).numpy().astype(float)
        asked += [candidates[i] for i in information_gain(thought[..., 0] - thought[..., 1], QUESTIONS, rng)]
        told, budget = feedback([answer(person, query, "person") for query in asked], asked)
        reward.fit(told, rng)
        if turn >= SETTLING:  # on too few answers a policy runs away to where the reward knows nothing
            agent.advance(2 * agent.rollout_steps)
    print(budget)

    unseen = pairs("held-out", agent, envs, 400, rng)
    thought = reward.utilities(stack(unseen)).mean(0).numpy()
    truth = np.array([[utility(segment) for segment in query.segments] for query in unseen])
    right = (thought[:, 0] > thought[:, 1]) == (truth[:, 0] > truth[:, 1])
    print(f"held-out accuracy: {right.mean():.3f} of {len(unseen)} pairs")

    returns = [
        liked(*roll_out(act, PointMass(1000, seed=3))).sum(1).mean()
        for act in (lambda obs: np.zeros((len(obs), 2)), agent.act, lqr(GOAL).act)
    ]
    nothing, found, best = returns
    print(f"scaled true return: {(found - nothing) / (best - nothing):.3f}")


if __name__ == "__main__":
    main()
