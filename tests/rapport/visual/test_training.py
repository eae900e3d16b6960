"""A run about videos from its films to its report, interrupted and not, and what it refuses."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace

import numpy as np
import pytest

from embodied.episodes import Episodes
from embodied.store import Store
from embodied.video_rewards import FrameNet
from policies import film_reward
from policies.filmed import FilmError, succeeded
from policies.soft_argmax import pretrain
from rapport.run import read_json
from rapport.train.people import Asking
from rapport.train.spaces import SpaceError
from rapport.visual import learn_from_videos, pool
from rapport.visual.acting import place
from rapport.visual.command import lines
from rapport.visual.report import write_report
from rapport.visual.training import Show


class Stop(Exception):
    pass


def same(folder):
    """What a run found, and every weight, but for the seconds."""
    result = {k: v for k, v in read_json(folder / "result.json").items() if "seconds" not in k}
    weights = [p.read_bytes() for p in sorted((folder / "reward").glob("*"))]
    last = sorted((folder / "checkpoints").iterdir())[-1]
    return (
        result,
        weights,
        [p.read_bytes() for p in sorted(last.rglob("*.safetensors"))],
        read_json(folder / "rounds.json"),
    )


def test_a_run_learns_a_reward_and_a_policy_and_reports(settings, tmp_path):
    result = learn_from_videos(settings(), tmp_path / "run")
    assert result["budget"]["asked"] == result["budget"]["answered"] == 8
    assert result["steps"] == 128 and result["exact"] and len(result["demos"]) == 1
    assert 1 <= result["learned_from"] <= 6 and len(result["worth"]) == 24
    assert result["success_after"] is not None and np.isfinite(result["return_after"])
    with Store(tmp_path / "run" / "answers.sqlite", Episodes(tmp_path / "run" / "episodes")) as store:
        shown = [{s.episode for s in query.segments} for query in store.queries(prefix="question-1")]
        asked = store.queries()
    assert all(set(result["demos"]) & names for names in shown) and all(len(q.segments) == 3 for q in asked)
    text = write_report(tmp_path / "run").read_text()
    assert "Transport plan of the best video" in text and text.count("<video") >= 10 and "http" not in text
    reward = film_reward.load(tmp_path / "run" / "reward")
    videos = [pool.read(tmp_path / "run" / "pool", name) for name in result["worth"]]
    assert reward([v.frames for v in videos]) == pytest.approx(list(result["worth"].values()), abs=1e-5)
    assert np.std(reward([v.frames for v in videos])) * reward.scale == pytest.approx(1)


@pytest.mark.parametrize("kind", ["raw", "cloning", "video", "true"])
def test_other_rewards_come_from_the_same_answers(settings, tmp_path, kind):
    own = settings(reward=kind)
    result = learn_from_videos(own, tmp_path / kind)
    write_report(tmp_path / kind)
    assert ("budget" in result) == (kind != "true") and result["steps"] == 128
    if kind != "true":
        reward = film_reward.load(tmp_path / kind / "reward")
        assert reward.kind == kind and result["demos"]


def test_stopped_anywhere_it_ends_as_if_it_had_not_been(settings, tmp_path):
    own = settings(reward="raw")
    learn_from_videos(own, tmp_path / "whole")

    def stopping(where):
        def doing(what):
            if what.startswith(where):
                raise Stop

        def told(row):
            if where == f"row {row['round']}":
                raise Stop

        return Show(doing=doing, told=told)

    for where in ("filming 7", "learning to see", "asking", "learning the reward", "training", "row 0", "row 1"):
        with pytest.raises(Stop):
            learn_from_videos(own, tmp_path / "part", show=stopping(where))
    learn_from_videos(own, tmp_path / "part")
    assert same(tmp_path / "part") == same(tmp_path / "whole")


def test_what_one_run_learned_another_is_paid_and_nobody_is_asked(settings, tmp_path):
    learn_from_videos(settings(reward="raw"), tmp_path / "one")
    result = learn_from_videos(settings(reward_from=str(tmp_path / "one"), pay="drop", seed=1), tmp_path / "other")
    assert "budget" not in result and result["worth_after"] is not None
    assert not (tmp_path / "other" / "pool").exists()
    write_report(tmp_path / "other")


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("Undrawn", "render_mode"),
        ("Blank", "NoneType"),
        ("Broken", "ModuleNotFoundError.*install"),
        ("Uneven", "--horizon"),
    ],
)
def test_worlds_that_cannot_be_filmed_are_refused_before_anything(settings, tmp_path, kind, says):
    own = settings(kind, horizon=0 if kind == "Uneven" else 8)
    with pytest.raises(SpaceError, match=says):
        learn_from_videos(own, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_pictures_of_several_sizes_are_refused(settings, tmp_path):
    with pytest.raises(ValueError, match="one size"):
        learn_from_videos(settings("Growing"), tmp_path / "run")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"env": ""}, "Neither an environment nor a folder"),
        ({"answers": 5}, "5 answers: give at least 6, or"),
        ({"pool": 2}, "about three"),
        ({"pool": 4}, "4 videos make 4 questions"),
        ({"reward": "raw", "reward_from": "x"}, "leave one of them out"),
        ({"reward_from": "nowhere"}, "holds no whole reward"),
        ({"demos": "nowhere"}, "is no folder"),
        ({"videos": "nowhere"}, "a study, whose people"),
        ({"trunk": "nowhere.safetensors"}, "cannot be read"),
        ({"trunk": "resnet18=nowhere"}, "weights nowhere cannot be read"),
        ({"trunk": "resnet18@big"}, "see 'big' pixels"),
        ({"reward": "cloning", "demos": "nowhere"}, "Cloning needs what was done"),
        ({"reward": "cycles"}, "8 answers give one: give at least 12"),
        ({"reward": "cloning", "frames": 1}, "give at least 2 --frames"),
        ({"trunk": "resnet18="}, "names no file"),
        ({"frames": 1}, "shows no movement"),
        ({"frames": -1}, "-1 pictures"),
        ({"horizon": -5}, "-5 steps"),
        ({"steps": 5}, "ten steps"),
    ],
)
def test_settings_that_cannot_work_say_why(settings, tmp_path, wrong, says):
    with pytest.raises(ValueError, match=says):
        learn_from_videos(settings(**wrong), tmp_path / "run")
    assert not (tmp_path / "run").exists()  # so that the same command with the mend is not refused


def test_scripted_films_are_as_long_as_an_episode(settings, tmp_path):
    def filmed(horizon):
        where = place(settings("Scripted", horizon=horizon, frames=4))
        return pool.film(lambda: where.filmed(None), where.limit, 2, 0, tmp_path / str(horizon), lambda k: None)[0]

    cut, whole = filmed(8), filmed(12)
    assert cut.frames[:, 0, 0, 0].tolist() == [1, 3, 5, 7] and whole.frames[:, 0, 0, 0].tolist() == [2, 5, 8, 11]
    assert cut.own.tolist() == [1, 5, 9, 13] and cut.act[:, 0].tolist() == [0.5, 2.5, 4.5, 6.5]
    assert np.isnan(cut.success) and whole.success == 1  # nobody saw how the first ends


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("Fewer", r"films\(2, rng\) gave frames \[1, 12, 24, 32, 3\], .*N = 2"),
        ("Failing", r"films\(2, rng\) failed \(KeyError: 'script'\)"),
        ("Unsure", "a reward that is not finite"),
    ],
)
def test_scripted_films_that_are_none_are_told(settings, tmp_path, kind, says):
    where = place(settings(kind))
    with pytest.raises(FilmError, match=says):
        pool.film(lambda: where.filmed(None), where.limit, 2, 0, tmp_path, lambda k: None)


def test_success_is_told_as_a_truth_value_or_not_at_all():
    assert succeeded({"is_success": True}) == 1 and np.isnan(succeeded({"success": None}))
    with pytest.raises(FilmError, match="tells of success as 'yes'"):
        succeeded({"success": "yes"})


def test_an_episode_may_be_one_picture(settings, tmp_path):
    films = [np.random.default_rng(n).integers(0, 255, (5, 20, 30, 3), dtype=np.uint8) for n in range(4)]
    pretrain(films, steps=1).save(tmp_path / "eyes.safetensors")
    own = settings(frames=1, answers=12, trunk=str(tmp_path / "eyes.safetensors"))
    result = learn_from_videos(own, tmp_path / "run")
    write_report(tmp_path / "run")
    assert len(result["demos"]) == 2 and np.isfinite(result["worth_after"])


def test_cycles_need_two_demonstrations_before_anybody_is_asked(settings, tmp_path):
    (tmp_path / "demos").mkdir()
    np.savez(tmp_path / "demos" / "one.npz", frames=np.zeros((4, 8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match="holds one demonstration"):
        learn_from_videos(settings(reward="cycles", demos=str(tmp_path / "demos")), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_world_may_not_know_whether_it_succeeds(settings, tmp_path):
    assert learn_from_videos(settings("Silent", reward="raw"), tmp_path / "run")["success_after"] is None


def test_demonstrations_that_are_also_asked_about_are_refused_however_the_folder_is_spelled(settings, tmp_path):
    for name in ("demos", "other"):
        (tmp_path / name).mkdir()
    own = settings(videos=str(tmp_path / "demos"), demos=str(tmp_path / "other" / ".." / "demos"))
    with pytest.raises(ValueError, match="give two folders"):
        learn_from_videos(own, tmp_path / "run", ask=Asking(tmp_path / "study", None, "", 1.0, "rank"))


def test_a_folder_of_demonstrations_is_near_to_itself(settings, tmp_path):
    """Of any length and size, a single picture and one that never moves among them."""
    rng = np.random.default_rng(0)
    demos = tmp_path / "demos"
    demos.mkdir()
    for n, shape in enumerate([(1, 20, 20, 3), (9, 40, 30, 3), (3, 16, 64, 3)]):
        np.savez(demos / f"{n}.npz", frames=rng.integers(0, 255, shape, dtype=np.uint8))
    np.savez(demos / "still.npz", frames=np.zeros((5, 24, 24, 3), np.uint8))
    result = learn_from_videos(settings(demos=str(demos), answers=4, reward="video"), tmp_path / "run")
    assert len(result["demos"]) == 4 and result["learned_from"] == 4
    write_report(tmp_path / "run")


def stopping(where):
    def doing(what):
        if what.startswith(where):
            raise Stop

    return Show(doing=doing)


def test_what_is_brought_is_kept_and_may_change_between_two_starts(settings, tmp_path):
    films = [np.random.default_rng(n).integers(0, 255, (5, 20, 30, 3), dtype=np.uint8) for n in range(4)]
    demos, eyes, run = tmp_path / "demos", tmp_path / "eyes.safetensors", tmp_path / "run"
    demos.mkdir()
    for n in range(2):
        np.savez(demos / f"{n}.npz", frames=films[n])
    pretrain(films, steps=1).save(eyes)
    own = settings(reward="raw", demos=str(demos), trunk=str(eyes))
    learn_from_videos(own, tmp_path / "whole")
    with pytest.raises(Stop):
        learn_from_videos(own, run, show=stopping("filming 7"))
    np.savez(demos / "0.npz", frames=films[2])
    eyes.unlink()
    learn_from_videos(own, run)
    assert same(run) == same(tmp_path / "whole")
    shutil.rmtree(demos)
    assert "Demonstrations" in write_report(run).read_text()

    paid = settings(reward_from=str(run))
    learn_from_videos(paid, tmp_path / "whole, paid")
    with pytest.raises(Stop):
        learn_from_videos(paid, tmp_path / "paid", show=stopping("training"))
    shutil.rmtree(run / "reward")
    learn_from_videos(paid, tmp_path / "paid")
    assert same(tmp_path / "paid") == same(tmp_path / "whole, paid")


def test_a_reward_that_was_learned_before_says_how_often_is_filmed_and_what_it_is(settings, tmp_path):
    learn_from_videos(settings(reward="raw"), tmp_path / "one")
    result = learn_from_videos(settings(reward_from=str(tmp_path / "one"), frames=0), tmp_path / "other")
    assert read_json(tmp_path / "other" / "config.json")["frames"] == 4 and result["method"] == "raw"
    assert "raw" in write_report(tmp_path / "other").read_text()
    with pytest.raises(ValueError, match=r"20 pictures of an episode, and the reward of .* was learned from 4"):
        learn_from_videos(settings(reward_from=str(tmp_path / "one"), frames=20), tmp_path / "third")


def test_films_that_are_all_worth_the_same_are_told(settings, tmp_path):
    result = learn_from_videos(settings("Dark", reward="raw"), tmp_path / "run")
    assert any("All 24 videos are worth the same" in warning for warning in result["warnings"])


def test_how_many_steps_there_are_is_told_in_whole_rollouts(settings, tmp_path):
    totals, steps = [], []
    own = settings(reward="raw", algorithm="ppo", copies=1, steps=100, sessions=1)
    result = learn_from_videos(own, tmp_path / "run", show=Show(total=totals.append, progress=steps.append))
    assert totals == [sum(steps)] == [result["steps"]] and totals[0] > 100
    assert any(f"after {totals[0]} steps, whole rollouts of the 100 asked for" in line for line in lines(own, result))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_again_and_again_it_ends_as_if_it_had_not_been(settings, tmp_path):
    own = settings(steps=256, sessions=4)
    learn_from_videos(own, tmp_path / "whole")
    code = (
        "import json, sys; from rapport.visual import Settings, learn_from_videos; "
        "learn_from_videos(Settings(**json.loads(sys.argv[1])), sys.argv[2])"
    )
    run = [sys.executable, "-c", code, json.dumps(asdict(own)), str(tmp_path / "part")]
    rng, kills = np.random.default_rng(0), 0
    for _ in range(4):
        child = subprocess.Popen(run, env={**os.environ, "OMP_NUM_THREADS": "1"}, start_new_session=True)
        time.sleep(float(rng.uniform(3, 9)))
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            kills += 1
        child.wait()
    subprocess.run(run, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert kills >= 2 and same(tmp_path / "part") == same(tmp_path / "whole")


def test_a_damaged_reward_is_refused_with_its_name(settings, tmp_path):
    learn_from_videos(settings(steps=32, reward="raw"), tmp_path / "run")
    for name in ("reward.json", "reward.safetensors", "trunk.safetensors"):
        copy = tmp_path / name
        shutil.copytree(tmp_path / "run" / "reward", copy)
        (copy / name).write_bytes((copy / name).read_bytes()[:20])
        with pytest.raises(film_reward.RewardFileError, match="no whole reward"):
            film_reward.load(copy)
    kept = tmp_path / "run" / "reward"
    about, whole = read_json(kept / "reward.json"), film_reward.load(kept)
    for wrong in ({"frames": 0}, {"scale": -1.0}, {"scale": float("nan")}):
        (kept / "reward.json").write_text(json.dumps({**about, **wrong}))
        with pytest.raises(film_reward.RewardFileError, match="give at least 1, and above 0"):
            film_reward.load(kept)
    narrow = FrameNet(np.zeros((2, 7), np.float32))
    with pytest.raises(ValueError, match=f"a trunk of {whole.trunk.size} features, and a model of 7"):
        replace(whole, model=narrow)
