"""imitation's EnsembleTrainer on pairs from an .npz, timed. Run by benchmarks/reward_training.py, in imitation's own
environment; prints one JSON object."""

import argparse
import json
import time

import gymnasium
import numpy as np
import torch
from imitation.algorithms import preference_comparisons as comparisons
from imitation.data.types import Trajectory
from imitation.rewards.reward_nets import BasicRewardNet, RewardEnsemble
from imitation.util.networks import RunningNorm


def box(size: int) -> gymnasium.spaces.Box:
    return gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)


def dataset(obs: np.ndarray, act: np.ndarray, first: np.ndarray) -> comparisons.PreferenceDataset:
    """Pairs obs [N,2,T+1,O], act [N,2,T,A], first [N] = 1 where the first is better."""
    # Without the true rewards, so that no time goes into comparing with them.
    pairs = [
        tuple(Trajectory(obs=obs[i, k], acts=act[i, k], infos=None, terminal=False) for k in range(2))
        for i in range(len(obs))
    ]
    data = comparisons.PreferenceDataset()
    data.push(pairs, first.astype(np.float32))
    return data


def trainer(obs_size: int, act_size: int, args: argparse.Namespace) -> comparisons.EnsembleTrainer:
    spaces = box(obs_size), box(act_size)
    nets = [
        BasicRewardNet(*spaces, hid_sizes=tuple(args.hidden), normalize_input_layer=RunningNorm)
        for _ in range(args.members)
    ]
    return comparisons.EnsembleTrainer(
        comparisons.PreferenceModel(RewardEnsemble(*spaces, nets)),
        comparisons.CrossEntropyRewardLoss(),
        rng=np.random.default_rng(args.seed),
        batch_size=args.batch,
        epochs=args.epochs,
        lr=args.rate,
    )


def agreement(net: RewardEnsemble, obs: np.ndarray, act: np.ndarray, first: np.ndarray) -> float:
    """How often the members' mean return ranks a pair as the label does."""
    n, k, t, _ = act.shape
    steps = obs[:, :, :-1].reshape(n * k * t, -1), act.reshape(n * k * t, -1), obs[:, :, 1:].reshape(n * k * t, -1)
    net.eval()
    reward = net.predict_processed(*steps, np.zeros(n * k * t, dtype=bool))
    value = reward.reshape(n, k, t).sum(-1)
    return float(((value[:, 0] > value[:, 1]) == first).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("arrays")
    parser.add_argument("--members", type=int)
    parser.add_argument("--hidden", type=int, nargs="+")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--seed", type=int)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    with np.load(args.arrays) as file:
        data = {name: file[name] for name in file.files}
    sizes = data["obs"].shape[-1], data["act"].shape[-1]

    warm = argparse.Namespace(**{**vars(args), "epochs": 1})
    trainer(*sizes, warm).train(dataset(*(data[name][: args.batch] for name in ("obs", "act", "first"))))
    learner, pairs = trainer(*sizes, args), dataset(data["obs"], data["act"], data["first"])
    start = time.process_time()
    learner.train(pairs)
    seconds = time.process_time() - start
    net = learner._preference_model.ensemble_model
    print(
        json.dumps(
            {
                "seconds": seconds,
                "train": agreement(net, data["obs"], data["act"], data["first"]),
                "held_out": agreement(net, data["held_obs"], data["held_act"], data["held_first"]),
            }
        )
    )


if __name__ == "__main__":
    main()
