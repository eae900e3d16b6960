"""Bring your own policy: a function that makes it is all that `rapport align` asks for.

A policy, to every method of direct alignment, is a torch module that says how likely the stored actions were. This one
is a Gaussian whose deviation depends on the state, as ours does not. A third of the recorded points are pushed towards
a goal, the others away from it; somebody who likes the goal has compared 400 pairs of short stretches. The policy first
copies all of them, then is aligned by contrastive preference learning. It takes half a minute.

    python examples/own_policy.py [DIR]          the data folder and the run stay in DIR
    rapport align --data DIR/data --policy examples/own_policy.py:policy --method cpl --imitate 600
"""

import math
import sys
import tempfile
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from embodied import checkpoint
from embodied.episodes import Episode, cut
from embodied.feedback import Segments
from embodied.records import Array, Query, Segment
from embodied.teachers import answer, noisy
from envs.point import HORIZON, PointMass, lqr, quadratic_reward
from rapport.align.aligning import Settings, align
from rapport.align.command import lines
from rapport.data_folder import open_folder

GOAL, STRETCH, PAIRS = np.array([0.5, -0.4]), 10, 400
liked = quadratic_reward(GOAL)


class OwnPolicy(nn.Module):
    """Actions [2] from observations [5]; mean and deviation from one network."""

    density = True  # log_prob is of a density: the actions are continuous

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(5, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 4))

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = self.net(obs).chunk(2, -1)
        return mean, -1 + torch.tanh(log_std)  # between -2 and 0: without a floor a density has no upper bound

    def log_prob(self, segments: Segments) -> Tensor:
        """[B,K,T] of stored actions [B,K,T,2]. This is the whole interface; `kl(reference, segments)` would add KTO."""
        assert isinstance(segments.obs, Tensor)
        mean, log_std = self(segments.obs)
        miss = (segments.act - mean) * torch.exp(-log_std)
        logp: Tensor = (-0.5 * miss**2 - log_std - 0.5 * math.log(2 * math.pi)).sum(-1)
        return logp

    @torch.no_grad()
    def act(self, obs: Array) -> Array:
        mean: Array = self(torch.as_tensor(obs, dtype=torch.float32))[0].numpy()
        return mean


def policy() -> OwnPolicy:
    """What `--policy own_policy.py:policy` calls; it could load your weights here."""
    torch.manual_seed(0)
    return OwnPolicy()


def roll_out(act: object, envs: PointMass) -> tuple[Array, Array]:
    """One episode per point: obs [N,T,5], act [N,T,2]."""
    obs, _ = envs.reset()
    seen, done = [], []
    for _ in range(HORIZON):
        seen.append(obs)
        done.append(np.clip(act(obs), -1, 1))  # type: ignore[operator]
        obs, *_ = envs.step(done[-1])
    return np.stack(seen, 1), np.stack(done, 1)


def record(folder: Path) -> None:
    """Episodes of mixed quality, and what somebody said about stretches of them."""
    rng = np.random.default_rng(0)
    good, right, wrong = rng.random((600, 1)) < 1 / 3, lqr(GOAL), lqr(-GOAL)

    def recorded(obs: Array) -> Array:
        return np.where(good, right.act(obs), wrong.act(obs)) + rng.normal(0, 0.25, (600, 2))

    obs, act = roll_out(recorded, PointMass(600, seed=1))
    episodes = [Episode(f"point-{i:04d}", obs[i], act[i], terminated=True) for i in range(600)]

    def utility(segment: Segment) -> float:
        return float(liked(segment.obs, segment.act).sum())

    person = noisy(utility, seed=0, temperature=0.3, lapse=0.05)
    with open_folder(folder, make=True) as store:
        store.episodes.save(episodes)
        queries = []
        for k in range(PAIRS):
            start = int(rng.integers(HORIZON - STRETCH + 1))
            first, second = (cut(episodes[i], start, start + STRETCH) for i in rng.choice(600, 2, replace=False))
            queries.append(Query(f"pair-{k:03d}", (first, second)))
        store.add_queries(queries)
        store.add_answers([answer(person, query, "person") for query in queries])


def scaled_return(mine: OwnPolicy) -> float:
    """Over 1000 new starts: 0 is doing nothing, 1 the known optimum."""
    acts = (lambda obs: np.zeros((len(obs), 2)), mine.act, lqr(GOAL).act)
    nothing, found, best = (liked(*roll_out(act, PointMass(1000, seed=3))).sum(1).mean() for act in acts)
    return float((found - nothing) / (best - nothing))


def main() -> None:
    out = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="own-policy-"))
    if not (out / "data").exists():
        record(out / "data")
    settings = Settings(method="cpl", steps=400, imitate=600)
    result = align(out / "data", out / "run", settings, f"{__file__}:policy")
    print(*lines(result), sep="\n")
    copied, aligned = policy(), policy()
    checkpoint.load(out / "run" / "before", policy=copied)
    aligned.load_state_dict(safetensors.torch.load_file(out / "run" / "policy" / "policy.safetensors"))
    print(f"copied, scaled true return: {scaled_return(copied):.3f}")
    print(f"aligned, scaled true return: {scaled_return(aligned):.3f}")


if __name__ == "__main__":
    main()
