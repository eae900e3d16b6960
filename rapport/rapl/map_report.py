"""The map as tables, as criteria with a verdict, and as a picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure as Picture
from scipy.stats import t as student

from rapport.rapl.map import Cell, Setting, setting_of
from rapport.rapl.plans import JUDGED, Try
from rapport.rapl.rivals import WITH, WITHOUT

SHOWN = (
    "RAPL",
    "RAPL, shuffled ranks",
    "RAPL as published",
    "frame net, rankings and demos",
    "video net, rankings and demos",
)


RIVALS = [name for name in (*WITHOUT, *WITH) if not name.startswith("RAPL")]


@dataclass(frozen=True)
class Figure:
    """A mean over seeds, and half of its 95 % t interval; of one seed infinite, and not told."""

    mean: float
    half: float
    seeds: int

    def __str__(self) -> str:
        return f"{short(self.mean)} ± {short(self.half)}" if self.seeds > 1 else short(self.mean)


def short(x: float) -> str:
    """Two digits, and no nought before the point."""
    return (
        f"{x:.2f}".replace("-0.", "-.", 1) if -1 < x < 0 else f"{x:.2f}".removeprefix("0") if 0 <= x < 1 else f"{x:.2f}"
    )


def figure(values: Sequence[float]) -> Figure:
    n = len(values)
    half = float(student.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n)) if n > 1 else float("inf")
    return Figure(float(np.mean(values)), half, n)


def by_seed(
    found: Sequence[Cell], setting: Setting, reward: str, answers: int, bodies: str = "unseen"
) -> dict[int, float]:
    """One reward's correlation."""
    return {
        c.seed: getattr(c, bodies)
        for c in found
        if setting_of(c) == setting and c.reward == reward and c.answers == (answers if reward in WITH else 0)
    }


def difference(found: Sequence[Cell], setting: Setting, second: str, answers: int) -> Figure | None:
    """RAPL less another, paired by seed; None where no seed has both."""
    a, b = by_seed(found, setting, "RAPL", answers), by_seed(found, setting, second, answers)
    both = sorted(a.keys() & b.keys())
    return figure([a[s] - b[s] for s in both]) if both else None


def table(found: Sequence[Cell], setting: Setting, bodies: str = "unseen") -> Iterator[str]:
    """Rows of a Markdown table, rewards down and answers across; nothing where there is nothing."""
    here = [c for c in found if setting_of(c) == setting]
    if not here:
        return
    counts = sorted({c.answers for c in here})
    yield f"| reward ({len({c.seed for c in here})} seeds) | " + " | ".join(map(str, counts)) + " |"
    yield "|" + " --- |" * (len(counts) + 1)
    for name in (*WITHOUT, *WITH):
        row = [[getattr(c, bodies) for c in here if c.reward == name and c.answers == n] for n in counts]
        if any(row):
            yield f"| {name} | " + " | ".join(str(figure(r)) if r else "" for r in row) + " |"


def wins(found: Sequence[Cell]) -> Iterator[str]:
    """Rows of a Markdown table: RAPL less whatever else is best there, paired by seed; settings down, answers across,
    in bold where the interval leaves nought out. The best is chosen by its mean on the same seeds, which favours it."""
    counts = sorted({c.answers for c in found if c.answers})
    yield "| world, nuisance, eyes | " + " | ".join(map(str, counts)) + " |"
    yield "|" + " --- |" * (len(counts) + 1)
    for setting in dict.fromkeys(setting_of(c) for c in found):
        row = []
        for n in counts:
            gaps = {name: gap for name in RIVALS if (gap := difference(found, setting, name, n)) is not None}
            if not gaps:
                row.append("")
                continue
            name = min(gaps, key=lambda name: gaps[name].mean)
            sure = "**" if abs(gaps[name].mean) > gaps[name].half else ""
            row.append(f"{sure}{gaps[name]}{sure} {name}")
        yield f"| {setting.world}, {setting.nuisance}, {setting.eyes} | " + " | ".join(row) + " |"


def needed(found: Sequence[Cell], setting: Setting, rivals: Sequence[str], of: Sequence[int]) -> Iterator[str]:
    """Rows of a Markdown table: how many answers a rival needs for what RAPL has from `of` answers of the same seed.

    The median over seeds and the range. Between two counts the logarithm is interpolated; the best up to there counts.
    """
    counts = sorted({c.answers for c in found if setting_of(c) == setting and c.answers})
    for name in rivals:
        curves = [by_seed(found, setting, name, n) for n in counts]
        row = []
        for n in of:
            least = by_seed(found, setting, "RAPL", n)
            seeds = sorted(set(least).intersection(*curves))
            each = [_reached(counts, [curve[s] for curve in curves], least[s]) for s in seeds]
            middle, low, high = (_many(x, counts) for x in (np.median(each), min(each), max(each)))
            row.append(middle if low == high else f"{middle} ({low} to {high})")
        yield f"| {setting.world}: {name} | " + " | ".join(row) + " |"


