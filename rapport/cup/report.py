"""report.html of a run of the main job: one file with everything that one would ask about it. Nothing in it is chosen
by what it shows; all of it can be made again from the run's folder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np

from embodied import atomic
from embodied.records import Array
from envs.arm import DT, HORIZON, OPENING
from envs.arm_render import GL_INSTALL_LINE, gl
from envs.arm_task import OBSERVATION, OPENING_SCALE
from rapport.cup import plots
from rapport.cup.agent import CupAgent, held_out
from rapport.cup.asked import Asked, all_asked, importance
from rapport.cup.features import FEATURES
from rapport.cup.finished import Finished, open_finished
from rapport.cup.measure import Measured
from rapport.cup.people import PEOPLE, SETTLE, Person, path, tilt
from rapport.cup.pools import Rollouts
from rapport.cup.report_questions import STYLE, budget_spent, questions_shown
from rapport.cup.train import TEMPERATURE, Settings, open_store
from rapport.html import details, escape, facts, figure, grid, note, page, section, svg, table, video
from rapport.run import RunError

GOAL = 0.95
MAY_LOOK_AT = {
    "place": "where the cup is, seen from above, relative to the laptop: a smooth surface",
    "tilt": "how far the cup leans from upright: a curve",
    "speed": "how fast the cup moves: a curve",
    "height": "how high the cup is above the table, and that squared",
    "jerk": "how much the action differs from the one before",
    "task": "progress towards the goal, and being there: it explains answers, and is left out of the learned reward",
}
_STYLE = STYLE + (
    ".result td:nth-child(n+2), .result th:nth-child(n+2) { width: 24%; } .result td { font-size: 1.02rem; }"
    ".wide figure { overflow-x: auto; } .wide svg { min-width: 34rem; }"
)


def write_report(folder: Path) -> Path:
    """Writes report.html into the folder of a finished run. Raises RunError, and what its files raise when damaged."""
    run = open_finished(folder)
    layouts = held_out(run.settings.seed, run.settings.held_out)
    before, after = (run.roll_out(act, layouts) for act in (run.before, run.after))
    questions: list[Asked] = []
    if run.reward is not None:
        with open_store(folder) as (store, _):
            questions = all_asked(store, run.reward)
    parts = [
        *_result(run, before, after),
        section("Before and after", *_clips(folder)),
        section(f"Wishes and task against {'answers' if run.reward else 'training'}", *_progress(run)),
        section("What was learned" if run.reward else "The cup's ways", *_learned(run, before, after, questions)),
    ]
    if questions:
        parts += [
            section("What was asked, and what was answered", *questions_shown(questions)),
            section("Where the answers went", *budget_spent(run, questions)),
        ]
    parts += [
        section("What the reward may look at", *_prior(run)),
        section("Time", *_time(run)),
        section("Settings and versions", *_settings(run)),
    ]
    html = page(f"Rapport: {folder.name}", parts, _STYLE)
    target = folder / "report.html"
    try:
        atomic.write(target, html.encode())
    except OSError as error:
        raise RunError(atomic.explain(error, target)) from error
    return target


def _measured(run: Finished) -> tuple[Measured, Measured]:
    return Measured(**run.result["before"]), Measured(**run.result["after"])


def _result(run: Finished, before: Rollouts, after: Rollouts) -> Iterator[str]:
    was, now = _measured(run)
    settings, person = run.settings, PEOPLE[run.settings.person]
    yield f'<p class="eyebrow">Rapport · main job · seed {settings.seed}</p>'
    yield f"<h1>Wishes met: {was.wishes:.1%} before, {now.wishes:.1%} after{_after_what(run)}</h1>"
    reached = min(now.wishes, now.task) >= GOAL
    goal = f"the goal, {GOAL:.0%} of both, is {'reached' if reached else 'missed'}"
    yield (
        f'<p class="lead">An arm that carried a full cup in a hurry, leant over and across a laptop, {_taught(run)} '
        f"On {now.episodes} layouts that nothing was trained, asked or chosen on, it meets every wish in "
        f"{now.wishes:.1%} of episodes and does its task in {now.task:.1%}: {goal}.</p>"
    )
    if settings.ask:
        yield note(
            f"You were asked, and only you know your wishes. Counted here are those of the {person.name} simulated "
            f"person, who was not asked: {escape(person.wants)}."
        )

    def row(name: str, share: str) -> tuple[str, ...]:
        values = [(m, m.each[share] if share in m.each else getattr(m, share)) for m in (was, now)]
        return (escape(name), *(_share(m, value) for m, value in values))

    def mean(name: str, of: Iterable[Array], digits: int, unit: str) -> tuple[str, ...]:
        return (name, *(_mean(values, digits, unit) for values in of))

    rows = [
        row("Every wish, in the same episode", "wishes"),
        *(row(f"– {name}", name) for name in person.wishes),
        row("Task: the cup at the goal", "task"),
        row("Every wish, and the task", "both"),
        row("Not even the cup's rim over the laptop", "whole_cup"),
        mean("Mean tilt of the cup", (tilt(r.obs)[:, SETTLE:].mean(-1) for r in (before, after)), 1, "°"),
        mean("Path of the cup", (path(r.obs.astype(float)).sum(-1) for r in (before, after)), 2, " m"),
    ]
    yield f'<div class="result">{table(("share of episodes, or mean; 95 % interval", "before", "after"), rows)}</div>'


def _after_what(run: Finished) -> str:
    return f" {run.result['answers']} answers" if run.settings.reward == "learned" else " training without any answer"


def _taught(run: Finished) -> str:
    settings, person = run.settings, PEOPLE[run.settings.person]
    if settings.reward == "none":
        return "was trained on by its task alone; nobody was asked."
    if settings.reward == "true":
        return f"was trained on what the {person.name} simulated person likes, handed over without a question."
    if settings.ask:
        return f"learned from {run.result['answers']} answers of yours, given in the terminal."
    if settings.coin:
        return f"was given {run.result['answers']} answers by the toss of a coin: the control that has to miss."
    return f"learned from {run.result['answers']} answers of a simulated person who wants {escape(person.wants)}."


def _share(m: Measured, value: float) -> str:
    low, high = m.interval(value)
    return f"{value:.1%}<small>{100 * low:.1f} – {100 * high:.1f}</small>"


def _mean(values: Array, digits: int, unit: str) -> str:
    mean, half = values.mean(), 1.96 * values.std(ddof=1) / np.sqrt(len(values))
    return f"{mean:.{digits}f}{unit}<small>{mean - half:.{digits + 1}f} – {mean + half:.{digits + 1}f}</small>"


def _clips(folder: Path) -> Iterator[str]:
    clips = sorted((folder / "clips").glob("before-after-*.mp4"))
    if clips:
        yield "<p>The same layouts, before on the left and after on the right. The trail is red where the cup is over"
        yield "the laptop or leans more than 15°, green elsewhere.</p>"
        yield figure(video(clips[0]))
        yield grid((figure(video(clip)) for clip in clips[1:]), least=17)
    elif gl() is None:
        yield note(
            "Clips are drawn with OpenGL, and this machine has none. This line installs it; then the command of the "
            f"run, given again, adds the clips: <code>{escape(GL_INSTALL_LINE)}</code>"
        )
    else:
        yield note("No clips were asked for (--no-clips). The command of the run without that adds them.")


def _progress(run: Finished) -> Iterator[str]:
    before, after = _measured(run)
    shares, manners = plots.progress(run.rows, before, after)
    seen = run.rows[-1]["episodes"]
    first = next((row["answers"] for row in run.rows if row["steps"]), 0)
    still = f" The arm does not train before answer {first}." if run.settings.reward == "learned" else ""
    yield grid(
        [
            figure(
                svg(shares, "Wishes and task against answers"),
                f"Shares of {seen} held-out episodes after each round, with 95 % intervals; the ring is the policy "
                f"that was kept, on {after.episodes}.{still}",
            ),
            figure(svg(manners, "Tilt and path against answers"), "The same rounds: how the cup is carried."),
        ]
    )
    yield "<p>Held-out layouts are only ever looked at: no question, no training and no choice of the policy that is"
    yield "kept depends on what they show.</p>"


def _learned(run: Finished, before: Rollouts, after: Rollouts, questions: list[Asked]) -> Iterator[str]:
    was, now = _measured(run)
    drawing = svg(plots.cost_map(run.reward, before, after), "Learned liking of places round the laptop")
    some = min(plots.PATHS, now.episodes)
    ways = f"Dashed: the cup's way before, on {some} layouts; blue: after. Robot at the top, as in the clips."
    if run.reward is None:
        yield f'<div class="wide">{figure(drawing, f"No reward was learned. {ways}")}</div>'
        return
    caption = (
        "The learned liking of places: red counts against a clip, green for it, pale hardly matters or is unknown. A "
        f"liking of 1 makes a clip e ≈ 2.7 times as likely to be called the better one. {ways}"
    )
    yield f'<div class="wide">{figure(drawing, caption)}</div>'
    hidden = None if run.settings.ask else _hidden(PEOPLE[run.settings.person])
    curve = svg(plots.tilt_curve(run.reward, was.tilt, now.tilt, hidden), "Learned liking of tilts")
    against = (
        ""
        if hidden is None
        else f" Dashed: what the {run.settings.person} simulated person feels, which no learner ever sees; drawn for "
        "comparison only."
    )
    pair = [
        figure(
            curve,
            f"How a second at some tilt counts against a second upright, with the posterior's 95 % band.{against}",
        )
    ]
    if questions:
        pair.append(
            figure(
                svg(plots.importance(importance(questions)), "How much each group of features matters"),
                "How much each group that the reward may look at makes of the difference between the two clips of a "
                "question (root mean square over all questions). Grey: explains answers, is left out of the reward.",
            )
        )
    yield grid(pair)


def _hidden(person: Person) -> plots.Curve:
    """What a second of tilt means to a simulated person, in the log-odds of their answers, far from everything else."""

    def liking(degrees: Array) -> Array:
        obs = np.zeros((len(degrees) + 1, 2, OBSERVATION))
        obs[1:, :, OPENING.start] = OPENING_SCALE * np.sin(np.radians(degrees))[:, None]
        obs[..., 11] = 10.0  # the laptop, 5 m away
        value = person.liking(obs, np.zeros((len(obs), 2, 5)))[:, 0]
        return (value[1:] - value[0]) / TEMPERATURE / DT

    return liking


def _prior(run: Finished) -> Iterator[str]:
    if run.reward is None:
        yield "<p>No reward was learned from answers in this run.</p>"
        return
    yield (
        "<p>This is prior knowledge, put in by hand. The reward is a sum of the parts named here, all computed from "
        "observation and action, and questions take turns about place and tilt. How much each part matters, and in "
        "which direction, comes from the answers. A wish about anything else cannot be learned here. Beside the "
        "learned reward the arm is paid for its task, weighted "
        f"{CupAgent.WEIGHTS[0]:g} to {CupAgent.WEIGHTS[1]:g} by its own "
        f"success, less {CupAgent.PATH_COST:g} per metre of the cup's way, whoever answers.</p>"
    )
    sizes = {name: columns.stop - columns.start for name, columns in FEATURES.groups.items()}
    rows = [(f"<b>{name}</b>", MAY_LOOK_AT[name], str(size)) for name, size in sizes.items()]
    yield table(("group", "what it is", "weights"), rows, numbers=(2,))


def _time(run: Finished) -> Iterator[str]:
    seconds, steps = run.result["seconds"], run.rows[-1]["steps"]
    yield facts(
        [
            ("from the start to the kept policy", f"{seconds:.0f} s, interruptions left out"),
            ("rounds", f"{len(run.rows)}"),
            ("training", f"{steps:,} steps, {steps // HORIZON:,} episodes, {steps / HORIZON * 4 / 3600:.1f} h of arm"),
            ("overall", f"{steps / seconds:,.0f} steps per second, questions and reward fits included"),
            ("finished", escape(run.result["finished"])),
        ]
    )


def _settings(run: Finished) -> Iterator[str]:
    values = {k: v for k, v in asdict(run.settings).items() if k != "recipe"}
    yield facts((escape(name), escape(json.dumps(value))) for name, value in values.items())
    yield details("Recipe", facts((escape(k), escape(json.dumps(v))) for k, v in asdict(run.settings.recipe).items()))
    made = run.result.get("machine", {})
    yield details("Versions", facts((escape(name), escape(str(value))) for name, value in made.items()))
    command = _command(run.settings)
    yield f"<p class='muted'>The same run again: <code>{escape(command)}</code></p>"


def _command(s: Settings) -> str:
    parts = ["rapport demo", f"--seed {s.seed}", f"--person {s.person}"]
    parts += [f"--answers {s.answers}"] * (s.reward == "learned") + [f"--reward {s.reward}"] * (s.reward != "learned")
    return " ".join(parts + ["--coin"] * s.coin + ["--ask"] * s.ask)
