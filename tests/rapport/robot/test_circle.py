"""A day at a robot: journals, a study, people who answer, and what a learner gets of it."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from embodied.feedback import by_kind
from embodied.rational import rational
from embodied.records import Stop
from embodied.teachers import answer
from envs.arm import CupArms
from hardware.camera import Frame
from hardware.framed import JournalError
from hardware.frames import FrameLog, beside
from hardware.journal import End, Event, Header, Journal, Tick, journals
from hardware.to_episodes import about
from human_ui import desk, people
from human_ui import study as terms
from human_ui.clips import decode
from human_ui.site import TERMS, open_site
from policies.export import export, load_policy
from policies.mlp import Layers
from rapport.ask import template
from rapport.cli import main
from rapport.cup.handover import agreed, cartesian
from rapport.robot.circle import bring_back
from rapport.robot.films import from_camera, of_cup_arm
from rapport.robot.queries import PREFIX, Rules
from tests.hardware.test_to_episodes import numbered
from tests.hardware.walked import PERIOD, ticks, write

RULES = Rules(seconds=0.5)
ROOT = Path(__file__).parents[3]


def day(folder: Path, n: int = 4) -> list[Path]:
    """Each journal with a takeover, an e-stop, and a camera; the last was torn by a power cut."""
    paths = []
    for k in range(n):
        records = numbered(
            [
                *ticks([("homing", 5), ("policy", 80)], seed=k),
                Event("takeover", who="ann"),
                *ticks([("human", 30)], seed=k + 50),
                Event("handback", who="ann"),
                *ticks([("policy", 60)], seed=k + 90),
                Event("estop", "button", "bob"),
                *ticks([("brake", 5)], seed=k + 70),
            ]
        )
        paths.append(write(folder / f"day1-{k}.journal", records))
        log = FrameLog(beside(paths[-1]))
        for i in range(100):
            grey = np.full((32, 48, 3), 10 + 2 * i, np.uint8)
            assert log.append("top", Frame(grey, i, 10**9 + 2 * i * PERIOD))
        assert log.close()
    paths[-1].write_bytes(paths[-1].read_bytes()[:-2500])
    return paths


@pytest.fixture
def site(tmp_path):
    study = tmp_path / "study"
    study.mkdir()
    (study / TERMS).write_text(template("bench"))
    opened = open_site(study)
    with opened.store:
        yield opened


def reward(segment):
    return 30 * (segment.act[:, 0] - segment.obs[:, 0])


def test_from_journals_to_feedback(tmp_path, site):
    paths = day(tmp_path / "journals")
    brought = bring_back(site, paths, from_camera(tmp_path / "journals"), 6, RULES)
    assert (brought.episodes, brought.asked, brought.made, dict(brought.left)) == (4, 6, 6, {})
    assert brought.takeovers == 4 and brought.stops == 3  # the torn journal lost its own
    asked = site.store.queries(prefix=f"{PREFIX}pair-")
    assert len(asked) == 6 and all("cup on the shelf" in query.context for query in asked)

    people.invite(site.store, "cleo")  # as the page does it: lent, answered, taken
    teacher = rational(reward, seed=0)
    for _ in range(6):
        (lent,) = desk.lend(site.store, site.study(), "cleo", 1, 0.0, site.rng)
        (query,) = site.store.queries([lent.query])
        desk.take(
            site.store, "cleo", lent.lease, f"c-{lent.query}", desk.as_shown(teacher(query), lent.shown), {}, "", 1.0
        )
        assert lent.steps == (25, 25)
    assert not desk.lend(site.store, site.study(), "cleo", 1, 0.0, site.rng)

    parts, budget = by_kind(site.store.answers(), site.store.queries())
    assert [(part.kind, *part.target.shape) for part in parts] == [("compare", 10, 2), ("stop", 3, 25)]
    assert budget.answered == budget.asked == 13
    compared, stopped = parts
    assert (compared.target[:4] == compared.target.new_tensor([0.0, 1.0])).all()  # whoever took over was right
    assert not compared.same_context[:4].any()
    assert (stopped.target.argmax(1) == 25 - 1 - 15 - 1).all()  # 0.3 s of reaction at 50 Hz, and the step itself
    assert {a.annotator for a in site.store.answers()} == {"ann", "bob", "cleo"}


def test_again_changes_nothing_and_a_new_day_adds(tmp_path, site):
    paths, film = day(tmp_path / "journals"), from_camera(tmp_path / "journals")
    first = bring_back(site, paths, film, 4, RULES)
    before = [q.id for q in site.store.queries()], site.store.answers()
    again = bring_back(site, paths, film, 4, RULES)
    assert (again.asked, again.made) == (4, 0) and replace(again, made=4) == first
    assert ([q.id for q in site.store.queries()], site.store.answers()) == before
    more = bring_back(site, paths, film, 6, RULES)
    assert (more.asked, more.made) == (6, 2)
    shown = [(s.episode, s.start) for q in site.store.queries(prefix=f"{PREFIX}pair-") for s in q.segments]
    assert len(shown) == len(set(shown)) == 12
    later = [
        write(tmp_path / "journals" / f"day2-{k}.journal", list(ticks([("policy", 60)], seed=k))) for k in range(2)
    ]
    with pytest.raises(JournalError, match="there are none"):
        bring_back(site, later, film, 1, RULES)
    black = np.zeros((10, 16, 16, 3), np.uint8)
    assert bring_back(site, later, lambda *_: black, 9, replace(RULES, joint=3.0)).made == 2
    site.store.add_answers(
        [answer(rational(reward, seed=1), q, "t") for q in site.store.queries(prefix=f"{PREFIX}pair-")]
    )
    assert main(["data", "export", str(site.folder), str(tmp_path / "out.jsonl"), "--names"]) == 0
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 8 + 4 + 3


def test_what_no_picture_shows_is_not_asked_about_and_the_rest_is(tmp_path, site):
    """The disk was too slow for the first journal's pictures, but for the first 0.4 s and a word on the others."""
    paths, film = day(tmp_path / "journals", 3), from_camera(tmp_path / "journals")
    beside(paths[0]).unlink()
    log = FrameLog(beside(paths[0]))
    for i in range(10):
        assert log.append("top", Frame(np.full((32, 48, 3), 10 + 2 * i, np.uint8), i, 10**9 + 2 * i * PERIOD))
    assert log.lose("top", 90, "the disk is too slow", 2 * 10**9)
    growing = bring_back(site, paths, film, 9, RULES)  # while somebody still writes it
    assert "still being written" in growing.left["day1-0.journal"] and growing.episodes == 2
    assert log.close()
    brought = bring_back(site, paths, film, 99, RULES)
    assert brought.episodes == 3 and brought.unseen > 0 and brought.asked > 0
    assert about(site.store.episodes.load("day1-0"))["cameras"] == {
        "top": {"frames": 10, "lost": 90, "why": "the disk is too slow"}
    }
    shown = [s for q in site.store.queries(prefix=f"{PREFIX}pair-") for s in q.segments if s.episode == "day1-0"]
    times = site.store.episodes.load("day1-0").info["time"]
    assert all(times[s.stop - 1] < 0.4 + 0.5 for s in shown)
    again = bring_back(site, paths, film, 99, RULES)
    assert (again.asked, again.made) == (brought.asked, 0)


