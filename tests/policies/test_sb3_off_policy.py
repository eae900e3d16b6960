"""SAC in chunks: exact resume with the replay, relabelling, new critics; and frames and discrete actions for PPO."""

import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3 import PPO, SAC, TD3
from stable_baselines3.common.noise import OrnsteinUhlenbeckActionNoise

from embodied.checkpoint import load, save
from envs.state import ExactCopies
from policies.recorder import Recorder
from policies.replay import cut, relabel
from policies.sb3 import Sb3

torch.set_num_threads(1)


class Frames(gymnasium.Env):
    """A bright column of 36 x 40 pixels moves left and right."""

    observation_space = gymnasium.spaces.Box(0, 255, (36, 40, 3), np.uint8)
    action_space = gymnasium.spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at, self.t = 20, 0
        return self._look(), {}

    def step(self, action):
        self.at, self.t = int(np.clip(self.at + action - 1, 0, 39)), self.t + 1
        return self._look(), float(self.at), False, self.t == 7, {}

    def _look(self):
        frame = np.zeros((36, 40, 3), np.uint8)
        frame[:, self.at, 0] = 255
        return frame


def sac(name="Pendulum-v1", copies=1, seed=0, keep=3, algorithm=SAC, **kwargs):
    settings = {
        "learning_starts": 20,
        "batch_size": 16,
        "buffer_size": 150,
        "policy_kwargs": {"net_arch": [8]},
        **kwargs,
    }
    env = ExactCopies(lambda: gymnasium.make(name), copies, seed=seed)
    return Sb3(env, seed=seed, algorithm=algorithm, recorder=Recorder(copies, keep), **settings)


def parts(folder):
    state = max(folder.glob("step-*"))
    return [(state / name).read_bytes() for name in ("arrays.safetensors", "state.json")]


def test_sac_in_a_fresh_process_goes_on_bit_for_bit(tmp_path):
    """Over the first updates, over the end of the replay, and in the middle of an episode of 50 or 200 steps."""
    for name in ("Pendulum-v1", "Reacher-v5"):
        whole, part = sac(name), sac(name)
        whole.advance(230)
        save(tmp_path / f"{name}-whole", 230, agent=whole)
        part.advance(13)
        save(tmp_path / name, 13, agent=part)
    command = [sys.executable, __file__, str(tmp_path), "Pendulum-v1", "Reacher-v5"]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2])
    for name in ("Pendulum-v1", "Reacher-v5"):
        assert parts(tmp_path / f"{name}-whole") == parts(tmp_path / name), name


@pytest.mark.parametrize("algorithm", [SAC, TD3])
def test_advance_in_parts_equals_advance_at_once(tmp_path, algorithm):
    one, other = (sac(copies=2, algorithm=algorithm) for _ in range(2))
    one.advance(60)
    for steps in (10, 22, 28):
        other.advance(steps)
    save(tmp_path / "one", 1, agent=one)
    save(tmp_path / "other", 1, agent=other)
    assert parts(tmp_path / "one") == parts(tmp_path / "other")


def test_the_whole_replay_gets_the_rewards_of_today():
    agent = sac(copies=2, buffer_size=80)
    agent.advance(120)  # each copy keeps its last 40 steps
    buffer = agent.model.replay_buffer
    agent.relabel(lambda obs, act: obs[:, 0] + 10 * act[:, 0])
    expected = buffer.observations[..., 0] + 10 * 2 * buffer.actions[..., 0]  # Pendulum's torque goes to 2
    np.testing.assert_allclose(buffer.rewards, expected, rtol=1e-5)


