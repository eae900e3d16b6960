"""report.html of a run that was really trained, and the page, drawings and account that it is made of."""

import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy.special import expit

from embodied.feedback import Budget, stack
from embodied.records import Compare, Skip
from envs import arm_draw
from envs.arm import OPENING
from envs.arm_render import GL_INSTALL_LINE, gl, write_mp4
from envs.arm_task import OPENING_SCALE
from rapport import html
from rapport.cup.asked import Asked, all_asked, importance, tilt_and_room
from rapport.cup.clips import render_before_after
from rapport.cup.features import step_features
from rapport.cup.finished import open_finished
from rapport.cup.people import PEOPLE
from rapport.cup.plots import place_utility, tilt_utility
from rapport.cup.report import _hidden, write_report
from rapport.cup.report_questions import _told, questions_shown
from rapport.cup.train import open_store
from rapport.run import RunError

SECTIONS = [
    "Before and after",
    "Wishes and task against answers",
    "What was learned",
    "What was asked, and what was answered",
    "Where the answers went",
    "What the reward may look at",
    "Time",
    "Settings and versions",
]
VOID = {"meta", "br", "img"}


class Nesting(HTMLParser):
    """Fails on a tag that is closed by another, or never."""

    def __init__(self, text):
        super().__init__()
        self.open = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, self.getpos()


@pytest.fixture(scope="module")
def folder(tiny_run, tmp_path_factory):
    target = tmp_path_factory.mktemp("report") / "tiny"
    shutil.copytree(tiny_run, target)
    return target


@pytest.fixture(scope="module")
def page(folder):
    return write_report(folder).read_text()


@pytest.fixture(scope="module")
def questions(folder):
    reward = open_finished(folder).reward
    with open_store(folder) as (store, _):
        return all_asked(store, reward)


def headings(page):
    return re.findall("<h2>(.*?)</h2>", page)


def test_every_section_is_there_in_order(page):
    assert headings(page) == SECTIONS
    Nesting(page)


def test_the_page_needs_nothing_but_itself(page):
    assert "http" not in page and "<script" not in page and "@import" not in page
    assert all(source.startswith("data:") for source in re.findall(r'(?:src|xlink:href)="([^"]*)"', page))
    assert len(page) < 6e6
    used, defined = set(re.findall(r"var\(--(\w+)", page)), set(re.findall(r"--(\w+):", page))
    assert used <= defined and "prefers-color-scheme: dark" in page
    assert not re.search(r"#0([1-9])(?:0\1){2}", page), "a stand-in colour was left"


def test_the_page_is_the_same_when_written_again(page, folder):
    assert write_report(folder).read_text() == page


def test_the_result_is_what_the_run_found(page, folder):
    result = json.loads((folder / "result.json").read_text())
    assert f"Wishes met: {result['before']['wishes']:.1%} before, {result['after']['wishes']:.1%} after 12" in page
    cells = re.findall(r"<td>Task: the cup at the goal</td><td>(.*?)<small>.*?</td><td>(.*?)<small>", page)
    assert cells == [(f"{result['before']['task']:.1%}", f"{result['after']['task']:.1%}")]
    for name in ("around the laptop", "upright"):
        assert f"<td>– {name}</td>" in page
    assert f"<td>Path of the cup</td><td>{result['before']['path']:.2f} m<small>" in page
    assert f"<dt>torch threads</dt><dd>{result['machine']['torch threads']}</dd>" in page
    assert "rapport demo --seed 5 --person careful --answers 12" in page


def test_every_question_is_shown_with_its_answer(page, questions):
    assert len(questions) == 12 and [q.round for q in questions] == [0, 0, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3]
    body = page[page.index(SECTIONS[3]) : page.index(SECTIONS[4])]
    assert body.count("<details") == 4 and body.count('class="sketch') == 24
    assert body.count('class="sketch better"') == sum(q.better is not None for q in questions) == 12
    told = re.findall(r"<td>(clip [12])</td>", body)
    assert told == [f"clip {q.better + 1}" for q in questions]
    assert "differ in length" not in body
    for wanted in ("<dt>asked</dt><dd>12</dd>", "<dt>skipped</dt><dd>0</dd>", "no learner is told which"):
        assert wanted in page


