"""Training runs on small environments: exact resume of every method, the budget, the warnings, bad input."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch
from stable_baselines3 import TD3

from embodied.episodes import Episodes
from embodied.rewards.ensemble import RewardEnsemble
from embodied.store import Store
from policies.sb3 import NotFinite
from rapport.run import RunError
from rapport.train import METHODS, Settings, train
from rapport.train.learner import returns
from rapport.train.questions import groups, segments
from rapport.train.report import write_report
from rapport.train.spaces import world

OWN = str(Path(__file__).with_name("worlds.py"))
SCHEDULES = ("constant", "decaying", "growing")
SMALL = {"batch_size": 8, "learning_starts": 12, "policy_kwargs": {"net_arch": [8]}}


def settings(name="Line", method="pebble", **kwargs):
    values = {"answers": 6, "steps": 96, "sessions": 2, "clip": 6, "episodes": 2, "horizon": 12, "seed": 3, **kwargs}
    return Settings(env=f"{OWN}:{name}", method=METHODS[method](), **values)


class Stop(Exception):
    pass


def stop_at(index):
    def told(row):
        if row["round"] == index:
            raise Stop

    return told


def files(folder):
    newest = max((folder / "checkpoints").glob("step-*"))
    return [(newest / name).read_bytes() for name in ("arrays.safetensors", "state.json")]


@pytest.mark.parametrize("method", METHODS)
def test_a_stopped_run_goes_on_bit_for_bit(tmp_path, method):
    whole = train(settings(method=method), tmp_path / "whole", kwargs=SMALL)
    for index in (0, 1, 2):
        with pytest.raises(Stop):
            train(settings(method=method), tmp_path / "part", told=stop_at(index), kwargs=SMALL)
    part = train(settings(method=method), tmp_path / "part", kwargs=SMALL)
    assert files(tmp_path / "whole") == files(tmp_path / "part")
    assert [r["returns"] for r in whole.rows] == [r["returns"] for r in part.rows]
    assert whole.result["budget"] == part.result["budget"]
    asked = 0 if method == "true" else 6
    assert whole.result["budget"]["asked"] == asked and len(whole.rows) == 4


def test_choices_frames_and_dicts_are_trained_on_by_ppo(tmp_path):
    kwargs = {"n_steps": 24, "batch_size": 12, "n_epochs": 1}
    for name in ("Mixed", "Frames"):
        trained = train(settings(name), tmp_path / name, kwargs=kwargs)
        assert trained.result["budget"]["answered"] == 6 and len(trained.result["returns_after"]) == 2


def test_the_learned_reward_is_what_the_agent_is_given(tmp_path):
    trained = train(settings(), tmp_path, kwargs=SMALL)
    buffer = trained.actor.sb3.model.replay_buffer
    obs, act = buffer.observations[: buffer.size(), 0], buffer.actions[: buffer.size(), 0]
    np.testing.assert_allclose(buffer.rewards[:60, 0], trained.reward.reward(obs, act)[:60], atol=1e-5)


def test_without_relabelling_old_steps_keep_their_rewards(tmp_path):
    trained = train(settings(method="ensemble"), tmp_path, kwargs=SMALL)
    buffer, first = trained.actor.sb3.model.replay_buffer, settings().rounds(1, 12)
    last, size = first[-1].steps, 96
    obs, act = buffer.observations[:size, 0], buffer.actions[:size, 0]
    apart = np.abs(buffer.rewards[:size, 0] - trained.reward.reward(obs, act))
    assert apart[-last:].max() < 1e-5 and apart[:-last].max() > 1e-2


@pytest.mark.parametrize("method", ["ensemble", "pebble"])
def test_the_agent_never_sees_the_environments_own_reward(tmp_path, method):
    """Before the first answer too: what it is given then is nothing, or how new a state is."""
    with pytest.raises(Stop):
        train(settings(method=method), tmp_path, told=stop_at(1), kwargs=SMALL)
    arrays = safetensors.numpy.load((tmp_path / "checkpoints" / "step-00000001" / "arrays.safetensors").read_bytes())
    given, seen = (arrays[f"agent['sb3']['replay']['{name}']"] for name in ("rewards", "next_observations"))
    own = -np.abs(seen[:, 0, 0])
    assert given.shape == (24, 1) and np.abs(given[:, 0] - own).min() > 1e-3
    assert given.any() == (method == "pebble")


@pytest.mark.parametrize(
    "select", ["disagreement", "k-centre", "disagreement+k-centre", "information+dpp", "information+medoids"]
)
def test_killed_inside_a_round_of_questions_it_goes_on(tmp_path, select):
    """The questions of that round are in the store already, and must not change how they are chosen."""
    own = replace(settings(), method=replace(METHODS["pebble"](), select=select))
    whole = train(own, tmp_path / "whole", kwargs=SMALL)

    def killed(n):
        raise Stop

    with pytest.raises(Stop):
        train(own, tmp_path / "part", told=stop_at(1), kwargs=SMALL)
    for _ in range(2):
        with pytest.raises(Stop):
            train(own, tmp_path / "part", progress=killed, kwargs=SMALL)
    train(own, tmp_path / "part", kwargs=SMALL)
    assert files(tmp_path / "whole") == files(tmp_path / "part")
    assert [r["round"] for r in whole.rows] == [0, 1, 2, 3]


def test_the_schedule_shares_the_questions_and_moves_no_steps():
    given = {s: settings(answers=30, steps=480, sessions=4, schedule=s).rounds(1, 12) for s in SCHEDULES}
    assert [r.questions for r in given["decaying"]] == [0, 12, 9, 6, 3]
    assert [r.questions for r in given["growing"]] == [0, 4, 4, 8, 14]
    assert {sum(r.questions for r in rounds) for rounds in given.values()} == {30}
    assert len({tuple(r.steps for r in rounds) for rounds in given.values()}) == 1


def test_a_run_with_a_session_that_asks_nothing_comes_to_its_end(tmp_path):
    done = train(settings(answers=3, sessions=3, schedule="growing"), tmp_path, kwargs=SMALL)
    assert done.result["budget"]["asked"] == 3


def test_questions_about_the_newest_episodes_are_about_no_others(tmp_path):
    train(settings(answers=20, recent=0.1), tmp_path, kwargs=SMALL)
    with Store(tmp_path / "answers.sqlite", Episodes(tmp_path / "episodes")) as store:
        about = {}
        for query in store.queries():
            about.setdefault(query.id[:-4], set()).update(s.episode for s in query.segments)
    assert [len(episodes) for episodes in about.values()] == [1, 1]  # of at most ten whole ones


def test_the_budget_counts_what_was_asked(tmp_path):
    base = settings(answers=24)
    skips = train(replace(base, teacher="skip"), tmp_path / "skip", kwargs=SMALL).result["budget"]
    ties = train(replace(base, teacher="equal"), tmp_path / "equal", kwargs=SMALL).result["budget"]
    assert skips["asked"] == ties["asked"] == 24
    assert skips["answered"] + skips["skipped"] == 24 and ties["answered"] == 24
    assert ties["ties"] > 0
    people = train(replace(base, tie_rate=0.99), tmp_path / "people", kwargs=SMALL).result["budget"]
    assert people["ties"] >= 20 and people["answered"] == 24


def test_different_lengths_and_an_inexact_environment_are_told(tmp_path):
    ends = train(settings("Ends", clip=12), tmp_path / "ends", kwargs=SMALL)
    assert any("unequal length" in warning for warning in ends.result["warnings"])
    secret = train(settings("Secret"), tmp_path / "secret", kwargs=SMALL)
    assert not secret.result["exact"] and "wind" in secret.result["warnings"][0]
    for folder in ("ends", "secret"):
        page = write_report(tmp_path / folder).read_text()
        assert 'class="note"' in page and "http://" not in page.replace("http://www.w3.org", "")


def test_answers_that_teach_nothing_are_told(tmp_path):
    found = train(settings("Flat"), tmp_path, kwargs=SMALL)
    assert any("all 6 answers are the same (compare 0.5)" in warning for warning in found.result["warnings"])


def test_a_transformer_has_members_where_questions_need_their_disagreement(tmp_path):
    own = replace(settings(answers=4), method=replace(METHODS["transformer"](), select="disagreement"))
    assert train(own, tmp_path, kwargs=SMALL).reward.members == 3
    with pytest.raises(ValueError, match="with the transformer's reward"):
        replace(own.method, bonus=0.1)


def test_parts_that_would_not_be_used_are_refused(tmp_path):
    with pytest.raises(ValueError, match="learns by its own loss"):
        train(settings(), tmp_path, reward=lambda *sizes: None, loss=lambda better, worse: worse - better)
    with pytest.raises(ValueError, match="makes no use of kwargs"):
        train(settings(), tmp_path, actor=lambda world, settings: None, kwargs=SMALL)
    assert not list(tmp_path.iterdir())


def test_numbers_that_turn_bad_in_the_middle_lose_nothing(tmp_path):
    with pytest.raises(NotFinite, match=r"own reward .* nan.*; mend the environment"):
        train(settings("Breaks"), tmp_path, kwargs=SMALL)
    rows = json.loads((tmp_path / "rounds.json").read_text())
    assert rows and (tmp_path / "answers.sqlite").exists()


def test_an_observation_that_turns_nan_while_the_policy_is_looked_at_is_a_sentence(tmp_path):
    with pytest.raises(Stop):
        train(settings("Blind"), tmp_path, told=stop_at(1), kwargs=SMALL)
    place = world(settings("Blind").env, {}, 12, 0)
    blind = sys.modules["user_file_worlds"].Blind
    blind.dark = True
    with pytest.raises(NotFinite, match=r"an observation of .*Blind is not finite while the policy was looked at"):
        returns(lambda obs: np.zeros((2, 1)), place, 2, 0)


def test_a_users_own_network_loss_and_algorithm(tmp_path):
    def own_loss(better, worse):
        return torch.nn.functional.softplus(0.1 - (better - worse))

    def own_network(obs, act, seed):
        return RewardEnsemble(obs, act, members=2, hidden=(8,), seed=seed, loss=own_loss, steps=5)

    own = {**SMALL, "policy_kwargs": {"net_arch": [12]}}
    trained = train(settings(), tmp_path, reward=own_network, algorithm=TD3, kwargs=own)
    assert trained.reward.members == 2 and type(trained.actor.sb3.model) is TD3
    for changed in ({}, {"reward": own_network, "algorithm": TD3, "kwargs": {**own, "gamma": 0.9}}):
        with pytest.raises(RunError, match="made with other settings"):
            train(settings(), tmp_path, **changed)


def test_a_network_that_lacks_what_the_run_calls_is_refused_at_once(tmp_path):
    class Half:
        fit = state_dict = load_state_dict = fingerprint = reward = lambda self: None

    with pytest.raises(ValueError, match="Half has no utilities, spread, which rune with disagreement questions calls"):
        train(settings(method="rune"), tmp_path / "run", reward=lambda obs, act, seed: Half())
    assert not (tmp_path / "run").exists()


def test_every_inexact_resume_is_told(tmp_path):
    for index in (1, 2):
        with pytest.raises(Stop):
            train(settings("Secret", "transformer"), tmp_path, told=stop_at(index), kwargs=SMALL)
    found = train(settings("Secret", "transformer"), tmp_path, kwargs=SMALL)
    assert "resumed in that way after round 1, 2." in found.result["warnings"][0]


def test_surf_reads_frames_too(tmp_path):
    kwargs = {"n_steps": 24, "batch_size": 12, "n_epochs": 1}
    found = train(settings("Frames", "surf", answers=4), tmp_path, kwargs=kwargs)
    assert "pseudo_share" in found.rows[-1]["metrics"]


def test_pairs_are_within_their_episodes_and_as_long_as_can_be():
    class Short:
        def __init__(self, n):
            self.obs, self.act, self.own = np.arange(n)[:, None] * 1.0, np.zeros((n, 1)), np.zeros(n)

        def __len__(self):
            return len(self.own)

    class Plain:
        act_size = 1

        @staticmethod
        def encode(act):
            return act

    trajectories = [Short(3), Short(9)]
    where = groups(trajectories, 200, 2, 5, np.random.default_rng(0))
    lengths = np.array([3, 9])[where[..., 0]]
    assert (where[..., 2] - where[..., 1] == np.minimum(5, lengths)).all() and (where[..., 2] <= lengths).all()
    batch = segments(trajectories, Plain, where)
    b, k = 7, 1
    _, start, stop = where[b, k]
    assert batch.obs[b, k, : stop - start, 0].tolist() == list(range(start, stop))
    assert batch.mask[b, k].sum() == stop - start


@pytest.mark.parametrize(
    ("kwargs", "sentence"),
    [
        ({"answers": 0}, "A budget of 0 answers: give at least one per session"),
        ({"steps": 5}, "5 steps in 2 sessions"),
        ({"teacher": "wise"}, "There is no teacher 'wise'"),
        ({"seed": -1}, "The seed is -1"),
        ({"clip": 0}, "Clips of 0 steps"),
        ({"tie_rate": 1.0}, "A tie rate of 1.0"),
        ({"recent": 0.0}, "the newest 0.0 of the episodes"),
        ({"schedule": "sudden"}, "no schedule 'sudden'"),
    ],
)
def test_impossible_settings_are_refused(kwargs, sentence):
    with pytest.raises(ValueError, match=sentence):
        settings(**kwargs).rounds(1, 12)


def test_too_few_steps_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="29 steps are too few"):
        train(settings(steps=29, horizon=28), tmp_path, kwargs=SMALL)


def test_another_environment_in_the_same_folder_is_refused(tmp_path):
    train(settings(), tmp_path, kwargs=SMALL)
    with pytest.raises(RunError, match="env is"):
        train(settings("Ends"), tmp_path, kwargs=SMALL)
