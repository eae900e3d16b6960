import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from rapport.cli import main
from rapport.reproduce import Comparison, Mechanism, Progress, ReproduceError, Result, find, repeat, run

numbers = st.floats(-1e6, 1e6)


class Circle:
    """A reproduction of pi from random points, in the plane and, slower, in space."""

    DOMAINS = ("plane", "space")
    shares = (0.5, 0.25, 2.0)  # going back or beyond the end does no harm

    def reproduce(
        self, domain: str, seed: int, full: bool, progress: Progress, out: Path
    ) -> tuple[list[Mechanism], list[Comparison]]:
        size = {"plane": 2, "space": 3}[domain]
        points = np.random.default_rng(seed).uniform(-1, 1, (4000, size))
        inside = float(np.mean((points**2).sum(axis=1) < 1))
        pi = inside * {2: 4.0, 3: 6.0}[size]
        for share in self.shares:
            progress(share)
        (out / "plot.txt").write_text(f"{pi}")
        checks = [
            Mechanism("distance from pi", abs(pi - math.pi), 0.2, development=(0.02, 0.02)),
            Mechanism("points", len(points), 4000, "at least"),
        ]
        return checks, [Comparison("pi", (pi,), "between 3 and 3.3", (3.0, 3.3))] if full or domain == "plane" else []


@given(mean=numbers, sd=st.floats(0, 1e3), threshold=numbers, sense=st.sampled_from(["at most", "at least"]))
def test_a_threshold_stands_four_standard_deviations_off(mean: float, sd: float, threshold: float, sense: str) -> None:
    def make() -> Mechanism:
        return Mechanism("x", mean, threshold, sense, development=(mean, sd))  # type: ignore[arg-type]

    distance = threshold - mean if sense == "at most" else mean - threshold
    if distance >= 4 * sd:
        assert make().holds  # what is typical holds
    else:
        with pytest.raises(ValueError, match=f"the threshold of 'x' .{sense} .* four standard deviations .* move it"):
            make()


def test_an_exact_check_holds_at_its_threshold_and_never_for_nan() -> None:
    assert Mechanism("x", 1e-9, 1e-9).holds
    assert not Mechanism("x", 1.1e-9, 1e-9).holds
    assert Mechanism("x", 1.0, 1.0, "at least").holds
    assert not Mechanism("x", 0.9, 1.0, "at least").holds
    assert not Mechanism("x", math.nan, 1.0).holds
    assert not Mechanism("x", math.nan, 1.0, "at least").holds


def test_the_interval_covers_the_mean_in_95_of_100() -> None:
    trials, size = 2000, 5
    samples = np.random.default_rng(0).normal(3.0, 2.0, (trials, size))
    covered = 0
    for row in samples:
        low, high = Comparison("x", tuple(row), "", (0, 0)).interval
        covered += low <= 3.0 <= high
    assert binom.ppf(1e-5, trials, 0.95) <= covered <= binom.ppf(1 - 1e-5, trials, 0.95)


@given(samples=st.lists(numbers, min_size=1, max_size=6), a=numbers, b=numbers)
def test_a_verdict_is_what_the_interval_allows(samples: list[float], a: float, b: float) -> None:
    claim = (min(a, b), max(a, b))
    comparison = Comparison("x", tuple(samples), "", claim)
    inside = claim[0] <= comparison.ours <= claim[1]
    if len(samples) == 1:
        assert comparison.verdict == "undecided"
    elif comparison.verdict != "undecided":
        assert inside == (comparison.verdict == "holds")


def test_a_comparison_needs_a_sample() -> None:
    with pytest.raises(ValueError, match="'x' compares nothing"):
        Comparison("x", (), "more than 1", (1, math.inf))


def test_one_run_takes_the_smallest_domain_and_one_seed(tmp_path: Path) -> None:
    result = repeat("circle", Circle(), None, 3, False, tmp_path)
    assert [m.name for m in result.mechanism] == ["distance from pi", "points"]
    assert [(c.name, c.verdict) for c in result.comparisons] == [("pi", "undecided")]
    assert [p.name for p in tmp_path.iterdir()] == ["plane-3"]
    assert float((tmp_path / "plane-3/plot.txt").read_text()) == result.comparisons[0].ours
    assert result.holds and result.seed == 3 and result.seconds > 0


