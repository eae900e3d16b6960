"""Preference-based RL on a point mass whose optimum is known: the row that everything else stands on.

A simulated person likes a goal and little effort. A few answers about short stretches of the agent's own behaviour
teach an ensemble of reward networks, PPO follows it, and what comes out is held against the exact optimum (LQR) of the
person's reward. The method is that of Christiano et al. (2017, arXiv 1706.03741) with information gain for the choice
of questions; the person steers neither the learner nor what is asked. Controls: the true reward reaches the optimum,
and answers that are turned round or tossed miss it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from matplotlib.figure import Figure

from embodied.episodes import Episode, Episodes, cut
from embodied.loop import Round, preference_loop
from embodied.queries import Select, disagreement, information_gain, uniform
from embodied.records import Answer, Array, Compare, Query, Segment
from embodied.rewards.advantage import RIVALS, AdvantageEnsemble
from embodied.rewards.ensemble import RewardEnsemble
from embodied.store import Store
from embodied.teachers import answer, noisy
from envs.point import HORIZON, A, B, PointMass, lqr, quadratic_reward
from policies.sb3 import Sb3
from rapport.reproduce import Comparison, Mechanism, Progress

DOMAINS = ("point",)
By = Literal["return", "regret"]
Answers = Literal["given", "turned round", "tossed", "none: the true reward"]
TRUE: Answers = "none: the true reward"

POINTS, CLIP, CANDIDATES = 64, 6, 100
# Ten times five questions before the policy moves, then five between every two rollouts, to the end.
ROUNDS: tuple[Round, ...] = (Round(5, 0),) * 10 + (Round(5, 2 * POINTS * HORIZON),) * 30
ANSWERS = sum(r.questions for r in ROUNDS)
TEMPERATURE, LAPSE = 0.3, 0.05  # of the person, in units of the true return of a clip
GOALS = 2  # persons per seed who are listened to; the figure is their mean


@dataclass(frozen=True)
class Outcome:
    """`curve` of (answers, scaled return) per round; `miss` the mean distance in m between where episodes end and where
    the optimum ends. Scaled return: 0 is doing nothing, 1 the optimum, under the true reward."""

    curve: tuple[tuple[int, float], ...]
    miss: float

    @property
    def scaled(self) -> float:
        return self.curve[-1][1]


class PointAgent:
    """PPO on the point mass, and rollouts of its own noisy behaviour to ask about."""

    def __init__(self, seed: int) -> None:
        self.pool = PointMass(POINTS, seed=seed + 1)
        self.sb3 = Sb3(
            PointMass(POINTS, seed=seed),
            seed=seed,
            learning_rate=1e-3,
            log_std_range=(-1.5, 0.0),
            n_steps=HORIZON,
            batch_size=320,
            n_epochs=6,
            gamma=1.0,
            gae_lambda=0.95,
            policy_kwargs=dict(
                net_arch=dict(pi=[32, 32], vf=[64, 64]),
                activation_fn=torch.nn.Tanh,
                log_std_init=-1.5,
                ortho_init=True,  # begins by doing next to nothing
            ),
        )

    def roll_out(self) -> tuple[Array, Array]:
        """obs [N, T, 5], act [N, T, 2]."""
        obs, _ = self.pool.reset()
        seen, done = [], []
        for _ in range(HORIZON):
            act = self.sb3.act(obs, deterministic=False)
            seen.append(obs)
            done.append(act)
            obs, *_ = self.pool.step(act)
        return np.stack(seen, 1), np.stack(done, 1)

    def advance(self, steps: int) -> dict[str, float]:
        if steps:
            self.sb3.advance(steps)
        return {}

    def reward_changed(self, reward: Any, fresh: bool = True) -> None:
        self.sb3.reward_changed(lambda obs, act, own: reward.reward(obs, act))

    def state_dict(self) -> dict[str, Any]:
        return {"sb3": self.sb3.state_dict(), "pool": self.pool.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.sb3.load_state_dict(state["sb3"])
        self.pool.load_state_dict(state["pool"])


def judge(act: Callable[[Array], Array], goal: Array, n: int = 1000) -> tuple[float, Array]:
    """Mean true return of a policy from n fixed starts, and the final positions [n, 2]."""
    starts = np.random.default_rng(77).uniform(-1, 1, (n, 4)) * [1, 1, 0.2, 0.2]
    env = PointMass(n, seed=0)
    obs, _ = env.reset(options={"state": starts})
    reward, total = quadratic_reward(goal), np.zeros(n)
    info: dict[str, Any] = {}
    for _ in range(HORIZON):
        action = np.clip(act(obs), -1, 1)
        total += reward(obs, action)
        obs, _, _, _, info = env.step(action)
    return float(total.mean()), info["final_obs"][:, :2]


def scaled_return(act: Callable[[Array], Array], goal: Array) -> tuple[float, float]:
    """Scaled true return, and the mean distance in m from where the optimum ends."""
    nothing, _ = judge(lambda obs: np.zeros((len(obs), 2)), goal)
    best, ends = judge(lqr(goal).act, goal)
    found, where = judge(act, goal)
    return (found - nothing) / (best - nothing), float(np.linalg.norm(where - ends, axis=1).mean())


def run(
    seed: int,
    answers: Answers,
    select: Select = information_gain,
    tick: Callable[[], object] = int,
    rounds: Sequence[Round] = ROUNDS,
    judged_by: By = "return",
    by: By = "return",
) -> Outcome:
    """One person, one agent, one budget. judged_by: what the person compares; by: what the learner takes it to be."""
    goal = np.random.default_rng([seed, 1]).uniform(-0.8, 0.8, 2)
    true = quadratic_reward(goal)
    agent = PointAgent(seed)
    settings: dict[str, Any] = {"members": 5, "hidden": (128,), "seed": seed, "steps": 30}
    rivals = np.random.default_rng([seed, 3]).uniform(-1, 1, (RIVALS, 2))
    reward = RewardEnsemble(5, 2, **settings) if by == "return" else AdvantageEnsemble(5, 2, rivals, **settings)
    person = noisy(
        (lambda clip: float(true(clip.obs, clip.act).sum())) if judged_by == "return" else minus_regret(goal),
        seed=seed,
        temperature=TEMPERATURE,
        lapse=1.0 if answers == "tossed" else LAPSE,
    )
    curve, miss = [], np.nan
    if answers == TRUE:
        agent.sb3.reward_changed(lambda obs, act, own: 0.1 * true(obs, act))
        rounds = [Round(0, r.steps) for r in rounds]
    with tempfile.TemporaryDirectory() as scratch:
        episodes = Episodes(Path(scratch) / "episodes")
        with Store(Path(scratch) / "answers.sqlite", episodes) as store:

            def ask(batch: Any) -> None:
                given = [answer(person, query, "person") for query in batch]
                store.add_answers([turned_round(a) if answers == "turned round" else a for a in given])

            reports = preference_loop(
                agent,
                reward,
                rounds=rounds,
                propose=proposer(agent, reward, episodes, select),
                ask=ask,
                store=store,
                folder=Path(scratch) / "checkpoints",
                rng=np.random.default_rng([seed, 2]),
            )
            for report in reports:
                if report.round == len(rounds) - 2:
                    agent.sb3.learning_rate = 3e-4
                if report.round % 4 == 3 or report.round == len(rounds) - 1:
                    found, miss = scaled_return(agent.sb3.act, goal)
                    curve.append((report.budget.answered, found))
                tick()
    return Outcome(tuple(curve), miss)


def minus_regret(goal: Array) -> Callable[[Segment], float]:
    """What a clip was worth and left to be had, less what was to be had when it began: exact."""
    true, best = quadratic_reward(goal), lqr(goal)

    def utility(clip: Segment) -> float:
        state = clip.obs[-1, :4] @ A.T + np.clip(clip.act[-1], -1, 1) @ B.T
        after = np.append(state, clip.obs[-1, 4] + 2 / HORIZON)
        began, left = best.value(np.stack([clip.obs[0], after]))
        return float(true(clip.obs, clip.act).sum() + left - began)

    return utility


def turned_round(given: Answer) -> Answer:
    assert isinstance(given.value, Compare)
    return replace(given, value=Compare(1 - given.value.first))


def proposer(
    agent: PointAgent, reward: RewardEnsemble, episodes: Episodes, select: Select
) -> Callable[..., list[Query]]:
    """Random pairs of random stretches of fresh rollouts, chosen from by `select`."""

    def propose(index: int, k: int, rng: np.random.Generator) -> list[Query]:
        obs, act = agent.roll_out()
        if reward.anchors is None:
            reward.anchor(obs.reshape(-1, 5), act.reshape(-1, 2))
        pair = np.stack([rng.choice(len(obs), 2, replace=False) for _ in range(CANDIDATES)])
        start = rng.integers(0, HORIZON - CLIP + 1, (CANDIDATES, 2))
        with torch.no_grad():
            steps = reward(*(torch.as_tensor(x, dtype=torch.float32) for x in (obs, act))).numpy()
        total = np.concatenate([np.zeros_like(steps[..., :1]), steps.cumsum(-1)], -1)
        value = total[:, pair, start + CLIP] - total[:, pair, start]
        chosen = select((value[..., 0] - value[..., 1]).astype(np.float64), k, rng)
        kept = {int(i): Episode(f"round-{index}-{i}", obs[i], act[i]) for i in np.unique(pair[chosen])}
        episodes.save(kept.values())
        return [
            Query(
                f"question-{index}-{n}",
                tuple(cut(kept[int(pair[c, s])], int(start[c, s]), int(start[c, s]) + CLIP) for s in (0, 1)),
            )
            for n, c in enumerate(chosen)
        ]

    return propose


def arm(seed: int, answers: Answers, goals: int, select: Select, tick: Callable[[], object]) -> list[Outcome]:
    return [run(100 * seed + i, answers, select, tick) for i in range(goals)]


def floored(outcomes: list[Outcome]) -> float:
    """Mean scaled return, each not below 0: how far one misses is no measure of anything."""
    return float(np.mean([max(o.scaled, 0.0) for o in outcomes]))


def reproduce(
    domain: str, seed: int, full: bool, progress: Progress, out: Path
) -> tuple[list[Mechanism], list[Comparison]]:
    """About a CPU-minute; with `full` also the other ways to choose questions."""
    plan: dict[Answers, int] = {"given": GOALS, "tossed": 1, "turned round": 1, TRUE: 1}
    others = {"uniform": uniform, "disagreement": disagreement} if full else {}
    total, done = (sum(plan.values()) + GOALS * len(others)) * len(ROUNDS), 0

    def tick() -> None:
        nonlocal done
        done += 1
        progress(done / total)

    found = {answers: arm(seed, answers, goals, information_gain, tick) for answers, goals in plan.items()}
    chosen = {name: arm(seed, "given", GOALS, select, tick) for name, select in others.items()}
    draw(
        out / "curves.png",
        {**{f"answers {k}": v for k, v in found.items()}, **{f"{k} questions": v for k, v in chosen.items()}},
    )
    miss = float(np.mean([o.miss for o in found["given"]]))
    # Last, the mean and sd of the development seeds 1000 to 1009.
    mechanism = [
        Mechanism(f"scaled true return, {ANSWERS} answers", floored(found["given"]), 0.75, "at least", (0.962, 0.013)),
        Mechanism("m from where the optimum ends", miss, 1.2, "at most", (0.28, 0.12)),
        Mechanism("scaled true return, the true reward", floored(found[TRUE]), 0.95, "at least", (0.994, 0.0025)),
        Mechanism(
            "scaled true return, answers turned round", floored(found["turned round"]), 0.3, "at most", (0.0, 0.0)
        ),
        Mechanism("scaled true return, answers tossed", floored(found["tossed"]), 0.3, "at most", (0.0, 0.0)),
    ]
    comparisons = [
        Comparison(
            f"scaled return, questions by {name} less uniform ones",
            tuple(a.scaled - b.scaled for a, b in zip(outcomes, chosen["uniform"], strict=True)),
            "Christiano et al. 2017, 2.2.4: choosing by disagreement impairs performance in some tasks; no figure",
            (np.nan, np.nan),  # no range is claimed, so the verdict stays open
        )
        for name, outcomes in {"information gain": found["given"], **chosen}.items()
        if full and name != "uniform"
    ]
    return mechanism, comparisons


def draw(path: Path, arms: Mapping[str, list[Outcome]]) -> None:
    """True scaled return against answers, one line per person."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for colour, (name, outcomes) in enumerate(arms.items()):
        for i, outcome in enumerate(outcomes):
            # The true reward takes no answers: its curve is drawn against the rounds, on the same axis.
            x = np.linspace(0, ANSWERS, len(outcome.curve) + 1)[1:]
            y = np.clip([value for _, value in outcome.curve], -0.5, 1)
            axes.plot(x, y, color=f"C{colour}", label=name if i == 0 else None, linewidth=1.6)
    axes.axhline(1, color="0.6", linewidth=0.8)
    axes.set(xlabel="answers", ylabel="scaled true return (1 = the known optimum)", ylim=(-0.55, 1.08))
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=140)
