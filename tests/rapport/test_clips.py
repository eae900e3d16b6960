"""Clips of the main job: the right joints in the right layout; and drawn, where this machine can draw."""

import shutil

import av
import numpy as np
import pytest

from rapport.cup.agent import held_out
from rapport.cup.clips import _clip, _passes, render_before_after, render_questions
from rapport.cup.finished import open_finished
from rapport.cup.train import open_store


@pytest.fixture
def queries(tiny_run):
    with open_store(tiny_run) as (store, _):
        return store.queries()


def size(path):
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        return stream.width, stream.height, sum(1 for _ in file.decode(video=0))


def test_a_clip_of_a_question_shows_what_was_recorded(tiny_run, queries):
    with open_store(tiny_run) as (_, episodes):
        for segment in (s for query in queries for s in query.segments):
            info, clip = episodes.load(segment.episode).info, _clip(segment, "1")
            np.testing.assert_allclose(clip.qpos, info["qpos"][segment.start : segment.stop], atol=1e-5)
            np.testing.assert_allclose(clip.layout.goal[0], info["goal"], atol=1e-6)
            np.testing.assert_allclose(clip.layout.laptop[0], info["laptop"], atol=1e-6)


def test_the_still_is_of_the_moment_at_the_laptop(tiny_run):
    run = open_finished(tiny_run)
    rollouts = run.roll_out(run.before, held_out(5, 3))
    step = _passes(rollouts[1:2])
    cup, laptop = rollouts.obs[1, :, 1], rollouts.layouts.laptop[1, 1]
    assert abs(cup[step] - laptop) == pytest.approx(np.abs(cup - laptop).min()) and 0 < step < 79


@pytest.mark.slow  # draws: without OpenGL it fails
def test_questions_are_drawn_once_or_not_at_all(queries, tmp_path):
    folder = tmp_path / "questions"
    shortest = min(queries, key=lambda query: len(query.segments[0].act))
    made = render_questions([shortest], folder)
    assert made == {shortest.id: folder / f"{shortest.id}.mp4"} and [*folder.iterdir()] == [*made.values()]
    width, height, frames = size(made[shortest.id])
    assert width > 2 * height and frames == len(shortest.segments[0].act)
    made[shortest.id].write_bytes(b"seen")
    assert render_questions([shortest], folder) == made and made[shortest.id].read_bytes() == b"seen"


@pytest.mark.slow
def test_before_and_after_are_drawn_whole_or_not_at_all(tiny_run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(tiny_run, folder)
    there = {path.name for path in folder.iterdir()}
    for _ in range(2):
        render_before_after(folder, "clips", shown=2)
        drawn = {path.name for path in folder.iterdir()} - there
        assert drawn == {"clips"}
        assert {p.name for p in (folder / "clips").iterdir()} == {
            "before-after-1.mp4",
            "before-after-2.mp4",
            "before-after.png",
        }
        assert size(folder / "clips/before-after-2.mp4")[2] == 80
