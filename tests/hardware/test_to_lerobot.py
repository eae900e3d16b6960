"""A data set that LeRobot itself reads: what it says is what the journals say, at the journals' own times.

The fast tests read the files with pyarrow; the slow one with LeRobot 0.4.4, in an environment of its own: the one whose
Python RAPPORT_LEROBOT_PYTHON names, or `.venv-lerobot`, made from benchmarks/lerobot.txt the first time (3 GB).
"""

import importlib.util
import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from hardware.camera import Frame
from hardware.frames import FrameLog, beside
from hardware.journal import SOURCES, Event, Journal, JournalError, Tick, recover
from hardware.to_lerobot import UNTOLD, export
from tests.hardware.test_to_episodes import MIXED
from tests.hardware.walked import PERIOD, RATE, header, ticks, write

ROOT = Path(__file__).parents[2]
BEGIN = 1_000_000_000


def picture(k: int) -> np.ndarray:
    """Its grey level says its number."""
    return np.full((48, 64, 3), 8 + 4 * (k % 60), np.uint8)


def film(journal: Path, n: int, every: int = 2 * PERIOD, late: int = 0) -> Path:
    log = FrameLog(beside(journal))
    for k in range(n):
        assert log.append("top", Frame(picture(k), k, BEGIN + late + k * every))
    assert log.close()
    return journal


def table(folder: Path, name: str) -> dict:
    return pq.read_table(folder / name).to_pydict()


ROWS, EPISODES = "data/chunk-000/file-000.parquet", "meta/episodes/chunk-000/file-000.parquet"


def test_stretches_are_episodes_and_rows_are_ticks(tmp_path):
    """At the loop's own rate every row is a tick; nothing that nobody led, and nothing across the stop."""
    path = write(tmp_path / "a.journal", MIXED)
    done = export([path], tmp_path / "set", fps=int(RATE))
    assert (done.episodes, done.rows, dict(done.left)) == (1, 35, {})
    rows, led = (
        table(tmp_path / "set", ROWS),
        [t for t in MIXED if isinstance(t, Tick) and t.source in ("policy", "human")],
    )
    assert np.array_equal(rows["action"], np.array([t.command for t in led], np.float32))
    assert np.array_equal(rows["observation.state"], np.array([t.position for t in led], np.float32))
    assert rows["journal_seq"] == [t.seq for t in led] and rows["intervention"] == [t.source == "human" for t in led]
    assert [SOURCES[k] for k in rows["source"]] == [t.source for t in led]
    offsets = {t.record.seq: t.offset for t in recover(path).ticks}
    assert rows["journal_offset"] == [offsets[t.seq] for t in led]
    assert np.allclose(rows["timestamp"], np.arange(35) / RATE) and not any(rows["tick_age"])
    info = json.loads((tmp_path / "set/meta/info.json").read_text())
    assert info["features"]["action"] == {
        "dtype": "float32",
        "shape": [3],
        "names": ["shoulder.pos", "elbow.pos", "wrist.pos"],
    }
    assert info["video_path"] is None and info["total_frames"] == 35 and info["codebase_version"] == "v3.0"
    (told,) = table(tmp_path / "set", EPISODES)["tasks"]
    assert told == [header().task]


def test_a_slow_loop_is_not_told_faster_than_it_was(tmp_path):
    """A loop meant for 50 Hz that made 20, written as 50 rows a second: two seconds of it are a hundred rows."""
    records = list(ticks([("policy", 41)]))
    done = export([write(tmp_path / "a.journal", records, period=50_000_000)], tmp_path / "set", fps=50)
    rows = table(tmp_path / "set", ROWS)
    assert done.rows == 101
    took, real = np.array(rows["journal_seq"]), np.arange(101) / 50
    assert np.array_equal(took, np.floor(real / 0.05 + 1e-9)) and np.allclose(rows["tick_age"], real - 0.05 * took)


