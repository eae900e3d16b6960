"""The loop on a small agent that climbs its learned reward: exact resume from a fault anywhere, late answers."""

import numpy as np
import pytest

from embodied.episodes import Episode, Episodes, cut
from embodied.loop import Round, preference_loop
from embodied.queries import information_gain
from embodied.records import Answer, Compare, Query, Skip
from embodied.rewards.additive import Additive, Features, Prior
from embodied.store import Store
from embodied.teachers import answer, noisy

GOAL = np.array([1.0, -2.0])
ROUNDS = [Round(6, 10), Round(4, 10), Round(0, 5), Round(4, 10)]
FEATURES = Features(
    lambda obs, act: np.concatenate([obs, obs**2, act], -1), {"place": slice(0, 4), "effort": slice(4, 5)}
)
PRIOR = Prior(lambda s: np.eye(5) * s["sd"] ** 2, grid={"sd": (0.5, 1.0, 2.0)}, default={"sd": 1.0})


class Climber:
    """Stands at `place` and steps uphill on the reward, with a random stream of its own."""

    def __init__(self, seed=0):
        self.rng, self.place, self.reward = np.random.default_rng(seed), np.zeros(2), None

    def advance(self, steps):
        for _ in range(steps):
            around = self.place + 0.1 * self.rng.normal(size=(16, 2))
            if self.reward is not None:
                self.place = around[np.argmax(self.reward.reward(around, np.zeros((16, 1))))]
        return {"distance": float(np.linalg.norm(self.place - GOAL))}

    def reward_changed(self, reward, fresh=True):
        self.reward = reward

    def state_dict(self):
        return {"place": self.place, "rng": self.rng.bit_generator.state}

    def load_state_dict(self, state):
        self.place, self.rng.bit_generator.state = np.array(state["place"]), state["rng"]


def utility(segment):
    return float(-((segment.obs - GOAL) ** 2).sum())


def proposer(agent, reward, episodes):
    """Pairs of short walks around the agent, the most informative of 30."""

    def propose(index, k, rng):
        walks = [
            Episode(f"walk-{index}-{i}", agent.place + rng.normal(size=(8, 2)), np.zeros((8, 1))) for i in range(60)
        ]
        segments = [cut(walk, 0, 8) for walk in walks]
        totals = np.array([FEATURES.step(s.obs, s.act).sum(0) for s in segments])
        draws = rng.multivariate_normal(reward.posterior.mean, reward.posterior.cov, 16)
        chosen = information_gain(draws @ (totals[::2] - totals[1::2]).T, k, rng)
        episodes.save(walks[2 * i + side] for i in chosen for side in (0, 1))
        return [Query(f"q-{index}-{n}", (segments[2 * i], segments[2 * i + 1])) for n, i in enumerate(chosen)]

    return propose


def teach(store):
    teacher = noisy(utility, seed=5, temperature=1.0, lapse=0.05)

    def ask(batch):
        for query in batch:
            store.add_answers([answer(teacher, query, "teacher")])

    return ask


class Stop(Exception):
    pass


def run(folder, asking=teach, fault=None, checkpoints="checkpoints"):
    """Everything that the loop leaves, from a fresh process's point of view. `fault(where)` may raise."""
    episodes = Episodes(folder / "episodes")
    with Store(folder / "answers.sqlite", episodes) as store:
        agent, reward, rng = Climber(), Additive(FEATURES, PRIOR), np.random.default_rng(9)
        ask, propose, advance = asking(store), proposer(agent, reward, episodes), agent.advance

        def faulty(where, call):
            def wrapped(*args):
                if fault:
                    fault(f"before {where}")
                result = call(*args)
                if fault:
                    fault(f"after {where}")
                return result

            return wrapped

        agent.advance = faulty("advance", advance)
        reports = list(
            preference_loop(
                agent,
                reward,
                rounds=ROUNDS,
                propose=faulty("propose", propose),
                ask=faulty("ask", ask),
                store=store,
                folder=folder / checkpoints,
                rng=rng,
            )
        )
        log = [(a.seq, a.query, a.value) for a in store.answers()]
        cursors = [store.cursor("loop", i) for i in range(len(ROUNDS))]
        state = (agent.place.tobytes(), reward.posterior.mean.tobytes(), reward.posterior.cov.tobytes(), rng.random())
        return state, log, cursors, reports


