"""PPO in chunks, on a small environment whose every number can be computed by hand. SAC: test_sb3_off_policy.py."""

import random

import gymnasium
import numpy as np
import pytest
import scipy.stats
import torch
from gymnasium.vector import AutoresetMode, VectorEnv

from embodied.checkpoint import load, save
from embodied.feedback import Feedback, Segments
from embodied.fit import fit, imitate
from envs.point import PointMass, lqr, quadratic_reward
from policies.sb3 import NotFinite, Sb3, VecAdapter

torch.set_num_threads(1)
LENGTH = 8


class Drift(VectorEnv):
    """Points in the plane moved by the action. Hands out the same arrays at every step, as fast environments do."""

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012

    def __init__(self, n, seed=0, truncate=False):
        self.num_envs, self.truncate, self.rng, self.t = n, truncate, np.random.default_rng(seed), 0
        self.single_observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (3,), np.float32)
        self.single_action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
        self.obs, self.reward = np.zeros((n, 3), np.float32), np.zeros(n)

    def reset(self, *, seed=None, options=None):
        assert seed is None
        self._begin()
        return self.obs, {}

    def _begin(self):
        self.t = 0
        self.obs[:, :2], self.obs[:, 2] = self.rng.uniform(-1, 1, (self.num_envs, 2)), -1

    def step(self, actions):
        self.t += 1
        self.obs[:, :2] += 0.3 * actions
        self.obs[:, 2] = 2 * self.t / LENGTH - 1
        distance = np.linalg.norm(self.obs[:, :2], axis=1)
        self.reward[:] = -distance
        over, never, info = np.full(self.num_envs, self.t == LENGTH), np.zeros(self.num_envs, bool), {}
        if self.t == LENGTH:
            info = {"final_obs": self.obs.copy(), "success": distance < 0.3}
            self._begin()
        ends = (never, over) if self.truncate else (over, never)
        return self.obs, self.reward, *ends, info

    def state_dict(self):
        return {"obs": self.obs.copy(), "t": self.t, "stream": self.rng.bit_generator.state}

    def load_state_dict(self, state):
        self.obs[:], self.t, self.rng.bit_generator.state = state["obs"], state["t"], state["stream"]


def make(n=4, seed=0, env=None, **kwargs):
    settings = {"n_steps": 12, "batch_size": 24, "n_epochs": 2, "learning_rate": 1e-3, **kwargs}
    return Sb3(env or Drift(n, seed), seed=seed, **{"policy_kwargs": {"net_arch": [8]}, **settings})


def same_step(name):
    options = {"autoreset_mode": AutoresetMode.SAME_STEP}
    return gymnasium.make_vec(name, 2, vectorization_mode="sync", vector_kwargs=options)


def flat(tree, path=""):
    """Every leaf of a state by its path, as an array."""
    if isinstance(tree, dict | list | tuple):
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
        return {k: v for name, value in items for k, v in flat(value, f"{path}/{name}").items()}
    return {path: np.asarray(tree)}


def assert_same(one, other):
    one, other = flat(one), flat(other)
    assert one.keys() == other.keys()
    for path, value in one.items():
        np.testing.assert_array_equal(value, other[path], err_msg=path)


def test_advance_in_parts_equals_advance_at_once():
    whole, parts = make(), make()
    whole.advance(3 * 48)
    parts.advance(48)
    parts.advance(96)
    assert_same(whole.state_dict(), parts.state_dict())


def test_a_loaded_agent_of_another_seed_goes_on_bit_for_bit(tmp_path):
    whole = make(log_std_range=(-1, 0.1))
    whole.advance(48)
    save(tmp_path, 48, agent=whole)
    whole.advance(96)
    other = make(seed=9, log_std_range=(-1, 0.1))
    other.advance(48)
    assert load(tmp_path, agent=other) == 48
    assert other.env.env.t == 12 - LENGTH  # in the middle of an episode
    other.advance(96)
    assert_same(whole.state_dict(), other.state_dict())
    np.testing.assert_array_equal(whole.act(np.ones((5, 3)), False), other.act(np.ones((5, 3)), False))


