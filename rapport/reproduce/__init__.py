"""Reproductions: one file per system, `rapport/reproduce/<key>.py`, which offers

    DOMAINS: tuple[str, ...]                            plain strings, the smallest first
    reproduce(domain, seed, full, progress, out)        -> (mechanism checks, comparisons)

`progress(share)` takes the share in [0, 1] that is done; plots go into the folder `out`, and so does `said.txt`, what
there is to say beside figures, which is printed before them. With `full` a reproduction
makes all its comparisons; domains and seeds are gone through here. Everything is computed when it is asked for.
"""

from __future__ import annotations

import importlib
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol, cast

from tqdm import tqdm

from rapport.systems import SYSTEMS

SEEDS = 5
Progress = Callable[[float], None]


class ReproduceError(ValueError):
    """A reproduction that does not exist, or one that cannot be run as asked."""


@dataclass(frozen=True)
class Mechanism:
    """A check that holds if and only if the method is right: an identity, a planted truth, a negative control.

    `development` is the mean and standard deviation of ten development seeds, None for an exact check; a threshold
    within four standard deviations of that mean raises ValueError: such a check would some day fail by chance.
    """

    name: str
    value: float
    threshold: float
    sense: Literal["at most", "at least"] = "at most"
    development: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.development is None:
            return
        mean, sd = self.development
        room = self.threshold - mean if self.sense == "at most" else mean - self.threshold
        if not room >= 4 * sd:
            raise ValueError(
                f"the threshold of '{self.name}' ({self.sense} {self.threshold:g}) is not four standard deviations "
                f"from its development seeds ({mean:g}, sd {sd:g}); move it, or make the check sharper"
            )

    @property
    def holds(self) -> bool:
        return self.value <= self.threshold if self.sense == "at most" else self.value >= self.threshold