def test_what_there_is_to_say_is_printed_once_and_before_the_figures(tmp_path: Path) -> None:
    class Talking(Circle):
        def reproduce(
            self, domain: str, seed: int, full: bool, progress: Progress, out: Path
        ) -> tuple[list[Mechanism], list[Comparison]]:
            (out / "said.txt").write_text("pi is\nno fraction\n")
            return super().reproduce(domain, seed, full, progress, out)

    lines = list(repeat("circle", Talking(), None, 3, True, tmp_path).lines())
    assert lines[:2] == ["pi is", "no fraction"] and lines[2].startswith("mechanism ") and "pi is" not in lines[2:]


def test_in_full_every_domain_has_five_seeds_and_comparisons_are_pooled(tmp_path: Path) -> None:
    result = repeat("circle", Circle(), None, 10, True, tmp_path)
    runs = [f"[{domain}, seed {seed}]" for domain in Circle.DOMAINS for seed in range(10, 15)]
    assert [m.name for m in result.mechanism[::2]] == [f"distance from pi {r}" for r in runs]
    assert [c.name for c in result.comparisons] == ["pi [plane]", "pi [space]"]
    pooled = [float((tmp_path / f"space-{seed}/plot.txt").read_text()) for seed in range(10, 15)]
    assert result.comparisons[1].samples == tuple(pooled)
    assert result.comparisons[0].verdict == "holds"
    one = repeat("circle", Circle(), "space", 10, True, tmp_path)
    assert one.mechanism == result.mechanism[10:] and one.comparisons == result.comparisons[1:]


def test_progress_goes_to_stderr_and_reaches_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    repeat("circle", Circle(), None, 0, True, tmp_path)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "circle: 100%" in captured.err


@pytest.mark.parametrize("value", [0.1, 0.3, math.nan])
def test_only_mechanism_checks_decide(value: float) -> None:
    wrong = Comparison("claim", (1.0, 1.0), "at least 2", (2, math.inf))
    result = Result("circle", 0, 1.5, (Mechanism("error", value, 0.2),), (wrong,))
    assert wrong.verdict == "fails"
    assert result.holds == (value == 0.1)


def test_nothing_checked_is_nothing_shown() -> None:
    assert not Result("circle", 0, 1.0, (), ()).holds


def test_the_two_kinds_of_line() -> None:
    checks = (Mechanism("error", 0.25, 0.2, development=(0.1, 0.02)), Mechanism("sum", 1.0, 1.0, "at least"))
    claim = Comparison("gain", (1.0, 3.0), "more than 5", (5, math.inf))
    assert list(Result("circle", 0, 1.0, checks, (claim,)).lines()) == [
        "mechanism   FAILS      error: 0.25, at most 0.2 (development seeds 0.1, sd 0.02)",
        "mechanism   holds      sum: 1, at least 1 (exact)",
        "comparison  undecided  gain: 2 [-10.71, 14.71]; paper: more than 5",
    ]


def test_json_has_exactly_these_keys() -> None:
    checks = (Mechanism("error", 0.1, 0.2), Mechanism("lost", math.nan, 0.2))
    claim = Comparison("gain", (6.0, 6.1), "more than 5", (5, math.inf))
    printed = json.dumps(Result("circle", 7, 1.234, checks, (claim,)).to_json(), allow_nan=False)
    assert json.loads(printed) == {
        "key": "circle",
        "seed": 7,
        "seconds": 1.23,
        "mechanism": [
            {"name": "error", "value": 0.1, "holds": True},
            {"name": "lost", "value": None, "holds": False},
        ],
        "comparisons": [{"name": "gain", "ours": 6.05, "paper": "more than 5", "verdict": "holds"}],
    }


def test_keys_that_do_not_work_are_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ReproduceError, match=r"no system 'circle'; those that work: .*\bprefrl\b.*`rapport methods`"):
        find("circle")
    with pytest.raises(ReproduceError, match=r"'basalt' is planned, not built yet; those that work: .*\bprefrl\b"):
        find("basalt")
    assert main(["reproduce", "basalt"]) == 2
    assert re.fullmatch(r"rapport: 'basalt' is planned.*\n", capsys.readouterr().err)


def test_what_cannot_be_run_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ReproduceError, match=r"prefrl does not run in 'moon'; choose from: point"):
        run("prefrl", "moon", 0, False, tmp_path / "out")
    with pytest.raises(ReproduceError, match="the seed is -1; give 0 or more"):
        run("prefrl", None, -1, False, tmp_path / "out")
    assert not (tmp_path / "out").exists()
