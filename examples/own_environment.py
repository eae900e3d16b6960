"""Your own environment, policy, network and loss, in ten lines:  python examples/own_environment.py"""

import gymnasium
import torch
from stable_baselines3 import TD3

from embodied import RewardEnsemble
from rapport.train import Settings, pebble, train


class Balance(gymnasium.wrappers.TransformReward):
    """Anything that Gymnasium can step; here Pendulum, whose own reward only the simulated teacher sees."""

    def __init__(self) -> None:
        super().__init__(gymnasium.make("Pendulum-v1"), lambda reward: float(reward) / 10)


def margin_loss(better: torch.Tensor, worse: torch.Tensor) -> torch.Tensor:
    """A pair loss of one's own, checked before it trains anything: the better clip should lead by one nat."""
    return torch.nn.functional.softplus(1 - (better - worse))


def network(obs: int, act: int, seed: int) -> RewardEnsemble:
    return RewardEnsemble(obs, act, members=5, hidden=(64, 64), seed=seed, loss=margin_loss)


def main(steps: int = 6_000, answers: int = 60, out: str = "runs/own-environment") -> None:
    settings = Settings(env=f"{__file__}:Balance", method=pebble(), answers=answers, steps=steps, clip=25, horizon=200)
    trained = train(settings, out, reward=network, algorithm=TD3, kwargs={"learning_rate": 1e-3}, told=print)
    print(f"true return {trained.result['return_before']:.1f} -> {trained.result['return_after']:.1f}")


if __name__ == "__main__":
    main()
