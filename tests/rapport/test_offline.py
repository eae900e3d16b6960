"""Learning from a folder alone: stopped and gone on with it is the same; what cannot be learned from is told."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from embodied import AdvantageEnsemble, RewardEnsemble
from embodied.episodes import Episode, cut
from embodied.records import Answer, Compare, Query, Skip
from rapport.data_folder import open_folder
from rapport.offline import Settings, load_policy, offline
from rapport.run import RunError

TINY = Settings(seed=1, steps=40, chunk=10, hidden=(8,), batch=16, reward_hidden=(8,), reward_steps=20)
ROOT = Path(__file__).parents[2]


def make(folder: Path, n: int = 6, value: Compare | Skip | None = None, scale: float = 1.0) -> Path:
    """Episodes of which the later move further; whoever answers likes far."""
    draw = np.random.default_rng(0)
    episodes = []
    for i in range(n):
        obs, act = draw.normal(i, 1, (12, 2)), scale * draw.uniform(-1, 1, (12, 1))
        episodes.append(Episode(f"e{i}", obs, act, {"reward": obs.sum(1)}, terminated=True))
    with open_folder(folder, make=True) as store:
        store.episodes.save(episodes)
        for i in range(n - 1):
            store.add_queries([Query(f"q{i}", (cut(episodes[i], 0, 6), cut(episodes[i + 1], 0, 6)))])
            store.add_answers([Answer(f"a{i}", f"q{i}", "ann", "person", value or Compare(0.0))])
    return folder


def test_stopped_and_started_again_it_ends_the_same(tmp_path: Path) -> None:
    data = make(tmp_path / "data")
    whole = offline(data, tmp_path / "whole", TINY)

    class Stop(Exception): ...

    def stop(done: int) -> None:
        if done == 20:
            raise Stop

    with pytest.raises(Stop):
        offline(data, tmp_path / "part", TINY, progress=stop)
    seen: list[int] = []
    part = offline(data, tmp_path / "part", TINY, progress=seen.append)
    assert seen == [30, 40]
    assert part.result == whole.result
    obs = np.random.default_rng(1).normal(size=(50, 2))
    assert np.array_equal(part.policy.act(obs), whole.policy.act(obs))
    assert np.array_equal(load_policy(tmp_path / "part").act(obs), whole.policy.act(obs))
    for name in ("losses.json", "reward.json", "result.json"):
        assert (tmp_path / "part" / name).read_text() == (tmp_path / "whole" / name).read_text()


def test_of_regret_an_advantage_is_learned(tmp_path: Path) -> None:
    data = make(tmp_path / "data")
    learned = offline(data, tmp_path / "regret", replace(TINY, preference="regret"))
    assert isinstance(learned.reward, AdvantageEnsemble) and (learned.reward.rivals.abs() <= 1).all()
    assert np.array_equal(load_policy(tmp_path / "regret").act(np.ones((2, 2))), learned.policy.act(np.ones((2, 2))))
    with pytest.raises(ValueError, match="RewardEnsemble says itself what it pays"):
        offline(data, tmp_path / "own", replace(TINY, preference="regret"), reward=RewardEnsemble(2, 1))


def test_the_reward_follows_the_answers_and_the_recorded_one_is_only_compared(tmp_path: Path) -> None:
    result = offline(make(tmp_path / "data"), tmp_path / "out", replace(TINY, reward_steps=100)).result
    assert result["reward"]["agreement"] == 1
    assert result["reward"]["rank_correlation_with_recorded"] == pytest.approx(1)
    assert result["data"]["budget"]["answered"] == 5
    assert "all 5 answers are the same (compare 0.0)" in result["data"]["warnings"][0]
    assert json.loads((tmp_path / "out" / "result.json").read_text()).keys() == result.keys()


def test_a_reward_of_ones_own_is_fitted_paid_by_and_saved(tmp_path: Path) -> None:
    class Own:
        """Likes the first observation; learns only which way."""

        sign = 0.0

        def fit(self, feedback, rng):  # type: ignore[no-untyped-def]
            better = feedback.segments.obs[..., 0].mean(-1)
            self.sign = float(((feedback.target - 0.5) * better).sum().sign())
            return {"sign": self.sign}

        def reward(self, obs, act):  # type: ignore[no-untyped-def]
            return self.sign * obs[:, 0]

        def state_dict(self):  # type: ignore[no-untyped-def]
            return {"sign": self.sign}

        def load_state_dict(self, state):  # type: ignore[no-untyped-def]
            self.sign = state["sign"]

    data = make(tmp_path / "data")
    first = offline(data, tmp_path / "out", TINY, reward=Own())
    assert first.result["reward"]["sign"] == 1
    again = Own()
    offline(data, tmp_path / "out", TINY, reward=again)
    assert again.sign == 1  # loaded, not fitted
    with pytest.raises(RunError, match="reward is 'Own' there"):
        offline(data, tmp_path / "out", TINY)


def test_other_settings_or_other_data_are_not_mixed(tmp_path: Path) -> None:
    data = make(tmp_path / "data")
    offline(data, tmp_path / "out", TINY)
    with pytest.raises(RunError, match="seed is 1 there and 2 here"):
        offline(data, tmp_path / "out", replace(TINY, seed=2))
    with open_folder(data) as store:
        store.add_answers([Answer("more", "q0", "bob", "person", Compare(1.0))])
    with pytest.raises(RunError, match=r"data is '.*choose another folder with --out"):
        offline(data, tmp_path / "out", TINY)


def test_what_cannot_be_learned_from_is_told_and_leaves_no_run(tmp_path: Path) -> None:
    with open_folder(tmp_path / "empty", make=True) as store:
        store.episodes.save([Episode("e", np.zeros((3, 2)), np.zeros((3, 1)))])
    for folder, said in (
        (tmp_path / "empty", "holds 1 episodes and 0 answers: there is nothing to learn a reward from"),
        (make(tmp_path / "skips", value=Skip()), "All 5 answers in .* are skips"),
        (make(tmp_path / "wide", scale=3.0), r"outside \[-1.0, 1.0\]: set the bounds \(--bounds LOW HIGH\)"),
        (tmp_path / "gone", "is no data folder"),
    ):
        with pytest.raises(ValueError, match=said):
            offline(folder, tmp_path / "out", TINY)
    mixed = make(tmp_path / "mixed")
    with open_folder(mixed) as store:
        store.episodes.save([Episode("other", np.zeros((3, 9)), np.zeros((3, 1)))])
    with pytest.raises(ValueError, match=r"episode 'other' has observations \(9,\) and actions \(1,\), of 'e0' \(2,\)"):
        offline(mixed, tmp_path / "out", TINY)
    with pytest.raises(ValueError, match="at least one step in all"):
        Settings(steps=0)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_killed_at_any_instant_it_ends_the_same(tmp_path: Path) -> None:
    data = make(tmp_path / "data")
    settings = replace(TINY, steps=1500, chunk=50)
    whole = offline(data, tmp_path / "whole", settings)
    code = (
        "import sys; from pathlib import Path; from rapport.offline import Settings, offline; "
        f"offline(Path(sys.argv[1]), Path(sys.argv[2]), Settings(**{asdict(settings)!r}))"
    )
    command = [sys.executable, "-c", code, str(data), str(tmp_path / "part")]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    for wanted in (2, 11):
        running = subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL)
        losses = tmp_path / "part" / "losses.json"
        while running.poll() is None and not (losses.exists() and len(json.loads(losses.read_text())) >= wanted):
            time.sleep(0.01)
        assert running.poll() is None, "it ended before it could be killed"
        running.send_signal(signal.SIGKILL)
        running.wait()
    subprocess.run(command, env=env, check=True, stderr=subprocess.DEVNULL)
    for name in ("losses.json", "reward.json", "result.json"):
        assert (tmp_path / "part" / name).read_text() == (tmp_path / "whole" / name).read_text()
    obs = np.random.default_rng(1).normal(size=(50, 2))
    assert np.array_equal(load_policy(tmp_path / "part").act(obs), whole.policy.act(obs))