def _reached(counts: Sequence[int], curve: Sequence[float], least: float) -> float:
    """Answers from which a curve has `least`; infinite where it never has."""
    best = np.maximum.accumulate(curve)
    k = int(np.searchsorted(best, least))
    if k == len(counts):
        return float("inf")
    if k == 0:
        return float(counts[0])
    share = (least - best[k - 1]) / (best[k] - best[k - 1])
    return float(np.exp(np.log(counts[k - 1]) + share * np.log(counts[k] / counts[k - 1])))


def _many(answers: float, counts: Sequence[int]) -> str:
    if answers <= counts[0]:
        return f"at most {counts[0]}"
    return f"above {counts[-1]}" if np.isinf(answers) else f"{answers:.0f}"


def criteria(found: Sequence[Cell], tried: Sequence[Try]) -> Iterator[str]:
    """What was to be shown, as it was set down before this was built, and what came out, with intervals."""
    rows: list[tuple[str, Setting, str, int, float]] = []
    for world in ("covering", "wipe", "grouping", "avoiding"):
        rows += [
            (world, Setting(world), "RAPL, shuffled ranks", 50, 0.1),
            (world, Setting(world), "raw transport", 50, 0.1),
        ]
    for world in ("covering", "wipe"):
        rows += [(world, Setting(world), "frame net, rankings and demos", n, 0.2) for n in (10, 20, 50)]
        rows += [(world, Setting(world), "video net, rankings and demos", n, 0.05) for n in (10, 20, 25)]
    rows += [(w, Setting(w), "frame net, released recipe", 50, 0.0) for w in ("grouping", "avoiding")]
    for world, setting, second, n, least in rows:
        if (seen := difference(found, setting, second, n)) is not None:
            verdict = "holds" if seen.mean >= least else "fails"
            sure = "" if seen.mean - seen.half >= least or seen.mean + seen.half < least else ", not surely"
            claim = f"{world}, {n} answers: RAPL less {second} at least {least:g}"
            yield f"{claim}: {seen} ({seen.seeds} seeds): {verdict}{sure}"
    rates = {name: [t.success for t in tried if t.reward == name] for name in JUDGED}
    if rates["RAPL"]:
        gap = 100 * (np.mean(rates["RAPL"]) - np.mean(rates["frame net, rankings and demos"]))
        verdict = "holds" if gap >= 30 else "fails"
        tries = len(rates["RAPL"])
        yield f"plans: RAPL less the frame net at least 30 points: {gap:.0f} ({tries} tries each): {verdict}"


def plan_table(tried: Sequence[Try]) -> Iterator[str]:
    yield "| planned by | success | true return | RAPL's success less this, by seed | tries |"
    yield "| --- | --- | --- | --- | --- |"
    shares = {name: _shares(tried, name) for name in JUDGED}
    for name, share in shares.items():
        rows = [t for t in tried if t.reward == name]
        if rows:
            both = sorted(share.keys() & shares["RAPL"].keys())
            less = str(figure([shares["RAPL"][s] - share[s] for s in both])) if both and name != "RAPL" else ""
            true, found = np.mean([t.true for t in rows]), np.mean([t.success for t in rows])
            yield f"| {name} | {found:.0%} | {true:.3f} | {less} | {len(rows)} |"


def _shares(tried: Sequence[Try], name: str) -> dict[int, float]:
    """Of each seed's tries by one reward, how many succeed."""
    seeds = {t.seed for t in tried if t.reward == name}
    return {s: float(np.mean([t.success for t in tried if t.reward == name and t.seed == s])) for s in seeds}


def picture(found: Sequence[Cell], path: Path) -> None:
    """Correlation on unseen bodies against answers, a panel for each setting with answers."""
    settings = list(dict.fromkeys(setting_of(c) for c in found if c.answers))
    if not settings:
        return
    across = min(4, len(settings))
    down = -(-len(settings) // across)
    whole = Picture(figsize=(3.3 * across, 2.9 * down), layout="constrained")
    axes = np.atleast_1d(whole.subplots(down, across, sharey=True)).ravel()
    for axis, setting in zip(axes, settings, strict=False):
        counts = sorted({c.answers for c in found if setting_of(c) == setting and c.answers})
        for name in SHOWN:
            each = [figure(list(by_seed(found, setting, name, n).values()) or [np.nan]) for n in counts]
            axis.errorbar(
                counts, [f.mean for f in each], [min(f.half, 2.0) for f in each], label=name, capsize=2, linewidth=1.2
            )
        raw = list(by_seed(found, setting, "raw transport", 0).values())
        if raw:
            axis.axhline(float(np.mean(raw)), color="grey", linewidth=1, linestyle=":", label="raw transport")
        axis.set_xscale("log")
        axis.set_xticks(counts, [str(n) for n in counts])
        axis.minorticks_off()
        axis.set_ylim(-0.3, 1)
        axis.set_title(f"{setting.world}, {setting.nuisance}, {setting.eyes}", fontsize=9)
    for axis in axes[len(settings) :]:
        axis.remove()
    whole.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=6, fontsize=8)
    whole.supxlabel("rankings of three", fontsize=9)
    whole.supylabel("correlation with the true return, unseen bodies", fontsize=9)
    whole.savefig(path, dpi=110)