@dataclass(frozen=True)
class Comparison:
    """A claim of the paper's beside our figure: whatever comes out is printed, and no build fails by it.

    `samples` are independent repetitions; their mean is the figure. `claim` is the range in which the paper, in its
    words `paper`, has the mean: the verdict is open while the 95 % interval is neither inside it nor outside.
    """

    name: str
    samples: tuple[float, ...]
    paper: str
    claim: tuple[float, float]

    def __post_init__(self) -> None:
        if not self.samples:
            raise ValueError(f"'{self.name}' compares nothing with the paper; give it at least one sample")

    @property
    def ours(self) -> float:
        return statistics.fmean(self.samples)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % t interval of the mean; one sample alone bounds nothing."""
        n = len(self.samples)
        if n == 1:
            return -math.inf, math.inf
        from scipy.stats import t

        half = float(t.ppf(0.975, n - 1)) * statistics.stdev(self.samples) / math.sqrt(n)
        return self.ours - half, self.ours + half

    @property
    def verdict(self) -> Literal["holds", "fails", "undecided"]:
        (low, high), (least, most) = self.interval, self.claim
        if least <= low and high <= most:
            return "holds"
        return "fails" if high < least or most < low else "undecided"


@dataclass(frozen=True)
class Result:
    key: str
    seed: int
    seconds: float
    mechanism: tuple[Mechanism, ...]
    comparisons: tuple[Comparison, ...]
    said: str = ""

    @property
    def holds(self) -> bool:
        """What the exit code says: the mechanism checks alone, and there must be some."""
        return bool(self.mechanism) and all(m.holds for m in self.mechanism)

    def lines(self) -> Iterator[str]:
        yield from self.said.splitlines()
        for m in self.mechanism:
            check = f"{m.value:.4g}, {m.sense} {m.threshold:.4g}"
            seen = "exact" if m.development is None else "development seeds {:.4g}, sd {:.2g}".format(*m.development)
            yield f"mechanism   {'holds' if m.holds else 'FAILS':9}  {m.name}: {check} ({seen})"
        for c in self.comparisons:
            low, high = c.interval
            yield f"comparison  {c.verdict:9}  {c.name}: {c.ours:.4g} [{low:.4g}, {high:.4g}]; paper: {c.paper}"

    def to_json(self) -> dict[str, Any]:
        """JSON knows no NaN: a value that is not finite is null."""

        def number(x: float) -> float | None:
            return x if math.isfinite(x) else None

        return {
            "key": self.key,
            "seed": self.seed,
            "seconds": round(self.seconds, 2),
            "mechanism": [{"name": m.name, "value": number(m.value), "holds": m.holds} for m in self.mechanism],
            "comparisons": [
                {"name": c.name, "ours": number(c.ours), "paper": c.paper, "verdict": c.verdict}
                for c in self.comparisons
            ],
        }


class Reproduction(Protocol):
    """What a module of this folder offers."""

    DOMAINS: tuple[str, ...]

    def reproduce(
        self, domain: str, seed: int, full: bool, progress: Progress, out: Path
    ) -> tuple[Sequence[Mechanism], Sequence[Comparison]]: ...


def find(key: str) -> Reproduction:
    """The reproduction of a working system; any other key raises ReproduceError, which lists those that work."""
    states = {system.key: system.state for system in SYSTEMS}
    if states.get(key) != "working":
        working = ", ".join(k for k, state in states.items() if state == "working")
        what = f"'{key}' is planned, not built yet" if key in states else f"there is no system '{key}'"
        raise ReproduceError(f"{what}; those that work: {working} (`rapport methods` lists all)")
    return cast(Reproduction, importlib.import_module(f"rapport.reproduce.{key}"))


def run(key: str, domain: str | None, seed: int, full: bool, out: Path) -> Result:
    """Runs a reproduction in one domain (its smallest unless told) with one seed, or in full in all with five seeds."""
    reproduction = find(key)
    if domain is not None and domain not in reproduction.DOMAINS:
        raise ReproduceError(f"{key} does not run in '{domain}'; choose from: {', '.join(reproduction.DOMAINS)}")
    if seed < 0:
        raise ReproduceError(f"the seed is {seed}; give 0 or more")
    import torch

    torch.set_num_threads(1)  # small networks; and the same figures on every machine's number of cores
    return repeat(key, reproduction, domain, seed, full, out)


def repeat(key: str, reproduction: Reproduction, domain: str | None, seed: int, full: bool, out: Path) -> Result:
    """The runs of one reproduction, put together: comparisons of the same name are pooled over the seeds."""
    domains = (domain,) if domain is not None else reproduction.DOMAINS if full else reproduction.DOMAINS[:1]
    runs = [(d, s) for d in domains for s in range(seed, seed + (SEEDS if full else 1))]
    mechanism: list[Mechanism] = []
    comparisons: dict[str, Comparison] = {}
    start = time.perf_counter()
    # In a log a line now and then is enough; on a terminal the bar moves.
    pause = 0.2 if sys.stderr.isatty() else 10.0
    with tqdm(total=1.0, desc=key, bar_format="{l_bar}{bar}| {elapsed}", file=sys.stderr, mininterval=pause) as bar:
        for i, (d, s) in enumerate(runs):

            def progress(share: float, done: int = i) -> None:
                bar.update(max(0.0, (done + min(share, 1.0)) / len(runs) - bar.n))

            folder = out / f"{d}-{s}"
            folder.mkdir(parents=True, exist_ok=True)
            checks, beside = reproduction.reproduce(d, s, full, progress, folder)
            progress(1.0)
            mechanism += [replace(m, name=f"{m.name} [{d}, seed {s}]") if full else m for m in checks]
            for c in beside:
                name = f"{c.name} [{d}]" if full else c.name
                before = comparisons[name].samples if name in comparisons else ()
                comparisons[name] = replace(c, name=name, samples=before + c.samples)
    text = folder / "said.txt"
    said = text.read_text(encoding="utf-8") if text.exists() else ""
    return Result(key, seed, time.perf_counter() - start, tuple(mechanism), tuple(comparisons.values()), said)
