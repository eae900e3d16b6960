"""`rapport evaluate`: what it prints is what the exported policy does."""

import json
import shutil

import numpy as np
import pytest

from embodied.contract import ContractError
from envs.arm import HORIZON, CupArms
from policies.export import load_policy
from rapport.cli import Evaluate
from rapport.cup import evaluate as module
from rapport.cup.agent import held_out
from rapport.cup.evaluate import evaluate, lines, look
from rapport.cup.features import step_features
from rapport.cup.finished import open_finished
from rapport.cup.measure import measure
from rapport.cup.people import CAREFUL, PEOPLE, clear_of_laptop, path, upright
from rapport.run import RunError


@pytest.fixture(scope="module")
def direct(tiny_run):
    """A rollout without any of the run's machinery: 32 held-out layouts, 8 arms at a time."""
    act = load_policy(tiny_run / "policy").act
    envs, layouts = CupArms(8, seed=99), held_out(5, 32)
    seen, actions, rewards, success = [], [], [], []
    for first in range(0, 32, 8):
        obs, _ = envs.reset(options={"layouts": layouts[first : first + 8]})
        steps = []
        for _ in range(HORIZON):
            action = np.clip(act(obs), -1, 1).astype(np.float32)
            after, reward, _, _, info = envs.step(action)
            steps.append((obs, action, reward))
            obs = after
        for kept, part in zip((seen, actions, rewards), zip(*steps, strict=True), strict=True):
            kept.append(np.stack(part, 1))
        success.append(info["success"])
    return tuple(np.concatenate(part) for part in (seen, actions, rewards, success))


@pytest.mark.parametrize("n", [1, 7, 16, 32])
def test_the_numbers_are_those_of_a_direct_rollout(n, tiny_run, direct):
    run = open_finished(tiny_run)
    told = []
    found = look(run, n, told.append)
    assert sum(told) == n
    obs, act, reward, success = (part[:n] for part in direct)
    obs = obs.astype(float)
    assert found["episodes"] == n and found["task"]["share"] == success.mean()
    around, level = clear_of_laptop(obs), upright(obs)
    assert found["wishes"]["share"] == (around & level).mean()
    assert found["both"]["share"] == (around & level & success).mean()
    assert {k: v["share"] for k, v in found["each"].items()} == {
        "around the laptop": around.mean(),
        "upright": level.mean(),
    }
    assert found["path"] == pytest.approx(path(obs).sum(-1).mean(), rel=1e-12)
    assert found["task_return"] == pytest.approx(reward.sum(1).mean(), rel=1e-12)
    utility = run.reward.value(step_features(obs, act.astype(float)).sum(1)).mean()
    assert found["learned_utility"] == pytest.approx(utility, rel=1e-9)


def test_the_runs_own_result_comes_out_again(tiny_run):
    run = open_finished(tiny_run)
    layouts = held_out(5, 16)
    for act, key in ((run.before, "before"), (run.after, "after")):
        seen = measure(CAREFUL, run.roll_out(act, layouts))
        kept = run.result[key]
        assert (seen.episodes, seen.wishes, seen.each, seen.task) == (16, kept["wishes"], kept["each"], kept["task"])
        assert (seen.tilt, seen.path) == pytest.approx((kept["tilt"], kept["path"]), rel=1e-6)


def test_intervals_are_exact(tiny_run):
    found = look(open_finished(tiny_run), 10)
    share = found["wishes"]
    assert share["share"] == 0 and share["low"] == 0
    assert share["high"] == pytest.approx(1 - 0.025 ** (1 / 10))  # Clopper-Pearson of 0 of 10


def test_the_command_prints_a_table_or_one_object(tiny_run, capsys):
    assert evaluate(Evaluate(tiny_run, episodes=3, clips=False)) == 0
    table = capsys.readouterr().out
    for word in ("every wish", "around the laptop", "upright", "task done", "95 %", "return of the task", "learned"):
        assert word in table
    assert evaluate(Evaluate(tiny_run, episodes=3, clips=False, json=True)) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == look(open_finished(tiny_run), 3)
    assert not (tiny_run / "clips-evaluate").exists()
    assert table.splitlines() == lines(open_finished(tiny_run), found)


def test_an_exported_policy_alone_is_judged_by_whose_wishes_are_named(tiny_run, capsys):
    for person, wish in (("careful", "around the laptop"), ("short", "the short way")):
        assert evaluate(Evaluate(tiny_run / "policy", episodes=3, person=person, json=True)) == 0
        found = json.loads(capsys.readouterr().out)
        layouts = held_out(0, 3)
        run = open_finished(tiny_run)
        seen = measure(PEOPLE[person], run.roll_out(load_policy(tiny_run / "policy").act, layouts))
        assert found["learned_utility"] is None and wish in found["each"]
        assert found["wishes"]["share"] == seen.wishes and found["task"]["share"] == seen.task
        assert found["path"] == pytest.approx(seen.path, rel=1e-4)  # another number of arms rounds otherwise
    assert not (tiny_run / "policy" / "clips-evaluate").exists()


@pytest.mark.parametrize("n", [0, -3, module.MOST + 1])
def test_impossible_numbers_of_episodes_are_refused(n, tiny_run):
    with pytest.raises(ValueError, match=f"{n} episodes cannot be rolled out: give --episodes from 1 to"):
        evaluate(Evaluate(tiny_run, episodes=n, clips=False))


def test_a_folder_that_is_no_finished_run_is_refused(tiny_run, tmp_path):
    with pytest.raises(RunError, match="There is no folder"):
        evaluate(Evaluate(tmp_path / "nowhere"))
    with pytest.raises(RunError, match=r"config.json is missing: is .* the folder of a run\?"):
        evaluate(Evaluate(tmp_path))
    assert not list(tmp_path.iterdir())


def test_a_policy_that_was_changed_is_refused(tiny_run, tmp_path):
    shutil.copytree(tiny_run, tmp_path / "run")
    weights = tmp_path / "run/policy/policy.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(ContractError, match=r"policy\.safetensors"):
        evaluate(Evaluate(tmp_path / "run", clips=False))