def test_a_reward_with_a_history_sees_the_steps_of_the_same_episode_only():
    """Episodes of 5 steps; the observation counts the steps of the run, so a window can be read off."""
    from stable_baselines3.common.buffers import ReplayBuffer

    box = gymnasium.spaces.Box(-1, 1e6, (1,))
    buffer = ReplayBuffer(12, box, gymnasium.spaces.Box(-1, 1, (1,)), device="cpu", n_envs=1)
    for t in range(17):
        obs = np.array([[t]], np.float32)
        buffer.add(obs, obs + 1, np.zeros((1, 1)), np.zeros(1), np.array([t % 5 == 4]), [{}])
    seen = {}

    def reward(obs, act, mask):
        for o, m in zip(obs[..., 0], mask, strict=True):
            seen[int(o[-1])] = [int(x) for x in o[m]]
        return obs[:, -1, 0]

    relabel(buffer, reward, np.asarray, history=3)
    assert seen == {t: [s for s in (t - 2, t - 1, t) if s // 5 == t // 5 and s >= 5] for t in range(5, 17)}
    np.testing.assert_array_equal(buffer.rewards, buffer.observations[..., 0])


def test_an_episode_that_was_cut_off_is_told_from_the_next():
    """As after a resume of an environment that begins anew: no window reaches back over it."""
    agent = sac(copies=2)
    agent.advance(24)
    cut(agent.model.replay_buffer)
    agent.advance(6)
    seen = []

    def reward(obs, act, mask):
        seen.append(mask.sum(1))
        return np.zeros(len(obs))

    agent.relabel(reward, history=5)
    for lengths in seen:
        assert lengths[10:].tolist() == [5, 5, 1, 2, 3]
    assert agent.model.replay_buffer.timeouts[11].tolist() == [1, 1]  # its value is bootstrapped


def test_noise_that_remembers_is_refused():
    with pytest.raises(ValueError, match="begin anew with every chunk; give a NormalActionNoise"):
        sac(algorithm=TD3, action_noise=OrnsteinUhlenbeckActionNoise(np.zeros(1), np.ones(1)))


def test_the_recorder_sees_what_the_environment_did():
    agent = sac(copies=2, keep=3)
    agent.advance(900)  # 450 steps of each: four episodes of 200, the last three are kept
    episodes = agent.env.recorder.whole
    assert [t.number for t in episodes] == [1, 2, 3] and all(len(t) == 200 for t in episodes)
    for t in episodes:
        assert not t.terminated and t.obs.shape == (200, 3) and t.act.shape == (200, 1)
        angle, speed, torque = np.arctan2(t.obs[:, 1], t.obs[:, 0]), t.obs[:, 2], t.act[:, 0]
        np.testing.assert_allclose(t.own, -(angle**2 + 0.1 * speed**2 + 0.001 * torque**2), atol=1e-4)
    obs, act, mask = agent.env.recorder.last(60)
    assert obs.shape == (2, 60, 3) and act.shape == (2, 60, 1) and mask.sum(1).tolist() == [50, 50]
    assert not mask[:, :10].any()


def test_new_critics_leave_the_actor_as_it_is():
    agent = sac()
    agent.advance(60)
    before = agent.snapshot()
    agent.reset_critic()
    after = agent.snapshot()
    same = {name: np.array_equal(before[name], after[name]) for name in before}
    assert all(same[name] for name in before if name.startswith("actor."))
    assert not any(same[name] for name in before if name.endswith("weight") and name.startswith("critic"))
    assert all(np.array_equal(after[n], after[n.replace("critic.", "critic_target.")]) for n in after if "critic." in n)
    agent.reset_critic(updates=3)
    assert not np.array_equal(agent.snapshot()["actor.mu.weight"], after["actor.mu.weight"])


@pytest.mark.parametrize("algorithm", [SAC, TD3, PPO])
def test_values_are_those_of_the_reward_it_is_given(algorithm):
    """1 a step for ever, discounted by a half, is worth 2 everywhere."""
    if algorithm is PPO:
        settings = {"n_steps": 64, "batch_size": 64, "n_epochs": 60, "learning_rate": 1e-2, "gamma": 0.5}
    else:
        settings = {"batch_size": 64, "gamma": 0.5, "tau": 0.5, "learning_rate": 1e-2, "learning_starts": 20}
        settings |= {"buffer_size": 500} | ({"ent_coef": 1e-4} if algorithm is SAC else {})
    env = ExactCopies(lambda: gymnasium.make("Pendulum-v1"), 1, seed=0)
    agent = Sb3(env, seed=0, algorithm=algorithm, policy_kwargs={"net_arch": [32]}, **settings)
    agent.reward_changed(lambda obs, act, own: np.ones(len(obs)))
    agent.advance(320)
    buffer = agent.model.rollout_buffer if algorithm is PPO else agent.model.replay_buffer
    value = agent.value(buffer.observations.reshape(-1, 3)[:50])  # where it has been
    assert value.shape == (50,) and np.abs(value - 2).mean() < 0.3


def test_frames_and_discrete_actions(tmp_path):
    def make(seed):
        settings = {"n_steps": 8, "batch_size": 8, "n_epochs": 1}
        network = {"features_extractor_kwargs": {"features_dim": 8}}
        env = ExactCopies(Frames, 2)
        return Sb3(env, seed=seed, policy="CnnPolicy", recorder=Recorder(2, 4), policy_kwargs=network, **settings)

    one, other = make(0), make(1)
    one.advance(32)
    save(tmp_path, 32, agent=one)
    load(tmp_path, agent=other)
    for agent in (one, other):
        agent.advance(32)
    np.testing.assert_array_equal(one.snapshot()["action_net.weight"], other.snapshot()["action_net.weight"])
    frames = one.env.recorder.whole[-1].obs
    assert frames.shape == (7, 36, 40, 3) and frames.dtype == np.uint8
    act = one.act(frames)
    assert act.shape == (7,) and set(act.tolist()) <= {0, 1, 2}
    assert one.model.observation_space.shape == (3, 36, 40)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: sac(log_std_range=(-1.0, 0.0)), "this SAC has no log_std; leave it out"),
        (lambda: sac(train_freq=(1, "episode")).advance(1), "whose chunks have no fixed length"),
        (lambda: sac().mean_action(np.zeros(3)), "is no Gaussian on a tanh network; use act"),
        (
            lambda: Sb3(ExactCopies(lambda: gymnasium.make("Pendulum-v1")), seed=0, algorithm=PPO).relabel(np.sum),
            "PPO keeps no replay; take an off-policy algorithm",
        ),
    ],
)
def test_what_an_agent_cannot_do_is_said(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


if __name__ == "__main__":
    for env in sys.argv[2:]:
        agent = sac(env, seed=9)
        agent.advance(30)  # of another seed: all of it is replaced
        load(Path(sys.argv[1]) / env, agent=agent)
        agent.advance(217)
        save(Path(sys.argv[1]) / env, 230, agent=agent)