def test_a_state_from_before_the_first_step_carries_the_environments_stream():
    one, other = make(), make(seed=5)
    other.load_state_dict(one.state_dict())
    assert_same(one.advance(48).returns, other.advance(48).returns)


def test_process_wide_streams_are_neither_used_nor_disturbed():
    quiet, disturbed = make(), make()
    for _ in range(2):
        quiet.advance(48)
        quiet.act(np.zeros((2, 3)), deterministic=False)
    for i in range(2):
        torch.manual_seed(i)
        np.random.seed(i)
        random.seed(i)
        expected = torch.rand(3), np.random.rand(3), random.random()
        torch.manual_seed(i)
        np.random.seed(i)
        random.seed(i)
        disturbed.advance(48)
        disturbed.act(np.zeros((2, 3)), deterministic=False)
        assert_same(expected, (torch.rand(3), np.random.rand(3), random.random()))
    assert_same(quiet.state_dict(), disturbed.state_dict())


def test_streams_come_back_when_the_environment_fails():
    agent = make(reward=lambda obs, act, own: own * np.nan)
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    with pytest.raises(NotFinite):
        agent.advance(48)
    assert_same(expected, torch.rand(2))


def test_the_reward_sees_what_happened_and_is_what_ppo_trains_on():
    seen = []

    def reward(obs, act, own):
        seen.append((obs.copy(), act.copy(), own.copy()))
        return 2 * own + act[:, 0]

    agent = make(reward=reward, policy_kwargs={"net_arch": [8], "log_std_init": 1.0})
    rollout = agent.advance(48)
    obs, act, own = (np.stack(part) for part in zip(*seen, strict=True))
    assert np.abs(act).max() == 1.0  # such noise is clipped
    moved = obs[:-1, :, :2] + 0.3 * act[:-1]
    inside = np.arange(11) != LENGTH - 1
    np.testing.assert_allclose(obs[1:, :, :2][inside], moved[inside], atol=1e-6)
    np.testing.assert_allclose(own[:-1], -np.linalg.norm(moved, axis=-1), atol=1e-6)
    given = 2 * own + act[:, :, 0]
    buffer = agent.model.rollout_buffer
    np.testing.assert_array_equal(buffer.observations, _buffer_order(obs, buffer))
    np.testing.assert_allclose(buffer.rewards, given, atol=1e-6)
    np.testing.assert_allclose(rollout.own_returns, own[:LENGTH].sum(0), atol=1e-5)
    np.testing.assert_allclose(rollout.returns, given[:LENGTH].sum(0), atol=1e-5)
    ends = obs[LENGTH - 1, :, :2] + 0.3 * act[LENGTH - 1]
    np.testing.assert_array_equal(rollout.success, np.linalg.norm(ends, axis=1) < 0.3)
    agent.reward_changed(None)
    later = agent.advance(48)
    np.testing.assert_allclose(later.returns[4:], later.own_returns[4:], atol=1e-5)


def _buffer_order(array, buffer):
    """SB3 flattens its buffer to [n * steps, ...], environment by environment, once it has trained."""
    return array.swapaxes(0, 1).reshape(buffer.observations.shape)


def test_only_truncated_episodes_are_bootstrapped():
    for truncate in (False, True):
        env = Drift(4, truncate=truncate)
        adapter = VecAdapter(env)
        adapter.reset()
        for step in range(1, LENGTH + 1):
            obs, _, done, infos = adapter.step(np.zeros((4, 2), np.float32))
            assert done.all() == (step == LENGTH)
        assert [info["TimeLimit.truncated"] for info in infos] == [truncate] * 4
        for info, now in zip(infos, obs, strict=True):
            assert info["terminal_observation"][2] == 1.0
            assert now[2] == -1.0


