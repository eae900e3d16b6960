"""Whoever acts in a training run: an algorithm of stable-baselines3 on the learned reward, and what it remembers."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from gymnasium import spaces
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy

from embodied.explore import RunningStd, state_entropy
from embodied.loop import Agent
from embodied.records import Array
from policies.recorder import Recorder, Trajectory
from policies.sb3 import NotFinite, Sb3
from rapport.train.contrastive import RollsOut
from rapport.train.settings import Settings
from rapport.train.spaces import PATIENCE, World

EVALUATION = 1000  # the first seed of the episodes that are looked at
KEPT, ROOM = 100, 1 << 30  # whole episodes that questions are cut from; fewer where they would fill so many bytes
NEIGHBOURS, LATELY = 5, 2000  # a state is new when it is far from its neighbours among so many late ones
THUMB = 6  # every so many pixels of a frame are compared when new states are looked for


class Actor(Agent, Protocol):
    """What a user's own agent offers: to advance, to act, and to say what it did.

    `chunk`: it advances by multiples of so many steps. `trajectories()`: its latest whole episodes, the newest last.
    """

    chunk: int

    def act(self, obs: Array) -> Array: ...

    def trajectories(self) -> Sequence[Trajectory]: ...


class Learner:
    """Settings of PPO and SAC that work on small tasks; `algorithm`, `policy` and `kwargs` replace them.

    progress(n) is called with every n environment steps. seeded: its episodes can be played again, to be drawn.
    """

    def __init__(
        self,
        world: World,
        settings: Settings,
        *,
        seeded: bool = False,
        algorithm: type[BaseAlgorithm] | None = None,
        policy: str | type[BasePolicy] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        progress: Callable[[int], object] = lambda n: None,
    ) -> None:
        self.world, self.method, self.progress = world, settings.method, progress
        discrete = not isinstance(world.actions, spaces.Box)
        self.contrasts = settings.method.preference == "cpl"
        if self.contrasts and (algorithm or settings.algorithm != "auto"):
            raise ValueError("cpl learns the policy itself, by no algorithm of stable-baselines3: leave that one out")
        chosen = (
            RollsOut
            if self.contrasts
            else algorithm or {"auto": PPO if discrete else SAC, "sac": SAC, "ppo": PPO}[settings.algorithm]
        )
        if chosen is SAC and discrete:
            raise ValueError(f"SAC acts with numbers, and {world.name}'s actions are {world.actions}; use ppo")
        own = copy.deepcopy(dict(kwargs or {}))  # stable-baselines3 writes into policy_kwargs
        rate = own.pop("learning_rate", settings.rate or (3e-4 if chosen is PPO else 1e-3))
        defaults = _defaults(chosen, settings, world) if algorithm is None else {}
        copies = world.copies(settings.copies, settings.seed, seeded)
        self.recorder = Recorder(settings.copies, _kept(world), copies.begun)
        self.sb3 = Sb3(
            copies,
            seed=settings.seed,
            algorithm=chosen,
            policy=policy or ("CnnPolicy" if world.frames else "MlpPolicy"),
            recorder=self.recorder,
            hide_ends=settings.hide_ends and settings.asks,
            learning_rate=rate,
            **{**defaults, **own},
        )
        self.chunk = self.sb3.rollout_steps
        self.explores = settings.asks and settings.method.explore > 0
        self.begun = False  # whether a learned reward has come
        if settings.asks:
            self.sb3.reward_changed(_nothing)  # the environment's own is the teacher's alone

    def trajectories(self) -> Sequence[Trajectory]:
        return self.recorder.whole

    def act(self, obs: Array) -> Array:
        return self.sb3.act(obs)

    def advance(self, steps: int) -> dict[str, float]:
        if self.explores and not self.begun:
            self.sb3.reward_changed(self._novelty())
        returns: list[Array] = []
        told: dict[str, float] = {}
        for part in _split(steps, self.chunk):
            rollout = self.sb3.advance(part)
            returns.append(rollout.own_returns)
            told = {k: v for k, v in rollout.metrics.items() if k.startswith("train/")}
            self.progress(part)
        ended = np.concatenate(returns)
        return {**({"own_return": float(ended.mean())} if len(ended) else {}), **told}

    def _novelty(self) -> Callable[[Array, Array, Array], Array]:
        """The distance to the nearest states seen so far, in its own deviations (PEBBLE, section 4.1)."""
        seen: deque[Array] = deque(maxlen=max(1, LATELY // self.sb3.env.num_envs))
        std = RunningStd()

        def reward(obs: Array, act: Array, own: Array) -> Array:
            look = obs[:, ::THUMB, ::THUMB].reshape(len(obs), -1) if self.world.frames else obs
            seen.append(look.astype(np.float64))
            among = np.concatenate(list(seen))
            if len(among) <= NEIGHBOURS + 1:
                return np.zeros(len(obs))
            scale = np.maximum(among.std(0), 1e-6)
            new = state_entropy(look / scale, among / scale, NEIGHBOURS)
            std.update(new)
            return std(new)

        return reward

    def reward_changed(self, reward: Any, fresh: bool = True) -> None:
        if self.contrasts:
            return  # what was refitted is the policy
        history = int(getattr(reward, "history", 1))
        method, first = self.method, not self.begun
        self.begun = True

        def judge(obs: Array, act: Array, mask: Array | None = None) -> Array:
            """obs [B,*O], act [B,*A], or with a history [B,H,*O], [B,H,*A] and its mask [B,H]."""
            act = self.world.encode(act)
            given: Array = reward.reward(obs, act) if mask is None else reward.reward_after(obs, act, mask)
            if method.bonus:
                fading = method.bonus * (1 - method.bonus_decay) ** self.sb3.model.num_timesteps
                given = given + fading * reward.spread(obs, act)
            return given

        if history > 1:
            self.sb3.reward_changed(lambda obs, act, own: judge(*self.recorder.last(history)))
        else:
            self.sb3.reward_changed(lambda obs, act, own: judge(obs, act))
        if fresh and self.sb3.remembers and (method.relabel or first):
            self.sb3.relabel(judge, history)
        if fresh and self.sb3.remembers and first and method.new_critic:
            self.sb3.reset_critic(method.new_critic)

    def state_dict(self) -> dict[str, Any]:
        return {"sb3": self.sb3.state_dict(), "begun": self.begun}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.sb3.load_state_dict(state["sb3"])
        self.begun = bool(state["begun"])

    def fingerprint(self) -> str:
        return f"{self.sb3.fingerprint()}, method {self.method.name}"


def _kept(world: World) -> int:
    """Episodes; ten at least."""
    each = (world.limit or PATIENCE) * int(np.prod(world.observations.shape)) * world.observations.dtype.itemsize
    return max(10, min(KEPT, ROOM // each))


def _nothing(obs: Array, act: Array, own: Array) -> Array:
    return np.zeros(len(obs))


def _defaults(algorithm: type[BaseAlgorithm], settings: Settings, world: World) -> dict[str, Any]:
    if algorithm is RollsOut:
        each = max(8, 512 // settings.copies)
        box = isinstance(world.actions, spaces.Box)
        # Less noise than an algorithm that lowers it itself begins with.
        return {"n_steps": each, "batch_size": each * settings.copies} | (
            {"policy_kwargs": {"log_std_init": -0.5}} if box else {}
        )
    if algorithm is PPO:
        each = max(8, 512 // settings.copies)
        return {"n_steps": each, "batch_size": min(128, each * settings.copies), "n_epochs": 10}
    network = {} if world.frames else {"net_arch": [128, 128]}
    fused = {"optimizer_kwargs": {"fused": True}}  # the same Adam, an eighth less time
    first = settings.rounds(settings.copies, world.limit)[0].steps
    return {
        "gradient_steps": -1,  # one for each step of each copy
        "buffer_size": max(settings.steps, 1000),
        "batch_size": 128,
        "learning_starts": min(first, 1000) if settings.method.explore else first,
        "ent_coef": "auto_0.1",
        "policy_kwargs": {**network, **fused},
    }


def _split(steps: int, chunk: int) -> list[int]:
    """In parts that end now and then, for the progress bar; multiples of the chunk."""
    part = max(chunk, 500 // chunk * chunk)
    return [min(part, steps - first) for first in range(0, steps, part)]


def at_random(world: World, episodes: int, seed: int = EVALUATION) -> Array:
    """The environment's own returns [episodes] of actions drawn evenly: what a policy is worth that knows nothing."""
    world.actions.seed(seed)
    return returns(lambda obs: np.stack([world.actions.sample() for _ in obs]), world, episodes, seed)


def returns(act: Callable[[Array], Array], world: World, episodes: int, seed: int) -> Array:
    """The environment's own returns [episodes] of whole episodes from fixed starts; nothing is chosen by them."""
    copies = world.copies(episodes, seed)
    obs, _ = copies.reset(seed=[seed + i for i in range(episodes)])
    total, open_ = np.zeros(episodes), np.ones(episodes, bool)
    for _ in range(world.limit or PATIENCE):
        if not np.isfinite(obs).all():
            raise NotFinite(f"an observation of {world.name} is not finite while the policy was looked at; mend it")
        obs, own, terminated, truncated, _ = copies.step(act(np.asarray(obs)))
        if not np.isfinite(own).all():
            raise NotFinite(
                f"the own reward of {world.name} is {own} while the policy was looked at; mend the environment"
            )
        total += np.where(open_, own, 0.0)
        open_ &= ~(terminated | truncated)
        if not open_.any():
            break
    copies.close()
    return total
