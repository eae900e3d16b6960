"""The reproduction of RAPL on a seed that nothing was tuned on, and the planted world beside its negative control."""

from pathlib import Path

import numpy as np
import pytest

from rapport.rapl.planted import correlations
from rapport.reproduce import rapl, run


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("domain", ["pixels", "arm"])
def test_it_holds_on_a_seed_that_nothing_was_tuned_on(
    domain: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rapl, "CACHE", tmp_path / "cache")  # so that it films and learns to see
    result = run("rapl", domain, 21, False, tmp_path)
    assert result.holds, "\n".join(result.lines())
    assert (tmp_path / f"{domain}-21" / "plans.png").stat().st_size > 5000


@pytest.mark.slow
def test_the_planted_world_tells_right_rankings_from_shuffled_ones() -> None:
    worlds = [correlations(seed, 20) for seed in (0, 1)]
    mean = {name: float(np.mean([w[name][0] for w in worlds])) for name in worlds[0]}
    assert mean["RAPL"] > mean["raw transport"] + 0.1 and mean["RAPL"] > mean["RAPL, shuffled ranks"] + 0.1