def test_the_caller_may_change_things_between_rollouts():
    agent, rates, seen = make(), iter([1e-4, 0.0, 1e-5]), []

    def between(rollout):
        seen.append((rollout.steps, rollout.metrics["train/learning_rate"], agent.snapshot()))
        agent.learning_rate = next(rates)

    total = agent.advance(3 * 48, between)
    assert [entry[:2] for entry in seen] == [(48, 1e-3), (48, 1e-4), (48, 0.0)]
    assert_same(seen[1][2], seen[2][2])  # a rate of 0 changes nothing
    assert (total.steps, len(total.success), agent.learning_rate) == (144, 4 * (36 // LENGTH), 1e-5)


def test_log_std_is_clamped_before_a_rollout():
    agent = make(log_std_range=(-0.6, -0.3), policy_kwargs={"net_arch": [8], "log_std_init": 2.0}, learning_rate=0.0)
    agent.advance(48)
    np.testing.assert_allclose(agent.snapshot()["log_std"], -0.3)
    agent.restore({**agent.snapshot(), "log_std": np.full(2, -5, np.float32)})
    agent.advance(48)
    np.testing.assert_allclose(agent.snapshot()["log_std"], -0.6)


def segments(rng, b=3, k=2, t=5):
    obs, act = (torch.from_numpy(rng.normal(size=(b, k, t, size))).float() for size in (3, 2))
    return Segments(obs, act, torch.ones(b, k, t, dtype=torch.bool), torch.full((b, k, t), torch.nan))


def test_log_prob_is_the_gaussian_density_of_the_stored_actions():
    agent, data = make(), segments(np.random.default_rng(0))
    found = agent.policy.log_prob(data)
    mean = agent.mean_action(data.obs.numpy())
    std = np.exp(agent.snapshot()["log_std"])
    expected = scipy.stats.norm.logpdf(data.act.numpy(), mean, std).sum(-1)
    assert found.shape == (3, 2, 5)
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-5)
    found.sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in agent.policy.parameters())


def test_cloning_reaches_the_agent_and_may_leave_the_noise_alone():
    agent, rng = make(policy_kwargs={"net_arch": [16]}), np.random.default_rng(0)
    obs = torch.from_numpy(rng.uniform(-1, 1, (256, 1, 1, 3))).float()
    target = torch.stack([0.5 * obs[..., 0], -0.5 * obs[..., 1]], -1)
    ones = torch.ones(256, dtype=torch.bool)
    data = Segments(obs, target, ones.view(256, 1, 1), torch.full((256, 1, 1), torch.nan))
    shown = Feedback(data, torch.ones(256, 1), torch.ones(256), torch.zeros(256, dtype=torch.int64), ones)
    before = agent.snapshot()["log_std"]
    adam = torch.optim.Adam(agent.policy.mean_parameters(), 0.01)
    fit(imitate(agent.policy), shown, adam, steps=300, batch=64, rng=rng)
    assert np.abs(agent.act(obs.numpy()) - target.numpy()).max() < 0.08
    assert_same(before, agent.snapshot()["log_std"])


def test_snapshots_act_and_come_back():
    agent, obs = make(), np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    old, action = agent.snapshot(), agent.mean_action(obs)
    with torch.no_grad():
        np.testing.assert_allclose(action, agent.module.get_distribution(torch.from_numpy(obs)).mode(), atol=1e-6)
    agent.advance(48)
    assert np.abs(agent.mean_action(obs) - action).max() > 0
    assert_same(agent.mean_action(obs, old), action)
    agent.restore(old)
    assert_same(agent.mean_action(obs), action)
    assert np.abs(agent.act(1e3 * obs)).max() <= 1