def test_a_film_shows_the_moments_of_its_stretch(tmp_path, site):
    paths = day(tmp_path / "journals", 1)
    bring_back(site, paths, from_camera(tmp_path / "journals"), 1, RULES)
    (query,) = site.store.queries(prefix=f"{PREFIX}pair-")
    (lent,) = desk.lend(site.store, site.study(), "x", 1, 0.0, site.rng)
    for place, k in enumerate(lent.shown):
        segment, info = query.segments[k], site.clips.info(lent.clips[place])
        assert (info.frames, info.fps) == (10, 20.0)
        # a tick t comes t + 1 periods after the first frame, and there is a frame every other period
        at = segment.start + 1 + np.arange(10) * 2.5
        shown = [frame.mean() for frame in decode(site.clips.get(lent.clips[place]))]
        assert np.abs(np.array(shown) - (10 + 2 * np.floor(at / 2 + 1e-6))).max() < 3
    episode = site.store.episodes.load("day1-0")
    with pytest.raises(JournalError, match="name one of them"):
        from_camera(tmp_path / "journals", "wrist")(episode, 10, 30)
    with pytest.raises(ValueError, match="start, laptop"):
        of_cup_arm(episode, 10, 30)


@pytest.mark.slow
def test_the_policy_that_was_on_the_arm_is_aligned_on_what_people_said(tmp_path, site):
    """The main job's arm: an exported policy acts, its journals come back as questions, `rapport align` learns from the
    answers and writes a policy that can go onto the arm again."""
    rng = np.random.default_rng(0)
    sizes = [(32, 26), (5, 32)]
    layers = Layers(tuple(0.1 * rng.normal(size=s) for s in sizes), tuple(np.zeros(s[0]) for s in sizes))
    export(tmp_path / "policy", layers, cartesian(), agreed("nothing yet"))
    policy, arms = load_policy(tmp_path / "policy"), CupArms(8, seed=0)
    obs, layout = arms.reset()[0], arms.layouts
    said = json.loads((tmp_path / "policy/contract.json").read_bytes())
    names, scene = [joint["name"] for joint in said["joints"]], {"goal": layout.goal[0]}
    logs = [
        Journal(tmp_path / f"journals/{k}.journal", Header("cup", "twin", names, 20.0, "carry", {}, said, scene), 0)
        for k in range(8)
    ]
    for t in range(40):
        act, before = np.clip(policy.act(obs) + rng.normal(size=(8, 5)) * 0.3, -1, 1), arms.qpos.copy()
        seen, (obs, *_) = obs, arms.step(act)
        for k, log in enumerate(logs):
            unknown = np.full(7, np.nan)
            moved = Tick(t, arms.qpos[k], before[k], unknown, unknown, "policy", "RUNNING", obs=seen[k], act=act[k])
            assert log.append(moved, t * 50_000_000), log.failed
    assert all(log.end(End("done"), 0) for log in logs)
    black = np.zeros((10, 16, 16, 3), np.uint8)
    rules = replace(RULES, joint=9.0)
    brought = bring_back(site, journals(tmp_path / "journals"), lambda *_: black, 12, rules, own=True)
    assert brought.asked == 12 and brought.episodes == 8
    asked = site.store.queries(prefix=f"{PREFIX}pair-")
    assert {s.act.shape[1] for query in asked for s in query.segments} == {5}
    upward = rational(lambda segment: 5 * segment.act[:, 2], seed=0)
    site.store.add_answers([answer(upward, query, "t") for query in asked])
    given = [
        "align",
        "--data",
        str(site.folder),
        "--policy",
        str(tmp_path / "policy"),
        "--method",
        "cpl",
        "--steps",
        "40",
    ]
    assert main([*given, "--any-start", "--out", str(tmp_path / "out")]) == 0
    aligned = load_policy(tmp_path / "out/policy")
    assert (aligned.act(obs)[:, 2] - policy.act(obs)[:, 2]).mean() > 0.01