def test_clips_of_unequal_length_are_warned_of(questions):
    one, two = questions[0].query.segments
    shorter = replace(two, stop=two.stop - 1, obs=two.obs[:-1], act=two.act[:-1])
    uneven = replace(questions[0], query=replace(questions[0].query, segments=(one, shorter)))
    assert "In 1 questions the clips differ in length" in "".join(questions_shown([uneven, questions[1]]))


def test_the_chance_of_an_answer_is_the_posteriors(folder, questions):
    reward = open_finished(folder).reward
    draws = reward.utilities(stack([q.query for q in questions]), np.random.default_rng(0), samples=20_000)
    p = expit(draws[..., 0] - draws[..., 1])
    expected = ((1 - reward.lapse) * p + reward.lapse / 2).mean(0)
    np.testing.assert_allclose([q.probability for q in questions], expected, atol=0.02)


def test_parts_of_a_difference_add_up(folder, questions):
    reward = open_finished(folder).reward
    totals = reward.features.total(stack([q.query for q in questions])) @ reward.posterior.mean
    np.testing.assert_allclose([sum(q.part.values()) for q in questions], totals[:, 0] - totals[:, 1], atol=1e-9)
    mine = importance([replace(questions[0], part={"a": 3.0, "b": 0.0}), replace(questions[0], part={"a": 4, "b": -2})])
    assert mine == pytest.approx({"a": np.sqrt(12.5), "b": np.sqrt(2)})


def test_what_differs_is_path_or_posture(questions):
    one = questions[0].query.segments[0]
    leant, moved = (one.obs.copy() for _ in range(2))
    leant[:, OPENING] = [OPENING_SCALE * np.sin(np.radians(60)), 0]
    moved[:, 1] += 0.1

    def differs(obs):
        return Asked(replace(questions[0].query, segments=(one, replace(one, obs=obs))), None, 0, 0.5, {}).differs

    assert (differs(leant), differs(moved), differs(one.obs)) == ("posture", "path", "hardly")
    assert tilt_and_room(replace(one, obs=leant))[0] == pytest.approx(60, abs=1e-3)


def test_answers_are_told_in_words():
    values = [None, Skip("tired"), Compare(1.0), Compare(0.0), Compare(0.5)]
    assert [_told(v) for v in values] == ["none yet", "cannot tell", "clip 1", "clip 2", "equal"]


def test_the_drawn_curves_are_the_rewards_own(folder):
    reward = open_finished(folder).reward
    obs = np.zeros((4, 2, 26))
    obs[1, :, OPENING.start] = OPENING_SCALE * np.sin(np.radians(30))
    obs[2, :, 11:13] = -2 * np.array([0.05, -0.1])
    obs[3, :, 11:13] = -2 * np.array([-0.2, 0.3])
    value = 20 * reward.value(step_features(obs, np.zeros((4, 2, 5)))[:, 0])
    mean, sd = tilt_utility(reward, np.array([0.0, 30.0]))
    assert mean[1] == pytest.approx(value[1] - value[0]) and sd[0] == 0 < sd[1]
    places = place_utility(reward, np.array([[0.05, -0.1], [-0.2, 0.3]]))
    assert places[0] - places[1] == pytest.approx(value[2] - value[3])


@pytest.mark.parametrize("name", PEOPLE)
def test_the_hidden_curve_is_what_the_person_feels(name):
    degrees = np.array([0.0, 5.0, 40.0, 75.0])
    np.testing.assert_allclose(_hidden(PEOPLE[name])(degrees), [0, 0, -10, -20], atol=1e-6)


def test_a_run_in_which_a_person_answered(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "asked")
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "asked/config.json").write_text(json.dumps({**config, "ask": True}))
    page = write_report(tmp_path / "asked").read_text()
    assert headings(page) == SECTIONS and "You were asked" in page and "answers of yours" in page
    assert "simulated person feels" not in page and "no learner is told which" not in page