def test_comes_near_the_known_optimum_and_never_above_it():
    goal = np.array([0.6, -0.4])
    reward, best = quadratic_reward(goal), lqr(goal)
    env = PointMass(32, seed=0)
    settings = {"n_steps": 40, "batch_size": 320, "n_epochs": 6, "learning_rate": 3e-3, "gamma": 1.0}
    network = {"net_arch": [32, 32], "log_std_init": -1.0}
    agent = make(env=env, reward=lambda obs, act, own: 0.1 * reward(obs, act), policy_kwargs=network, **settings)
    fresh = PointMass(256, seed=1)

    def value():
        obs, total = fresh.reset(seed=1)[0], 0.0
        optimum = best.value(obs)
        for _ in range(20):
            act = agent.act(obs)
            total = total + reward(obs, act)
            obs = fresh.step(act)[0]
        assert (total <= optimum + 1e-6).all()
        return (optimum - total).mean()

    before = value()
    agent.advance(24 * agent.rollout_steps)
    assert value() < 0.05 * before


def test_gymnasiums_own_vector_environments_are_repeatable():
    def run():
        agent = make(env=same_step("Pendulum-v1"), n_steps=250, batch_size=100)
        return agent, agent.advance(500)

    (agent, one), (_, other) = run(), run()
    assert_same(one.returns, other.returns)
    assert len(one.returns) == 2 and np.isnan(one.success).all() and not agent.env.exact


class Broken(Drift):
    """An environment that gives one bad number at its third step."""

    def __init__(self, what):
        super().__init__(4)
        self.what = what

    def step(self, actions):
        result = super().step(actions)
        if self.t == 3:
            result[self.what][2] = np.inf
        return result


@pytest.mark.parametrize(
    ("kwargs", "sentence"),
    [
        ({"env": Broken(0)}, "observation of step 3, environment 2, entry 0 is inf; mend the environment"),
        ({"env": Broken(1)}, "own reward of step 3, environment 2 is inf; mend the environment"),
        (
            {"reward": lambda o, a, r: np.where(np.arange(4) == 1, np.nan, r)},
            "reward of step 1, environment 1 is nan; mend the reward function",
        ),
    ],
)
def test_numbers_that_are_not_finite_are_named(kwargs, sentence):
    with pytest.raises(NotFinite, match=sentence):
        make(**kwargs).advance(48)


def test_a_diverged_policy_is_named():
    agent = make(learning_rate=np.inf)
    with pytest.raises(NotFinite, match="is not finite at step 12: the policy has diverged"):
        agent.advance(48)


def test_a_reward_of_the_wrong_shape_is_named():
    with pytest.raises(ValueError, match=r"reward of step 1 has shape \(4, 1\); return one number for each of the 4"):
        make(reward=lambda o, a, r: r[:, None]).advance(48)


@pytest.mark.parametrize("steps", [0, -48, 47, 49])
def test_steps_that_are_no_whole_rollouts_are_refused(steps):
    with pytest.raises(ValueError, match=rf"steps is {steps}.* multiple of 48 \(12 steps of 4 environments\)"):
        make().advance(steps)


@pytest.mark.parametrize(
    ("kwargs", "sentence"),
    [
        ({"clip_range": lambda _: 0.2}, "clip_range is a schedule"),
        ({"learning_rate": lambda _: 0.2}, "learning_rate is a schedule"),
        ({"use_sde": True}, "use_sde is True"),
        ({"log_std_range": (0.0, -1.0)}, r"log_std_range is \(0.0, -1.0\)"),
        ({"env": gymnasium.make_vec("Pendulum-v1", 2)}, "autoreset_mode is AutoresetMode.NEXT_STEP"),
        ({"env": same_step("FrozenLake-v1")}, r"observation space is Discrete\(16\); wrap it"),
    ],
)
def test_settings_that_would_mislead_are_refused(kwargs, sentence):
    with pytest.raises(ValueError, match=sentence):
        make(**kwargs)


def test_a_checkpoint_of_another_environment_is_refused(tmp_path):
    save(tmp_path, 0, agent=make())
    with pytest.raises(ValueError, match=r"Drift\(4\).*Drift\(2\)"):
        load(tmp_path, agent=make(n=2))
