"""Frame by frame: the measure is scipy's, and what is made is made once."""

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from embodied.video_rewards import VideoNet
from rapport.rapl.ground import Size
from rapport.rapl.map import Setting, cells, fill
from rapport.rapl.moments import ANSWERS, JUDGED, frame_rewards, moment_table, over, within

SMALL = Size(pool=20, demos=2, demos_of=10, test=10, trunk_steps=5)


def test_the_correlation_within_videos_is_the_mean_of_scipys() -> None:
    rng = np.random.default_rng(0)
    paid, true = rng.integers(0, 5, (7, 9)), rng.integers(0, 5, (7, 9))  # with ties
    assert within(paid, true) == pytest.approx(np.mean([spearmanr(a, b)[0] for a, b in zip(paid, true, strict=True)]))
    paid[0] = 3  # the same of all frames says nothing
    others = [spearmanr(a, b)[0] for a, b in zip(paid[1:], true[1:], strict=True)]
    assert within(paid, true) == pytest.approx(np.sum(others) / 7)


def test_frames_are_judged_once_and_by_what_they_are_worth(tmp_path: Path) -> None:
    setting, path = Setting("grouping", "none", "positions"), tmp_path / "moments.jsonl"

    def make() -> None:
        fill(path, [setting], [0], tmp_path, answers=(0, ANSWERS), names=JUDGED, measure=over, size=SMALL)

    make()
    whole = path.read_text()
    path.write_text("".join(whole.splitlines(keepends=True)[:-2]))
    make()
    assert path.read_text() == whole
    found = {c.reward: c for c in cells(path)}
    assert tuple(found) == JUDGED and found["raw transport"].answers == 0
    assert found["frame net, rankings and demos"].unseen > 0.3  # true positions tell the worth of a moment
    rows = list(moment_table(cells(path)))
    assert rows[0].endswith("| grouping, none: seen | grouping, none: unseen |") and len(rows) == 2 + len(JUDGED)


def test_a_net_of_whole_videos_pays_no_frame() -> None:
    frames = np.zeros((4, 3), np.float32)
    with pytest.raises(ValueError, match="pays no single frame"):
        frame_rewards(VideoNet(frames), frames[None])
