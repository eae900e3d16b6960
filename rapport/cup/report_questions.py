"""The report's questions: both clips in a thumbnail, what was answered, and where the answers went."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np

from embodied.feedback import Budget
from embodied.records import Compare, Segment, Skip, Value
from envs.arm import decode
from envs.arm_task import LAPTOP_HALF, LAPTOP_SHIFT
from rapport.cup.asked import Asked, tilt_and_room
from rapport.cup.finished import Finished
from rapport.cup.people import PEOPLE
from rapport.html import details, facts, note, table

STYLE = """
.sketch { width: 7.2rem; flex: none; height: auto; display: block; border: 1px solid var(--line); border-radius: 6px;
  background: var(--card); }
.sketch.better { border-color: var(--after); box-shadow: 0 0 0 1px var(--after); }
.sketch rect { fill: var(--line); } .sketch .screen { stroke: var(--muted); stroke-width: 2; }
.sketch .goal { fill: var(--good); opacity: .35; }
.sketch .way { fill: none; stroke: var(--ink); stroke-width: 1.6; stroke-linejoin: round; stroke-linecap: round; }
.sketch .lean { stroke: var(--bad); stroke-width: 1.4; stroke-linecap: round; }
.sketch .start { fill: var(--ink); }
.clip { display: flex; gap: .7rem; align-items: center; font-size: .85rem; line-height: 1.4; white-space: nowrap; }
.bar { display: inline-block; width: 4.5rem; height: .5rem; border-radius: 3px; background: var(--line);
  overflow: hidden; vertical-align: middle; margin-right: .5rem; }
.bar i { display: block; height: 100%; background: var(--after); }
"""


def questions_shown(questions: Sequence[Asked]) -> Iterator[str]:
    yield (
        "<p>Both clips of a question show the same seconds in one layout, here seen from above: the cup's way from the "
        "dot, and red needles to where it leans. The frame marks the clip that was called better. Room is the least "
        "distance of the cup's centre from the laptop's outline. The last column is the chance of that answer as the "
        "reward stands now.</p>"
    )
    uneven = sum(len({len(segment.act) for segment in q.query.segments}) > 1 for q in questions)
    if uneven:
        yield note(
            f"In {uneven} questions the clips differ in length: a longer clip adds up more of everything, so their "
            "answers say less than they seem to."
        )
    number = 0
    for index, of_round in groupby(questions, lambda q: q.round):
        rows = []
        for q in of_round:
            number += 1
            rows.append(_question(q, number))
        header = ("", "clip 1", "clip 2", "differ in", "answer", "expected now")
        title = f"Round {index + 1}<small class='muted'>questions {number - len(rows) + 1} to {number}</small>"
        yield details(title, table(header, rows), shown=index == 0)


def _question(q: Asked, number: int) -> tuple[str, ...]:
    clips = []
    for k, segment in enumerate(q.query.segments):
        degrees, room = tilt_and_room(segment)
        where = f"{100 * room:.0f} cm room" if room > 0 else f"{-100 * room:.0f} cm inside"
        drawing = _sketch(segment, q.better == k)
        clips.append(f'<div class="clip">{drawing}<span>tilt {degrees:.0f}°<br>{where}</span></div>')
    answer = _told(q.value) + (f"<small>revised {q.revised}×</small>" if q.revised else "")
    return str(number), *clips, q.differs, answer, _expected(q)


def _told(value: Value | None) -> str:
    match value:
        case None:
            return "none yet"
        case Skip():
            return "cannot tell"
        case Compare(first=first):
            return "equal" if first == 0.5 else f"clip {1 if first > 0.5 else 2}"
    return "–"


def _expected(q: Asked) -> str:
    """The chance of the answer that was given; of clip 1 where there is no such answer."""
    chance, of = (q.probability, " for 1") if q.better is None else (abs(q.better - q.probability), "")
    return f'<span class="bar"><i style="width:{chance:.0%}"></i></span>{chance:.0%}{of}'


def budget_spent(run: Finished, questions: Sequence[Asked]) -> Iterator[str]:
    budget = Budget(**run.result["budget"])
    decided = [q for q in questions if q.better is not None]
    agree = sum(abs(q.better - q.probability) > 0.5 for q in decided if q.better is not None)
    pairs = [
        ("asked", f"{budget.asked}"),
        ("answered", f"{budget.answered}"),
        ("skipped", f"{budget.skipped}"),
        ("ties", f"{budget.ties}"),
        ("duplicates", f"{budget.duplicates}"),
        ("revised", f"{budget.revised}"),
        ("as the reward now expects", f"{agree} of {len(decided)}"),
    ]
    if not run.settings.ask:
        person = PEOPLE[run.settings.person]
        values = [[person.utility(segment) for segment in q.query.segments] for q in decided]
        slips = sum(int(v[0] < v[1]) != q.better for q, v in zip(decided, values, strict=True))
        kind = "coin tosses against" if run.settings.coin else "slips and doubts: against"
        pairs.append((f"{kind} the person's own liking", f"{slips} of {len(decided)}; no learner is told which"))
    yield facts(pairs)


def _sketch(segment: Segment, better: bool) -> str:
    """A clip seen from above in a thumbnail (cm): laptop, goal, the cup's way, and red needles to where it leans."""
    now = decode(segment.obs)
    cup, lean = 100 * now["cup"][:, 1::-1], 14 * now["opening"][:, 1::-1]
    laptop = 100 * (now["cup"][0, 1::-1] + now["laptop_offset"][0, ::-1]) + [0, 100 * LAPTOP_SHIFT]
    goal = cup[0] + 100 * now["goal_offset"][0, 1::-1]
    half = 100 * np.array(LAPTOP_HALF[::-1])
    (left, top), (wide, high) = laptop - half, 2 * half
    way = " ".join(f"{x:.1f},{y:.1f}" for x, y in cup[::2])
    needles = "".join(
        f"M{x:.1f},{y:.1f}l{dx:.1f},{dy:.1f}"
        for (x, y), (dx, dy) in zip(cup[::6], lean[::6], strict=True)
        if np.hypot(dx, dy) > 1
    )
    return (
        f'<svg class="sketch{" better" * better}" viewBox="-51 11 102 68" aria-hidden="true">'
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{wide:.0f}" height="{high:.0f}" rx="1"/>'
        f'<path class="screen" d="M{left:.1f},{top:.1f}h{wide:.0f}"/>'
        f'<circle class="goal" cx="{goal[0]:.1f}" cy="{goal[1]:.1f}" r="5"/>'
        f'<path class="lean" d="{needles}"/><polyline class="way" points="{way}"/>'
        f'<circle class="start" cx="{cup[0, 0]:.1f}" cy="{cup[0, 1]:.1f}" r="2.2"/></svg>'
    )
