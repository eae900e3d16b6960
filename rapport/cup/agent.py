"""The main job: an arm that carries a cup, re-aligned by at most a hundred answers. What acts, and what it proposes.

`CupAgent` is the agent of `embodied.loop`: PPO on the arm's own task plus the learned reward, in whole episodes. It
sees answers and its own task success; the person whom it serves is nowhere in this file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from embodied.episodes import Episode, Episodes, cut
from embodied.feedback import Feedback, Segments
from embodied.fit import fit, imitate
from embodied.loop import Round
from embodied.records import Array, Query
from embodied.rewards.additive import Additive
from envs.arm import DT, HORIZON, VELOCITY, CupArms, Layouts, draw
from envs.carriers import hurried
from policies.sb3 import Rollout, Sb3
from rapport.cup import pools
from rapport.cup.features import step_features

PPO_SETTINGS: dict[str, Any] = dict(
    n_steps=HORIZON,
    batch_size=1024,
    n_epochs=6,
    gamma=0.99,
    gae_lambda=0.95,
    clip_range=0.2,
    target_kl=0.033,  # stable-baselines3 stops an update at 1.5 times this
    ent_coef=0.0,
    vf_coef=0.5,
    max_grad_norm=0.5,
    policy_kwargs=dict(
        net_arch=dict(pi=[64, 64], vf=[64, 64]), activation_fn=torch.nn.Tanh, log_std_init=-1.0, ortho_init=False
    ),
)


@dataclass(frozen=True)
class Recipe:
    """How a budget of answers is spent, and how far the policy moves in between. Found on development seeds."""

    arms: int = 64
    first_share: float = 0.4
    first_rounds: int = 5
    rounds: int = 12
    first_updates: int = 30
    updates: int = 14
    last_updates: int = 10
    first_layouts: int = 32
    later_layouts: int = 48
    clone_episodes: int = 128
    clone_steps: int = 500

    def schedule(self, answers: int) -> list[Round]:
        """40 % of the answers before the policy moves, in a few turns, each on what the one before left open; the rest
        evenly over the rounds, to the end, since a long phase of optimisation without questions exploits the reward."""
        first = round(answers * self.first_share)
        questions = [*_split(first, self.first_rounds), *_split(answers - first, self.rounds)]
        updates = [0] * (self.first_rounds - 1) + [self.first_updates]
        updates += [self.updates] * (self.rounds - 1) + [self.last_updates]
        return [Round(q, u * self.arms * HORIZON) for q, u in zip(questions, updates, strict=True)]

    @property
    def total_updates(self) -> int:
        return self.first_updates + self.updates * (self.rounds - 1) + self.last_updates


def _split(total: int, parts: int) -> list[int]:
    """As evenly as whole numbers can be."""
    return [int(n) for n in np.diff(np.linspace(0, total, parts + 1).round().astype(int))]


class StepReward(Protocol):
    """A learned (or true) reward in units of its own: of single steps, obs [n, 26], act [n, 5] -> [n], and of whole
    episodes from their feature sums [N, D] -> [N]."""

    def reward(self, obs: Array, act: Array) -> Array: ...

    def value(self, totals: Array) -> Array: ...


def cloned_from_haste(agent: Sb3, envs: CupArms, recipe: Recipe, rng: np.random.Generator) -> None:
    """Pre-trains the policy on a hurried carrier: straight to the goal, cup leant into the motion."""
    obs_all, act_all = [], []
    for _ in range(max(1, recipe.clone_episodes // recipe.arms)):
        carry = hurried(rng, recipe.arms)
        obs, _ = envs.reset(options={"layouts": draw(rng, recipe.arms)})
        slow = np.zeros((recipe.arms, 5))
        for _ in range(HORIZON):
            act = carry(obs)
            obs_all.append(obs)
            act_all.append(act)
            slow = pools.slowly(slow, rng)
            obs, *_ = envs.step(np.clip(act + 0.3 * slow, -1, 1))
    obs_b = torch.as_tensor(np.concatenate(obs_all), dtype=torch.float32)[:, None, None]
    act_b = torch.as_tensor(np.concatenate(act_all), dtype=torch.float32)[:, None, None]
    size = len(obs_b)
    segments = Segments(obs_b, act_b, torch.ones(size, 1, 1, dtype=torch.bool), torch.full((size, 1, 1), torch.nan))
    data = Feedback(
        segments,
        torch.ones(size, 1),
        torch.ones(size),
        torch.zeros(size, dtype=torch.int64),
        torch.ones(size, dtype=torch.bool),
    )
    opt = torch.optim.Adam(agent.policy.mean_parameters(), lr=2e-3)
    fit(imitate(agent.policy), data, opt, steps=recipe.clone_steps, batch=min(512, size), rng=rng)


class CupAgent:
    """PPO on `weight * task + learned reward`, the weight by dual ascent on the robot's own success.

    `progress(n)` is called with every n environment steps.
    """

    SCALE = 0.1  # of the sum: returns of 1 to 3, so that the value loss does not eat the shared gradient norm
    SPAN = 12.0  # what the best clips seen so far are worth above the pre-trained policy, in task reward
    SUCCESS, GAIN, WEIGHTS = 0.97, 0.5, (1.0, 3.0)
    PATH_COST = 2.0  # per metre, against wandering where the person does not care; not raised with the weight

    def __init__(
        self,
        recipe: Recipe,
        seed: int,
        step: Callable[[Array, Array], Array] = step_features,
        progress: Callable[[int], object] = lambda n: None,
    ) -> None:
        streams = [int(s.generate_state(1)[0]) for s in np.random.SeedSequence(seed).spawn(4)]
        self.recipe, self.step, self.progress = recipe, step, progress
        self.envs = CupArms(recipe.arms, seed=streams[0])
        self.pool_envs = CupArms(recipe.arms, seed=0)  # only ever reset to given layouts
        self.sb3 = Sb3(
            self.envs,
            seed=streams[1],
            log_std_range=(-1.6, -0.3),
            learning_rate=1e-3,
            **{**PPO_SETTINGS, "batch_size": min(1024, recipe.arms * HORIZON)},
        )
        cloned_from_haste(self.sb3, self.pool_envs, recipe, np.random.default_rng(streams[2]))
        self.own_layouts = draw(np.random.default_rng(streams[3]), 256)
        self.pretrained = self.sb3.snapshot()
        self.past = [self.pretrained]  # and the policy at the end of every round: what the report looks back on
        self.late: list[dict[str, Array]] = []
        self.weight, self.update = 1.0, 0
        self.totals: Array | None = None
        self.first_total: Array | None = None
        self.reward: StepReward | None = None
        self.per_unit = 0.0

    def act(self, snapshot: Mapping[str, Array] | None = None) -> pools.Act:
        return lambda obs: np.clip(self.sb3.mean_action(obs, snapshot), -1, 1)

    def roll_out(self, layouts: Layouts, snapshot: Mapping[str, Array] | None = None) -> pools.Rollouts:
        """Whole episodes of the present (or an earlier) policy, without noise."""
        return pools.roll_out(self.pool_envs, layouts, [self.act(snapshot)], None, np.random.default_rng(0))

    def steps_of(self, index: int) -> int:
        """Environment steps trained by the end of round `index`."""
        return sum(r.steps for r in self.recipe.schedule(0)[: index + 1])

    def propose(self, index: int, rng: np.random.Generator) -> tuple[pools.Rollouts, Array]:
        """A pool of varied clips of the present policy; each layout's kind: 0 factorial, 1 local, 2 versions."""
        if index < self.recipe.first_rounds:
            n = self.recipe.first_layouts
            kind, variation = np.zeros(n, int), pools.factorial(rng, n, 0.9)
        else:
            third = self.recipe.later_layouts // 3
            kind = np.repeat([0, 1, 2], third)
            variation = pools.join(
                [pools.factorial(rng, third, 0.6), pools.local(rng, third), pools.versions(rng, third)]
            )
        layouts = draw(rng, len(kind))[np.repeat(np.arange(len(kind)), pools.VARIANTS)]
        before = [self.past[max(len(self.past) - 1 - back, 0)] for back in (1, 3)]
        policies = [self.act(), *(self.act(snapshot) for snapshot in before)]
        pool = pools.roll_out(self.pool_envs, layouts, policies, variation, rng)
        self._remember(pool, rng)
        return pool, kind

    def _remember(self, pool: pools.Rollouts, rng: np.random.Generator) -> None:
        totals = self._totals(pool)
        if self.totals is None:
            start = self.roll_out(draw(rng, self.recipe.arms))
            self.first_total = self._totals(start).mean(0, keepdims=True)
            self.totals = totals
        else:
            self.totals = np.concatenate([self.totals, totals])

    def _totals(self, rollouts: pools.Rollouts) -> Array:
        return self.step(rollouts.obs.astype(float), rollouts.act.astype(float)).sum(1)

    def reward_changed(self, reward: StepReward, fresh: bool = True) -> None:
        """The new reward, scaled so that the best clips seen so far are worth SPAN more than the pre-trained policy."""
        self.reward = reward
        if self.totals is None or self.first_total is None:
            raise ValueError("The agent has no clips yet to measure the reward on: propose() first.")
        values = np.sort(reward.value(self.totals))
        gap = values[-max(1, len(values) // 20) :].mean() - reward.value(self.first_total)[0]
        self.per_unit = self.SPAN / max(float(gap), 1e-6)

    def advance(self, steps: int) -> dict[str, float]:
        """Whole rollouts of one episode per arm; the weight of the task changes after each."""
        rollouts: list[Rollout] = []
        first, count = self.update, steps // self.sb3.rollout_steps
        last_round = first + count == self.recipe.total_updates
        if not count:
            self.past.append(self.sb3.snapshot())
            return {}

        def between(rollout: Rollout) -> None:
            rollouts.append(rollout)
            success = float(rollout.success.mean())
            self.weight = float(np.clip(self.weight * np.exp(self.GAIN * (self.SUCCESS - success)), *self.WEIGHTS))
            self.update += 1
            self.sb3.learning_rate = self._rate()
            self._set_reward()
            if last_round and ((self.update - first) % 10 == 0 or self.update == self.recipe.total_updates):
                self.late.append(self.sb3.snapshot())
            self.progress(rollout.steps)

        self._set_reward()
        self.sb3.advance(steps, between=between)
        self.past.append(self.sb3.snapshot())
        return {
            "task_success": float(np.mean([r.success.mean() for r in rollouts])),
            "return": float(np.mean([r.returns.mean() for r in rollouts])),
            "task_weight": self.weight,
            **{k: v for k, v in rollouts[-1].metrics.items() if k in ("train/approx_kl", "train/value_loss")},
        }

    def _rate(self) -> float:
        left = 1 - self.update / self.recipe.total_updates
        return 2e-4 + 8e-4 * min(1.0, left / 0.4)

    def _set_reward(self) -> None:
        weight, reward, per_unit, path_cost = self.weight, self.reward, self.per_unit, self.PATH_COST

        def total(obs: Array, act: Array, own: Array) -> Array:
            learned = 0.0 if reward is None else per_unit * reward.reward(obs.astype(float), act.astype(float))
            walked = path_cost * np.linalg.norm(obs[:, VELOCITY], axis=-1) * DT
            return self.SCALE * (weight * own - walked + learned)

        self.sb3.reward_changed(total)

    def finish(self) -> dict[str, Array]:
        """The policy to keep: of the late snapshots that do the task in 97 %, the best by what was trained for.

        Behaviour is not monotone between rounds, so never keep a policy without having tried it.
        """
        if self.reward is None:
            return self.past[-1]
        choices = [*self.past[-4:-1], *self.late]
        tried = [self.roll_out(self.own_layouts, s) for s in choices]
        success = np.array([t.success.mean() for t in tried])
        # What was trained for, the task apart: the learned utility and the price of the path.
        walked = [np.linalg.norm(t.obs[..., VELOCITY], axis=-1).sum(1).mean() * DT for t in tried]
        liked = [self.per_unit * self.reward.value(self._totals(t)).mean() for t in tried]
        value = np.array(liked) - self.PATH_COST * np.array(walked)
        good = success >= min(self.SUCCESS, success.max())
        best = int(np.argmax(np.where(good, value, -np.inf)))
        self.sb3.restore(choices[best])
        return choices[best]

    def state_dict(self) -> dict[str, Any]:
        return {
            "sb3": self.sb3.state_dict(),
            "pretrained": self.pretrained,
            "past": self.past,
            "late": self.late,
            "weight": self.weight,
            "update": self.update,
            "totals": self.totals,
            "first_total": self.first_total,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.sb3.load_state_dict(state["sb3"])
        self.pretrained, self.past, self.late = state["pretrained"], list(state["past"]), list(state["late"])
        self.weight, self.update = float(state["weight"]), int(state["update"])
        self.totals, self.first_total = state["totals"], state["first_total"]

    def fingerprint(self) -> str:
        return f"cup agent, {self.sb3.fingerprint()}"


def queries(
    pool: pools.Rollouts, c: pools.Candidates, chosen: Sequence[int], index: int, episodes: Episodes
) -> list[Query]:
    """Saves the clips of the chosen pairs and makes queries of them; ids depend on round and position only."""
    used = sorted({int(i) for pair in chosen for i in (c.first[pair], c.second[pair])})
    kept = {}
    for i in used:
        layout = pool.layouts[i]
        kept[i] = Episode(
            f"round-{index:02d}-arm-{i:03d}",
            pool.obs[i],
            pool.act[i],
            {"qpos": pool.qpos[i], "start": layout.start[0], "goal": layout.goal[0], "laptop": layout.laptop[0]},
            terminated=True,
        )
    episodes.save(kept.values())
    return [
        Query(
            f"question-{index:02d}-{j:02d}",
            tuple(cut(kept[int(i)], int(c.start[pair]), int(c.stop[pair])) for i in (c.first[pair], c.second[pair])),
        )
        for j, pair in enumerate(chosen)
    ]


def proposer(agent: CupAgent, reward: Additive, episodes: Episodes) -> Callable[..., list[Query]]:
    """Clips of a round's pool, paired so that the answers say most about the reward."""

    def propose(index: int, k: int, rng: np.random.Generator) -> list[Query]:
        pool, kind = agent.propose(index, rng)
        c = pools.candidates(rng, len(kind))
        x = pools.differences(pool, c)
        chosen = pools.choose_later(reward, x, c, kind, k) if kind.any() else pools.choose_first(reward, x, c, k)
        return queries(pool, c, chosen, index, episodes)

    return propose


def held_out(seed: int, n: int) -> Layouts:
    """Layouts that nothing is trained, asked or chosen on; another stream than any that `CupAgent` draws from."""
    return draw(np.random.default_rng([seed, 7_919]), n)