def test_stops_and_pauses_end_an_episode(tmp_path):
    first, second = list(ticks([("policy", 10)])), [replace(t, seq=t.seq + 10) for t in ticks([("policy", 10)])]
    stopped = write(tmp_path / "a.journal", [*first, Event("stop"), *second])
    now, paused = BEGIN, Journal(tmp_path / "b.journal", header(task=""), BEGIN)
    for k, tick in enumerate([*first, *second]):
        now += PERIOD + (400_000_000 if k == 10 else 0)
        assert paused.append(tick, now)
    paused.close()
    done = export([stopped, paused.path], tmp_path / "set", fps=int(RATE))
    assert done.episodes == 4 and done.rows == 40
    told = table(tmp_path / "set", EPISODES)
    assert told["dataset_from_index"] == [0, 10, 20, 30] and told["length"] == [10] * 4
    assert told["tasks"] == [[header().task]] * 2 + [[UNTOLD]] * 2
    tasks = pq.read_table(tmp_path / "set/meta/tasks.parquet").to_pandas()
    assert tasks.index.tolist() == sorted([header().task, UNTOLD]) and tasks.task_index.tolist() == [0, 1]


def test_pictures_are_the_latest_and_never_of_the_future(tmp_path):
    path = film(write(tmp_path / "a.journal", list(ticks([("policy", 50)]))), 30, late=3 * PERIOD // 2)
    done = export([path], tmp_path / "set", fps=25)
    rows = table(tmp_path / "set", ROWS)
    with av.open(str(tmp_path / "set/videos/observation.images.top/chunk-000/file-000.mp4")) as file:
        shown = [f.to_ndarray(format="rgb24").mean() for f in file.decode(video=0)]
    assert len(shown) == done.rows == len(rows["index"])
    begin = BEGIN + 3 * PERIOD // 2  # no row before the camera had shown something
    at = begin + np.arange(done.rows) * 40_000_000
    assert np.allclose(rows["tick_age"][:3], 0.01)
    expected = [picture(int((t - begin) // (2 * PERIOD))).mean() for t in at]
    assert np.abs(np.array(shown) - expected).max() < 2.5
    stats = json.loads((tmp_path / "set/meta/stats.json").read_text())["observation.images.top"]
    assert np.shape(stats["mean"]) == (3, 1, 1) and 0 <= stats["min"][0][0][0] < stats["max"][0][0][0] <= 1


def test_a_hole_in_the_film_is_told(tmp_path):
    """The camera shows something every other tick for ten, and then nothing for a third of a second."""
    journal = write(tmp_path / "a.journal", list(ticks([("policy", 30)])))
    export([film(journal, 5)], tmp_path / "set", fps=int(RATE))
    ages = np.array(table(tmp_path / "set", ROWS)["picture_age.top"])
    after = np.arange(len(ages)) + 1  # ticks since the first picture
    assert np.allclose(ages, np.where(after < 8, after % 2, after - 8) / RATE, atol=1e-6)
    assert json.loads((tmp_path / "set/meta/info.json").read_text())["features"]["picture_age.top"]["shape"] == [1]


def test_twice_changes_nothing_and_another_is_not_written_over(tmp_path):
    path = film(write(tmp_path / "a.journal", MIXED), 40)
    export([path], tmp_path / "set", fps=25)
    files = {p: (p.stat().st_ino, p.read_bytes()) for p in (tmp_path / "set").rglob("*") if p.is_file()}
    export([path], tmp_path / "set", fps=25)
    assert {p: (p.stat().st_ino, p.read_bytes()) for p in (tmp_path / "set").rglob("*") if p.is_file()} == files
    with pytest.raises(JournalError, match="something else"):
        export([path], tmp_path / "set", fps=50)
    export([path], tmp_path / "set", fps=50, replace=True)
    assert json.loads((tmp_path / "set/meta/info.json").read_text())["fps"] == 50
    (tmp_path / "mine").mkdir()
    with pytest.raises(JournalError, match="something else"):
        export([path], tmp_path / "mine", fps=50, replace=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.frames", "a.journal", "mine", "set"]


def test_what_cannot_be_together_is_refused(tmp_path):
    a = write(tmp_path / "a.journal", MIXED)
    other = write(tmp_path / "b.journal", list(ticks([("policy", 9)])), joints=("x", "y", "z"))
    filmed = film(write(tmp_path / "c.journal", MIXED), 40)
    none = write(tmp_path / "d.journal", list(ticks([("homing", 9)])))
    junk = tmp_path / "e.journal"
    junk.write_bytes(b"junk")
    for paths, said in (
        ([a, other], "has joints x, y, z"),
        ([a, filmed], "different cameras"),
        ([none], "no stretch"),
        ([junk], "is no rapport journal"),
        ([], "at least one"),
    ):
        with pytest.raises(JournalError, match=said):
            export(paths, tmp_path / "set", fps=25)
    with pytest.raises(JournalError, match="whole number"):
        export([a], tmp_path / "set", fps=29.97)  # type: ignore[arg-type]
    assert not (tmp_path / "set").exists()
    assert set(export([a, none, junk], tmp_path / "set", fps=25).left) == {"d.journal", "e.journal"}
    log = FrameLog(beside(a))
    log.append("top", Frame(picture(0), 0, BEGIN))
    log.append("top", Frame(picture(0)[:40], 1, BEGIN + 10 * PERIOD))
    log.close()
    with pytest.raises(JournalError, match="64 x 40 pixels"):
        export([a], tmp_path / "other", fps=25)


READ = """
import json, sys
import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset
data = LeRobotDataset("rapport/here", root=sys.argv[1], video_backend="pyav",
                      delta_timestamps={"action": [0.0, 0.04, 0.08]})
items = [data[k] for k in range(len(data))]
print(json.dumps({
    "episodes": data.num_episodes, "rows": len(data), "fps": data.fps, "cameras": data.meta.camera_keys,
    "tasks": [i["task"] for i in items], "time": [i["timestamp"].item() for i in items],
    "episode": [i["episode_index"].item() for i in items],
    "state": [i["observation.state"].tolist() for i in items], "action": [i["action"][0].tolist() for i in items],
    "next": [i["action"][1].tolist() for i in items], "padded": [i["action_is_pad"][1].item() for i in items],
    "human": [bool(i["intervention"]) for i in items],
    "grey": [i["observation.images.top"].mean().item() for i in items],
    "shape": list(items[0]["observation.images.top"].shape),
    "mean": data.meta.stats["action"]["mean"].tolist(),
}))
"""


def lerobot() -> Path:
    if named := os.environ.get("RAPPORT_LEROBOT_PYTHON"):
        return Path(named)
    spec = importlib.util.spec_from_file_location("peer_env", ROOT / "benchmarks/peer_env.py")
    assert spec and spec.loader
    peer_env = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(peer_env)
    return peer_env.interpreter(ROOT / ".venv-lerobot", pins=ROOT / "benchmarks/lerobot.txt")


@pytest.mark.slow
@pytest.mark.peer
@pytest.mark.timeout(1800)  # the first time pip has much to fetch
def test_lerobot_reads_it(tmp_path):
    paths = [film(write(tmp_path / f"{k}.journal", MIXED, task=f"task {k}"), 40) for k in range(2)]
    done = export(paths, tmp_path / "set", fps=25)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ran = subprocess.run(
        [lerobot(), "-c", READ, tmp_path / "set"],
        env=environment | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    theirs, rows = json.loads(ran.stdout.splitlines()[-1]), table(tmp_path / "set", ROWS)
    assert (theirs["episodes"], theirs["rows"], theirs["fps"]) == (2, done.rows, 25)
    assert theirs["cameras"] == ["observation.images.top"] and theirs["shape"] == [3, 48, 64]
    assert (
        theirs["tasks"] == [f"task {k}" for k in rows["episode_index"]] and theirs["episode"] == rows["episode_index"]
    )
    assert theirs["state"] == rows["observation.state"] and theirs["action"] == rows["action"]
    assert theirs["time"] == rows["timestamp"] and theirs["human"] == rows["intervention"]
    last = [
        k + 1 == len(rows["index"]) or rows["episode_index"][k + 1] != rows["episode_index"][k] for k in rows["index"]
    ]
    assert theirs["padded"] == last
    assert [n for n, p in zip(theirs["next"], last, strict=True) if not p] == [
        a for k, a in enumerate(rows["action"]) if k and not last[k - 1]
    ]
    assert np.allclose(theirs["mean"], np.mean(rows["action"], 0), atol=1e-6)
    at = [BEGIN + 4 * PERIOD + 40_000_000 * k for k in rows["frame_index"]]  # three ticks of homing came before
    expected = [picture((t - BEGIN) // (2 * PERIOD)).mean() / 255 for t in at]
    assert np.abs(np.array(theirs["grey"]) - expected).max() < 0.012