def test_it_learns_where_the_person_wants_it(tmp_path):
    _, log, _, reports = run(tmp_path)
    assert [r.budget.asked for r in reports] == [6, 10, 10, 14] and len(log) == 14
    assert reports[-1].metrics["distance"] < 1.1 < np.linalg.norm(GOAL) / 2


@pytest.mark.parametrize("where", ["before ask", "after ask", "before advance", "after advance", "after propose"])
def test_a_fault_anywhere_in_any_round_changes_nothing(tmp_path, where):
    expected = run(tmp_path / "whole")
    for index in range(3):
        seen = []

        def fault(here, index=index, seen=seen):
            seen.append(here)
            if seen.count(where) == index + 1:
                raise Stop

        folder = tmp_path / f"stopped-{index}"
        with pytest.raises(Stop):
            run(folder, fault=fault)
        state, log, cursors, _ = run(folder)
        assert (state, log, cursors) == expected[:3]


def test_a_fault_between_two_answers_asks_neither_twice(tmp_path):
    expected = run(tmp_path / "whole")
    asked = []

    def interrupted(store):
        teacher = noisy(utility, seed=5, temperature=1.0, lapse=0.05)

        def ask(batch):
            for n, query in enumerate(batch):
                if n == 3:
                    raise Stop
                asked.append(query.id)
                store.add_answers([answer(teacher, query, "teacher")])

        return ask

    for _ in range(3):
        with pytest.raises(Stop):
            run(tmp_path / "stopped", asking=interrupted)
    assert len(asked) == len(set(asked)) == 13
    assert run(tmp_path / "stopped")[:3] == expected[:3]


def late(store):
    """Answers a round later; the last batch stays open."""
    teacher, waiting = noisy(utility, seed=5), []

    def ask(batch):
        store.add_answers([answer(teacher, query, "slow") for query in waiting])
        waiting[:] = batch

    return ask


def test_late_answers_never_stop_it_and_the_run_can_be_replayed_from_its_logs(tmp_path):
    state, log, cursors, reports = run(tmp_path, asking=late)
    assert cursors == [0, 6, 6, 10] and [r.budget.answered for r in reports] == [0, 6, 6, 10]

    # All answers are there from the start, and the cursor log still gives each round what it had.
    assert run(tmp_path, asking=nobody_yet, checkpoints="replay")[:3] == (state, log, cursors)


def test_a_fault_while_nobody_has_answered_changes_nothing(tmp_path):
    expected = run(tmp_path / "whole", asking=nobody_yet)
    for index in range(3):
        seen = []

        def fault(here, index=index, seen=seen):
            seen.append(here)
            if seen.count("before advance") == index + 2:  # the rounds before it are saved
                raise Stop

        folder = tmp_path / f"stopped-{index}"
        with pytest.raises(Stop):
            run(folder, asking=nobody_yet, fault=fault)
        assert run(folder, asking=nobody_yet)[:3] == expected[:3]


def nobody_yet(store):
    return lambda batch: None


def test_a_revision_counts_from_the_round_that_reads_it(tmp_path):
    def second_thoughts(store):
        ask_first = teach(store)

        def ask(batch):
            ask_first(batch)
            for old in [a for a in store.answers() if a.query == "q-0-0" and not a.supersedes][:1]:
                new = Compare(1 - old.value.first)
                store.add_answers([Answer("changed", old.query, old.annotator, "teacher", new, supersedes=old.id)])

        return ask

    _, _, _, reports = run(tmp_path, asking=second_thoughts)
    assert [r.budget.revised for r in reports] == [1] * 4 and reports[-1].budget.answered == 14


def test_all_skipped_trains_on_nothing_and_says_so(tmp_path):
    def shrug(store):
        return lambda batch: store.add_answers([Answer(f"a-{q.id}", q.id, "me", "person", Skip()) for q in batch])

    _, _, _, reports = run(tmp_path, asking=shrug)
    assert reports[-1].budget.skipped == 14 and reports[-1].budget.answered == 0
    assert "evidence" not in reports[-1].metrics
