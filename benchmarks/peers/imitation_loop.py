"""imitation's preference comparisons as its tutorial sets them up, with an oracle that answers. Run by
benchmarks/imitation_loop.py, in imitation's own environment; prints one JSON object."""

import argparse
import importlib.metadata
import json
import time
from dataclasses import asdict, dataclass, replace

import gymnasium
import numpy as np
import torch
from imitation.algorithms import preference_comparisons as comparisons
from imitation.policies.base import FeedForward32Policy, NormalizeFeaturesExtractor
from imitation.rewards.reward_nets import BasicRewardNet
from imitation.util.networks import RunningNorm
from imitation.util.util import make_vec_env
from stable_baselines3 import PPO

SEEDS = range(1000, 1020)  # of the episodes that are evaluated; the same for whoever is compared


@dataclass(frozen=True)
class Setting:
    """What is tuned; the rest is the tutorial's (its comment says that its values were tuned on Pendulum)."""

    iterations: int = 5
    envs: int = 8
    rollout: int = 2048  # steps of all environments between two updates of PPO
    rate: float = 2e-3
    gamma: float = 0.97
    clip: float = 0.1
    entropy: float = 0.01
    reward_epochs: int = 3
    fragment: int = 100


# As in the tutorial; then more and smaller rounds with more training of the reward; then with the values that RL Zoo
# gives PPO on Pendulum, too.
ROUNDS = {"iterations": 20, "rollout": 1024, "reward_epochs": 10, "fragment": 50}
ZOO = {"envs": 4, "rate": 1e-3, "gamma": 0.9, "clip": 0.2, "entropy": 0.0}
SETTINGS = {"tutorial": Setting(), "rounds": Setting(**ROUNDS), "zoo": Setting(**ROUNDS, **ZOO)}
LONGEST = {"Pendulum-v1": 200, "Reacher-v4": 50}  # steps of an episode


class Count(gymnasium.Wrapper):
    """Counts the steps of all environments: imitation also acts to have something to ask about."""

    steps = 0

    def step(self, action):
        Count.steps += 1
        return super().step(action)


def loop(env: str, budget: int, steps: int, seed: int, how: Setting) -> PPO:
    """The policy after the loop; at most `budget` comparisons and about `steps` steps of training."""
    rng = np.random.default_rng(seed)
    venv = make_vec_env(env, rng=rng, n_envs=how.envs, post_wrappers=[lambda one, _: Count(one)])
    reward = BasicRewardNet(venv.observation_space, venv.action_space, normalize_input_layer=RunningNorm)
    agent = PPO(
        FeedForward32Policy,
        venv,
        policy_kwargs={
            "features_extractor_class": NormalizeFeaturesExtractor,
            "features_extractor_kwargs": {"normalize_class": RunningNorm},
        },
        n_steps=how.rollout // how.envs,
        batch_size=64,
        n_epochs=10,
        learning_rate=how.rate,
        gamma=how.gamma,
        gae_lambda=0.95,
        clip_range=how.clip,
        ent_coef=how.entropy,
        seed=seed,
    )
    learner = comparisons.PreferenceComparisons(
        comparisons.AgentTrainer(agent, reward, venv, rng, exploration_frac=0.05),
        reward,
        num_iterations=how.iterations,
        fragmenter=comparisons.RandomFragmenter(warning_threshold=0, rng=rng),
        preference_gatherer=comparisons.SyntheticGatherer(temperature=0, rng=rng),  # no slips
        reward_trainer=comparisons.BasicRewardTrainer(
            comparisons.PreferenceModel(reward),
            comparisons.CrossEntropyRewardLoss(),
            rng=rng,
            epochs=how.reward_epochs,
        ),
        fragment_length=how.fragment,
        initial_comparison_frac=0.1,
        initial_epoch_multiplier=4,
        query_schedule="hyperbolic",
    )
    # It trains for one round more than it divides the steps by.
    learner.train(total_timesteps=steps * how.iterations // (how.iterations + 1), total_comparisons=budget)
    return agent


def returns(policy: PPO, env: str) -> list[float]:
    """True returns of the deterministic policy, one episode from each of SEEDS."""
    world, values = gymnasium.make(env), []
    for seed in SEEDS:
        obs, ended, cut, total = world.reset(seed=seed)[0], False, False, 0.0
        while not (ended or cut):
            action, _ = policy.predict(obs, deterministic=True)
            obs, reward, ended, cut, _ = world.step(action)
            total += float(reward)
        values.append(total)
    return values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", choices=LONGEST)
    parser.add_argument("--comparisons", type=int)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--setting", choices=SETTINGS)
    args = parser.parse_args()
    setting = SETTINGS[args.setting]
    setting = replace(setting, fragment=min(setting.fragment, LONGEST[args.env]))
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    wall, cpu = time.perf_counter(), time.process_time()
    policy = loop(args.env, args.comparisons, args.steps, args.seed, setting)
    seconds, cpu_seconds = time.perf_counter() - wall, time.process_time() - cpu
    values = returns(policy, args.env)
    packages = ("imitation", "stable-baselines3", "gymnasium", "torch", "mujoco")
    print(
        json.dumps(
            {
                **vars(args),
                "values": asdict(setting),
                "return": float(np.mean(values)),
                "returns": values,
                "steps_trained": policy.num_timesteps,
                "steps_taken": Count.steps,
                "seconds": seconds,
                "cpu_seconds": cpu_seconds,
                "versions": {name: importlib.metadata.version(name) for name in packages},
            }
        )
    )


if __name__ == "__main__":
    main()
