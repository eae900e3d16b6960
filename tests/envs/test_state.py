"""States of Gymnasium's own environments, and of some that cannot be saved or not be used."""

import gymnasium
import numpy as np
import pytest

from envs.state import Copies, ExactCopies, UnfitEnvironment, check, state_of


class Walk(gymnasium.Env):
    """A point on a line. `secret` keeps its position where no attribute shows it; other switches break other things."""

    def __init__(self, secret=False, shared=False, bad=None):
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,))
        self.action_space = gymnasium.spaces.Box(-1, 1, (1,))
        self.secret, self.shared, self.bad = secret, shared, bad
        self.hidden = iter(())
        self.where = np.zeros(1)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.where[:] = self.np_random.normal()
        self.hidden = iter(self.np_random.normal(size=1000))
        return self._told(), {}

    def step(self, action):
        self.where += action + (next(self.hidden) if self.secret else 0)
        reward = {"reward": np.nan, "none": None}.get(self.bad, 0.0)
        return self._told(), reward, False, False, {}

    def _told(self):
        if self.bad == "observation":
            return np.array([np.inf])
        if self.bad == "shape":
            return np.zeros(2)
        return self.where if self.shared else self.where.copy()


NAMES = ["Pendulum-v1", "CartPole-v1", "FrozenLake-v1", "Reacher-v5", "Hopper-v5", "Humanoid-v5"]


@pytest.mark.parametrize("name", NAMES)
def test_gymnasiums_environments_go_on_bit_for_bit(name):
    assert check(lambda: gymnasium.make(name), seed=3).exact


@pytest.mark.parametrize("name", ["CartPole-v1", "Reacher-v5"])
def test_copies_go_on_in_a_fresh_process_of_other_seed(name):
    one, other = (ExactCopies(lambda: gymnasium.make(name), 2) for _ in range(2))
    one.action_space.seed(0)
    one.reset(seed=5)
    for _ in range(30):
        one.step(one.action_space.sample())
    other.load_state_dict(one.state_dict())
    for _ in range(60):  # CartPole ends several times, Reacher once
        action = one.action_space.sample()
        for a, b in zip(one.step(action)[:4], other.step(action)[:4], strict=True):
            np.testing.assert_array_equal(a, b)


def test_what_a_state_lacks_is_found_by_trying():
    found = check(lambda: Walk(secret=True))
    assert not found.exact and any("hidden" in name for name in found.missing)
    assert check(Walk).exact
    assert not hasattr(Copies(Walk), "state_dict")


def test_what_a_new_episode_draws_has_to_be_in_the_state():
    """Episodes of 200 steps: nothing is reset in the steps that are tried, unless it is tried on purpose."""

    class Global(Walk):
        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.where[:] = np.random.normal()
            return self._told(), {}

    class Clock(Walk):
        def __init__(self):
            super().__init__()
            self.clock = 0

        def step(self, action):
            self.clock += 1
            return self._told() + self.clock, 0.0, False, self.clock % 200 == 0, {}

    assert not check(Global).exact
    assert check(Clock).exact


def test_the_last_observation_of_an_episode_outlives_the_next_reset():
    class Short(Walk):
        def step(self, action):
            self.where[:] = 3.0
            return self.where, 0.0, True, False, {}

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.where[:] = 0.0
            return self.where, {}

    copies = Copies(Short)
    copies.reset(seed=0)
    obs, *_, info = copies.step(np.zeros((1, 1)))
    assert obs[0, 0] == 0 and info["final_obs"][0][0] == 3


def test_an_environment_may_say_itself_what_it_carries():
    class Tells(Walk):
        def state_dict(self):
            return {"left": list(self.hidden), "where": self.where.copy()}

        def load_state_dict(self, state):
            self.hidden, self.where = iter(state["left"]), state["where"].copy()

        def step(self, action):
            self.hidden = iter(list(self.hidden))
            return super().step(action)

    tells = Tells(secret=True)
    tells.reset(seed=1)
    [saved] = state_of(tells)
    other = Tells(secret=True)
    other.reset(seed=2)
    other.load_state_dict(saved)
    tells.load_state_dict(saved)
    np.testing.assert_array_equal(tells.step([0.5])[0], other.step([0.5])[0])


def test_a_mutated_observation_is_told():
    [warning] = check(lambda: Walk(shared=True)).warnings
    assert "changes an observation after it has handed it out" in warning
    assert not check(Walk).warnings


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        ("reward", "reward is nan; mend it"),
        ("none", "reward is None; mend it"),
        ("observation", r"observation \(0,\) of the environment is inf; mend"),
        ("shape", r"the observation has shape \(2,\), its space \(1,\)"),
    ],
)
def test_an_environment_that_cannot_be_used_is_named(bad, sentence):
    with pytest.raises(UnfitEnvironment, match=sentence):
        check(lambda: Walk(bad=bad))