@pytest.mark.slow
def test_the_arm_of_the_main_job_is_drawn_in_its_scene(tmp_path):
    from hardware.journal import recover
    from hardware.to_episodes import episode

    still = [
        replace(
            t,
            **{name: np.r_[getattr(t, name), np.zeros(4)] for name in ("command", "position", "velocity", "effort")},
            requested=None,
        )
        for t in ticks([("policy", 40)], start=(0.1, 0.6, 0.0))
    ]
    scene = {"start": (0.5, -0.42, 0.27), "goal": (0.5, 0.42, 0.22), "laptop": (0.54, 0.0)}
    path = write(tmp_path / "a.journal", still, joints=[f"joint{i}" for i in range(7)], scene=scene)
    shown = of_cup_arm(episode(recover(path)), 5, 35)
    assert shown.shape == (12, 420, 560, 3) and shown.dtype == np.uint8 and shown.std() > 20


@pytest.mark.slow
def test_killed_at_any_instant_it_comes_to_the_same(tmp_path):
    """The same command, killed and done again, until it is through: the same questions, answers and clips."""
    day(tmp_path / "journals")
    script = (
        "import sys\nfrom pathlib import Path\n"
        "from human_ui.site import open_site\nfrom hardware.journal import journals\n"
        "from rapport.robot.circle import bring_back\nfrom rapport.robot.films import from_camera\n"
        "from rapport.robot.queries import Rules\n"
        "site = open_site(Path(sys.argv[1]))\nj = Path(sys.argv[2])\nprint('go', flush=True)\n"
        "bring_back(site, journals(j), from_camera(j), 5, Rules(seconds=0.5))\nsite.store.close()\n"
    )
    found = []
    for name, limits in (("calm", [None]), ("killed", [0.02, 0.1, 0.25, 0.4, None])):
        study = tmp_path / name
        study.mkdir()
        (study / TERMS).write_text(template("bench"))
        for limit in limits:
            with subprocess.Popen(
                [sys.executable, "-c", script, study, tmp_path / "journals"],
                stdout=subprocess.PIPE,
                cwd=ROOT,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            ) as child:
                assert child.stdout is not None and child.stdout.readline() == b"go\n"
                try:
                    assert child.wait(limit) == 0
                except subprocess.TimeoutExpired:
                    child.kill()
        with open_site(study).store as store:
            lent = desk.lend(store, terms.load(study / TERMS), "x", 8, 0.0, np.random.default_rng(0))
            answers = {(a.id, a.query, a.value) for a in store.answers()}
            found.append((sorted((one.query, sorted(one.clips)) for one in lent), answers))
    assert found[0] == found[1] and len(found[0][0]) == 5
    assert any(isinstance(value, Stop) for _, _, value in found[0][1])