@pytest.mark.parametrize("reward", ["none", "true"])
def test_a_run_without_questions(reward, folder, tmp_path):
    other = tmp_path / reward
    shutil.copytree(folder, other)
    config = json.loads((folder / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "reward": reward}))
    result = json.loads((folder / "result.json").read_text())
    (other / "result.json").write_text(json.dumps({**result, "answers": 0, "budget": None}))
    rows = json.loads((folder / "rounds.json").read_text())
    (other / "rounds.json").write_text(json.dumps([{**row, "answers": 0} for row in rows]))
    page = write_report(other).read_text()
    Nesting(page)
    assert headings(page) == [
        SECTIONS[0],
        "Wishes and task against training",
        "The cup's ways",
        *SECTIONS[5:],
    ]
    assert "No reward was learned" in page and "after training without any answer" in page


def test_clips_are_in_the_page(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "run")
    (tmp_path / "run/clips").mkdir()
    for i in (1, 2):
        write_mp4(np.full((4, 32, 64, 3), 40 * i, np.uint8), tmp_path / f"run/clips/before-after-{i}.mp4")
    page = write_report(tmp_path / "run").read_text()
    assert page.count('<video controls muted loop autoplay playsinline src="data:video/mp4;base64,') == 2


@pytest.mark.slow  # asks the machine's OpenGL
def test_without_clips_the_page_says_how_to_get_them(page):
    assert "The command of the run without that adds them" in page


def test_without_opengl_the_page_has_the_line_that_installs_it(folder, tmp_path, monkeypatch):
    shutil.copytree(folder, tmp_path / "run")
    monkeypatch.setattr(arm_draw, "BACKENDS", ())
    gl.cache_clear()
    try:
        render_before_after(tmp_path / "run")
        page = write_report(tmp_path / "run").read_text()
    finally:
        gl.cache_clear()
    assert f"<code>{GL_INSTALL_LINE}</code>" in page and not (tmp_path / "run/clips").exists()


def test_what_is_no_finished_run_is_refused(folder, tmp_path):
    with pytest.raises(RunError, match=r"There is no folder .*nowhere"):
        write_report(tmp_path / "nowhere")
    with pytest.raises(RunError, match="is missing: is"):
        write_report(tmp_path)
    shutil.copy(folder / "config.json", tmp_path)
    with pytest.raises(RunError, match="has not finished: the `rapport demo` command that began it"):
        write_report(tmp_path)
    for config in ({"seed": 1}, [1], {"recipe": {}, "colour": "red"}, {"recipe": {}, "seed": -1}):
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(RunError, match="no run of the main job of this version"):
            write_report(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"config.json"}


def test_budget_of_the_run_fits_the_page(folder):
    assert Budget(**json.loads((folder / "result.json").read_text())["budget"]) == Budget(asked=12, answered=12)


def test_what_is_written_into_a_page_stays_text():
    text = html.page("<b> & co", [html.section("a < b", html.note(html.escape('"<i>"')))])
    Nesting(text)
    assert "<title>&lt;b&gt; &amp; co</title>" in text and "<h2>a &lt; b</h2>" in text and "<i>" not in text


def test_columns_of_a_table_are_all_there():
    text = html.table(("a", "b"), [("x", "1"), ("y", "2")], numbers=(1,))
    assert text.count('<td class="number">') == 2 and text.count("<td>") == 2
    Nesting(text)


def test_a_plot_takes_the_colours_of_the_page():
    figure = Figure((2, 2))
    axes = figure.add_subplot()
    for name, colour in html.THEME.items():
        axes.plot([0, 1], label=name, color=colour)
    axes.set_xlabel("words & more")
    drawn = html.svg(figure, 'a "plot"')
    Nesting(drawn)
    assert drawn == html.svg(figure, 'a "plot"')
    assert all(f"var(--{name})" in drawn for name in html.THEME) and "words &amp; more</text>" in drawn
    assert drawn.startswith('<svg viewBox="0 0 144 144" role="img" aria-label="a &quot;plot&quot;">')
